"""Transposed convolutions on the GPU, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from cases import TRANSPOSED, values
from libraries import Library, bfloat16, from_bfloat16
from reference import assert_close
from small import SIMULATED

import fastconv
from fastconv.cuda.system import host_slices

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")]

#: Those that the simulator takes many seconds for.
LARGE = ("depthwise, everything", "depthwise, cropped", "depthwise, wide")
CASES = [case for case in TRANSPOSED if not (SIMULATED and case in LARGE)]
#: Sums of one plane that are narrowed, biases alone among them; and volumes.
TYPED = [("stride beyond the kernel", dtype) for dtype in ("float64", "float16", "int8", "int16")]
TYPED += [("volume, everything", dtype) for dtype in ("float64", "int16")]


def given(case: str, dtype: str) -> tuple[list[np.ndarray], dict[str, Any]]:
    """x, weight and bias of a case, and its options."""
    x_shape, weight_shape, options = TRANSPOSED[case]
    channels = weight_shape[1] * options.get("groups", 1)
    shapes = x_shape, weight_shape, (channels,)
    return [values(shape, dtype, seed) for seed, shape in enumerate(shapes)], options


def calls(x: np.ndarray) -> tuple[Any, Any]:
    """What convolves at once, and what plans it."""
    return tuple(getattr(fastconv, f"{start}conv_transpose{x.ndim - 2}d") for start in ("", "plan_"))  # type: ignore[return-value]


@pytest.mark.parametrize("case", CASES)
def test_against_the_oracle(case: str) -> None:
    arrays, options = given(case, "float32")
    call, _ = calls(arrays[0])
    before = [array.copy() for array in arrays]
    result = call(*arrays, **options, device="cuda")
    assert_close(result, *reference.conv_transpose(*arrays, **options))
    for array, kept in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize(("case", "dtype"), TYPED)
def test_dtypes(case: str, dtype: str) -> None:
    arrays, options = given(case, dtype)
    call, _ = calls(arrays[0])
    result = call(*arrays, **options, device="cuda")
    exact, scale = reference.conv_transpose(*arrays, **options)
    assert result.dtype == call(*arrays, **options).dtype
    assert_close(result, exact.astype(result.dtype) if result.dtype.kind == "i" else exact, scale)


@pytest.mark.parametrize("algorithm", fastconv.algorithms("conv2d", "cuda"))
def test_every_algorithm_writes_phases_in_place(algorithm: str) -> None:
    """All but pointwise on phases of several taps; there a kernel of a tap a phase."""
    if algorithm in ("winograd", "pointwise"):
        size, stride = (6, 2) if algorithm == "winograd" else (2, 2)
        arrays = [values(shape, "float32", seed) for seed, shape in enumerate(((1, 4, 4, 5), (4, 3, size, size), (3,)))]
        options: dict[str, Any] = {"stride": stride}
    else:
        arrays, options = given("depthwise" if algorithm == "depthwise" else "everything", "float32")
    planned = fastconv.plan_conv_transpose2d(arrays[0].shape, *arrays[1:], **options, device="cuda",
                                             algorithm=algorithm)
    assert planned.algorithm == algorithm
    assert_close(planned(arrays[0]), *reference.conv_transpose(*arrays, **options))


def test_a_signal_without_batch_axis_and_a_plan_of_one() -> None:
    arrays, options = given("signal", "float32")
    expected, scale = reference.conv_transpose(*arrays, **options)
    planned = fastconv.plan_conv_transpose1d(arrays[0].shape, *arrays[1:], **options, device="cuda")
    assert planned.output_shape == expected.shape
    assert planned.flops == fastconv.plan_conv_transpose1d(arrays[0].shape, *arrays[1:], **options).flops
    assert planned.scratch_bytes >= 0
    for word in ("conv_transpose1d", str(arrays[0].shape), str(expected.shape), repr(planned.algorithm)):
        assert word in repr(planned)
    for array in arrays[1:]:
        array[...] = 0  # the plan has copies
    out = np.empty(expected.shape, np.float32)
    assert planned(arrays[0], out=out) is out
    assert_close(out, expected, scale)
    arrays, options = given("signal", "float32")
    one = fastconv.conv_transpose1d(arrays[0][1], *arrays[1:], **options, device="cuda")
    assert_close(one, expected[1], scale)


def test_batches_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = values((5, 2, 3, 4), "float32"), values((2, 3, 3, 2), "float32", 1)
    expected, scale = reference.conv_transpose(x, weight, stride=2)
    monkeypatch.setattr(host_slices, "SLICE_BYTES", 2 * 4 * (x[0].size + expected[0].size))
    assert_close(fastconv.conv_transpose2d(x, weight, stride=2, device="cuda"), expected, scale)


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("case", ["odd phases", "stride beyond the kernel"])
def test_arrays_on_the_device(case: str, last: bool, library: Library) -> None:
    """In place, in either order of memory, with gaps; what comes back is of the caller's library."""
    arrays, options = given(case, "float32")
    expected, scale = reference.conv_transpose(*arrays, **options)
    there = library.images(arrays[0], last), *map(library.put, arrays[1:])
    result = fastconv.conv_transpose2d(*there, **options)
    assert isinstance(result, library.kind)
    assert_close(library.get(result), expected, scale)
    out = library.images(np.zeros(expected.shape, np.float32), last)
    planned = fastconv.plan_conv_transpose2d(arrays[0].shape, *there[1:], **options)
    assert planned(there[0], out=out) is out
    assert_close(library.get(out), expected, scale)


