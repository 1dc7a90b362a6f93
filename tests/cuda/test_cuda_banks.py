"""Shared memory of the tiles, at their real sizes: what a warp accesses at once falls into different banks.

Every access of a block to shared memory is noted in the simulator. There are 32 banks of 4 bytes; an instruction is
served in turns of 128 bytes: 32 lanes of 4 bytes, 8 of 16. Lanes that read one word share it.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from cases import values
from small import SIMULATED
from test_cuda_gemm import run, tensor

from fastconv.cuda.algorithms import weight_implicit_gemm
from fastconv.cuda.shared import gemm, mma
from fastconv.cuda.system.streams import SimulatedStream
from fastconv.cuda.tiles import gemm_kernel, mma_kernel
from fastconv.specs.conv import conv_spec

pytestmark = pytest.mark.gpu

if SIMULATED:
    from fastconv.cuda.system.simulator import Shared

#: Of each thread, in order: (what, bytes, address).
Accesses = defaultdict[int, list[tuple[str, int, int]]]


class Watched(np.ndarray):
    """Shared memory whose single stores are noted."""

    notes: Accesses

    def __setitem__(self, index: Any, value: Any) -> None:
        self.notes[threading.current_thread().thread_id].append(("store", 4, 4 * int(index)))  # type: ignore[attr-defined]
        np.ndarray.__setitem__(self, index, value)


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Accesses:
    if not SIMULATED:
        pytest.skip("on a GPU, its profiler counts conflicts")
    found: Accesses = defaultdict(list)

    def noted(what: str, size: int, array: Any, index: Any) -> Any:
        if not isinstance(array, Watched):
            return array
        found[threading.current_thread().thread_id].append((what, size, 4 * int(index)))  # type: ignore[attr-defined]
        return array.view(np.ndarray)

    make = Shared.array

    def array(self: Any, shape: Any, dtype: Any, alignment: int | None = None) -> Watched:
        watched = make(self, shape, dtype, alignment).view(Watched)
        watched.notes = found
        return watched

    monkeypatch.setattr(Shared, "array", array)
    for module in (gemm_kernel, mma_kernel, weight_implicit_gemm):
        load4, store4, copier = module.load4, module.store4, module.copier
        monkeypatch.setattr(module, "load4", lambda a, i, f=load4: f(noted("load", 16, a, i), i))
        monkeypatch.setattr(module, "store4", lambda a, i, *v, f=store4: f(noted("store", 16, a, i), i, *v))

        def copying(size: int, f: Any = copier) -> Any:
            return lambda shared, place, *rest: f(size)(noted("copy", size, shared, place), place, *rest)

        monkeypatch.setattr(module, "copier", copying)
    # Sums do not matter here, and take the simulator long.
    monkeypatch.setattr(mma_kernel, "mma", lambda kind, number: lambda *words: words[-4:])
    monkeypatch.setattr(gemm, "gemm", gemm_kernel.gemm.__wrapped__)
    monkeypatch.setattr(mma, "warp_gemm", mma_kernel.warp_gemm.__wrapped__)
    monkeypatch.setattr(weight_implicit_gemm, "_weight_gemm", weight_implicit_gemm._weight_gemm.__wrapped__)
    return found


def turns(accesses: list[tuple[str, int, int]]) -> int:
    """Turns of shared memory that one instruction of a warp takes more than its bytes need."""
    size, extra = accesses[0][1], 0
    for first in range(0, 32, 128 // size):
        words = {(address + 4 * i) // 4 for _, _, address in accesses[first : first + 128 // size]
                 for i in range(size // 4)}
        extra += int(np.bincount([word % 32 for word in words]).max()) - 1
    return extra


@pytest.mark.parametrize(("tiles", "tile", "precision", "last", "channels"), [
    (gemm, gemm._WIDE[1], "float32", False, 8),  # copied one by one
    (gemm, gemm._WIDE[0], "float32", True, 8),  # four channels a load: what the pitch is for
    (gemm, gemm._WIDE[2], "float32", False, 7),  # four pixels a copy, by `pixels`
    (mma, mma._TILES[2], "tf32", False, 16),  # put together in registers
    (mma, mma._TILES[1], "tf32x3", True, 16),  # all by copies
], ids=["gemm quad", "gemm vector", "gemm pixels", "mma quad", "mma vector"])
def test_no_bank_conflicts(
    notes: Accesses, tiles: Any, tile: Any, precision: str, last: bool, channels: int
) -> None:
    x, weight = values((1, channels, 16, tile.m // 16), "float32"), values((tile.n, channels, 1, 1), "float32", 1)
    spec = conv_spec(x.shape, weight.shape, [x.dtype], precision=precision)
    options = {"pixels": channels == 7} if tiles is gemm else {}
    run(tiles, tile, spec, tensor(x, last), weight, np.zeros(tile.n, np.float32), last, SimulatedStream(), **options)
    kinds = instructions(notes, tile.threads)
    assert ("load", 16) in kinds
    assert ("copy", 16) in kinds
    assert len(kinds) >= 3 or last or channels == 7


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("tile", gemm._WIDE[1:3], ids=lambda tile: f"{tile.m}x{tile.n}")
def test_no_bank_conflicts_of_weights(notes: Accesses, tile: Any, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, grad = values((1, tile.m, 4, 4), "float32"), values((1, tile.n, 4, 4), "float32", 1)
    spec = conv_spec(x.shape, (tile.n, tile.m, 1, 1), [x.dtype])
    monkeypatch.setattr(weight_implicit_gemm, "_best", lambda spec, machine: (weight_implicit_gemm.Cut(tile, 1, 2), 0))
    out = tensor(np.empty((tile.n, tile.m, 1, 1), np.float32))
    weight_implicit_gemm.run(spec, tensor(x, last), tensor(grad, last), out, SimulatedStream())
    assert instructions(notes, tile.threads) == {("load", 16), ("copy", 4)}


def instructions(notes: Accesses, threads: int) -> set[tuple[str, int]]:
    """What the warps did, (what, bytes), after a look at each time for conflicts."""
    assert len(notes) == threads
    kinds = set()
    for warp in range(0, threads, 32):
        lanes = [notes[lane] for lane in range(warp, warp + 32)]
        assert len({len(lane) for lane in lanes}) == 1
        for together in zip(*lanes, strict=True):
            assert len({access[:2] for access in together}) == 1
            kinds.add(together[0][:2])
            assert turns(list(together)) == 0, together
    return kinds


@pytest.mark.skipif(not SIMULATED, reason="of the simulator")
def test_threads_share_an_array_that_is_long_in_the_making(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks while another thread makes it gets the same one."""
    empty = np.empty

    def slow(*args: Any) -> np.ndarray:
        time.sleep(0.01)
        return empty(*args)

    monkeypatch.setattr(np, "empty", slow)
    shared, found = Shared(0), []
    threads = [threading.Thread(target=lambda: found.append(shared.array(4, np.dtype(np.float32)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(array) for array in found}) == 1
