"""Explanations: what they show is what fastconv computes, the lessons' numbers, one file that loads nothing."""

from __future__ import annotations

import html
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pages import data_of, number

import fastconv
from fastconv import corr2d, explain, explain_stack
from fastconv.tools.explain.calculation import MOST_CELLS, MOST_TERMS
from fastconv.tools.explain.numerals import MINUS, numeral

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[1]
SQUARE, CORNER = np.arange(9).reshape(3, 3), np.array([[0, 1], [2, 3]])
FOUR = np.arange(16).reshape(4, 4)
STRIPE = np.ones((6, 8), int)
STRIPE[:, 2:6] = 0
X, K = np.stack([SQUARE, SQUARE + 1]), np.stack([CORNER, CORNER + 1])
LARGER = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]


# -- the lessons ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "expected", "index", "text"),
    [
        ((SQUARE, CORNER), {}, [[19, 25], [37, 43]], (0, 0), "0*0 + 1*1 + 3*2 + 4*3 = 19"),
        ((SQUARE, CORNER), {"op": "corr2d"}, [[19, 25], [37, 43]], (1, 1), "4*0 + 5*1 + 7*2 + 8*3 = 43"),
        ((SQUARE, CORNER, 10), {"op": "corr2d"}, [[29, 35], [47, 53]], (0, 0), "0*0 + 1*1 + 3*2 + 4*3 + 10 = 29"),
        ((LARGER, [[0, 1, 2], [2, 2, 0], [0, 1, 2]]), {}, [[12, 12, 17], [10, 17, 19], [9, 6, 14]], (2, 0),
         "3*0 + 1*1 + 2*2 + 2*2 + 0*2 + 0*0 + 2*0 + 0*1 + 0*2 = 9"),
        ((STRIPE, [[1, -1]]), {}, [[0, 1, 0, 0, 0, -1, 0]] * 6, (0, 5), "0*1 + 1*(-1) = -1"),
        ((STRIPE.T, [[1, -1]]), {}, np.zeros((8, 5)), (2, 0), "0*1 + 0*(-1) = 0"),
        ((SQUARE, CORNER[::-1, ::-1]), {}, [[5, 11], [23, 29]], (0, 0), "0*3 + 1*2 + 3*1 + 4*0 = 5"),
        ((SQUARE, CORNER), {"padding": 1, "stride": (3, 2)}, [[0, 8], [6, 8]], (1, 0), "0*0 + 6*1 + 0*2 + 0*3 = 6"),
        ((X, K), {}, [[[56, 72], [104, 120]]], (0, 0, 0),
         "(0*0 + 1*1 + 3*2 + 4*3) + (1*1 + 2*2 + 4*3 + 5*4) = 19 + 37 = 56"),
        ((X, np.stack([K, K + 1, K + 2])), {},
         [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]],
         (2, 1, 1), "(4*2 + 5*3 + 7*4 + 8*5) + (5*3 + 6*4 + 8*5 + 9*6) = 91 + 133 = 224"),
        ((SQUARE,), {"op": "max_pool2d", "kernel_size": 2, "stride": 1}, [[4, 5], [7, 8]], (0, 0),
         "max(0, 1, 3, 4) = 4"),
        ((SQUARE,), {"op": "avg_pool2d", "kernel_size": 2, "stride": 1}, [[2, 3], [5, 6]], (0, 0),
         "(0 + 1 + 3 + 4) / 4 = 2"),
        ((FOUR,), {"op": "max_pool2d", "kernel_size": 3}, [[10]], (0, 0), "max(0, 1, 2, 4, 5, 6, 8, 9, 10) = 10"),
        ((FOUR,), {"op": "max_pool2d", "kernel_size": 3, "padding": 1, "stride": 2}, [[5, 7], [13, 15]], (0, 0),
         "max(0, 1, 4, 5) = 5"),
        ((FOUR,), {"op": "max_pool2d", "kernel_size": (2, 3), "padding": (0, 1), "stride": (2, 3)}, [[5, 7], [13, 15]],
         (0, 1), "max(2, 3, 6, 7) = 7"),
        ((np.stack([FOUR, FOUR + 1]),), {"op": "max_pool2d", "kernel_size": 3, "padding": 1, "stride": 2},
         [[[5, 7], [13, 15]], [[6, 8], [14, 16]]], (1, 0, 0), "max(1, 2, 5, 6) = 6"),
    ],
)  # fmt: skip
def test_lessons(arguments: Any, options: Any, expected: Any, index: Any, text: str) -> None:
    made = explain(*arguments, **options)
    assert_array_equal(made.output, expected)
    assert made.text(index) == text
    data = data_of(made.to_html())
    shown = [[number(one) for one in plane if one] for plane in data["output"]["texts"]]
    assert_array_equal(np.ravel(shown), np.ravel(expected))


