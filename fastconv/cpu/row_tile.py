"""The row tile: sums of one output channel, a few rows by a few vectors of pixels, that stay in vector registers.

::

    sum[r, l] = bias + sum over c, a, b of weight[c, a, b] * x[c, top + y * dilation_h, left + l * stride_w + b * dilation_w]
    with y = r * step + a, and zeros outside the image

The image is read where it lies. A row outside it is a row of zeros kept elsewhere; columns outside it are masked lanes,
in the tiles at the edges only: the others use plain loads. A vector of input is loaded once for all rows of the tile that
see it (row r sees input row y with its tap a = y - r * step), so with `rows` rows a load serves up to min(rows, kh)
multiply-adds; a core does about one unaligned load for two multiply-adds, so one row alone would wait for its loads.

The loops are channels, then the kernel's columns b, then input rows y, which are unrolled: the lanes' masks and the
weights of a column of the kernel serve all rows. With stride 2 two columns go together: two vectors of input are one
of the even and one of the odd elements.

It also exists as plain loops, which take its place where ``FASTCONV_SIMD=0`` is set or Numba's bounds checks are on.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .runtime import jit
from .simd import _BIT, _I32, _INT, Vector, _call, _convert, _data, _fma, _load, _load_masked, _mask, _splat, _store
from .simd import _store_masked, register_bytes
from .tile import _plain, _raised

#: Heights of kernel up to this one have their loop unrolled; larger ones share one loop.
UNROLLED = 7


class Shape(NamedTuple):
    """What a row tile is compiled for."""

    rows: int
    vectors: int
    kh: int
    """Height of the kernel if it is unrolled, else 0: any height of at least `rows`."""
    step: int
    """Input rows, in units of the dilation, from one output row of the tile to the next."""
    stride_w: int
    """Horizontal stride: 1, 2, or 0 for any."""
    columns: int
    """Columns of the kernel taken together: 2 with horizontal stride 2 and no dilation, else 1."""


@lru_cache(maxsize=256)
def row_tile(shape: Shape, inside: bool) -> Any:
    """Sums of `rows` rows by `vectors` vectors of pixels, called by kernels as::

        row_tile(x, plane, zeros, size, corner, dilation, stride_w, weight, weight_at, extent, bias, floor, out, out_at,
                 pitch, wide)

    `plane` is the flat index of the first channel, size (h, w), corner (top, left), extent (channels, kh, kw). Row r,
    lane l of the sums goes to ``out[out_at + r * pitch + l]``, for l < wide. With `inside` no column lies outside the
    image and all lanes are wanted.
    """
    if _plain():
        return _plain_row_tile(shape)

    @intrinsic
    def register_row_tile(
        typingctx, x, plane, zeros, size, corner, dilation, stride_w, weight, weight_at, extent, bias, floor, out, out_at,
        pitch, wide,
    ):  # fmt: skip
        def codegen(context, builder, sig, args):
            names = ("x", "plane", "zeros", "size", "corner", "dilation", "stride_w", "weight", "weight_at", "extent")
            arg = dict(zip((*names, "bias", "floor", "out", "out_at", "pitch", "wide"), args, strict=True))
            data = {
                name: _data(context, builder, array, arg[name])
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
        self.h, self.w = (builder.extract_value(arg["size"], axis) for axis in (0, 1))
        self.top, self.left = (builder.extract_value(arg["corner"], axis) for axis in (0, 1))
        self.down, self.across = (builder.extract_value(arg["dilation"], axis) for axis in (0, 1))
        self.channels, self.kh, self.kw = (builder.extract_value(arg["extent"], axis) for axis in (0, 1, 2))

    def emit(self) -> None:
        builder, shape, arg = self.builder, self.shape, self.arg
        initial = _splat(builder, arg["bias"], self.count)
        sums = [initial] * (shape.rows * shape.vectors)
        sums = self.loop(_INT(0), self.channels, sums, self.channel)
        least, goal = _splat(builder, arg["floor"], self.count), builder.gep(self.data["out"], [arg["out_at"]])
        results = [_raised(builder, value, least) for value in sums]
        places = [
            builder.add(builder.mul(_INT(r), arg["pitch"]), _INT(v * self.count))
            for r in range(shape.rows)
            for v in range(shape.vectors)
        ]

        def whole() -> None:
            for value, place in zip(results, places, strict=True):
                _store(builder, value, goal, place)

        if self.inside:
            whole()
            return
        full = builder.icmp_signed(">=", arg["wide"], _INT(shape.vectors * self.count))
        with builder.if_else(full) as (then, otherwise):
            with then:
                whole()
            with otherwise:
                for v in range(shape.vectors):
                    mask = _mask(builder, self.count, builder.sub(arg["wide"], _INT(v * self.count)))
                    for r in range(shape.rows):
                        at = r * shape.vectors + v
                        _store_masked(builder, results[at], goal, places[at], mask)

    def loop(self, start, stop, carried, body):
        """``for k in range(start, stop): carried = body(k, carried)``, as SSA."""
        builder = self.builder
        before, head = builder.block, builder.append_basic_block("head")
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(_INT)
        held = [builder.phi(value.type) for value in carried]
        turn, done = builder.append_basic_block("turn"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", k, stop), turn, done)
        builder.position_at_end(turn)
        new = body(k, list(held))
        following, end = builder.add(k, _INT(1)), builder.block
        builder.branch(head)
        for phi, first, last in zip([k, *held], [start, *carried], [following, *new], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(last, end)
        builder.position_at_end(done)
        return held

    def channel(self, c, sums):
        """Add what one input channel gives."""
        builder, shape = self.builder, self.shape
        area = builder.mul(self.h, self.w)
        image = builder.gep(self.data["x"], [builder.add(self.arg["plane"], builder.mul(c, area))])
        taps = builder.mul(c, builder.mul(self.kh, self.kw))
        weights = builder.gep(self.data["weight"], [builder.add(self.arg["weight_at"], taps)])
        static = range((shape.rows - 1) * shape.step + shape.kh) if shape.kh else range(0)
        known = {y: self.row(image, _INT(y)) for y in static}

        def single(b, sums):
            return self.taps(image, known, weights, (b,), sums)

        def pair(k, sums):
            b = builder.shl(k, _INT(1))
            return self.taps(image, known, weights, (b, builder.add(b, _INT(1))), sums)

        if shape.columns == 1:
            return self.loop(_INT(0), self.kw, sums, single)
        pairs = builder.ashr(self.kw, _INT(1))
        sums = self.loop(_INT(0), pairs, sums, pair)
        return self.loop(builder.shl(pairs, _INT(1)), self.kw, sums, single)

    def row(self, image, y):
        """Where input row y of the tile begins; zeros if it lies outside the image."""
        builder = self.builder
        row = builder.add(self.top, builder.mul(y, self.down))
        here = builder.gep(image, [builder.mul(row, self.w)])
        return builder.select(builder.icmp_unsigned("<", row, self.h), here, self.data["zeros"])

    def taps(self, image, known, weights, columns, sums):
        """Add the products of one column of the kernel, or of two neighbouring ones."""
        builder, shape = self.builder, self.shape
        start = builder.add(self.left, builder.mul(columns[0], self.across))
        masks = [self.masks(start, v) for v in range(shape.vectors)]
        kept: dict[Any, Any] = {}

        def weight(a, k):
            place = builder.gep(weights, [builder.add(builder.mul(a, self.kw), columns[k])])
            return _splat(builder, builder.load(place), self.count)

        def add(row, users, sums):
            """Add one input row to the rows that see it, given as pairs (row of the tile, tap)."""
            sums = list(sums)
            vectors = [self.vectors(row, start, len(columns), masks[v], v) for v in range(shape.vectors)]
            for k in range(len(columns)):
                for r, a in users:
                    if isinstance(a, int):
                        one = kept.get((a, k)) or kept.setdefault((a, k), weight(_INT(a), k))
                    else:
                        one = weight(a, k)
                    for v in range(shape.vectors):
                        at = r * shape.vectors + v
                        sums[at] = _fma(builder, one, vectors[v][k], sums[at])
            return sums

        rows = range(shape.rows)
        if shape.kh:
            for y in known:
                users = [(r, y - r * shape.step) for r in rows if 0 <= y - r * shape.step < shape.kh]
                sums = add(known[y], users, sums)
            return sums
        for y in range(shape.rows - 1):  # rows that only the upper part of the tile sees
            sums = add(self.row(image, _INT(y)), [(r, y - r) for r in rows if r <= y], sums)

        def middle(y, sums):
            return add(self.row(image, y), [(r, builder.sub(y, _INT(r))) for r in rows], sums)

        sums = self.loop(_INT(shape.rows - 1), self.kh, sums, middle)
        for y in range(shape.rows - 1):  # and the lower part
            below = builder.add(self.kh, _INT(y))
            users = [(r, builder.sub(below, _INT(r))) for r in rows if r > y]
            sums = add(self.row(image, below), users, sums)
        return sums

    def masks(self, start, v):
        """The lanes of vector v, from column `start` on, that lie in the image: a mask for each load."""
        stride = self.shape.stride_w
        if self.inside:
            return []
        return [self.mask(self.builder.add(start, _INT((v * stride + part) * self.count))) for part in range(stride)]

    def mask(self, first):
        """Which of the columns from `first` on lie in the image."""
        builder, count = self.builder, self.count

        def clamped(value):
            low = _call(builder, "llvm.smax.i64", _INT, [value, _INT(0)])
            return _call(builder, "llvm.smin.i64", _INT, [low, _INT(count)])

        before = builder.shl(_INT(-1), clamped(builder.neg(first)))
        behind = builder.shl(_INT(-1), clamped(builder.sub(self.w, first)))
        bits = builder.trunc(builder.and_(before, builder.not_(behind)), ir.IntType(count))
        return builder.bitcast(bits, ir.VectorType(_BIT, count))

    def vectors(self, row, start, columns, masks, v):
        """Vector v of an input row as the columns of the kernel that are taken together see it."""
        builder, count, stride = self.builder, self.count, self.shape.stride_w

        def load(part):
            place = builder.add(start, _INT((v * stride + part) * count))
            if self.inside:
                return _load(builder, row, place, count)
            return _load_masked(builder, row, place, masks[part])

        if stride == 1:
            found = [load(0)]
        elif stride == 2:
            near, far = load(0), load(1)
            orders = [list(range(odd, 2 * count, 2)) for odd in range(columns)]
            found = [
                builder.shuffle_vector(near, far, ir.Constant(ir.VectorType(_I32, count), order)) for order in orders
            ]
        else:
            found = [self.gathered(row, start, v)]
        return [_convert(builder, vector, *self.types, count) for vector in found]

    def gathered(self, row, start, v):
        """Elements `stride_w` apart, one by one; those outside the image from the zeros."""
        builder, result = self.builder, ir.Constant(ir.VectorType(row.type.pointee, self.count), None)
        for lane in range(self.count):
            column = builder.add(start, builder.mul(_INT(v * self.count + lane), self.arg["stride_w"]))
            within = builder.icmp_unsigned("<", column, self.w)
            place = builder.select(within, builder.gep(row, [column]), self.data["zeros"])
            result = builder.insert_element(result, builder.load(place), _I32(lane))
        return result


def _plain_row_tile(shape: Shape) -> Any:
    """The same sums, one at a time."""
    rows, step, width = shape.rows, shape.step, shape.vectors * register_bytes()

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
