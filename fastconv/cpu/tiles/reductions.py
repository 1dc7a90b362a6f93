"""The loop that all register tiles share: sums of products, kept in registers and put away after each part."""

from __future__ import annotations

from itertools import chain

from llvmlite import ir

from . import emit
from .simd import register_bytes

#: Products that a sum takes before it is added to a total and begins anew: rounding errors then grow with the size and
#: number of parts, not with all products (measured: 4,608 products in one sum had 5 times the error). To end the loop,
#: put the sums aside and begin again takes 200 cycles, 3% of the time of a part.
PART = 256


#: Steps of a sum by which weights are fetched ahead. From memory, or a shared cache, the hardware alone brings them
#: late: 1024 to 2048 channels at 7x7 gain 12%, `conv_winograd` of 512 channels at 7x7 9%. 16 to 128 steps are as good.
AHEAD = 48


def reduction(builder, rows, vectors, steps, zero, factors):
    """Emit the reduction loop: sums[r][v] = sum over i < steps of scalar[r] * vector[v]; `factors(i)` is two functions,
    which emit scalar r and vector v, both as vectors.

    ONE flat loop, within one over parts: with nested loops over channels and taps LLVM hoists the broadcasts and spills
    the sums (measured: a third of the speed).
    """
    totals = _memory(builder, zero.type, rows, vectors)
    several = builder.icmp_signed(">", steps, emit.INT(PART))
    entry = builder.block
    names = ("part", "taps", "tested", "folded", "begun", "grown", "whole", "added", "done")
    part, taps, tested, folded, begun, grown, whole, added, done = map(builder.append_basic_block, names)
    builder.branch(part)

    builder.position_at_end(part)
    first = builder.phi(emit.INT)
    first.add_incoming(emit.INT(0), entry)
    end = builder.add(first, emit.INT(PART))
    end = builder.select(builder.icmp_signed("<", end, steps), end, steps)
    builder.branch(taps)

    builder.position_at_end(taps)
    i = builder.phi(emit.INT)
    sums = [[builder.phi(zero.type) for _ in range(vectors)] for _ in range(rows)]
    scalar, vector = factors(i)
    following = builder.add(i, emit.INT(1))
    held = rows < vectors  # those are kept in registers, the others come one by one
    known = [(scalar if held else vector)(k) for k in range(rows if held else vectors)]
    for one in range(vectors if held else rows):
        factor = (vector if held else scalar)(one)
        for other, held_factor in enumerate(known):
            r, v = (other, one) if held else (one, other)
            value = emit.fma(builder, factor, held_factor, sums[r][v])
            sums[r][v].add_incoming(zero, part)
            sums[r][v].add_incoming(value, taps)
            sums[r][v] = value
    i.add_incoming(first, part)
    i.add_incoming(following, taps)
    builder.cbranch(builder.icmp_signed("<", following, end), taps, tested)

    builder.position_at_end(tested)
    builder.cbranch(builder.icmp_signed("<", end, steps), folded, whole)
    builder.position_at_end(folded)
    builder.cbranch(builder.icmp_signed(">", first, emit.INT(0)), grown, begun)
    for block in (begun, grown):
        builder.position_at_end(block)
        for place, value in zip(chain(*totals), chain(*sums), strict=True):
            builder.store(value if block is begun else emit.plus(builder, builder.load(place), value), place)
        builder.branch(part)
        first.add_incoming(end, block)
    builder.position_at_end(whole)
    builder.cbranch(several, added, done)
    builder.position_at_end(added)
    larger = [
        [emit.plus(builder, builder.load(place), value) for place, value in zip(*row, strict=True)]
        for row in zip(totals, sums, strict=True)
    ]
    builder.branch(done)

    builder.position_at_end(done)
    for r in range(rows):
        for v in range(vectors):
            result = builder.phi(zero.type)
            result.add_incoming(sums[r][v], whole)
            result.add_incoming(larger[r][v], added)
            sums[r][v] = result
    return sums


def _memory(builder, kind: ir.VectorType, rows: int, vectors: int) -> list[list[ir.Value]]:
    """Places for vectors on the stack.

    LLVM must not take them for variables: it would write zeros to them before the first part, and spill others. So
    their address comes from an instruction that it does not look into.
    """
    with builder.goto_entry_block():
        memory = builder.alloca(ir.ArrayType(kind, rows * vectors))
        memory.align = register_bytes()
    pointer = memory.type
    hidden = builder.asm(ir.FunctionType(pointer, [pointer]), "", "=r,0", [memory], False)
    zero = ir.IntType(32)(0)
    places = [builder.gep(hidden, [zero, ir.IntType(32)(k)]) for k in range(rows * vectors)]
    return [places[r * vectors : (r + 1) * vectors] for r in range(rows)]
