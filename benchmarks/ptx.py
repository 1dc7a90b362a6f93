"""Every kernel of the CUDA tables, compiled to PTX and assembled by ptxas: registers, spills, shared memory. No GPU
needed.

    python -m benchmarks.ptx                    # compute capabilities 8.0 and 9.0
    python -m benchmarks.ptx --only depthwise --ptx FOLDER
    python -m benchmarks.ptx --tiles --dtypes float32      # of the matrix products, all that any call can launch

A kernel is found by listing what an algorithm launches for a problem (`Launches`).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ptx_reading import Reading
from fastconv.base import files
from fastconv.cuda import filters
from fastconv.cuda import planner as gpu
from fastconv.cuda.algorithms import filter_combine, filter_dense, filter_line, filter_running
from fastconv.cuda.system.streams import Buffer, Stream, Tensor, dense, launchable, row_major
from fastconv.planner import choose
from fastconv.specs.boundary import Boundary
from fastconv.specs.conv import conv_spec
from fastconv.specs.conv_transpose import TransposeSpec
from fastconv.specs.dtypes import BFLOAT16
from fastconv.specs.filters import Axis, Pass
from fastconv.specs.pool import PoolSpec, adaptive_spec, pool_spec
from fastconv.specs.unfold import unfold_spec
from fastconv.specs.unpool import UnpoolSpec

CAPABILITIES = ((8, 0), (9, 0))
DTYPES = (*map(np.dtype, ("float32", "float16", "float64", "int8", "int64")), BFLOAT16)

#: The test's: what most calls have, and a dtype of two bytes. Each takes a quarter of a minute.
TEST_DTYPES = DTYPES[:2]

#: x, weight, options: between them they take every algorithm and every tile through its paths.
CONVS: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((32, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    ((32, 256, 14, 14), (256, 256, 3, 3), {"padding": 1}),
    ((32, 256, 56, 56), (64, 256, 1, 1), {}),
    ((32, 128, 28, 28), (256, 64, 3, 3), {"stride": 2, "padding": 1, "groups": 2, "dilation": 2}),
    ((32, 32, 112, 112), (32, 1, 3, 3), {"padding": 1, "groups": 32}),
    ((32, 96, 14, 14), (96, 1, 5, 5), {"padding": 2, "groups": 96, "stride": 2}),
    ((32, 96, 7, 7), (96, 1, 3, 3), {"padding": 1, "groups": 96}),
    ((1, 1, 4096, 4096), (1, 1, 7, 7), {}),
    ((1, 1, 4096, 4096), (1, 1, 15, 15), {}),
)
#: Of volumes: their images are convolved by the kernels above, behind those that copy planes and turn weights.
VOLUMES: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((8, 64, 16, 56, 56), (64, 64, 3, 3, 3), {"padding": 1}),
)
#: Of volumes, which are transposed: with elements that no tap reaches.
TRANSPOSED: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((8, 64, 18, 57, 57), (64, 64, 2, 2, 2), {"stride": 3}),
)
_INT64 = np.dtype(np.int64)
#: op, x, window, options.
POOLS: tuple[tuple[str, tuple[int, ...], int, dict[str, Any]], ...] = tuple(
    (op, shape, window, options | ({"norm_type": 2} if op == "lp" else {}))
    for op in ("max", "avg", "lp")
    for shape, window, options in (
        ((32, 64, 112, 112), 2, {}),
        ((32, 64, 112, 112), 3, {"stride": 2, "padding": 1}),
        ((32, 64, 112, 112), 13, {"stride": 1}),
        ((32, 2048, 7, 7), 7, {}),
    )
)


# -- filters of images, which are in no table: a function of image, result and stream for each kernel ----------

_WINDOW, _WEIGHTS = np.array([0.2, 0.5, 0.3]), np.arange(49.0).reshape(7, 7)
_AXES = tuple(Axis(axis, 7, 3, mode) for axis, mode in ((0, Boundary.REFLECT), (1, Boundary.CONSTANT)))
_ALONG = Axis(0, 3, 1, Boundary.MIRROR)
_BOX = Pass((0,), (51,), b"", "box", 1 / 51)
#: The algorithm, and what `ndimage` would call for an image and a result.
FILTERS: tuple[tuple[Any, Callable[[Any, Any], None]], ...] = (
    (filter_line, lambda x, out: filters.separable(x, out, [_ALONG], [Pass((0,), (3,), _WINDOW.tobytes())], 0.0, "cast",
                                                   False)),
    (filter_line, lambda x, out: filters.separable(x, out, [_ALONG], [Pass((0,), (3,), _WINDOW.tobytes())], 0.0,
                                                   "saturate", True)),
    (filter_running, lambda x, out: filters.separable(x, out, [_ALONG._replace(taps=51)], [_BOX], 0.0, "cast", False)),
    (filter_running, lambda x, out: filters.extremum(x, out, "max", [(_AXES[1], np.zeros(1, x.dtype)[0], x.dtype)])),
    (filter_dense, lambda x, out: filters.window(x, out, _AXES, _WEIGHTS.tobytes(), 0.0, "cast", False)),
    (filter_dense, lambda x, out: filters.extremum_over(x, out, "min", _AXES, _WEIGHTS > 9, np.zeros(1, x.dtype)[0])),
    (filter_combine, lambda x, out: out.fill(lambda x, out, stream: filter_combine.run(x, x, out, True, True, True,
                                                                                     stream))),
)  # fmt: skip


class Filtering:
    """What launches a filter; it stands for the filter's result."""

    def __init__(self, dtype: np.dtype, call: Callable[[Any, Any], None]) -> None:
        self.dtype, self.shape = dtype, (1080, 1920, 3)
        call(filters.Image(np.broadcast_to(np.zeros((), dtype), self.shape)), self)

    def fill(self, work: Callable[..., None]) -> None:
        """Called by the filter."""
        self.launch = work


