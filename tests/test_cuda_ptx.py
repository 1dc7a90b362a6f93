"""The PTX of the GPU's kernels, without a GPU: what ptxas makes of it, and what `benchmarks.ptx_reading` finds in it.

`docs/gpu_reading.md` has the reasons for what is allowed here.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numba import cuda, types

from benchmarks import ptx
from benchmarks.ptx_reading import Reading
from fastconv.cuda.algorithms import filter_dense, filter_line
from fastconv.cuda.system.kernels import INT64, Kernel, pointer
from fastconv.cuda.tiles import ptx as tiles_ptx

#: Kernels in which a number read from shared memory, one for all threads, decides about barriers.
TOLD_ALIKE = {"own_windows"}

#: Kernels that make places in global memory from numbers of 32 bits, and where the bounds of these are checked.
NARROW = {
    "implicit_gemm": "gather.limits", "implicit_warp_gemm": "gather.limits", "weight_gemm": "its supports",
    "weight_taps": "gather.places", "winograd_inputs": "gather.limits of the product",
    "gather_max": "gradient_gather.LARGE", "gather_avg": "gradient_gather.LARGE", "rows_pick": "its supports",
    "rows_sum": "its supports",
}  # fmt: skip

#: Kernels that load from, or store to, global memory four elements at a time, by what they access: a table or packed
#: weights, in memory of their own, or a caller's array, whose alignment decides which kernel is launched.
TABLES = {"offset_table", "rows_table", "implicit_gemm", "implicit_warp_gemm", "weight_gemm"}


def reads(kernel: Kernel, found: Reading) -> None:
    """What must hold of a kernel's PTX."""
    name = kernel.function.__name__
    assert not found.forbidden
    assert not found.copies
    assert bool(found.apart) == (name in TOLD_ALIKE), found.apart
    assert all(found.widest_shared <= align for align, _ in found.shared), "wider than shared memory is aligned to"
    assert sum(size for _, size in found.shared) <= 48 << 10
    assert not found.narrow or name in NARROW, found.narrow
    wide = {one for one in found.wide if name not in TABLES}
    assert not wide
    if name == "implicit_gemm":
        gather, store = kernel.key[-2:]
        assert gather in ("vector", "pixels") or found.wide - STORES <= PACKED
        assert store != "any" or not found.wide & STORES
    elif name == "implicit_warp_gemm":
        assert found.wide <= PACKED


#: Loads of tables and packed weights, and stores of four elements at once.
PACKED = {"ld.global.v4.u32", "cp.async.cg.shared.global"}
STORES = {f"st.global.v{count}.{kind}" for count in (2, 4) for kind in ("f32", "u32", "f64", "u64", "u16", "b16", "u8")}


def fits(row: ptx.Assembled, capability: tuple[int, int], capsys: pytest.CaptureFixture[str], hot: bool) -> None:
    with capsys.disabled():
        print(f"\n{row}", end="")
    assert row.shared <= (227 << 10 if capability >= (9, 0) else 163 << 10)
    # What an SM has must do for a block, or the launch fails.
    assert row.registers * row.threads <= 65536
    if hot:
        assert row.spilled == 0
        assert row.stack == 0, "an array of a thread is in memory, not in registers"
    reads(row.code, ptx.reading(row.code, capability))


#: What a test before has assembled: compiling takes a second.
ASSEMBLED: set[tuple[str, str]] = set()

#: Kernels whose registers decide their speed: all but the definitions.
COLD = "_naive"


@pytest.mark.skipif(ptx.ptxas() is None, reason="ptxas is not installed: pip install 'fastconv[ptx]' (CI does)")
@pytest.mark.parametrize("operation", ["conv2d", "max_pool2d", "conv2d_weight", "max_pool2d_input",
                                       "conv_transpose3d", "unfold2d", "fold2d", "max_unpool2d", "ndimage"])
def test_every_kernel_compiles_and_no_hot_one_spills(operation: str, capsys: pytest.CaptureFixture[str]) -> None:
    tried = set()
    for module in ptx.modules(operation):
        name = module.__name__.rpartition(".")[2]
        first = ptx.kernels(ptx.TEST_DTYPES, name, (False,))
        for kernel, launched in ptx.kernels(ptx.TEST_DTYPES, name).items():
            # What channels last adds is tried of the second architecture: each takes a second.
            for capability in ptx.CAPABILITIES[0 if kernel in first else 1 :]:
                row = ptx.assemble(kernel, capability, *launched)
                tried.add(name)
                ASSEMBLED.add((row.kernel, row.arch))
                fits(row, capability, capsys, hot=not name.endswith(COLD))
    assert tried == {module.__name__.rpartition(".")[2] for module in ptx.modules(operation)}


@pytest.mark.skipif(ptx.ptxas() is None, reason="ptxas is not installed: pip install 'fastconv[ptx]' (CI does)")
@pytest.mark.parametrize("half", [0, 1], ids=lambda half: "sm_{}{}".format(*ptx.CAPABILITIES[half]))
def test_every_tile_and_way_to_load_compiles(half: int, capsys: pytest.CaptureFixture[str]) -> None:
    """All that the products of layers can launch, one half for each architecture; ``ptx --tiles`` does all for both."""
    capability = ptx.CAPABILITIES[half]
    for kernel, threads in ptx.tile_kernels((*ptx.TEST_DTYPES, np.dtype(np.int8)), half):
        if (str(kernel), f"sm_{capability[0]}{capability[1]}") not in ASSEMBLED:
            fits(ptx.assemble(kernel, capability, threads, 0), capability, capsys, hot=True)


