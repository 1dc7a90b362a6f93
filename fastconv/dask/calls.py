"""Dask's side of the public functions: the verbs of `fastconv.cpu.calls`, from a spec and Dask arrays to a lazy result.

A spec is checked already. The arrays' blocks are computed where they are, by the CPU's verbs or by those of a GPU.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from ..base.libraries import is_dask
from ..base.values import shown
from ..specs.arrays import array
from ..specs.conv import ConvSpec, filter_spec
from ..specs.conv_transpose import TransposeSpec
from ..specs.dtypes import check_dtype, native
from ..specs.pool import PoolSpec
from .convolutions import Convolution, Transposed
from .graph import known, lazy, rechunked, threads
from .poolings import Pooling


class Calls:
    """The verbs, for arrays whose blocks are to be computed on a `device`; None: where they are."""

    def __init__(self, device: str | None) -> None:
        self._device = device

    def operand(self, name: str, value: Any) -> Any:
        """An argument: a Dask array of a supported dtype as it is, anything else as a NumPy array."""
        if not is_dask(value):
            return array(name, value)
        try:
            check_dtype(name, value.dtype)
        except TypeError as error:
            raise TypeError(f"{error}, got {shown(value)}") from None
        return known(value, name)

    def conv(
        self, spec: ConvSpec | TransposeSpec, x: Any, weight: Any, bias: Any, algorithm: str, out: Any
    ) -> Any:  # fmt: skip
        """A convolution, or a transposed one."""
        if isinstance(spec, TransposeSpec):
            transposed = Transposed(spec, algorithm, self._device, threads())
            return self._made("conv_transpose", transposed, x, [weight, bias], spec.out_dtype, out)
        return self._made("conv", Convolution(spec, algorithm, self._device, threads(), False), x, [weight, bias],
                          spec.out_dtype, out)  # fmt: skip

    def filter_recipe(
        self, x_shape: tuple[int, ...], weight_shape: tuple[int, ...], dtypes: tuple[np.dtype, ...], padding: Any,
        padding_mode: Any,
    ) -> Any:  # fmt: skip
        """What `filtered` needs of an image filter: its spec."""
        return SimpleNamespace(spec=filter_spec(x_shape, weight_shape, dtypes, padding, padding_mode))

    def filtered(self, this: Any, x: Any, kernel: Any, bias: Any) -> Any:
        """An image, correlated with one kernel."""
        operation = Convolution(this.spec, "auto", self._device, threads(), True)
        return self._made("corr2d", operation, x, [kernel, bias], this.spec.out_dtype, None)

    def pool(self, spec: PoolSpec, x: Any, return_indices: bool, algorithm: str, out: Any) -> Any:
        """A pooling; the pair (values, indices) if `return_indices`."""
        operation = Pooling(spec, return_indices, algorithm, self._device, threads())
        made = self._made(f"{spec.op}_pool", operation, x, [], spec.out_dtype, out)
        if not return_indices:
            return made
        return made.map_blocks(_item, 0, dtype=spec.out_dtype), made.map_blocks(_item, 1, dtype=np.int64)

    def _made(self, label: str, operation: Any, x: Any, operands: list[Any], dtype: Any, out: Any) -> Any:
        if out is not None:
            raise TypeError("out: not for Dask arrays, whose results are lazy")
        if operation.algorithm != "auto" and self._device != "cuda":
            from ..cpu import planner

            planner.choose(operation.spec, operation.algorithm)  # ValueError if it cannot do this
        x = rechunked(x, operation.axes)
        given = [one.rechunk(one.shape) if is_dask(one) else one for one in operands if one is not None]
        chunks = operation.chunks(x.chunks)
        return lazy(label, operation, [x], chunks, native("x", dtype), given)

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("__"):
            raise AttributeError(verb)
        raise TypeError("this function is not for Dask arrays: give it the blocks of one, by dask.array.map_blocks")


def _item(pair: Any, number: int) -> Any:
    return pair[number] if isinstance(pair, tuple) else pair
