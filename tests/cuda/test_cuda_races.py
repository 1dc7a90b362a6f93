"""No two threads of a kernel race, in shared memory or in global: every algorithm, on problems of several tiles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
from cases import Pool, values
from numba import cuda
from small import CONV, POOL, SIMULATED

import fastconv
from fastconv import grad, ndimage
from fastconv.cuda.system.arrays import SimulatedArray
from fastconv.specs.conv import conv_spec
from fastconv.specs.pool import pool_spec

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not SIMULATED, reason="of the simulator")]

if SIMULATED:
    import races

    from fastconv.cuda.system import simulator
    from fastconv.cuda.system.streams import SimulatedPointer
    from fastconv.cuda.tiles import ptx


@pytest.fixture
def barriers() -> Iterator[list[int]]:
    with races.watched() as count:
        yield count


# -- what is found -------------------------------------------------------------------------------------------


def turned(out, before, behind):
    """Each thread reads what the opposite one writes."""
    shared = cuda.shared.array(8, np.int64)
    i = cuda.threadIdx.x
    for step in range(2):
        shared[i] = step
        if before:
            cuda.syncthreads()
        out[8 * step + i] = shared[7 - i]
        if behind:
            cuda.syncthreads()


def copied(x, out, late, newest):
    """Each thread reads what the opposite one has copied, in two halves of shared memory."""
    shared = cuda.shared.array(16, np.int64)
    i, copy, arrived = cuda.threadIdx.x, ptx.copier(8), ptx.arrival(newest)
    copy(shared, i, x, i, True)
    ptx.commit()
    for step in range(2):
        arrived()
        if not late:
            cuda.syncthreads()
        copy(shared, (8 if step % 2 == 0 else 0) + i, x, i, True)
        ptx.commit()
        if late:
            cuda.syncthreads()
        out[8 * step + i] = shared[(8 if step % 2 else 0) + 7 - i]


def gathered(out, x):
    """All threads write to one element, or read what another writes."""
    out[0 if x is None else cuda.threadIdx.x] = 1 if x is None else x[7 - cuda.threadIdx.x]


def unwritten(out):
    shared = cuda.shared.array(8, np.int64)
    out[cuda.threadIdx.x] = shared[cuda.threadIdx.x]


def started(kernel, *arguments) -> None:
    simulator.launch(kernel, (2, 1, 1), (8, 1, 1), 0, arguments)


def test_races_are_found(barriers: list[int]) -> None:
    out, x = SimulatedPointer(np.zeros(16, np.int64)), SimulatedPointer(np.arange(16))
    with pytest.raises(races.Race, match=r"behind barrier 0, element|nobody has written"):
        started(turned, out, False, True)
    with pytest.raises(races.Race, match="behind barrier 1, element"):
        started(turned, out, True, False)
    with pytest.raises(races.Race, match="written"):
        started(copied, x, out, True, 0)
    with pytest.raises(races.Race, match="a copy has not arrived"):
        started(copied, x, out, False, 1)
    with pytest.raises(races.Race, match="nobody has written"):
        started(unwritten, out)
    with pytest.raises(races.Race, match="writes element 0, which"):
        started(gathered, out, None)
    with pytest.raises(races.Race, match="in the same launch"):
        started(gathered, out, out)


def test_what_is_in_order_is_none(barriers: list[int]) -> None:
    x = SimulatedPointer(np.arange(16))
    for kernel, arguments, count in ((turned, (True, True), 64), (copied, (False, 0), 32)):
        out, before = SimulatedPointer(np.zeros(16, np.int64)), barriers[0]
        simulator.launch(kernel, (1, 1, 1), (8, 1, 1), 0, (*((x,) if kernel is copied else ()), out, *arguments))
        assert barriers[0] - before == count // 2


# -- kernels -------------------------------------------------------------------------------------------------

CONVS = {case.name: case for case in CONV}
LAST = pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])


def put(x: np.ndarray, last: bool) -> SimulatedArray:
    """An array of images in one order of memory or the other."""
    if not last:
        return SimulatedArray(np.ascontiguousarray(x))
    return SimulatedArray(np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2))


def convolve(name: str, algorithm: str, dtype: str = "float32", last: bool = False, **options: object) -> None:
    x, *others = CONVS[name].arrays(dtype)
    with suppress(ValueError):  # what an algorithm does not take, other tests know
        fastconv.conv2d(put(x, last), *(SimulatedArray(one) for one in others), **CONVS[name].options, **options,
                        algorithm=algorithm)  # fmt: skip



@LAST
@pytest.mark.parametrize("name", ["plain", "everything", "1x1 kernel", "3x3 kernel", "depthwise, dilation"])
@pytest.mark.parametrize("algorithm", fastconv.algorithms("conv2d", "cuda"))
def test_convolutions(algorithm: str, name: str, last: bool, barriers: list[int]) -> None:
    convolve(name, algorithm, last=last)


@LAST
@pytest.mark.parametrize(("dtype", "precision"), [("float32", "tf32"), ("float32", "tf32x3"), ("float16", "float32"),
                                                  ("int8", "float32"), ("float64", "float32")])
def test_convolutions_on_other_tiles(dtype: str, precision: str, last: bool, barriers: list[int]) -> None:
    """With quads of channels, and without."""
    convolve("everything" if last else "plain", "implicit_gemm", dtype, precision=precision)
    x, weight = values((1, 16, 3, 4), dtype), values((5, 16, 2, 2), dtype, 1)
    fastconv.conv2d(put(x, last), SimulatedArray(weight), algorithm="implicit_gemm", precision=precision)
    assert barriers[0]


def test_windows_that_a_tile_spoils(barriers: list[int]) -> None:
    x, weight = values((1, 3, 9, 9), "float32"), values((3, 3, 3, 3), "float32", 1)
    x[0, 1, 4, 4] = np.inf
    fastconv.conv2d(put(x, False), SimulatedArray(weight), algorithm="winograd")
    assert barriers[0]


@LAST
@pytest.mark.parametrize("name", ["plain", "everything", "depthwise"])
@pytest.mark.parametrize("algorithm", fastconv.algorithms("conv2d_weight", "cuda"))
def test_gradients_of_weights(algorithm: str, name: str, last: bool, barriers: list[int]) -> None:
    x, weight = CONVS[name].arrays("float32")[:2]
    options = {key: value for key, value in CONVS[name].options.items() if key != "activation"}
    signal = values(conv_spec(x.shape, weight.shape, (x.dtype,), **options).output_shape, "float32", 3)
    grad.conv2d_weight(put(x, last), weight.shape, put(signal, last), **options, algorithm=algorithm)


@LAST
@pytest.mark.parametrize("op", ["max", "avg"])
@pytest.mark.parametrize("case", [case for case in POOL if case.name in ("plain", "everything", "large window")],
                         ids=lambda case: case.name)  # fmt: skip
def test_poolings_and_their_gradients(case: Pool, op: str, last: bool, barriers: list[int]) -> None:
    x = put(case.array("float32"), last)
    shape = pool_spec("max", x.shape, np.dtype(np.float32), case.kernel, **case.options).output_shape
    for algorithm in fastconv.algorithms(f"{op}_pool2d", "cuda"):
        for options in ({}, {"return_indices": True}) if op == "max" else ({},):
            getattr(fastconv, f"{op}_pool2d")(x, case.kernel, **case.options, **options, algorithm=algorithm)
    getattr(grad, f"{op}_pool2d")(x, put(values(shape, "float32", 1), last), case.kernel, **case.options)


FILTERS = {
    "gaussian": lambda x: ndimage.gaussian_filter(x, (1, 1, 0)),
    "uniform": lambda x: ndimage.uniform_filter(x, (7, 5, 1)),
    "maximum": lambda x: ndimage.maximum_filter(x, (6, 3, 1)),
    "footprint": lambda x: ndimage.minimum_filter(x, footprint=np.eye(3)[:, :, None] > 0),
    "correlate": lambda x: ndimage.correlate(x, np.arange(9.0).reshape(3, 3, 1) ** 2),
    "magnitude": lambda x: ndimage.gaussian_gradient_magnitude(x, 1),
    "backwards": lambda x: ndimage.correlate(x, np.arange(9.0).reshape(3, 3, 1) ** 2, origin=(1, 1, 0)),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters(name: str, barriers: list[int]) -> None:
    FILTERS[name](SimulatedArray(values((13, 11, 3), "float32")))
