"""Explanations of stacks of layers: an output sees the elements that change it, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pages import data_of

import fastconv
from fastconv import explain_stack
from fastconv.tools.explain.calculation import MOST_CELLS
from fastconv.tools.explain.numerals import MINUS, TIMES

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_stack_is_the_lessons() -> None:
    made = explain_stack([2, 2])
    assert made.seen(2, (0, 0)) == ([0, 1, 2], [0, 1, 2])
    assert made.seen(2, (2, 1), below=1) == ([2, 3], [1, 2])
    assert made.fields[-1] == fastconv.receptive_field([2, 2])


@pytest.mark.parametrize(
    "layers", [[2, 2], [(3, 2, 1), ((2, 3), 1, 0, 2)], [{"kernel_size": 3, "padding": ((0, 2), (1, 0))}] * 2]
)
def test_a_stack_sees_what_changes_it(layers: list) -> None:
    """Try every pixel: an output changes with those that it sees, and no others."""
    made = explain_stack(layers, (8, 9))
    rows, columns = made.sizes[-1]
    for pixel in np.ndindex(made.sizes[0]):
        image = np.zeros((1, *made.sizes[0]))
        image[0][pixel] = 1
        for layer in made.layers:
            image = fastconv.conv2d(image, np.ones((1, 1, *layer.kernel)), stride=layer.stride, padding=layer.padding,
                                    dilation=layer.dilation)  # fmt: skip
        for output in np.ndindex(rows, columns):
            seen = made.seen(len(layers), output)
            assert (image[0][output] != 0) == (pixel[0] in seen[0] and pixel[1] in seen[1])


def test_the_page_of_a_stack() -> None:
    made = explain_stack(((5, 1, 2), (2, 2, 0), (5, 1, 0), (2, 2, 0)), 28)
    data = data_of(made.to_html())
    assert [level["rows"] for level in data["levels"]] == [28, 28, 14, 10, 5]
    assert data["words"][3][0][2] == "rows 6 to 21"
    assert data["words"][3][1][0] == f"columns {MINUS}2 to 13 (2 of them padding)"
    assert data["seen"][4][0][0][0] == list(range(14))
    assert data["headlines"][3].startswith(f"An output sees 16{TIMES}16 elements of the input")


@pytest.mark.parametrize(
    ("layers", "shape", "error", "told"),
    [
        ([], None, ValueError, "at least one layer"),
        ([2, 0], None, ValueError, r"layers\[1\] kernel_size"),
        ("22", None, TypeError, "layers must be a sequence"),
        ([3], 2, ValueError, "no window of 3x3 fits"),
        ([3], (2, 3, 4), ValueError, "input_shape must be"),
        ([3], 90, ValueError, f"at most {MOST_CELLS:,}"),
        ([10**6], None, ValueError, f"at most {MOST_CELLS:,}"),
    ],
)
def test_bad_stacks(layers: Any, shape: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        explain_stack(layers, shape)
    with pytest.raises(TypeError, match="title must be a string"):
        explain_stack([2], title=None)  # type: ignore[arg-type] # that is the test
    for call in (lambda: explain_stack([2]).seen(2, (0, 0)), lambda: explain_stack([2]).seen(1, (3, 0))):
        with pytest.raises(ValueError, match="must be"):
            call()
