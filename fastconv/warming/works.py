"""Works that compile kernels in advance: each is a problem with the function that runs it.

A kernel is compiled when it first runs. So everything that shall be ready runs once, on arrays whose values do not
matter. For an operation, every algorithm of its table runs on the problems below, which are small and together meet the
common register tiles. For a spec or a plan, the algorithm that the planner picks runs.

Works that compile the same code form a unit: a family of operations (convolutions of signals, images and volumes are
one), an algorithm and a dtype.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from .. import grad
from ..cpu import calls, planner
from ..cpu.recipes import FILTERS, check_precision, recipe, weight_recipe
from ..planner.choose import name, operation
from ..planner.plan import Plan
from ..specs.conv import ConvSpec, conv_spec
from ..specs.conv_transpose import TransposeSpec
from ..specs.pool import PoolSpec, adaptive_spec, pool_spec
from ..specs.unfold import columns_shape
from ..specs.unpool import UnpoolSpec
from . import filters
from .team import Unit, Work

# -- problems ------------------------------------------------------------------------------------------------

#: A problem: shapes of x and of the weight, and options.
Problem = tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]

#: Convolutions of every kind that is compiled separately, as layers of networks have them.
LAYERS: tuple[Problem, ...] = (
    # 1x1
    ((1, 64, 28, 28), (64, 64, 1, 1), {}),
    ((1, 256, 7, 7), (512, 256, 1, 1), {}),
    ((1, 64, 28, 28), (128, 64, 1, 1), {"stride": 2}),
    ((1, 256, 14, 14), (512, 256, 1, 1), {"stride": 2}),
    # 3x3 and other sizes
    ((1, 64, 28, 28), (64, 64, 3, 3), {"padding": 1}),
    ((1, 64, 7, 7), (64, 64, 3, 3), {"padding": 1}),
    ((1, 64, 28, 28), (16, 64, 3, 3), {"padding": 1}),
    ((1, 64, 28, 28), (64, 64, 3, 3), {"padding": 1, "stride": 2}),
    ((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1, "stride": 2}),
    ((1, 64, 28, 28), (64, 64, 2, 2), {}),
    ((1, 48, 28, 28), (64, 48, 5, 5), {"padding": 2}),
    ((1, 64, 17, 17), (64, 64, 1, 7), {"padding": (0, 3)}),
    ((1, 64, 17, 17), (64, 64, 7, 1), {"padding": (3, 0)}),
    # first layers, and fully connected ones
    ((1, 3, 64, 64), (16, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 3, 96, 96), (8, 3, 3, 3), {"padding": 1}),
    ((1, 64, 7, 7), (64, 64, 7, 7), {}),
    ((4, 64, 7, 7), (64, 64, 7, 7), {}),
    # depthwise
    *(((1, 64, size, size), (64, 1, 3, 3), {"groups": 64, "padding": 1}) for size in (56, 28, 14, 7)),
    *(((1, 64, size, size), (64, 1, 3, 3), {"groups": 64, "padding": 1, "stride": 2}) for size in (112, 28, 14)),
    ((1, 64, 28, 28), (64, 1, 5, 5), {"groups": 64, "padding": 2}),
    ((1, 64, 56, 56), (64, 1, 7, 7), {"groups": 64, "padding": 3}),
    # signals and volumes
    ((1, 64, 1000), (64, 64, 3), {"padding": 1}),
    ((1, 64, 1000), (64, 64, 3), {"padding": 1, "stride": 2}),
    ((1, 64, 1000), (64, 64, 2), {"dilation": 4}),
    ((1, 64, 1000), (128, 64, 1), {}),
    ((1, 64, 1000), (64, 1, 3), {"groups": 64, "padding": 1}),
    ((1, 16, 8, 28, 28), (16, 16, 3, 3, 3), {"padding": 1}),
    ((1, 16, 8, 28, 28), (16, 16, 3, 1, 1), {"padding": (1, 0, 0)}),
    ((1, 16, 8, 28, 28), (32, 16, 1, 1, 1), {}),
    ((1, 16, 8, 28, 28), (16, 1, 3, 3, 3), {"groups": 16, "padding": 1}),
)
#: Image filters, which have algorithms of their own.
IMAGES: tuple[Problem, ...] = (
    *(((1, 1, 512, 512), (1, 1, size, size), {}) for size in (3, 5, 7, 9, 31)),
    *(((1, 1, 512, 512), (1, 1, *size), {}) for size in ((1, 31), (31, 1))),
    ((1, 1, 160, 160), (1, 1, 11, 11), {}),
)
#: Transposed convolutions: shapes of the result and of the weight, and options of the convolution that is transposed.
TRANSPOSED: tuple[Problem, ...] = (
    ((1, 32, 64, 64), (64, 32, 2, 2), {"stride": 2}),
    ((1, 32, 32, 32), (64, 32, 4, 4), {"stride": 2, "padding": 1}),
    ((1, 64, 28, 28), (64, 64, 3, 3), {"padding": 1}),
    ((1, 64, 56, 56), (64, 1, 4, 4), {"stride": 2, "padding": 1, "groups": 64}),
    ((4, 64, 4, 4), (100, 64, 4, 4), {}),
    ((1, 64, 1024), (128, 64, 16), {"stride": 8, "padding": 4}),
    ((1, 16, 16, 16, 16), (32, 16, 2, 2, 2), {"stride": 2}),
)
#: Poolings: the window and the options, which hold for each axis.
POOLINGS: tuple[tuple[int, dict[str, Any]], ...] = (
    (2, {}),
    (3, {"stride": 2, "padding": 1}),
    (3, {"stride": 1, "dilation": 2}),
    (13, {"stride": 1}),
    (32, {}),
)
#: Input of these poolings: images and channels, and the size of each spatial axis.
POOLED, POOLED_SIZE = (2, 4), 32
#: Numbers of outputs of adaptive poolings along each axis of that input.
ADAPTIVE = (1, 7)
#: An algorithm runs the problems for which it is estimated to take at most so many times as long as the fastest one or,
#: if there are none, the problem where it comes closest: nobody waits for code that the planner never picks.
NEAR = 3.0


def _convolutions(problems: Iterable[Problem], axes: int, dtype: np.dtype) -> list[ConvSpec]:
    return [conv_spec(x_shape, weight_shape, (dtype,), axes=axes, **options)
            for x_shape, weight_shape, options in problems if len(x_shape) == axes + 2]


def _poolings(op: str, axes: int, dtype: np.dtype) -> list[PoolSpec]:
    shape, norm = POOLED + (POOLED_SIZE,) * axes, 2.0 if op == "lp" else 1.0
    return [pool_spec(op, shape, dtype, window, axes=axes, norm_type=norm, **options) for window, options in POOLINGS]


# -- running one ---------------------------------------------------------------------------------------------


def _weights(spec: ConvSpec | TransposeSpec) -> np.ndarray:
    """A weight that is an outer product and has no integers, so that code that looks for such factors runs, too."""
    return np.full(spec.weight_shape, 0.5).astype(spec.dtype)


def _plan(spec: ConvSpec | TransposeSpec, algorithm: str, for_one_call: bool = False) -> None:
    this, x, weight = recipe(spec, algorithm, for_one_call), np.zeros(spec.x_shape, spec.dtype), _weights(spec)
    operands = this.pack(weight, None)
    this.run(x, operands, None, ())
    if operands[0] is not this.module:  # for other weights than these, another algorithm runs
        this = recipe(spec, name(this.module), for_one_call)
        this.run(x, this.pack(weight, None), None, ())


#: Runs a plain call, which packs weights in another way than a plan.
_call = partial(_plan, for_one_call=True)


def _weight_gradient(spec: ConvSpec, algorithm: str) -> None:
    x, grad = np.zeros(spec.x_shape, spec.dtype), np.zeros(spec.output_shape, spec.dtype)
    weight_recipe(spec, algorithm).run(x, grad, None)


def _pool(spec: PoolSpec, algorithm: str) -> None:
    for indices in (False, True)[: 1 + spec.picks]:
        recipe(spec, algorithm).run(_pooled(spec), indices, None)


def _pool_gradient(spec: PoolSpec, _: str) -> None:
    calls.pool_gradient(spec, _pooled(spec), np.zeros(spec.output_shape, spec.dtype), None)


def _unpool(spec: PoolSpec, _: str) -> None:
    x = np.zeros(spec.output_shape, spec.dtype)
    calls.unpool(UnpoolSpec(x.shape, _pooled(spec).shape, x.dtype), x, x.astype(np.int64), None)


def _pooled(spec: PoolSpec) -> np.ndarray:
    return np.zeros((*spec.lead, *(spec.depth.d, spec.h, spec.w)[3 - spec.axes :]), spec.dtype)


def _unfold(spec: ConvSpec, _: str) -> None:
    calls.unfold(spec, np.zeros(spec.x_shape, spec.dtype), None)


def _fold(spec: ConvSpec, _: str) -> None:
    calls.fold(spec, np.zeros(columns_shape(spec), spec.dtype), None)


# -- works of operations and specs ---------------------------------------------------------------------------


Works = Iterator[tuple[Unit, Work]]


def _unit(family: str, algorithm: str, spec: ConvSpec | TransposeSpec | PoolSpec) -> Unit:
    return family, algorithm, str(spec.x_dtype)


def _of_table(op: str, axes: int, dtype: np.dtype) -> Works:
    """Works of an operation's algorithms on problems that suit them; also of a pooling's gradient, if it has one."""
    kind, _, other = _family(op).partition("_")
    if other == "pool":
        yield from _near(op, _poolings(kind, axes, dtype), _pool)
        if op in grad.__all__:
            yield from _of_pool_gradient(op, axes, dtype)
    elif other == "weight":
        yield from _near(op, _convolutions(LAYERS, axes, dtype), _weight_gradient)
    else:
        yield from _near(op, _convolutions(LAYERS, axes, dtype), _plan, _call)
        yield from _near(op, _convolutions(IMAGES, axes, dtype), _plan, _call, special=True)


def _family(op: str) -> str:
    """An operation's name without the number of its axes."""
    return re.sub(r"\dd", "", op)


