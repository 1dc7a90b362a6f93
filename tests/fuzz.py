"""Random problems against plain NumPy, to find what no test has thought of: ``python -m tests.fuzz --seconds 60``.

Operations, algorithms, dtypes, memory layouts, special values, plans, gradients and invalid calls are drawn; results
are compared element by element with definitions in float64 or, of integers, exactly. What is found is printed with the
number of its problem, which ``--seed S --only NUMBER`` repeats.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

sys.path.insert(0, str(Path(__file__).parent / "support"))

import reference
from findings import POOL_ROUNDINGS, ROUNDINGS, Finding, check, correlated, invoke, wide
from random_arrays import FLOATS, INTEGERS, LAYOUTS, SPECIALS, laid_out, values

import fastconv
from fastconv import grad

#: NumPy's names of padding modes.
MODES: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}

#: What was tried: of each kind, how often.
Counts = Counter[tuple[str, str]]


def convolution(rng: np.random.Generator, counts: Counts) -> None:
    """conv1d, 2d and 3d: a call or a plan, batched or not."""
    axes = int(rng.choice([1, 2, 2, 2, 3]))
    large = rng.random() < 0.3
    groups = int(rng.choice([1, 1, 2, 4]))
    channels = [groups * int(rng.choice([1, 1, 2, 3, 16 if axes < 3 else 4])) for _ in "io"]
    taps = tuple(int(rng.integers(1, (20 if large else 6) if axes < 3 else 4)) for _ in range(axes))
    size = tuple(int(rng.integers(1, (60 if large else 20) if axes < 3 else 9)) for _ in range(axes))
    stride, dilation = (tuple(int(rng.choice([1, 1, 1, 2, 3])) for _ in range(axes)) for _ in "sd")
    padding, mode = tuple(int(rng.integers(0, k + 1)) for k in taps), str(rng.choice(list(MODES)))
    if mode != "zeros":
        padding = tuple(min(pad, s - (mode == "reflect")) for pad, s in zip(padding, size, strict=True))
    if large:
        channels = [groups, groups]
    if any(s + 2 * p < (k - 1) * d + 1 for s, p, k, d in zip(size, padding, taps, dilation, strict=True)):
        return
    dtype = str(rng.choice(FLOATS + INTEGERS))
    special, layout = str(rng.choice(SPECIALS)), str(rng.choice(LAYOUTS))
    x = laid_out(values(rng, (int(rng.integers(0, 3)) or 1, channels[0], *size), dtype, special), layout)
    weight = values(rng, (channels[1], channels[0] // groups, *taps), dtype, "none")
    bias = values(rng, (channels[1],), dtype, "none") if rng.random() < 0.4 else None
    relu = "relu" if rng.random() < 0.2 else None
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    seen = np.pad(x, ((0, 0), (0, 0), *((pad, pad) for pad in padding)), MODES[mode])
    geometry = stride, (0,) * axes, dilation, groups
    op = f"conv{axes}d"
    algorithm = str(rng.choice(["auto", *fastconv.algorithms(op)]))
    with np.errstate(all="ignore"):
        right = correlated(wide(seen), wide(weight), *geometry)
        most = np.broadcast_to(np.abs(wide(weight)).max(tuple(range(1, axes + 2)), keepdims=True), weight.shape)
        scale = correlated(np.abs(wide(seen)), most, *geometry)
        if bias is not None:
            shift = wide(bias).reshape(-1, *(1,) * axes)
            right, scale = right + shift, scale + np.abs(shift)
        right = reference.wrapped(right, reference.conv_dtype(x, weight)) if x.dtype.kind != "f" else right
        right = np.where(right < 0, 0, right) if relu else right
    options["padding_mode"] = mode
    single = len(x) == 1 and rng.random() < 0.2
    given = x[0] if single else x
    try:
        if rng.random() < 0.4:
            planned = getattr(fastconv, f"plan_{op}")(given.shape, weight, bias, dtype=x.dtype, **options,
                                                      activation=relu, algorithm=algorithm)  # fmt: skip
            form, call = "plan", lambda out: planned(given, out=out)
        else:
            form, call = "call", lambda out: getattr(fastconv, op)(
                given, weight, bias, **options, activation=relu, algorithm=algorithm, out=out)  # fmt: skip
        shape, kind = right.shape[1:] if single else right.shape, reference.conv_dtype(x, weight)
        result = invoke(rng, call, shape, kind, x)
    except ValueError as error:
        if "cannot do this" in str(error) and algorithm != "auto":
            return
        raise
    for pair in (("operation", op), ("algorithm", f"{op} {algorithm}"), ("dtype", dtype), ("special", special),
                 ("layout", layout), ("form", form), ("padding", mode)):  # fmt: skip
        counts[pair] += 1
    check(result[None] if single else result, right, scale, ROUNDINGS, kind)


def transposed(rng: np.random.Generator, counts: Counts) -> None:
    """conv_transpose1d, 2d and 3d, and the gradient for the input."""
    axes = int(rng.choice([1, 2, 2, 3]))
    groups = int(rng.choice([1, 1, 2, 4]))
    channels = [groups * int(rng.choice([1, 2, 3, 16 if axes < 3 else 2])) for _ in "io"]
    taps = tuple(int(rng.integers(1, 6 if axes < 3 else 4)) for _ in range(axes))
    size = tuple(int(rng.integers(1, 14 if axes < 3 else 5)) for _ in range(axes))
    stride, dilation = (tuple(int(rng.choice([1, 2, 2, 3])) for _ in range(axes)) for _ in "sd")
    dtype, special, layout = str(rng.choice(FLOATS)), str(rng.choice(SPECIALS)), str(rng.choice(LAYOUTS))
    x = laid_out(values(rng, (int(rng.integers(1, 3)), channels[0], *size), dtype, special), layout)
    weight = values(rng, (channels[0], channels[1] // groups, *taps), dtype, "none")
    op = f"conv_transpose{axes}d"
    algorithm = str(rng.choice(["auto", "auto", *fastconv.algorithms(op)]))
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    with np.errstate(all="ignore"):
        right, _ = reference.conv_transpose(wide(x), wide(weight), **options)
        most = np.broadcast_to(np.abs(wide(weight)).max(), weight.shape)
        own, _ = reference.conv_transpose(np.abs(wide(x)), most, **options)
        # A window that hangs over the edge: `own_windows` promises by the nearest pixels, too.
        sides = [-(-(k - 1) * d // s) for k, d, s in zip(taps, dilation, stride, strict=True)]
        mirrored = np.pad(np.abs(wide(x)), ((0, 0), (0, 0), *((side, side) for side in sides)), "symmetric")
        scale, _ = reference.conv_transpose(mirrored, most, **options)
        starts = [side * s for side, s in zip(sides, stride, strict=True)]
        scale = scale[:, :, *(slice(at, at + total) for at, total in zip(starts, own.shape[2:], strict=True))]
        scale = np.where(np.isfinite(scale), scale, own)
    try:
        result = invoke(rng, lambda out: getattr(fastconv, op)(x, weight, **options, algorithm=algorithm, out=out),
                        right.shape, np.dtype(dtype), x)  # fmt: skip
    except ValueError as error:
        if "cannot do this" in str(error) and algorithm != "auto":
            return
        raise
    for pair in (("operation", op), ("algorithm", f"{op} {algorithm}"), ("dtype", dtype), ("special", special),
                 ("layout", layout), ("form", "call")):  # fmt: skip
        counts[pair] += 1
    check(result, right, scale, ROUNDINGS, np.dtype(dtype))


def weight_gradient(rng: np.random.Generator, counts: Counts) -> None:
    """conv2d_weight, of finite numbers."""
    groups = int(rng.choice([1, 1, 2]))
    c_in, c_out = (groups * int(rng.integers(1, 9)) for _ in "io")
    taps, size = (tuple(int(rng.integers(low, high)) for _ in "hw") for low, high in ((1, 5), (5, 16)))
    stride = tuple(int(rng.choice([1, 1, 2])) for _ in "hw")
    padding, mode = tuple(int(rng.integers(0, k)) for k in taps), str(rng.choice(list(MODES)))
    dtype, algorithm = str(rng.choice(FLOATS[:3])), str(rng.choice(["auto", *fastconv.algorithms("conv2d_weight")]))
    x = values(rng, (int(rng.integers(1, 4)), c_in, *size), dtype, "none")
    weight = np.zeros((c_out, c_in // groups, *taps))
    options = {"stride": stride, "padding": padding, "groups": groups}
    out_shape = fastconv.output_shape(x.shape, taps, stride=stride, padding=padding, channels=c_out)
    signal = values(rng, out_shape, dtype, "none")
    seen, inner = np.pad(x, ((0, 0), (0, 0), *((pad, pad) for pad in padding)), MODES[mode]), {**options, "padding": 0}
    _, right = reference.conv2d_gradients(wide(seen), weight.shape, weight, wide(signal), **inner)
    _, scale = reference.conv2d_gradients(np.abs(wide(seen)), weight.shape, weight, np.abs(wide(signal)), **inner)
    try:
        result = grad.conv2d_weight(x, weight.shape, signal, **options, padding_mode=mode, algorithm=algorithm)
    except ValueError as error:
        if "cannot do this" in str(error) and algorithm != "auto":
            return
        raise
    for pair in (("operation", "conv2d_weight"), ("algorithm", f"conv2d_weight {algorithm}"), ("dtype", dtype)):
        counts[pair] += 1
    check(result, right, scale, ROUNDINGS, np.dtype(dtype))


def pooling(rng: np.random.Generator, counts: Counts) -> None:
    """Maxima, averages and norms along one, two and three axes."""
    axes = int(rng.choice([1, 2, 2, 3]))
    kind = str(rng.choice(["max", "max", "min", "avg", "lp"]))
    op = f"{kind}_pool{axes}d"
    size = tuple(int(rng.integers(1, 40 if axes < 3 else 9)) for _ in range(axes))
    taps = tuple(int(rng.integers(1, min(8, 1 + extent) + 1)) for extent in size)
    dilation = tuple(int(rng.choice([1, 1, 2])) for _ in range(axes))
    reach = [(k - 1) * d + 1 for k, d in zip(taps, dilation, strict=True)]
    padding = tuple(int(rng.integers(0, max(1, min(k // 2 + 1, k)))) for k in taps)
    stride = tuple(int(rng.integers(1, 4)) for _ in range(axes))
    if any(s + 2 * p < r for s, p, r in zip(size, padding, reach, strict=True)):
        return
    picks = kind in ("max", "min")
    dtype = str(rng.choice(FLOATS + INTEGERS if kind in ("max", "avg") else FLOATS[:3]))
    special = str(rng.choice(SPECIALS if picks else ("none", "zeros", "sparse", "block", "nan")))
    layout = str(rng.choice(LAYOUTS))
    x = laid_out(values(rng, (int(rng.integers(1, 3)), int(rng.integers(1, 4)), *size), dtype, special), layout)
    if kind == "lp" and np.fmax.reduce(np.abs(wide(x)), axis=None) > 1e-2 * float(np.finfo(dtype).max) ** 0.5:
        return  # powers of that dtype would overflow, as documented
    ceil_mode, algorithm = bool(rng.random() < 0.3), str(rng.choice(["auto", *fastconv.algorithms(op)]))
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    more = {"return_indices": True} if picks and rng.random() < 0.5 else {}
    args = (2.0,) if kind == "lp" else ()
    with np.errstate(all="ignore"):
        try:
            if picks:
                sign = x.dtype.type(-1 if kind == "min" else 1)
                right, places = reference.max_pool2d(x * sign if kind == "min" else x, taps, **geometry, axes=axes)
                right = right * sign if kind == "min" else right
                scale = np.zeros(right.shape)
            else:
                given = np.abs(x.astype(np.float64)) ** 2 if kind == "lp" else x.astype(np.float64)
                right, _ = reference.avg_pool2d(given, taps, **geometry, axes=axes)
                scale, _ = reference.avg_pool2d(np.abs(given), taps, **geometry, axes=axes)
                scale = np.abs(reference.avg_pool2d(np.abs(given), taps, **geometry, axes=axes)[0])
                if kind == "lp":
                    right = scale = np.sqrt(right * math.prod(taps))
        except ValueError:
            return
    try:
        result = getattr(fastconv, op)(x, *args, taps, **geometry, **more, algorithm=algorithm)
    except ValueError as error:
        if ("cannot do this" in str(error) and algorithm != "auto") or "every window must touch" in str(error):
            return
        raise
    for pair in (("operation", op), ("algorithm", f"{op} {algorithm}"), ("dtype", dtype), ("special", special),
                 ("layout", layout)):  # fmt: skip
        counts[pair] += 1
    result, found = result if more else (result, None)
    if found is not None and not np.array_equal(found, places):
        raise Finding(f"{np.count_nonzero(found != places)} of {places.size} indices are wrong")
    if picks:
        if not np.array_equal(result, right, equal_nan=x.dtype.kind == "f"):
            raise Finding("maxima or minima are wrong")
        return
    check(result, right, scale, POOL_ROUNDINGS, np.dtype(dtype) if x.dtype.kind == "f" else np.dtype(np.float64))


def moves(rng: np.random.Generator, counts: Counts) -> None:
    """unfold2d against windows, fold2d as its transpose, max_unpool2d as the inverse of a pooling."""
    taps, size = (tuple(int(rng.integers(low, high)) for _ in "hw") for low, high in ((1, 4), (4, 12)))
    stride, dtype = tuple(int(rng.integers(1, 4)) for _ in "hw"), str(rng.choice(("float32", "float64", "int32")))
    x = values(rng, (int(rng.integers(1, 4)), int(rng.integers(1, 4)), *size), dtype, "none")
    seen = sliding_window_view(x, taps, (2, 3))[:, :, :: stride[0], :: stride[1]]
    columns = np.moveaxis(seen, (4, 5), (2, 3)).reshape(len(x), x.shape[1] * math.prod(taps), -1)
    if not np.array_equal(fastconv.unfold2d(x, taps, stride=stride), columns):
        raise Finding("unfold2d")
    many = np.zeros(x.shape, np.int64)
    for a, b in np.ndindex(*taps):
        at = (slice(None), slice(None), slice(a, a + (seen.shape[2] - 1) * stride[0] + 1, stride[0]),
              slice(b, b + (seen.shape[3] - 1) * stride[1] + 1, stride[1]))  # fmt: skip
        many[at] += 1
    folded = fastconv.fold2d(columns, size, taps, stride=stride)
    if not np.allclose(folded, many * x.astype(np.float64), rtol=1e-4, atol=1e-4):
        raise Finding("fold2d")
    maxima, places = fastconv.max_pool2d(x, taps, return_indices=True)
    back = fastconv.max_unpool2d(maxima, places, taps, output_size=size if all(
        s - k * (s // k) < k for s, k in zip(size, taps, strict=True)) else None)  # fmt: skip
    if not np.array_equal(np.take_along_axis(back.reshape(*x.shape[:2], -1), places.reshape(*x.shape[:2], -1), -1),
                          maxima.reshape(*x.shape[:2], -1)):  # fmt: skip
        raise Finding("max_unpool2d")
    counts["operation", "unfold2d, fold2d, max_unpool2d"] += 1


#: What an argument is replaced by in an invalid call.
WRONG: tuple[Any, ...] = (
    None, "seven", -3, 2.5, float("nan"), 2**70, (), (1, 2, 3, 4), [[1], [2, 3]], object(), {}, True,
)  # fmt: skip


def invalid(rng: np.random.Generator, counts: Counts) -> None:
    """A wrong argument is told by a ValueError, TypeError or MemoryError, if it is not right after all."""
    x, weight = np.ones((1, 2, 8, 8), np.float32), np.ones((2, 2, 3, 3), np.float32)
    calls: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "conv2d": (fastconv.conv2d, {"x": x, "weight": weight, "bias": np.ones(2), "stride": 1, "padding": 0,
                                     "dilation": 1, "groups": 1, "padding_mode": "reflect", "activation": None,
                                     "algorithm": "auto", "out": None}),
        "conv_transpose2d": (fastconv.conv_transpose2d, {"x": x, "weight": weight, "stride": 1, "padding": 0,
                                                         "output_padding": 0, "groups": 1, "dilation": 1}),
        "max_pool2d": (fastconv.max_pool2d, {"x": x, "kernel_size": 2, "stride": 1, "padding": 0, "dilation": 1}),
        "corr2d": (fastconv.corr2d, {"x": x[0, 0], "kernel": weight[0, 0], "padding": 1,
                                     "padding_mode": "circular"}),
    }  # fmt: skip
    name = str(rng.choice(list(calls)))
    function, arguments = calls[name]
    changed = str(rng.choice(list(arguments)))
    with contextlib.suppress(ValueError, TypeError, MemoryError):
        function(**{**arguments, changed: WRONG[int(rng.integers(len(WRONG)))]})
    counts["operation", "invalid calls"] += 1


PROBLEMS = (convolution,) * 6 + (transposed,) * 3 + (pooling,) * 3 + (weight_gradient, moves, invalid)


def problems(seed: int, only: int | None) -> Iterator[tuple[int, Callable[..., None], np.random.Generator]]:
    for number in range(sys.maxsize) if only is None else (only,):
        rng = np.random.default_rng((seed, number))
        yield number, PROBLEMS[int(rng.integers(len(PROBLEMS)))], rng


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--count", type=int, default=sys.maxsize, help="stop after so many problems")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="just this problem")
    arguments = parser.parse_args()
    counts: Counts = Counter()
    found, tried, end = 0, 0, time.monotonic() + arguments.seconds
    for number, problem, rng in problems(arguments.seed, arguments.only):
        if time.monotonic() > end or tried >= arguments.count:
            break
        tried += 1
        try:
            problem(rng, counts)
        except Exception as error:
            found += 1
            where = f"--seed {arguments.seed} --only {number}: {problem.__name__}"
            print(f"{where}: {type(error).__name__}: {error}", flush=True)
            if found == 20:
                break
    for kind in sorted({kind for kind, _ in counts}):
        told = ", ".join(f"{label} {count}" for (one, label), count in sorted(counts.items()) if one == kind)
        print(f"{kind}: {told}")
    print(f"seed {arguments.seed}: {tried} problems, {found} findings")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
