"""Operations on arrays whose channels are last, by those on arrays whose channels are first.

Signals and images are pooled as arrays with one spatial axis more, along which windows are one channel deep: the axes
(H, W, C) are those of a volume. No element is moved: kernels pool along rows and columns, and the channels are their
vectors. Everything else (`around`) is reordered before and after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..base.libraries import foreign
from ..base.values import shown
from ..specs.arguments import frozen_padding, per_axis
from ..specs.arrays import array, check_out
from ..specs.axes import FORMATS, LAYOUTS
from .device import Recorder, reorder


def in_library(x: Any, device: Any, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """What a function makes of its arguments if its input is an array of another library, as one of that; else None."""
    given = None if isinstance(device, Recorder) else foreign(x)
    return None if given is None else given.call(function, **arguments)


def _checked(name: str, x: Any, axes: int) -> Any:
    """An array of so many spatial axes, then channels."""
    x = x if hasattr(x, "shape") else array(name, x)
    if len(x.shape) not in (axes + 1, axes + 2):
        layout = LAYOUTS[axes].replace("C, ", "").replace(")", ", C)")
        raise ValueError(f"{name} must have shape {layout} or {layout.replace('N, ', '')}, got {shown(tuple(x.shape))}")
    return x


# -- poolings of signals and images --------------------------------------------------------------------------


def pooled(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """What a pooling makes of its arguments, by their names, with channels last: by a call with channels first, along
    one axis more if there are fewer than three."""
    axes, x, device, out = (arguments[name] for name in ("axes", "x", "device", "out"))
    if (answer := in_library(x, device, function, arguments)) is not None:
        return answer
    if axes == 3:
        told = {**arguments, "x": as_first("x", x, 3), "out": None, "data_format": FORMATS[3][0]}
        return around(3, lambda device: function(**{**told, "device": device}), device, out, (x,))
    made = function(**{**arguments, **_along_one_more(arguments)})
    if isinstance(device, Recorder):
        return made
    values, places = made if isinstance(made, tuple) else (made, None)
    values = values[_one(axes, 0)] if out is None else out
    # Places among elements become places among pixels.
    return values if places is None else (values, places[_one(axes, 0)] // values.shape[-1])


def _along_one_more(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that change where channels become one more axis, of which a window has one element."""
    axes, stride, padding, out = (arguments[name] for name in ("axes", "stride", "padding", "out"))
    x = _checked("x", arguments["x"], axes)
    if isinstance(out, np.ndarray) and out.ndim > axes:
        out = out[_one(axes)]
    return {
        "axes": axes + 1,
        "x": x[_one(axes)],
        "kernel_size": (*per_axis("kernel_size", arguments["kernel_size"], 1, axes), 1),
        "stride": None if stride is None else (*per_axis("stride", stride, 1, axes), 1),
        "padding": frozen_padding(padding, axes) if isinstance(padding, str) else _sides(padding, axes),
        "dilation": (*per_axis("dilation", arguments["dilation"], 1, axes), 1),
        "out": out,
        "data_format": FORMATS[axes + 1][0],
    }


def _one(axes: int, index: int | None = None) -> Any:
    """The index that puts an axis of channels before an array's spatial axes and its own; or takes it away, by 0."""
    return (..., index, *[slice(None)] * (axes + 1))


def _sides(padding: Any, axes: int) -> Any:
    """Padding by number or by side with none along the channels."""
    if isinstance(padding, list | tuple | np.ndarray) and any(np.ndim(sides) for sides in padding):
        return (*padding, (0, 0)) if len(padding) == axes else padding
    return (*per_axis("padding", padding, 0, axes), 0)


# -- everything else -----------------------------------------------------------------------------------------


def as_first(name: str, x: Any, axes: int) -> Any:
    """The array under a header that has channels first: kernels' recipes reorder it a vector at a time."""
    x = _checked(name, x, axes)
    if not isinstance(x, np.ndarray):
        raise TypeError(f"data_format={FORMATS[axes][1]!r} is for NumPy arrays here, but {name} is {shown(x)}: move "
                        "its channels first")  # fmt: skip
    return np.moveaxis(x, -1, -1 - axes)


def shape_first(shape: tuple[int, ...], axes: int) -> tuple[int, ...]:
    """The shape with channels first of an array with channels last."""
    return (*shape[: -1 - axes], *shape[-1:], *shape[-1 - axes : -1]) if len(shape) > axes else shape


def around(
    axes: int, call: Callable[[Any], Any], device: Any, out: Any, inputs: tuple[Any, ...],
    shape: tuple[int, ...] | None = None, dtype: np.dtype | None = None,
) -> Any:  # fmt: skip
    """What `call` makes on a device with channels first, with channels last: a new array, or `out`.

    The result's `shape` and `dtype` are those of the call's spec, if they are not given.
    """
    if isinstance(device, Recorder):
        return call(device)
    if out is not None:
        spec = call(Recorder())[1]
        made_first = spec.output_shape
        shape = shape or (*made_first[: -1 - axes], *made_first[-axes:], made_first[-1 - axes])
        check_out(out, shape, spec.out_dtype if dtype is None else dtype, inputs)
    made = call(device)
    if isinstance(made, tuple):
        return reorder(made[0], axes, out), reorder(made[1], axes, None)
    return reorder(made, axes, out)
