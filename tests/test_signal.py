"""`fastconv.signal` against its namesakes in `scipy.signal`: results, dtypes, shapes, warnings and exceptions."""

from __future__ import annotations

import itertools
import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv.signal

pytestmark = pytest.mark.usefixtures("one_thread")

FUNCTIONS = ("correlate2d", "convolve2d")
MODES = ("full", "same", "valid")
BOUNDARIES = ("fill", "wrap", "symm")
#: Dtypes of both operands: every kind of sum, every promotion that SciPy has a rule for.
DTYPES = (
    ("int8", "int8"),
    ("uint8", "uint8"),
    ("int16", "int16"),
    ("uint16", "uint16"),
    ("int32", "int32"),
    ("uint32", "uint32"),
    ("int64", "int64"),
    ("uint64", "uint64"),
    ("longlong", "longlong"),
    ("bool", "int8"),
    ("int8", "uint8"),
    ("uint8", "float32"),
    ("int64", "uint64"),
    ("float16", "float32"),
    ("float32", "float32"),
    ("float32", "int32"),
    ("float64", "float64"),
    (">f8", "<f4"),
    (">i2", ">i2"),
    ("complex64", "complex64"),
    ("complex128", "complex128"),
    ("float32", "complex64"),
    ("complex128", "int16"),
    ("longdouble", "float32"),
    ("clongdouble", "clongdouble"),
)
#: Shapes of both operands: odd and even kernels, single rows and columns, kernels larger than the image.
SHAPES = (
    ((9, 11), (3, 3)),
    ((8, 7), (4, 2)),
    ((5, 6), (5, 6)),
    ((1, 1), (1, 1)),
    ((1, 9), (1, 4)),
    ((9, 1), (2, 3)),
    ((3, 4), (7, 9)),
    ((1, 2), (6, 7)),
    ((2, 9), (3, 5)),
    ((24, 110), (5, 5)),  # beyond the size from which the tiles of `image` run, and wide enough for the widest tile
)


def values(shape, dtype, seed=0):
    """Numbers from all of an integer's range, or about one."""
    rng, dtype = np.random.default_rng([seed, *shape]), np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype.newbyteorder("="), endpoint=True).astype(dtype)
    numbers = rng.standard_normal(shape)
    return (numbers + 1j * rng.standard_normal(shape) if dtype.kind == "c" else numbers).astype(dtype)


