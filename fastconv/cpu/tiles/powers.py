"""Powers and roots of vectors, for the norms of Lp pooling: as functions for kernels, and to be emitted by tiles."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir

from ..system.building import intrinsic
from . import emit


def _magnitude(builder, vectors: list[ir.Value], norm: ir.Value) -> list[ir.Value]:
    """Absolute values."""
    return [emit.call(builder, f"llvm.fabs.{emit.suffix(one.type)}", one.type, [one]) for one in vectors]


def _square(builder, vectors: list[ir.Value], norm: ir.Value) -> list[ir.Value]:
    """Squares."""
    return [builder.fmul(one, one) for one in vectors]


def _power(builder, vectors: list[ir.Value], norm: ir.Value) -> list[ir.Value]:
    """The `norm`-th powers of absolute values: 3 by multiplications."""
    vectors = _magnitude(builder, vectors, norm)
    cubes, entry = [builder.fmul(builder.fmul(one, one), one) for one in vectors], builder.block
    with builder.if_then(builder.fcmp_ordered("!=", norm, norm.type(3.0))):
        high = [_to_the_power(builder, one, norm) for one in vectors]
        other = builder.block
    return [_joined(builder, (cube, entry), (one, other)) for cube, one in zip(cubes, high, strict=True)]


def _square_root(builder, vectors: list[ir.Value], norm: ir.Value) -> list[ir.Value]:
    """Square roots."""
    return [emit.call(builder, f"llvm.sqrt.{emit.suffix(one.type)}", one.type, [one]) for one in vectors]


def _root(builder, vectors: list[ir.Value], norm: ir.Value) -> list[ir.Value]:
    """The `norm`-th roots of numbers that are not negative."""
    exponent = builder.fdiv(norm.type(1.0), norm)
    return [_to_the_power(builder, one, exponent) for one in vectors]


#: Taylor's coefficients: of log2((1 + s) / (1 - s)) / s in s * s, exact to 1e-10 between the roots of 1/2 and 2; and of
#: 2**f in f, exact to 1e-8 between -1/2 and 1/2.
_LOG2 = [2 / math.log(2) / k for k in (1, 3, 5, 7, 9, 11)]
_EXP2 = [math.log(2) ** k / math.factorial(k) for k in range(8)]


def _to_the_power(builder, vector: ir.Value, exponent: ir.Value) -> ir.Value:
    """The positive power of numbers that are not negative; of floats as 2 ** (exponent * log2(vector)), in doubles, all
    together."""
    if vector.type.element != ir.FloatType():
        result = vector
        for lane in range(vector.type.count):  # not LLVM's intrinsic, which it may call where it is not needed
            element = builder.extract_element(vector, emit.I32(lane))
            element = emit.call(builder, "pow", element.type, [element, exponent])
            result = builder.insert_element(result, element, emit.I32(lane))
        return result
    count = vector.type.count
    double, integers = ir.VectorType(ir.DoubleType(), count), ir.VectorType(emit.INT, count)

    def constant(value: float | int, kind: ir.Type = double) -> ir.Value:
        return ir.Constant(kind, [value] * count)

    def polynomial(coefficients: list[float], at: ir.Value) -> ir.Value:
        total = constant(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            total = emit.fma(builder, total, at, constant(coefficient))
        return total

    def call(function: str, *args: ir.Value) -> ir.Value:
        return emit.call(builder, f"llvm.{function}.{emit.suffix(args[0].type)}", args[0].type, list(args))

    x, power = builder.fpext(vector, double), builder.fpext(exponent, ir.DoubleType())
    # x = m * 2 ** e with m from the root of 1/2, whose bits these are, to the root of 2
    bits = builder.bitcast(x, integers)
    e = builder.ashr(builder.sub(bits, constant(0x3FE6A09E667F3BCD, integers)), constant(52, integers))
    m = builder.bitcast(builder.sub(bits, builder.shl(e, constant(52, integers))), double)
    s = builder.fdiv(builder.fsub(m, constant(1.0)), builder.fadd(m, constant(1.0)))
    log = emit.fma(builder, polynomial(_LOG2, builder.fmul(s, s)), s, builder.sitofp(e, double))
    y = builder.fmul(log, emit.splat(builder, power, count))
    y = call("minnum", call("maxnum", y, constant(-200.0)), constant(200.0))  # beyond a float's range on either side
    whole = call("rint", y)
    scale = builder.shl(builder.add(builder.fptosi(whole, integers), constant(1023, integers)), constant(52, integers))
    result = builder.fmul(polynomial(_EXP2, builder.fsub(y, whole)), builder.bitcast(scale, double))
    result = builder.fptrunc(result, vector.type)

    zero, infinite = ir.Constant(vector.type, [0.0] * count), ir.Constant(vector.type, [math.inf] * count)
    # Zero, infinity and NaN stay what they are.
    itself = builder.or_(builder.fcmp_unordered("ueq", vector, infinite), builder.fcmp_ordered("==", vector, zero))
    return builder.select(itself, vector, result)


def _joined(builder, *values: tuple[ir.Value, ir.Block]) -> ir.Value:
    result = builder.phi(values[0][0].type)
    for value, block in values:
        result.add_incoming(value, block)
    return result


def _of_one(several: Any) -> Any:
    """A function for kernels that does to one vector what `several` does to a list of them."""

    @intrinsic
    def one(typingctx, vector, norm):
        return vector(vector, norm), lambda context, builder, sig, args: several(builder, [args[0]], args[1])[0]

    return one


magnitude, square, power, square_root, root = map(_of_one, (_magnitude, _square, _power, _square_root, _root))
#: Functions that emit a power of each of several vectors, given the norm.
EMIT: dict[str, Any] = {
    "": lambda builder, vectors, norm: vectors,
    "magnitude": _magnitude,
    "square": _square,
    "power": _power,
}
