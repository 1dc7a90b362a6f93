"""The row tile: sums of one output channel, a few rows by a few vectors of pixels, that stay in vector registers.

::

    sum[r, l] = bias + sum over c, a, b of weight[c, a, b] * x[c, top + (r * step + a) * dilation_h,
                                                               left + l * stride_w + b * dilation_w]

The image is read where it lies. A row outside it is a row of zeros kept elsewhere; columns outside it are masked lanes,
in the tiles at the edges only: the others use plain loads. A vector of input is loaded once for all rows of the tile
that see it: row r sees input row y with its tap a = y - r * step. A 64-byte load that crosses a cache line takes as
long as two multiply-adds (measured 1.7 cycles, AMD EPYC 9004), so a row alone would wait for its loads.

The loops are channels, then the kernel's columns b, then input rows y. The rows are unrolled, so that one column's
masks and weights serve all of them; of the usual square kernels the columns are, too. With stride 2 two columns go
together: two vectors of input become one of even and one of odd elements. Where columns are unrolled, rows are the
outer loop, and further columns are these two vectors shifted.

Pixels of 8 bits are taken in pairs of columns, each pair a lane of two halves of 16 bits: x86 multiplies the halves by
a pair of weights and adds both products in one instruction (with VNNI it adds the sum, too), which is exact.

It also exists as plain loops, which take its place where ``FASTCONV_SIMD=0`` is set or Numba's bounds checks are on.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types

from ..system.building import intrinsic
from ..system.kernels import jit
from . import emit
from .byte_pairs import joined, pair_products
from .simd import Vector, register_bytes

#: Square kernels of these sizes are unrolled whole; others up to the largest only in height; taller ones are loops.
UNROLLED = (3, 5, 7)


class Shape(NamedTuple):
    """The shape that a row tile is compiled for."""

    rows: int
    halves: int
    """Width in half vectors; if it is odd, the last vector of a row is half as long."""
    kh: int
    kw: int
    """Height and width of the kernel where they are unrolled, else 0: any width, any height of at least `rows`."""
    step: int
    """Input rows, in units of the dilation, from one output row of the tile to the next."""
    stride_w: int
    """Horizontal stride: 1, 2, or 0 for any."""
    columns: int
    """Columns of the kernel taken together: 2 with horizontal stride 2 and no dilation, else 1."""
    seen: tuple[int, int] | None
    """A tile's first input row in the image, and the one behind the last, if all tiles agree; only with `kh`."""
    deep: bool
    """Whether there are several input channels. One gets no loop: LLVM would move work in front of it, and spill."""
    paired: bool = False
    """Whether the weights are `pairs`, for pixels of 8 bits."""

    def inputs(self) -> range:
        """The input rows that a tile reads, if the kernel's height is unrolled."""
        return range(*self.seen) if self.seen else range((self.rows - 1) * self.step + self.kh if self.kh else 0)

    def pixels(self, lanes: int) -> int:
        """Width in elements, of which a register holds so many."""
        return self.halves * lanes // 2


@lru_cache(maxsize=256)
def row_tile(shape: Shape, inside: bool) -> Any:
    """A function for kernels that makes the sums of one tile; it is called as::

        row_tile(x, plane, zeros, size, corner, dilation, stride_w, weight, weight_at, extent, bias, floor, out, out_at,
                 pitch, wide)

    `plane` is the flat index of the first channel, size (h, w), corner (top, left), extent (channels, kh, kw). Row r,
    lane l of the sums goes to ``out[out_at + r * pitch + l]``, for l < wide. With `inside` no column lies outside the
    image and all lanes are wanted.
    """
    if emit.is_plain():
        return _plain_row_tile(shape)

    @intrinsic
    def register_row_tile(
        typingctx, x, plane, zeros, size, corner, dilation, stride_w, weight, weight_at, extent, bias, floor, out,
        out_at, pitch, wide,
    ):  # fmt: skip
        def codegen(context, builder, sig, args):
            names = ("x", "plane", "zeros", "size", "corner", "dilation", "stride_w", "weight", "weight_at", "extent")
            arg = dict(zip((*names, "bias", "floor", "out", "out_at", "pitch", "wide"), args, strict=True))
            data = {
                name: emit.data_of(context, builder, array, arg[name])
                for name, array in (("x", x), ("zeros", zeros), ("weight", weight), ("out", out))
            }
            _Emitter(shape, inside, builder, x.dtype, out.dtype, data, arg).emit()
            return context.get_dummy_value()

        integer, two, three = types.int64, types.UniTuple(types.int64, 2), types.UniTuple(types.int64, 3)
        return types.void(
            x, integer, zeros, two, two, two, integer, weight, integer, three, out.dtype, out.dtype, out, integer,
            integer, integer,
        ), codegen  # fmt: skip

    return register_row_tile


