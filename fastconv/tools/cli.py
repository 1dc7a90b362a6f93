"""The command line: ``python -m fastconv`` or ``fastconv``."""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import platform
import runpy
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .. import __version__, cache, wisdom
from ..base.units import byte_count
from ..functional.settings import get_num_threads
from ..functional.shapes import receptive_field
from ..planner import remember
from .command_arguments import as_dtype, as_layer, as_numbers, as_padding, as_pair
from .compare import compare, random_operands
from .comparison import Comparison, aligned
from .explain import command as explained
from .limits import limited_threads

#: LLVM's names of the vector extensions that `info` lists.
SIMD = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512vnni", "avx512bf16", "amx-int8", "amx-bf16", "neon", "sve")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 2 if it failed, with the reason in one line on stderr."""
    try:
        arguments = _parser().parse_args(argv)
        arguments.run(arguments)
    except SystemExit as done:  # argparse: --help, --version or a bad argument
        return done.code if isinstance(done.code, int) else 2
    except (ValueError, TypeError, MemoryError, OSError, ImportError, UserWarning) as error:
        print("fastconv:", *(str(error) or type(error).__name__).split(), file=sys.stderr)  # one line
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


# -- arguments -----------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastconv", description="Convolution and pooling kernels in Numba, from the command line.")
    parser.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[Any], None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(run=run)
        return sub

    def threads(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--threads", metavar="T", type=int, help="how many may run (default: all of Numba's)")

    demo = command("demo", _demo, "filter a photograph into a contact sheet, and compare the variants on it")
    demo.add_argument("--image", metavar="FILE", help="a photograph (default: one that comes with scikit-image)")
    demo.add_argument("--output", metavar="FILE", default="demo.png", help="the PNG to write (default: demo.png)")
    threads(demo)

    other = command("compare", _compare, "check and time every algorithm of one operation on random data")
    other.add_argument("--op", metavar="OP", default="conv2d", help="conv2d (default), conv_transpose2d, max_pool2d, "
                       "conv2d_weight, ...: any of Python's compare, and its options")  # fmt: skip
    other.add_argument("--input", metavar="N,C,H,W", type=as_numbers, required=True, help="shape of the input")
    other.add_argument("--weight", metavar="O,C,KH,KW", type=as_numbers, help="shape of the weight of a convolution")
    other.add_argument("--stride", metavar="S", type=as_pair, help="a number or down,across (default: the operation's)")
    other.add_argument("--kernel-size", metavar="K", type=as_pair, help="of a pooling or unfolding, likewise")
    other.add_argument("--output-size", metavar="S", type=as_pair, help="of an adaptive pooling or a folding, likewise")
    other.add_argument("--norm-type", metavar="P", type=float, help="the exponent of lp_pool2d")
    other.add_argument(
        "--padding",
        metavar="P",
        type=as_padding,
        help="a number; down,across; top,bottom,left,right; valid, same or same_lower (default: 0)",
    )
    other.add_argument("--padding-mode", metavar="M", help="zeros (default), reflect, replicate or circular")
    other.add_argument("--dilation", metavar="D", type=as_pair, help="as the stride (default: 1)")
    other.add_argument("--groups", metavar="G", type=int, help="independent convolutions (default: 1)")
    other.add_argument("--dtype", type=as_dtype, default="float32", help="of input and weight (default: float32)")
    other.add_argument("--activation", metavar="A", help="relu (default: none)")
    threads(other)
    other.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    other.add_argument("--remember", action="store_true", help="let algorithm='auto' take the fastest from now on")
    other.add_argument("--json", action="store_true", help="print JSON and nothing else")
    other.add_argument("--plot", metavar="FILE", help="also draw the result: a .png, .svg or .pdf")

    text = "write a page on which a window moves over numbers, and print one of its sums"
    explained.add_arguments(command("explain", explained.run, text))

    command("info", _info, "tell what fastconv finds on this machine")

    field = command("receptive-field", _receptive_field, "tell what one output of a stack of layers sees of the input")
    field.add_argument(
        "layers",
        metavar="LAYER",
        nargs="+",
        type=as_layer,
        help="kernel[,stride[,padding[,dilation]]], first layer first; each a number, or two as in 3x5 (down x across)",
    )

    known = command("wisdom", _wisdom, "show, save, load or forget which algorithms measured fastest")
    what = known.add_mutually_exclusive_group()
    what.add_argument("--export", metavar="FILE", help="write it there, as JSON ('-' is the standard output)")
    what.add_argument("--import", metavar="FILE", dest="source", help="remember what was exported (or '-')")
    what.add_argument("--forget", action="store_true", help="forget everything")

    kept = command("cache", _cache, "show, prune, empty, save or load the cache of compiled kernels")
    verbs = kept.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True)
    verbs.add_parser("info", help="tell what is in it, and whether it can be used")
    pruned = verbs.add_parser("prune", help="remove the kernels used least recently")
    pruned.add_argument("--limit", metavar="BYTES", type=int, help="of those to keep (default: the cache's limit)")
    verbs.add_parser("clear", help="remove all kernels, but not the wisdom")
    exported = verbs.add_parser("export", help="write kernels into one file, for other machines")
    exported.add_argument("file", metavar="FILE")
    kinds = ["host", "x86-64-v3", "x86-64-v4"]
    exported.add_argument("--for", dest="processor", choices=kinds, default="host",
                          help="the processors: this one, for which the cache has kernels, or a class, for which the "
                               "common kernels are compiled now")  # fmt: skip
    imported = verbs.add_parser("import", help="take kernels from such a file, which is to trust whoever made it")
    imported.add_argument("file", metavar="FILE")

    lessons = command("examples", _examples, "list the lessons in convolution, or run one")
    lessons.add_argument("name", metavar="NAME", nargs="?", help="the lesson to run")
    lessons.add_argument("--output", metavar="FOLDER", type=Path, default=Path(), help="for its picture (default: .)")

    warm = command("warmup", _warmup, "compile kernels now, on all cores, so that no later call waits for it")
    warm.add_argument("operations", metavar="OPERATION", nargs="*", help="such as conv2d or max_pool3d (default: all)")
    warm.add_argument("--dtype", metavar="D", action="append", type=as_dtype,
                      help="of arrays; may be given several times (default: float32)")  # fmt: skip
    return parser


# -- the commands --------------------------------------------------------------------------------------------


def _demo(arguments: Any) -> None:
    from ..warming import team, works
    from . import demo

    with limited_threads(arguments.threads) as (threads, _):
        photo = demo.load(arguments.image)
        problems = demo.problems(photo)
        with team.meanwhile(works.by_every_algorithm(problem.spec for problem in problems), threads):
            demo.sheet(demo.panels(photo), arguments.output)
        for problem in problems:
            print(f"{problem.title}\n")
            _print(demo.compared(problem))
            print()
    print(f"The photograph and what eleven filters make of it: {arguments.output}")


def _compare(arguments: Any) -> None:
    names = ("kernel_size", "output_size", "norm_type", "stride", "padding", "padding_mode", "dilation", "groups",
             "activation")  # fmt: skip
    options = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    operands = random_operands(arguments.op, arguments.input, arguments.weight, arguments.dtype, options)
    comparison = compare(*operands, op=arguments.op, threads=arguments.threads, remember=arguments.remember,
                         device=arguments.device, **options)  # fmt: skip
    if arguments.plot:
        comparison.plot(arguments.plot)
    if arguments.json:
        print(json.dumps(comparison.to_dict(), indent=2))
    else:
        _print(comparison)


def _print(comparison: Comparison) -> None:
    try:
        import rich
    except ModuleNotFoundError:
        print(comparison)
    else:
        rich.print(comparison)


def _info(_: Any) -> None:
    from ..cpu.machine import copy_bandwidth, fma_ceiling
    from ..cpu.system.target import processor
    from ..cpu.system.threads import threading_layer

    layer, threads = threading_layer(), get_num_threads()
    single, double = (fma_ceiling(np.dtype(dtype), threads) / 1e9 for dtype in ("float32", "float64"))
    lines = {
        "fastconv": __version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "scipy", "numba", "llvmlite")),
        "processor": f"{processor_name()} ({processor().name})",
        "SIMD": ", ".join(name for name in SIMD if name in processor().features) or "nothing that is known here",
        "cores": str(os.cpu_count()),
        "threads": f"{threads}, threading layer {layer}",
        "multiply-adds": f"{single:,.0f} GFLOP/s in float32, {double:,.0f} in float64, measured on these threads",
        "memory": f"{copy_bandwidth(threads) / 1e9:,.0f} GB/s read and written, measured by copying",
        "cache": _cached(),
        "wisdom": f"{sum(1 for _ in remember.records())} problems measured",
        "CUDA": _gpu(),
    }
    for label, text in lines.items():
        print(f"{label:<14} {text}")


