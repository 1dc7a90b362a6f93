"""An explanation of one call: its numbers, its sums written out, and its page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...base.values import shown
from ...functional.unfold import unfold2d
from ...specs.arguments import integer, shape
from .calculation import Calculation
from .numerals import added, factor, numeral, numerals
from .page import Shown, page
from .picture import headline, picture


@dataclass(frozen=True, eq=False)
class Explanation(Shown):
    """The result of `explain`. A notebook shows it as its page; it prints as its first sum.

    An `index` is that of an element of `output`: a number for each of its axes.
    """

    op: str
    """The operation's name."""
    output: np.ndarray
    """The result of the operation's function."""
    title: str
    """The page's title."""
    calculation: Calculation
    """The operands and the windows, with all axes."""
    shades: bool
    """Whether cells are drawn in shades of grey."""

    def products(self, index: Any) -> np.ndarray:
        """The terms of an output, a row for each channel of the input that it sees; of a pooling the window.

        Terms are in the order of the kernel's elements, row by row. A zero of the padding has a term in a sum, but none
        in a maximum or a minimum.
        """
        return self.calculation.terms(*self._place(index))

    def text(self, index: Any) -> str:
        """The calculation of an output written out, as ``0*0 + 1*1 + 3*2 + 4*3 = 19``."""
        channel, place = self._place(index)
        calculation, terms = self.calculation, self.calculation.terms(channel, place)
        made, kind = numeral(calculation.output[channel].reshape(-1)[place].item()), calculation.kind
        if kind in ("max", "min"):
            return f"{kind}({', '.join(numerals(terms))}) = {made}"
        if kind == "avg":
            return f"({added(numerals(terms))}) / {calculation.divisor(place)} = {made}"
        bias = [] if calculation.bias is None else [numeral(calculation.bias[channel].item())]
        if not terms.size:
            return f"{added(bias) or 'no element reaches it'} = {made}"
        first, cells = calculation.first_channel(channel), calculation.windows.cells[place]
        values, kernels = calculation.grid[first : first + len(terms), cells], calculation.kernels
        assert kernels is not None  # as there is one of every sum
        weights = kernels[channel][:, calculation.windows.taps[place]]
        sums = [" + ".join(f"{factor(a)}*{factor(b)}" for a, b in zip(numerals(x), numerals(w), strict=True))
                for x, w in zip(values, weights, strict=True)]  # fmt: skip
        if len(sums) == 1:
            return f"{' + '.join([*sums, *map(factor, bias)])} = {made}"
        parts = added(numerals(terms.sum(1)) + bias)
        return f"{' + '.join([f'({one})' for one in sums] + [*map(factor, bias)])} = {parts} = {made}"

    def columns(self) -> np.ndarray:
        """The windows as columns ("im2col"), shape (C * KH * KW, OH * OW), as `unfold2d` makes them; convolutions only.

        The kernels as rows times these columns are the output.
        """
        spec = self._conv("columns")
        grid = self.calculation.grid.reshape(len(self.calculation.x), *self.calculation.windows.source.shape)
        made: np.ndarray = unfold2d(grid, (spec.kh, spec.kw), stride=spec.stride, dilation=spec.dilation)
        return made

    def matrix(self, channel: int = 0) -> np.ndarray:
        """The matrix whose product with the input, as one column, is an output channel without its bias.

        It has a row for each output and a column for each element of the channels that the output sees; nearly all of
        it is zero. Not for poolings.
        """
        if self.calculation.kernels is None:
            raise TypeError(f"{self.op} is no matrix of weights")
        return self.calculation.matrix(_below("channel", channel, len(self.calculation.output)))

    def to_html(self) -> str:
        """The page: one HTML document, which loads nothing."""
        first = self.text((0,) * self.output.ndim)
        return page(self.title, picture(self.calculation, self.title, self.op, self.shades, self.output.ndim), first)

    def __str__(self) -> str:
        first = (0,) * self.output.ndim
        name = f"output[{', '.join(map(str, first))}]"
        return f"{self.op}: {headline(self.calculation)}\n{name} = {self.text(first)}"

    def __repr__(self) -> str:
        return f"<Explanation of {self.op}: {headline(self.calculation)}>"

    def _conv(self, what: str) -> Any:
        if self.calculation.kind != "conv":
            raise TypeError(f"{what} are of a convolution, not of {self.op}")
        return self.calculation.geometry

    def _place(self, index: Any) -> tuple[int, int]:
        """Channel and place of an output."""
        given = (index,) if isinstance(index, int | np.integer) else shape("index", index)
        if len(given) != self.output.ndim:
            raise ValueError(f"index must have {self.output.ndim} numbers for an output of shape {self.output.shape}, "
                             f"got {shown(index)}")
        for axis, (number, size) in enumerate(zip(given, self.output.shape, strict=True)):
            _below(f"index[{axis}]", number, size)
        flat = int(np.ravel_multi_index(given, self.output.shape))
        return divmod(flat, len(self.calculation.windows.cells))


def _below(name: str, value: Any, size: int) -> int:
    number = integer(name, value, 0)
    if number >= size:
        raise ValueError(f"{name} must be below {size}, got {number}")
    return number