def _near(op: str, specs: Sequence[Any], *runs: Callable[[Any, str], None], special: bool = False) -> Works:
    """Works of each algorithm on the problems for which `NEAR` allows it. Algorithms for special weights, which layers
    do not have, take part only with `special`."""
    kinds = (False, True) if special else (False,)
    every = [dict(chain.from_iterable(planner.candidates(spec, op=op, special=kind).items() for kind in kinds))
             for spec in specs]  # fmt: skip
    for label in planner.algorithms(op):
        times = {spec: costs[label] / min(costs.values())
                 for spec, costs in zip(specs, every, strict=True) if label in costs}  # fmt: skip
        most = max(NEAR, min(times.values(), default=0.0))
        for spec in (spec for spec, time in times.items() if time <= most):
            yield from ((_unit(_family(op), label, spec), Work(run, spec, label)) for run in runs)


def _of_images(op: str, axes: int, dtype: np.dtype) -> Works:
    """Works of image filters by the algorithms of `conv2d`'s table that `corr2d` and `fastconv.signal` use."""
    works = _near("conv2d", _convolutions(IMAGES, axes, dtype), _plan, _call, special=True)
    return (found for found in works if found[1].algorithm in (*FILTERS, "row"))


def _of_transposed(op: str, axes: int, dtype: np.dtype) -> Works:
    for spec in _convolutions(TRANSPOSED, axes, dtype):
        yield from _of_spec(TransposeSpec(spec))


