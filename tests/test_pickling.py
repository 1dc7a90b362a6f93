"""What is kept can be copied and pickled: plans, problems, layers and what was compared."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import TRANSPOSED, example, values

import fastconv
from fastconv import nn
from fastconv.cpu.algorithms import conv_direct
from fastconv.specs.pool import pool_spec

pytestmark = pytest.mark.usefixtures("one_thread")

WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def check(plan: Any, x: np.ndarray, again: Any) -> None:
    """A copy is the plan, bit by bit."""
    assert repr(again) == repr(plan)
    assert (again.spec, again.problem, hash(again.problem)) == (plan.spec, plan.problem, hash(plan.problem))
    np.testing.assert_array_equal(again(x), plan(x), strict=True)


@way
@pytest.mark.parametrize("algorithm", fastconv.algorithms("conv2d"))
def test_plans_of_every_algorithm(algorithm: str, way: Callable[[Any], Any]) -> None:
    for dtype in ("float32", "float16", "uint8"):
        if case := example(algorithm, dtype):
            x, weight, bias = case.arrays(dtype)
            for offset in (bias, None):
                plan = fastconv.plan_conv2d(x.shape, weight, offset, **case.options, algorithm=algorithm)
                before = plan(x)
                weight += weight.dtype.type(1)  # after which the plan is what it was, and so is its copy
                again = way(plan)
                assert again is not plan
                np.testing.assert_array_equal(again(x), before)
                check(plan, x, again)


@way
@pytest.mark.parametrize("problem", TRANSPOSED)
def test_plans_of_transposed_convolutions(problem: str, way: Callable[[Any], Any]) -> None:
    shape, kernels, options = TRANSPOSED[problem]
    make = getattr(fastconv, f"plan_conv_transpose{len(shape) - 2}d")
    plan = make(shape, values(kernels, "float32"), **options)
    check(plan, values(shape, "float32", 1), way(plan))


@way
def test_plans_of_signals_and_volumes(way: Callable[[Any], Any]) -> None:
    for make, shape, kernels in (
        (fastconv.plan_conv1d, (1, 2, 20), (3, 2, 3)),
        (fastconv.plan_conv3d, (2, 4, 5, 6), (3, 2, 2, 2, 2)),
        (fastconv.plan_conv3d, (1, 2, 4, 5, 6), (3, 2, 2, 2, 2)),
    ):
        plan = make(shape, values(kernels, "float64", 1), padding=1, activation="relu")
        check(plan, values(shape, "float64"), way(plan))


def test_a_plan_of_special_weights_keeps_its_algorithm() -> None:
    x, weight = values((1, 1, 300, 300), "float32"), np.outer(np.arange(1, 10), np.arange(2, 11)).astype(np.float32)
    plan = fastconv.plan_conv2d(x.shape, weight[None, None])
    assert plan.algorithm == "separable"
    check(plan, x, WAYS["pickle"](plan))


def test_where_an_algorithm_cannot_another_does(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = values((1, 8, 9, 9), "float32"), values((8, 8, 3, 3), "float32", 1)
    plan = fastconv.plan_conv2d(x.shape, weight, algorithm="direct")
    expected, sent = plan(x), pickle.dumps(plan)
    monkeypatch.setattr(conv_direct, "supports", lambda spec: "the processor is another")
    fastconv.cpu.planner._named.cache_clear()
    fastconv.cpu.planner._estimates.cache_clear()
    try:
        again = pickle.loads(sent)
        assert again.algorithm != "direct"
        np.testing.assert_allclose(again(x), expected, rtol=1e-4, atol=1e-4)
    finally:
        fastconv.cpu.planner._estimates.cache_clear()


def test_plans_and_problems_in_another_process(tmp_path: Path) -> None:
    """Hashes of strings differ there: a problem that has one with it would not be found among its like."""
    x, weight = values((1, 4, 9, 8), "float32"), values((6, 4, 3, 3), "float32", 1)
    plans = [fastconv.plan_conv2d(x.shape, weight, values((6,), "float32", 2), padding=1, activation="relu"),
             fastconv.plan_conv_transpose2d(x.shape, weight[:4], stride=2)]  # fmt: skip
    pooling = pool_spec("max", x.shape, x.dtype, 2)
    hashes = [hash(plan.problem) for plan in plans] + [hash(pooling)]
    sent = tmp_path / "plans"
    sent.write_bytes(pickle.dumps(([(plan, x, plan(x)) for plan in plans], pooling, hashes)))
    code = """
import pickle, sys
import numpy as np
with open(sys.argv[1], "rb") as file:
    plans, pooling, hashes = pickle.load(file)
import fastconv
from fastconv.specs.pool import pool_spec
for plan, x, expected in plans:
    np.testing.assert_array_equal(plan(x), expected)
problems = [plan.problem for plan, _, _ in plans] + [pooling]
weight = np.ones((6, 4, 3, 3), np.float32)
made = [fastconv.plan_conv2d(x.shape, weight, padding=1, activation="relu").problem,
        fastconv.plan_conv_transpose2d(x.shape, weight[:4], stride=2).problem,
        pool_spec("max", x.shape, x.dtype, 2)]
assert problems == made
assert list(map(hash, problems)) == list(map(hash, made)) != hashes
"""
    environment = os.environ | {"PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"}
    environment["PYTHONPATH"] = str(Path(fastconv.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code, str(sent)], check=True, env=environment)


@way
def test_models_and_what_teaches_them(way: Callable[[Any], Any]) -> None:
    """A copy learns on as the model does, and by itself."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, rng=0), nn.ReLU(), nn.MaxPool2d(2), nn.ConvTranspose2d(4, 2, 2, 2, rng=1),
        nn.Tanh(), nn.AvgPool2d(2), nn.Sigmoid(), nn.Flatten(), nn.Linear(2 * 16, 3, rng=2),
    )  # fmt: skip
    x, labels = values((5, 1, 8, 8), "float32"), np.arange(5) % 3

    def learn(model: Any, loss: Any, optimizer: Any) -> float:
        value = loss.forward(model.forward(x), labels)
        model.backward(loss.backward())
        optimizer.step()
        return value

    for optimizer in (nn.SGD(model.parameters(), lr=0.1, momentum=0.9), nn.Adam(model.parameters(), lr=0.01)):
        kept = model, nn.CrossEntropyLoss(), optimizer
        learn(*kept)
        if way is copy.copy:  # a layer's copy shares its parameters, as that of a list does its elements
            np.testing.assert_array_equal(way(model).forward(x), model.forward(x))
            continue
        again = way(kept)
        first, second = ([learn(*some) for _ in range(3)] for some in (kept, again))
        assert first == second
        assert first[0] > first[2]
    error = nn.MSELoss()
    error.forward(x, x + 1)
    np.testing.assert_array_equal(way(error).backward(), error.backward())


@way
def test_what_was_found_out(way: Callable[[Any], Any]) -> None:
    compared = fastconv.compare(np.ones((1, 1, 6, 6), np.float32), np.ones((1, 1, 2, 2), np.float32), repeats=1)
    for found in (compared, fastconv.receptive_field([3, 2]), fastconv.cache.info()):
        assert way(found) == found