@cache
def problems(dtypes: tuple[np.dtype, ...] = DTYPES) -> tuple[tuple[str, Any, Any], ...]:
    """(operation, algorithm, spec) of all that the tables can do."""
    return tuple(_problems(dtypes))


def _problems(dtypes: tuple[np.dtype, ...]) -> Iterator[tuple[str, Any, Any]]:
    for dtype in dtypes:
        for x, weight, options in CONVS:
            precisions = ("float32", "tf32", "tf32x3") if dtype == np.float32 else ("float32",)
            for precision in precisions:
                spec: Any = conv_spec(x, weight, [dtype, dtype], **options, precision=precision)
                for module in gpu.table("conv2d"):
                    if module.supports(spec) is None:
                        yield "conv2d", module, spec
            spec = conv_spec(x, weight, [dtype, dtype], **options)
            for module in gpu.table("conv2d_weight"):
                if module.supports(spec) is None:
                    yield "conv2d_weight", module, spec
        for x, weight, options in VOLUMES:
            spec = conv_spec(x, weight, [dtype, dtype], axes=3, **options)
            for module in gpu.table("conv3d"):
                if choose.name(module) == "implicit_gemm" and module.supports(spec) is None:
                    yield "conv3d", module, spec
        for x, weight, options in TRANSPOSED:
            spec = TransposeSpec(conv_spec(x, weight, [dtype, dtype], axes=3, **options))
            for module in gpu.table("conv_transpose3d"):
                if choose.name(module) == "implicit_gemm":
                    yield "conv_transpose3d", module, spec
        for op, shape, window, options in POOLS:
            spec = pool_spec(op, shape, dtype, window, **options)
            for module in gpu.table(f"{op}_pool2d"):
                if module.supports(spec) is None:
                    yield f"{op}_pool2d", module, spec
            if op != "lp" and dtype.kind in "fV":
                yield from ((f"{op}_pool2d_input", module, spec) for module in gpu.table(f"{op}_pool2d_input"))
        for op in ("max", "avg"):
            adaptive = f"adaptive_{op}_pool2d"
            for module in gpu.table(adaptive):
                yield adaptive, module, adaptive_spec(op, (32, 256, 30, 30), dtype, 7)
        spec = unfold_spec((32, 64, 56, 56), dtype, 3, 1, 1, 1)
        for op in ("unfold2d", "fold2d"):
            yield from ((op, module, spec) for module in gpu.table(op))
        if dtype.kind != "V" and dtype != np.float16:
            for kind in (dtype, np.dtype(np.uint8)) if dtype == np.float32 else (dtype,):
                yield from (("ndimage", module, Filtering(kind, call)) for module, call in FILTERS)
        unpooled = UnpoolSpec((32, 64, 28, 28), (32, 64, 56, 56), dtype)
        yield from (("max_unpool2d", module, unpooled) for module in gpu.table("max_unpool2d"))


