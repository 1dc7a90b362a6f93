"""Selection networks: the element of some rank of every window, by minima and maxima of vectors.

A window is `lines` rows by `kw` pixels. Its columns are sorted first; as neighbouring windows share them, each is
sorted once. Sorted columns are merged to pairs, pairs to fours and so on, each once for all windows that share it; a
window is the few lists that add up to it::

    list[1](j) = sorted x[line](j), line < lines
    list[2m](j) = merged list[m](j), list[m](j + m)                                 2m <= kw
    window(j) = list[4](j), list[2](j + 4), list[1](j + 6)                          for kw = 7

From each list goes what cannot be of the wanted rank: of m sorted elements in a window of n those at places below
rank - (n - m), and those above rank. All is straight code for one vector of pixels, in loops over a strip of them; an
operation whose result nobody needs is not emitted. Lists of a strip stay in the first-level cache, or the second.

Two sorted lists are merged as by Batcher; the last two need not be merged (`select`); three lists of one length, as of
3x3 and 3x3x3, are sorted across, which leaves few candidates.

Source: Batcher, Sorting networks and their applications, 1968; Adams, Fast median filters using separable sorting
networks, 2021 (for what windows share).
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..system import micro
from ..system.building import intrinsic
from . import emit, simd

# -- networks ------------------------------------------------------------------------------------------------


class Network:
    """Minima and maxima of pairs of elements; an element is the number of its node."""

    def __init__(self, inputs: int) -> None:
        self.nodes: list[tuple[str, int, int]] = [("in", number, 0) for number in range(inputs)]
        self._known: dict[tuple[str, int, int], int] = {}

    def _node(self, op: str, a: int, b: int) -> int:
        key = op, min(a, b), max(a, b)
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(key)
        return self._known[key]

    def smaller(self, a: int, b: int) -> int:
        return self._node("min", a, b)

    def larger(self, a: int, b: int) -> int:
        return self._node("max", a, b)

    def sort(self, elements: list[int]) -> list[int]:
        """The elements, sorted by merging."""
        half = len(elements) // 2
        if not half:
            return elements
        return self.merge(self.sort(elements[:half]), self.sort(elements[half:]))

    def merge(self, a: list[int], b: list[int]) -> list[int]:
        """Two sorted lists, merged into one: Batcher's odd-even merge."""
        if not a or not b:
            return a + b
        if len(a) == len(b) == 1:
            return [self.smaller(a[0], b[0]), self.larger(a[0], b[0])]
        first, *even = self.merge(a[::2], b[::2])
        odd = self.merge(a[1::2], b[1::2])
        merged = [first]
        for one, other in zip(odd, even, strict=False):
            merged += [self.smaller(one, other), self.larger(one, other)]
        return merged + odd[len(even) :] + even[len(odd) :]

    def select(self, a: list[int], b: list[int], rank: int) -> int:
        """The element of a rank of two sorted lists together.

        The first `rank` + 1 elements of both are, for some i, the first i of `a` and the others of `b`; for each other
        i the last of them is larger.
        """
        found = None
        for i in range(max(0, rank + 1 - len(b)), min(len(a), rank + 1) + 1):
            j = rank + 1 - i
            last = a[i - 1] if j == 0 else b[j - 1] if i == 0 else self.larger(a[i - 1], b[j - 1])
            found = last if found is None else self.smaller(found, last)
        assert found is not None
        return found

    def rank(self, lists: list[list[int]], rank: int) -> int:
        """The element of a rank of several sorted lists together."""
        if len(lists) == 3 and len({*map(len, lists)}) == 1:
            lists, rank = self._across(lists, rank)
        while True:
            total, left = sum(map(len, lists)), []
            for one in lists:
                low = max(0, rank - (total - len(one)))
                left.append(one[low : rank + 1])
                total, rank = total - len(one) + len(left[-1]), rank - low
            lists = sorted((one for one in left if one), key=len)
            if len(lists) == 1:
                return lists[0][rank]
            if len(lists) == 2:
                return self.select(lists[0], lists[1], rank)
            lists = [self.merge(lists[0], lists[1]), *lists[2:]]

    def _across(self, lists: list[list[int]], rank: int) -> tuple[list[list[int]], int]:
        """Lists of one length, sorted across: element (a, b) is not below those of smaller a and b.

        They stay sorted along, and what cannot be of the wanted rank is left out.
        """
        columns, rows = len(lists), len(lists[0])
        sorted_rows = [self.sort([one[row] for one in lists]) for row in range(rows)]
        left, total = [], rows * columns
        wanted = rank
        for b in range(columns):
            kept = []
            for a in range(rows):
                if (rows - a) * (columns - b) > total - wanted:
                    rank -= 1  # too many are at least as large
                elif (a + 1) * (b + 1) - 1 <= wanted:
                    kept.append(sorted_rows[a][b])
            left.append(kept)
        return left, rank

    def needed(self, outputs: list[int]) -> list[int]:
        """The nodes that outputs are made of, in order."""
        seen, todo = set(), list(outputs)
        while todo:
            node = todo.pop()
            if node in seen:
                continue
            seen.add(node)
            op, a, b = self.nodes[node]
            if op != "in":
                todo += [a, b]
        return sorted(node for node in seen)


