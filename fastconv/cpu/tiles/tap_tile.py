"""The tap tile: a few vectors of neighbouring sums over a list of taps, each at a distance of its own.

::

    sum[i] = sum over t of weight[t] * x[base + offset[t] + i]

The taps are a table, so that one loop serves windows along any axes, of any shape: all its loads but the weights' are
of whole vectors at any address. It comes in the orders of additions of `ORDERS`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..system.building import intrinsic
from . import emit
from .simd import Vector, lanes
from .simd_pool import put_all_away, totals_of

#: "products": two interleaved sums, each product and addition rounded once; "long products" puts those of each `BLOCK`
#: of taps away: least work, and least rounding.
#: "listed": one sum, tap by tap, products rounded, as `scipy.ndimage.correlate` adds up.
#: "even" and "odd": the first tap, then the sum (the difference) of each two taps, times a weight, as
#: `scipy.ndimage.correlate1d` does where the weights are symmetric (antisymmetric).
ORDERS = "products", "long products", "listed", "even", "odd"
#: Vectors of a tile: of 16 registers two sums of each leave enough for a weight and pairs of pixels. (With two, each
#: addition waits for the one before: Gaussians of 17 to 65 taps take 1.1 times as long on an AMD EPYC of Zen 3.)
WIDTH = 4
#: Most taps whose products are added up in one go. The sums of more are put away with an account of what rounding loses
#: (`put_away`): 6 operations for each vector.
BLOCK = 32
#: Most taps of float64 whose products are: their sums in SciPy's order are as far off.
DOUBLE_BLOCK = 256


def in_blocks(taps: int, dtype: np.dtype) -> bool:
    """Whether the sums of so many products are put away."""
    return taps > (DOUBLE_BLOCK if dtype == np.float64 else BLOCK)


@lru_cache(maxsize=8)
def tap_tile(order: str) -> Any:
    """A function for kernels, ``tap_tile(source, base, offsets, weights, first, taps, target, to)``: writes the sums
    over so many taps from `first` on, `WIDTH` vectors of them.

    `offsets` has two numbers for each weight, for taps that come in pairs; both are one of the first pair, and where
    taps are single.
    """

    def plain(source, base, offsets, weights, first, taps, target, to):
        count = lanes(source.dtype) * WIDTH
        total = np.zeros(count, source.dtype)
        for t in range(first, first + taps):
            if order in ("even", "odd"):
                one, other = (source[base + offsets[2 * t + k] :][:count] for k in (0, 1))
                value = one if t == first else one + other if order == "even" else one - other
            else:
                value = source[base + offsets[2 * t] :][:count]
            total += value * weights[t]
        target[to : to + count] = total

    @intrinsic(plain=plain)
    def tile(typingctx, source, base, offsets, weights, first, taps, target, to):
        def codegen(context, builder, sig, args):
            data = [emit.data_of(context, builder, array, args[place])
                    for array, place in ((source, 0), (offsets, 2), (weights, 3), (target, 6))]  # fmt: skip
            count = Vector(source.dtype).count
            made = _Emitter(builder, data[:3], args[1], count, order, WIDTH).sums(args[4], args[5])
            for k, vector in enumerate(made):
                emit.store(builder, vector, data[3], builder.add(args[7], emit.INT(k * count)))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(source, integer, offsets, weights, integer, integer, target, integer), codegen

    return tile


@lru_cache(maxsize=8)
def exact_tile(order: str) -> Any:
    """A function for kernels, ``exact_tile(source, base, table, first, taps, target, to)``: writes a vector of sums as
    SciPy adds them up, in float64 whatever dtype the source has, without their fractions.

    From `first` on, the int64 `table` has two offsets for each tap, and then the bits of the float64 weights.
    """

    def plain(source, base, table, first, taps, target, to):
        weights, count = table[first + 2 * taps : first + 3 * taps].view(np.float64), lanes(source.dtype)
        wide, result = source.astype(np.float64), np.zeros(2 * count * WIDTH)
        tap_tile(order)(wide, base, table[first:], weights, 0, taps, result, 0)
        target[to : to + count] = np.trunc(result[:count])

    @intrinsic(plain=plain)
    def tile(typingctx, source, base, table, first, taps, target, to):
        def codegen(context, builder, sig, args):
            data, table_, goal = (emit.data_of(context, builder, array, args[place])
                                  for array, place in ((source, 0), (table, 2), (target, 5)))  # fmt: skip
            count, double = Vector(source.dtype).count, ir.DoubleType()
            offsets = builder.gep(table_, [args[3]])
            bits = builder.gep(offsets, [builder.shl(args[4], emit.INT(1))])
            weights = builder.bitcast(bits, double.as_pointer())
            (vector,) = _Emitter(builder, [data, offsets, weights], args[1], count, order, 1).sums(emit.INT(0), args[4])
            vector = emit.call(builder, f"llvm.trunc.{emit.suffix(vector.type)}", vector.type, [vector])
            kind = ir.VectorType(data.type.pointee, count)
            emit.store(builder, vector if kind == vector.type else builder.fptrunc(vector, kind), goal, args[6])
            return context.get_dummy_value()

        integer = types.int64
        return types.void(source, integer, table, integer, integer, target, integer), codegen

    return tile


class _Emitter:
    """Writes the loop over the taps, whose weights have the dtype that is computed in."""

    def __init__(
        self, builder: ir.IRBuilder, data: list[ir.Value], base: ir.Value, count: int, order: str, wide: int
    ) -> None:  # fmt: skip
        self.builder, (source, self.offsets, self.weights), self.count, self.order = builder, data, count, order
        self.source, self.wide = builder.gep(source, [base]), wide
        self.kind = ir.VectorType(self.weights.type.pointee, count)
        self.zero = ir.Constant(self.kind, None)

    def sums(self, first: ir.Value, taps: ir.Value) -> list[ir.Value]:
        builder, zeros = self.builder, [self.zero] * self.wide
        stop = builder.add(first, taps)
        if self.order == "listed":
            return emit.loop(builder, first, stop, emit.INT(1), zeros, self.added)
        if "products" not in self.order:
            begun = self.products(first, self.vectors(first, 0))
            return emit.loop(builder, builder.add(first, emit.INT(1)), stop, emit.INT(1), begun, self.added)
        if self.order == "products":
            return self.block(first, stop)
        parts = builder.udiv(builder.add(taps, emit.INT(BLOCK - 1)), emit.INT(BLOCK))

        def place(part):
            return builder.add(first, builder.udiv(builder.mul(taps, part), parts))

        def block(part, carried):
            made = self.block(place(part), place(builder.add(part, emit.INT(1))))
            return put_all_away(builder, carried, made)

        return totals_of(builder, emit.loop(builder, emit.INT(0), parts, emit.INT(1), zeros + zeros, block))

    def block(self, first, stop):
        """The sums of at most `BLOCK` products, in interleaved sums."""
        builder = self.builder
        whole = builder.add(first, builder.and_(builder.sub(stop, first), emit.INT(-2)))

        def together(t, held):
            even, odd = held[: self.wide], held[self.wide :]
            return self.added(t, even) + self.added(builder.add(t, emit.INT(1)), odd)

        held = emit.loop(builder, first, whole, emit.INT(2), [self.zero] * (2 * self.wide), together)
        even = emit.loop(builder, whole, stop, emit.INT(1), held[: self.wide], self.added)
        return [builder.fadd(one, other) for one, other in zip(even, held[self.wide :], strict=True)]

    def added(self, t, sums):
        """The sums with one more tap, or pair of them."""
        builder = self.builder
        if self.order in ("even", "odd"):
            combine = builder.fadd if self.order == "even" else builder.fsub
            pairs = zip(self.vectors(t, 0), self.vectors(t, 1), strict=True)
            products = self.products(t, [combine(one, other) for one, other in pairs])
        else:
            vectors = self.vectors(t, 0)
            if "products" in self.order:
                weight = self.weight(t)
                return [emit.fma(builder, vector, weight, total) for vector, total in zip(vectors, sums, strict=True)]
            products = self.products(t, vectors)
        return [builder.fadd(total, product) for total, product in zip(sums, products, strict=True)]

    def products(self, t, vectors):
        weight = self.weight(t)
        return [self.builder.fmul(vector, weight) for vector in vectors]

    def weight(self, t):
        return emit.splat(self.builder, self.builder.load(self.builder.gep(self.weights, [t])), self.count)

    def vectors(self, t, which):
        """The vectors that a tap sees, or one of a pair."""
        builder = self.builder
        place = builder.add(builder.shl(t, emit.INT(1)), emit.INT(which))
        offset = builder.load(builder.gep(self.offsets, [place]))
        data = builder.gep(self.source, [offset])
        found = [emit.load(builder, data, emit.INT(k * self.count), self.count) for k in range(self.wide)]
        return [one if one.type == self.kind else builder.fpext(one, self.kind) for one in found]
