"""Binary morphology."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base.values import shown
from ..functional.device import orders, refuse
from ..specs.boundary import Boundary
from ..typing import Output, PerAxis, like_input
from . import arguments, reach
from .arguments import ArgumentError
from .morphology import mirrored

#: Steps ahead from which it pays to see whether a step changed anything: to compare images takes as long as a step.
_WORTH_A_LOOK = 8
#: Steps ahead from which it pays to look for images that come back: as many more comparisons of images.
_WORTH_A_CYCLE = 200
#: Most steps: any number that another program could hold.
MOST_ITERATIONS = 2**63 - 1

__all__ = ["binary_closing", "binary_dilation", "binary_erosion", "binary_opening"]


def cross(ndim: int) -> np.ndarray:
    """The structuring element of an element and its neighbours along each axis."""
    return np.abs(np.indices((3,) * ndim) - 1).sum(0) <= 1


def _image(input: Any) -> np.ndarray:
    """What is not 0 in an image, as bytes: C-contiguous, writeable by its type."""
    array = arguments.image(input)
    if array.dtype == np.bool_ and array.flags.carray:
        return array.view(np.uint8)
    return np.ascontiguousarray(array != 0).view(np.uint8).reshape(array.shape)


def _placed(
    structure: Any, origin: Any, shape: tuple[int, ...], axes: tuple[int, ...]
) -> tuple[np.ndarray, list[int]]:  # fmt: skip
    """A structuring element and its origins over all axes of an image, as SciPy places them: see `order`."""
    inner, origins, ndim = sorted(axes), arguments.per_axis("origin", origin, len(axes)), len(shape)
    members = arguments.members("structure", structure)
    arguments.fitting("structure", structure, members.ndim, axes, shape)
    if members.size < 1:
        raise ArgumentError(f"structure must not be empty, got {shown(structure)}")
    sizes, places = [1] * ndim, [0] * ndim
    for axis, size in zip(inner, members.shape, strict=True):
        sizes[axis] = size
    for axis, one in zip(axes if len(axes) < ndim else inner, origins, strict=True):
        places[axis] = arguments.index("origin", one, origin)
    return members.reshape(sizes), places


def _steps(
    input: Any, structure: Any, iterations: Any, mask: Any, output: Any, border_value: Any, origin: Any,
    axes: Any, dilates: bool,
) -> np.ndarray:  # fmt: skip
    """Erosions, or dilations, by a structuring element that is turned around for these: as often as is said."""
    try:
        count = operator.index(iterations)
    except TypeError:
        raise TypeError(f"iterations parameter should be an integer, got {shown(iterations)}") from None
    if abs(count) > MOST_ITERATIONS:
        raise ValueError(f"iterations must be at most {MOST_ITERATIONS}, got {shown(iterations)}")
    refuse("binary morphology", input)
    x = _image(input)
    given = np.asarray(input)
    over = arguments.axes(axes, x.shape)
    members, origins = _placed(cross(len(over)) if structure is None else structure, origin, x.shape, over)
    if dilates:
        members, origins = np.flip(members), mirrored(members.shape, origins)
    before = tuple(arguments.before(size, one, origin) for size, one in zip(members.shape, origins, strict=True))
    if reach.listening:
        reach.box(members.shape, before, (Boundary.CONSTANT,) * x.ndim, count if count > 0 else arguments.MOST_TAPS)
    where, border = None, arguments.flag("border_value", border_value)
    if mask is not None:
        where = arguments.members("mask", mask)
        if where.shape != x.shape:
            raise ArgumentError(f"mask and input must have equal sizes: mask must have shape {x.shape}, got "
                                f"{shown(mask)}")  # fmt: skip
        where = where.view(np.uint8)
    _check_output(output, given)
    result = arguments.result(output if isinstance(output, np.ndarray) else bool, given)
    if x.size:
        if not x.ndim:  # an image without axes, as one with an axis of one element
            x, members, before = x.reshape(1), members.reshape(1), (0,)
            where = None if where is None else where.reshape(1)
        made = _repeated(x, members, before, count, where, border, "max" if dilates else "min")
        np.copyto(result.target, made.view(bool).reshape(given.shape), casting="unsafe")
    return result.deliver()


def _check_output(output: Any, input: Any) -> None:
    """Check an `output` before anything runs; as in SciPy nothing but an array counts."""
    if isinstance(output, np.ndarray) and np.iscomplexobj(output):
        raise TypeError(f"Complex output type not supported: output has dtype {output.dtype}")
    arguments.check_output(output, input)


def _repeated(
    x: np.ndarray, members: np.ndarray, before: tuple[int, ...], count: int, mask: np.ndarray | None, border: bool,
    name: str,
) -> np.ndarray:  # fmt: skip
    """Apply the "max" or "min" of windows so many times, or until nothing changes if that is less than 1.

    Images that come back, which Brent's way finds, are an error there; many steps leave out all that go round.
    """
    footprint = None if members.all() else np.ascontiguousarray(members).tobytes()
    modes = (Boundary.CONSTANT,) * x.ndim
    what = orders().Problem(x.shape, x.dtype, members.shape, before, modes, np.uint8(border), footprint)
    made, spare = np.empty_like(x), None
    done, seen, period, since = 0, x, 1, 0
    while True:
        orders().extremum(what, name, x, made)
        if mask is not None:
            np.copyto(made, x, where=mask == 0)
        done, since = done + 1, since + 1
        if done == count or ((count < 1 or count - done > _WORTH_A_LOOK) and np.array_equal(made, x)):
            return made
        looks = count < 1 or count - done > _WORTH_A_CYCLE
        if looks and since > 1 and np.array_equal(made, seen):
            if count < 1:
                raise ValueError(f"iterations={count} asks for steps until nothing changes, but after {done} of them "
                                 f"the image is what it was {since} steps before")  # fmt: skip
            count = done + (count - done) % since
            if done == count:
                return made
        if looks and since == period:
            seen, period, since = made.copy(), 2 * period, 0
        x, made, spare = made, np.empty_like(x) if spare is None else spare, x if done > 1 else None


@like_input
def binary_erosion(
    input: ArrayLike, structure: ArrayLike | None = None, iterations: int = 1, mask: ArrayLike | None = None,
    output: Output = None, border_value: int = 0, origin: PerAxis = 0, brute_force: bool = False, *,
    axes: PerAxis | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Binary erosion, a drop-in replacement of `scipy.ndimage.binary_erosion`: where the structuring element, moved
    there, lies inside what is not 0.

    Parameters
    ----------
    input : array_like
        Image of real numbers, of any number of axes up to 8; what is not 0 counts.
    structure : array_like of bool, optional
        The structuring element, by default an element and its neighbours along each axis.
    iterations : int
        How often; less than 1: until nothing changes.
    mask : array_like of bool, optional
        Only elements where it is True change.
    output : ndarray, optional
        Where the result goes.
    border_value : int
        What lies outside: 0, or any other number for 1.
    origin : int or sequence of ints
        Elements by which the structuring element is shifted.
    brute_force : bool
        Taken for SciPy's sake: all elements are looked at in each step.
    axes : tuple of ints, optional
        The axes that it has, by default all.

    Returns
    -------
    ndarray
        Bools of the input's shape.

    Raises
    ------
    ValueError, TypeError
        If an argument is none of these; if steps "until nothing changes" would never end.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.binary_erosion([0, 1, 1, 1, 1, 0]).astype(int)
    array([0, 0, 1, 1, 0, 0])
    """
    arguments.flag("brute_force", brute_force)
    return _steps(input, structure, iterations, mask, output, border_value, origin, axes, False)


