"""The loop that all register tiles share: sums of products, kept in registers and put away after each part."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from . import emit
from .simd import register_bytes, registers

#: Products that a sum takes before it is added to a total and begins anew: rounding errors then grow with the size and
#: number of parts, not with all products (measured: 4,608 products in one sum had 5 times the error). To end the loop,
#: put the sums aside and begin again takes 200 cycles, 3% of the time of a part.
PART = 256


#: Steps of a sum by which weights are fetched ahead. From memory, or a shared cache, the hardware alone brings them
#: late: 1024 to 2048 channels at 7x7 gain 12%, `conv_winograd` of 512 channels at 7x7 9%. 16 to 128 steps are as good.
AHEAD = 48

#: Steps of a turn of the loop, where there are 16 vector registers: a step of a small tile is so short that counting
#: and addresses take a third of its instructions. (6 x 2 sums on an AMD EPYC of Zen 3: one step a turn, with a fetch
#: ahead, 79% of the FMA ceiling, without it 87%, four steps 91%; eight spill sums. Layers: 1.07 to 1.3 times as fast.)
TURN = 4


def fetch_ahead(builder: ir.IRBuilder, weights: ir.Value, panel: int) -> None:
    """Emit the fetch of a step's weights, AHEAD steps on; with 16 registers nothing: it takes more than it gains."""
    if registers() == 32:
        emit.prefetch(builder, weights, AHEAD * panel, panel)


def turns(
    builder: ir.IRBuilder, start: ir.Value, stop: ir.Value, sums: list[ir.Value], step: Any, begin: Any = None
) -> list[ir.Value]:
    """Emit ``for i in range(start, stop): sums = step(i, sums)``, several steps a turn; the last sums are returned.

    A turn begins with what ``begin(i, steps)`` emits, from step i on.
    """

    def turn(steps: int) -> Any:
        def body(i: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            if begin:
                begin(i, steps)
            for k in range(steps):
                sums = step(builder.add(i, emit.INT(k)), sums)
            return sums

        return body

    if registers() == 16 and not isinstance(sums[0].type.element, ir.IntType):
        whole = builder.add(start, builder.and_(builder.sub(stop, start), emit.INT(-TURN)))
        sums = emit.loop(builder, start, whole, emit.INT(TURN), sums, turn(TURN))
        start = whole
    return emit.loop(builder, start, stop, emit.INT(1), sums, turn(1))


def reduction(builder, rows, vectors, steps, zero, factors, begin=None):
    """Emit the reduction loop: sums[r][v] = sum over i < steps of scalar[r] * vector[v]; `factors(i)` is two functions,
    which emit scalar r and vector v, both as vectors. `begin`: see `turns`.

    ONE flat loop, within one over parts: with nested loops over channels and taps LLVM hoists the broadcasts and spills
    the sums (measured: a third of the speed).
    """

    def step(i, sums):
        scalar, vector = factors(i)
        held = rows < vectors  # those are kept in registers, the others come one by one
        known = [(scalar if held else vector)(k) for k in range(rows if held else vectors)]
        for one in range(vectors if held else rows):
            factor = (vector if held else scalar)(one)
            for other, held_factor in enumerate(known):
                at = other * vectors + one if held else one * vectors + other
                sums[at] = emit.fma(builder, factor, held_factor, sums[at])
        return sums

    totals = _memory(builder, zero.type, rows * vectors)
    several = builder.icmp_signed(">", steps, emit.INT(PART))
    entry = builder.block
    names = ("part", "folded", "begun", "grown", "whole", "added", "done")
    part, folded, begun, grown, whole, added, done = map(builder.append_basic_block, names)
    builder.branch(part)

    builder.position_at_end(part)
    first = builder.phi(emit.INT)
    first.add_incoming(emit.INT(0), entry)
    end = builder.add(first, emit.INT(PART))
    end = builder.select(builder.icmp_signed("<", end, steps), end, steps)
    sums = turns(builder, first, end, [zero] * (rows * vectors), step, begin)
    builder.cbranch(builder.icmp_signed("<", end, steps), folded, whole)
    builder.position_at_end(folded)
    builder.cbranch(builder.icmp_signed(">", first, emit.INT(0)), grown, begun)
    for block in (begun, grown):
        builder.position_at_end(block)
        for place, value in zip(totals, sums, strict=True):
            builder.store(value if block is begun else emit.plus(builder, builder.load(place), value), place)
        builder.branch(part)
        first.add_incoming(end, block)
    builder.position_at_end(whole)
    builder.cbranch(several, added, done)
    builder.position_at_end(added)
    larger = [emit.plus(builder, builder.load(place), value) for place, value in zip(totals, sums, strict=True)]
    builder.branch(done)

    builder.position_at_end(done)
    results = [builder.phi(zero.type) for _ in sums]
    for result, value, more in zip(results, sums, larger, strict=True):
        result.add_incoming(value, whole)
        result.add_incoming(more, added)
    return [results[r * vectors : (r + 1) * vectors] for r in range(rows)]


def _memory(builder: ir.IRBuilder, kind: ir.VectorType, count: int) -> list[ir.Value]:
    """Places for vectors on the stack.

    LLVM must not take them for variables: it would write zeros to them before the first part, and spill others. So
    their address comes from an instruction that it does not look into.
    """
    with builder.goto_entry_block():
        memory = builder.alloca(ir.ArrayType(kind, count))
        memory.align = register_bytes()
    pointer = memory.type
    hidden = builder.asm(ir.FunctionType(pointer, [pointer]), "", "=r,0", [memory], False)
    zero = ir.IntType(32)(0)
    return [builder.gep(hidden, [zero, ir.IntType(32)(k)]) for k in range(count)]
