"""The public function `explain_stack`: what an element of a layer sees of the layers below and of the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...base.values import shown
from ...functional.shapes import Layer, ReceptiveField, output_shape, receptive_field, stack
from ...specs.arguments import Sizes, per_axis
from ...specs.axes import by
from ...typing import PerAxis
from ..comparison import aligned
from .calculation import MOST_CELLS
from .numerals import typeset
from .page import Shown, page

#: Rows and columns of the last layer's output that an input of no given size is chosen for, where there is no padding.
OUTPUTS = 3


@dataclass(frozen=True)
class StackExplanation(Shown):
    """The result of `explain_stack`. A notebook shows it as its page; it prints as a table of the layers."""

    layers: tuple[Layer, ...]
    """The layers from the input on."""
    sizes: tuple[Sizes, ...]
    """Rows and columns of the input and of each layer's output."""
    fields: tuple[ReceptiveField, ...]
    """The part of the input that an element of each layer's output sees."""
    title: str
    """The page's title."""

    def seen(self, layer: int, index: Sizes, below: int = 0) -> tuple[list[int], list[int]]:
        """Rows and columns that an element of a layer's output sees of what is below: 0 is the input, 1 the first
        layer's output. Padding has none."""
        for name, number, most in (("layer", layer, len(self.layers)), ("below", below, layer - 1)):
            if not 0 <= number <= most:
                raise ValueError(f"{name} must be from 0 to {most}, got {shown(number)}")
        (row, column), size = per_axis("index", index, 0, 2), self.sizes[layer]
        if row >= size[0] or column >= size[1]:
            raise ValueError(f"index must be below {size}, got {shown(index)}")
        return self._seen(layer, below, 0)[row], self._seen(layer, below, 1)[column]

    def _seen(self, layer: int, below: int, axis: int) -> list[list[int]]:
        """For each row (axis 0) or column (1) of a layer's output those that it sees of what is below."""
        seen = [[number] for number in range(self.sizes[layer][axis])]
        for level in range(layer - 1, below - 1, -1):
            steps = _steps(self.layers[level], self.sizes[level][axis], self.sizes[level + 1][axis], axis)
            seen = [sorted({one for number in numbers for one in steps[number]}) for numbers in seen]
        return seen

    def to_html(self) -> str:
        """The page: one HTML document, which loads nothing."""
        return page(self.title, self._picture(), str(self), "stack.js")

    def __str__(self) -> str:
        lines = [("", "size", "sees", "step"), ("input", by(self.sizes[0]), "", "")]
        for text, size, field in zip(map(_words, self.layers), self.sizes[1:], self.fields, strict=True):
            lines.append((text, by(size), by(field.size), by(field.stride)))
        table = aligned([(f"{number}: {name}" if number > 0 else name, *rest)
                         for number, (name, *rest) in enumerate(lines, -1)])  # fmt: skip
        return "\n".join(map(str.rstrip, table.splitlines()))

    def _picture(self) -> dict[str, Any]:
        """All that the page `stack.js` shows, in types that `json.dumps` takes."""
        levels = range(len(self.sizes))
        return {
            "title": self.title,
            "levels": [{"name": typeset(name), "rows": rows, "columns": columns}
                       for name, (rows, columns) in zip(["Input", *map(_words, self.layers)], self.sizes, strict=True)],
            "headlines": [typeset(f"An output sees {by(field.size)} elements of the input; its neighbours see as many, "
                                  f"{field.stride[0]} rows down or {field.stride[1]} columns across.")
                          for field in self.fields],
            "seen": [[[self._seen(layer, below, axis) for axis in (0, 1)] for below in range(layer)]
                     for layer in levels],
            "words": [[self._ranges(layer, axis) for axis in (0, 1)] for layer in levels[1:]],
        }  # fmt: skip

    def _ranges(self, layer: int, axis: int) -> list[str]:
        """For each row or column of a layer's output in words what it sees of the input."""
        field, name, words = self.fields[layer - 1], ("row", "column")[axis], []
        for number in range(self.sizes[layer][axis]):
            first = field.start[axis] + number * field.stride[axis]
            last = first + field.size[axis] - 1
            text = f"{name} {first}" if first == last else f"{name}s {first} to {last}"
            over = max(0, -first) + max(0, last + 1 - self.sizes[0][axis])
            words.append(typeset(text + f" ({over} of them padding)" * (over > 0)))
        return words