@pytest.mark.skipif(not SIMULATED, reason="device arrays of the simulator")
def test_nothing_is_written_between_the_elements_of_out() -> None:
    from fastconv.cuda.system.arrays import SimulatedArray

    arrays, options = given("volume, everything", "float32")
    expected, scale = reference.conv_transpose(*arrays, **options)
    wide = np.full((*expected.shape[:-1], 2 * expected.shape[-1]), 7, np.float32)
    gaps = np.repeat(arrays[0], 2, axis=-2)
    there = SimulatedArray(gaps[..., ::2, :]), *map(SimulatedArray, arrays[1:])
    fastconv.conv_transpose3d(*there, **options, out=SimulatedArray(wide[..., ::2]))
    assert_close(wide[..., ::2], expected, scale)
    assert (wide[..., 1::2] == 7).all()


@pytest.mark.skipif(not SIMULATED, reason="the simulator's torch")
def test_bfloat16(library: Library) -> None:
    if library.name != "torch":
        return
    arrays, options = given("stride beyond the kernel", "float32")
    there = [library.kind(bfloat16(array), "bfloat16") for array in arrays]
    result = fastconv.conv_transpose2d(*there, **options)
    assert result.dtype == "torch.bfloat16"
    expected, scale = reference.conv_transpose(*(from_bfloat16(bfloat16(array)) for array in arrays), **options)
    assert np.abs(from_bfloat16(result.array) - expected).max() <= scale / 128


def test_what_does_not_fit(library: Library) -> None:
    x, weight = np.ones((1, 4, 3, 3), np.float32), np.ones((4, 2, 2, 2), np.float32)
    with pytest.raises(ValueError, match="x has 4 channels, but weight"):
        fastconv.conv_transpose2d(x, weight[:3], device="cuda")
    with pytest.raises(TypeError, match="x is a NumPy array, but weight"):
        fastconv.conv_transpose2d(x, library.put(weight), device="cuda")
    with pytest.raises(TypeError, match="x is on a GPU, but device='cpu'"):
        fastconv.conv_transpose2d(library.put(x), weight, device="cpu")
    with pytest.raises(ValueError, match="out has shape"):
        fastconv.conv_transpose2d(library.put(x), weight, out=library.put(np.ones((1, 2, 3, 3), np.float32)))
    with pytest.raises(ValueError, match="algorithm must be 'auto' or one of"):
        fastconv.conv_transpose2d(x, weight, device="cuda", algorithm="fft")
    with pytest.raises(ValueError, match="measure=True is for device='cpu'"):
        fastconv.plan_conv_transpose2d(x.shape, weight, device="cuda", measure=True)
    planned = fastconv.plan_conv_transpose2d(x.shape, weight, device="cuda")
    with pytest.raises(ValueError, match=r"x has shape \(4, 3, 3\), but the plan is for \(1, 4, 3, 3\)"):
        planned(x[0])
    with pytest.raises(TypeError, match="x has dtype float64, but the plan is for float32"):
        planned(x.astype(np.float64))
