"""The register form of the row tile, written in LLVM IR; `row_tile` has its definition and the order of its loops."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from . import emit
from .byte_pairs import joined, pair_products
from .simd import Vector


class Emitter:
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

        if not self.inside:
            emit.store_valid(builder, results, places, [start for _ in rows for start, _ in parts], goal, arg["wide"])
            return
        for value, place in zip(results, places, strict=True):
            emit.store(builder, value, goal, place)

    def loop(self, start, stop, carried, body):
        return emit.loop(self.builder, start, stop, emit.INT(1), carried, body)

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

        if shape.shifted:
            return self.window(known, weights, sums)
        if shape.kw:
            together = 2 if shape.paired else 1
            for b in range(0, shape.kw, together):
                columns = tuple(range(b, min(b + together, shape.kw)))
                sums = self.taps(image, known, weights, columns, sums)
            return sums
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
        """Add the products of all columns: each row is loaded once, with stride 2 its even and odd elements are told
        apart, and both are shifted."""
        builder, stride = self.builder, self.shape.stride_w
        sums, loads = list(sums), [*self.loads(), (stride * self.shape.pixels(self.count), self.count)]
        bits = [self.validity(self.left, part) for part in loads]
        kept: dict[Any, Any] = {}
        for y, row in known.items():
            element = row.type.pointee
            # LLVM shifts integers by one instruction, floats by a permutation that takes another register.
            row = builder.bitcast(row, ir.IntType(self.types[0].bitwidth).as_pointer())
            found = [self.load(row, self.left, part, bit, 0) for part, bit in zip(loads, bits, strict=True)]
            for first in range(stride):
                split = found
                if stride == 2:
                    nothing = ir.Constant(found[-1].type, None)
                    pairs = zip(found[::2], [*found[1::2], nothing], strict=True)
                    split = [self.deinterleaved(near, far, first) for near, far in pairs]
                for b in range(first, self.shape.kw, stride):
                    vectors = [self.shifted(split, v, b // stride) for v in range(len(self.parts))]
                    if not isinstance(element, ir.IntType):
                        vectors = [builder.bitcast(one, ir.VectorType(element, one.type.count)) for one in vectors]
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
