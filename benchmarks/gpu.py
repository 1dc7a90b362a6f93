"""fastconv on a GPU beside PyTorch (cuDNN) and CuPy: one command for everything that is claimed of it.

    python -m benchmarks.gpu                       # all groups, a table on the terminal
    python -m benchmarks.gpu --groups conv grad --only resnet --json gpu.json

Arrays are on the device; times are medians of CUDA events around single calls, contenders in turns. Each convolution is
timed in float32 beside cuDNN with TF32 off, in tf32 and tf32x3 beside cuDNN with TF32 on, both as NCHW and as channels
last; its error against float64 is of the largest output. FLOP and byte counts are the definition's, set against a
measured matrix product (cuBLAS, the same precision) and a measured copy. Gradients are timed alone, and with the layer
itself ("all"). Overhead is a planned call on a tiny problem,
by the host's clock.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastconv
from benchmarks import shapes

#: Rounds of each contender, and calls before them: the first compiles, cuDNN tries its algorithms in it.
ROUNDS, WARM = 31, 5
BATCH = 32


def medians(runs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median seconds of each, by events on the current stream, in turns."""
    import torch

    for run in runs.values():
        for _ in range(WARM):
            run()
    torch.cuda.synchronize()
    pairs: dict[str, list[tuple[Any, Any]]] = {label: [] for label in runs}
    for _ in range(ROUNDS):
        for label, run in runs.items():
            pair = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            pair[0].record()
            run()
            pair[1].record()
            pairs[label].append(pair)
    torch.cuda.synchronize()
    return {label: statistics.median(a.elapsed_time(b) for a, b in found) / 1e3 for label, found in pairs.items()}


def ceilings() -> dict[str, float]:
    """Operations a second of cuBLAS without and with TF32, and bytes a second read and written by a copy."""
    import torch

    a, b = (torch.randn(8192, 8192, device="cuda") for _ in range(2))
    c, big = torch.empty_like(a), torch.empty(1 << 28, device="cuda")
    other = torch.empty_like(big)
    found = {}
    for label, allowed in (("float32", False), ("tf32", True)):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        found[label] = 2 * 8192**3 / medians({"": lambda: torch.mm(a, b, out=c)})[""]
    found["copy"] = 2 * big.nbytes / medians({"": lambda: other.copy_(big)})[""]
    return found


def convolutions(only: str, limits: dict[str, float]) -> Iterator[dict[str, Any]]:
    """The named layers."""
    import torch

    torch.backends.cudnn.benchmark = True
    for layer in shapes.LAYERS.values():
        if only not in layer.name:
            continue
        x = torch.randn(BATCH, layer.c_in, layer.h, layer.w, device="cuda")
        factors_shape = layer.c_out, layer.c_in // layer.groups, layer.kh, layer.kw
        weight = torch.randn(factors_shape, device="cuda") / math.sqrt(math.prod(factors_shape[1:]))
        options = layer.options
        wide = torch.nn.functional.conv2d(x[:2].double(), weight.double(), **options)
        for order in ("NCHW", "channels last"):
            form = torch.channels_last if order != "NCHW" else torch.contiguous_format
            given, factors = x.contiguous(memory_format=form), weight.contiguous(memory_format=form)
            runs: dict[str, Callable[[], Any]] = {}
            for precision in ("float32", "tf32", "tf32x3"):
                plan = fastconv.plan_conv2d(tuple(x.shape), weight, precision=precision, **options)
                runs[f"fastconv {precision} ({plan.algorithm})"] = lambda plan=plan, given=given: plan(given)

            def peer(allowed: bool, given: Any = given, factors: Any = factors, options: Any = options) -> Any:
                torch.backends.cudnn.allow_tf32 = allowed
                return torch.nn.functional.conv2d(given, factors, **options)

            runs["cuDNN float32"], runs["cuDNN tf32"] = (lambda: peer(False)), (lambda: peer(True))
            errors = {label: ((run()[:2].double() - wide).abs().max() / wide.abs().max()).item()
                      for label, run in runs.items()}
            times = medians(runs)
            flops = 2 * wide[0].numel() * BATCH * math.prod(factors_shape[1:])
            for label, seconds in times.items():
                ceiling = limits["tf32" if "tf32" in label else "float32"]
                # tf32x3 has float32's accuracy, and is set against it.
                against = times["cuDNN tf32" if " tf32 " in f"{label} " else "cuDNN float32"]
                yield {"group": "conv", "name": f"{layer.name} {order}", "contender": label, "ms": 1e3 * seconds,
                       "percent": 100 * flops / seconds / ceiling, "ratio": against / seconds, "error": errors[label]}


