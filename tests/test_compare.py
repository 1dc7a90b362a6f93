"""`fastconv.compare`: what it claims of the variants, and the forms it tells it in."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numba
import numpy as np
import pytest
from PIL import Image

import fastconv
from fastconv.cpu import planner
from fastconv.tools import compare
from fastconv.tools.comparison import Comparison


def operands(x_shape, weight_shape, dtype="float32"):
    rng = np.random.default_rng(3)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(weight_shape).astype(dtype)
    return rng.integers(0, 100, x_shape).astype(dtype), rng.integers(0, 100, weight_shape).astype(dtype)


@pytest.fixture(scope="module")
def layer() -> Comparison:
    """A small 3x3 layer, with a right and a wrong peer."""
    x, weight = operands((2, 8, 20, 20), (8, 8, 3, 3))
    result = fastconv.conv2d(x, weight, padding=1)
    peers = {"right <peer>": result.copy, "wrong peer": lambda: 1.01 * result}
    return fastconv.compare(x, weight, padding=1, repeats=3, peers=peers)


def by_name(comparison: Comparison) -> dict:
    return {row.algorithm: row for row in comparison.rows}


def test_every_algorithm_has_a_row(layer):
    rows = by_name(layer)
    assert set(rows) == {*fastconv.algorithms(), "right <peer>", "wrong peer"}
    assert {"naive", "image", "im2col", "pointwise"} <= set(rows)
    assert rows["pointwise"].reason == "the kernel is 3x3, not 1x1"
    assert rows["pointwise"].median_ms is rows["pointwise"].max_error is None


def test_auto_is_one_row_and_the_one_that_a_plan_takes(layer):
    plan = fastconv.plan_conv2d((2, 8, 20, 20), np.ones((8, 8, 3, 3), np.float32), padding=1)
    assert [row.algorithm for row in layer.rows if row.is_auto] == [plan.algorithm]


def test_figures_of_the_rows_agree(layer):
    assert layer.flops == 2 * 2 * 8 * 20 * 20 * 72
    timed = [row for row in layer.rows if row.reason is None]
    assert [row.median_ms for row in timed] == sorted(row.median_ms for row in timed)
    assert layer.rows[: len(timed)] == tuple(timed)
    for row in timed:
        assert row.gflops == pytest.approx(layer.flops / row.median_ms / 1e6)
        assert row.percent_of_peak == pytest.approx(100 * row.gflops / layer.peak_gflops)
        assert row.max_error < 1e-5
        assert (row.scratch_bytes is None) == (row.algorithm == "right <peer>")
        assert row.error_bound == (None if row.algorithm == "right <peer>" else "window")


def test_a_wrong_result_is_told_and_not_timed(layer):
    row = by_name(layer)["wrong peer"]
    assert row.median_ms is None
    assert row.max_error == pytest.approx(0.01, rel=1e-3)
    assert row.reason == "wrong by 1.0e-02 of the largest value"


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint8", "int64", "bool"])
def test_dtypes(dtype):
    x, weight = operands((1, 4, 9, 9), (4, 2, 3, 3), dtype)
    comparison = fastconv.compare(x, weight, np.ones(4, dtype), groups=2, stride=2, dilation=(2, 1), repeats=1)
    assert comparison.problem == f"1x4x9x9 {dtype}, weight 4x2x3x3, stride 2, dilation (2, 1), groups 2"
    errors = [row.max_error for row in comparison.rows if row.median_ms]
    assert len(errors) >= 3
    if x.dtype.kind == "f":
        assert max(errors) < np.finfo(dtype).eps * 10
    else:
        assert max(errors) == 0
        assert comparison.peak_gflops is None
        assert {row.percent_of_peak for row in comparison.rows} == {None}


def test_integers_are_compared_as_they_wrap():
    x, weight = np.full((1, 64, 8, 8), 255, np.uint8), np.full((1, 64, 8, 8), 255, np.uint8)
    wide = fastconv.compare(x.astype(np.int64) << 50, weight, repeats=1)
    assert {row.max_error for row in wide.rows if row.median_ms} == {0}


def test_threads_are_limited_and_given_back():
    x, weight = operands((1, 2, 8, 8), (2, 2, 1, 1))
    before, during = numba.get_num_threads(), []

    def peer():
        during.append(numba.get_num_threads())
        return fastconv.conv2d(x, weight)

    comparison = fastconv.compare(x, weight, threads=1, repeats=4, peers={"peer": peer})
    assert comparison.threads == 1
    assert during == [1] * 5  # the check, then four timed calls
    for threads, error in ((0, ValueError), (10**6, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="threads"):
            fastconv.compare(x, weight, threads=threads)
    assert numba.get_num_threads() == before


def test_bad_arguments():
    x, weight = operands((1, 2, 8, 8), (2, 2, 3, 3))
    with pytest.raises(ValueError, match="padding"):
        fastconv.compare(x, weight, padding="full")
    with pytest.raises(ValueError, match="repeats"):
        fastconv.compare(x, weight, repeats=0)
    with pytest.raises(ValueError, match="names of their own, got naive"):
        fastconv.compare(x, weight, peers={"naive": lambda: x})
    with pytest.raises(ValueError, match=r"peer gives shape \(1, 2, 8, 8\)"):
        fastconv.compare(x, weight, peers={"peer": lambda: x})
    with pytest.raises(ValueError, match="nothing to compute"):
        fastconv.compare(x[:0], weight)
    with pytest.raises(ValueError, match="finite"):
        fastconv.compare(x * np.nan, weight)
    with pytest.raises(ValueError, match="finite in float16"):
        fastconv.compare(np.full((1, 1, 9, 9), 6e4, np.float16), np.ones((1, 1, 9, 9), np.float16))


def test_text(layer):
    title, _, header, *lines = str(layer).splitlines()
    assert title.startswith("2x8x20x20 float32, weight 8x8x3x3, padding 1: 0.9 MFLOP, ")
    names = ["algorithm", "ms", "GFLOP/s", "%", "of", "peak", "scratch", "max", "error", "error", "bound"]
    assert header.split() == names
    table = lines[: lines.index("")]
    assert {len(line) for line in table} == {len(header)}
    assert sum("(auto)" in line for line in table) == 1
    assert "pointwise: the kernel is 3x3, not 1x1" in lines
    assert lines[-2].startswith("peak: ")
    assert lines[-1].startswith("memory: ")


def test_dictionary_is_json(layer):
    told = json.loads(json.dumps(layer.to_dict(), allow_nan=False))
    assert [row["algorithm"] for row in told["rows"]] == [row.algorithm for row in layer.rows]
    assert told["flops"] == layer.flops


def test_notebook_table(layer):
    html = layer._repr_html_()
    assert html.count("<tr>") == html.count("</tr>") == 1 + sum(row.reason is None for row in layer.rows)
    assert "right &lt;peer&gt;" in html
    assert "right <peer>" not in html


def test_rich_table(layer):
    rich = pytest.importorskip("rich.console")
    stream = io.StringIO()
    rich.Console(file=stream, width=120).print(layer)
    assert "right <peer>" in stream.getvalue()
    assert "pointwise: the kernel is 3x3, not 1x1" in stream.getvalue()


def test_picture(layer, tmp_path):
    figure = layer.plot(tmp_path / "rates.png")
    assert len(figure.axes[0].patches) == sum(row.reason is None for row in layer.rows)
    with Image.open(tmp_path / "rates.png") as picture:
        assert picture.width > 500
        assert np.asarray(picture.convert("L")).std() > 10


def test_without_the_extra(layer, monkeypatch):
    for module in ("matplotlib.figure", "rich", "threadpoolctl"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fastconv\[cli\]'"):
        layer.plot()
    x, weight = operands((1, 2, 8, 8), (2, 2, 1, 1))
    comparison = fastconv.compare(x, weight, repeats=1)
    assert not comparison.blas_limited
    assert "BLAS threads were not limited" in str(comparison)


def test_importing_it_loads_nothing_heavy():
    heavy = ["numba", "matplotlib", "rich", "PIL", "scipy", "threadpoolctl", "skimage"]
    code = f"import sys, fastconv.tools.compare; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


#: Of every operation with a table, what is compared: operands by shape, and options.
CALLS = {
    **{f"conv{axes}d": (((1, 4, *[9] * axes), (3, 4, *[3] * axes)), {"stride": 2}) for axes in (1, 2, 3)},
    **{f"conv_transpose{axes}d": (((1, 4, *[5] * axes), (4, 3, *[4] * axes)), {"stride": 2}) for axes in (1, 2, 3)},
    **{f"{op}_pool{axes}d": (((1, 2, *[9] * axes),), {"kernel_size": 3, "stride": 2}) for axes in (1, 2, 3)
       for op in ("max", "min", "avg")},
    **{f"lp_pool{axes}d": (((1, 2, *[9] * axes),), {"norm_type": 2, "kernel_size": 3}) for axes in (1, 2, 3)},
    "conv2d_weight": (((1, 4, 9, 9), (3, 4, 3, 3)), {"padding": 1}),
    "conv2d_input": (((1, 4, 9, 9), (3, 4, 3, 3)), {"padding": 1}),
    "max_pool2d_input": (((2, 4, 9, 9),), {"kernel_size": 3}),
    "min_pool2d_input": (((2, 4, 9, 9),), {"kernel_size": 3}),
    "avg_pool2d_input": (((2, 4, 9, 9),), {"kernel_size": 3}),
    "adaptive_max_pool2d": (((2, 4, 9, 9),), {"output_size": 5}),
    "adaptive_avg_pool2d": (((2, 4, 9, 9),), {"output_size": 3}),
    "max_unpool2d": (((2, 4, 9, 9),), {"kernel_size": 3}),
    "unfold2d": (((2, 4, 9, 9),), {"kernel_size": 3}),
    "fold2d": (((2, 36, 49),), {"kernel_size": 3, "output_size": 9}),
}  # fmt: skip


def test_every_operation_with_a_table_is_compared():
    assert {*CALLS} == {*planner.operations()} == {*compare.FUNCTIONS}


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("op", CALLS)
def test_every_operation(op, dtype):
    """All algorithms are in it, and those that are timed give what the definition gives in float64."""
    shapes, options = CALLS[op]
    weight = shapes[1] if len(shapes) > 1 else None
    given = compare.random_operands(op, shapes[0], weight, np.dtype(dtype), options)
    comparison = fastconv.compare(*given, op=op, **options, threads=1, repeats=1)
    timed = [row for row in comparison.rows if row.median_ms]
    table = "avg_pool2d" if op == "adaptive_avg_pool2d" else op  # three of nine are equal windows
    assert {row.algorithm for row in comparison.rows} == {*fastconv.algorithms(table)}
    assert {row.algorithm for row in timed} >= {fastconv.algorithms(table)[-1]}
    assert [row.algorithm for row in timed if row.is_auto]
    assert all(row.max_error < 1e-5 for row in timed)
    assert all(row.reason for row in comparison.rows if not row.median_ms)
    assert comparison.problem.startswith("1x4" if op == "conv2d" else f"{op}: ")


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"op": "conv4d"}, ValueError, "op must be one of 'conv1d'"),
        ({"op": ["conv2d"]}, ValueError, "op must be one of"),
        ({"device": "gpu"}, ValueError, "device must be"),
        ({"algorithm": "naive"}, TypeError, "algorithm is what compare tries itself"),
        ({"kernel_size": 0}, ValueError, "kernel_size must be"),
        ({"groups": 2}, TypeError, "groups"),
        ({"remember": True}, ValueError, "remember=True is for convolutions"),
        ({"peers": {"rows": float}}, ValueError, "peers need names of their own, got rows"),
    ],
)
def test_what_cannot_be_compared(changed, error, words):
    with pytest.raises(error, match=words):
        fastconv.compare(np.ones((1, 2, 9, 9)), **{"op": "max_pool2d", "kernel_size": 3, **changed})
