"""fastconv: convolution and pooling kernels written in Numba, called from plain NumPy code."""

import sys as _sys
import typing as _typing

from . import cache, grad, ndimage, nn, numba, signal, wisdom
from .functional.adaptive_pool import adaptive_avg_pool2d, adaptive_max_pool2d
from .functional.avg_pool import avg_pool1d, avg_pool2d, avg_pool3d
from .functional.conv import conv1d, conv2d, conv3d, corr2d
from .functional.conv_transpose import conv_transpose1d, conv_transpose2d, conv_transpose3d
from .functional.lp_pool import lp_pool1d, lp_pool2d, lp_pool3d
from .functional.max_pool import max_pool1d, max_pool2d, max_pool3d, max_unpool2d
from .functional.min_pool import min_pool1d, min_pool2d, min_pool3d
from .functional.plans import plan_conv1d, plan_conv2d, plan_conv3d
from .functional.plans_transposed import plan_conv_transpose1d, plan_conv_transpose2d, plan_conv_transpose3d
from .functional.settings import algorithms, get_num_threads, num_threads, set_num_threads
from .functional.shapes import output_shape, receptive_field
from .functional.unfold import corr2d_matrix, fold2d, unfold2d
from .ndimage import separable_filter
from .tools.compare import compare
from .warming.warmup import warmup

if _typing.TYPE_CHECKING:
    from .tools.explain.call import explain
    from .tools.explain.stack import explain_stack

    #: The version of the installed package, of which ``pyproject.toml`` is the one home.
    __version__: str
else:

    def __getattr__(name):
        """What is loaded when it is first asked for: `explain` and `explain_stack`, and the version."""
        if name in ("explain", "explain_stack"):
            from .tools.explain.call import explain
            from .tools.explain.stack import explain_stack

            globals().update(explain=explain, explain_stack=explain_stack)
            return globals()[name]
        if name == "__version__":
            from importlib import metadata  # it takes as long to load as all of this package

            try:
                return metadata.version("fastconv")
            except metadata.PackageNotFoundError:  # a folder of sources that nobody has installed
                return "0+unknown"
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "algorithms",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "cache",
    "compare",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "corr2d",
    "corr2d_matrix",
    "explain",
    "explain_stack",
    "fold2d",
    "get_num_threads",
    "grad",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool2d",
    "min_pool1d",
    "min_pool2d",
    "min_pool3d",
    "ndimage",
    "nn",
    "num_threads",
    "numba",
    "output_shape",
    "plan_conv1d",
    "plan_conv2d",
    "plan_conv3d",
    "plan_conv_transpose1d",
    "plan_conv_transpose2d",
    "plan_conv_transpose3d",
    "receptive_field",
    "separable_filter",
    "set_num_threads",
    "signal",
    "unfold2d",
    "warmup",
    "wisdom",
]

# Numba asks packages once, when it first compiles, and may have: then nobody has told it of this one.
if getattr(_asked := _sys.modules.get("numba.core.entrypoints"), "_already_initialized", _asked is not None):
    numba.declare()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
