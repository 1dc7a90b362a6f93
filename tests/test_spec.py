"""Bad input: every absurd value is an error that names its argument, before anything is computed or allocated."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from calls import BIAS, GOOD, SIGNAL, VOLUME, WEIGHT, X, call
from hypothesis import given, settings
from hypothesis import strategies as st

from fastconv.specs.conv import conv_spec, filter_spec

pytestmark = pytest.mark.usefixtures("one_thread")

NAN = float("nan")

# -- one bad value -------------------------------------------------------------------------------------------

NO_INTEGER = [1.0, 1.5, NAN, float("inf"), "1", "", b"1", True, np.True_, 1j, {}, {1, 2}, object, Decimal(1),
              np.array("1"), np.array(1.0), lambda: 1, slice(1, 2)]
NO_POSITIVE = [0, -1, -(2**70), 2**31, 2**63, 2**64, 2**70, np.int8(-1), *NO_INTEGER]
NO_PAIR = [*NO_POSITIVE, (), [], (1,), (1, 2, 3), ((1, 2), (3, 4)), (1, 0), (0, 1), (1, -1), (1, 2**70), (1, "1"),
           (1, None), (True, 1), (1.0, 1), np.ones(3, int), np.ones(2), np.ones((2, 2), int), np.zeros(2, int),
           range(2), iter((1, 1))]
NO_PADDING = [-1, -(2**70), 2**31, 2**40, 2**70, None, *NO_INTEGER, "full", "SAME", "same_upper", (), (1,), (1, 2, 3),
              (1, -1), (0, 2**40), (NAN, 1), ((1, 2), 3), (1, (2, 3)), ((1, 2), (3,)), ((1, 2), (3, -70)),
              ((1, 2), (3, 4.0)), ((1, 2, 3), (4, 5, 6)), [[1, 2]], [[1, 2], [3, 4], [5, 6]], [[[1, 2]], [[3, 4]]],
              ((), ()), np.ones((2, 2)), np.ones((3, 2), int), np.ones(4, int), ("same", "same"), (None, None)]
NO_ARRAY = [None, "x", b"x", 1j, object(), {}, {1, 2}, [[1, 2], [3]], [[[[1, 2], [3]]]], [None], ["1"],
            X.astype(complex), X.astype(object), X.astype(str), X.astype("datetime64[s]"), X.astype("timedelta64[s]"),
            X.astype(np.longdouble), np.zeros(X.shape, [("a", float)]), np.zeros(X.shape, "V4"),
            X.astype(np.dtypes.StringDType()), 2**70, [2**70]]
NO_FLAG = [0, 1, None, "yes", "", 1.0, [True], np.array([True]), NAN]
NO_DIVISOR = [value for value in NO_POSITIVE if value is not None]
NO_ALGORITHM = ["fast", "", "NAIVE", "naive ", None, 0, True, b"naive", ["naive"], ("naive",), object()]
NO_DEVICE = ["gpu", "cuda:0", "", "CPU", 0, ["cpu"], {}, np.zeros(2)]
NO_SHAPE = [None, 5, 2.0, "23", (), (6, 7.0), (2, 3, -6, 7), (2, 3, 6, 0), (2, 3, 2**70, 7), ("a", "b", "c"),
            (2, 3, NAN, 7), (None, 6, 7), object()]
NO_X = [np.ones((2, 2, 2, 2, 2)), np.ones(3), np.float32(1), 5, X[:, :0], X[:, :, :0], X[..., :0],
        np.ones((0, 3, 0, 5))]

BAD: dict[str, dict[str, list]] = {
    "corr2d": {
        "x": [*NO_ARRAY, *NO_X, X, np.ones((0, 5)), np.ones((5, 0))],
        "kernel": [*NO_ARRAY, 1, np.ones(2), WEIGHT, np.ones((0, 2))],
        "bias": [*NO_ARRAY, [1], BIAS],
    },
    "conv2d": {
        "x": [*NO_ARRAY, *NO_X, X[0, 0], X[:, :2], np.ones((5, 6, 7))],
        "weight": [*NO_ARRAY, WEIGHT[0], 1, WEIGHT[:0], WEIGHT[:, :0], WEIGHT[:, :, :0], WEIGHT[..., :0],
                   WEIGHT[:, :2]],
        "bias": [*NO_ARRAY[1:], 0, 1.5, BIAS[:3], BIAS[:, None], np.ones(5), [], [[1]]],
        "stride": [None, *NO_PAIR],
        "dilation": [None, *NO_PAIR],
        "padding": NO_PADDING,
        "groups": [None, 2, 3, 5, (1,), (1, 1), [1], *NO_POSITIVE],
        "algorithm": NO_ALGORITHM,
        "device": NO_DEVICE,
    },
    "plan_conv2d": {
        "x_shape": [*NO_SHAPE, (6, 7), (2, 2, 6, 7), (1, 2, 3, 6, 7)],
        "weight": [*NO_ARRAY, WEIGHT[0]],
        "bias": [*NO_ARRAY[1:], BIAS[:3]],
        "dtype": ["complex64", complex, object, "float31", 5, str, "V4", "datetime64", "longdouble", X, []],
        "stride": [0, None],
        "algorithm": NO_ALGORITHM,
        "device": NO_DEVICE,
    },
    "max_pool2d": {
        "x": [*NO_ARRAY, *NO_X],
        "kernel_size": [None, *NO_PAIR],
        "stride": NO_PAIR,
        "padding": [*NO_PADDING, 2, (0, 2), ((0, 2), (0, 0))],
        "dilation": [None, *NO_PAIR],
        "ceil_mode": NO_FLAG,
        "return_indices": NO_FLAG,
        "algorithm": NO_ALGORITHM,
        "device": NO_DEVICE,
    },
    "avg_pool2d": {"count_include_pad": NO_FLAG, "divisor_override": NO_DIVISOR, "x": NO_ARRAY},
    "lp_pool2d": {"norm_type": [0, -1, NAN, -np.inf, "2", None, True, 1j, [2], (1, 2), np.ones(1), 0.0, Decimal(2),
                                10**400]},
    "output_shape": {
        "x_shape": NO_SHAPE,
        "kernel_size": [None, *NO_PAIR],
        "stride": [None, *NO_PAIR],
        "padding": NO_PADDING,
        "dilation": [None, *NO_PAIR],
        "ceil_mode": NO_FLAG,
        "channels": NO_POSITIVE,
        "axes": [0, 4, 2.0, None, "2"],
    },
    "receptive_field": {
        "layers": [None, 3, object(), [0], [(3, 0)], [()], [(1, 1, 1, 1, 1)], [{}], [{"kernel": 3}], [None],
                   [3, "same"], [{"kernel_size": 3, "strides": 1}], [(3, 1, -1)], [(3, 2, "same")], [{1: 2}],
                   [(3, 1, 0, 0)], [NAN]],
    },
    "conv1d": {
        "x": [*NO_ARRAY, X, SIGNAL[0, 0], SIGNAL[:, :, :0], SIGNAL[:, :0]],
        "weight": [*NO_ARRAY, WEIGHT, WEIGHT[0, 0]],
        "stride": [None, *NO_POSITIVE, (1, 2), (0,)],
        "padding": [*NO_POSITIVE[1:], None, (1, 2), ((1, 2, 3),), ((1, -70),), ((1, 2), (3, 4)), "full"],
    },
    "conv3d": {
        "x": [*NO_ARRAY, X, VOLUME[0, 0], VOLUME[:, :, :, :0], VOLUME[:, :0], np.ones((1, 1, 1, 1, 1, 1))],
        "weight": [*NO_ARRAY, WEIGHT, WEIGHT[:0, :, None], WEIGHT[:, :2, None]],
        "bias": [BIAS[:3]],
        "stride": [None, *NO_POSITIVE, (1, 2), (1, 2, 0), (1, 2, 3, 4)],
        "dilation": [None, (1, 2), (1, 2, 1.0)],
        "padding": [*NO_POSITIVE[1:], None, (1, 2), ((1, 2), (3, 4)), ((1, 2), (3, 4), 5), ((1, 2), (3, 4), (5, -70)),
                    "full"],
        "groups": [2, 5],
        "algorithm": NO_ALGORITHM,
    },
    "max_pool3d": {
        "x": [*NO_ARRAY, np.ones((2, 2)), np.ones((1, 1, 1, 1, 1, 1)), VOLUME[:, :, :0]],
        "kernel_size": [None, *NO_POSITIVE, (1, 2), (1, 2, 0)],
        "stride": [*NO_POSITIVE, (1, 2)],
        "padding": [2, (0, 2), (0, 0, 2), ((0, 2), (0, 0), (0, 0))],
        "return_indices": NO_FLAG,
    },
    "conv_transpose2d": {
        "x": [*NO_ARRAY, *NO_X, X[0, 0], X[:, :2]],
        "weight": [*NO_ARRAY, WEIGHT[0], WEIGHT, WEIGHT[:0], WEIGHT[..., :0]],
        "bias": [*NO_ARRAY[1:], 0, BIAS, []],
        "stride": [None, *NO_PAIR],
        "dilation": [None, *NO_PAIR],
        "padding": [*NO_PADDING, 20],
        "output_padding": [1, (0, 1), -1, None, 1.0, (0, 0, 0)],
        "output_size": [*[value for value in NO_PAIR if value is not None], 20, (7, 20)],
        "groups": [None, 2, *NO_POSITIVE],
        "algorithm": NO_ALGORITHM,
        "device": NO_DEVICE,
    },
    "plan_conv_transpose2d": {
        "x_shape": [*NO_SHAPE, (6, 7), (2, 2, 6, 7), (1, 2, 3, 6, 7)],
        "weight": [*NO_ARRAY, WEIGHT[0], WEIGHT[:2]],
        "bias": [*NO_ARRAY[1:], BIAS],
        "dtype": ["complex64", "V4", object, "x"],
        "padding": NO_PADDING,
        "measure": NO_FLAG,
        "device": NO_DEVICE,
    },
    "adaptive_avg_pool2d": {
        "x": [*NO_ARRAY, *NO_X],
        "output_size": [0, -1, 1.0, "2", True, (1,), (1, 2, 3), (0, 1), (1, 2.0), ((1, 2), 3)],
        "device": NO_DEVICE,
    },
    "adaptive_max_pool2d": {"x": NO_ARRAY, "output_size": [0, (1,)], "return_indices": NO_FLAG, "device": NO_DEVICE},
    "max_unpool2d": {
        "x": [*NO_ARRAY, np.ones(3), X[:, :0]],
        "indices": [*NO_ARRAY, X[..., :3, :3], np.zeros((2, 3, 3, 2), int), np.full((2, 3, 3, 3), 36),
                    np.full((2, 3, 3, 3), -1)],
        "kernel_size": [None, *NO_PAIR],
        "stride": NO_PAIR[1:],
        "padding": [-1, None, "same", (1,), ((1, 1), (1, 1))],
        "output_size": [(8, 8), (4, 6), 0, (1,), "6"],
        "device": NO_DEVICE,
    },
    "unfold2d": {
        "x": [*NO_ARRAY, X[0, 0], X[:, :0], X[..., :0]],
        "kernel_size": [None, *NO_PAIR],
        "stride": [None, *NO_PAIR],
        "dilation": [None, *NO_PAIR],
        "padding": NO_PADDING,
        "device": NO_DEVICE,
    },
    "fold2d": {
        "columns": [*NO_ARRAY, np.ones(4), np.ones((5, 4)), np.ones((4, 5)), np.ones((0, 4)), np.ones((1, 1, 4, 4))],
        "output_size": [None, *NO_PAIR],
        "kernel_size": [None, *NO_PAIR],
        "device": NO_DEVICE,
    },
    "corr2d_matrix": {
        "kernel": [*NO_ARRAY, np.ones(3), np.ones((0, 2)), WEIGHT],
        "input_shape": [*NO_SHAPE, (6,), (1, 7), (6, 7, 8)],
    },
    "algorithms": {"op": ["conv4d", "", None, 5, [], {}, "CONV2D"], "device": NO_DEVICE},
}
ONE_BAD = [
    pytest.param(function, argument, value, id=f"{function}-{argument}-{number}")
    for function, arguments in BAD.items()
    for argument, bad in arguments.items()
    for number, value in enumerate(bad)
]


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(("function", "argument", "value"), ONE_BAD)
def test_an_absurd_value_is_an_error_that_names_its_argument(function: str, argument: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call(function, **{argument: value})
    name = r"x(_shape)?" if argument == "x_shape" else argument  # plan_conv2d speaks of the x to come
    assert re.search(rf"\b{name}\b", str(caught.value))
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("function", GOOD)
def test_the_good_call_is_good(function: str) -> None:
    call(function)
    with pytest.raises(TypeError, match="unexpected"):
        call(function, nonsense=1)


def test_equal_convolutions_are_one_spec_whatever_their_arguments_are_called() -> None:
    shapes, dtypes = ((1, 1, 6, 6), (1, 1, 3, 3)), (np.dtype(np.float32), np.dtype(np.float32))
    assert conv_spec(*shapes, dtypes) is filter_spec(*shapes, dtypes)  # caches need not compare their fields
    assert conv_spec(*shapes, dtypes) is not conv_spec(*shapes, dtypes, padding=1)


@pytest.mark.parametrize("integer", [np.int8(2), np.uint64(2), np.array(2), (2, np.int32(2)), [2, 2], np.array([2, 2])])
def test_any_integer_will_do(integer: Any) -> None:
    plain = call("conv2d", stride=2, padding=2, dilation=2)
    np.testing.assert_array_equal(call("conv2d", stride=integer, padding=integer, dilation=integer), plain)
    np.testing.assert_array_equal(call("max_pool2d", kernel_size=integer), call("max_pool2d", kernel_size=2))


# -- values that do not go together --------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        ("conv2d", {"weight": np.ones((4, 3, 7, 2))}, "kernel covers 7x2"),
        ("conv2d", {"dilation": (1, 7)}, "kernel covers 2x8"),
        ("conv2d", {"dilation": 2**31 - 1, "padding": 2**20}, "kernel covers"),
        ("corr2d", {"kernel": np.ones((7, 2))}, "kernel covers 7x2"),
        ("conv2d", {"weight": np.ones((4, 1, 2, 2)), "groups": 3}, "groups must divide"),
        ("conv2d", {"algorithm": "pointwise"}, "'pointwise' cannot do this: the kernel is 2x2"),
        ("max_pool2d", {"kernel_size": 7}, "window covers 7"),
        ("max_pool2d", {"dilation": 6}, "window covers 7"),
        ("max_pool2d", {"x": X[..., :1], "padding": (0, 1), "dilation": (1, 2)}, "every window must touch"),
        ("max_pool2d", {"padding": (0, 2)}, "padding must be below the window"),
        ("lp_pool2d", {"algorithm": "global"}, "'global' cannot do this"),
        ("lp_pool2d", {"norm_type": -0.5}, "norm_type must be a positive float or infinity, got -0.5"),
        ("output_shape", {"kernel_size": 8}, "no window of 8x8"),
        ("output_shape", {"x_shape": (6, 7), "channels": 3}, "channels"),
    ],
)
def test_arguments_that_do_not_fit_together(function: str, arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(function, **arguments)


# -- too large -----------------------------------------------------------------------------------------------

HUGE = np.broadcast_to(np.float32(1), (1, 1, 2**22, 2**22))


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("conv2d", {"padding": 2**20}),
        ("conv2d", {"padding": 2**31 - 1}),
        ("conv2d", {"x": X.astype(np.float16), "weight": WEIGHT.astype(np.float16), "padding": 2**20}),
        ("conv2d", {"x": HUGE, "weight": WEIGHT[:, :1]}),
        ("conv2d", {"x": HUGE, "weight": WEIGHT[:, :1], "stride": 2**21}),
        ("corr2d", {"x": HUGE[0, 0]}),
        ("max_pool2d", {"x": HUGE}),
        ("max_pool2d", {"x": HUGE, "stride": 2**21}),
        ("max_pool2d", {"x": HUGE, "return_indices": True}),
        ("avg_pool2d", {"x": np.broadcast_to(True, HUGE.shape)}),
        ("lp_pool2d", {"x": HUGE, "kernel_size": 2**21, "dilation": 2}),
    ],
)
def test_what_does_not_fit_in_memory_is_not_begun(function: str, arguments: dict) -> None:
    with pytest.raises(MemoryError, match=r"shape \("):
        call(function, **arguments)


# -- any junk ------------------------------------------------------------------------------------------------

numbers = st.one_of(
    st.sampled_from([0, 1, 2, 3, -1, 7, 2**31, 2**40, 2**63, 2**70, -(2**63), 0.5, NAN, 1j]),
    st.sampled_from([np.uint8(3), np.float32(2), np.array(2)]),
    st.none(), st.booleans(), st.text(max_size=3), st.sampled_from(["same", "valid", "naive", "auto", "cpu", "conv2d"]),
)
arrays = st.builds(
    lambda shape, dtype: np.ones(shape, dtype),
    st.lists(st.integers(0, 5), max_size=5),
    st.sampled_from(["float32", "float16", "int8", "bool", "int64", "complex64", "O", "U2", "M8[s]", ">f4"]),
)
junk = st.one_of(
    numbers, st.lists(numbers, max_size=4), st.tuples(numbers, numbers), arrays, st.lists(st.lists(numbers), max_size=3)
)


@settings(max_examples=400)
@given(data=st.data())
def test_junk_is_refused_or_works(data: st.DataObject) -> None:
    function = data.draw(st.sampled_from(list(GOOD)))
    names = data.draw(st.lists(st.sampled_from(list(GOOD[function])), min_size=1, max_size=3, unique=True))
    try:
        call(function, **{name: data.draw(junk, label=name) for name in names})
    except (ValueError, TypeError, MemoryError) as error:
        assert str(error)  # noqa: PT017 # any of the three, or none
