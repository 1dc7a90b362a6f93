"""Planning takes no time, whatever the sizes: what is counted here is work, not seconds.

Each field of a problem is set to numbers from 1 to the largest, one at a time; then all that is worked out before a
kernel runs is worked out under a tracer that counts the lines that run, those of loops at every turn, and stops at a
bound. What NumPy would loop over takes memory, which is bounded, too.
"""

from __future__ import annotations

import contextlib
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastconv
from fastconv.cpu import planner
from fastconv.cpu.algorithms import transpose_phases
from fastconv.cpu.recipes import FILTERS
from fastconv.functional import shapes
from fastconv.specs import phases
from fastconv.specs.arguments import LIMIT
from fastconv.specs.conv import ConvSpec, conv_spec
from fastconv.specs.conv_transpose import TransposeSpec, transpose_spec
from fastconv.specs.pool import adaptive_spec, pool_spec
from fastconv.specs.unfold import columns_shape, fold_spec, unfold_spec

pytestmark = pytest.mark.usefixtures("one_thread")

#: Numbers that each field is set to.
NUMBERS = (1, 2, 3, 7, 16, 33, 400, 4097, 10**5, 16_777_259, 10**8, LIMIT)
#: Lines of Python that planning may run, twice what any problem here takes: images 3,000 to 6,000, which are estimated
#: for a plan and for a plain call, and transposed convolutions up to 9,000.
MOST_LINES = 20_000
#: Bytes that it may take: caches grow by some kilobytes a problem.
MOST_BYTES = 256 << 10
FLOAT32 = np.dtype(np.float32)


class TooMuchWork(AssertionError):
    """More lines than any problem needs."""


def lines(call: Callable[[], Any]) -> int:
    """How many lines of Python a call runs; `TooMuchWork` as soon as they are too many."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += 1
        if count > MOST_LINES:
            sys.settrace(None)
            raise TooMuchWork(f"more than {MOST_LINES} lines, in {frame.f_code.co_name}")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def bounded(call: Callable[[], Any]) -> None:
    """A call that does little; or says why not, as soon."""

    def answered() -> None:
        try:
            call()
        except (ValueError, MemoryError) as error:
            assert len(str(error).split()) > 5  # noqa: PT017 # in words
            assert "empty sequence" not in str(error)  # noqa: PT017

    lines(answered)
    tracemalloc.start()
    try:
        answered()
        assert tracemalloc.get_traced_memory()[1] <= MOST_BYTES
    finally:
        tracemalloc.stop()


class Fields(NamedTuple):
    """A convolution along some axes; of each field only the last axis' number is set to others."""

    axes: int
    n: int = 2
    channels: int = 4
    filters: int = 6
    groups: int = 1
    size: int = 20
    kernel: int = 3
    stride: int = 2
    dilation: int = 1
    before: int = 1
    behind: int = 1
    other: int = 9
    """Size of the axes but the last."""
    extra: int = 0
    """Output padding, of a transposed one."""

    def shape(self, channels: int) -> tuple[int, ...]:
        return (self.n, channels, *[self.other] * (self.axes - 1), self.size)

    def options(self) -> dict[str, Any]:
        return {
            "stride": (*[1] * (self.axes - 1), self.stride),
            "padding": (*[(1, 1)] * (self.axes - 1), (self.before, self.behind)),
            "dilation": (*[1] * (self.axes - 1), self.dilation),
        }

    def window(self) -> tuple[int, ...]:
        return (*[3] * (self.axes - 1), self.kernel)


class Operand(NamedTuple):
    """What is known of an array before it is there."""

    shape: tuple[int, ...]
    dtype: np.dtype = FLOAT32