def _of_pool_gradient(op: str, axes: int, dtype: np.dtype) -> Works:
    spec = _poolings(op.partition("_")[0], axes, dtype)[0]
    yield _unit(f"{spec.op}_pool2d gradient", "", spec), Work(_pool_gradient, spec)


def _of_adaptive(op: str, axes: int, dtype: np.dtype) -> Works:
    for size in ADAPTIVE:
        yield from _of_spec(adaptive_spec(op.split("_")[1], POOLED + (POOLED_SIZE,) * axes, dtype, size))


def _of_unpool(op: str, axes: int, dtype: np.dtype) -> Works:
    spec = _poolings("max", axes, dtype)[0]
    yield _unit(op, "", spec), Work(_unpool, spec)


def _of_windows(op: str, axes: int, dtype: np.dtype) -> Works:
    spec = conv_spec(POOLED + (POOLED_SIZE,) * axes, (1, POOLED[1], 3, 3), (dtype,), padding=1)
    yield _unit(op, "", spec), Work(_unfold if op == "unfold2d" else _fold, spec)


#: Operations that have no table, use only a part of one, or have a table whose algorithms use kernels of others.
BESIDES: dict[str, Callable[[str, int, np.dtype], Works]] = {
    "corr2d": _of_images,
    "correlate2d": _of_images,
    "convolve2d": _of_images,
    "conv_transpose2d": _of_transposed,
    "conv_transpose1d": _of_transposed,
    "conv_transpose3d": _of_transposed,
    "conv2d_input": _of_transposed,
    "adaptive_avg_pool2d": _of_adaptive,
    "adaptive_max_pool2d": _of_adaptive,
    "max_pool2d_input": _of_pool_gradient,
    "min_pool2d_input": _of_pool_gradient,
    "avg_pool2d_input": _of_pool_gradient,
    "max_unpool2d": _of_unpool,
    "unfold2d": _of_windows,
    "fold2d": _of_windows,
}