def explain_stack(
    layers: Sequence[Any], input_shape: PerAxis | None = None, *, title: str = "Receptive field"
) -> StackExplanation:
    """What each output of a stack of convolution and pooling layers sees: its receptive field, as a page.

    Parameters
    ----------
    layers : sequence
        The layers from the input on, as in `receptive_field`.
    input_shape : int or (int, int), optional
        Rows and columns of the input; by default so many that the last layer has 3x3 outputs, more if there is padding.
        All grids together may have 10,000 elements.
    title : str
        The page's title.

    Returns
    -------
    StackExplanation
        It shows itself in a notebook; ``save(path)`` writes the page as one HTML file that loads nothing;
        ``seen(layer, index)`` are the rows and columns of the input that an output sees.

    Raises
    ------
    ValueError, TypeError
        If a layer is malformed, does not fit the input, or there is too much to look at.

    Notes
    -----
    Source: Araujo, Norris and Sim, Computing receptive fields of convolutional neural networks, Distill 2019.

    Examples
    --------
    >>> import fastconv
    >>> example = fastconv.explain_stack([2, 2])
    >>> print(example)
                   size  sees  step
    input           5x5
    1: kernel 2x2   4x4   2x2   1x1
    2: kernel 2x2   3x3   3x3   1x1
    >>> example.seen(2, (0, 1))
    ([0, 1, 2], [1, 2, 3])
    """
    if not isinstance(title, str):
        raise TypeError(f"title must be a string, got {shown(title)}")
    field = receptive_field(layers)
    known = tuple(stack(layers, 2))
    if not known:
        raise ValueError(f"layers must have at least one layer, got {shown(layers)}")
    if input_shape is None:
        size: Sizes = tuple(view + (OUTPUTS - 1) * step for view, step in zip(field.size, field.stride, strict=True))
    else:
        size = per_axis("input_shape", input_shape, 1, 2)
    sizes = [size]
    for layer in known:
        try:
            sizes.append(output_shape(sizes[-1], layer.kernel, layer.stride, layer.padding, layer.dilation))
        except ValueError as error:
            raise ValueError(f"layers must fit the input_shape {shown(size)}: {error}") from None
    cells = sum(rows * columns for rows, columns in sizes)
    if cells > MOST_CELLS:
        raise ValueError(f"the input and the outputs of all layers have {cells:,} elements, and explain_stack shows at "
                         f"most {MOST_CELLS:,}: choose a smaller input_shape, got {shown(size)}")
    fields = tuple(receptive_field(layers[:count]) for count in range(1, len(known) + 1))
    return StackExplanation(known, tuple(sizes), fields, title)


def _steps(layer: Layer, size: int, outputs: int, axis: int) -> list[list[int]]:
    """For each output of a layer along an axis the elements of its input that the taps of its window lie on."""
    taps = range(layer.kernel[axis])
    starts = (number * layer.stride[axis] - layer.padding[axis][0] for number in range(outputs))
    seen = ([start + tap * layer.dilation[axis] for tap in taps] for start in starts)
    return [[one for one in numbers if 0 <= one < size] for numbers in seen]


def _words(layer: Layer) -> str:
    """A layer in words."""
    stride, dilation, padding = by(layer.stride), by(layer.dilation), layer.padding
    both = by(tuple(before for before, _ in padding)) if all(a == b for a, b in padding) else str(padding)
    parts = [f"kernel {by(layer.kernel)}"]
    parts += [f"stride {stride}"] * (stride != "1x1") + [f"padding {both}"] * (both != "0x0")
    return ", ".join(parts + [f"dilation {dilation}"] * (dilation != "1x1"))
