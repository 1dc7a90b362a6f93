"""Volumes by the algorithms for images: what `CONV3D` and `POOL3D` are made of.

::

    out[n, o, k, i, j] = bias[o] + sum over c, e, a, b of weight[o, c, e, a, b] * x[n, c, z(k, e), row(i, a), col(j, b)]
                                                          z(k, e) = k * stride_d - front + e * dilation_d

A plane (n, k) of the output is a convolution of an image whose channels are the planes (c, e) of the input that it
sees; the weights lie in memory in just that order. So any algorithm for images does volumes: the planes of the input
are gathered into images, some at a time, and the planes of the result are put where they belong. Where axes can be
taken together, nothing is moved: a kernel of kd x 1 x 1 convolves images of d rows of h * w pixels, one of 1 x 1 x kw
images of d * h rows, and a kernel as deep as the volume makes every plane a channel.

Windows of a pooling are boxes, and boxes are separable: first planes are pooled, then the depth, as images of d rows of
oh * ow pixels.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from ...planner.contract import trait
from ...specs.axes import FLAT
from ...specs.conv import ConvSpec
from ...specs.pool import PoolSpec, over_depth, over_planes
from ..machine import Machine, this_machine
from ..system.memory import buffer
from .planes import gather, spread

#: Most bytes of gathered planes and results in one call of an algorithm, unless one plane of output has more: a part of
#: a third-level cache.
GATHERED_BYTES = 8 << 20
#: Most bytes of pooled planes between the two passes, unless one volume has more.
POOLED_BYTES = 1 << 20

NO_PADDING = (0, 0)


# -- convolution ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def folded(spec: ConvSpec) -> ConvSpec | None:
    """The convolution of images that takes a volume's arrays as they lie in memory; None if there is none."""
    depth, image = spec.depth, replace(spec, axes=2, depth=FLAT)
    lines = spec.kh == 1 and spec.stride[0] == 1 and spec.padding[0] == NO_PADDING
    if lines and spec.kw == 1 and spec.stride[1] == 1 and spec.padding[1] == NO_PADDING:
        return replace(
            image, h=depth.d, w=spec.h * spec.w, kh=depth.kd, oh=depth.od, ow=spec.oh * spec.ow,
            stride=(depth.stride, 1), padding=(depth.padding, NO_PADDING), dilation=(depth.dilation, 1),
        )  # fmt: skip
    if depth.padding != NO_PADDING:
        return None
    if depth.od == 1 and depth.kd == depth.d and (depth.dilation == 1 or depth.kd == 1):
        return replace(image, c_in=spec.c_in * depth.d)
    if lines and depth.kd == 1 and depth.stride == 1:
        return replace(image, h=depth.d * spec.h, oh=depth.od * spec.oh)
    return None


