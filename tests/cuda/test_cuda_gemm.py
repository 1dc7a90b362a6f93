"""The tiles of implicit_gemm, pointwise and winograd: every tile and way to load; the error of each precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from cases import values
from reference import assert_close
from small import SIMULATED

import fastconv
from fastconv.base.toom_cook import axis
from fastconv.cuda.algorithms import conv_winograd
from fastconv.cuda.shared import gather, gemm, mma
from fastconv.cuda.system.kernels import storage
from fastconv.cuda.system.streams import SimulatedPointer, SimulatedStream, Stream, Tensor
from fastconv.cuda.tiles import ptx
from fastconv.specs.conv import ConvSpec, conv_spec
from fastconv.specs.dtypes import BFLOAT16

pytestmark = pytest.mark.gpu


@pytest.fixture
def stream() -> Stream:
    if not SIMULATED:
        pytest.skip("tensors are put together by hand here; on a GPU the other tests run the same kernels")
    return SimulatedStream()


def tensor(array: np.ndarray, channels_last: bool = False) -> Tensor:
    """An array of four axes as a kernel sees it, copied in one order of memory or the other."""
    order = (0, 2, 3, 1) if channels_last else (0, 1, 2, 3)
    flat = np.ascontiguousarray(array.transpose(order)).reshape(-1)
    steps = {place: int(np.prod([array.shape[after] for after in order[i + 1 :]])) for i, place in enumerate(order)}
    strides = (steps[0], steps[1], steps[2], steps[3])
    return Tensor(SimulatedPointer(flat.view(storage(array.dtype))), array.dtype, array.shape, strides, flat)


def read(result: Tensor) -> np.ndarray:
    flat = result.owner
    return np.lib.stride_tricks.as_strided(flat, result.shape, [step * flat.itemsize for step in result.strides])


def run(tiles: Any, tile: Any, spec: ConvSpec, x: Tensor, weight: np.ndarray, bias: np.ndarray, last: bool,
        stream: Stream, parts: int = 1, **options: Any) -> np.ndarray:
    packed = tiles.prepare(spec, tensor(weight), stream, gather.Cut(tile, parts))
    out = tensor(np.full(spec.output_shape, 77).astype(spec.out_dtype), last)
    tiles.run(spec, x, packed, stream.upload(bias), out, stream, **options)
    return read(out)


PROBLEMS = {
    "quad": ((2, 4, 4, 6), (5, 4, 2, 3), {"padding": 1}),
    "single": ((1, 3, 5, 4), (4, 3, 3, 3), {"padding": ((1, 0), (2, 1)), "stride": (1, 2), "activation": "relu"}),
    "groups": ((1, 8, 3, 5), (34, 4, 2, 2), {"groups": 2, "dilation": (1, 2)}),
    "pixels": ((2, 9, 2, 6), (18, 9, 1, 1), {}),
}


def problem(name: str, dtype: str) -> tuple[ConvSpec, np.ndarray, np.ndarray, np.ndarray, np.ndarray, Any]:
    x_shape, weight_shape, options = PROBLEMS[name]
    spec = conv_spec(x_shape, weight_shape, [np.dtype(dtype)], **options)
    x, weight, bias = values(x_shape, dtype), values(weight_shape, dtype, 1), values((weight_shape[0],), dtype, 2)
    arguments = {key: value for key, value in options.items() if key != "activation"}
    expected, scale = reference.conv2d(x, weight, bias, **arguments)
    return spec, x, weight, bias, np.maximum(expected, 0) if spec.activation else expected, scale


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("tile", range(len(gemm._SIMULATED)))
def test_register_tiles(tile: int, name: str, last: bool, stream: Stream) -> None:
    spec, x, weight, bias, expected, scale = problem(name, "float32")
    given = tensor(x, last)
    assert not last or x.shape[1] % 4 or gather.gathering(gather.order(spec), given) == "vector"
    assert gather.pixelwise(spec, given) == (name == "pixels" and not last)
    result = run(gemm, gemm._SIMULATED[tile], spec, given, weight, bias, last, stream, pixels=True)
    assert_close(result, expected, scale)


def test_rows_2_to_the_30_elements_apart(stream: Stream) -> None:
    """From the padding on, a window reaches 2**31 elements further, which 32 bits do not count. (Of the memory between
    the rows nothing is touched.)"""
    memory = np.empty((1 << 30) + 4, np.uint8)
    x = np.lib.stride_tricks.as_strided(memory, (1, 1, 2, 4), (0, 0, 1 << 30, 1))
    x[...] = values(x.shape, "uint8")
    weight, bias = values((3, 1, 3, 3), "uint8", 1), np.zeros(3, np.int32)
    spec = conv_spec(x.shape, weight.shape, [x.dtype], padding=2)
    given = Tensor(SimulatedPointer(memory), x.dtype, x.shape, (0, 0, 1 << 30, 1))
    for tiles in (gemm, mma):
        result = run(tiles, tiles._SIMULATED[0], spec, given, weight, bias, False, stream)
        assert_close(result, *reference.conv2d(x, weight, padding=2))


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize(("tile", "dtype", "channels"), [
    (0, "float16", 8), (1, "float16", 3), (2, "float16", 8), (0, "int8", 16), (1, "int8", 5), (0, "uint8", 16),
])
def test_warp_tiles(tile: int, dtype: str, channels: int, last: bool, stream: Stream) -> None:
    """Words of two halves and of four bytes, loaded at once (channels last), by channels, and one by one."""
    shapes = (1, channels, 3, 6), (18, channels, 2, 1), (18,)
    x, weight, bias = (values(shape, dtype, seed) for seed, shape in enumerate(shapes))
    spec = conv_spec(x.shape, weight.shape, [x.dtype], padding=((0, 0), (1, 0)))
    given = tensor(x, last)
    wide = gather.order(spec, 16 // x.itemsize)
    assert gather.gathering(wide, given, 16 // x.itemsize) == (
        "single" if channels % 2 else "vector" if last else "quad")
    result = run(mma, mma._SIMULATED[tile], spec, given, weight, bias.astype(spec.acc_dtype), last, stream)
    assert_close(result, *reference.conv2d(x, weight, bias, padding=((0, 0), (1, 0))))


@pytest.mark.parametrize(("tiles", "dtype", "parts"), [(gemm, "float32", 3), (mma, "int8", 2)])
def test_parts_of_sums_are_added(tiles: Any, dtype: str, parts: int, stream: Stream) -> None:
    """An odd number of slabs to parts, on both tiles; the pixel loads, too."""
    for kernel, c in (((3, 2), 7), ((1, 1), 150)):
        x, weight, bias = values((1, c, 4, 5), dtype), values((3, c, *kernel), dtype, 1), values((3,), dtype, 2)
        spec = conv_spec(x.shape, weight.shape, [x.dtype], activation="relu")
        assert -(-spec.taps // (4 if tiles is gemm else 64)) % parts
        options = {"pixels": True} if tiles is gemm else {}
        result = run(tiles, tiles._SIMULATED[-1 if tiles is gemm else 0], spec, tensor(x), weight,
                     bias.astype(spec.acc_dtype), False, stream, parts, **options)
        expected, scale = reference.conv2d(x, weight, bias)
        assert_close(result, np.maximum(expected, 0), scale)


def test_bfloat16(stream: Stream) -> None:
    def rounded(array: np.ndarray) -> np.ndarray:
        return (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)

    def halves(array: np.ndarray) -> np.ndarray:
        return (array.view(np.uint32) >> 16).astype(np.uint16).view(BFLOAT16)

    x, weight = rounded(values((1, 8, 3, 4), "float32")), rounded(values((5, 8, 2, 2), "float32", 1))
    spec = conv_spec(x.shape, weight.shape, [BFLOAT16])
    result = run(mma, mma._SIMULATED[0], spec, tensor(halves(x)), halves(weight), np.zeros(5, np.float32),
                 False, stream)
    expected, _ = reference.conv2d(x, weight)
    wide = (result["bfloat16"].astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_allclose(wide, expected, rtol=2**-8, atol=2**-8 * np.abs(expected).max())


def test_error_of_each_precision() -> None:
    """tf32 keeps three digits; tf32x3 has at most four times float32's error.

    In the simulator that is with products and sums like a GPU's, but for the order and rounding in one instruction.
    """
    x, weight = values((1, 48, 4, 4), "float32"), values((16, 48, 3, 3), "float32", 1)
    exact, _ = reference.conv2d(x.astype(np.float64), weight.astype(np.float64))
    errors = {}
    for precision in ("float32", "tf32", "tf32x3"):
        result = fastconv.conv2d(x, weight, device="cuda", algorithm="implicit_gemm", precision=precision)
        errors[precision] = np.abs(result - exact).max() / np.abs(exact).max()
    assert 2e-5 < errors["tf32"] < 2e-3
    assert errors["tf32x3"] < 4 * errors["float32"]
    assert errors["float32"] < 1e-6


def test_rounding_to_tf32_and_its_rest() -> None:
    """The simulator's; a GPU's is the hardware's."""
    if not SIMULATED:
        return
    one = np.float32(1)
    for value, rounded in ((one + 2**-11, one + 2**-10), (one + 2**-12, one), (-one - 2**-11, -one - 2**-10)):
        assert ptx.number(ptx.tf32(np.float32(value))) == np.float32(rounded)
    assert np.isnan(ptx.number(ptx.tf32(np.float32(np.nan))))
    assert ptx.number(ptx.tf32(np.float32(-np.inf))) == -np.inf
    for value in values((50,), "float32"):
        big, small = map(ptx.number, ptx.split(ptx.word(value)))
        assert ptx.word(big) % (1 << 13) == 0
        assert float(big) + float(small) == float(value)
        assert abs(small) <= 2**-11 * abs(value) * 1.0001


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(("dtype", "last"), [("float32", False), ("float64", True)])
def test_winograd(m: int, dtype: str, last: bool, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = values((3, 4, 5, 3), dtype), values((2, 2, 3, 3), dtype, 1), values((2,), dtype, 2)
    spec = conv_spec(x.shape, weight.shape, [x.dtype], padding=((1, 0), (1, 2)), groups=2, activation="relu")
    monkeypatch.setattr(conv_winograd, "_algorithm", lambda spec: axis(m, 3, 1))
    elements, tiles = {2: (16, 4), 4: (36, 1)}[m]
    two_images = 2 * (4 + 2) * elements * tiles * x.itemsize
    monkeypatch.setattr(conv_winograd, "SLICE_BYTES", two_images)
    out = tensor(np.full(spec.output_shape, 77, dtype), last)
    packed = conv_winograd.prepare(spec, tensor(weight), stream)
    conv_winograd.run(spec, tensor(x, last), packed, stream.upload(bias), out, stream)
    expected, scale = reference.conv2d(x, weight, bias, padding=((1, 0), (1, 2)), groups=2)
    assert_close(read(out), np.maximum(expected, 0), scale)


def test_sizes_of_winograd_are_accurate() -> None:
    """What is tried has an error far below 2e-5 in float32, by the measure that the CPU's sizes are chosen by."""
    assert [found.m for found in conv_winograd._sizes()] == [2, 4]
    assert all(5e-7 * found.amplification**2 < 1e-5 for found in conv_winograd._sizes())