def test_lesson_of_sizes() -> None:
    """Padding and stride: the pages say how the output's size comes about."""
    for size, kernel, padding, stride, *rules in (
        ((8, 8), (3, 3), 1, 1, "(8 - 3 + 2 + 1) / 1 = 8", "(8 - 3 + 2 + 1) / 1 = 8"),
        ((8, 8), (5, 3), (2, 1), 1, "(8 - 5 + 4 + 1) / 1 = 8", "(8 - 3 + 2 + 1) / 1 = 8"),
        ((8, 8), (3, 5), (0, 1), (3, 4), "(8 - 3 + 0 + 3) / 3 = 2", "(8 - 5 + 2 + 4) / 4 = 2"),
        ((5, 5), (3, 3), 1, 2, "(5 - 3 + 2 + 2) / 2 = 3", "(5 - 3 + 2 + 2) / 2 = 3"),
    ):
        made = explain(np.ones(size, int), np.ones(kernel, int), padding=padding, stride=stride)
        shown = [rule.translate({ord("⌊"): None, ord("⌋"): None, ord(MINUS): "-"})
                 for rule in data_of(made.to_html())["rules"][1:]]  # fmt: skip
        assert shown == [f"{name}: {rule}" for name, rule in zip(("rows", "columns"), rules, strict=True)]


def test_lessons_of_matrices() -> None:
    made = explain(SQUARE, CORNER)
    assert_array_equal(made.columns(), fastconv.unfold2d(SQUARE[None], 2))
    assert_array_equal(made.matrix(), fastconv.corr2d_matrix(CORNER, (3, 3)).toarray())
    assert_array_equal(made.matrix() @ SQUARE.ravel(), [19, 25, 37, 43])
    data = data_of(made.to_html())
    assert data["columns"]
    assert not data["pointwise"]
    assert data["matrix"][0][1] == ["0", "0", "1", "0", "2", "3", "0", "0", "0"]
    assert data["weights"].startswith("A fully connected layer from 9 inputs to 4 outputs has 36 weights; this one")
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((3, 3, 3)), rng.standard_normal((2, 3, 1, 1))
    made = explain(x, weight)
    assert data_of(made.to_html())["pointwise"]
    assert_allclose(weight[:, :, 0, 0] @ made.columns(), made.output.reshape(2, 9))
    assert_array_equal(made.columns(), x.reshape(3, 9))


# -- every operation -----------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)


def integers(*shape: int) -> np.ndarray:
    return RNG.integers(-9, 10, shape)