@lru_cache(maxsize=4096)
def gathered(spec: ConvSpec) -> ConvSpec:
    """The convolution of images that makes one part of the output's planes."""
    planes = spec.n * spec.depth.od
    seen, made = spec.c_in * spec.depth.kd * spec.h * spec.w, spec.c_out * spec.oh * spec.ow
    most = max(1, GATHERED_BYTES // ((seen + made) * spec.acc_dtype.itemsize))
    each = -(-planes // -(-planes // most)) if planes else 0
    return replace(spec, n=each, c_in=spec.c_in * spec.depth.kd, axes=2, depth=FLAT)


class _Gathered(threading.local):
    """The planes that this thread gathered last, while `one_input` lasts."""

    lasts = False
    key: tuple | None = None
    arrays: tuple[np.ndarray, ...] = ()
    """The arrays whose addresses are in `key`: kept, so that no others get these addresses."""


_gathered = _Gathered()


@contextlib.contextmanager
def one_input() -> Iterator[None]:
    """A block in which several convolutions have one input, which nobody changes meanwhile: planes are gathered once
    for all that see equal ones, as phases of a transposed convolution do."""
    _gathered.lasts = True
    try:
        yield
    finally:
        _gathered.lasts, _gathered.key, _gathered.arrays = False, None, ()


class Convolution:
    """An algorithm for volumes made of one for images; it has the contract of every algorithm."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.exact = trait(module, "exact")
        self.__name__ = module.__name__

    def supports(self, spec: ConvSpec) -> str | None:
        return self.module.supports(folded(spec) or gathered(spec))

    def cost(self, spec: ConvSpec, machine: Machine) -> float:
        if image := folded(spec):
            return self.module.cost(image, machine)
        part = gathered(spec)
        parts = spec.n * spec.depth.od / part.n if part.n else 1
        moved = part.n * (2 * part.c_in * part.h * part.w + 2 * part.c_out * part.oh * part.ow) * part.x_dtype.itemsize
        return parts * (self.module.cost(part, machine) + moved / machine.stream / machine.threads)

    def prepare_cost(self, spec: ConvSpec, machine: Machine) -> float:
        return trait(self.module, "prepare_cost")(folded(spec) or gathered(spec), machine)

    def scratch(self, spec: ConvSpec) -> int:
        if image := folded(spec):
            return self.module.scratch(image)
        part = gathered(spec)
        moved = part.n * (part.c_in * part.h * part.w + part.c_out * part.oh * part.ow) * part.acc_dtype.itemsize
        return moved + self.module.scratch(part)

    def prepare(self, spec: ConvSpec, weight: np.ndarray) -> Any:
        image = folded(spec) or gathered(spec)
        return self.module.prepare(image, weight.reshape(image.weight_shape))

    def run(self, spec: ConvSpec, x: np.ndarray, packed: Any, bias: np.ndarray, out: np.ndarray) -> None:
        if image := folded(spec):
            images, _, outputs = image.kernel_shapes
            self.module.run(image, x.reshape(images), packed, bias, out.reshape(outputs))
            return
        part, planes = gathered(spec), spec.n * spec.depth.od
        # Arrays are viewed as integers, as their elements are only moved.
        bits, out_bits = f"u{x.itemsize}", f"u{out.itemsize}"
        seen = buffer("gathered", part.kernel_shapes[0], x.dtype)
        made = buffer("made", part.kernel_shapes[2], out.dtype)
        volumes = x.view(bits).reshape(spec.n, spec.c_in, spec.depth.d, -1)
        gathered_planes = seen.view(bits).reshape(part.n, spec.c_in, spec.depth.kd, -1)
        made_planes = made.view(out_bits).reshape(part.n, spec.c_out, -1)
        results = out.view(out_bits).reshape(spec.n, spec.c_out, spec.depth.od, -1)
        there = False
        if _gathered.lasts:
            key = x.ctypes.data, seen.ctypes.data, x.shape, seen.shape, x.dtype, spec.depth
            there = planes == part.n and key == _gathered.key
            _gathered.key, _gathered.arrays = key if planes == part.n else None, (x, seen)
        for start in range(0, planes, part.n):
            start = min(start, planes - part.n)  # the last part may do some planes again
            if not there:
                gather(volumes, gathered_planes, start, spec.depth)
            self.module.run(part, seen, packed, bias, made)
            spread(made_planes, start, results)


# -- pooling -------------------------------------------------------------------------------------------------


class Pooling:
    """An algorithm for volumes made of one for planes; whichever of a table is estimated fastest pools the depth."""

    def __init__(self, module: Any, table: Sequence[Any]) -> None:
        self.module = module
        self.table = table
        self.__name__ = module.__name__

    def supports(self, spec: PoolSpec) -> str | None:
        return self.module.supports(_passes(spec, spec.planes)[0])

    def cost(self, spec: PoolSpec, machine: Machine) -> float:
        flat, deep = _passes(spec, spec.planes)
        return self.module.cost(flat, machine) + _fastest(self.table, deep).cost(deep, machine)

    def scratch(self, spec: PoolSpec) -> int:
        each = _together(spec)
        flat, deep = _passes(spec, each)
        between = math.prod(flat.output_shape) * spec.x_dtype.itemsize
        return between + max(self.module.scratch(flat), _fastest(self.table, deep).scratch(deep))

    def run(self, spec: PoolSpec, x: np.ndarray, out: np.ndarray, indices: np.ndarray | None) -> None:
        each, d, od = _together(spec), spec.depth.d, spec.depth.od
        flat, deep = _passes(spec, each)
        last = _fastest(self.table, deep)
        pooled = buffer("pooled", (each, d, spec.oh * spec.ow), x.dtype)
        places = None if indices is None else np.empty(pooled.shape, np.int64)
        for start in range(0, spec.planes, each):
            start = min(start, spec.planes - each)  # the last part may do some volumes again
            volumes, results = x[start : start + each], out[start : start + each].reshape(each, od, -1)
            shape = each * d, spec.oh, spec.ow
            within = None if places is None else places.reshape(shape)
            self.module.run(flat, volumes.reshape(-1, spec.h, spec.w), pooled.reshape(shape), within)
            if indices is None or places is None:
                last.run(deep, pooled, results, None)
                continue
            found = indices[start : start + each].reshape(each, -1)
            last.run(deep, pooled, results, found.reshape(results.shape))
            depths = found // (spec.oh * spec.ow)
            found[...] = np.take_along_axis(places.reshape(each, -1), found, 1) + depths * (spec.h * spec.w)


@lru_cache(maxsize=4096)
def _fastest(table: tuple[Any, ...], spec: PoolSpec) -> Any:
    """The module of a table that is estimated to pool these planes in the least time on one thread."""
    able = [module for module in table if module.supports(spec) is None]
    return min(able, key=lambda module: module.cost(spec, this_machine(1)))


def _together(spec: PoolSpec) -> int:
    """Number of volumes whose planes are pooled at a time, before their depth is."""
    most = max(1, POOLED_BYTES // (spec.depth.d * spec.oh * spec.ow * spec.x_dtype.itemsize))
    return -(-spec.planes // -(-spec.planes // most)) if spec.planes else 0


def _passes(spec: PoolSpec, volumes: int) -> tuple[PoolSpec, PoolSpec]:
    """The poolings of the planes of so many volumes, and of their depth."""
    return over_planes(spec, (volumes * spec.depth.d,)), over_depth(spec, (volumes,), spec.oh * spec.ow)