class Input(NamedTuple):
    """Where an input of a stage comes from."""

    stage: int
    """The stage that made its list; -1 for the lines."""
    place: int
    """Its place in the list."""
    shift: int
    """Pixels behind the vector's."""


class Stage(NamedTuple):
    """A network, run for every vector of a strip."""

    sources: list[Input]
    network: Network
    outputs: list[int]
    reach: int
    """Pixels behind the strip's that it is needed for."""


#: Inputs of a stage that ends with the result: they and what is made of them should fit 32 registers.
MOST_TOGETHER = 30


@lru_cache(maxsize=64)
def stages(lines: int, kw: int, rank: int) -> tuple[Stage, ...]:
    """The stages that find the element of a rank in windows of `lines` by `kw`; the last one has the result."""
    made: list[Stage] = []
    total, wanted = lines * kw, rank

    def pruned(elements: list[int], count: int) -> list[int]:
        """What is left of sorted elements that stand for `count` lists in the window."""
        nonlocal total, wanted
        low = max(0, wanted - (total - len(elements)))
        left = elements[low : wanted + 1]
        total, wanted = total - count * (len(elements) - len(left)), wanted - count * low
        return left

    def inputs(parts: list[tuple[int, int, int]]) -> tuple[list[Input], list[list[int]]]:
        """The inputs that lists (stage, length, shift) are, and their numbers."""
        sources: list[Input] = []
        lists = []
        for stage, length, shift in parts:
            lists.append(list(range(len(sources), len(sources) + length)))
            sources += [Input(stage, place, shift) for place in range(length)]
        return sources, lists

    size, number, here = 1, kw, (-1, lines)
    if lines > 1 and kw > 1:
        network = Network(lines)
        elements = pruned(network.sort(list(range(lines))), kw)
        made.append(Stage([Input(-1, place, 0) for place in range(lines)], network, elements, kw - 1))
        here = 0, len(elements)
    odd: list[tuple[int, int, int]] = []  # lists that are no part of a larger one: stage, length, first pixel
    while number > 1:
        if number % 2:
            odd.insert(0, (*here, (number - 1) * size))
        number //= 2
        last = [(*here, 0), (*here, size)]
        if number == 1 and (sum(part[1] for part in last + odd) <= MOST_TOGETHER or kw == 3):
            break
        sources, lists = inputs(last)
        network = Network(len(sources))
        elements = pruned(network.merge(*lists), number)
        made.append(Stage(sources, network, elements, kw - 2 * size))
        here, size = (len(made) - 1, len(elements)), 2 * size
        last = [(*here, 0)]
    if kw == 1:
        last = [(-1, 1, 0)]
        sources = [Input(-1, place, 0) for place in range(lines)]
        network = Network(lines)
        half = lines // 2
        found = network.select(network.sort(list(range(half))), network.sort(list(range(half, lines))), wanted)
    else:
        sources, lists = inputs(last + odd)
        network = Network(len(sources))
        found = network.rank(lists, wanted)
    made.append(Stage(sources, network, [found], 0))
    return tuple(made)


