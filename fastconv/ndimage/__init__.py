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

from typing import TYPE_CHECKING, Any

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


if TYPE_CHECKING:  # a type checker that saw `__getattr__` would believe every name to be there
    # isort: off
    from scipy.ndimage import (  # fmt: skip
        affine_transform as affine_transform, binary_fill_holes as binary_fill_holes,
        binary_hit_or_miss as binary_hit_or_miss, binary_propagation as binary_propagation,
        center_of_mass as center_of_mass, distance_transform_bf as distance_transform_bf,
        distance_transform_cdt as distance_transform_cdt, distance_transform_edt as distance_transform_edt,
        extrema as extrema, find_objects as find_objects, fourier_ellipsoid as fourier_ellipsoid,
        fourier_gaussian as fourier_gaussian, fourier_shift as fourier_shift, fourier_uniform as fourier_uniform,
        generate_binary_structure as generate_binary_structure, generic_filter as generic_filter,
        generic_filter1d as generic_filter1d, geometric_transform as geometric_transform, histogram as histogram,
        iterate_structure as iterate_structure, label as label, labeled_comprehension as labeled_comprehension,
        map_coordinates as map_coordinates, maximum as maximum, maximum_position as maximum_position, mean as mean,
        median as median, minimum as minimum, minimum_position as minimum_position, rotate as rotate, shift as shift,
        spline_filter as spline_filter, spline_filter1d as spline_filter1d, standard_deviation as standard_deviation,
        sum as sum, sum_labels as sum_labels, value_indices as value_indices, variance as variance,
        vectorized_filter as vectorized_filter, watershed_ift as watershed_ift, zoom as zoom,
    )
    # isort: on
else:

    def __getattr__(name: str) -> Any:
        """SciPy's own, for every name that is not here."""
        if name.startswith("__"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import scipy.ndimage  # late, because it takes longer to load than all of this package

        return getattr(scipy.ndimage, name)


def __dir__() -> list[str]:
    import scipy.ndimage

    return sorted({*globals(), *dir(scipy.ndimage)})
