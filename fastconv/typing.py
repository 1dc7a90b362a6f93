"""Types of public arguments and results, for annotations of your own: ``from fastconv.typing import PaddingMode``.

Names of modes and algorithms are `Literal` types, so that a type checker knows a misspelt one. Results are
``NDArray[Any]``, because dtypes promote; those for arrays of another library are of the input's type. Nothing here is
looked at when a function is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import (
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    Protocol,
    SupportsIndex,
    TypeAlias,
    TypedDict,
    TypeVar,
    cast,
    overload,
)  # fmt: skip

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
    "Activation", "Boundaries", "Boundary", "ConvAlgorithm", "DataFormat1d", "DataFormat2d", "DataFormat3d", "Device",
    "Extent", "FilterPrecision", "Foreign", "GaussianOptions", "LikeColumns", "LikeGradOutput", "LikeIn1",
    "LikeInput", "LikeX", "NanPolicy", "Numbers", "Operation", "OutArray", "Output", "OutputSize", "OwnArray",
    "Padding", "PaddingMode", "PerAxis", "Picks", "PicksAdaptive", "PoolAlgorithm", "Precision", "Processor",
    "RankAlgorithm", "Reduction", "Shape", "Surroundings", "TransposeAlgorithm", "WeightAlgorithm",
]  # fmt: skip

# -- numbers -------------------------------------------------------------------------------------------------

#: Sizes of an array's axes.
Shape: TypeAlias = Sequence[SupportsIndex]
#: One integer for all spatial axes, or one for each.
PerAxis: TypeAlias = SupportsIndex | Sequence[SupportsIndex] | NDArray[np.integer[Any]]
#: One real number for all axes, or one for each.
Numbers: TypeAlias = float | Sequence[float] | NDArray[np.floating[Any]] | NDArray[np.integer[Any]]
#: Padding on all sides, for each axis, for each side, or by name.
Padding: TypeAlias = PerAxis | Sequence[Sequence[SupportsIndex]] | Literal["valid", "same", "same_lower"]

#: Rows and columns of an adaptive pooling's output; None leaves an axis as it is.
OutputSize: TypeAlias = SupportsIndex | Sequence[SupportsIndex | None] | None

# -- names ---------------------------------------------------------------------------------------------------

Device: TypeAlias = Literal["cpu", "cuda"]
PaddingMode: TypeAlias = Literal["zeros", "reflect", "replicate", "circular"]
Activation: TypeAlias = Literal["relu"]
#: How float32 operands of convolutions are multiplied.
Precision: TypeAlias = Literal["float32", "tf32", "tf32x3"]
DataFormat1d: TypeAlias = Literal["NCW", "NWC"]
DataFormat2d: TypeAlias = Literal["NCHW", "NHWC"]
DataFormat3d: TypeAlias = Literal["NCDHW", "NDHWC"]
Reduction: TypeAlias = Literal["mean", "sum"]
#: Algorithms by the operation that they are for, on either device.
ConvAlgorithm: TypeAlias = Literal[
    "auto", "dense", "pointwise", "winograd", "depthwise", "direct", "separable", "image", "row", "polyphase", "dft",
    "fft2d", "fft", "implicit_gemm", "im2col", "im2col_blas", "naive",
]  # fmt: skip
#: Those of transposed convolutions, and so of a convolution's gradient for its input.
TransposeAlgorithm: TypeAlias = ConvAlgorithm | Literal["columns", "joint", "phases"]
WeightAlgorithm: TypeAlias = Literal["auto", "pixels", "channels", "implicit_gemm", "naive"]
PoolAlgorithm: TypeAlias = Literal["auto", "global", "across", "running", "rows", "naive"]
#: Operations with a table of algorithms.
Operation: TypeAlias = Literal[
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "max_pool1d",
    "max_pool2d", "max_pool3d", "min_pool1d", "min_pool2d", "min_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "lp_pool1d", "lp_pool2d", "lp_pool3d", "conv2d_input", "conv2d_weight", "max_pool2d_input", "min_pool2d_input",
    "avg_pool2d_input", "adaptive_max_pool2d", "adaptive_avg_pool2d", "max_unpool2d", "unfold2d", "fold2d",
]  # fmt: skip
#: Classes of processors that kernels are compiled for in advance, or this one.
Processor: TypeAlias = Literal["host", "x86-64-v3", "x86-64-v4"]

# -- filters of images ---------------------------------------------------------------------------------------

#: What lies outside an image, by SciPy's names; one for all axes, or one for each.
Boundary: TypeAlias = Literal[
    "reflect", "constant", "nearest", "mirror", "wrap", "grid-mirror", "grid-constant", "grid-wrap"
]
Boundaries: TypeAlias = Boundary | Sequence[Boundary]
#: How filters compute float32.
FilterPrecision: TypeAlias = Literal["single", "double"]
NanPolicy: TypeAlias = Literal["propagate", "omit", "raise"]
RankAlgorithm: TypeAlias = Literal["auto", "network", "columns", "ranked"]


class GaussianOptions(TypedDict, total=False):
    """Further arguments of `gaussian_filter`."""

    truncate: float
    radius: PerAxis | None
    saturate: bool
    precision: FilterPrecision | None
    nan_policy: NanPolicy
    mask: ArrayLike | None
    min_periods: int
    device: Device | None


#: `mode` and `boundary` of `fastconv.signal`.
Extent: TypeAlias = Literal["full", "same", "valid"]
Surroundings: TypeAlias = Literal["fill", "pad", "wrap", "circular", "symm", "symmetric"]

# -- arrays --------------------------------------------------------------------------------------------------


class _SharesMemory(Protocol):
    """An array of PyTorch, CuPy, JAX or another library of the array API standard."""

    def __dlpack__(self) -> Any: ...


class _HasLabels(Protocol):
    """An object of xarray or pandas."""

    def to_numpy(self) -> Any: ...


class _IsLazy(Protocol):
    """An array of Dask."""

    def __dask_graph__(self) -> Any: ...


#: An array of another library than NumPy.
Foreign = TypeVar("Foreign", bound=_SharesMemory | _HasLabels | _IsLazy)
#: What is certainly not one.
OwnArray: TypeAlias = NDArray[Any] | Sequence[Any] | complex
#: `out`, the array that a result is written to.
OutArray: TypeAlias = NDArray[Any] | _SharesMemory | _HasLabels
#: `output` of a filter: such an array, or the result's dtype; None for that of the input.
Output: TypeAlias = OutArray | DTypeLike | None

P = ParamSpec("P")


class LikeX(Protocol[P]):
    """A function whose result is an array of the library of its first argument, `x`."""

    @overload
    def __call__(self, x: OwnArray, *args: P.args, **kwargs: P.kwargs) -> NDArray[Any]: ...
    @overload
    def __call__(self, x: Foreign, *args: P.args, **kwargs: P.kwargs) -> Foreign: ...
    @overload
    def __call__(self, x: ArrayLike, *args: P.args, **kwargs: P.kwargs) -> NDArray[Any]: ...


class LikeInput(Protocol[P]):
    """A function whose result is an array of the library of its first argument, `input`."""

    @overload
    def __call__(self, input: OwnArray, *args: P.args, **kwargs: P.kwargs) -> NDArray[Any]: ...
    @overload
    def __call__(self, input: Foreign, *args: P.args, **kwargs: P.kwargs) -> Foreign: ...
    @overload
    def __call__(self, input: ArrayLike, *args: P.args, **kwargs: P.kwargs) -> NDArray[Any]: ...


class LikeIn1(Protocol[P]):
    """A function whose result is an array of the library of its first argument, `in1`."""

    @overload
    def __call__(self, in1: OwnArray, *args: P.args, **kwargs: P.kwargs) -> NDArray[Any]: ...
    @overload
    def __call__(self, in1: Foreign, *args: P.args, **kwargs: P.kwargs) -> Foreign: ...
    @overload
    def __call__(self, in1: ArrayLike, *args: P.args, **kwargs: P.kwargs) -> NDArray[Any]: ...


class LikeColumns(Protocol[P]):
    """A function whose result is an array of the library of its first argument, `columns`."""

    @overload
    def __call__(self, columns: OwnArray, *args: P.args, **kwargs: P.kwargs) -> NDArray[Any]: ...
    @overload
    def __call__(self, columns: Foreign, *args: P.args, **kwargs: P.kwargs) -> Foreign: ...
    @overload
    def __call__(self, columns: ArrayLike, *args: P.args, **kwargs: P.kwargs) -> NDArray[Any]: ...


class LikeGradOutput(Protocol[P]):
    """A gradient whose result is an array of the library of its third argument, `grad_output`."""

    @overload
    def __call__(
        self, input_size: Shape, weight: ArrayLike, grad_output: OwnArray, *args: P.args, **kwargs: P.kwargs
    ) -> NDArray[Any]: ...
    @overload
    def __call__(
        self, input_size: Shape, weight: ArrayLike, grad_output: Foreign, *args: P.args, **kwargs: P.kwargs
    ) -> Foreign: ...
    @overload
    def __call__(
        self, input_size: Shape, weight: ArrayLike, grad_output: ArrayLike, *args: P.args, **kwargs: P.kwargs
    ) -> NDArray[Any]: ...


def like_x(function: Callable[Concatenate[Any, P], Any]) -> LikeX[P]:
    """The same function; type checkers learn what its result is."""
    return cast("LikeX[P]", function)


def like_input(function: Callable[Concatenate[Any, P], Any]) -> LikeInput[P]:
    """The same function; type checkers learn what its result is."""
    return cast("LikeInput[P]", function)


def like_in1(function: Callable[Concatenate[Any, P], Any]) -> LikeIn1[P]:
    """The same function; type checkers learn what its result is."""
    return cast("LikeIn1[P]", function)


def like_columns(function: Callable[Concatenate[Any, P], Any]) -> LikeColumns[P]:
    """The same function; type checkers learn what its result is."""
    return cast("LikeColumns[P]", function)


def like_grad_output(function: Callable[Concatenate[Any, Any, Any, P], Any]) -> LikeGradOutput[P]:
    """The same function; type checkers learn what its result is."""
    return cast("LikeGradOutput[P]", function)


F = TypeVar("F", contravariant=True)


class Picks(Protocol[F]):
    """A pooling that may return the places of what it picks, too: a pair then."""

    @overload
    def __call__(
        self, x: OwnArray, kernel_size: PerAxis, stride: PerAxis | None = ..., padding: Padding = ...,
        dilation: PerAxis = ..., *, ceil_mode: bool = ..., return_indices: Literal[False] = ..., data_format: F = ...,
        algorithm: PoolAlgorithm = ..., device: Device | None = ..., out: OutArray | None = ...,
    ) -> NDArray[Any]: ...  # fmt: skip
    @overload
    def __call__(
        self, x: OwnArray, kernel_size: PerAxis, stride: PerAxis | None = ..., padding: Padding = ...,
        dilation: PerAxis = ..., *, ceil_mode: bool = ..., return_indices: Literal[True], data_format: F = ...,
        algorithm: PoolAlgorithm = ..., device: Device | None = ..., out: OutArray | None = ...,
    ) -> tuple[NDArray[Any], NDArray[np.int64]]: ...  # fmt: skip
    @overload
    def __call__(
        self, x: Foreign, kernel_size: PerAxis, stride: PerAxis | None = ..., padding: Padding = ...,
        dilation: PerAxis = ..., *, ceil_mode: bool = ..., return_indices: Literal[False] = ..., data_format: F = ...,
        algorithm: PoolAlgorithm = ..., device: Device | None = ..., out: OutArray | None = ...,
    ) -> Foreign: ...  # fmt: skip
    @overload
    def __call__(
        self, x: Foreign, kernel_size: PerAxis, stride: PerAxis | None = ..., padding: Padding = ...,
        dilation: PerAxis = ..., *, ceil_mode: bool = ..., return_indices: Literal[True], data_format: F = ...,
        algorithm: PoolAlgorithm = ..., device: Device | None = ..., out: OutArray | None = ...,
    ) -> tuple[Foreign, Foreign]: ...  # fmt: skip
    @overload
    def __call__(
        self, x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = ..., padding: Padding = ...,
        dilation: PerAxis = ..., *, ceil_mode: bool = ..., return_indices: bool = ..., data_format: F = ...,
        algorithm: PoolAlgorithm = ..., device: Device | None = ..., out: OutArray | None = ...,
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[np.int64]]: ...  # fmt: skip


class PicksAdaptive(Protocol):
    """An adaptive pooling that may return the places of what it picks, too: a pair then."""

    @overload
    def __call__(
        self, x: OwnArray, output_size: OutputSize, *, return_indices: Literal[False] = ...,
        data_format: DataFormat2d = ..., device: Device | None = ..., out: OutArray | None = ...,
    ) -> NDArray[Any]: ...  # fmt: skip
    @overload
    def __call__(
        self, x: OwnArray, output_size: OutputSize, *, return_indices: Literal[True], data_format: DataFormat2d = ...,
        device: Device | None = ..., out: OutArray | None = ...,
    ) -> tuple[NDArray[Any], NDArray[np.int64]]: ...  # fmt: skip
    @overload
    def __call__(
        self, x: Foreign, output_size: OutputSize, *, return_indices: Literal[False] = ...,
        data_format: DataFormat2d = ..., device: Device | None = ..., out: OutArray | None = ...,
    ) -> Foreign: ...  # fmt: skip
    @overload
    def __call__(
        self, x: Foreign, output_size: OutputSize, *, return_indices: Literal[True], data_format: DataFormat2d = ...,
        device: Device | None = ..., out: OutArray | None = ...,
    ) -> tuple[Foreign, Foreign]: ...  # fmt: skip
    @overload
    def __call__(
        self, x: ArrayLike, output_size: OutputSize, *, return_indices: bool = ..., data_format: DataFormat2d = ...,
        device: Device | None = ..., out: OutArray | None = ...,
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[np.int64]]: ...  # fmt: skip


def picks1d(function: Callable[..., Any]) -> Picks[DataFormat1d]:
    """The same function; type checkers learn what its result is."""
    return cast("Picks[DataFormat1d]", function)


def picks2d(function: Callable[..., Any]) -> Picks[DataFormat2d]:
    """The same function; type checkers learn what its result is."""
    return cast("Picks[DataFormat2d]", function)


def picks3d(function: Callable[..., Any]) -> Picks[DataFormat3d]:
    """The same function; type checkers learn what its result is."""
    return cast("Picks[DataFormat3d]", function)


def picks_adaptive(function: Callable[..., Any]) -> PicksAdaptive:
    """The same function; type checkers learn what its result is."""
    return cast(PicksAdaptive, function)