def names() -> tuple[str, ...]:
    """Names of the operations whose kernels can be compiled in advance."""
    return tuple(dict.fromkeys((*planner.operations(), *BESIDES, *filters.NAMES)))


def _of_operation(op: str, dtype: np.dtype) -> Works:
    if op in filters.NAMES:
        return filters.works(op, dtype)
    return BESIDES.get(op, _of_table)(op, int(re.findall(r"(\d)d", op)[0]), dtype)


def _of_spec(spec: ConvSpec | TransposeSpec | PoolSpec) -> Works:
    """Works of the algorithms that the planner picks for a plan and for a plain call, which packs the weights each
    time."""
    check_precision(spec)
    family = _family(operation(spec))
    for run, for_one_call in ((_pool, False),) if isinstance(spec, PoolSpec) else ((_plan, False), (_call, True)):
        label = name(planner.choose(spec, "auto", for_one_call=for_one_call).algorithm)
        yield _unit(family, "" if isinstance(spec, TransposeSpec) else label, spec), Work(run, spec)


def by_every_algorithm(specs: Iterable[ConvSpec]) -> dict[Unit, list[Work]]:
    """Works that plan each convolution with every algorithm that supports it."""
    found: dict[Unit, list[Work]] = {}
    for spec in specs:
        op = operation(spec)
        for label in (name(module) for module in planner.table(op) if module.supports(spec) is None):
            found.setdefault(_unit(_family(op), label, spec), []).append(Work(_plan, spec, label))
    return found


def stages(problems: Iterable[Any], dtypes: Sequence[np.dtype]) -> list[dict[Unit, list[Work]]]:
    """The works of all units: first those with an algorithm, then those that find most of their kernels compiled."""
    found: list[dict[Unit, list[Work]]] = [{}, {}]
    for problem in problems:
        works: Works
        if isinstance(problem, str):
            works = chain.from_iterable(_of_operation(problem, dtype) for dtype in dtypes)
        else:
            works = _of_spec(problem.problem if isinstance(problem, Plan) else problem)
        for unit, work in works:
            several = found[not unit[1]].setdefault(unit, [])
            if work not in several:
                several.append(work)
    return [units for units in found if units]
