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
from .simd import Vector, lanes, registers
from .simd_pool import put_away_vectors as put_away

#: "products": four interleaved sums, each product and addition rounded once: least work, and least rounding.
#: "listed": one sum, tap by tap, products rounded, as `scipy.ndimage.correlate` adds up.
#: "even" and "odd": the first tap, then the sum (the difference) of each two taps, times a weight, as
#: `scipy.ndimage.correlate1d` does where the weights are symmetric (antisymmetric).
ORDERS = "products", "listed", "even", "odd"
#: Sums that are interleaved: as many as a multiply-add takes cycles.
SUMS = 4
#: Most taps whose products are added up in one go. The sums of more are put away with an account of what rounding loses
#: (`put_away`): 6 operations for each vector.
BLOCK = 32


def width() -> int:
    """Vectors of a tile: as many as leave registers for their `SUMS`."""
    return 4 if registers() == 32 else 2


@lru_cache(maxsize=8)
def tap_tile(order: str) -> Any:
    """A function for kernels, ``tap_tile(source, base, offsets, weights, first, taps, target, to)``: writes the sums
    over so many taps from `first` on, `width` vectors of them.

    `offsets` has two numbers for each weight, for taps that come in pairs; both are one of the first pair, and where
    taps are single.
    """

    def plain(source, base, offsets, weights, first, taps, target, to):
        count = lanes(source.dtype) * width()
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
            made = _Emitter(builder, data[:3], args[1], count, order, width()).sums(args[4], args[5])
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
        wide, result = source.astype(np.float64), np.zeros(count * width())
        tap_tile(order).plain(wide, base, table[first:], weights, 0, taps, result, 0)
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
        if self.order != "products":
            begun = self.products(first, self.vectors(first, 0))
            return emit.loop(builder, builder.add(first, emit.INT(1)), stop, emit.INT(1), begun, self.added)
        last = builder.sub(stop, emit.INT(BLOCK))

        def block(t, carried):
            totals, lost = carried[: width()], carried[width() :]
            parts = self.block(t, emit.INT(BLOCK))
            pairs = [put_away(builder, *each) for each in zip(totals, lost, parts, strict=True)]
            return [pair[0] for pair in pairs] + [pair[1] for pair in pairs]

        carried = emit.loop(builder, first, last, emit.INT(BLOCK), zeros + zeros, block)
        # What is left are 1 to BLOCK taps; mostly it is all of them.
        begun = builder.mul(builder.udiv(builder.sub(taps, emit.INT(1)), emit.INT(BLOCK)), emit.INT(BLOCK))
        rest = self.block(builder.add(first, begun), builder.sub(taps, begun))
        rest = [builder.fsub(part, away) for part, away in zip(rest, carried[width() :], strict=True)]
        return [builder.fadd(total, part) for total, part in zip(carried[: width()], rest, strict=True)]

    def block(self, first, taps):
        """The sums of at most `BLOCK` products, in interleaved sums."""
        builder = self.builder
        whole = builder.add(first, builder.and_(taps, emit.INT(-SUMS)))

        def together(t, held):
            new = []
            for k in range(SUMS):
                new += self.added(builder.add(t, emit.INT(k)), held[k * width() : (k + 1) * width()])
            return new

        sums = emit.loop(builder, first, whole, emit.INT(SUMS), [self.zero] * (SUMS * width()), together)
        parts = [sums[k * width() : (k + 1) * width()] for k in range(SUMS)]
        parts[1] = emit.loop(builder, whole, builder.add(first, taps), emit.INT(1), parts[1], self.added)
        while len(parts) > 1:
            parts = [[builder.fadd(a, b) for a, b in zip(*two, strict=True)]
                     for two in zip(parts[::2], parts[1::2], strict=True)]  # fmt: skip
        return parts[0]

    def added(self, t, sums):
        """The sums with one more tap, or pair of them."""
        builder = self.builder
        if self.order in ("even", "odd"):
            combine = builder.fadd if self.order == "even" else builder.fsub
            pairs = zip(self.vectors(t, 0), self.vectors(t, 1), strict=True)
            products = self.products(t, [combine(one, other) for one, other in pairs])
        else:
            vectors = self.vectors(t, 0)
            if self.order == "products":
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
