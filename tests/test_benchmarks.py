"""The named problems of the benchmarks are problems; asv itself checks the suites (`asv check`)."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastconv
from benchmarks import (
    algorithms,
    before,
    cold,
    cold_runs,
    dimensions,
    fit,
    image_shapes,
    images,
    learning,
    networks,
    peers,
    records,
    shapes,
)
from benchmarks.contenders import Row
from benchmarks.shapes import Layer, Pooling
from fastconv.cpu import planner
from fastconv.cpu.machine import Machine, this_machine
from fastconv.specs.conv import ConvSpec


@pytest.mark.parametrize("layer", (shapes.LAYERS | shapes.HARD_LAYERS).values(), ids=lambda layer: layer.name)
def test_layer(layer):
    x, weight, bias = layer.arrays()
    fastconv.plan_conv2d(x.shape, weight, bias, **layer.options)


@pytest.mark.parametrize("name", shapes.POOLINGS)
def test_pooling(name):
    pooling = shapes.POOLINGS[name]
    assert fastconv.max_pool2d(pooling.array()[:1, :1], **pooling.options).size


@pytest.mark.parametrize("name", shapes.FILTERS)
def test_filter(name):
    image, kernel = shapes.FILTERS[name].arrays()
    assert image.dtype == kernel.dtype == shapes.FILTERS[name].dtype
    assert image.shape > kernel.shape


def test_image_filters_are_compared_before_they_are_timed():
    names = [row.name for row in image_shapes.IMAGE_FILTERS]
    assert len({*names}) == len(names)
    for function, size in (("correlate", 3), ("gaussian_filter", 1), ("uniform_filter", 5), ("sobel", 0)):
        for channels in (0, 3):
            row = image_shapes.ImageFilter("linear", function, size, (40, 50), "uint8", channels)
            result = images.fastconv_call(row, row.array(), 1)()
            assert images.differs(row, "scipy", result, images.scipy_call(row, row.array(), 1)()) == ""
            assert images.differs(row, "scipy", result, result + 1) == "by 1 units"
    fastconv.set_num_threads(None)
    title = images.title("linear", "scipy")
    found = {"table": "linear", "row": "a row", "threads": 1, "different": {"opencv": "by 1 units"},
             "seconds": {"fastconv": 1e-3, "scipy": 3e-3}, "ratios": {title: 3.0}}  # fmt: skip
    assert "scipy    3.00   opencv differs by 1 units" in images.show(found)
    (line,) = records.summary([found], images.TARGETS)
    assert line == f"{title}: geometric mean 3.00, worst 3.00 (a row), 1 of 1 rows below 4"


def test_figures_are_kept_with_their_machine(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    row = next(dimensions.measured("adaptive", 1, False, True))
    assert row["error"] < 1e-6
    assert dimensions.show(row).endswith(f"{row['error']:.1e}")
    fastconv.set_num_threads(None)
    rows = [row | {"ratios": {dimensions.TITLE: ratio}, "threads": 2} for ratio in (0.5, 2.0)]
    file = tmp_path / "it.json"
    monkeypatch.setattr("sys.argv", ["dimensions.py", "--pin", "--json", str(file)])
    records.save(str(file), "benchmarks.dimensions", rows)
    record = json.loads(file.read_text())
    assert (record["command"], record["rows"]) == ("python -m benchmarks.dimensions --pin --json FILE", rows)


def test_what_asv_measures_is_there():
    assert set(image_shapes.REGULAR_IMAGE_FILTERS) <= {row.name for row in image_shapes.IMAGE_FILTERS}
    assert set(shapes.REGULAR_LAYERS) <= set(shapes.LAYERS)
    assert set(shapes.REGULAR_POOLINGS) <= set(shapes.POOLINGS)
    assert set(shapes.REGULAR_FILTERS) <= set(shapes.FILTERS)
    assert set(algorithms("conv")) == set(fastconv.algorithms("conv2d"))
    assert set(algorithms("pool")) == set(fastconv.algorithms("max_pool2d"))


def test_fit_finds_the_rates_that_explain_the_times():
    """Times made up by other rates: estimates from the fitted ones come close to them."""
    now = Machine(1)
    changed = {"tile_share": now.tile_share / 2, "row_tile_share": now.row_tile_share / 2}
    true = replace(now, **changed, bandwidth=now.bandwidth * 2)
    problems = [problem for problem in fit.problems(4) if isinstance(problem.spec, ConvSpec)]
    measured = [(problem, fit.estimates(problem, true)) for problem in problems]

    def errors(machine):
        return [abs(math.log(fit.estimates(problem, machine)[label] / took))
                for problem, times in measured for label, took in times.items()]

    fitted = fit.fit(measured, now)
    assert statistics.fmean(errors(fitted)) < 0.3 * statistics.fmean(errors(now))
    assert fitted.tile_share == pytest.approx(true.tile_share, rel=0.2)
    text = "\n".join(fit.report(measured, now, fitted))
    assert all(problem.name in text for problem in problems)
    assert "named problems, rates fitted: auto reaches" in text


def test_fit_reports_what_the_planner_takes():
    """On any number of threads, for the planner decides as on one."""
    for problem in fit.problems(10):
        costs = planner.candidates(problem.spec)
        label, speed = fit.chosen(problem, dict.fromkeys(costs, 2.0), this_machine(64))
        assert (label, speed) == (min(costs, key=costs.__getitem__), 1.0)


def test_fit_measures_whatever_is_in_the_tables():
    for problem in fit.problems(5):
        if problem.name in ("odd_tiny", "max_lenet_2x2_s2", "layer 0"):
            times = fit.measure(problem, 1)
            assert times.keys() <= planner.candidates(problem.spec).keys()
            assert all(0 < seconds < 10 for seconds in times.values())
    assert len({problem.name for problem in fit.problems(5)}) == len(list(fit.problems(5)))


def test_peers_measure_libraries_in_processes_of_their_own():
    """One of them, which is stopped between its turns, tells its errors, and ends."""
    row = next(row for row in peers.ROWS["pooling"] if row.problem.name == "lenet_2x2_s2")
    reference, _, work = peers.reference_and_work(row)
    with peers.contenders(["fastconv"], 1, pinned=False) as able:
        ways = peers.measure(row, able.values(), reference)
        assert 0 < ways["max"]["least"] <= ways["max"]["seconds"] < 1
        assert ways["max"]["error"] == 0  # a maximum is one of the inputs
        assert peers.measure(row, able.values(), 2 * reference)["max"]["error"] == pytest.approx(0.5)
        with pytest.raises(KeyError, match="torch"):
            able["fastconv"].ask("time", "torch")
        process = able["fastconv"].process
    assert process.exitcode == 0
    assert work == {"bytes": 4 * (row.problem.array().size + reference.size)}
    assert np.array_equal(reference, fastconv.max_pool2d(row.problem.array(), 2))


#: A problem of each kind that the libraries describe in their own words: no two numbers could be swapped unnoticed.
KINDS = {
    "dense": Row("conv2d", Layer("dense", 1, 5, 13, 11, 7, 3, 2, stride=2, padding=(1, 0))),
    "dilated": Row("conv2d", Layer("dilated", 2, 4, 13, 12, 6, 3, 3, padding=2, dilation=2)),
    "1x1": Row("conv2d", Layer("1x1", 1, 8, 7, 5, 12, 1, 1)),
    "groups": Row("conv2d", Layer("groups", 3, 8, 9, 10, 12, 3, 3, padding=1, groups=2)),
    "depthwise": Row("conv2d", Layer("depthwise", 1, 6, 9, 10, 6, 5, 3, stride=2, padding=1, groups=6)),
    "maximum": Row("max", Pooling("maximum", 2, 3, 11, 14, (2, 3), (3, 2), (1, 0))),
    "mean": Row("avg", Pooling("mean", 2, 3, 11, 14, (3, 2), (2, 3), (0, 1))),
}


@pytest.mark.parametrize(("library", "module"), [("torch", "torch"), ("onnx", "onnxruntime"), ("openvino", "openvino"),
                                                 ("ncnn", "ncnn"), ("mnn", "MNN")])  # fmt: skip
def test_peers_compute_what_fastconv_does(library, module):
    """Each in its process, twice in a row: what its tensors point to is still there, and is read again."""
    if importlib.util.find_spec(module) is None:
        pytest.skip("the extra 'peers' is not installed")
    with peers.contenders([library], 1, pinned=False) as able:
        for name, row in KINDS.items():
            ways = peers.measure(row, able.values(), peers.reference_and_work(row)[0])
            assert ways[library]["error"] <= peers.CLOSE, name


def test_peers_are_not_compared_where_they_are_wrong():
    def way(seconds, error=1e-7):
        return {"seconds": seconds, "least": seconds, "error": error}

    row = {"group": "hard", "row": "a layer", "by": "direct", "share": 0.5, "threads": 1}
    row["ways"] = {"plan": way(2e-3), "conv2d": way(4e-3), "ncnn": way(3e-3), "mnn": way(1e-3, 1e-3)}
    assert peers.ratio(row, "plan", peers.ENGINES) == 1.5
    assert "x1.50 x0.75 " in peers.show(row)
    assert "ncnn 3.000 (1e-07)  mnn 1.000 (1e-03!)" in peers.show(row)
    assert peers.summary([row])[-1] == "mnn: 1 rows not compared, for an error above 1e-04"
    row["ways"]["plan"]["error"] = math.nan
    assert peers.ratio(row, "plan", peers.ENGINES) is None
    assert "plan 2.000 (nan!)" in peers.show(row)
    assert "plan: 1 rows" in "".join(peers.summary([row]))


def test_peers_tell_ratios_and_take_the_better_pass():
    def row(plan, torch, onnx):
        seconds = {"plan": plan, "conv2d": 2 * plan, "torch": torch, "onnx": onnx}
        ways = {way: {"seconds": value, "least": value, "error": 1e-7} for way, value in seconds.items()}
        return {"group": "layers", "row": "a layer", "by": "direct", "share": 0.5, "threads": 2, "ways": ways}

    once, twice = row(1e-3, 3e-3, 2e-3), row(2e-3, 1.5e-3, 4e-3)
    best = peers.better(once, twice)
    assert {way: result["seconds"] for way, result in best["ways"].items()} == {
        "plan": 1e-3, "conv2d": 2e-3, "torch": 1.5e-3, "onnx": 2e-3}  # fmt: skip
    assert "x1.50 x0.75" in peers.show(best)
    assert "geometric mean 1.50, worst 1.50 (a layer), 0 of 1" in peers.summary([best])[0]
    assert "geometric mean 0.75, worst 0.75 (a layer), 1 of 1" in peers.summary([best])[1]


def test_learning_measures_the_groups_that_are_asked_for(monkeypatch):
    monkeypatch.setattr(learning, "in_turns", lambda ways, *_: {way: {"step": 1.0} for way in ways})
    monkeypatch.setattr(learning, "theirs", lambda *_: {})
    assert [row["row"] for row in learning.rows(["hard"], "resnet_1x1_s2", 1, False)] == ["resnet_1x1_s2_512"]
    assert len(list(learning.rows(["layers", "hard"], "resnet_1x1_s2", 1, False))) == 2


@pytest.mark.parametrize(("name", "count"), [("resnet50", 23), ("mobilenet_v2", 30)])
def test_networks(name, count):
    """Layers are different, and each takes what an earlier one gives."""
    layers = networks.NETWORKS[name]()
    assert len({layer[1:] for layer in layers}) == len({layer.name for layer in layers}) == len(layers) == count
    given = {(3, 224), (64, 56)}  # the image, and what ResNet's first layer gives after pooling
    for layer in layers:
        assert (layer.c_in, layer.h) in given
        assert layer.h == layer.w
        given.add((layer.c_out, fastconv.output_shape((layer.h, layer.w), layer.kh, layer.stride, layer.padding)[0]))


def fake(folder, body):
    """A checkout whose fastconv is these lines."""
    (folder / "fastconv").mkdir()
    (folder / "fastconv" / "__init__.py").write_text(body)
    return cold.checkout(str(folder))


def test_cold_measures_processes_with_an_empty_cache(tmp_path):
    row = cold.only("", 1, cold_runs.algorithm, "dense", "lenet_conv3")
    here = Path(cold.__file__).parent
    with cold.copied(Path(fastconv.__file__).parent, here) as path:
        one = cold.Checkout(path, str(tmp_path), threads=1)
        samples = one.measure("dense", row)
    assert samples[""]["wall"] > 0
    assert samples[""]["cpu"] > 0
    assert list(tmp_path.glob("*/*.nbc"))
    with cold.copied(fake(tmp_path, "def conv2d(*_, **__): raise ValueError('not this one')"), here) as path:
        other = cold.Checkout(path, str(tmp_path), threads=1)
        with pytest.raises(RuntimeError, match="not this one"):
            other.measure("dense", row)


def test_cold_covers_every_algorithm(monkeypatch):
    assert cold.rows(["algorithms", "demo"]).keys() == {"algorithms", "demo"}
    assert cold.rows(list(cold.ROWS))["algorithms"].arguments.keys() == set(fastconv.algorithms("conv2d"))
    monkeypatch.setattr(cold, "SMALL_LAYERS", {})
    with pytest.raises(LookupError, match="'dense' supports none"):
        cold.rows(["algorithms"])


def test_cold_plans_problems_that_are_all_different():
    problems = [cold_runs.drawn(seed) for seed in range(cold_runs.UNTIMED + cold_runs.PLANNED)]
    assert len(set(map(str, problems))) == len(problems)


def test_cold_tells_the_worst_the_median_and_the_least():
    def samples(**seconds):
        return {label: {"wall": wall, "cpu": 2 * wall} for label, wall in seconds.items()}

    row = cold.ROWS["algorithms"]._replace(arguments={"a": ("a", "x"), "b": ("b", "y"), "c": ("c", "z")})
    now = cold.least(samples(a=1, b=3, c=9), cold.least(None, samples(a=2, b=2, c=6)))
    assert now == samples(a=1, b=2, c=6)
    worst, median, *each = cold.lines(row, {"now": now, "before": samples(a=1, b=3, c=12)}, every=True)
    assert worst[1:] == ("2.00 s", "6.00 s", "12.00 s", "12.00 s", "24.00 s", "2.00", "  over  c")
    assert median[1:] == ("1.00 s", "2.00 s", "4.00 s", "3.00 s", "6.00 s", "1.50", "  over")
    assert [line[0] for line in each] == ["  a, x", "  b, y", "  c, z"]
    assert cold.lines(row, {"now": now, "before": None}, every=False)[0][4:7] == ("-", "-", "-")
    assert cold.duration(0.0123) == "12.30 ms"


def test_before_measures_two_checkouts(tmp_path):
    """The other one, whose maxima are wrong and which has no means, is the one in the folder."""
    package = fake(tmp_path, """
