"""`scipy.ndimage`, its filters computed by this package's kernels: ``import fastconv.ndimage as ndi`` is the whole
change.

Arguments, defaults, result dtypes and rounding are SciPy's. Names that are not filters are SciPy's own functions.

Linear filters, maxima, minima, and grey erosion, dilation, opening and closing by flat windows take arrays on an NVIDIA
GPU, too (PyTorch, CuPy, Numba), on their owner's current stream, with windows from NumPy; the result is one of the
same library. By ``device="cuda"`` NumPy arrays travel there and back. There integers of 64 bits are exact, as here, but
in means, and where the result's dtype is a float's: these are float64's. Everything else says that it is for NumPy
arrays only.
"""

from __future__ import annotations

from typing import Any

from .along_each import separable_filter as separable_filter  # for `fastconv`
from .binary import binary_closing, binary_dilation, binary_erosion, binary_opening
from .derivatives import (
    gaussian_gradient_magnitude,
    gaussian_laplace,
    generic_gradient_magnitude,
    generic_laplace,
    laplace,
    prewitt,
    sobel,
)
from .extrema import maximum_filter, maximum_filter1d, minimum_filter, minimum_filter1d
from .linear import convolve, convolve1d, correlate, correlate1d
from .morphology import (
    black_tophat,
    grey_closing,
    grey_dilation,
    grey_erosion,
    grey_opening,
    morphological_gradient,
    morphological_laplace,
    white_tophat,
)
from .order import median_filter, percentile_filter, rank_filter
from .others import of_any_library
from .smoothing import gaussian_filter, gaussian_filter1d, uniform_filter, uniform_filter1d
from .spread import std_filter, variance_filter

__all__ = [
    "binary_closing",
    "binary_dilation",
    "binary_erosion",
    "binary_opening",
    "black_tophat",
    "convolve",
    "convolve1d",
    "correlate",
    "correlate1d",
    "gaussian_filter",
    "gaussian_filter1d",
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "generic_gradient_magnitude",
    "generic_laplace",
    "grey_closing",
    "grey_dilation",
    "grey_erosion",
    "grey_opening",
    "laplace",
    "maximum_filter",
    "maximum_filter1d",
    "median_filter",
    "minimum_filter",
    "minimum_filter1d",
    "morphological_gradient",
    "morphological_laplace",
    "percentile_filter",
    "prewitt",
    "rank_filter",
    "sobel",
    "std_filter",
    "uniform_filter",
    "uniform_filter1d",
    "variance_filter",
    "white_tophat",
]


for _name in (*__all__, "separable_filter"):
    globals()[_name] = of_any_library(globals()[_name])


def __getattr__(name: str) -> Any:
    """SciPy's own, for every name that is not here."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import scipy.ndimage  # late, because it takes longer to load than all of this package

    return getattr(scipy.ndimage, name)


def __dir__() -> list[str]:
    import scipy.ndimage

    return sorted({*globals(), *dir(scipy.ndimage)})
