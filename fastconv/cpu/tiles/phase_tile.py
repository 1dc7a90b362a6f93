"""The register tile of `transpose_depthwise`: sums of all phases of some pixels, which it interleaves and writes."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..system import micro
from ..system.building import intrinsic
from ..system.kernels import jit
from . import emit
from .deal import join_vectors
from .simd import Vector


def phase_tile_address(phases: int, rows: int, vectors: int, dtype: np.dtype) -> int:
    """Address of the micro-kernel `_phase_tile`, for kernels that call it."""
    row, place, table = micro.array(dtype), micro.PLACE, micro.array(np.int64)
    types_ = row, place, place, row, place, table, table, table, place, place, micro.scalar(dtype), row, *[place] * 4
    return micro.address(_phase_tile, (phases, rows, vectors), types_)


def _phase_tile(phases: int, rows: int, vectors: int) -> Any:
    """A micro-kernel for rows of one phase; its tiles are a few rows by a few vectors of every phase of the columns::

        tile(patch, at, pitch, weight, weight_at, offsets, order, starts, phase, side, bias, out, out_at, apart, high,
             wide)

    `phase` is the number of the first phase of these rows. Row r and column v see the patch from `at` + r * pitch +
    (v + side) // phases on. Row r of `high` begins at ``out[out_at + r * apart]`` and has `wide` elements; the last
    tiles are moved back to end where the rows end.
    """
    if emit.is_plain():
        return _plain_phase_tile(phases)

    @intrinsic
    def register_tile(
        typingctx, patch, at, pitch, weight, weight_at, offsets, order, starts, phase, side, bias, out, out_at, apart,
        high, wide,
    ):  # fmt: skip
        count = Vector(out.dtype).count
        columns = phases * vectors * count

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            _, at_, pitch_, _, weight_at_, _, _, _, phase_, side_, bias_, _, out_at_, apart_, high_, wide_ = args
            data = [emit.data_of(context, builder, sig.args[k], args[k]) for k in (0, 3, 5, 6, 7, 11)]
            image, weights, distances, numbers, bounds, goal = data
            taps = builder.gep(weights, [weight_at_]), distances, numbers, bounds
            bias_vector = emit.splat(builder, bias_, count)
            last_row, last = builder.sub(high_, emit.INT(rows)), builder.sub(wide_, emit.INT(columns))
            with (
                cgutils.for_range_slice(builder, emit.INT(0), high_, emit.INT(rows)) as (g, _),
                cgutils.for_range_slice(builder, emit.INT(0), wide_, emit.INT(columns)) as (j, _),
            ):
                row, v = _least(builder, g, last_row), _least(builder, j, last)
                v = builder.select(builder.icmp_signed("<", v, emit.INT(0)), emit.INT(0), v)
                place, line = builder.add(v, side_), builder.add(at_, builder.mul(row, pitch_))
                here = builder.gep(image, [builder.add(line, builder.udiv(place, emit.INT(phases)))])
                residue = builder.urem(place, emit.INT(phases))
                sums = [
                    _phase_sums(builder, (phases, rows, vectors), q, here, pitch_, taps, phase_, residue, bias_vector)
                    for q in range(phases)
                ]
                results: list[ir.Value] = []
                for k in range(rows * vectors):
                    results += join_vectors(builder, [held[k] for held in sums])
                along = range(0, columns, count)
                lines = [builder.mul(apart_, emit.INT(r)) for r in range(rows)]
                places = [builder.add(line, emit.INT(column)) for line in lines for column in along]
                begin = builder.add(builder.add(out_at_, builder.mul(row, apart_)), v)
                goal, valid = builder.gep(goal, [begin]), builder.sub(wide_, v)
                emit.store_valid(builder, results, places, [*along] * rows, goal, valid, likely=True)
            return context.get_dummy_value()

        integer = types.int64
        return types.void(
            patch, integer, integer, weight, integer, offsets, order, starts, integer, integer, bias, out,
            *[integer] * 4,
        ), codegen  # fmt: skip

    return register_tile


def _least(builder: Any, one: ir.Value, other: ir.Value) -> ir.Value:
    return builder.select(builder.icmp_signed("<", one, other), one, other)


def _phase_sums(
    builder: Any, shape: tuple[int, int, int], q: int, image: ir.Value, pitch: ir.Value, taps: tuple[ir.Value, ...],
    phase: ir.Value, residue: ir.Value, bias: ir.Value,
) -> list[ir.Value]:  # fmt: skip
    """Emit the loop over the taps of the q-th column's phase, which makes its sums, row by row."""
    (phases, rows, vectors), (weights, distances, numbers, bounds), count = shape, taps, bias.type.count
    remainder = builder.add(residue, emit.INT(q))
    over = builder.icmp_signed(">=", remainder, emit.INT(phases))
    remainder = builder.select(over, builder.sub(remainder, emit.INT(phases)), remainder)
    start = builder.gep(image, [builder.zext(over, emit.INT)])
    number = builder.add(phase, remainder)
    tap, end = (builder.load(builder.gep(bounds, [builder.add(number, emit.INT(k))])) for k in (0, 1))
    before, head = builder.block, builder.append_basic_block("taps")
    body, done = builder.append_basic_block("tap"), builder.append_basic_block("done")
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(emit.INT)
    held = [builder.phi(bias.type) for _ in range(rows * vectors)]
    builder.cbranch(builder.icmp_signed("<", i, end), body, done)
    builder.position_at_end(body)
    place = builder.gep(start, [builder.load(builder.gep(distances, [i]))])
    scalar = builder.load(builder.gep(weights, [builder.load(builder.gep(numbers, [i]))]))
    factor = emit.splat(builder, scalar, count)
    i.add_incoming(tap, before)
    i.add_incoming(builder.add(i, emit.INT(1)), body)
    for k, total in enumerate(held):
        index = builder.add(builder.mul(pitch, emit.INT(k // vectors)), emit.INT(k % vectors * count))
        total.add_incoming(bias, before)
        total.add_incoming(emit.fma(builder, factor, emit.load(builder, place, index, count), total), body)
    builder.branch(head)
    builder.position_at_end(done)
    return held


def _plain_phase_tile(phases: int) -> Any:
    """The twin in plain loops, one sum at a time."""

    @jit(key=(phases,))
    def plain_tile(
        patch, at, pitch, weight, weight_at, offsets, order, starts, phase, side, bias, out, out_at, apart, high, wide
    ):
        for r in range(high):
            for v in range(wide):
                number, place = phase + (v + side) % phases, at + r * pitch + (v + side) // phases
                total = bias
                for i in range(starts[number], starts[number + 1]):
                    total += weight[weight_at + order[i]] * patch[place + offsets[i]]
                out[out_at + r * apart + v] = total

    return plain_tile
