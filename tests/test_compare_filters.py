"""`fastconv.compare` of filters of images: what it claims of them, and of other libraries."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from fastconv import ndimage
from fastconv.tools.filter_peers import PEERS

RNG = np.random.default_rng(0)
GREY, COLOURS = RNG.random((40, 50), np.float32), RNG.integers(0, 256, (30, 40, 3)).astype(np.uint8)


def by_name(comparison: fastconv.Comparison) -> dict:
    return {row.algorithm: row for row in comparison.rows}


@pytest.mark.parametrize(
    ("x", "name", "options"),
    [
        (GREY, "gaussian_filter", {"sigma": 1.5}),
        (GREY, "median_filter", {"size": 5, "mode": "nearest"}),
        (GREY, "laplace", {"mode": "mirror"}),
        (COLOURS, "gaussian_filter", {"sigma": 1, "channel_axis": -1}),
        (COLOURS, "grey_opening", {"size": 5, "channel_axis": -1}),
        (COLOURS, "sobel", {"axis": 0, "channel_axis": -1, "output": np.int16}),
        (COLOURS, "uniform_filter", {"size": (3, 5), "channel_axis": 2}),
        (COLOURS[..., 0], "correlate", {"weights": np.ones((3, 5)) / 15}),
    ],
)
def test_filters_beside_other_libraries(x: np.ndarray, name: str, options: dict) -> None:
    comparison = fastconv.compare(x, op=f"ndimage.{name}", threads=1, repeats=2, **options)
    rows = by_name(comparison)
    assert comparison.problem.startswith(f"ndimage.{name}: {'x'.join(map(str, x.shape))} {x.dtype}")
    assert rows["fastconv"].is_auto
    for label in ("fastconv", "scipy"):
        assert rows[label].reason is None
        assert rows[label].median_ms > 0
        assert rows[label].max_error <= (1e-6 if x.dtype.kind == "f" else 0)
    assert ("fastconv, double" in rows) == (x.dtype.kind == "f" and name != "median_filter")
    for label in ("opencv", "scikit-image"):  # right, or not there
        assert rows[label].median_ms or "no such filter" in rows[label].reason or "not installed" in rows[label].reason
    assert "fastconv" in str(comparison)


def test_the_second_argument_and_peers() -> None:
    weights = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    peers = {"ours again": lambda: ndimage.correlate(GREY, weights), "zeros": lambda: np.zeros_like(GREY)}
    rows = by_name(fastconv.compare(GREY, weights, op="ndimage.correlate", threads=1, repeats=1, peers=peers))
    assert rows["ours again"].median_ms > 0
    assert rows["zeros"].reason.startswith("wrong by 1.0e+00")


def test_what_scipy_lacks_is_compared_with_ours_in_float64() -> None:
    rows = by_name(fastconv.compare(GREY, op="ndimage.variance_filter", size=5, threads=1, repeats=1))
    assert rows["fastconv"].max_error < 1e-6
    assert rows["scipy"].reason == "it has no such filter of such an image"


def test_medians_by_every_algorithm() -> None:
    rows = by_name(fastconv.compare(COLOURS[..., 0], op="ndimage.median_filter", size=5, threads=1, repeats=1))
    assert {rows[label].max_error for label in ("fastconv", "network", "columns", "ranked", "scipy")} == {0}
    rows = by_name(fastconv.compare(GREY, op="ndimage.median_filter", size=5, threads=1, repeats=1))
    assert "'columns' cannot do this" in rows["columns"].reason


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"op must be 'ndimage\.' and one of .*, got 'ndimage\.label'"):
        fastconv.compare(GREY, op="ndimage.label")
    with pytest.raises(ValueError, match=r"op='ndimage\.sobel' is compared on the CPU"):
        fastconv.compare(GREY, op="ndimage.sobel", device="cuda")
    with pytest.raises(ValueError, match="there is nothing to compute"):
        fastconv.compare(GREY[:0], op="ndimage.sobel")
    with pytest.raises(ValueError, match="names of their own, got scipy"):
        fastconv.compare(GREY, op="ndimage.sobel", peers={"scipy": lambda: GREY})
    with pytest.raises(TypeError, match="sigma"):
        fastconv.compare(GREY, op="ndimage.gaussian_filter")


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("name", ["gaussian_filter", "median_filter", "maximum_filter"])
def test_no_peer_computes_something_else(peer: str, name: str) -> None:
    """Arguments that a library has no words for leave it out, rather than be left out."""
    size = {"sigma": 1.0, "order": 0, "radius": None, "truncate": 4.0} if name == "gaussian_filter" else {"size": 3}
    common = {**size, "output": None, "mode": "reflect", "cval": 0.0}
    for more in ({"nan_policy": "omit"}, {"mask": GREY > 0.5}, {"saturate": True}):
        arguments = {**common, **more}
        try:
            assert PEERS[peer](name, GREY, arguments) is None
        except ModuleNotFoundError:
            assert peer != "scipy"
