"""Measured choices: made once, remembered on disk, followed by `auto`, and never in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import threads
from hypothesis import given
from hypothesis import strategies as st
from reference import assert_close, conv2d

import fastconv
from fastconv import wisdom
from fastconv.cpu import planner, plans
from fastconv.planner import remember
from fastconv.specs.conv import ConvSpec, conv_spec

pytestmark = pytest.mark.usefixtures("one_thread", "nothing_known")

SHAPE, WEIGHT = (1, 4, 10, 11), np.ones((8, 4, 3, 3), np.float32)
FLOAT = np.dtype(np.float32)


@pytest.fixture
def nothing_known() -> Iterator[None]:
    wisdom.forget_wisdom()
    yield
    wisdom.forget_wisdom()


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Instead of timing, `naive` wins; the list is what was to be timed."""
    asked: list[set[str]] = []

    def medians(runs: dict[str, Any], *_: Any) -> dict[str, float]:
        asked.append(set(runs))
        return {label: 1e-3 if label == "naive" else 2e-3 for label in runs}

    monkeypatch.setattr(plans, "medians", medians)
    monkeypatch.setattr(plans, "HOPELESS", 1e9)
    return asked


def problem(**options: Any) -> ConvSpec:
    return conv_spec(SHAPE, WEIGHT.shape, [FLOAT], **options)


def forget_this_process() -> None:
    """As if a new process had started."""
    remember._learned.clear()
    remember.generation += 1


def chosen(**options: Any) -> str:
    return fastconv.plan_conv2d(SHAPE, WEIGHT, **options).algorithm


# -- measuring -----------------------------------------------------------------------------------------------


def test_measured_plans_are_right_and_their_algorithm_is_one_of_the_fast_ones() -> None:
    x, weight = np.random.default_rng(0).random((2, 16, 24, 24), np.float32), np.ones((16, 16, 3, 3), np.float32)
    planned = fastconv.plan_conv2d(x.shape, weight, padding=1, measure=True)
    assert_close(planned(x), *conv2d(x, weight, padding=1))
    (record,) = remember.records()
    assert record["algorithm"] == planned.algorithm
    assert record["seconds"][planned.algorithm] == min(record["seconds"].values())
    assert "naive" not in record["seconds"], "not to be tried: it is estimated to be hopeless"
    assert fastconv.plan_conv2d(x.shape, weight, padding=1).algorithm == planned.algorithm


def test_auto_follows_what_was_measured_for_this_very_problem(timed: list) -> None:
    estimated = chosen()
    assert estimated != "naive"
    assert chosen(measure=True) == "naive"
    assert timed == [{name for name in fastconv.algorithms() if name in planner.candidates(problem())}]
    assert chosen() == "naive"
    assert fastconv.plan_conv2d(SHAPE[1:], WEIGHT).algorithm == "naive"  # the same problem, without a batch axis
    assert chosen(padding=1) != "naive"
    assert chosen(activation="relu") != "naive"
    assert chosen(dtype="float64") != "naive"
    assert fastconv.plan_conv2d((2, *SHAPE[1:]), WEIGHT).algorithm != "naive"
    with threads(None):
        if fastconv.get_num_threads() > 1:
            assert chosen() == estimated
    wisdom.forget_wisdom()
    assert chosen() == estimated


