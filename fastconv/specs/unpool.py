"""An `UnpoolSpec` is a call of `max_unpool2d`, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .arguments import Pair, pair
from .axes import by
from .conv import HashedOnce, short
from .dtypes import native


@dataclass(frozen=True)
class UnpoolSpec(HashedOnce):
    """One unpooling, all checks passed."""

    x_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dtype: np.dtype
    windows: tuple[Pair, ...] = ()
    """Their size, stride and padding, of which the maxima are."""

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        """The sizes, and what they follow from."""
        windows = zip(("kernel_size", "stride", "padding"), self.windows, strict=False)
        sizes = f"{by(self.x_shape)} {self.dtype}, output {by(self.output_shape)}"
        return ", ".join([sizes, *(f"{name} {short(value)}" for name, value in windows)])

    @cached_property
    def planes(self) -> int:
        """Images times channels: each plane is unpooled on its own."""
        return math.prod(self.x_shape[:-2])


def unpool_spec(
    x: Any, places: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> UnpoolSpec:  # fmt: skip
    """Check the arguments of `max_unpool2d`; ValueError or TypeError if one does not fit."""
    if len(x.shape) not in (2, 3, 4) or min(x.shape[-3:]) < 1:
        raise ValueError(f"x must have shape (N, C, OH, OW), (C, OH, OW) or (OH, OW), no axis but N empty, got "
                         f"{x.shape}")
    if places.shape != x.shape:
        raise ValueError(f"indices has shape {places.shape}, but x has shape {x.shape}")
    if places.dtype.kind not in "iu":
        raise TypeError(f"indices must be integers, got dtype {places.dtype}")
    kernel = pair("kernel_size", kernel_size, 1)
    steps = kernel if stride is None else pair("stride", stride, 1)
    pads = pair("padding", padding, 0)
    natural = tuple(
        [(count - 1) * step - 2 * pad + taps
         for count, step, pad, taps in zip(x.shape[-2:], steps, pads, kernel, strict=True)]
    )  # fmt: skip
    size = natural if output_size is None else pair("output_size", output_size, 1)
    for given, usual, step in zip(size, natural, steps, strict=True):
        if given < 1 or abs(given - usual) >= step:
            raise ValueError(f"output_size must be positive and differ by less than the stride {steps} from {natural}, "
                             f"got {size} (x of shape {x.shape}, kernel_size {kernel}, padding {pads})")
    return UnpoolSpec(x.shape, (*x.shape[:-2], *size), native("x", x.dtype), (kernel, steps, pads))


def check_places(places: np.ndarray, shape: tuple[int, ...]) -> None:
    """ValueError unless all indices lie within a plane."""
    low, high, size = int(places.min()), int(places.max()), math.prod(shape[-2:])
    if low < 0 or high >= size:
        raise ValueError(f"indices must be from 0 to {size - 1}, got {low if low < 0 else high}")
