"""The ``range`` of kernels: a number that is compared and grows.

Numba's own ``range`` also counts the remaining turns down. LLVM needs several rounds to make of that the loop that it
knows best, and after one round inner loops kept parts of the count (pooling took 8% longer).

A step that is not a constant must be positive: to test its sign in every turn cost pooling 8%, too.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.core.imputils import RefType, iternext_impl, lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import models, register_model


class Range(types.SimpleIterableType):
    """Numbers of one type that go up or down."""

    def __init__(self, number: types.Integer, is_up: bool) -> None:
        self.number, self.is_up = number, is_up
        super().__init__(f"range({number}, {is_up})", _Iterator(number, is_up))


class _Iterator(types.SimpleIteratorType):
    def __init__(self, number: types.Integer, is_up: bool) -> None:
        self.number, self.is_up = number, is_up
        super().__init__(f"iterator({number}, {is_up})", number)


@register_model(Range)
class _RangeModel(models.StructModel):
    def __init__(self, manager: Any, kind: Range) -> None:
        super().__init__(manager, kind, [(name, kind.number) for name in ("start", "stop", "step")])


@register_model(_Iterator)
class _IteratorModel(models.StructModel):
    def __init__(self, manager: Any, kind: _Iterator) -> None:
        members = [("at", types.EphemeralPointer(kind.number)), ("stop", kind.number), ("step", kind.number)]
        super().__init__(manager, kind, members)


def numbers(*args: int) -> range:
    """The function that takes the place of ``range`` in kernels."""
    return range(*args)


@infer_global(numbers)
class _Numbers(AbstractTemplate):
    prefer_literal = True  # otherwise Numba hides constants: a step of -1 would go up

    def generic(self, args: tuple, kws: dict) -> Any:
        number: Any = self.context.unify_types(*map(types.unliteral, args))
        if number not in (types.int64, types.uint64):
            return None
        step = getattr(args[2], "literal_value", 1) if len(args) == 3 else 1
        return signature(Range(number, step > 0), *[number] * len(args))


@lower_builtin(numbers, types.VarArg(types.Any))
def _lower_numbers(context, builder, sig, args):
    zero, one = (args[0].type(value) for value in (0, 1))
    start, stop, step = {1: lambda: (zero, *args, one), 2: lambda: (*args, one), 3: lambda: args}[len(args)]()
    return range_value(context, builder, sig.return_type, start, stop, step)


def range_value(context, builder, kind: Range, start: Any, stop: Any, step: Any) -> Any:
    """A range of these numbers."""
    made = cgutils.create_struct_proxy(kind)(context, builder)
    made.start, made.stop, made.step = start, stop, step
    return made._getvalue()


@lower_builtin("getiter", Range)
def _get_iterator(context, builder, sig, args):
    given = cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0])
    made = cgutils.create_struct_proxy(sig.return_type)(context, builder)
    made.at = cgutils.alloca_once_value(builder, given.start)
    made.stop, made.step = given.stop, given.step
    return made._getvalue()


@lower_builtin("iternext", _Iterator)
@iternext_impl(RefType.UNTRACKED)
def _next(context, builder, sig, args, result):
    kind = sig.args[0]
    iterator = cgutils.create_struct_proxy(kind)(context, builder, args[0])
    value = builder.load(iterator.at)
    compare = builder.icmp_signed if kind.number.signed else builder.icmp_unsigned
    result.set_valid(compare("<" if kind.is_up else ">", value, iterator.stop))
    builder.store(builder.add(value, iterator.step, flags=("nsw",) if kind.number.signed else ()), iterator.at)
    result.yield_(value)