class _Emitter:
    """Writes one row tile in LLVM IR; the arguments of `row_tile` are values."""

    def __init__(self, shape, inside, builder, x_type, sum_type, data, arg) -> None:
        self.shape, self.inside, self.builder, self.types, self.data, self.arg = (
            shape, inside, builder, (x_type, sum_type), data, arg)  # fmt: skip
        self.count = Vector(sum_type).count
        starts = range(0, shape.pixels(self.count), self.count)
        self.parts = [(start, min(self.count, shape.pixels(self.count) - start)) for start in starts]
        self.h, self.w = (builder.extract_value(arg["size"], axis) for axis in (0, 1))
        self.top, self.left = (builder.extract_value(arg["corner"], axis) for axis in (0, 1))
        self.down, self.across = (builder.extract_value(arg["dilation"], axis) for axis in (0, 1))
        self.channels, self.kh, self.kw = (builder.extract_value(arg["extent"], axis) for axis in (0, 1, 2))

    def emit(self) -> None:
        builder, arg, parts, rows = self.builder, self.arg, self.parts, range(self.shape.rows)
        sums = [emit.splat(builder, arg["bias"], size) for _ in rows for _, size in parts]
        deep = self.shape.deep
        sums = self.loop(emit.INT(0), self.channels, sums, self.channel) if deep else self.channel(emit.INT(0), sums)
        goal = builder.gep(self.data["out"], [arg["out_at"]])
        results = [emit.clamped(builder, value, emit.splat(builder, arg["floor"], value.type.count)) for value in sums]
        places = [
            builder.add(builder.mul(emit.INT(r), arg["pitch"]), emit.INT(start)) for r in rows for start, _ in parts
        ]

        def whole() -> None:
            for value, place in zip(results, places, strict=True):
                emit.store(builder, value, goal, place)

        if self.inside:
            whole()
            return
        with builder.if_else(builder.icmp_signed(">=", arg["wide"], emit.INT(sum(parts[-1])))) as (then, otherwise):
            with then:
                whole()
            with otherwise:
                masks = [
                    emit.first_lanes(builder, size, builder.sub(arg["wide"], emit.INT(start))) for start, size in parts
                ]
                for at, (value, place) in enumerate(zip(results, places, strict=True)):
                    emit.store_masked(builder, value, goal, place, masks[at % len(parts)])

    def loop(self, start, stop, carried, body):
        """``for k in range(start, stop): carried = body(k, carried)``, as SSA."""
        builder = self.builder
        before, head = builder.block, builder.append_basic_block("head")
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(emit.INT)
        held = [builder.phi(value.type) for value in carried]
        turn, done = builder.append_basic_block("turn"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", k, stop), turn, done)
        builder.position_at_end(turn)
        new = body(k, list(held))
        following, end = builder.add(k, emit.INT(1)), builder.block
        builder.branch(head)
        for phi, first, last in zip([k, *held], [start, *carried], [following, *new], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(last, end)
        builder.position_at_end(done)
        return held

    def channel(self, c, sums):
        """Add the products of one input channel."""
        builder, shape = self.builder, self.shape
        area = builder.mul(self.h, self.w)
        image = builder.gep(self.data["x"], [builder.add(self.arg["plane"], builder.mul(c, area))])
        taps = builder.mul(c, builder.mul(self.kh, self.kw))
        weights = builder.gep(self.data["weight"], [builder.add(self.arg["weight_at"], taps)])
        known = {y: self.row(image, emit.INT(y)) for y in self.shape.inputs()}

        def single(b, sums):
            return self.taps(image, known, weights, (b,), sums)

        def pair(k, sums):
            b = builder.shl(k, emit.INT(1))
            return self.taps(image, known, weights, (b, builder.add(b, emit.INT(1))), sums)

        if shape.kw and shape.stride_w == 1:
            together = 2 if shape.paired else 1
            for b in range(0, shape.kw, together):
                columns = tuple(range(b, min(b + together, shape.kw)))
                sums = self.taps(image, known, weights, columns, sums)
            return sums
        if shape.kw:
            return self.window(known, weights, sums)
        if shape.columns == 1 and not shape.paired:
            return self.loop(emit.INT(0), self.kw, sums, single)
        pairs = builder.ashr(self.kw, emit.INT(1))
        sums = self.loop(emit.INT(0), pairs, sums, pair)
        return self.loop(builder.shl(pairs, emit.INT(1)), self.kw, sums, single)

    def row(self, image, y):
        """Pointer to input row y of the tile; to zeros if the row lies outside the image."""
        builder = self.builder
        row = builder.add(self.top, builder.mul(y, self.down))
        here = builder.gep(image, [builder.mul(row, self.w)])
        if self.shape.seen:
            return here
        return builder.select(builder.icmp_unsigned("<", row, self.h), here, self.data["zeros"])

    def weight(self, weights, a, b):
        """One weight as vectors, by their number of lanes."""
        builder = self.builder
        place = builder.add(builder.mul(a, self.kw), emit.INT(b) if isinstance(b, int) else b)
        one = builder.load(builder.gep(weights, [place]))
        return {size: emit.splat(builder, one, size) for size in {size for _, size in self.parts}}

    def users(self, y):
        """Rows of the tile that see input row y of it, each with its tap, if the kernel's height is unrolled."""
        taps = [(r, y - r * self.shape.step) for r in range(self.shape.rows)]
        return [(r, a) for r, a in taps if 0 <= a < self.shape.kh]

    def add(self, sums, r, weight, vectors):
        """Add `weight` times the vectors to row r of the sums."""
        builder = self.builder
        for v, vector in enumerate(vectors):
            at, weights = r * len(self.parts) + v, weight[vector.type.count]
            if self.shape.paired:
                sums[at] = builder.add(sums[at], pair_products(builder, weights, vector))
            else:
                sums[at] = emit.fma(builder, weights, vector, sums[at])

    def paired(self, columns):
        """The vectors of two columns joined, the first in the lower halves of lanes; of one column as they are."""
        if len(columns) == 1:
            return columns[0]
        return [joined(self.builder, *both, self.types[0].signed) for both in zip(*columns, strict=True)]

    def taps(self, image, known, weights, columns, sums):
        """Add the products of one column of the kernel, or of two neighbouring ones."""
        builder, shape, rows = self.builder, self.shape, range(self.shape.rows)
        # Neighbouring columns are loaded together if their elements alternate, one by one otherwise.
        loaded = []
        for group in [columns] if shape.columns == len(columns) else [(b,) for b in columns]:
            if isinstance(group[0], int):
                start, shift = self.left, group[0]
            else:
                start, shift = builder.add(self.left, builder.mul(group[0], self.across)), 0
            bits = [self.validity(start, part) for part in self.loads()]
            loaded.append((builder.add(start, emit.INT(shift)), len(group), bits, shift))
        kept: dict[Any, Any] = {}

        def add(row, users, sums):
            """Add one input row to the rows that see it, given as pairs (row of the tile, tap)."""
            sums = list(sums)
            vectors = [column for group in loaded for column in self.vectors(row, *group)]
            if shape.paired:
                vectors = [self.paired(vectors)]
            for k, b in enumerate(columns[: len(vectors)]):
                for r, a in users:
                    if not isinstance(a, int):
                        weight = self.weight(weights, a, b)
                    elif (weight := kept.get((a, k))) is None:
                        weight = kept[a, k] = self.weight(weights, emit.INT(a), b)
                    self.add(sums, r, weight, vectors[k])
            return sums

        if shape.kh:
            for y, row in known.items():
                sums = add(row, self.users(y), sums)
            return sums
        for y in range(shape.rows - 1):  # rows that only the upper part of the tile sees
            sums = add(
                self.row(image, emit.INT(y)), [(r, builder.sub(emit.INT(y), emit.INT(r))) for r in rows if r <= y], sums
            )

        def middle(y, sums):
            return add(self.row(image, y), [(r, builder.sub(y, emit.INT(r))) for r in rows], sums)

        sums = self.loop(emit.INT(shape.rows - 1), self.kh, sums, middle)
        for y in range(shape.rows - 1):  # and the lower part
            below = builder.add(self.kh, emit.INT(y))
            users = [(r, builder.sub(below, emit.INT(r))) for r in rows if r > y]
            sums = add(self.row(image, below), users, sums)
        return sums

    def window(self, known, weights, sums):
        """Add the products of all columns with stride 2: each row is loaded once, its even and odd elements shifted."""
        sums = list(sums)
        tail = [(2 * self.shape.pixels(self.count), self.count)] if self.shape.kw > 2 else []
        loads = self.loads() + tail
        bits = [self.validity(self.left, part) for part in loads]
        kept: dict[Any, Any] = {}
        for y, row in known.items():
            found = [self.load(row, self.left, part, bit, 0) for part, bit in zip(loads, bits, strict=True)]
            nothing = ir.Constant(found[-1].type, None)
            for odd in (0, 1):
                split = [
                    self.deinterleaved(near, far, odd)
                    for near, far in zip(found[::2], [*found[1::2], nothing], strict=False)
                ]
                for b in range(odd, self.shape.kw, 2):
                    vectors = [self.shifted(split, v, b // 2) for v in range(len(self.parts))]
                    for r, a in self.users(y):
                        if (weight := kept.get((a, b))) is None:
                            weight = kept[a, b] = self.weight(weights, emit.INT(a), b)
                        self.add(sums, r, weight, vectors)
        return sums

    def shifted(self, vectors, v, shift):
        """Vector v of a row of vectors, from `shift` elements later on."""
        count, here = vectors[v].type.count, vectors[v]
        if not shift:
            return here
        after, order = vectors[v + 1], [lane + shift for lane in range(count)]
        if after.type.count != count:  # the last vector of the tile is a half one, or comes behind one
            after = self.shuffled(after, after, [lane % after.type.count for lane in range(count)])
        return self.shuffled(here, after, order)

    def deinterleaved(self, near, far, odd):
        """Every second element of two vectors."""
        if far.type.count != near.type.count:
            far = ir.Constant(near.type, None)
        return self.shuffled(near, far, list(range(odd, 2 * near.type.count, 2)))

    def shuffled(self, a, b, order):
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(emit.I32, len(order)), order))

    def loads(self):
        """The loads of a row, as pairs: the first column, counted from the row's first, and the number of elements."""
        if self.shape.stride_w == 1:
            return self.parts
        return [(2 * start + size * far, size) for start, size in self.parts for far in (0, 1)]

    def validity(self, start, part):
        """Bits of the columns from `start` + part[0] on that lie in the image; the highest bit is wrong."""
        if self.inside or not self.shape.stride_w:
            return None
        builder = self.builder
        first = builder.add(start, emit.INT(part[0]))

        def below(value):
            low = emit.call(builder, "llvm.smax.i64", emit.INT, [value, emit.INT(0)])
            return builder.shl(emit.INT(-1), emit.call(builder, "llvm.smin.i64", emit.INT, [low, emit.INT(63)]))

        return builder.and_(below(builder.neg(first)), builder.not_(below(builder.sub(self.w, first))))

    def load(self, row, start, part, bits, shift):
        """A vector of an input row, zeros outside it; `bits` begin `shift` columns before."""
        builder, place, size = self.builder, self.builder.add(start, emit.INT(part[0])), part[1]
        if self.inside:
            return self.wide(emit.load(builder, row, place, size))
        mask = builder.trunc(builder.lshr(bits, emit.INT(shift)), ir.IntType(size))
        return self.wide(emit.load_masked(builder, row, place, builder.bitcast(mask, ir.VectorType(emit.BIT, size))))

    def wide(self, vector):
        return emit.convert(self.builder, vector, *self.types, vector.type.count)

    def vectors(self, row, start, columns, bits, shift):
        """The vectors of an input row as each of the columns of the kernel that are taken together sees them."""
        if not self.shape.stride_w:
            return [[self.gathered(row, start, part) for part in self.parts]]
        found = [self.load(row, start, part, bit, shift) for part, bit in zip(self.loads(), bits, strict=True)]
        if self.shape.stride_w == 1:
            return [found]
        pairs = list(zip(found[::2], found[1::2], strict=True))
        return [[self.deinterleaved(near, far, odd) for near, far in pairs] for odd in range(columns)]

    def gathered(self, row, start, part):
        """Elements `stride_w` apart, loaded one by one; zeros outside the image."""
        builder, result = self.builder, ir.Constant(ir.VectorType(row.type.pointee, part[1]), None)
        for lane in range(part[1]):
            column = builder.add(start, builder.mul(emit.INT(part[0] + lane), self.arg["stride_w"]))
            within = builder.icmp_unsigned("<", column, self.w)
            place = builder.select(within, builder.gep(row, [column]), self.data["zeros"])
            result = builder.insert_element(result, builder.load(place), emit.I32(lane))
        return self.wide(result)


def _plain_row_tile(shape: Shape) -> Any:
    """The twin in plain loops, one sum at a time."""
    rows, step, width = shape.rows, shape.step, shape.pixels(register_bytes())

    @jit(key=shape)
    def plain_row_tile(
        x, plane, zeros, size, corner, dilation, stride_w, weight, weight_at, extent, bias, floor, out, out_at, pitch,
        wide,
    ):  # fmt: skip
        flat_x, flat_weight, flat_out = x.reshape(-1), weight.reshape(-1), out.reshape(-1)
        (h, w), (channels, kh, kw) = size, extent
        for r in range(rows):
            for lane in range(min(width // out.itemsize, wide)):
                total = bias
                for c in range(channels):
                    for a in range(kh):
                        row = corner[0] + (r * step + a) * dilation[0]
                        for b in range(kw if 0 <= row < h else 0):
                            column = corner[1] + lane * stride_w + b * dilation[1]
                            if 0 <= column < w:
                                value = flat_x[plane + (c * h + row) * w + column]
                                total += flat_weight[weight_at + (c * kh + a) * kw + b] * value
                flat_out[out_at + r * pitch + lane] = floor if total < floor else total

    return plain_row_tile
