"""Grey-scale morphology: erosions and dilations, and what is made of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base.values import shown
from ..functional.device import refuse
from ..typing import Boundaries, Output, PerAxis, like_input
from . import arguments
from .extrema import extremum
from .linear import remembered

__all__ = [
    "black_tophat",
    "grey_closing",
    "grey_dilation",
    "grey_erosion",
    "grey_opening",
    "morphological_gradient",
    "morphological_laplace",
    "white_tophat",
]


def mirrored(sizes: Sequence[int], origins: Sequence[Any], given: Any = None) -> list[int]:
    """The origins of windows of these sizes that are turned around; `given` is what the caller gave."""
    each = zip(sizes, origins, strict=True)
    return [arguments.mirrored(size, arguments.index("origin", origin, given)) for size, origin in each]


def _erosion(
    input: Any, size: Any, footprint: Any, structure: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any,
    channel_axis: Any,
) -> np.ndarray:  # fmt: skip
    if size is None and footprint is None and structure is None:
        raise ValueError("size, footprint, or structure must be specified")
    return extremum("min", input, size, footprint, structure, output, mode, cval, origin, axes, channel_axis)


@lru_cache(maxsize=1024, typed=True)
def _turned(size: Any, origin: Any, shape: tuple[int, ...], axes: Any, channel_axis: Any) -> Any:
    """The origin of windows of this size that are turned around: one for all axes, or a tuple."""
    count = len(arguments.axes(axes, shape, channel_axis))
    turned = mirrored(arguments.sizes(size, count), arguments.per_axis("origin", origin, count), origin)
    return turned[0] if len({*turned}) == 1 else tuple(turned)


def _dilation(
    input: Any, size: Any, footprint: Any, structure: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any,
    channel_axis: Any,
) -> np.ndarray:  # fmt: skip
    if size is None and footprint is None and structure is None:
        raise ValueError("size, footprint, or structure must be specified")
    shape = arguments.shape(input)
    if footprint is None and structure is None:
        turned = remembered(_turned, size, origin, shape, axes, channel_axis)
    else:
        over = arguments.axes(axes, shape, channel_axis)
        sizes: tuple[int, ...] = ()
        for name, given in (("structure", structure), ("footprint", footprint)):
            if given is not None:
                members = arguments.heights(name, given) if given is structure else arguments.members(name, given)
                arguments.fitting(name, given, members.ndim, over, shape)
                sizes = members.shape
        turned = mirrored(sizes, arguments.per_axis("origin", origin, len(over)), origin)
        structure, footprint = (None if one is None else np.flip(np.asarray(one)) for one in (structure, footprint))
    return extremum("max", input, size, footprint, structure, output, mode, cval, turned, axes, channel_axis,
                    given_origin=origin)  # fmt: skip


def _warned(size: Any, footprint: Any) -> None:
    if size is not None and footprint is not None:
        warnings.warn("ignoring size because footprint is set", UserWarning, stacklevel=4)


def _read(name: str, input: Any, output: Any) -> np.ndarray:
    """The image that is read once more when `output` has been written."""
    refuse(name, input)
    image = arguments.image(input)
    return image.copy() if isinstance(output, np.ndarray) and np.may_share_memory(image, output) else image


@like_input
def grey_erosion(
    input: ArrayLike, size: PerAxis | None = None, footprint: ArrayLike | None = None,
    structure: ArrayLike | None = None, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0,
    origin: PerAxis = 0, *, axes: PerAxis | None = None, channel_axis: int | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Grey-scale erosion, a drop-in replacement of `scipy.ndimage.grey_erosion`: the minimum of windows.

    Parameters
    ----------
    input, output, mode, cval, origin, axes, channel_axis
        As in `maximum_filter`.
    size, footprint
        As in `maximum_filter`: a flat structuring element. One of the three must be given.
    structure : array_like, optional
        A structuring element's heights, which are subtracted before the minimum is taken; computed in float64.

    Returns
    -------
    ndarray
        As from `maximum_filter`.

    Raises
    ------
    ValueError, TypeError
        As `maximum_filter`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> image = np.zeros((5, 5), int); image[1:4, 1:4] = 3
    >>> ndimage.grey_erosion(image, size=(3, 3))[2]
    array([0, 0, 3, 0, 0])
    """
    return _erosion(input, size, footprint, structure, output, mode, cval, origin, axes, channel_axis)


