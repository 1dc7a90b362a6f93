"""Register tiles: the inner loops of the convolutions, sums that stay in vector registers from first to last tap.

Written in LLVM's vector types with the parts of `simd`. Both tiles also exist as plain loops, which take their place
where ``FASTCONV_SIMD=0`` is set or Numba's bounds checks are on: same results but for the order of rounding.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from .runtime import jit
from .simd import (
    _INT,
    Vector,
    _convert,
    _data,
    _fma,
    _load,
    _mask,
    _splat,
    _store_masked,
    _transposed,
    register_bytes,
    registers,
)


def _plain() -> bool:
    checked = bool(config.BOUNDSCHECK)  # type: ignore[attr-defined] # Numba sets it from the environment
    return checked or os.environ.get("FASTCONV_SIMD") == "0"


def tile_shape() -> tuple[int, int]:
    """Largest (rows, vectors) of `tile` whose sums, operands and one broadcast stay in registers.

    32 registers hold 14 x 2 sums, 2 vectors and a broadcast; 16 hold 6 x 2. Of the shapes that fit, the ones with two
    or three vectors a row load least for each multiply-add: 98% of the ceiling in cache (AMD EPYC 9005), as do 9 x 3
    and 6 x 4; 7 x 4 spills (83%), one vector a row is bound by loads (80%).
    """
    return (14, 2) if registers() == 32 else (6, 2)


@lru_cache(maxsize=256)
def tile(rows: int, vectors: int, *, x_in_lanes: bool = False, planes: bool = False, x_step: int = 1) -> Any:
    """A matrix product of `rows` x (`vectors` * lanes) sums kept in registers over ONE flat reduction loop.

    The returned function, for kernels, is called as ``tile(x, at, offsets, packed, packed_at, bias, bias_at, floor,
    out, out_at, pitch, valid_rows, valid_lanes)`` and computes, r counting rows and l lanes of all vectors::

        x_in_lanes:   sum[r, l] = sum over i of packed[packed_at + i * rows + r] * x[at + offsets[i] + l]
        otherwise:    sum[r, l] = sum over i of x[at + offsets[i] + r] * flat_packed[packed_at + i * vectors * lanes +
        l]

    then adds the bias of the output channel (r if x_in_lanes, else l), raises what is below `floor` to it and writes

        planes and not x_in_lanes:   out[out_at + l * pitch + r]      (transposed in registers)
        otherwise:                   out[out_at + r * pitch + l]

    for r < valid_rows and l < valid_lanes. Lanes and rows beyond are computed from whatever lies there, so `x`
    needs room behind: `rows` or `vectors` * lanes elements. With nested loops for the reduction LLVM hoists the
    broadcasts and spills the sums (measured: a third of the speed), which is why a table gives the offsets.
    """
    if _plain():
        return _plain_tile(rows, vectors, x_in_lanes, planes, x_step)

    @intrinsic
    def register_tile(
        typingctx, x, at, offsets, packed, packed_at, bias, bias_at, floor, out, out_at, pitch, valid_rows, valid_lanes
    ):
        kind = Vector(out.dtype)
        count = kind.count

        def codegen(context, builder, sig, args):
            names = ("x", "at", "offsets", "packed", "packed_at", "bias", "bias_at", "floor", "out", "out_at", "pitch")
            arg = dict(zip((*names, "valid_rows", "valid_lanes"), args, strict=True))
            arrays = {"x": x, "offsets": offsets, "packed": packed, "bias": bias, "out": out}
            data = {name: _data(context, builder, array, arg[name]) for name, array in arrays.items()}
            table = context.make_array(offsets)(context, builder, arg["offsets"])
            steps = builder.extract_value(table.shape, 0)
            start = builder.gep(data["x"], [arg["at"]])
            weights = builder.gep(data["packed"], [arg["packed_at"]])
            step_size = rows if x_in_lanes else vectors * count

            entry, loop, done = builder.block, builder.append_basic_block("taps"), builder.append_basic_block("done")
            element = context.get_value_type(out.dtype)
            zero = ir.Constant(ir.VectorType(element, count), None)
            builder.branch(loop)
            builder.position_at_end(loop)
            i = builder.phi(_INT)
            sums = [[builder.phi(zero.type) for _ in range(vectors)] for _ in range(rows)]
            here = builder.gep(start, [builder.load(builder.gep(data["offsets"], [i]))])
            there = builder.gep(weights, [builder.mul(i, _INT(step_size))])
            in_lanes, in_rows = ((here, x), (there, packed)) if x_in_lanes else ((there, packed), (here, x))
            wide = [
                _convert(
                    builder, _load(builder, in_lanes[0], _INT(v * count), count), in_lanes[1].dtype, out.dtype, count
                )
                for v in range(vectors)
            ]
            following = builder.add(i, _INT(1))
            for r in range(rows):
                scalar = builder.load(builder.gep(in_rows[0], [_INT(r if x_in_lanes else r * x_step)]))
                one = _splat(builder, _convert(builder, scalar, in_rows[1].dtype, out.dtype, count), count)
                for v in range(vectors):
                    value = _fma(builder, one, wide[v], sums[r][v])
                    sums[r][v].add_incoming(zero, entry)
                    sums[r][v].add_incoming(value, loop)
                    sums[r][v] = value
            i.add_incoming(_INT(0), entry)
            i.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, steps), loop, done)

            builder.position_at_end(done)
            biases = builder.gep(data["bias"], [arg["bias_at"]])
            lowest = _splat(builder, arg["floor"], count)
            for r in range(rows):
                for v in range(vectors):
                    if x_in_lanes:
                        shift = _splat(builder, builder.load(builder.gep(biases, [_INT(r)])), count)
                    else:
                        shift = _load(builder, biases, _INT(v * count), count)
                    sums[r][v] = _raised(builder, _plus(builder, sums[r][v], shift), lowest)
            goal = builder.gep(data["out"], [arg["out_at"]])
            if planes and not x_in_lanes:
                for v in range(vectors):
                    for r in range(0, rows, count):
                        block = [sums[r + k][v] if r + k < rows else zero for k in range(count)]
                        _write(
                            builder,
                            _transposed(builder, block),
                            goal,
                            arg["pitch"],
                            (v * count, r),
                            (arg["valid_lanes"], arg["valid_rows"]),
                        )
            else:
                for v in range(vectors):
                    column = [sums[r][v] for r in range(rows)]
                    _write(builder, column, goal, arg["pitch"], (0, v * count), (arg["valid_rows"], arg["valid_lanes"]))
            return context.get_dummy_value()

        return types.void(
            x, types.int64, offsets, packed, types.int64, bias, types.int64, out.dtype, out, *[types.int64] * 4
        ), codegen

    return register_tile


def _plus(builder, a, b):
    return builder.add(a, b) if isinstance(a.type.element, ir.IntType) else builder.fadd(a, b)


def _raised(builder, value, lowest):
    """The larger of two vectors; a NaN stays."""
    is_int = isinstance(value.type.element, ir.IntType)
    below = builder.icmp_signed("<", value, lowest) if is_int else builder.fcmp_ordered("<", value, lowest)
    return builder.select(below, lowest, value)


def _write(builder, vectors, goal, pitch, origin, valid):
    """Store vector k at row origin[0] + k, column origin[1] of a matrix, as far as it lies in valid[0] x valid[1]."""
    count = vectors[0].type.count
    mask = _mask(builder, count, builder.sub(valid[1], _INT(origin[1])))
    for k, vector in enumerate(vectors):
        row = _INT(origin[0] + k)
        inside = builder.icmp_signed("<", row, valid[0])
        index = builder.add(builder.mul(row, pitch), _INT(origin[1]))
        with builder.if_then(inside, likely=True):
            _store_masked(builder, vector, goal, index, mask)


def _plain_tile(rows: int, vectors: int, x_in_lanes: bool, planes: bool, x_step: int) -> Any:
    """The same product as loops over one sum at a time."""
    transposed = planes and not x_in_lanes

    register_width = register_bytes()

    @jit(key=(rows, vectors, x_in_lanes, planes, x_step))
    def plain_tile(
        x, at, offsets, packed, packed_at, bias, bias_at, floor, out, out_at, pitch, valid_rows, valid_lanes
    ):
        flat_x, flat_packed, flat_bias, flat_out = x.reshape(-1), packed.reshape(-1), bias.reshape(-1), out.reshape(-1)
        width = vectors * (register_width // out.itemsize)
        for r in range(min(rows, valid_rows)):
            for lane in range(min(width, valid_lanes)):
                total = out.dtype.type(0)
                for i in range(offsets.size):
                    if x_in_lanes:
                        total += flat_packed[packed_at + i * rows + r] * flat_x[at + offsets[i] + lane]
                    else:
                        total += flat_x[at + offsets[i] + r * x_step] * flat_packed[packed_at + i * width + lane]
                total += flat_bias[bias_at + (r if x_in_lanes else lane)]
                flat_out[out_at + (lane * pitch + r if transposed else r * pitch + lane)] = (
                    floor if total < floor else total
                )

    return plain_tile