def _gpu() -> str:
    from ..cuda.machine import this_machine
    from ..cuda.system.kernels import SIMULATED, missing

    if SIMULATED:
        return "Numba's simulator runs the kernels, as Python"
    if reason := missing():
        return reason
    gpu = this_machine()
    return (f"{gpu.name}, compute capability {gpu.capability[0]}.{gpu.capability[1]}, {gpu.processors} processors, "
            f"{byte_count(gpu.memory)}, {gpu.flops(np.float32) / 1e12:.0f} TFLOP/s in float32 and "
            f"{gpu.bandwidth / 1e9:,.0f} GB/s by its clocks")


def processor_name() -> str:
    """The name of the processor, as the system tells it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cached() -> str:
    found = cache.info()
    problem = f" ({found.problem})" if found.problem else ""
    return f"{found.kernels.count} compiled kernels, {byte_count(found.kernels.bytes)}, in {found.folder}{problem}"


def _receptive_field(arguments: Any) -> None:
    lines = [("layer", "sees", "step", "starts at")]
    field = receptive_field(arguments.layers)
    for count, layer in enumerate(arguments.layers, 1):
        field = receptive_field(arguments.layers[:count])
        options = zip(("kernel", "stride", "padding", "dilation"), map(_by, layer), strict=False)
        text = ", ".join(" ".join(option) for option in options)
        lines.append((f"{count}: {text}", _by(field.size), _by(field.stride), str(field.start)))
    print(aligned(lines))
    padding = ", in the padding" if min(field.start) < 0 else ""
    print(f"\nOne output sees {_by(field.size)} pixels of the input. The next one down sees as many, {field.stride[0]} "
          f"rows lower;\nthe next one to the right, {field.stride[1]} columns on. The first view begins at row "
          f"{field.start[0]}, column {field.start[1]}{padding}.")


def _by(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _wisdom(arguments: Any) -> None:
    if arguments.export:
        text = wisdom.export_wisdom() + "\n"
        if arguments.export == "-":
            print(text, end="")
        else:
            Path(arguments.export).write_text(text)
    elif arguments.source:
        text = sys.stdin.read() if arguments.source == "-" else Path(arguments.source).read_text()
        print(f"{wisdom.import_wisdom(text)} problems remembered")
    elif arguments.forget:
        print(f"{wisdom.forget_wisdom()} problems forgotten")
    else:
        lines = [("problem", "threads", "fastest", "microseconds")]
        for record in sorted(remember.records(), key=lambda record: (record["problem"], record["threads"])):
            best = record["algorithm"]
            took = f"{1e6 * record['seconds'][best]:,.1f}"
            lines.append((record["problem"], str(record["threads"]), best, took))
        print(aligned(lines) if len(lines) > 1 else "Nothing is remembered; compare --remember measures")


def _cache(arguments: Any) -> None:
    if arguments.verb == "export":
        print(f"{cache.export_kernels(arguments.file, processor=arguments.processor)} kernels exported")
    elif arguments.verb == "import":
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # kernels that do not fit are an error of one line
            print(f"{cache.import_kernels(arguments.file)} kernels imported")
    elif arguments.verb == "prune":
        print(f"{cache.prune(arguments.limit)} kernels removed")
    elif arguments.verb == "clear":
        print(f"{cache.clear()} kernels removed")
    else:
        print(cache.info())


def _examples(arguments: Any) -> None:
    here = Path(__file__).parents[1]
    # In an installed package the examples lie inside it, in a checkout beside it.
    folder = next((place for place in (here / "examples", here.parent / "examples") if place.is_dir()), None)
    if folder is None:
        raise FileNotFoundError(f"there are no examples in or beside {here}")
    files = {file.stem.partition("_")[2]: file for file in sorted(folder.glob("[0-9]*.py"))}
    if arguments.name is None:
        for name, file in files.items():
            print(f"{name:<19} {ast.get_docstring(ast.parse(file.read_text(encoding='utf-8')))}")
        print(f"\nRun one with: fastconv examples NAME. To read them: {folder}")
        return
    if arguments.name not in files:
        raise ValueError(f"NAME must be one of {', '.join(files)}, got {arguments.name!r}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    try:
        runpy.run_path(str(files[arguments.name]))["main"](arguments.output)
    except ModuleNotFoundError as error:
        raise ImportError(f"{arguments.name} needs {error.name}: pip install 'fastconv[examples]'") from None


def _warmup(arguments: Any) -> None:
    from ..warming.warmup import warmup

    progress = True
    try:
        import rich.progress  # noqa: F401 # shows a bar if rich is installed
    except ModuleNotFoundError:
        progress = False
    new = warmup(arguments.operations or None, dtypes=arguments.dtype or ("float32",), progress=progress)
    print(f"{new} new. In all {_cached()}")

