"""Filters of images as other libraries compute them: calls that give what a filter of `fastconv.ndimage` does.

Each function takes a filter's name, the image and all other arguments by name, and returns a function without
arguments; None if the library has no such filter, or another boundary. The libraries are imported when they are asked
for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

Call = Callable[[], Any]

#: What other libraries lack, with the values that mean what they do.
_OURS_ONLY: dict[str, Any] = {
    "saturate": False, "precision": None, "nan_policy": "propagate", "mask": None,
    "min_periods": 1, "algorithm": "auto", "device": None,
}  # fmt: skip


def named(function: Callable[..., Any], x: np.ndarray, *args: Any, **options: Any) -> dict[str, Any]:
    """The arguments of a call behind the image by name, with the defaults of those that are not given."""
    bound = inspect.signature(function).bind(x, *args, **options)
    bound.apply_defaults()
    return dict(list(bound.arguments.items())[1:])


def scipy(name: str, x: np.ndarray, arguments: Mapping[str, Any]) -> Call | None:
    """SciPy's filter of the same name, on one thread."""
    import scipy.ndimage

    function = getattr(scipy.ndimage, name, None)
    if function is None:
        return None
    given = _common(x, arguments)
    if given is None:
        return None
    known = inspect.signature(function).parameters
    if "axes" in given and "axes" not in known:
        if given["axes"] is not None:
            return _scipy_sobel(x, **given) if name == "sobel" else None
        del given["axes"]
    return (lambda: function(x, **given)) if given.keys() <= known.keys() else None


def _scipy_sobel(x: np.ndarray, axis: int, output: Any, mode: str, cval: float, axes: tuple[int, ...]) -> Call:
    """SciPy's filters along one axis in place of its Sobel filter, which takes no `axes`."""
    import scipy.ndimage

    def passes() -> np.ndarray:
        made = scipy.ndimage.correlate1d(x, [-1, 0, 1], axes[axis], output, mode, cval)
        for other in axes[:axis % len(axes)] + axes[axis % len(axes) + 1 :]:
            made = scipy.ndimage.correlate1d(made, [1, 2, 1], other, output, mode, cval)
        return made

    return passes


def _common(x: np.ndarray, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments in SciPy's words; None if it has none for them."""
    given = dict(arguments)
    channel = given.pop("channel_axis", None)
    if channel is not None:
        given["axes"] = tuple(axis for axis in range(x.ndim) if axis != channel % x.ndim)
    for label, value in _OURS_ONLY.items():
        told = given.pop(label, value)
        if told is not value and (isinstance(told, np.ndarray) or told != value):
            return None
    return given


#: Names of boundary modes in OpenCV.
_BORDERS = {"reflect": "REFLECT", "grid-mirror": "REFLECT", "mirror": "REFLECT_101", "nearest": "REPLICATE"}
#: Names of dtypes that OpenCV filters.
_DEPTHS = ("uint8", "uint16", "int16", "float32", "float64")


def opencv(name: str, x: np.ndarray, arguments: Mapping[str, Any]) -> Call | None:
    """OpenCV's filter, of as many threads as `cv2.setNumThreads` says; grey images, and colours on the last axis."""
    given = _common(x, arguments)
    channels = arguments.get("channel_axis")
    flat = x.ndim == 2 if channels is None else x.ndim == 3 and channels % 3 == 2
    if given is None or not flat or x.dtype.name not in _DEPTHS or given.get("origin", 0) not in (0, (0, 0), [0, 0]):
        return None
    if channels is None and given.get("axes") not in (None, (0, 1)):
        return None
    mode, size, output = given.get("mode"), given.get("size"), given.get("output")
    if mode not in _BORDERS or given.get("footprint") is not None or given.get("structure") is not None:
        return None
    cv2 = import_module("cv2")
    border = {"borderType": getattr(cv2, f"BORDER_{_BORDERS[mode]}")}
    sizes = (size, size) if isinstance(size, int) else tuple(size) if size is not None else None
    if name == "correlate" and np.ndim(given["weights"]) == 2 and output is None:
        kernel = np.asarray(given["weights"], np.float64)
        anchor = (kernel.shape[1] // 2, kernel.shape[0] // 2)
        return lambda: cv2.filter2D(x, -1, kernel, anchor=anchor, **border)
    if name == "gaussian_filter" and _is_number(given["sigma"]) and not given["order"] and output is None:
        radius = given["radius"] if given["radius"] is not None else int(given["truncate"] * given["sigma"] + 0.5)
        window = 2 * radius + 1
        return lambda: cv2.GaussianBlur(x, (window, window), given["sigma"], **border)
    if sizes is not None and output is None and all(value % 2 for value in sizes):
        high, wide = sizes
        ones = np.ones(sizes, np.uint8)
        calls: dict[str, Call] = {
            "uniform_filter": lambda: cv2.blur(x, (wide, high), **border),
            "maximum_filter": lambda: cv2.dilate(x, ones, **border),
            "minimum_filter": lambda: cv2.erode(x, ones, **border),
            "grey_dilation": lambda: cv2.dilate(x, ones, **border),
            "grey_erosion": lambda: cv2.erode(x, ones, **border),
            "grey_opening": lambda: cv2.morphologyEx(x, cv2.MORPH_OPEN, ones, **border),
            "grey_closing": lambda: cv2.morphologyEx(x, cv2.MORPH_CLOSE, ones, **border),
        }
        if high == wide and mode == "nearest" and (high <= 5 or x.dtype == np.uint8) and x.dtype != np.float64:
            calls["median_filter"] = lambda: cv2.medianBlur(x, high)
        return calls.get(name)
    depth = None if output is None else np.dtype(output).name
    depths = {None: -1, "int16": cv2.CV_16S, "float32": cv2.CV_32F, "float64": cv2.CV_64F}
    if depth in depths and name == "laplace":
        return lambda: cv2.Laplacian(x, depths[depth], **border)
    if depth in depths and name == "sobel":
        across = given["axis"] % 2  # counted without the channels
        return lambda: cv2.Sobel(x, depths[depth], across, 1 - across, **border)
    return None


def skimage(name: str, x: np.ndarray, arguments: Mapping[str, Any]) -> Call | None:
    """scikit-image's filter, of grey images and, of a Gaussian, of colours."""
    given = _common(x, arguments)
    if given is None or given.get("output") is not None or given.get("origin", 0) != 0 or given.get("order"):
        return None
    if name == "gaussian_filter" and given["radius"] is None and x.dtype.kind == "f":
        gaussian = import_module("skimage.filters").gaussian
        told = {"mode": given["mode"], "cval": given["cval"], "truncate": given["truncate"], "preserve_range": True}
        axis = arguments.get("channel_axis")
        return lambda: gaussian(x, given["sigma"], channel_axis=axis, **told)
    size = given.get("size")
    if name == "median_filter" and isinstance(size, int) and given.get("footprint") is None and x.ndim == 2:
        median = import_module("skimage.filters").median
        footprint = np.ones((size, size), bool)
        return lambda: median(x, footprint, mode=given["mode"], cval=given["cval"])
    return None


#: By the names that `compare` gives them.
PEERS: dict[str, Callable[[str, np.ndarray, Mapping[str, Any]], Call | None]] = {
    "scipy": scipy, "opencv": opencv, "scikit-image": skimage,
}  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
