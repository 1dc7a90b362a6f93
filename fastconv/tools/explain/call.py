"""The public function `explain`: one call, checked by the operation's own function, computed by it, and shown."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ...base.values import shown
from ...functional import avg_pool, conv, conv_transpose, max_pool, min_pool
from ...functional.device import Recorder, refuse
from ...specs.arguments import flag
from ...specs.arrays import array
from ...specs.conv import filter_spec
from ...typing import Padding, PaddingMode, PerAxis
from .calculation import Calculation, Spec, check_size, kernels_of
from .explanation import Explanation

Operation = Literal["corr2d", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "max_pool1d", "max_pool2d",
                    "min_pool1d", "min_pool2d", "avg_pool1d", "avg_pool2d"]  # fmt: skip
#: The function of each operation that can be explained.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    label: getattr(module, label)
    for module in (conv, conv_transpose, max_pool, min_pool, avg_pool)
    for label in module.__all__
    if "2d" in label or "1d" in label
    if "unpool" not in label
}
#: Rows or columns of an input from which on its cells are shaded, because their numbers would be too small to read.
MANY = 13


def explain(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    op: Operation = "conv2d",
    kernel_size: PerAxis | None = None,
    stride: PerAxis | None = None,
    padding: Padding | None = None,
    dilation: PerAxis | None = None,
    groups: int | None = None,
    padding_mode: PaddingMode | None = None,
    output_padding: PerAxis | None = None,
    ceil_mode: bool | None = None,
    count_include_pad: bool | None = None,
    title: str | None = None,
    shades: bool | None = None,
) -> Explanation:
    """One convolution or pooling as a page: the window moves over the input, and each sum is written out.

    Parameters
    ----------
    x : array_like, shape (C, H, W), (H, W) or (1, C, H, W); for an operation of signals (C, W), (W,) or (1, C, W)
        The input. It and the output may have 10,000 elements together, padding counted, and the sums 65,536 terms.
    weight : array_like, optional
        The kernels of a convolution, as its function takes them; or one kernel, without the axes of channels, or (but
        for transposed convolutions) with that of the input alone.
    bias : array_like, optional
        As the operation's function takes it.
    op : str
        The operation: "corr2d", "conv2d", "conv_transpose2d", "max_pool2d", "min_pool2d" or "avg_pool2d", or one of
        these, but for "corr2d", with 1d instead.
    kernel_size : int or (int, int), optional
        The window of a pooling.
    stride, padding, dilation, groups, padding_mode, output_padding, ceil_mode, count_include_pad : optional
        As the operation's function takes them, with its defaults.
    title : str, optional
        The page's title; the operation's name by default.
    shades : bool, optional
        Whether cells are drawn in shades of grey, as pixels; by default if the input has 13 rows or columns.

    Returns
    -------
    Explanation
        It shows itself in a notebook. ``save(path)`` writes the page as one HTML file that loads nothing;
        ``text(index)`` is the sum of one output, ``products(index)`` are its terms, and ``output`` is the operation's
        result, which has no axis of channels if neither `x` nor `weight` has one.

    Raises
    ------
    ValueError, TypeError
        As the operation's function; also if the input is too large to look at, is on a GPU, or holds several images,
        and if the operation does not take an argument.

    Notes
    -----
    The numbers of the output are the operation's results; the page adds nothing up by itself. A product is made in the
    dtype that the kernels add up in. Numbers that are not whole are written with four digits.

    Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> example = fastconv.explain(np.arange(9).reshape(3, 3), [[0, 1], [2, 3]])
    >>> print(example)
    conv2d: input 3x3, kernel 2x2, output 2x2
    output[0, 0] = 0*0 + 1*1 + 3*2 + 4*3 = 19
    >>> example.text((1, 0))
    '3*0 + 4*1 + 6*2 + 7*3 = 37'
    >>> example.products((1, 0))
    array([[ 0,  4, 12, 21]])
    >>> print(fastconv.explain(np.arange(9).reshape(3, 3), op="max_pool2d", kernel_size=2, stride=1))
    max_pool2d: input 3x3, window 2x2, output 2x2, stride 1
    output[0, 0] = max(0, 1, 3, 4) = 4
    """
    if not isinstance(op, str) or op not in FUNCTIONS:
        raise ValueError(f"op must be one of {', '.join(map(repr, FUNCTIONS))}, got {shown(op)}")
    if title is not None and not isinstance(title, str):
        raise TypeError(f"title must be a string, got {shown(title)}")
    if shades is not None:
        shades = flag("shades", shades)
    given = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "padding_mode": padding_mode,
             "output_padding": output_padding, "ceil_mode": ceil_mode,
             "count_include_pad": count_include_pad}  # fmt: skip
    options = {label: value for label, value in given.items() if value is not None}
    pools, axes = "pool" in op, int(op[-2])
    needed, others = ("kernel_size", ("weight", "bias")) if pools else ("weight", ("kernel_size",))
    operands: dict[str, Any] = {"weight": weight, "bias": bias, "kernel_size": kernel_size}
    taken = inspect.signature(FUNCTIONS[op]).parameters
    told = options | {label: operands[label] for label in others if operands[label] is not None}
    for label, value in told.items():
        if label in others or label not in taken:
            raise TypeError(f"{op} takes no {label}, got {shown(value)}")
    if operands[needed] is None:
        raise TypeError(f"{op} needs a {needed}")
    refuse("explain", x, "x")
    image = _filled("x", x)
    called = image if op == "corr2d" else _one_image(image, axes)
    plain = image.ndim == axes
    if not pools:
        kernel = _filled("weight", operands["weight"])
        plain = plain and kernel.ndim == axes
        operands["weight"] = kernel if op == "corr2d" else _with_channels(op, kernel, axes)
        operands["bias"] = (0 if bias is None else array("bias", bias)[()]) if op == "corr2d" else bias
    used = [operands[label] for label in (("kernel_size",) if pools else ("weight", "bias"))]
    spec, (seen, *others_seen) = _checked(op, called, used, options)
    output = FUNCTIONS[op](called, *used, **options)
    calculation = Calculation(
        spec,
        _planes(seen, axes),
        None if pools else kernels_of(spec, others_seen[0]),
        None if bias is None else np.reshape(others_seen[1], -1),
        _planes(output, axes),
    )
    shaded = max(image.shape[-axes:]) >= MANY if shades is None else shades
    shown_output = output[0] if plain and op != "corr2d" else output
    return Explanation(op, shown_output, op if title is None else title, calculation, shaded)


def _filled(label: str, given: ArrayLike) -> np.ndarray:
    """An array that has elements."""
    found = array(label, given)
    if found.size == 0:
        raise ValueError(f"{label} must have no empty axis, got shape {found.shape}")
    return found


def _one_image(x: np.ndarray, axes: int) -> np.ndarray:
    """The input with an axis of channels and none of images; the operation refuses what has other axes."""
    if x.ndim == axes:
        return x[None]
    if x.ndim == axes + 2:
        if len(x) != 1:
            raise ValueError(f"x must hold one image, got {len(x)} in shape {x.shape}: choose one of them, like x[0]")
        return x.reshape(x.shape[1:])
    return x


def _with_channels(op: str, weight: np.ndarray, axes: int) -> np.ndarray:
    """The weight with both axes of channels, where it has none or only that of the input."""
    if weight.ndim == axes or (weight.ndim == axes + 1 and "transpose" not in op):
        whole: np.ndarray = weight.reshape((1,) * (axes + 2 - weight.ndim) + weight.shape)
        return whole
    return weight


def _checked(op: str, x: np.ndarray, operands: list[Any], options: dict[str, Any]) -> tuple[Spec, tuple[Any, ...]]:
    """The spec of a call and the operands as its algorithm gets them, before anything is computed."""
    if op == "corr2d":
        kernel, bias = operands
        padding, mode = options.get("padding", 0), options.get("padding_mode", "zeros")
        spec: Spec = filter_spec((1, 1, *x.shape), (1, 1, *kernel.shape), (x.dtype, kernel.dtype), padding, mode)
        seen: tuple[Any, ...] = x, kernel[None, None], bias
    else:
        _, spec, seen = FUNCTIONS[op](x, *operands, **options, device=Recorder())
    check_size(spec)
    return spec, seen


def _planes(image: np.ndarray, axes: int) -> np.ndarray:
    """An image or a signal, with channels or without, as (channels, rows, columns)."""
    if axes == 1:
        return image[:, None]
    return image if image.ndim == 3 else image[None]
