"""The lessons' scripts: each runs, says what its lesson says, leaves its picture; and the command that finds them."""

from __future__ import annotations

import runpy
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fastconv
from fastconv.__main__ import main

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(fastconv.__file__).parent
FILES = {file.stem.partition("_")[2]: file for file in sorted((ROOT / "examples").glob("*.py"))}
#: What each must say, and the picture it must leave.
SAYS = {
    "cross_correlation": (["[[19 25]\n [37 43]]", "[12 12 17]", "by hand: True"], None),
    "edges": (["[ 0.  1.  0.  0.  0. -1.  0.]", "all zero? True", "finds it again: True", "[[2. 2. 2. 2. 2. 2.]]"],
              "edges.png"),
    "learn_a_kernel": (["after 20 steps", "after 10 steps", "and [[ 1. -1.]]"], "learn_a_kernel.png"),
    "convolution": (["[[ 5 11]\n [23 29]]", "up-down: True", "[[0. 1.]\n [2. 3.]]", "[[3. 2.]\n [1. 0.]]",
                     "predict the same: True"], None),
    "padding_and_stride": (["8x8       3x5       0x1       3x4       2x2", "(2, 3, 3)", "[[0 8]\n [6 8]]"], None),
    "channels": (["[[ 56  72]\n [104 120]]", "[[ 76 100]\n  [148 172]]", "[[ 96 128]\n  [192 224]]"], None),
    "one_by_one": (["agree to "], "one_by_one.png"),
    "matrix": (["[19. 25. 37. 43.]", "1,048,576 weights", "shifts with it: True"], "matrix.png"),
    "pooling": (["[[4 5]\n [7 8]]", "[[2. 3.]\n [5. 6.]]", "[[10]]", "[[ 6  8]\n  [14 16]]"], "pooling.png"),
    "receptive_field": (["sees (3, 3) pixels", "[1 1 1 0 0]\n [0 0 0 0 0]", "16x16 pixels, neighbours 4"],
                        "receptive_field.png"),
    "lenet": (["1438 digits to learn from, 359", "61,706 numbers"], "lenet.png"),
}


def load(name: str) -> dict[str, Any]:
    """What a script defines."""
    return runpy.run_path(str(FILES[name]))


def test_every_lesson_is_tried() -> None:
    assert list(FILES) == list(SAYS)


@pytest.mark.parametrize("name", [name for name in SAYS if name != "lenet"])
def test_a_lesson(name: str, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert main(["examples", name, "--output", str(tmp_path / "new")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    texts, picture = SAYS[name]
    for text in texts:
        assert text in out
    check_pictures(tmp_path / "new", picture)


def check_pictures(folder: Path, picture: str | None) -> None:
    assert [file.name for file in folder.iterdir()] == ([picture] if picture else [])
    if picture:
        with Image.open(folder / picture) as image:
            assert len(set(image.convert("L").tobytes())) > 20  # something is drawn


def test_lenet_learns(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """A quarter of the lesson's epochs; whole, it reads 97.8% right."""
    right = load("lenet")["main"](tmp_path, epochs=10)
    out, _ = capsys.readouterr()
    for text in SAYS["lenet"][0]:
        assert text in out
    assert right > 0.88
    check_pictures(tmp_path, "lenet.png")


@pytest.mark.parametrize("seed", range(6))
def test_a_kernel_is_learnt_from_any_start(seed: int) -> None:
    learn = load("learn_a_kernel")["learn"]
    for bias, rate, steps, limit in ((True, 0.01, 20, 0.3), (False, 0.03, 10, 0.6)):
        layer, losses = learn(bias, rate, 5 * steps, seed)
        assert losses[steps - 1] < limit
        assert losses[-1] < 0.001
        assert layer.weight.value.ravel() == pytest.approx([1, -1], abs=0.02)


def test_the_command_lists_them(capsys: pytest.CaptureFixture) -> None:
    assert main(["examples"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: len(FILES)]] == list(FILES)
    assert all(len(line) > 40 for line in lines[: len(FILES)])
    inside = PACKAGE / "examples"  # of an installed package
    assert str(inside if inside.is_dir() else ROOT / "examples") in lines[-1]


def test_a_lesson_that_is_not_there_and_one_that_lacks_a_library(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["examples", "no-such"]) == 2
    assert "cross_correlation, edges" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["examples", "pooling", "--output", str(tmp_path)]) == 2
    assert "pip install 'fastconv[examples]'" in capsys.readouterr().err


def test_an_installed_package_has_them() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {file.parent.relative_to(PACKAGE.parent).as_posix() for file in PACKAGE.rglob("__init__.py")}
    assert {name.replace(".", "/") for name in tools["packages"]} == folders | {"fastconv/examples"}
    assert tools["package-dir"]["fastconv.examples"] == "examples"