def gradients(only: str, limits: dict[str, float]) -> Iterator[dict[str, Any]]:
    """A layer and both its gradients, one after the other, beside cuDNN without TF32; and each gradient alone."""
    import torch

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    for layer in shapes.LAYERS.values():
        if only not in layer.name:
            continue
        x = torch.randn(BATCH, layer.c_in, layer.h, layer.w, device="cuda")
        weight = torch.randn(layer.c_out, layer.c_in // layer.groups, layer.kh, layer.kw, device="cuda")
        options = layer.options
        signal = torch.randn_like(torch.nn.functional.conv2d(x, weight, **options))
        exact = [torch.nn.grad.conv2d_input(x.shape, weight.double(), signal.double(), **options),
                 torch.nn.grad.conv2d_weight(x.double(), weight.shape, signal.double(), **options)]
        made = {"all": exact, "input": exact[:1], "weight": exact[1:]}
        for order in ("NCHW", "channels last"):
            form = torch.channels_last if order != "NCHW" else torch.contiguous_format
            given, factors, signals = (array.contiguous(memory_format=form) for array in (x, weight, signal))
            for what, calls in _passes(given, factors, signals, options).items():
                wanted = made[what]
                errors = {label: max(((found.double() - best).abs().max() / best.abs().max()).item()
                                     for found, best in zip(run()[-len(wanted) :], wanted, strict=True))
                          for label, run in calls.items()}
                times = medians(calls)
                flops = 2 * signal.numel() * weight[0].numel() * (3 if what == "all" else 1)
                for label, seconds in times.items():
                    yield {"group": "grad", "name": f"{layer.name} {what} {order}", "contender": label,
                           "ms": 1e3 * seconds, "percent": 100 * flops / seconds / limits["float32"],
                           "ratio": times["cuDNN"] / seconds, "error": errors[label]}


def _passes(x: Any, weight: Any, signal: Any, options: dict[str, Any]) -> dict[str, dict[str, Callable[[], Any]]]:
    """What is timed of a layer: runs of each contender, which return the gradients they make."""
    import torch

    ours, theirs = fastconv.grad, torch.nn.grad
    input_of = {"fastconv": lambda: (ours.conv2d_input(x.shape, weight, signal, **options),),
                "cuDNN": lambda: (theirs.conv2d_input(x.shape, weight, signal, **options),)}
    weight_of = {"fastconv": lambda: (ours.conv2d_weight(x, weight.shape, signal, **options),),
                 "cuDNN": lambda: (theirs.conv2d_weight(x, weight.shape, signal, **options),)}
    forward = {"fastconv": lambda: (fastconv.conv2d(x, weight, **options),),
               "cuDNN": lambda: (torch.nn.functional.conv2d(x, weight, **options),)}
    together = {label: lambda label=label: (*forward[label](), *input_of[label](), *weight_of[label]())
                for label in forward}
    return {"all": together, "input": input_of, "weight": weight_of}


def pooling_gradients(only: str, limits: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Gradients of poolings beside PyTorch's; of maxima with the pooling whose indices they need."""
    import torch

    for pooling in shapes.POOLINGS.values():
        x = torch.randn(BATCH, pooling.c, pooling.h, pooling.w, device="cuda")
        for op, ours, theirs in (("max", fastconv.grad.max_pool2d, torch.nn.functional.max_pool2d),
                                 ("avg", fastconv.grad.avg_pool2d, torch.nn.functional.avg_pool2d)):
            if only not in f"{op} {pooling.name}" or not _torch_pools(pooling.options):
                continue
            for order in ("NCHW", "channels last"):
                form = torch.channels_last if order != "NCHW" else torch.contiguous_format
                given = x.contiguous(memory_format=form)
                leaf = given.detach().requires_grad_()
                signal = torch.randn_like(theirs(given, **pooling.options))

                def peer(theirs: Any = theirs, leaf: Any = leaf, signal: Any = signal, options: Any = pooling.options,
                         op: str = op) -> Any:
                    return torch.autograd.grad(theirs(leaf, **options), leaf, signal)[0]

                runs = {"fastconv": lambda ours=ours, given=given, signal=signal, options=pooling.options: ours(
                    given, signal, **options), "PyTorch": peer}
                results = [run() for run in runs.values()]
                error = ((results[0] - results[1]).abs().max() / results[1].abs().max()).item()
                times = medians(runs)
                for label, seconds in times.items():
                    moved = x.nbytes * (2 if op == "max" else 1) + signal.nbytes
                    yield {"group": "pool grad", "name": f"{op} {pooling.name} {order}", "contender": label,
                           "ms": 1e3 * seconds, "percent": 100 * moved / seconds / limits["copy"],
                           "ratio": times["PyTorch"] / seconds, "error": error}


def _torch_pools(options: dict[str, Any]) -> bool:
    """Whether PyTorch takes a pooling."""
    pads, kernel = (options[name] if isinstance(options[name], tuple) else (options[name],) * 2
                    for name in ("padding", "kernel_size"))
    return all(2 * pad <= size for pad, size in zip(pads, kernel, strict=True))


def poolings(only: str, limits: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Poolings beside PyTorch's, as shares of a copy's bandwidth."""
    import torch

    for pooling in shapes.POOLINGS.values():
        x = torch.randn(BATCH, pooling.c, pooling.h, pooling.w, device="cuda")
        name, options = pooling.name, pooling.options
        if not _torch_pools(options):
            continue
        for op, ours, theirs in (("max", fastconv.max_pool2d, torch.nn.functional.max_pool2d),
                                 ("avg", fastconv.avg_pool2d, torch.nn.functional.avg_pool2d)):
            if only not in f"{op} {name}":
                continue
            for order in ("NCHW", "channels last"):
                form = torch.channels_last if order != "NCHW" else torch.contiguous_format
                given = x.contiguous(memory_format=form)
                runs = {"fastconv": lambda ours=ours, given=given, options=options: ours(given, **options),
                        "PyTorch": lambda theirs=theirs, given=given, options=options: theirs(given, **options)}
                results = [run() for run in runs.values()]
                error = ((results[0] - results[1]).abs().max() / results[1].abs().max()).item()
                times = medians(runs)
                for label, seconds in times.items():
                    moved = x.nbytes + results[0].nbytes
                    yield {"group": "pool", "name": f"{op} {name} {order}", "contender": label, "ms": 1e3 * seconds,
                           "percent": 100 * moved / seconds / limits["copy"], "ratio": times["PyTorch"] / seconds,
                           "error": error}


def filters(only: str, limits: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Filters of a large image beside CuPy's ndimage.correlate."""
    import cupy
    import torch
    from cupyx.scipy import ndimage

    for problem in shapes.GPU_FILTERS.values():
        if only not in f"filter {problem.name}":
            continue
        image, kernel = map(cupy.asarray, problem.arrays())
        inner = tuple(slice(size // 2, -(size // 2)) for size in kernel.shape)
        # Both on the stream that the events are on.
        with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
            runs = {"fastconv": lambda image=image, kernel=kernel: fastconv.corr2d(image, kernel),
                    "CuPy": lambda image=image, kernel=kernel: ndimage.correlate(image, kernel, mode="constant")}
            ours, theirs = (run() for run in runs.values())
            error = float(cupy.abs(ours - theirs[inner]).max() / cupy.abs(theirs).max())
            times = medians(runs)
        for label, seconds in times.items():
            yield {"group": "filter", "name": problem.name, "contender": label, "ms": 1e3 * seconds,
                   "percent": 100 * 2 * image.nbytes / seconds / limits["copy"], "ratio": times["CuPy"] / seconds,
                   "error": error}


def overhead(only: str, limits: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Microseconds of the host for a planned call on a tiny problem."""
    import torch

    x, weight = torch.randn(1, 8, 8, 8, device="cuda"), torch.randn(8, 8, 3, 3, device="cuda")
    plan = fastconv.plan_conv2d(tuple(x.shape), weight)
    out = torch.empty(plan.output_shape, device="cuda")
    runs = {"fastconv plan(x, out)": lambda: plan(x, out=out), "fastconv plan(x)": lambda: plan(x),
            "PyTorch": lambda: torch.nn.functional.conv2d(x, weight)}
    for label, run in runs.items():
        for _ in range(100):
            run()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(1000):
            run()
        seconds = (time.perf_counter() - start) / 1000
        torch.cuda.synchronize()
        yield {"group": "overhead", "name": "1x8x8x8, 3x3", "contender": label, "ms": 1e3 * seconds,
               "percent": math.nan, "ratio": math.nan, "error": math.nan}


def volumes(only: str, limits: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Convolutions and poolings of volumes beside PyTorch's, in float32."""
    import torch

    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False
    for problem in shapes.GPU_VOLUMES.values():
        x, weight = (torch.randn(shape, device="cuda") for shape in problem.shapes)
        options = problem.options
        plan = fastconv.plan_conv3d(tuple(x.shape), weight, **options)
        moved = x.nbytes + x.nbytes // 8
        cases: dict[str, tuple[float, Callable[[], Any], Callable[[], Any]]] = {
            "conv3d": (plan.flops / limits["float32"], lambda plan=plan, x=x: plan(x),
                       lambda x=x, weight=weight, options=options: torch.nn.functional.conv3d(x, weight, **options)),
            "max_pool3d": (moved / limits["copy"], lambda x=x: fastconv.max_pool3d(x, 2),
                           lambda x=x: torch.nn.functional.max_pool3d(x, 2)),
            "avg_pool3d": (moved / limits["copy"], lambda x=x: fastconv.avg_pool3d(x, 2),
                           lambda x=x: torch.nn.functional.avg_pool3d(x, 2)),
        }
        for op, (least, ours, theirs) in cases.items():
            name = f"{op} {problem.name}"
            if only not in name:
                continue
            result, expected = ours(), theirs()
            error = ((result - expected).abs().max() / expected.abs().max()).item()
            times = medians({"fastconv": ours, "PyTorch": theirs})
            for label, seconds in times.items():
                yield {"group": "volume", "name": name, "contender": label, "ms": 1e3 * seconds,
                       "percent": 100 * least / seconds, "ratio": times["PyTorch"] / seconds, "error": error}


def transposed(only: str, limits: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Planned transposed convolutions of images beside PyTorch's, in float32."""
    import torch

    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False
    for name, problem in shapes.GPU_TRANSPOSED.items():
        if only not in name:
            continue
        options = problem.options
        for order in ("NCHW", "channels last"):
            form = torch.channels_last if order != "NCHW" else torch.contiguous_format
            x, weight = (torch.randn(shape, device="cuda").contiguous(memory_format=form) for shape in problem.shapes)
            plan = fastconv.plan_conv_transpose2d(tuple(x.shape), weight, **options)
            runs = {f"fastconv {plan.algorithm}": lambda plan=plan, x=x: plan(x),
                    "PyTorch": lambda x=x, weight=weight, options=options: torch.nn.functional.conv_transpose2d(
                        x, weight, **options)}
            exact = torch.nn.functional.conv_transpose2d(x.double(), weight.double(), **options)
            errors = {label: ((run().double() - exact).abs().max() / exact.abs().max()).item()
                      for label, run in runs.items()}
            times = medians(runs)
            for label, seconds in times.items():
                yield {"group": "transposed", "name": f"{name} {order}", "contender": label, "ms": 1e3 * seconds,
                       "percent": 100 * plan.flops / seconds / limits["float32"],
                       "ratio": times["PyTorch"] / seconds, "error": errors[label]}


GROUPS = {"conv": convolutions, "grad": gradients, "pool": poolings, "pool grad": pooling_gradients,
          "volume": volumes, "transposed": transposed, "filter": filters, "overhead": overhead}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--only", default="", help="part of a row's name")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    from fastconv.cuda.system.kernels import SIMULATED, missing

    if SIMULATED or missing():
        print(missing() or "the simulator is no GPU", file=sys.stderr)
        return 2
    import torch

    limits = ceilings()
    about = {"GPU": torch.cuda.get_device_name(), "torch": torch.__version__, "CUDA": torch.version.cuda,
             "cuDNN": torch.backends.cudnn.version(), "fastconv": fastconv.__version__,
             "date": time.strftime("%Y-%m-%d"),
             **{f"ceiling {label}": f"{value:.3g}" for label, value in limits.items()}}
    print(*(f"{label}: {value}" for label, value in about.items()), sep="\n")
    rows = []
    for group in arguments.groups:
        try:
            for row in GROUPS[group](arguments.only, limits):
                rows.append(row)
                if arguments.json:  # at once: whoever stops this keeps what there is
                    Path(arguments.json).write_text(json.dumps({"about": about, "rows": rows}, indent=1))
                print(f"{row['group']:8} {row['name']:40} {row['contender']:36} {row['ms']:9.4f} ms "
                      f"{row['percent']:6.1f}% {row['ratio']:6.2f}x {row['error']:9.1e}", flush=True)
        except ImportError as error:
            print(f"{group}: left out, {error}")
    for group in arguments.groups:
        ratios = [row["ratio"] for row in rows if row["group"] == group and row["contender"].startswith("fastconv")]
        ratios = [ratio for ratio in ratios if not math.isnan(ratio)]
        if ratios:
            print(f"{group}: geometric mean {statistics.geometric_mean(ratios):.2f}x, worst {min(ratios):.2f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
