"""fastconv: convolution and pooling kernels written in Numba, called from plain NumPy code."""

from . import grad, signal, wisdom
from .api import algorithms, conv2d, corr2d, get_num_threads, plan_conv2d, set_num_threads
from .compare import compare
from .pool import avg_pool2d, lp_pool2d, max_pool2d
from .shapes import output_shape, receptive_field

__version__ = "0.1.0"
__all__ = [
    "algorithms",
    "avg_pool2d",
    "compare",
    "conv2d",
    "corr2d",
    "get_num_threads",
    "grad",
    "lp_pool2d",
    "max_pool2d",
    "output_shape",
    "plan_conv2d",
    "receptive_field",
    "set_num_threads",
    "signal",
    "wisdom",
]