def operations(lines: int, kw: int, rank: int) -> int:
    """Minima and maxima that a vector of results takes."""
    return sum(
        sum(stage.network.nodes[node][0] != "in" for node in stage.network.needed(stage.outputs))
        for stage in stages(lines, kw, rank)
    )


# -- code ----------------------------------------------------------------------------------------------------


class Strip(NamedTuple):
    """Pixels that a call of the micro-kernel finds results for, and the memory that it takes."""

    vectors: int
    pitch: int
    """Elements from one element of a list to the next."""
    scratch: int
    """Elements of all lists."""


#: Lines of which sorted columns stay in registers, to be shifted there; of three times as many pixels.
MOST_ROLLING = 4
#: Bytes that the lists of a strip should take: half a first-level cache of 48 KiB.
STRIP_BYTES = 24 << 10
#: Vectors of a strip with lists; one without is as long as a row may be.
MOST_VECTORS = 16


def strip(lines: int, kw: int, rank: int, step: int, lanes: int) -> Strip:
    """The strip for windows of pixels of `step` elements; an element's bytes times `lanes` are a register's."""
    rows = sum(len(stage.outputs) for stage in stages(lines, kw, rank)[:-1])
    rim = -(-(kw - 1) * step // lanes)
    if _rolls(stages(lines, kw, rank), lines) and rim <= 1:
        return Strip(8 * MOST_VECTORS, lanes, lanes)
    vectors = min(MOST_VECTORS, max(4, rim, STRIP_BYTES // max(1, rows) // simd.register_bytes() - rim))
    pitch = (vectors + rim + 1) * lanes
    return Strip(vectors, pitch, max(1, rows) * pitch)


def _rolls(plan: tuple[Stage, ...], lines: int) -> bool:
    """Whether the result is made of sorted columns only, which are few enough to stay in registers."""
    return len(plan) == 2 and lines <= MOST_ROLLING and all(given.stage == 0 for given in plan[1].sources)


def arguments(dtype: Any) -> tuple[types.Type, ...]:
    """The arguments of the micro-kernel: band, place in it, distances of the lines, memory for lists, results, place
    in them, and how many of a strip there are."""
    array = micro.array(dtype)
    return array, micro.PLACE, micro.array("int64"), array, array, micro.PLACE, micro.PLACE


def selection(lines: int, kw: int, rank: int, step: int) -> Any:
    """The micro-kernel that writes, to ``out[to:to + count]``, the elements of a rank of windows::

        band[at + distances[line] + j + b * step], line < lines, b < kw                       for result j < count
    """

    def plain(band, at, distances, lists, out, to, count):
        for j in range(to, to + count):
            seen = [band[at + far + j - to + b * step] for far in distances for b in range(kw)]
            out[j] = np.sort(seen)[rank]

    @intrinsic(plain=plain)
    def select(typingctx, band, at, distances, lists, out, to, count):
        lanes = simd.Vector(band.dtype).count
        plan, (_, pitch, _) = stages(lines, kw, rank), strip(lines, kw, rank, step, lanes)
        starts = [0]
        for stage in plan:
            starts.append(starts[-1] + len(stage.outputs) * pitch)

        def codegen(context, builder, sig, args):
            data = [emit.data_of(context, builder, kind, value) for kind, value in zip(sig.args, args, strict=True)
                    if isinstance(kind, types.Array)]  # fmt: skip
            band_at, far, made, goal = data
            place, goal_at, valid = args[1], args[5], args[6]
            places = []
            for line in range(lines):
                distance = builder.load(builder.gep(far, [emit.INT(line)]))
                places.append(builder.add(place, distance))

            def finish(q, vector):
                where, left = builder.add(goal_at, q), builder.sub(valid, q)
                whole = builder.icmp_signed(">=", left, emit.INT(lanes))
                with builder.if_else(whole, likely=True) as (full, part):
                    with full:
                        emit.store(builder, vector, goal, where)
                    with part:
                        emit.store_masked(builder, vector, goal, where, emit.first_lanes(builder, lanes, left))

            def from_line(q, given):
                where = builder.add(builder.add(places[given.place], q), emit.INT(given.shift * step))
                return emit.load(builder, band_at, where, lanes)

            def source(q, given):
                if given.stage < 0:
                    return from_line(q, given)
                where = emit.INT(starts[given.stage] + given.place * pitch + given.shift * step)
                return emit.load(builder, made, builder.add(q, where), lanes)

            if _rolls(plan, lines) and (kw - 1) * step <= lanes:
                first, last = plan
                before = _emit(builder, band.dtype, first, partial(from_line, emit.INT(0)))
                memory = [cgutils.alloca_once_value(builder, vector) for vector in before]  # in registers, soon
                # What comes below the last line, in the image and the result, is needed next. (Median of 3x3 of
                # 1080x1920 float32 that is not in cache, AMD EPYC 9005: 0.53 ms, without this 0.89.)
                down = builder.sub(places[-1], places[-2]) if lines > 1 else emit.INT(0)
                below = [builder.gep(array, [builder.add(begin, down)])
                         for array, begin in ((band_at, places[-1]), (goal, goal_at))]  # fmt: skip
                with cgutils.for_range_slice(builder, emit.INT(0), valid, emit.INT(lanes), emit.INT) as (q, _):
                    near = [builder.load(place) for place in memory]
                    far = _emit(builder, band.dtype, first, partial(from_line, builder.add(q, emit.INT(lanes))))
                    for array, writes in zip(below, (False, True), strict=True):
                        emit.prefetch(builder, builder.gep(array, [q]), 0, lanes, writes=writes)

                    def shifted(given, near=near, far=far):
                        order = [lane + given.shift * step for lane in range(lanes)]
                        order = ir.Constant(ir.VectorType(emit.I32, lanes), order)
                        return builder.shuffle_vector(near[given.place], far[given.place], order)

                    finish(q, _emit(builder, band.dtype, last, shifted)[0])
                    for place, vector in zip(memory, far, strict=True):
                        builder.store(vector, place)
                return context.get_dummy_value()
            for number, stage in enumerate(plan):
                end = builder.add(valid, emit.INT(stage.reach * step))
                with cgutils.for_range_slice(builder, emit.INT(0), end, emit.INT(lanes), emit.INT) as (q, _):
                    results = _emit(builder, band.dtype, stage, partial(source, q))
                    if stage is plan[-1]:
                        finish(q, results[0])
                        continue
                    for row, vector in enumerate(results):
                        emit.store(builder, vector, made, builder.add(q, emit.INT(starts[number] + row * pitch)))
            return context.get_dummy_value()

        return types.void(band, at, distances, lists, out, to, count), codegen

    return select


def _emit(builder: ir.IRBuilder, scalar: Any, stage: Stage, source: Any) -> list[ir.Value]:
    """Emit a stage's network for one vector."""
    values: dict[int, ir.Value] = {}

    def value(node: int) -> ir.Value:
        if node not in values:  # an input: loaded where it is first needed
            values[node] = source(stage.sources[node])
        return values[node]

    for node in stage.network.needed(stage.outputs):
        op, a, b = stage.network.nodes[node]
        if op == "in":
            continue
        one, other, order = value(a), value(b), "<" if op == "min" else ">"
        if isinstance(scalar, types.Float):
            first = builder.fcmp_ordered(order, one, other)
        else:
            first = (builder.icmp_signed if scalar.signed else builder.icmp_unsigned)(order, one, other)
        values[node] = builder.select(first, one, other)
    return [value(node) for node in stage.outputs]