def test_a_plain_call_follows_it_too(timed: list, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastconv.cpu.algorithms import conv_naive

    chosen(measure=True)
    ran: list[str] = []
    original = conv_naive.run
    monkeypatch.setattr(conv_naive, "run", lambda *args: ran.append("naive") or original(*args))
    fastconv.conv2d(np.ones(SHAPE, np.float32), WEIGHT)
    assert ran == ["naive"]


def test_what_is_known_is_not_measured_again(timed: list) -> None:
    for _ in range(3):
        chosen(measure=True)
        forget_this_process()
    assert len(timed) == 1


def test_other_processes_follow_it(wisdom_folder: Path) -> None:
    code = f"""
import sys
from pathlib import Path
import numpy as np, fastconv
from fastconv import wisdom
from fastconv.planner import remember
from fastconv.cpu import plans
remember._root = lambda: Path({str(wisdom_folder)!r})
fastconv.set_num_threads(1)
weight = np.ones({WEIGHT.shape}, np.float32)
if sys.argv[1] == "measure":
    remember.learn(fastconv.plan_conv2d({SHAPE}, weight).spec, 1, {{"naive": 1e-9, "direct": 1.0}})
print(fastconv.plan_conv2d({SHAPE}, weight).algorithm)
"""

    def process(argument: str) -> str:
        done = subprocess.run([sys.executable, "-W", "error", "-c", code, argument], text=True, capture_output=True,
                              env={**os.environ, "PYTHONPATH": str(Path(fastconv.__file__).parents[1])})
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert process("use") != "naive"
    assert process("measure") == "naive"
    assert process("use") == "naive"
    assert chosen() == "naive"


def test_nothing_to_compute_is_not_measured(timed: list) -> None:
    fastconv.plan_conv2d((0, *SHAPE[1:]), WEIGHT, measure=True)
    assert not timed
    assert not list(remember.records())


@pytest.mark.parametrize("value", [1, 0, None, "yes", [True]])
def test_measure_is_a_flag(value: object) -> None:
    with pytest.raises(TypeError, match="measure"):
        fastconv.plan_conv2d(SHAPE, WEIGHT, measure=value)


def test_measuring_finds_an_algorithm_and_does_not_take_one() -> None:
    with pytest.raises(ValueError, match="measure=True finds an algorithm"):
        fastconv.plan_conv2d(SHAPE, WEIGHT, algorithm="naive", measure=True)
    with pytest.raises(ValueError, match="device"):
        fastconv.plan_conv2d(SHAPE, WEIGHT, device="gpu", measure=True)


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint8", "bool", "int64"])
def test_any_dtype_can_be_measured(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "MEASURED_CALLS", 2)
    planned = fastconv.plan_conv2d(SHAPE, WEIGHT.astype(dtype), measure=True)
    x = np.ones(SHAPE, dtype)
    assert_close(planned(x), *conv2d(x, WEIGHT.astype(dtype)))


def test_compare_can_remember() -> None:
    x = np.random.default_rng(0).random(SHAPE, np.float32)
    result = fastconv.conv2d(x, WEIGHT)
    comparison = fastconv.compare(x, WEIGHT, repeats=3, threads=1, peers={"instant": lambda: result})
    assert not list(remember.records())
    comparison = fastconv.compare(x, WEIGHT, repeats=3, threads=1, peers={"instant": lambda: result}, remember=True)
    fastest = next(row.algorithm for row in comparison.rows if row.algorithm != "instant")  # which is no algorithm
    (record,) = remember.records()
    assert (record["algorithm"], record["threads"]) == (fastest, 1)
    assert chosen() == fastest


# -- remembering ---------------------------------------------------------------------------------------------


def learn(winner: str = "naive", count: int = 1, **options: Any) -> ConvSpec:
    spec = problem(**options)
    remember.learn(spec, count, {winner: 1e-6, "im2col": 2e-6})
    return spec


def test_export_forget_import() -> None:
    spec, other = learn(), learn("direct", padding=1)
    learn("im2col", count=2)
    text = wisdom.export_wisdom()
    assert json.loads(text)["machine"] == remember.machine()
    assert wisdom.forget_wisdom() == 3
    assert remember.recall(spec, 1) is None
    assert wisdom.export_wisdom() != text
    assert wisdom.import_wisdom(text) == 3
    forget_this_process()  # so that it comes from the disk
    assert (remember.recall(spec, 1), remember.recall(spec, 2), remember.recall(spec, 3)) == ("naive", "im2col", None)
    assert remember.recall(other, 1) == "direct"
    assert wisdom.export_wisdom() == text


def test_what_is_imported_replaces_what_was_known() -> None:
    spec = learn("naive")
    text = wisdom.export_wisdom()
    learn("direct")
    assert remember.recall(spec, 1) == "direct"
    wisdom.import_wisdom(text)
    assert remember.recall(spec, 1) == "naive"


def test_wisdom_of_another_machine_is_refused() -> None:
    learn()
    told = json.loads(wisdom.export_wisdom())
    for name in told["machine"]:
        other = told | {"machine": told["machine"] | {name: "other"}}
        with pytest.raises(ValueError, match="another machine or version"):
            wisdom.import_wisdom(json.dumps(other))


@pytest.mark.parametrize("text", [None, 5, b"{}", {}, Path("wisdom.json")])
def test_only_text_is_imported(text: object) -> None:
    with pytest.raises(TypeError, match="text must be a string"):
        wisdom.import_wisdom(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
def test_damaged_wisdom_is_refused_whole(data: st.DataObject) -> None:
    wisdom.forget_wisdom()
    learn()
    learn(padding=1)
    told = json.loads(wisdom.export_wisdom())
    wisdom.forget_wisdom()
    record = told["problems"][1]
    where = data.draw(st.sampled_from(["all", "format", "problems", "record", *record, "winner's seconds"]))
    junk = data.draw(json_values)
    if where == "all":
        told = junk
    elif where in told:
        told[where] = junk
    elif where == "record":
        told["problems"][1] = junk
    elif where == "winner's seconds":
        record["seconds"][record["algorithm"]] = junk
    else:
        record[where] = junk
    try:
        wisdom.import_wisdom(json.dumps(told))
    except ValueError as error:
        assert "not wisdom" in str(error)  # noqa: PT017 # or it happens to be sound
        assert not list(remember.records())
    else:
        json.loads(wisdom.export_wisdom())


@given(data=st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_damaged_files_count_as_none(data: bytes) -> None:
    wisdom.forget_wisdom()
    spec = learn("im2col")
    (file,) = remember._folder().glob("*.json")
    file.write_bytes(data)
    forget_this_process()
    assert remember.recall(spec, 1) is None
    assert not list(remember.records())
    assert chosen() == min(planner.candidates(spec), key=planner.candidates(spec).__getitem__)


def test_a_file_under_the_name_of_another_problem_is_not_believed() -> None:
    spec, other = learn("im2col"), problem(padding=1)
    remember._file(*remember._key(spec, 1)).rename(remember._file(*remember._key(other, 1)))
    forget_this_process()
    assert remember.recall(spec, 1) is None
    assert remember.recall(other, 1) is None


def test_an_algorithm_that_cannot_or_is_not_there_is_not_taken() -> None:
    estimated = chosen()
    for name in ("pointwise", "no-such", "", "auto"):
        learn(name)
        forget_this_process()
        assert chosen() == estimated


def test_where_nothing_can_be_written_it_lasts_as_long_as_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    monkeypatch.setattr(remember, "_root", lambda: file / "wisdom")
    spec = learn("im2col")
    assert remember.recall(spec, 1) == "im2col"
    assert chosen() == "im2col"
    assert len(json.loads(wisdom.export_wisdom())["problems"]) == 1
    assert wisdom.forget_wisdom() == 1
    assert remember.recall(spec, 1) is None
    assert file.read_text() == "not a folder"


def test_forgetting_takes_what_others_left_too(wisdom_folder: Path) -> None:
    learn()
    other = wisdom_folder / "another machine"
    other.mkdir()
    (other / "0.json").write_text("{}")
    (other / "half.tmp").write_text("")
    assert wisdom.forget_wisdom() == 2
    assert not list(wisdom_folder.iterdir())


def test_many_threads_learn_and_plan_at_once() -> None:
    spec = problem()

    def work(number: int) -> str:
        if number % 3 == 0:
            learn("im2col")
        elif number % 3 == 1:
            wisdom.export_wisdom()
        elif number % 30 == 2:
            wisdom.forget_wisdom()
        return chosen()

    estimated = chosen()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(300))) <= {"im2col", estimated}
    learn("naive")
    assert chosen() == remember.recall(spec, 1) == "naive"


def test_a_forked_child_learns_for_itself_and_its_parent_sees_the_file() -> None:
    child = os.fork()
    if child == 0:
        learn("im2col", padding=(2, 3))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert remember.recall(problem(padding=(2, 3)), 1) == "im2col"


def test_problems_have_names_of_their_own() -> None:
    specs = [
        problem(**options)
        for options in (
            {}, {"padding": 1}, {"padding": ((1, 0), (1, 1))}, {"padding": ((1, 1), (1, 0))}, {"stride": (2, 1)},
            {"stride": 2}, {"dilation": (1, 2)}, {"dilation": 2}, {"activation": "relu"},
            {"padding": ((1, 1), (2, 2))}, {"padding": ((1, 2), (1, 2))},
        )
    ]
    specs += [
        conv_spec(SHAPE, (8, 4, 3, 3), [np.dtype(np.float64)]),
        conv_spec(SHAPE, (8, 2, 3, 3), [FLOAT], groups=2),
        conv_spec((4, 1, 10, 11), (8, 1, 3, 3), [FLOAT]),
        conv_spec((1, 4, 11, 10), (8, 4, 3, 3), [FLOAT]),
    ]
    assert len({remember._key(spec, 1) for spec in specs}) == len(specs) == len(set(specs))
