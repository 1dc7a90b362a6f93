"""Convolution as a matrix product, made visible: unrolled windows, and the correlation as a sparse matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base.values import shown
from ..specs.arguments import shape
from ..specs.arrays import allocate, array
from ..specs.axes import is_last
from ..specs.dtypes import native
from ..specs.unfold import fold_spec, unfold_spec
from ..typing import DataFormat2d, Device, OutArray, Padding, PerAxis, Shape, like_columns, like_x
from .device import backend

__all__ = ["corr2d_matrix", "fold2d", "unfold2d"]


@like_x
def unfold2d(
    x: ArrayLike,
    kernel_size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    data_format: DataFormat2d = "NCHW",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """The windows of an image as columns ("im2col"), as PyTorch's `unfold`.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W)
        The input.
    kernel_size, stride, padding, dilation
        The windows, as in `conv2d`.
    data_format : {"NCHW", "NHWC"}
        The layout of the input, and of a window.
    device, out
        As in `conv2d`.

    Returns
    -------
    ndarray, shape (N, C * KH * KW, OH * OW) or (C * KH * KW, OH * OW)
        A column for each position of the window, of the dtype of `x`. A convolution is
        ``weight.reshape(C_out, -1) @ columns``. With channels last there is a row for each position, and the shape is
        (N, OH * OW, KH * KW * C) or (OH * OW, KH * KW * C).

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`.

    Notes
    -----
    Source: Chellapilla, Puri and Simard, High performance convolutional neural networks for document processing, 2006.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.unfold2d(np.arange(9).reshape(1, 3, 3), 2)
    array([[0, 1, 3, 4],
           [1, 2, 4, 5],
           [3, 4, 6, 7],
           [4, 5, 7, 8]])
    """
    calls = backend(device, x)
    image = calls.operand("x", x)
    window = kernel_size, stride, padding, dilation
    spec = unfold_spec(image.shape, native("x", image.dtype), *window, channels_last=is_last(data_format, 2))
    return calls.unfold(spec, image, out)


@like_columns
def fold2d(
    columns: ArrayLike,
    output_size: PerAxis,
    kernel_size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    data_format: DataFormat2d = "NCHW",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """Columns summed up to an image ("col2im"), as PyTorch's `fold`: the transpose of `unfold2d`.

    Parameters
    ----------
    columns : array_like, shape (N, C * KH * KW, OH * OW) or (C * KH * KW, OH * OW)
        Columns as `unfold2d` returns them; rows if channels are last.
    output_size : int or (int, int)
        Height and width of the image.
    kernel_size, stride, padding, dilation
        The windows, as in `conv2d`.
    data_format : {"NCHW", "NHWC"}
        The layout of the image, and of a window.
    device, out
        As in `conv2d`.

    Returns
    -------
    ndarray, shape (N, C, H, W) or (C, H, W), or as `data_format` says
        Each pixel is the sum of its copies in all windows; dtype as in `conv2d`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`, and if the shape of `columns` does not fit the windows.

    Examples
    --------
    The number of windows that see each pixel:

    >>> import numpy as np, fastconv
    >>> fastconv.fold2d(np.ones((4, 4)), 3, 2)
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    """
    calls = backend(device, columns, "columns")
    given = calls.operand("columns", columns)
    window = kernel_size, stride, padding, dilation
    dtype, last = native("columns", given.dtype), is_last(data_format, 2)
    spec = fold_spec(given.shape, dtype, output_size, *window, channels_last=last)
    return calls.fold(spec, given, out)


def corr2d_matrix(kernel: ArrayLike, input_shape: Shape) -> Any:
    """The sparse matrix M of a correlation: ``M @ x.ravel()`` is ``corr2d(x, kernel).ravel()``.

    Parameters
    ----------
    kernel : array_like, shape (KH, KW)
        The kernel.
    input_shape : (int, int)
        Shape (H, W) of the images, no smaller than the kernel.

    Returns
    -------
    scipy.sparse.csr_array, shape (OH * OW, H * W)
        The dtype is the kernel's. Each row gives one output; it has the kernel's elements in the columns of the pixels
        that this output sees. A fully connected layer has a number for each of the matrix's elements; this one has
        KH * KW, shared by all rows (translation invariance), and zeros elsewhere (locality).

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `corr2d`.

    Notes
    -----
    Source: Goodfellow, Bengio and Courville, Deep Learning, chapter 9.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.corr2d_matrix([[1, -1]], (2, 3)).toarray()
    array([[ 1, -1,  0,  0,  0,  0],
           [ 0,  1, -1,  0,  0,  0],
           [ 0,  0,  0,  1, -1,  0],
           [ 0,  0,  0,  0,  1, -1]])
    """
    from scipy.sparse import csr_array  # late: it takes long to load

    weight = array("kernel", kernel)
    if weight.ndim != 2 or not weight.size:
        raise ValueError(f"kernel must have two axes of at least one element, got shape {weight.shape}")
    size = shape("input_shape", input_shape)
    if len(size) != 2 or size[0] < weight.shape[0] or size[1] < weight.shape[1]:
        raise ValueError(f"input_shape must be (H, W), no smaller than the kernel {weight.shape}, got {shown(size)}")
    (h, w), (kh, kw) = size, weight.shape
    oh, ow = h - kh + 1, w - kw + 1
    entries = allocate((oh, ow, kh, kw), np.dtype(np.int64), "the matrix")
    i, j, a, b = np.ogrid[:oh, :ow, :kh, :kw]
    entries[...] = (i + a) * w + j + b
    values = np.broadcast_to(weight, entries.shape).reshape(-1)
    return csr_array((values, entries.reshape(-1), np.arange(0, entries.size + 1, weight.size)), shape=(oh * ow, h * w))
