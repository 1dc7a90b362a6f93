"""Volumes by the algorithms for images, as in `fastconv.cpu.shared.volumes`: the entries of `CONV3D` and `POOL3D`.

::

    out[n, o, k, i, j] = bias[o] + sum over c, e, a, b of weight[o, c, e, a, b] * x[n, c, z(k, e), row(i, a), col(j, b)]
                                                          z(k, e) = k * stride_d - front + e * dilation_d

The planes k of one volume of output are a batch of images, whose channels are the planes (e, c) of the input that they
see. A tensor may have any steps, so images may share memory: the planes, and zeros for the padding, are copied once, in
the order (z, c). Image k begins k * stride_d planes behind the first, and its kd * c channels follow in a row. Only for
groups or a dilated depth is a set of planes copied for each image, kd times as many. Results are written where they
belong, in any layout; a kernel one plane deep reads x in place.

Windows of a pooling are boxes, and boxes are separable: planes are pooled first, and then the depth, in images of d
rows of oh * ow pixels.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from ...specs.axes import FLAT
from ...specs.conv import ConvSpec
from ...specs.dtypes import computed
from ...specs.pool import PoolSpec, over_depth, over_planes
from ..machine import Machine, this_machine
from ..system.kernels import cuda, factory, integers, pick, pointer, storage
from ..system.streams import Buffer, Stream, Tensor, behind, dense
from .convert import converted

NO_PADDING = (0, 0)
BLOCK = pick(256, 8)


# -- convolution ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def planes(spec: ConvSpec) -> ConvSpec:
    """The convolution of images that gives the planes of one volume."""
    depth = spec.depth
    return replace(spec, batched=True, n=depth.od, c_in=spec.c_in * depth.kd, axes=2, depth=FLAT)


def _in_place(spec: ConvSpec) -> bool:
    return spec.depth.kd == 1 and spec.depth.padding == NO_PADDING


def _copied(spec: ConvSpec) -> tuple[int, int, int, int]:
    """The planes that are copied of one volume: images, groups, planes of a group, channels of a group."""
    depth = spec.depth
    if spec.groups == 1 and depth.dilation == 1:
        return 1, 1, (depth.od - 1) * depth.stride + depth.kd, spec.c_in
    return depth.od, spec.groups, depth.kd, spec.c_in // spec.groups


def _copied_elements(spec: ConvSpec) -> int:
    return 0 if _in_place(spec) else math.prod(_copied(spec)) * spec.h * spec.w


class Convolution:
    """An algorithm for images, applied to volumes under the contract of algorithms; x and out have five axes."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.__name__ = module.__name__

    def supports(self, spec: ConvSpec) -> str | None:
        if _copied_elements(spec) >= 1 << 31:
            return f"{_copied_elements(spec)} elements of planes to copy are too many for 32-bit indices"
        return self.module.supports(planes(spec))

    def cost(self, spec: ConvSpec, machine: Machine) -> float:
        moved = 2 * _copied_elements(spec) * spec.dtype.itemsize
        copying = machine.launch + moved / machine.bandwidth if moved else 0.0
        return spec.n * (self.module.cost(planes(spec), machine) + copying)

    def scratch(self, spec: ConvSpec) -> int:
        return _copied_elements(spec) * spec.dtype.itemsize + self.module.scratch(planes(spec))

    def prepare(self, spec: ConvSpec, weight: Tensor, stream: Stream) -> Any:
        part, (o, c, e, a, b) = planes(spec), weight.strides
        c_out, c_group, kd, kh, kw = weight.shape
        planes_first = replace(weight, shape=(c_out, kd, c_group, kh, kw), strides=(o, e, c, a, b))
        planes_first = converted(planes_first, weight.dtype, stream, copy=True)
        return self.module.prepare(part, dense(planes_first.owner, part.weight_shape), stream)

    def run(self, spec: ConvSpec, x: Tensor, packed: Any, bias: Buffer, out: Tensor, stream: Stream) -> None:
        part, depth = planes(spec), spec.depth
        each, plane = _copied(spec), spec.h * spec.w
        copies = stream.empty(_copied_elements(spec), x.dtype)
        images, _, _, channels = each
        image = depth.stride * channels * plane if images == 1 else math.prod(each[1:]) * plane
        for n in range(spec.n):
            volume, (_, c, z, i, j) = behind(x, n * x.strides[0]), x.strides
            if _in_place(spec):
                seen = replace(volume, shape=part.kernel_shapes[0], strides=(z * depth.stride, c, i, j))
            else:
                geometry = depth.stride, depth.padding[0], depth.dilation, depth.d
                stream.launch(_gather(x.dtype), -(-copies.size // BLOCK), BLOCK, volume.pointer, (c, z, i, j),
                              copies.pointer, (copies.size, *each), (spec.h, spec.w), geometry)
                seen = Tensor(copies.pointer, x.dtype, part.kernel_shapes[0], (image, plane, spec.w, 1), copies)
            _, o, k, i, j = out.strides
            target = replace(behind(out, n * out.strides[0]), shape=part.kernel_shapes[2], strides=(k, o, i, j))
            self.module.run(part, seen, packed, bias, target, stream)


@factory
def _gather(dtype):
    zero = storage(dtype).type(0)

    def gather(x, x_steps, out, sizes, plane, geometry):
        """One thread for each element of the planes (image, group, e, channel); planes of the padding are zeros."""
        size, _, groups, kd, channels = sizes
        stride, front, dilation, d = geometry
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at < size:
            j, i, rest = at % plane[1], at // plane[1] % plane[0], at // plane[1] // plane[0]
            c, e = rest % channels, rest // channels % kd
            group, k = rest // channels // kd % groups, rest // channels // kd // groups
            z = k * stride - front + e * dilation
            value = zero
            if 0 <= z < d:
                value = x[(group * channels + c) * x_steps[0] + z * x_steps[1] + i * x_steps[2] + j * x_steps[3]]
            out[at] = value

    signature = (pointer(dtype), integers(4), pointer(dtype), integers(5), integers(2), integers(4))
    return signature, gather


# -- pooling -------------------------------------------------------------------------------------------------


class Pooling:
    """An algorithm for planes, applied to volumes; the fastest algorithm of a table pools the depth."""

    def __init__(self, module: Any, table: tuple[Any, ...]) -> None:
        self.module = module
        self.table = table
        self.__name__ = module.__name__

    def _fastest(self, spec: PoolSpec) -> Any:
        able = [module for module in self.table if module.supports(spec) is None]
        return min(able, key=lambda module: module.cost(spec, this_machine()))

    def supports(self, spec: PoolSpec) -> str | None:
        return self.module.supports(_passes(spec)[0])

    def cost(self, spec: PoolSpec, machine: Machine) -> float:
        flat, deep = _passes(spec)
        return self.module.cost(flat, machine) + self._fastest(deep).cost(deep, machine)

    def scratch(self, spec: PoolSpec) -> int:
        flat, deep = _passes(spec)
        between = spec.planes * spec.depth.d * spec.oh * spec.ow * computed(spec.out_dtype).itemsize
        return between + max(self.module.scratch(flat), self._fastest(deep).scratch(deep))

    def run(self, spec: PoolSpec, x: Tensor, out: Tensor, indices: Tensor | None, stream: Stream) -> None:
        if indices is not None:
            self.table[-1].run(spec, x, out, indices, stream)  # two passes would need a third for the indices
            return
        n, c, d, h, w = x.shape
        _, _, od, oh, ow = out.shape
        dtype = out.dtype if spec.picks else computed(out.dtype)
        between = dense(stream.empty(n * c * d * oh * ow, dtype), (n, c, d, oh, ow))
        flat = over_planes(spec, (c, d))
        for item in range(n):
            volume, pooled = behind(x, item * x.strides[0]), behind(between, item * between.strides[0])
            seen = replace(volume, shape=(c, d, h, w), strides=x.strides[1:])
            target = replace(pooled, shape=(c, d, oh, ow), strides=between.strides[1:])
            self.module.run(flat, seen, target, None, stream)
        # Rows of the result that lie one behind the other are pooled together.
        rows = oh if oh == 1 or out.strides[3] == ow * out.strides[4] else 1
        deep = over_depth(spec, (n, c), rows * spec.ow)
        for row in range(0, oh, rows):
            seen = replace(behind(between, row * ow), shape=(n, c, d, rows * ow),
                           strides=(*between.strides[:3], 1))
            target = replace(behind(out, row * out.strides[3]), shape=(n, c, od, rows * ow),
                             strides=(*out.strides[:3], out.strides[4]))
            self._fastest(deep).run(deep, seen, target, None, stream)


def _passes(spec: PoolSpec) -> tuple[PoolSpec, PoolSpec]:
    """The poolings of the planes and of the depth."""
    planes, deep = (spec.planes, spec.depth.d), (1, spec.planes)
    return over_planes(spec, planes), over_depth(spec, deep, spec.oh * spec.ow)