@like_input
def binary_dilation(
    input: ArrayLike, structure: ArrayLike | None = None, iterations: int = 1, mask: ArrayLike | None = None,
    output: Output = None, border_value: int = 0, origin: PerAxis = 0, brute_force: bool = False, *,
    axes: PerAxis | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Binary dilation, a drop-in replacement of `scipy.ndimage.binary_dilation`: what the structuring element covers as
    it is moved over what is not 0.

    Parameters, result and errors are those of `binary_erosion`.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.binary_dilation([0, 0, 1, 0, 0, 0], iterations=2).astype(int)
    array([1, 1, 1, 1, 1, 0])
    """
    arguments.flag("brute_force", brute_force)
    return _steps(input, structure, iterations, mask, output, border_value, origin, axes, True)


@like_input
def binary_opening(
    input: ArrayLike, structure: ArrayLike | None = None, iterations: int = 1, output: Output = None,
    origin: PerAxis = 0, mask: ArrayLike | None = None, border_value: int = 0, brute_force: bool = False, *,
    axes: PerAxis | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Binary opening, a drop-in replacement of `scipy.ndimage.binary_opening`: dilations of erosions.

    Parameters, result and errors are those of `binary_erosion`, and so often both are made.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.binary_opening([0, 1, 0, 1, 1, 1, 0]).astype(int)
    array([0, 0, 0, 1, 1, 1, 0])
    """
    _check_output(output, input)
    told = iterations, mask
    eroded = binary_erosion(input, structure, *told, None, border_value, origin, brute_force, axes=axes)
    return binary_dilation(eroded, structure, *told, output, border_value, origin, brute_force, axes=axes)


@like_input
def binary_closing(
    input: ArrayLike, structure: ArrayLike | None = None, iterations: int = 1, output: Output = None,
    origin: PerAxis = 0, mask: ArrayLike | None = None, border_value: int = 0, brute_force: bool = False, *,
    axes: PerAxis | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Binary closing, a drop-in replacement of `scipy.ndimage.binary_closing`: erosions of dilations.

    Parameters, result and errors are those of `binary_erosion`, and so often both are made.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.binary_closing([0, 1, 1, 0, 1, 1, 0, 0]).astype(int)
    array([0, 1, 1, 1, 1, 1, 0, 0])
    """
    _check_output(output, input)
    told = iterations, mask
    dilated = binary_dilation(input, structure, *told, None, border_value, origin, brute_force, axes=axes)
    return binary_erosion(dilated, structure, *told, output, border_value, origin, brute_force, axes=axes)
