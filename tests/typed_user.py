"""A user's program as type checkers see it: `tests/test_types.py` has mypy check it, and pyright may.

`assert_type` says what a result's type is. Lines that must be errors have ``type: ignore``, and a checker that finds no
error there says so.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from functools import partial
from typing import Any, assert_type

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

import fastconv
import fastconv.ndimage as ndi
from fastconv import cache, grad, nn, signal, wisdom
from fastconv.dask import WarmUp, fuse
from fastconv.typing import Boundary, ConvAlgorithm, DataFormat2d, Padding, PaddingMode


class Tensor:
    """An array of another library."""

    def __dlpack__(self) -> Any: ...


def results(x: NDArray[np.float32], given: ArrayLike, tensor: Tensor, labelled: xr.DataArray, either: bool) -> None:
    """What comes back is NumPy's array, or one of the input's library; two of them if indices are asked for."""
    weight = np.ones((4, 3, 3, 3), np.float32)
    assert_type(fastconv.conv2d(x, weight), NDArray[Any])
    assert_type(fastconv.conv2d(x=x, weight=weight, padding="same"), NDArray[Any])
    assert_type(fastconv.conv2d([[[1.0, 2.0]]], [[[[1.0]]]]), NDArray[Any])
    assert_type(fastconv.conv1d(given, given), NDArray[Any])
    assert_type(fastconv.conv2d(tensor, weight), Tensor)
    assert_type(fastconv.avg_pool2d(labelled, 2), xr.DataArray)
    assert_type(fastconv.max_pool2d(x, 2), NDArray[Any])
    assert_type(fastconv.max_pool2d(x, 2, return_indices=True), tuple[NDArray[Any], NDArray[np.int64]])
    assert_type(fastconv.min_pool3d(tensor, 2, return_indices=True), tuple[Tensor, Tensor])
    assert_type(fastconv.max_pool1d(x, 2, return_indices=either), NDArray[Any] | tuple[NDArray[Any], NDArray[np.int64]])
    assert_type(fastconv.adaptive_max_pool2d(x, (1, None), return_indices=True)[1], NDArray[np.int64])
    assert_type(fastconv.fold2d(tensor, 4, 2), Tensor)
    assert_type(grad.conv2d_input(x.shape, weight, tensor), Tensor)
    assert_type(grad.conv2d_weight(x, weight.shape, x), NDArray[Any])
    assert_type(signal.convolve2d(x, [[1, -1]], mode="same", boundary="symm"), NDArray[Any])
    assert_type(ndi.gaussian_filter(x, 2), NDArray[Any])
    assert_type(ndi.gaussian_filter(input=labelled, sigma=(1, 2.5), mode=["reflect", "wrap"]), xr.DataArray)
    assert_type(fastconv.separable_filter(x, ([1, 2, 1], [-1, 0, 1]), axes=(0, 1)), NDArray[Any])
    plan = fastconv.plan_conv2d(x.shape, weight, padding=((1, 1), (0, 2)), algorithm="winograd")
    assert_type(plan(x, out=np.empty(plan.output_shape, np.float32)), NDArray[Any])
    assert_type(plan(tensor), Tensor)
    assert_type(plan.output_shape, tuple[int, ...])
    assert_type(fastconv.receptive_field([(3, 2), 3]).size, tuple[int, ...])


def others(x: NDArray[np.float64]) -> None:
    """The rest of the public names."""
    assert_type(fastconv.__version__, str)
    assert_type(fastconv.algorithms("max_pool2d", "cuda"), tuple[str, ...])
    assert_type(fastconv.warmup(["conv2d", "ndimage.sobel"], dtypes=np.float32), int)
    assert_type(cache.export_kernels("kernels.zip", processor="x86-64-v3"), int)
    assert_type(wisdom.export_wisdom(), str)
    assert_type(fastconv.numba.correlate((3, 3), "float32", mode="nearest")(x, x), NDArray[Any])
    ndi.label(x)  # SciPy's own
    fuse(partial(ndi.sobel, axis=0), np.abs)
    WarmUp(["conv2d"], pack="kernels.zip")
    model = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6, 10))
    loss, optimizer = nn.CrossEntropyLoss("sum"), nn.SGD(model.parameters(), lr=0.1)
    assert_type(loss.forward(model.forward(x), [1]), float)
    model.backward(loss.backward())
    optimizer.step()
    with fastconv.num_threads(2):
        fastconv.corr2d(x, x, bias=1.5)


def wrapper(x: ArrayLike, weight: ArrayLike, mode: PaddingMode, padding: Padding, algorithm: ConvAlgorithm,
            layout: DataFormat2d) -> NDArray[Any]:  # fmt: skip
    """Names of modes are types, for functions that hand them on."""
    return fastconv.conv2d(x, weight, padding=padding, padding_mode=mode, algorithm=algorithm, data_format=layout)


def outside(x: NDArray[np.uint8], modes: list[Boundary]) -> NDArray[Any]:
    """A mode for each axis."""
    return ndi.maximum_filter(x, size=(3, 3), mode=modes)


def errors(x: NDArray[np.float32], tensor: Tensor, text: str) -> None:
    """Calls that are wrong."""
    fastconv.conv2d(x)  # type: ignore[call-overload] # no weight
    fastconv.conv2d(x, x, padding_mode="mirror")  # type: ignore[call-overload] # a name of SciPy's
    fastconv.conv2d(x, x, padding="sane")  # type: ignore[arg-type] # misspelt
    fastconv.conv2d(x, x, padding_mode=text)  # type: ignore[call-overload] # any text
    fastconv.conv2d(x, x, strides=2)  # type: ignore[call-overload] # no such argument
    fastconv.conv2d(x, x, stride=1.5)  # type: ignore[call-overload] # not whole
    fastconv.conv1d(x, x, data_format="NHWC")  # type: ignore[call-overload] # of images
    fastconv.conv2d(x, x, algorithm="winogard")  # type: ignore[call-overload] # misspelt
    fastconv.conv2d(x, x, device="gpu")  # type: ignore[call-overload] # is "cuda"
    fastconv.max_pool2d(x, 2, algorithm="winograd")  # type: ignore[call-overload] # of convolutions
    fastconv.max_pool2d(tensor, 2).cpu()  # type: ignore[attr-defined] # this library has no such method
    fastconv.algorithms("conv4d")  # type: ignore[arg-type] # no such operation
    fastconv.conv2dd(x, x)  # type: ignore[attr-defined] # no such function
    ndi.gausian_filter(x, 1)  # type: ignore[attr-defined] # misspelt
    ndi.gaussian_filter(x, 1, mode="zeros")  # type: ignore[arg-type] # a name of PyTorch's
    ndi.gaussian_laplace(x, 1, radios=3)  # type: ignore[call-overload] # misspelt
    ndi.median_filter(x, 3, algorithm="sorted")  # type: ignore[call-overload] # no such algorithm
    signal.convolve2d(x, x, mode="sane")  # type: ignore[call-overload] # misspelt
    nn.Conv2d(1, 6, 5, padding_mode="mirror")  # type: ignore[arg-type] # a name of SciPy's
    cache.export_kernels("kernels.zip", processor="x86-64-v5")  # type: ignore[arg-type] # no such class
