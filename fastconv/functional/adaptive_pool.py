"""Poolings that are told the size of their output."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base import forks  # noqa: F401 # must be there before the first fork, which may come before the first call
from ..base.devices import place
from ..planner.plan import recipe
from ..specs.arguments import flag
from ..specs.arrays import allocate, array, kernel_ready, result_array
from ..specs.dtypes import check_dtype
from ..specs.pool import PoolSpec, adaptive_spec, bounds

__all__ = ["adaptive_avg_pool2d", "adaptive_max_pool2d"]


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
        from ..cuda import calls

        return calls.adaptive_pool2d("avg", x, output_size, False, out)
    x = array("x", x)
    problem = adaptive_spec("avg", x.shape, check_dtype("x", x.dtype), output_size)
    if not problem.adaptive:
        return recipe(problem, "auto").run(x, False, out)
    result = result_array(problem.output_shape, problem.out_dtype, out, (x,))
    if result.size:
        from ..cpu.algorithms import adaptive_pool

        sums = result if result.dtype == problem.x_dtype else allocate(result.shape, problem.x_dtype)
        adaptive_pool.average(_planes(x, problem), sums.reshape(-1, problem.oh, problem.ow), *_bounds(problem))
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
        from ..cuda import calls

        return calls.adaptive_pool2d("max", x, output_size, return_indices, out)
    x = array("x", x)
    return_indices = flag("return_indices", return_indices)
    problem = adaptive_spec("max", x.shape, check_dtype("x", x.dtype), output_size)
    if not problem.adaptive:
        return recipe(problem, "auto").run(x, return_indices, out)
    result = result_array(problem.output_shape, problem.out_dtype, out, (x,))
    indices = allocate(problem.output_shape, np.dtype(np.int64)) if return_indices else None
    if result.size:
        from ..cpu.algorithms import adaptive_pool

        best = allocate(result.shape, problem.x_dtype)
        places = None if indices is None else indices.reshape(-1, problem.oh, problem.ow)
        adaptive_pool.maximum(_planes(x, problem), best.reshape(-1, problem.oh, problem.ow), places, *_bounds(problem))
        result[...] = best
    return result if indices is None else (result, indices)


def _bounds(problem: PoolSpec) -> tuple[Any, Any]:
    """Of the windows of rows, and of columns."""
    return bounds(problem.h, problem.oh), bounds(problem.w, problem.ow)


def _planes(x: np.ndarray, problem: PoolSpec) -> np.ndarray:
    return kernel_ready(x, problem.x_dtype).reshape(-1, *x.shape[-2:])

