"""The loop that measures a processor's ceiling: multiply-adds of vectors in registers, and nothing else."""

from __future__ import annotations

from llvmlite import ir
from numba import types

from ..system.building import intrinsic
from . import emit
from .simd import Vector

#: Independent sums in `fma_chains`: more than latency times throughput of any current core, fewer than its registers.
CEILING_CHAINS = 12


@intrinsic
def fma_chains(typingctx, steps, scalar, results, number):
    """`steps` rounds of CEILING_CHAINS vector multiply-adds that do not wait for each other; writes a scalar."""
    count = Vector(scalar).count

    def codegen(context, builder, sig, args):
        factor = emit.splat(builder, args[1], count)
        entry, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(emit.INT)
        step.add_incoming(emit.INT(0), entry)
        sums = [builder.phi(factor.type) for _ in range(CEILING_CHAINS)]
        for number, value in enumerate(sums):
            value.add_incoming(ir.Constant(factor.type, [args[1].type(float(number))] * count), entry)
        new = [emit.fma(builder, value, factor, factor) for value in sums]
        for value, following in zip(sums, new, strict=True):
            value.add_incoming(following, loop)
        following = builder.add(step, emit.INT(1))
        step.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, args[0]), loop, done)
        builder.position_at_end(done)
        total = new[0]
        for value in new[1:]:
            total = builder.fadd(total, value)
        place = builder.gep(emit.data_of(context, builder, results, args[2]), [args[3]])
        builder.store(builder.extract_element(total, emit.I32(0)), place)
        return context.get_dummy_value()

    return types.void(types.int64, scalar, results, types.int64), codegen