def fields(axes: int) -> Iterator[tuple[str, list[Fields]]]:
    """For each field the problems: the number alone, and with what makes it fit."""
    base = Fields(axes)
    for name in Fields._fields[1:]:
        problems = []
        for number in NUMBERS:
            problem = base._replace(**{name: number})
            problems.append(problem)
            if name == "groups":
                problems.append(problem._replace(channels=number, filters=min(2 * number, LIMIT // number * number)))
            if name in ("kernel", "dilation", "stride"):
                size = min(LIMIT, (problem.kernel - 1) * problem.dilation + 2 * problem.stride)
                problems += [problem._replace(size=size), problem._replace(before=size, behind=size)]
                problems.append(problem._replace(kernel=2 * number, stride=number, size=min(LIMIT, 5 * number)))
            if name == "channels":
                problems.append(problem._replace(filters=number, groups=number))
            if name == "extra":
                problems.append(problem._replace(stride=min(LIMIT, number + 1)))
            if name in ("before", "behind"):
                problems.append(problem._replace(kernel=min(LIMIT, number + 1), size=number))
                problems.append(problem._replace(kernel=min(LIMIT, number + 1), dilation=3, size=number, stride=number))
        yield name, problems


CASES = [pytest.param(axes, problems, id=f"{axes}d-{name}") for axes in (1, 2, 3) for name, problems in fields(axes)]


def convolution(problem: Fields, dtype: np.dtype = FLOAT32) -> ConvSpec:
    """The spec of a convolution."""
    weight = (problem.filters, problem.channels // problem.groups, *problem.window())
    return conv_spec(problem.shape(problem.channels), weight, (dtype,), axes=problem.axes, groups=problem.groups,
                     **problem.options())  # fmt: skip


def decide(op: str, spec: Any, device: str = "cpu", **options: Any) -> None:
    """Choose, and ask what is chosen for its scratch; every algorithm says whether it can."""
    chooser = planner
    if device == "cuda":
        from fastconv.cuda import planner as chooser
    module, _ = chooser.choose(spec, "auto", op=op, **options)
    module.scratch(spec)
    for module in chooser.table(op):
        reason = module.supports(spec)
        assert reason is None or len(reason) > 5


def plan_convolution(problem: Fields, dtype: str) -> None:
    spec = convolution(problem, np.dtype(dtype))
    for once in (False, True):
        decide(f"conv{problem.axes}d", spec, for_one_call=once)
    assert str(spec)
    if problem.axes == 2:
        planner.choose(spec, "auto", op="conv2d", names=FILTERS, for_one_call=True)


def plan_transposed(problem: Fields) -> None:
    stride, padding, dilation = problem.options().values()
    extra = (*[0] * (problem.axes - 1), problem.extra)
    weight = Operand((problem.channels, problem.filters // problem.groups, *problem.window()))
    spec = transpose_spec(problem.axes, problem.shape(problem.channels), FLOAT32, weight, None,
                          (stride, padding, extra, dilation, None), problem.groups)  # fmt: skip
    for once in (False, True):
        planner.choose(spec, "auto", for_one_call=once)


def plan_gradients(problem: Fields) -> None:
    spec = convolution(problem)
    decide("conv2d_weight", spec)
    planner.choose(TransposeSpec(spec), "auto", for_one_call=True)
    with contextlib.suppress(ValueError):  # not every problem is one for it
        planner.choose(TransposeSpec(spec), "direct", for_one_call=True)


def plan_pooling(problem: Fields, op: str, rounding: bool, device: str = "cpu") -> None:
    spec = pool_spec(op, problem.shape(problem.channels), FLOAT32, problem.window(), *problem.options().values(),
                     axes=problem.axes, ceil_mode=rounding)  # fmt: skip
    decide(f"{op}_pool{problem.axes}d", spec, device)


def plan_on_gpu(problem: Fields) -> None:
    spec = convolution(problem)
    decide(f"conv{problem.axes}d", spec, "cuda")
    if problem.axes == 2:
        decide("conv2d_weight", spec, "cuda")


@pytest.fixture(scope="module", autouse=True)
def everything_is_loaded() -> None:
    """Modules that are imported late, and what is worked out once in a process."""
    for axes in (1, 2, 3):
        problem = Fields(axes, groups=2)
        plan_convolution(problem, "uint8")
        plan_transposed(problem)
        for op in ("max", "min", "avg", "lp"):
            plan_pooling(problem, op, True)
    plan_gradients(Fields(2))
    with contextlib.suppress(ImportError):
        plan_on_gpu(Fields(2, stride=1))


@pytest.mark.parametrize(("axes", "problems"), CASES)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_convolutions(axes: int, problems: list[Fields], dtype: str) -> None:
    for problem in problems:
        bounded(partial(plan_convolution, problem, dtype))


@pytest.mark.parametrize(("axes", "problems"), CASES)
def test_transposed_convolutions(axes: int, problems: list[Fields]) -> None:
    for problem in problems:
        bounded(partial(plan_transposed, problem))


@pytest.mark.parametrize(("axes", "problems"), [case for case in CASES if case.values[0] == 2])
def test_gradients(axes: int, problems: list[Fields]) -> None:
    for problem in problems:
        bounded(partial(plan_gradients, problem))


@pytest.mark.parametrize(("axes", "problems"), CASES)
@pytest.mark.parametrize("op", ["max", "min", "avg", "lp"])
def test_poolings(op: str, axes: int, problems: list[Fields]) -> None:
    for problem in problems:
        for rounding in (False, True):
            bounded(partial(plan_pooling, problem, op, rounding))


@pytest.mark.parametrize(("axes", "problems"), CASES)
def test_on_a_gpu(axes: int, problems: list[Fields]) -> None:
    pytest.importorskip("fastconv.cuda.machine", reason="the extra 'cuda' is not installed")
    for problem in problems:
        bounded(partial(plan_on_gpu, problem))
        bounded(partial(plan_pooling, problem, "max", False, "cuda"))


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_told_by_sizes(number: int) -> None:
    for other in NUMBERS:

        def plan(other: int = other) -> None:
            spec = adaptive_spec("avg", (2, 3, 9, number), FLOAT32, (4, other))
            if not spec.adaptive:
                decide("avg_pool2d", spec)

        bounded(plan)
        bounded(lambda other=other: columns_shape(unfold_spec((2, 3, 9, number), FLOAT32, (3, other), 1, 1, 1)))
        bounded(lambda other=other: fold_spec((2, number, other), FLOAT32, (9, number), (3, 2), 1, 0, 1))
        bounded(lambda other=other: shapes.output_shape((number, number), other, other))
        bounded(lambda other=other: shapes.receptive_field([number, other]))


@pytest.mark.parametrize(("axes", "problems"), [case for case in CASES if case.values[0] == 2])
def test_cuts_for_many_threads(axes: int, problems: list[Fields]) -> None:
    from fastconv.cpu.algorithms import conv_dft, conv_direct, conv_fft, conv_pointwise, conv_winograd
    from fastconv.cpu.shared import winograd_blocking

    cuts = {conv_dft: conv_dft._cut, conv_direct: conv_direct._blocking, conv_fft: conv_fft._steps,
            conv_pointwise: conv_pointwise._blocking, conv_winograd: winograd_blocking.tiling_of}  # fmt: skip
    for problem in problems:
        for stride in (1, problem.stride):

            def plan(problem: Fields = problem, stride: int = stride) -> None:
                spec = convolution(problem._replace(stride=stride))
                for module, cut in cuts.items():
                    if module.supports(spec) is None:
                        cut(spec, 64)

            bounded(plan)


# -- what is not worked out before it is needed ----------------------------------------------------------------


def test_windows_that_miss_the_input() -> None:
    """As counted one by one."""
    from fastconv.specs.pool import _some_window_misses

    random = np.random.default_rng(0)
    for size, count, pad, stride, dilation in random.integers(1, 30, (3000, 5)).tolist():
        starts = range(-pad, min(0, (count - 1) * stride - pad + 1), stride)
        missed = dilation > size and any(start % dilation >= size for start in starts)
        assert _some_window_misses(size, count, pad, stride, dilation) == missed


def test_lengths_of_transforms() -> None:
    """The next even number without prime factors above five, as found by trying."""
    from fastconv.cpu.algorithms.conv_fft import _fast

    fast = sorted(2 ** (k + 1) * 3**m * 5**n for k in range(14) for m in range(9) for n in range(6))
    for length in range(1, 5000):
        assert _fast(length) == next(number for number in fast if number >= length)


def test_spans_of_rows() -> None:
    """The blocks of `weight_pixels` are those of its tables."""
    from fastconv.cpu.shared import pixel_blocking

    random = np.random.default_rng(0)
    for channels, kh, stride, dilation, size in random.integers(1, 9, (300, 5)).tolist():
        spec = conv_spec((1, 2, 80, 9), (channels, 2, kh, 3), (FLOAT32,), stride=(stride, 1), dilation=(dilation, 1))
        blocks = [[down for *_, down in block] for _, block in pixel_blocking._row_blocks(spec, size)]
        found = sorted(span for count, span in pixel_blocking.row_spans(spec, size) for _ in range(count))
        assert found == sorted(max(block) - min(block) for block in blocks)


def test_phases_are_estimated_as_they_are() -> None:
    """The sum over all convolutions is what a few of them tell, but for paddings."""
    for kernel, stride, dilation in [(4, 2, 1), (3, 2, 1), (5, 3, 1), (3, 2, 2), (7, 4, 3), (2, 3, 1)]:
        spec = conv_spec((2, 8, 60, 61), (16, 8, kernel, kernel), (FLOAT32,), stride=stride, dilation=dilation)
        parts, told = phases.one_for_each(spec), phases.sample(spec)
        assert (len(parts.parts), parts.complete) == (told.number, told.complete)
        assert sum(share for _, share in told.problems) == told.number
        exact = sum(min(planner.candidates(part.problem).values()) + transpose_phases.CALL for part in parts.parts)
        made = sum(np.prod(part.problem.output_shape) * 4 for part in parts.parts) * transpose_phases.INTERLEAVE
        exact += made * (2 if parts.interleaving is None else 1)
        assert transpose_phases.Phases(planner)._seconds(spec, False) == pytest.approx(exact, rel=0.1)


# -- beyond memory ---------------------------------------------------------------------------------------------


def test_what_no_memory_holds_is_refused_at_once() -> None:
    x, weight = np.broadcast_to(np.float32(1), (1 << 16, 2, 6)), np.ones((3, 2, 3), np.float32)
    vast = np.broadcast_to(np.float32(1), (1 << 20, 1, 1 << 12, 1 << 12))
    calls = [
        (lambda: fastconv.conv1d(x, weight, padding=LIMIT), "a result of shape"),
        (lambda: fastconv.plan_conv2d((1, 1, 1 << 12, 1 << 12), vast), "a copy of weight"),
        (lambda: fastconv.plan_conv_transpose2d((1, 1 << 20, 4, 4), vast), "a copy of weight"),
    ]
    for call, words in calls:
        with pytest.raises(MemoryError, match=rf"{words}.* needs .* [GT]iB, more than the .* GiB of this machine"):
            call()


def test_a_plan_is_told_at_once() -> None:
    """Of a signal of a hundred million samples."""
    plan = fastconv.plan_conv1d((1, 1, 10**8), np.ones((1, 1, 31), np.float32))
    assert lines(lambda: repr(plan)) < 1000