CASES = {
    "batch of one": ((integers(1, 2, 5, 6), integers(3, 2, 3, 2)), {}),
    "all options": ((integers(2, 7, 6), integers(4, 1, 3, 2), integers(4)),
                    {"groups": 2, "stride": (2, 1), "padding": ((1, 2), (0, 1)), "dilation": (1, 2)}),
    "same": ((integers(1, 5, 5), integers(1, 1, 2, 2)), {"padding": "same", "stride": 2}),
    "same_lower": ((integers(5, 5), integers(2, 2)), {"padding": "same_lower"}),
    "reflect": ((integers(4, 5), integers(3, 3)), {"padding": 2, "padding_mode": "reflect"}),
    "replicate": ((integers(4, 5), integers(3, 3)), {"padding": (2, 3), "padding_mode": "replicate"}),
    "circular": ((integers(2, 4, 5), integers(2, 3, 3)), {"padding": (1, 2), "padding_mode": "circular", "stride": 2}),
    "cut": ((integers(5, 6), integers(2, 2)), {"padding": ((-1, 0), (1, -2))}),
    "corr2d": ((integers(4, 5), integers(2, 3)), {"op": "corr2d", "padding": 1, "padding_mode": "reflect"}),
    "conv1d": ((integers(2, 9), integers(3, 2, 3)), {"op": "conv1d", "stride": 2, "padding": 1}),
    "a signal": ((integers(9), integers(3)), {"op": "conv1d", "dilation": 2}),
    "transposed": ((integers(2, 3, 4), integers(2, 3, 3, 2)), {"op": "conv_transpose2d", "stride": (2, 3), "padding": 1,
                   "output_padding": 1}),
    "transposed groups": ((integers(4, 3, 3), integers(4, 2, 2, 2), integers(4)),
                          {"op": "conv_transpose2d", "groups": 2, "dilation": 2, "stride": 3, "output_padding": 1}),
    "transposed signal": ((integers(4), integers(3)), {"op": "conv_transpose1d", "stride": 2, "padding": "same"}),
    "max": ((integers(2, 6, 5),), {"op": "max_pool2d", "kernel_size": (3, 2), "stride": 2, "padding": (1, 0),
                                   "ceil_mode": True}),
    "min": ((integers(5, 5),), {"op": "min_pool2d", "kernel_size": 2, "dilation": 2, "stride": 1}),
    "max of a signal": ((integers(2, 7),), {"op": "max_pool1d", "kernel_size": 3}),
    "avg": ((integers(2, 6, 5),), {"op": "avg_pool2d", "kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    "avg inside": ((integers(6, 5),), {"op": "avg_pool2d", "kernel_size": 3, "stride": 2, "padding": 1,
                                       "count_include_pad": False}),
    "avg of a signal": ((integers(7),), {"op": "avg_pool1d", "kernel_size": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_sums_are_the_operations_results(name: str) -> None:
    (x, *others), options = CASES[name]
    copies = [one.copy() for one in (x, *others)]
    made = explain(x, *others, **options)
    for given, copy in zip((x, *others), copies, strict=True):
        assert_array_equal(given, copy)
    bias = others[1] if len(others) > 1 else np.zeros(len(made.calculation.output), int)
    kind = made.calculation.kind
    data = data_of(made.to_html())
    places = len(data["cells"])
    for flat, index in enumerate(np.ndindex(made.output.shape)):
        terms, expected = made.products(index), made.output[index]
        channel, place = divmod(flat, places)
        if kind in ("max", "min"):
            assert getattr(terms, kind)() == expected
            assert terms[0][data["picked"][channel][place]] == expected
        elif kind == "avg":
            assert terms.sum() / data["divisors"][place] == pytest.approx(expected)
            assert data["divisors"][place] == terms.size  # zeros of the padding are shown where they count
        else:
            assert terms.sum() + bias[channel] == expected
        shown = data["terms"][channel][place]
        assert [[number(one) for one in line] for line in shown] == terms.tolist()
        assert made.text(index).endswith(f"= {numeral(expected.item())}")
        cell = data["output"]["places"][place]
        assert data["output"]["texts"][channel][cell] == numeral(expected.item()).replace("-", MINUS)
        check_cells(data, channel, place)


def check_cells(data: dict[str, Any], channel: int, place: int) -> None:
    """The terms that a page shows are products of the numbers that it shows in the cells that it marks."""
    cells, taps = data["cells"][place], data["taps"][place]
    for line, shown in enumerate(data["terms"][channel][place]):
        plane = data["input"]["texts"][data["first"][channel] + line]
        values = [number(plane[cell]) for cell in cells]
        if data["kernel"]:
            kernel = data["kernel"]["texts"][channel][line]
            values = [value * number(kernel[tap]) for value, tap in zip(values, taps, strict=True)]
        assert [number(one) for one in shown] == values


@pytest.mark.parametrize("name", [name for name, (operands, _) in CASES.items() if len(operands) > 1])
def test_matrices(name: str) -> None:
    (x, *others), options = CASES[name]
    made = explain(x, *others, **options)
    calculation = made.calculation
    size = calculation.channels * calculation.x[0].size
    for channel, plane in enumerate(calculation.output):
        first = calculation.first_channel(channel)
        seen = calculation.x[first : first + calculation.channels]
        bias = others[1][channel] if len(others) > 1 else 0
        matrix = made.matrix(channel)
        assert matrix.shape == (plane.size, size)
        assert_array_equal(matrix @ seen.ravel() + bias, plane.ravel())
    if calculation.kind == "conv":
        columns = made.columns()
        seen = np.concatenate([plane[np.array(calculation.windows.cells).T] for plane in calculation.grid])
        assert_array_equal(columns, seen)
    else:
        with pytest.raises(TypeError, match="columns are of a convolution"):
            made.columns()


@pytest.mark.parametrize("name", CASES)
def test_every_cell_leads_to_a_window(name: str) -> None:
    (x, *others), options = CASES[name]
    windows = explain(x, *others, **options).calculation.windows
    cells = windows.source.size
    assert windows.nearest.shape == windows.outside.reshape(-1).shape == (cells,)
    assert windows.nearest.min() >= 0
    assert windows.nearest.max() < len(windows.cells)
    assert all(one.min() >= 0 and one.max() < cells for one in windows.cells if one.size)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "float32", "float64"])
def test_dtypes(dtype: str) -> None:
    x = (SQUARE % 2).astype(dtype)
    made = explain(x, x[:2, :2])
    assert made.output.dtype == corr2d(x, x[:2, :2]).dtype
    assert made.text((0, 0)) == "0*0 + 1*1 + 1*1 + 0*0 = 2"
    assert explain(x, op="max_pool2d", kernel_size=2).text((0, 0)) == "max(0, 1, 1, 0) = 1"


def test_numbers_that_are_not_whole() -> None:
    made = explain([[0.25, 1 / 3, np.nan, -np.inf, 1e20]], [[1.0]])
    texts = ["0.25*1 = 0.25", "0.333*1 = 0.333", "nan*1 = nan", "(-inf)*1 = -inf", "1e+20*1 = 1e+20"]
    assert [made.text((0, column)) for column in range(5)] == texts
    assert data_of(made.to_html())["rounded"]
    assert not data_of(explain([[0.25]], [[2.0]]).to_html())["rounded"]
    assert explain([[np.nan, 1.0]], op="max_pool2d", kernel_size=(1, 2)).text((0, 0)) == "max(nan, 1) = nan"
    assert explain([[1.5]], [[-2.0]]).text((0, 0)) == "1.5*(-2) = -3"
    assert explain([[1]], [[2**62]]).text((0, 0)) == f"1*{2**62} = {2**62}"


def test_wrapped_integers() -> None:
    made = explain(np.full((1, 1), 2**31 - 1), np.full((1, 1), 2**33))
    assert made.products((0, 0)).sum() == made.output[0, 0]


# -- the page ------------------------------------------------------------------------------------------------


def test_a_page_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    for made in (explain(SQUARE, CORNER), explain_stack([2, 2])):
        made.save(file)
        page = file.read_text(encoding="utf-8")
        assert page == made.to_html()
        assert not re.search(r"https?:|//\w+\.|@import|url\(", page)
        assert re.findall(r"(?:src|href)=[\"']([^\"']*)", page) == ["data:,"]
        assert "default-src 'none'" in page
        assert "@@" not in page
    assert "0*0 + 1*1 + 3*2 + 4*3 = 19" in explain(SQUARE, CORNER).to_html()  # for readers without JavaScript


@pytest.mark.parametrize(
    "title", ["</script><script>alert(1)</script>", "<!--<script>", "a & b \u2028 'c' \"d\"", "@@DATA@@"]
)
def test_texts_are_escaped(title: str) -> None:
    for made in (explain(SQUARE, CORNER, title=title), explain_stack([2], title=title)):
        page = made.to_html()
        assert page.count("<script") == page.count("</script>") == 2
        assert "<!--" not in page
        assert data_of(page)["title"] == title
        assert f"<title>{html.escape(title)}</title>" in page


def test_a_notebook_shows_the_page() -> None:
    for made in (explain(SQUARE, CORNER, title='"Square"'), explain_stack([2])):
        shown = made._repr_html_()
        assert shown.startswith('<iframe title="')
        assert html.unescape(re.search(r'srcdoc="([^"]*)"', shown)[1]) == made.to_html()
    assert repr(explain(SQUARE, CORNER)) == "<Explanation of conv2d: input 3x3, kernel 2x2, output 2x2>"


def test_shades() -> None:
    assert data_of(explain(SQUARE, CORNER).to_html())["input"]["shades"] is None
    data = data_of(explain(STRIPE, [[1, -1]], shades=True).to_html())
    assert data["input"]["shades"][0][:3] == [255, 255, 0]
    assert data["output"]["shades"][0][:6] == [128, 255, 128, 128, 128, 0]
    assert data_of(explain(np.zeros((13, 1)), [[1.0]]).to_html())["input"]["shades"] == [[0] * 13]
    assert data_of(explain([[np.nan, np.inf, 1.0]], [[1.0]], shades=True).to_html())["input"]["shades"] == [[0, 0, 255]]


def test_the_package_has_the_files_of_pages() -> None:
    folder = Path(fastconv.__file__).parent / "tools" / "explain"
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    given = {file.name for pattern in known["fastconv.tools.explain"] for file in folder.glob(pattern)}
    assert given == {file.name for file in folder.iterdir() if file.is_file() and file.suffix != ".py"}


# -- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "error", "told"),
    [
        ((SQUARE, CORNER), {"op": "conv3d"}, ValueError, "op must be one of 'conv1d'"),
        ((SQUARE, CORNER), {"op": ["conv2d"]}, ValueError, "op must be one of"),
        ((SQUARE,), {}, TypeError, "conv2d needs a weight"),
        ((SQUARE,), {"op": "max_pool2d"}, TypeError, "max_pool2d needs a kernel_size"),
        ((SQUARE, CORNER), {"op": "max_pool2d", "kernel_size": 2}, TypeError, "max_pool2d takes no weight"),
        ((SQUARE, CORNER), {"kernel_size": 2}, TypeError, "conv2d takes no kernel_size"),
        ((SQUARE,), {"op": "avg_pool2d", "kernel_size": 2, "groups": 2}, TypeError, "avg_pool2d takes no groups"),
        ((SQUARE, CORNER), {"op": "corr2d", "stride": 2}, TypeError, "corr2d takes no stride"),
        ((SQUARE, CORNER), {"title": 3}, TypeError, "title must be a string"),
        ((SQUARE, CORNER), {"shades": "yes"}, TypeError, "shades must be True or False"),
        ((np.ones((2, 1, 3, 3)), CORNER), {}, ValueError, "x must hold one image, got 2"),
        ((np.ones(3), CORNER), {}, ValueError, r"x must have shape \(N, C, H, W\)"),
        ((SQUARE, np.ones(3)), {}, ValueError, "weight must have shape"),
        ((SQUARE, np.ones((4, 4))), {}, ValueError, "the kernel covers 4x4 pixels"),
        ((SQUARE, np.ones((1, 2, 2, 2))), {}, ValueError, "x has 1 channels"),
        ((SQUARE[0], CORNER), {"op": "corr2d"}, ValueError, "x must have two axes"),
        ((SQUARE, CORNER), {"stride": 0}, ValueError, "stride must be between 1"),
        ((SQUARE, CORNER), {"padding": "full"}, ValueError, "padding must be"),
        (("text", CORNER), {}, TypeError, "x has dtype"),
        ((SQUARE, CORNER, [1, 2]), {"op": "corr2d"}, ValueError, "bias must be a scalar"),
    ],
)
@pytest.mark.usefixtures("nothing_runs")
def test_bad_arguments(arguments: Any, options: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        explain(*arguments, **options)


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("x", "weight", "told"),
    [
        (np.ones((91, 91), np.int8), np.ones((1, 1)), f"elements of input and output, .* at most {MOST_CELLS:,}"),
        (np.ones((40, 40), np.int8), np.ones((9, 9), np.int8), f"terms to add, and explain .* at most {MOST_TERMS:,}"),
        (np.ones((50, 50), np.int8), np.ones((40, 1, 3, 3), np.int8), "explain shows at most"),
        (np.broadcast_to(np.int8(1), (10**5, 10**5)), CORNER, "cut a part out of x"),
    ],
)  # fmt: skip
def test_limits(x: np.ndarray, weight: np.ndarray, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        explain(x, weight)


def test_bad_indices() -> None:
    made = explain(SQUARE, CORNER)
    for index, error, told in (
        ((0, 2), ValueError, r"index\[1\] must be below 2, got 2"),
        ((0, -1), ValueError, r"index\[1\] must be between 0"),
        ((0,), ValueError, "index must have 2 numbers"),
        (0, ValueError, "index must have 2 numbers"),
        ((0, 0.5), TypeError, "must be an integer"),
        ("00", TypeError, "index must be a sequence"),
    ):
        for ask in (made.text, made.products):
            with pytest.raises(error, match=told):
                ask(index)
    with pytest.raises(ValueError, match="channel must be below 1"):
        made.matrix(1)
    with pytest.raises(TypeError, match="max_pool2d is no matrix"):
        explain(SQUARE, op="max_pool2d", kernel_size=2).matrix()
    assert explain(np.arange(4), [1, 1], op="conv1d").text(2) == "2*1 + 3*1 = 5"
