"""Poolings told by the size of their output, and the way back from maxima to their places."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from . import _forks  # noqa: F401 # must be there before the first fork, which may come before the first call
from .checks import Pair, allocate, array, check_dtype, flag, integer, kernel_ready, pair, result_array
from .devices import place
from .plan import recipe
from .pool_spec import PoolSpec, pool_spec

__all__ = ["adaptive_avg_pool2d", "adaptive_max_pool2d", "max_unpool2d"]


def adaptive_avg_pool2d(
    x: Any, output_size: Any, *, device: str | None = None, out: Any = None
) -> Any:
    """Mean over as many windows as the output shall have elements, as in PyTorch; an output of 1 is global pooling.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W), (C, H, W) or (H, W)
        The input.
    output_size : int or (int, int)
        Rows and columns of the output; None leaves an axis as it is.
    device, out
        As in `avg_pool2d`.

    Returns
    -------
    ndarray, shape (..., OH, OW)
        Of the dtype of `x`; float64 for integers and bool.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `avg_pool2d`.

    Notes
    -----
    Of an axis of n elements, window i of m goes from ``floor(i * n / m)`` to ``ceil((i + 1) * n / m)``. Where windows
    are equal, this is `avg_pool2d`.

    Source: He et al., Spatial pyramid pooling in deep convolutional networks, arXiv:1406.4729.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.adaptive_avg_pool2d(np.arange(12.0).reshape(3, 4), 1)
    array([[5.5]])
    >>> fastconv.adaptive_avg_pool2d(np.arange(12.0).reshape(3, 4), (2, None))
    array([[2., 3., 4., 5.],
           [6., 7., 8., 9.]])
    """
    if (device is not None or type(x) is not np.ndarray) and place(device, x) == "cuda":
        from . import gpu

        return gpu.adaptive_pool2d("avg", x, output_size, False, out)
    x = array("x", x)
    problem = adaptive_spec("avg", x.shape, check_dtype("x", x.dtype), output_size)
    if not problem.adaptive:
        return recipe(problem, "auto").run(x, False, out)
    result = result_array(problem.output_shape, problem.out_dtype, out, (x,))
    if result.size:
        from .cpu import adaptive

        sums = result if result.dtype == problem.x_dtype else allocate(result.shape, problem.x_dtype)
        adaptive.average(_planes(x, problem), sums.reshape(-1, problem.oh, problem.ow))
        if sums is not result:
            result[...] = sums
    return result


def adaptive_max_pool2d(
    x: Any, output_size: Any, *, return_indices: bool = False, device: str | None = None, out: Any = None
) -> Any:
    """Maximum over as many windows as the output shall have elements, as in PyTorch.

    Parameters
    ----------
    x, output_size
        As in `adaptive_avg_pool2d`, which tells the windows.
    return_indices, device, out
        As in `max_pool2d`.

    Returns
    -------
    ndarray, shape (..., OH, OW), or two of them
        Of the dtype of `x`. A NaN in the window is its maximum.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `max_pool2d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.adaptive_max_pool2d(np.arange(12).reshape(3, 4), 2)
    array([[ 5,  7],
           [ 9, 11]])
    """
    if (device is not None or type(x) is not np.ndarray) and place(device, x) == "cuda":
        from . import gpu

        return gpu.adaptive_pool2d("max", x, output_size, return_indices, out)
    x = array("x", x)
    return_indices = flag("return_indices", return_indices)
    problem = adaptive_spec("max", x.shape, check_dtype("x", x.dtype), output_size)
    if not problem.adaptive:
        return recipe(problem, "auto").run(x, return_indices, out)
    result = result_array(problem.output_shape, problem.out_dtype, out, (x,))
    indices = allocate(problem.output_shape, np.dtype(np.int64)) if return_indices else None
    if result.size:
        from .cpu import adaptive

        best = allocate(result.shape, problem.x_dtype)
        places = None if indices is None else indices.reshape(-1, problem.oh, problem.ow)
        adaptive.maximum(_planes(x, problem), best.reshape(-1, problem.oh, problem.ow), places)
        result[...] = best
    return result if indices is None else (result, indices)


def adaptive_spec(op: str, x_shape: tuple[int, ...], dtype: np.dtype, output_size: Any) -> PoolSpec:
    """Check such a pooling. Where windows are equal and equally far apart, it is one like any other."""
    size = output_size if type(output_size) is int else _output_size(x_shape, output_size)
    return _problem(op, x_shape, dtype, size)


def _output_size(x_shape: tuple[int, ...], output_size: Any) -> Pair:
    if len(x_shape) not in (2, 3, 4) or min(x_shape[-3:]) < 1:
        raise ValueError(f"x must have shape (N, C, H, W), (C, H, W) or (H, W), no axis but N empty, got {x_shape}")
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(sizes) != 2:
        raise ValueError(f"output_size must be an integer or a pair (vertical, horizontal), got {output_size!r}")
    high, wide = (
        old if new is None else integer("output_size", new, 1) for old, new in zip(x_shape[-2:], sizes, strict=True)
    )
    return high, wide


@lru_cache(maxsize=1024)
def _problem(op: str, x_shape: tuple[int, ...], dtype: np.dtype, size: int | Pair) -> PoolSpec:
    """An integer is checked here: once."""
    if isinstance(size, int):
        size = _output_size(x_shape, size)
    axes = [_windows(*axis) for axis in zip(x_shape[-2:], size, strict=True)]
    (kh, stride_h), (kw, stride_w) = axes
    if stride_h and stride_w:
        return pool_spec(op, x_shape, dtype, (kh, kw), (stride_h, stride_w))
    outputs = pool_spec(op, (*x_shape[:-2], *size), dtype, 1)
    return replace(outputs, h=x_shape[-2], w=x_shape[-1], kh=kh, kw=kw, adaptive=True)


def _windows(size: int, outputs: int) -> Pair:
    """The largest window of an axis, and the stride, or 0 where windows may be unequal or at unequal distances."""
    if outputs == 1:
        return size, 1
    if outputs > size:
        return 2, 0
    starts = [i * size // outputs for i in range(outputs)]
    lengths = {-(-(i + 1) * size // outputs) - start for i, start in enumerate(starts)}
    steps = {after - before for before, after in pairwise(starts)}
    return max(lengths), steps.pop() if len(lengths) == len(steps) == 1 else 0


def _planes(x: np.ndarray, problem: PoolSpec) -> np.ndarray:
    return kernel_ready(x, problem.x_dtype).reshape(-1, *x.shape[-2:])


def max_unpool2d(
    x: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    *,
    output_size: Any = None,
    device: str | None = None,
    out: Any = None,
) -> Any:
    """Maxima put back to where `max_pool2d` found them, zeros elsewhere, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, OH, OW), (C, OH, OW) or (OH, OW)
        The maxima.
    indices : array_like of int, shape of `x`
        Their flat places in the H * W plane. Of several values for a place the last is kept; on a GPU any of them.
    kernel_size, stride, padding : int or (int, int)
        Of the pooling. They tell the size, ``(OH - 1) * stride - 2 * padding + kernel_size``.
    output_size : (int, int), optional
        The size instead; by less than the stride another than that.
    device, out
        As in `conv2d`.

    Returns
    -------
    ndarray, shape (..., H, W)
        Of the dtype of `x`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        If an argument does not fit, or an index is outside the plane. (Of arrays on a GPU the indices are not looked at
        beforehand, and values whose index is outside are left out.)

    Notes
    -----
    Source: Zeiler and Fergus, Visualizing and understanding convolutional networks, arXiv:1311.2901.

    Examples
    --------
    >>> import fastconv
    >>> values, indices = fastconv.max_pool2d([[1.0, 2.0, 5.0, 4.0]], (1, 2), return_indices=True)
    >>> fastconv.max_unpool2d(values, indices, (1, 2))
    array([[0., 2., 5., 0.]])
    """
    if place(device, x) == "cuda":
        from . import gpu_moves

        return gpu_moves.max_unpool2d(x, indices, (kernel_size, stride, padding, output_size), out)
    x, places = array("x", x), array("indices", indices)
    shape = unpooled_shape(x, places, kernel_size, stride, padding, output_size)
    result = result_array(shape, check_dtype("x", x.dtype), out, (x, places))
    if places.size:
        check_places(places, shape)
        from .cpu.adaptive import unpool

        planes = math.prod(x.shape[:-2])
        values, flat = kernel_ready(x, result.dtype).reshape(planes, -1), result.reshape(planes, -1)
        bits = f"u{result.itemsize}"  # elements are moved, whatever they are
        found = kernel_ready(places, np.dtype(np.int64)).reshape(planes, -1)
        unpool.sized(8.0 * flat.size)(values.view(bits), found, flat.view(bits))
    return result


def unpooled_shape(
    x: Any, places: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> tuple[int, ...]:
    """Shape of what `max_unpool2d` makes; ValueError or TypeError if an argument does not fit."""
    if len(x.shape) not in (2, 3, 4) or min(x.shape[-3:]) < 1:
        raise ValueError(f"x must have shape (N, C, OH, OW), (C, OH, OW) or (OH, OW), no axis but N empty, got "
                         f"{x.shape}")
    if places.shape != x.shape:
        raise ValueError(f"indices has shape {places.shape}, but x has shape {x.shape}")
    if places.dtype.kind not in "iu":
        raise TypeError(f"indices must be integers, got dtype {places.dtype}")
    kernel = pair("kernel_size", kernel_size, 1)
    steps = kernel if stride is None else pair("stride", stride, 1)
    pads = pair("padding", padding, 0)
    natural = tuple(
        [(count - 1) * step - 2 * pad + taps
         for count, step, pad, taps in zip(x.shape[-2:], steps, pads, kernel, strict=True)]
    )  # fmt: skip
    size = natural if output_size is None else pair("output_size", output_size, 1)
    for given, usual, step in zip(size, natural, steps, strict=True):
        if given < 1 or abs(given - usual) >= step:
            raise ValueError(f"output_size must be positive and differ by less than the stride {steps} from {natural}, "
                             f"got {size}")
    return (*x.shape[:-2], *size)


def check_places(places: np.ndarray, shape: tuple[int, ...]) -> None:
    """ValueError unless all indices are of a plane."""
    low, high, size = int(places.min()), int(places.max()), math.prod(shape[-2:])
    if low < 0 or high >= size:
        raise ValueError(f"indices must be from 0 to {size - 1}, got {low if low < 0 else high}")
