"""Arguments in the form that the GPU's calls take: NumPy arrays, or views of arrays on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base.devices import on_gpu
from ..specs.arrays import array
from ..specs.conv import ConvSpec
from ..specs.conv_transpose import TransposeSpec
from .system import arrays
from .system.arrays import Array
from .system.kernels import require

Operand = np.ndarray | Array


def operand(name: str, value: Any) -> Operand:
    """An argument in the form of this module, neither copied nor converted. RuntimeError if there is no GPU."""
    require()
    return arrays.view(name, value) if on_gpu(value) else array(name, value)


def check_together(a: Operand, a_name: str, b: Operand, b_name: str) -> None:
    """TypeError or ValueError unless both are NumPy arrays, or both are on one GPU."""
    if isinstance(a, np.ndarray) != isinstance(b, np.ndarray):
        names = (a_name, b_name) if isinstance(a, np.ndarray) else (b_name, a_name)
        raise TypeError(f"{names[0]} is a NumPy array, but {names[1]} is on a GPU: copy either to where the other is")
    if isinstance(a, Array) and isinstance(b, Array) and a.device != b.device:
        raise ValueError(f"{a_name} is on GPU {a.device}, {b_name} on GPU {b.device}")


def check_layout(spec: ConvSpec | TransposeSpec) -> None:
    """ValueError if the padding is not zeros, or the channels are not first, which kernels here take them for."""
    convolution = spec.convolution if isinstance(spec, TransposeSpec) else spec
    if convolution.padding_mode != "zeros":
        raise ValueError(f"padding_mode={convolution.padding_mode!r} is for device='cpu'; on a GPU padding is 'zeros': "
                         "pad the input first")
    if convolution.channels_last:
        raise ValueError(f"data_format={convolution.data_format!r} is for device='cpu'; on a GPU the channels come "
                         "first, in any strides: permute the input")
