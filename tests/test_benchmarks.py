"""The named problems of the benchmarks are problems; asv itself checks the suites (`asv check`)."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest

import fastconv
from benchmarks import algorithms, fit, shapes
from fastconv import plan
from fastconv.cpu.machine import Machine
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


def test_fit_measures_whatever_is_in_the_tables():
    for problem in fit.problems(5):
        if problem.name in ("odd_tiny", "max_lenet_2x2_s2", "layer 0"):
            times = fit.measure(problem, 1)
            assert times.keys() <= plan.candidates(problem.spec).keys()
            assert all(0 < seconds < 10 for seconds in times.values())
    assert len({problem.name for problem in fit.problems(5)}) == len(list(fit.problems(5)))
