"""Functions of this package inside a caller's own ``@njit``, in nopython mode.

::

    @numba.njit
    def brightest(images):
        return fastconv.max_pool2d(images, 3).max()

`fastconv.corr2d`, `conv1d`, `conv2d`, `max_pool2d`, `avg_pool2d` and of `fastconv.ndimage` `correlate`, `correlate1d`,
`uniform_filter`, `maximum_filter` and `minimum_filter` are called as in plain Python, and give the same results. Their
code becomes part of the caller's: it runs on the caller's thread, inside a `prange` as outside, and ``cache=True``
keeps it. `correlate` makes a function for windows of one shape, which is as fast as a plain call. See
``docs/howto/njit.md``.

Numba learns of them from the entry point of the module ``fastconv_numba``, and `declare` tells it where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import DTypeLike, NDArray

from ..typing import Boundary, PerAxis, Shape

__all__ = ["correlate", "declare"]


def declare() -> None:
    """Tell Numba what the functions are inside ``@njit``; calls beyond the first do nothing.

    An installed package need not call it: Numba does when it first compiles, or `fastconv` when it is imported later.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.numba.declare()
    """
    from numba.core.compiler_lock import global_compiler_lock

    with global_compiler_lock:  # first, as threads that compile have it when they make Numba's target, as these do
        from . import boxes, convolutions, correlations, poolings  # noqa: F401 # importing declares


def correlate(
    kernel_shape: Shape, dtype: DTypeLike, mode: Boundary = "reflect", cval: float = 0.0, origin: PerAxis = 0
) -> Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]:
    """A compiled function that correlates images with windows of one shape, for use inside ``@njit``.

    Parameters
    ----------
    kernel_shape : (int, int)
        The window's rows and columns, together at most 169.
    dtype : {float32, float64}
        The dtype of images, weights and results.
    mode, cval, origin
        As in `fastconv.ndimage.correlate`.

    Returns
    -------
    function of (input, weights)
        `input` is an array of shape (H, W), `weights` one of `kernel_shape`; the result is a new array like `input`.
        The function runs on the calling thread.

    Raises
    ------
    ValueError, TypeError
        If an argument is none of those above. The function raises a ValueError if the weights' shape is another, and
        Numba's TypingError if a dtype is.

    Notes
    -----
    The window's shape is a constant: all products of a few rows of pixels are written out, and the compiler makes
    vectors of them. Results are within the bound of `fastconv.ndimage.correlate`, all weights counting.

    Examples
    --------
    >>> import numba, numpy as np, fastconv
    >>> smooth = fastconv.numba.correlate((3, 3), np.float32, mode="nearest")
    >>> @numba.njit
    ... def twice(image, weights):
    ...     return smooth(smooth(image, weights), weights)
    >>> twice(np.eye(4, dtype=np.float32), np.full((3, 3), 1 / 9, np.float32)).round(2)
    array([[0.43, 0.32, 0.17, 0.07],
           [0.32, 0.28, 0.22, 0.17],
           [0.17, 0.22, 0.28, 0.32],
           [0.07, 0.17, 0.32, 0.43]], dtype=float32)
    """
    from .fixed import made

    return made(kernel_shape, dtype, mode, cval, origin)