import numpy as np
def set_num_threads(threads): pass
def max_pool2d(x, **options): return np.zeros((64, 6, 14, 14), np.float32)
""")
    table = dict(before.measured(["pooling"], "lenet_2x2_s2", package, 1, pinned=False))
    assert {name: {way: result["error"] for way, result in ways.items()} for name, ways in table.items()} == {
        "max lenet_2x2_s2": {"max": 0, "max before": 1},
        "avg lenet_2x2_s2": {"avg": pytest.approx(0, abs=1e-6)},
    }
    assert before.apart({name: [ways] for name, ways in table.items()}) == ["max lenet_2x2_s2"]
    assert "not there before" in before.show("avg lenet_2x2_s2", table["avg lenet_2x2_s2"])
    with pytest.raises(argparse.ArgumentTypeError, match="no package fastconv"):
        cold.checkout(str(package))


def test_before_has_the_rows_of_all_and_tells_ratios():
    names = [name for rows in before.ROWS.values() for name in rows]
    assert len(before.ROWS["learning_hard"]) == 2 * len(before.ROWS["hard"]) == 2 * len(shapes.HARD_LAYERS)
    assert len(set(names)) == len(names)
    assert before.reference(before.ROWS["learning"]["gradient for weight odd_tiny"]).shape == (5, 3, 3, 2)
    assert before.reference(before.ROWS["dimensions"]["avg_pool1d avg_signal"]).shape == (8, 64, 1024)

    def way(seconds):
        return {"seconds": seconds, "least": seconds, "error": 1e-7}

    once = {"plan": way(1), "conv2d": way(4), "plan before": way(2), "conv2d before": way(2)}
    table = {"conv2d a": [once, once | {"plan": way(9)}, once | {"plan": way(0.1)}], "b": [{"max": way(1)}]}
    assert before.ratios(table) == {"conv2d a (plan)": 2, "conv2d a": 0.5}
    text = "\n".join(before.summary(table))
    assert "2 ratios: geometric mean 1.000, worst 0.50 (conv2d a)\n1 below 0.95:\n  x0.50 conv2d a" in text
    assert before.summary({"b": table["b"]}) == ["nothing to compare"]
