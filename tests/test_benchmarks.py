"""The named problems of the benchmarks are problems; asv itself checks the suites (`asv check`)."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest

import fastconv
from benchmarks import algorithms, fit, peers, shapes
from fastconv import choice
from fastconv.cpu.machine import Machine, this_machine
from fastconv.spec import ConvSpec


@pytest.mark.parametrize("name", shapes.LAYERS)
def test_layer(name):
    x, weight, bias = shapes.LAYERS[name].arrays()
    fastconv.plan_conv2d(x.shape, weight, bias, **shapes.LAYERS[name].options)


@pytest.mark.parametrize("name", shapes.POOLINGS)
def test_pooling(name):
    pooling = shapes.POOLINGS[name]
    assert fastconv.max_pool2d(pooling.array()[:1, :1], **pooling.options).size


@pytest.mark.parametrize("name", shapes.FILTERS)
def test_filter(name):
    image, kernel = shapes.FILTERS[name].arrays()
    assert image.dtype == kernel.dtype == shapes.FILTERS[name].dtype
    assert image.shape > kernel.shape


def test_what_asv_measures_is_there():
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
        costs = choice.candidates(problem.spec)
        label, speed = fit.chosen(problem, dict.fromkeys(costs, 2.0), Machine(64, this_machine(1).peak))
        assert (label, speed) == (min(costs, key=costs.__getitem__), 1.0)


def test_fit_measures_whatever_is_in_the_tables():
    for problem in fit.problems(5):
        if problem.name in ("odd_tiny", "max_lenet_2x2_s2", "layer 0"):
            times = fit.measure(problem, 1)
            assert times.keys() <= choice.candidates(problem.spec).keys()
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
