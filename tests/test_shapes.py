"""Output shapes and receptive fields, against what the layers do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import CONV, POOL, Conv, Pool
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import output_shape, receptive_field
from fastconv.specs.conv import conv_spec

pytestmark = pytest.mark.usefixtures("one_thread")

@pytest.mark.parametrize("case", CONV, ids=lambda case: case.name)
def test_output_shape_of_a_convolution(case: Conv) -> None:
    options = {name: value for name, value in case.options.items() if name != "groups"}
    problem = conv_spec(case.x, case.weight, [np.dtype(float)], **case.options)
    assert output_shape(case.x, case.weight[2:], **options, channels=case.weight[0]) == problem.output_shape


@pytest.mark.parametrize("case", POOL, ids=lambda case: case.name)
def test_output_shape_of_a_pooling(case: Pool) -> None:
    options = {"stride": case.kernel, **case.options}
    result = fastconv.avg_pool2d(np.zeros(case.x), case.kernel, **options)
    assert output_shape(case.x, case.kernel, **options) == result.shape


@given(size=st.integers(1, 50), kernel=st.integers(1, 9), stride=st.integers(1, 60), lower=st.booleans())
def test_same_is_the_size_divided_by_the_stride(size: int, kernel: int, stride: int, lower: bool) -> None:
    rounded_up = -(-size // stride)
    padding = "same_lower" if lower else "same"
    assert output_shape((size, size), kernel, stride, padding) == (rounded_up, rounded_up)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "start"),
    [(7, 3, 1, "same", -1), (7, 4, 1, "same", -1), (7, 4, 1, "same_lower", -2), (8, 3, 2, "same", 0),
     (8, 3, 2, "same_lower", -1)],
)
def test_the_odd_row_of_same_goes_last_and_of_same_lower_first(
    size: int, kernel: int, stride: int, padding: str, start: int
) -> None:
    x = np.arange(1.0, size + 1).reshape(size, 1)
    first_tap = np.eye(1, kernel).reshape(1, 1, kernel, 1)
    seen = fastconv.conv2d(x[None], first_tap, stride=(stride, 1), padding=padding)[0, :, 0]
    np.testing.assert_array_equal(seen[:2], [x[max(start, 0), 0] if start == 0 else 0, max(start + stride + 1, 0)])


# -- receptive fields ----------------------------------------------------------------------------------------

layers = st.lists(
    st.fixed_dictionaries(
        {"kernel_size": st.integers(1, 4)},
        optional={"stride": st.integers(1, 3), "padding": st.integers(0, 2), "dilation": st.integers(1, 3)},
    ),
    max_size=4,
)


@given(layers=layers)
def test_receptive_field_is_what_the_outputs_see(layers: list[dict[str, Any]]) -> None:
    """Positions of the input that reach output 0, by pushing sets of positions back through the layers."""
    seen = {0}
    for layer in reversed(layers):
        stride, padding, dilation = layer.get("stride", 1), layer.get("padding", 0), layer.get("dilation", 1)
        seen = {i * stride - padding + tap * dilation for i in seen for tap in range(layer["kernel_size"])}
    field = receptive_field(layers)
    assert field.size == (max(seen) - min(seen) + 1,) * 2
    assert field.start == (min(seen),) * 2
    assert field.stride == (np.prod([layer.get("stride", 1) for layer in layers], initial=1),) * 2


def test_receptive_field_of_real_layers() -> None:
    stack = [(3, 1, 1), (2, 2), (3, 1, 0, 2)]
    field = receptive_field(stack)
    size = 30

    def forward(x: np.ndarray) -> np.ndarray:
        x = fastconv.conv2d(x[None], np.ones((1, 1, 3, 3), int), padding=1)
        x = fastconv.max_pool2d(x, 2)
        return fastconv.conv2d(x, np.ones((1, 1, 3, 3), int), dilation=2)[0]

    for i in (0, 3):
        begin = i * field.stride[0] + field.start[0]
        lines = np.eye(size, dtype=int)[:, :, None].repeat(size, axis=2)  # images with one row of ones
        reached = [row for row in range(size) if forward(lines[row])[i].any()]
        assert reached == [row for row in range(begin, begin + field.size[0]) if row >= 0]


def test_all_forms_of_a_layer_mean_the_same() -> None:
    fields = [receptive_field([layer]) for layer in
              ((3, 2, 1, 2), [3, 2, 1, 2], ((3, 3), (2, 2), ((1, 0), (1, 5)), 2),
               {"kernel_size": 3, "stride": 2, "padding": (1, 1), "dilation": 2})]
    assert all(field == fields[0] for field in fields)
    assert receptive_field([]).size == (1, 1)
    assert receptive_field([(4, 1, "same")]).start == (-1, -1)
    assert receptive_field([(4, 1, "same_lower")]).start == (-2, -2)
    assert receptive_field([5]) == receptive_field([(5, 1, "valid")])
