"""The named problems of the benchmarks are problems; asv itself checks the suites (`asv check`)."""

from __future__ import annotations

import pytest

import fastconv
from benchmarks import algorithms, shapes


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