@like_input
def grey_dilation(
    input: ArrayLike, size: PerAxis | None = None, footprint: ArrayLike | None = None,
    structure: ArrayLike | None = None, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0,
    origin: PerAxis = 0, *, axes: PerAxis | None = None, channel_axis: int | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Grey-scale dilation, a drop-in replacement of `scipy.ndimage.grey_dilation`: the maximum of turned windows.

    Parameters, result and errors are those of `grey_erosion`; heights are added, and the structuring element is turned
    around.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.grey_dilation([0, 0, 7, 0, 0], size=3)
    array([0, 7, 7, 7, 0])
    """
    return _dilation(input, size, footprint, structure, output, mode, cval, origin, axes, channel_axis)


@like_input
def grey_opening(
    input: ArrayLike, size: PerAxis | None = None, footprint: ArrayLike | None = None,
    structure: ArrayLike | None = None, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0,
    origin: PerAxis = 0, *, axes: PerAxis | None = None, channel_axis: int | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Grey-scale opening, a drop-in replacement of `scipy.ndimage.grey_opening`: a dilation of the erosion.

    Parameters, result and errors are those of `grey_erosion`.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.grey_opening([1, 9, 1, 5, 5, 5, 1], size=3)
    array([1, 1, 1, 5, 5, 5, 1])
    """
    _warned(size, footprint)
    return _opened(input, size, footprint, structure, output, mode, cval, origin, axes, channel_axis)


def _only(size: Any, footprint: Any) -> Any:
    """The size, where a footprint does not take its place."""
    return size if footprint is None else None


def _opened(
    input: Any, size: Any, footprint: Any, structure: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any,
    channel_axis: Any,
) -> np.ndarray:  # fmt: skip
    arguments.check_output(output, input)
    what = _only(size, footprint), footprint, structure
    told = mode, cval, origin, axes, channel_axis
    return _dilation(_erosion(input, *what, None, *told), *what, output, *told)


def _closed(
    input: Any, size: Any, footprint: Any, structure: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any,
    channel_axis: Any,
) -> np.ndarray:  # fmt: skip
    arguments.check_output(output, input)
    what = _only(size, footprint), footprint, structure
    told = mode, cval, origin, axes, channel_axis
    return _erosion(_dilation(input, *what, None, *told), *what, output, *told)


@like_input
def grey_closing(
    input: ArrayLike, size: PerAxis | None = None, footprint: ArrayLike | None = None,
    structure: ArrayLike | None = None, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0,
    origin: PerAxis = 0, *, axes: PerAxis | None = None, channel_axis: int | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Grey-scale closing, a drop-in replacement of `scipy.ndimage.grey_closing`: an erosion of the dilation.

    Parameters, result and errors are those of `grey_erosion`.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.grey_closing([9, 1, 9, 5, 5, 5, 9], size=3)
    array([9, 9, 9, 5, 5, 5, 9])
    """
    _warned(size, footprint)
    return _closed(input, size, footprint, structure, output, mode, cval, origin, axes, channel_axis)


@like_input
def morphological_gradient(
    input: ArrayLike, size: PerAxis | None = None, footprint: ArrayLike | None = None,
    structure: ArrayLike | None = None, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0,
    origin: PerAxis = 0, *, axes: PerAxis | None = None, channel_axis: int | None = None,
) -> NDArray[Any]:  # fmt: skip
    """The dilation less the erosion, a drop-in replacement of `scipy.ndimage.morphological_gradient`.

    Parameters, result and errors are those of `grey_erosion`; as in SciPy `output` counts if it is an array.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.morphological_gradient([1, 1, 4, 4, 4], size=3)
    array([0, 3, 3, 0, 0])
    """
    refuse("morphological_gradient", input)
    _check_difference(input, output)
    what, told = (size, footprint, structure), (mode, cval, origin, axes, channel_axis)
    dilated = _dilation(input, *what, None, *told)
    if isinstance(output, np.ndarray):
        _erosion(input, *what, output, *told)
        return np.subtract(dilated, output, output)
    return dilated - _erosion(input, *what, None, *told)


@like_input
def morphological_laplace(
    input: ArrayLike, size: PerAxis | None = None, footprint: ArrayLike | None = None,
    structure: ArrayLike | None = None, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0,
    origin: PerAxis = 0, *, axes: PerAxis | None = None, channel_axis: int | None = None,
) -> NDArray[Any]:  # fmt: skip
    """The dilation plus the erosion less twice the input, a drop-in replacement of
    `scipy.ndimage.morphological_laplace`.

    Parameters, result and errors are those of `grey_erosion`; as in SciPy `output` counts if it is an array.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.morphological_laplace([1, 1, 4, 4, 4], size=3)
    array([ 0,  3, -3,  0,  0])
    """
    image = _read("morphological_laplace", input, output)
    _check_difference(image, output)
    what, told = (size, footprint, structure), (mode, cval, origin, axes, channel_axis)
    dilated = _dilation(image, *what, None, *told)
    eroded = _erosion(image, *what, output if isinstance(output, np.ndarray) else None, *told)
    np.add(dilated, eroded, eroded)
    np.subtract(eroded, image, eroded)
    return np.subtract(eroded, image, eroded)


def _check_difference(input: Any, output: Any) -> None:
    """Check an image whose results are subtracted, and an `output`."""
    arguments.check_output(output, input)
    if arguments.image(input).dtype == np.bool_:
        raise TypeError("numpy boolean subtract: bools have no difference, input must be of numbers, got "
                        f"{shown(input)}")  # fmt: skip


def _difference(one: np.ndarray, other: np.ndarray, out: np.ndarray) -> np.ndarray:
    """`one` less `other`; of bools, which have no difference, where they differ."""
    both_bool = one.dtype == np.bool_ and other.dtype == np.bool_
    return (np.bitwise_xor if both_bool else np.subtract)(one, other, out=out)


@like_input
def white_tophat(
    input: ArrayLike, size: PerAxis | None = None, footprint: ArrayLike | None = None,
    structure: ArrayLike | None = None, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0,
    origin: PerAxis = 0, *, axes: PerAxis | None = None, channel_axis: int | None = None,
) -> NDArray[Any]:  # fmt: skip
    """The input less its opening, a drop-in replacement of `scipy.ndimage.white_tophat`.

    Parameters, result and errors are those of `grey_erosion`.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.white_tophat([1, 9, 1, 5, 5, 5, 1], size=3)
    array([0, 8, 0, 0, 0, 0, 0])
    """
    _warned(size, footprint)
    image = _read("white_tophat", input, output)
    made = _opened(image, size, footprint, structure, output, mode, cval, origin, axes, channel_axis)
    return _difference(image, made, made)


@like_input
def black_tophat(
    input: ArrayLike, size: PerAxis | None = None, footprint: ArrayLike | None = None,
    structure: ArrayLike | None = None, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0,
    origin: PerAxis = 0, *, axes: PerAxis | None = None, channel_axis: int | None = None,
) -> NDArray[Any]:  # fmt: skip
    """The closing less the input, a drop-in replacement of `scipy.ndimage.black_tophat`.

    Parameters, result and errors are those of `grey_erosion`.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.black_tophat([9, 1, 9, 5, 5, 5, 9], size=3)
    array([0, 8, 0, 0, 0, 0, 0])
    """
    _warned(size, footprint)
    image = _read("black_tophat", input, output)
    made = _closed(image, size, footprint, structure, output, mode, cval, origin, axes, channel_axis)
    return _difference(made, image, made)