def modules(operation: str) -> tuple[Any, ...]:
    """Those that `problems` has for an operation."""
    return tuple(dict.fromkeys(module for op, module, _ in problems(TEST_DTYPES) if op == operation))


def tile_kernels(dtypes: tuple[np.dtype, ...] = DTYPES, half: int | None = None) -> Iterator[tuple[Any, int]]:
    """Kernels of the matrix products, and their threads: every tile, way to load and way to store of every dtype.

    With a `half`, 0 or 1, every other pair of a tile and a way to load, each with one way to store.
    """
    from fastconv.cuda.shared import gemm, mma

    for dtype in dtypes:
        for precision in ("float32", "tf32", "tf32x3") if dtype == np.float32 else ("float32",):
            spec = conv_spec((1, 1, 1, 1), (1, 1, 1, 1), [dtype], precision=precision)
            kind, halves = mma.kind_of(spec), 2 if precision == "tf32x3" else 1
            results = sorted({spec.out_dtype, spec.acc_dtype}, key=str)  # sums that are shared are added up later
            ways = ("vector", "quad", "single") if kind else ("pixels", "vector", "quad", "single")
            stores = ("any",) if kind else ("pixels", "channels", "any")
            pairs = [(tile, gather) for gather in ways for tile in (
                mma.tiles(spec, gather != "single") if kind else gemm.tiles(spec))]
            for i, (tile, gather) in enumerate(pairs):
                for number, (store, result) in enumerate(itertools.product(stores, results)):
                    if half is not None and (i % 2 != half or number != i // 2 % (len(stores) * len(results))):
                        continue
                    operands = dtype, spec.acc_dtype, result, gather
                    yield (mma.warp_gemm(tile, kind, halves, *operands) if kind else
                           gemm.gemm(tile, *operands, store)), tile.threads


class Launches(Stream):
    """A stream that launches nothing and lists the launches: it finds the kernels of a problem without a GPU."""

    def __init__(self) -> None:
        self.launches: list[tuple] = []

    def launch(self, kernel: Any, grid: Any, block: Any, *arguments: Any, shared: int = 0) -> None:
        self.launches.append((kernel, *launchable(kernel, grid, block, arguments, shared), shared))

    def empty(self, size: int, dtype: Any) -> Buffer:
        return Buffer(0, size, np.dtype(dtype))

    def upload(self, array: np.ndarray) -> Buffer:
        return Buffer(0, array.size, array.dtype)

    zeros = empty


def launches(operation: str, module: Any, spec: Any, last: bool = False) -> list[tuple]:
    """What an algorithm launches: (kernel, grid, block, bytes of dynamic shared memory). `last`: for channels last."""
    stream = Launches()

    def tensor(dtype: Any, n: int, c: int, *sizes: int) -> Tensor:
        if last:
            first, *steps, channel = row_major((n, *sizes, c))
            return Tensor(0, np.dtype(dtype), (n, c, *sizes), (first, channel, *steps))
        return Tensor(0, np.dtype(dtype), (n, c, *sizes), row_major((n, c, *sizes)))

    if isinstance(spec, Filtering):
        size = math.prod(spec.shape)
        x = dense(Buffer(0, size, spec.dtype), (1, *spec.shape))
        spec.launch(x, x, stream)
        return stream.launches
    if isinstance(spec, PoolSpec):
        n, c = (1, 1, *spec.lead)[-2:]
        x, out = tensor(spec.dtype, n, c, spec.h, spec.w), tensor(spec.out_dtype, n, c, spec.oh, spec.ow)
        if operation.endswith("_input"):
            module.run(spec, replace(out, dtype=_INT64) if spec.op == "max" else None, out, x, stream)
            return stream.launches
        module.run(spec, x, out, None, stream)
        if spec.op == "max":
            module.run(spec, x, out, dense(stream.empty(1, np.int64), out.shape), stream)
        return stream.launches
    if operation == "max_unpool2d":
        x = tensor(spec.dtype, *spec.x_shape)
        module.run(spec, x, replace(x, dtype=_INT64), tensor(spec.dtype, *spec.output_shape), stream)
        return stream.launches
    images, weights, outs = spec.kernel_shapes
    weight = dense(stream.empty(1, spec.dtype), weights)
    x, out = tensor(spec.dtype, *images), tensor(spec.out_dtype, *outs)
    if operation in ("unfold2d", "fold2d"):
        columns = dense(stream.empty(1, spec.dtype), (1, spec.n, spec.taps, spec.oh * spec.ow))
        pair = (x, columns) if operation == "unfold2d" else (columns, replace(x, dtype=spec.out_dtype))
        module.run(spec, *pair, stream)
    elif operation == "conv2d_weight":
        module.run(spec, x, replace(out, dtype=spec.dtype), replace(weight, dtype=spec.out_dtype), stream)
    else:
        packed = module.prepare(spec, weight, stream)
        module.run(spec, x, packed, stream.empty(outs[1], spec.acc_dtype), out, stream)
    return stream.launches


@dataclass(frozen=True)
class Assembled:
    """What ptxas says of one kernel on one architecture."""

    kernel: str
    arch: str
    registers: int
    stack: int
    spilled: int
    """Bytes stored because registers ran out."""
    shared: int
    """Bytes of shared memory of one block, dynamic ones included."""
    threads: int
    """Of a block, the most that it was launched with."""
    code: Any = field(repr=False)
    """The kernel itself."""


def ptxas() -> str | None:
    """The assembler: of the packages beside NumPy, else of the system."""
    for place in map(Path, sys.path):
        for found in sorted(place.glob("nvidia/*/bin/ptxas")):
            return str(found)
    return shutil.which("ptxas")


def assemble(
    kernel: Any, capability: tuple[int, int], threads: int, dynamic: int, folder: Path | None = None
) -> Assembled:
    """Compile and assemble one kernel; RuntimeError with ptxas's words if it refuses."""
    said = _asked(kernel, kernel.ptx(capability), capability, folder) if folder else _known(kernel, capability)[0]

    def number(pattern: str) -> int:
        return max((int(found) for found in re.findall(pattern, said)), default=0)

    return Assembled(str(kernel), _arch(capability), number(r"Used (\d+) registers"),
                     number(r"(\d+) bytes stack frame"), number(r"(\d+) bytes spill stores"),
                     number(r"(\d+) bytes smem") + dynamic, threads, kernel)


def reading(kernel: Any, capability: tuple[int, int]) -> Reading:
    """A kernel's PTX, read; RuntimeError as of `assemble`."""
    return Reading(_known(kernel, capability)[1])


@lru_cache(maxsize=16)
def _known(kernel: Any, capability: tuple[int, int]) -> tuple[str, str]:
    """What ptxas says of a kernel, and its PTX, from a folder beside the compiled kernels if they have been there."""
    made_of = kernel.identity(capability), _compilers()
    file = files.cache_folder() / "ptxas" / f"{hashlib.sha256(repr(made_of).encode()).hexdigest()}.z"
    if not (known := files.read(file)):
        text = _text(kernel, capability)
        with tempfile.TemporaryDirectory() as folder:
            said = _asked(kernel, text, capability, Path(folder))
        known = zlib.compress(f"{said}\0{text}".encode())
        _forget(file.parent)
        files.write(file, known)
    said, _, text = zlib.decompress(known).decode().partition("\0")
    return said, text


def _text(kernel: Any, capability: tuple[int, int]) -> str:
    """What `Kernel.ptx` returns; of a second architecture in a quarter of the time, as Numba need not begin again."""
    return _lowered(kernel).get_asm_str(cc=capability) if capability >= CAPABILITIES[0] else kernel.ptx(capability)


@lru_cache(maxsize=1)
def _lowered(kernel: Any) -> Any:
    """Numba's library of a kernel, which makes PTX of it; the same for all of `CAPABILITIES` (`kernels.target`)."""
    from numba import types
    from numba.cuda import compiler

    from fastconv.cuda.system.kernels import compiling_for

    with compiling_for(CAPABILITIES[0]):
        library, _ = compiler._compile_pyfunc_with_fixup(
            kernel.function, types.void(*kernel.signature), cc=CAPABILITIES[0], device=False, abi="numba",
            launch_bounds=getattr(kernel.function, "launch_bounds", None),
        )
    return library


def _asked(kernel: Any, text: str, capability: tuple[int, int], folder: Path) -> str:
    program = ptxas()
    if program is None:
        raise RuntimeError("ptxas is not installed: pip install 'fastconv[ptx]'")
    file = folder / (re.sub(r"\W+", "_", f"{kernel}_{_arch(capability)}")[:120] + ".ptx")
    file.write_text(text)
    with tempfile.TemporaryDirectory() as temporary:
        command = [program, f"-arch={_arch(capability)}", "-v", str(file), "-o", str(Path(temporary) / "out.cubin")]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{kernel}: {done.stderr}")
    return done.stderr


@cache
def _compilers() -> tuple[str, ...]:
    """The packages that libNVVM and ptxas come in, and what the ptxas that is found says of itself."""
    names = {f"{found.name} {found.version}" for found in metadata.distributions()}
    said = subprocess.run([str(ptxas()), "--version"], capture_output=True, text=True).stdout if ptxas() else ""
    return *sorted(name for name in names if name.startswith(("nvidia", "cuda", "numba"))), said


@cache
def _forget(folder: Path) -> None:
    """Remove what nobody has asked for in a month: each change of a kernel leaves all of them behind."""
    files.remove(entry.file for entry in files.entries(folder) if time.time() - entry.used > 30 * 86_400)


def _arch(capability: tuple[int, int]) -> str:
    from fastconv.cuda.system.kernels import arch

    return arch(capability)


def report(
    dtypes: tuple[np.dtype, ...] = DTYPES,
    only: str = "",
    capabilities: tuple = CAPABILITIES,
    folder: Path | None = None,
    layouts: tuple[bool, ...] = (False, True),
) -> Iterator[Assembled]:
    """Every kernel of the tables once per architecture, for channels first and last."""
    for kernel, (threads, dynamic) in kernels(dtypes, only, layouts).items():
        for capability in capabilities:
            yield assemble(kernel, capability, threads, dynamic, folder)


def kernels(
    dtypes: tuple[np.dtype, ...] = DTYPES, only: str = "", layouts: tuple[bool, ...] = (False, True)
) -> dict[Any, tuple[int, int]]:
    """Every kernel of the tables, with the most threads and bytes of dynamic shared memory that it is launched with."""
    found: dict[Any, tuple[int, int]] = {}
    for operation, module, spec in problems(dtypes):
        for last in layouts:
            if only in module.__name__:
                for kernel, _, block, shared in launches(operation, module, spec, last):
                    threads, dynamic = found.get(kernel, (0, 0))
                    found[kernel] = max(threads, block[0] * block[1] * block[2]), max(dynamic, shared)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="part of an algorithm's module name")
    parser.add_argument("--dtypes", nargs="*", type=np.dtype, default=DTYPES)
    parser.add_argument("--ptx", metavar="FOLDER", type=Path, help="keep the PTX there")
    parser.add_argument("--tiles", action="store_true", help="all that the matrix products can launch")
    arguments = parser.parse_args()
    rows = report(tuple(arguments.dtypes), arguments.only, folder=arguments.ptx)
    if arguments.tiles:
        rows = (assemble(kernel, capability, threads, 0, arguments.ptx)
                for kernel, threads in tile_kernels(tuple(arguments.dtypes)) for capability in CAPABILITIES)
    print(f"{'registers':>9} {'stack':>6} {'spilled':>7} {'shared':>7} {'threads':>7} arch   kernel")
    for row in rows:
        numbers = f"{row.registers:9} {row.stack:6} {row.spilled:7} {row.shared:7} {row.threads:7}"
        print(f"{numbers} {row.arch:6} {row.kernel}", flush=True)


if __name__ == "__main__":
    main()