# -- what a reading finds ------------------------------------------------------------------------------------


def read(function: Any, *signature: Any) -> Reading:
    """The reading of a kernel made here; the last argument counts elements."""
    return Reading(Kernel(function, signature, (__name__, function.__name__)).ptx((9, 0)))


def test_a_barrier_that_some_threads_leave_out() -> None:
    def early(x, n):
        memory = cuda.shared.array(32, types.float32)
        if cuda.threadIdx.x >= n:
            return
        memory[cuda.threadIdx.x] = x[cuda.threadIdx.x]
        cuda.syncthreads()
        x[cuda.threadIdx.x] = memory[31 - cuda.threadIdx.x]

    def together(x, n):
        memory = cuda.shared.array(32, types.float32)
        for i in range(n):  # as often for all threads
            if cuda.threadIdx.x < i:
                memory[cuda.threadIdx.x] = x[cuda.threadIdx.x]
            cuda.syncthreads()
        if cuda.threadIdx.x < n:
            x[cuda.threadIdx.x] = memory[31 - cuda.threadIdx.x]

    def turns(x, n):
        memory = cuda.shared.array(32, types.float32)
        for i in range(x[cuda.threadIdx.x]):
            memory[cuda.threadIdx.x] = i
            cuda.syncthreads()
        x[cuda.threadIdx.x] = memory[31 - cuda.threadIdx.x]

    arguments = pointer(np.float32), INT64
    assert [text.split()[0] for text in read(early, *arguments).apart] == ["bar.sync"]
    assert read(together, *arguments).apart == []
    assert read(turns, pointer(np.int64), INT64).apart


def test_copies_that_nobody_waits_for() -> None:
    copy, arrived = tiles_ptx.copier(16), tiles_ptx.arrival(0)

    def made(waits, align):
        def copied(x, n):
            shared = cuda.shared.array(128, types.float32, align)
            copy(shared, 4 * cuda.threadIdx.x, x, 4 * cuda.threadIdx.x, cuda.threadIdx.x < n)
            tiles_ptx.commit()
            if waits:
                arrived()
            cuda.syncthreads()
            x[cuda.threadIdx.x] = shared[127 - cuda.threadIdx.x]

        return read(copied, pointer(np.float32), INT64)

    assert made(True, 16).copies == []
    assert made(True, 16).shared == [(16, 512)]
    assert made(True, 8).widest_shared == 16 > made(True, 8).shared[0][0]
    missing = made(False, 16).copies
    assert missing[0] == "cp.async.wait_group"
    assert missing[1].endswith("without a wait for copies")


def test_both_architectures_have_the_ptx_of_their_own_from_one_lowering() -> None:
    copy = tiles_ptx.copier(16)

    def copied(x, n):
        shared = cuda.shared.array(128, types.float32, 16)
        copy(shared, 4 * cuda.threadIdx.x, x, 4 * cuda.threadIdx.x, cuda.threadIdx.x < n)
        tiles_ptx.commit()
        x[cuda.threadIdx.x] = shared[127 - cuda.threadIdx.x] * x[n] + x[n + 1]

    kernel = Kernel(copied, (pointer(np.float32), INT64), (__name__, "copied"))
    for capability in ptx.CAPABILITIES:
        texts = ptx._text(kernel, capability), kernel.ptx(capability)
        assert all(f".target sm_{capability[0]}{capability[1]}" in text for text in texts)
        shared, own = (sorted(re.findall(r"^\s+(?:@\S+ )?([a-z][\w.:]+)", text, re.MULTILINE)) for text in texts)
        assert "cp.async.cg.shared.global" in shared
        assert shared == own


def test_products_of_32_bits_in_addresses() -> None:
    def narrow(x, n):
        x[np.int32(cuda.blockIdx.x * np.int32(n)) + cuda.threadIdx.x] = 1

    def wide(x, n):
        at = np.int64(cuda.blockIdx.x) * 128 + cuda.threadIdx.x
        x[at // n * 3 * n + at % n] = 1

    assert read(narrow, pointer(np.float32), INT64).narrow
    assert read(wide, pointer(np.float32), INT64).narrow == []


def test_what_no_kernel_has() -> None:
    def adding(x, n):
        cuda.atomic.add(cuda.shared.array(4, types.int32), cuda.threadIdx.x % 4, 1)
        x[0] = cuda.shfl_down_sync(0xFFFF, cuda.threadIdx.x, 1)

    found = " ".join(read(adding, pointer(np.int32), INT64).forbidden)
    assert "atom." in found
    assert "shfl." in found


@pytest.mark.parametrize("order", ["listed", "even", "odd"])
def test_sums_in_scipys_order_round_each_product(order: str) -> None:
    """A multiplication and an addition in one instruction would round once, and cut off another whole number."""
    byte, double = np.dtype(np.uint8), np.dtype(np.float64)
    text = filter_line._line(byte, double, byte, "reflect", order, "cast", 1).ptx((9, 0))
    assert "fma.rn.f64" not in text
    assert "mul.rn.f64" in text
    assert "fma.rn.f64" in filter_line._line(double, double, double, "reflect", "products", "cast", 1).ptx((9, 0))
    listed = filter_dense._dense("sum", byte, double, byte, ("reflect",), "listed", "cast", False, False).ptx((9, 0))
    assert "fma.rn.f64" not in listed