def outcome(library, function, *args):
    """What a call returns or raises, and the warnings it gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = getattr(library, function)(*args)
        except Exception as error:
            result = type(error)
    return result, {(warning.category, str(warning.message)) for warning in caught}


def check(function, in1, in2, *args):
    """Our result (or exception) is SciPy's; floats to a few roundings of the sum of the products' absolute values."""
    expected, expected_warnings = outcome(scipy.signal, function, in1, in2, *args)
    result, given_warnings = outcome(fastconv.signal, function, in1, in2, *args)
    assert given_warnings == expected_warnings
    if isinstance(expected, type):
        assert result is expected
        return
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    assert result.flags.c_contiguous
    assert result.flags.writeable
    if result.dtype.kind not in "fc":
        np.testing.assert_array_equal(result, expected)
        return
    mode, boundary, fill = (*args, *("full", "fill", 0)[len(args) :])
    sizes = [np.abs(np.asarray(operand).astype(result.dtype)).astype(np.float64) for operand in (in1, in2)]
    with warnings.catch_warnings(action="ignore"):  # of fill values that lose something; SciPy's own are compared above
        edge = np.abs(np.array(fill, result.dtype)).astype(np.float64) if boundary == "fill" else 0
    scale = getattr(scipy.signal, function)(*sizes, mode, boundary, edge)
    finite = np.isfinite(expected)
    for got, wanted in ((result.real, expected.real), (result.imag, expected.imag)):
        np.testing.assert_array_equal(got[~finite], wanted[~finite])
    limit = 4 * np.sqrt(max(sizes[1].size, 1)) * np.finfo(result.dtype).eps * scale[finite]
    assert (np.abs(result[finite] - expected[finite]) <= limit).all()


# -- the grid ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("dtype1", "dtype2"), DTYPES)
def test_equals_scipy(dtype1, dtype2, mode, boundary):
    for function, (shape1, shape2) in itertools.product(FUNCTIONS, SHAPES):
        in1, in2 = values(shape1, dtype1), values(shape2, dtype2, 1)
        check(function, in1, in2, mode, boundary)
        check(function, in1, in2, mode, boundary, 3)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_defaults_and_lists(function):
    check(function, [[1, 2, 3], [4, 5, 6]], [[1.5, 2.5]])
    check(function, ((1, 2), (3, 4)), [[True, False]], "same")
    named = {"in1": [[1, 2]], "in2": [[3, 4]], "mode": "same", "boundary": "pad", "fillvalue": 1}
    result, expected = (getattr(library, function)(**named) for library in (fastconv.signal, scipy.signal))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("boundary", ["pad", "circular", "symmetric", np.str_("wrap")])
def test_other_names_of_boundaries(boundary):
    check("convolve2d", values((5, 4), "float64"), values((3, 2), "float64"), "same", boundary)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_kernel_many_times_the_image(function, boundary):
    image = np.arange(1, 7).reshape(2, 3) ** 3
    for shape in ((1, 40), (41, 1), (23, 100)):
        check(function, image, values(shape, "int64"), "full", boundary, 5)
        check(function, image, values(shape, "int64"), "same", boundary, 5)


def test_uint64_beyond_int64():
    in1 = np.array([[2**63 + 5, 2**64 - 1, 7], [2**63, 2**62, 2**64 - 9]], np.uint64)
    for fill in (0, 2**64 - 1, 2**63):
        check("correlate2d", in1, in1[:, ::-1], "full", "fill", fill)


# -- boundaries ----------------------------------------------------------------------------------------------

FILLS = (
    0, 0.0, -0.0, False, True, 7, -1, 300, 2**63, 2**64, 1.5, np.nan, np.inf, 1e300, 1j, 1 + 0j, 2 - 3j,
    None, "1.5", "x", object(), [3], [[2]], (4,), [], [1, 2], {},
    np.float32(2.5), np.float64(0), np.int64(-7), np.uint64(2**63), np.bool_(True), np.complex64(1 - 1j),
    np.array(2), np.array(2, np.int8), np.array([[[2.0]]], np.float32), np.array(1j), np.array(3, object),
    np.array([]), np.array([1, 2]),
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64", "float32", "float64", "complex64"])
def test_fill_values(dtype):
    in1, in2 = values((4, 5), dtype), values((3, 2), dtype, 1)
    for fill in FILLS:
        check("convolve2d", in1, in2, "same", "fill", fill)
    for fill in (object(), np.complex64(1j), 1j, [1, 2]):
        check("correlate2d", in1, in2, "valid", "fill", fill)  # refused although nothing is filled
        check("correlate2d", in1, in2, "same", "wrap", fill)  # accepted, because it is not looked at


def test_complex_fill_around_a_real_image():
    check("correlate2d", values((4, 5), "float32"), values((3, 2), "complex64"), "full", "fill", 2 - 3j)
    check("convolve2d", values((4, 5), "int16"), values((3, 2), "complex128"), "full", "fill", 2)


# -- numbers that are not finite ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("shape1", "shape2"), [SHAPES[0], SHAPES[-1]])
def test_nan_and_infinity_reach_what_sees_them(shape1, shape2, bad, dtype):
    for function, mode, boundary in itertools.product(FUNCTIONS, MODES, BOUNDARIES):
        in1, in2 = values(shape1, dtype), values(shape2, dtype)
        in1[4, 5], in2[1, 1] = bad, 0
        check(function, in1, in2, mode, boundary)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize(("shape1", "shape2"), [SHAPES[0], SHAPES[-1]])
def test_infinite_weight_shows_the_zeros_around_the_image(shape1, shape2, dtype):
    in1, in2 = values(shape1, dtype), values(shape2, dtype)
    in2[0, 2] = np.inf
    for function, mode in itertools.product(FUNCTIONS, MODES):
        check(function, in1, in2, mode)
        check(function, in1.real, in2, mode)


def test_complex_products_that_c_repairs():
    in1, in2 = np.full((3, 3), complex(np.inf, np.nan), np.complex64), np.ones((1, 1), np.complex64)
    assert np.isinf(scipy.signal.correlate2d(in1, in2).real).all()
    check("correlate2d", in1, in2)
    check("convolve2d", in1, in2.real)


# -- memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex64"])
def test_any_strides_and_inputs_unchanged(dtype):
    base = values((20, 24), dtype)
    layouts = [base[::2, ::3], base[::-1, ::-1], base.T, np.asfortranarray(base), np.broadcast_to(base[:1], (9, 24))]
    for in1, in2 in itertools.product(layouts, [base[:3, :4:2], base[4:1:-1, 3::-1], base[:3, :5].T]):
        copies, locked = (in1.copy(), in2.copy()), in1.view()
        locked.flags.writeable = False
        for mode, boundary in (("same", "fill"), ("full", "symm"), ("valid", "fill")):
            check("correlate2d", locked, in2, mode, boundary)
            check("convolve2d", in1, in2, mode, boundary)
        np.testing.assert_array_equal(in1, copies[0])
        np.testing.assert_array_equal(in2, copies[1])


def test_masks_and_subclasses_are_ignored_as_by_scipy():
    in1, in2 = values((5, 6), "float32"), values((3, 2), "float32", 1)
    with warnings.catch_warnings(action="ignore", category=PendingDeprecationWarning):  # of the matrix, as a class
        for one, two in (
            (np.ma.masked_array(in1, mask=in1 > 0), in2),
            (in1, np.ma.masked_array(in2, mask=in2 > 0)),
            (in1.view(np.matrix), in2.view(np.matrix)),
        ):
            for function in FUNCTIONS:
                check(function, one, two, "same", "symm")
                assert type(getattr(fastconv.signal, function)(one, two)) is np.ndarray


@pytest.mark.parametrize("dtype", ["int8", "int64", "float32", "complex64"])
def test_result_is_new_memory(dtype):
    in1, one = values((4, 5), dtype), np.ones((1, 1), dtype)
    for mode in MODES:
        assert not np.shares_memory(fastconv.signal.correlate2d(in1, one, mode), in1)


# -- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
def test_refuses_what_scipy_refuses(function):
    one, two = np.ones((3, 3)), np.ones((2, 2))
    for in1, in2, *args in (
        (one, two, "some"),
        (one, two, "FULL"),
        (one, two, 2),
        (one, two, None),
        (one, two, ["full"]),
        (one, two, "same", "reflect"),
        (one, two, "same", "nearest"),
        (one, two, "same", 0),
        (one, two, "same", {}),
        (one, np.ones((2, 4)), "valid"),
        (np.ones((4, 2)), one, "valid", "wrap"),
        (one[0], two),
        (one, two[0]),
        (one[None], two),
        (1, 2),
        ([], []),
        ([[1, 2], [3]], two),
        (None, None),
    ):
        assert isinstance(outcome(scipy.signal, function, in1, in2, *args)[0], type)
        check(function, in1, in2, *args)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["bool", "float16", "object", "U3", "S3", "M8[s]", "m8[s]", "V4"])
def test_refuses_the_dtypes_scipy_refuses(dtype, function):
    strange = np.zeros((3, 3), dtype)
    assert isinstance(outcome(scipy.signal, function, strange, strange)[0], type)
    check(function, strange, strange)
    check(function, strange, np.ones((2, 2), np.int8))
    check(function, np.ones((2, 2), np.float32), strange)


def test_messages_say_what_came_and_what_is_allowed():
    one = np.ones((3, 3))
    with pytest.raises(ValueError, match=r"mode must be one of 'full', 'same', 'valid', got 'most'"):
        fastconv.signal.correlate2d(one, one, "most")
    with pytest.raises(ValueError, match=r"boundary must be one of 'fill', .*'symm'.*, got 'reflect'"):
        fastconv.signal.correlate2d(one, one, "same", "reflect")
    with pytest.raises(ValueError, match=r"in2 must have two axes, got an array of shape \(3,\)"):
        fastconv.signal.convolve2d(one, one[0])
    with pytest.raises(ValueError, match=r"mode 'valid' one input .* got shapes \(3, 3\) and \(2, 4\)"):
        fastconv.signal.convolve2d(one, np.ones((2, 4)), "valid")


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("mode", MODES)
def test_empty_arrays(mode, boundary):
    shapes = ((0, 0), (0, 1), (1, 0), (0, 3), (3, 0), (1, 1), (2, 2), (3, 3))
    for function, shape1, shape2 in itertools.product(FUNCTIONS, shapes, shapes):
        in1, in2 = np.ones(shape1), np.ones(shape2)
        if in1.size or mode != "full" or boundary == "fill":
            check(function, in1, in2, mode, boundary)
            check(function, in1, in2, mode, boundary, 7)
        elif in2.size > 1:  # here SciPy divides by zero, which ends the process
            with pytest.raises(ValueError, match="can't extend empty axis"):
                getattr(fastconv.signal, function)(in1, in2, mode, boundary)


def test_infinite_weight_on_an_empty_image():
    for mode in MODES:
        check("correlate2d", np.ones((0, 2)), np.array([[1.0], [np.inf]]), mode)


# -- at random -----------------------------------------------------------------------------------------------


@st.composite
def problems(draw, sides1, sides2):
    dtype1, dtype2 = draw(st.sampled_from([pair for pair in DTYPES if "long" not in pair[0]]))
    in1 = values([draw(side) for side in sides1], dtype1, draw(st.integers(0, 9)))
    in2 = values([draw(side) for side in sides2], dtype2, draw(st.integers(10, 19)))
    fill = draw(st.sampled_from([0, 1, 3.75, -2, np.nan, 1j]))
    return draw(st.sampled_from(FUNCTIONS)), in1, in2, *map(draw, map(st.sampled_from, (MODES, BOUNDARIES))), fill


@settings(max_examples=300)
@given(problems([st.integers(1, 9)] * 2, [st.integers(1, 9)] * 2))
def test_random_small_problems(problem):
    check(*problem)


@given(problems([st.integers(20, 40), st.integers(120, 150)], [st.integers(4, 9), st.integers(3, 20)]))
def test_random_large_problems(problem):
    check(*problem)


# -- loading -------------------------------------------------------------------------------------------------


def test_scipy_is_loaded_only_when_it_is_asked():
    program = """
import sys, numpy as np, fastconv.signal
assert "scipy" not in sys.modules and "numba" not in sys.modules
fastconv.signal.correlate2d(np.ones((3, 3)), np.ones((2, 2)), "same", "fill", 2)
assert "scipy.signal" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
