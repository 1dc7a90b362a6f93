"""The command line: every command, its output and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import fastconv
from fastconv.__main__ import main
from fastconv.cuda.system.kernels import missing

SMALL = ["--input", "1,4,12,12", "--weight", "4,4,3,3"]


def run(capsys, *argv: str) -> str:
    """The output of a command that must go well and keep quiet on stderr."""
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refuse(capsys, *argv: str) -> str:
    """The line on stderr of a command that must not."""
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastconv")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("command", [[], ["demo"], ["compare"], ["explain"], ["info"], ["receptive-field"], ["wisdom"],
                                     ["cache"], ["warmup"]])
def test_help(capsys, command):
    assert run(capsys, *command, "--help").startswith("usage: fastconv")


def test_version(capsys):
    assert run(capsys, "--version") == f"fastconv {fastconv.__version__}\n"


def test_as_a_module():
    command = [sys.executable, "-m", "fastconv"]
    done = subprocess.run([*command, "receptive-field", "2", "2"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "One output sees 3x3 pixels" in done.stdout
    done = subprocess.run([*command, "no-such"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")


def test_compare(capsys, tmp_path):
    out = run(capsys, "compare", *SMALL, "--plot", str(tmp_path / "rates.svg"))
    assert "1x4x12x12 float32, weight 4x4x3x3" in out
    assert "pointwise: the kernel is 3x3, not 1x1" in out
    assert "(auto)" in out
    assert (tmp_path / "rates.svg").read_text().lstrip().startswith("<?xml")


def test_compare_without_rich(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    assert "\nnaive " in run(capsys, "compare", *SMALL)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--padding", "same"], "padding 1"),
        (["--padding", "1,2"], "padding ((1, 1), (2, 2))"),
        (["--padding", "1,0,2,0"], "padding ((1, 0), (2, 0))"),
        (["--stride", "2,1", "--dilation", "2", "--dtype", "uint8", "--threads", "1"], "stride (2, 1), dilation 2"),
        (["--activation", "relu"], "activation relu"),
    ],
)
def test_compare_options_and_json(capsys, options, told):
    found = json.loads(run(capsys, "compare", *SMALL, "--json", *options))
    assert found["problem"].endswith(told)
    assert sum(row["is_auto"] for row in found["rows"]) == 1
    assert all(row["max_error"] < 1e-5 for row in found["rows"] if row["reason"] is None)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "COMMAND"),
        (["no-such"], "no-such"),
        (["compare"], "--input"),
        (["compare", "--input", "1,x", "--weight", "1,1,1,1"], "expected whole numbers with ',' between, got '1,x'"),
        (["compare", *SMALL, "--groups", "3"], "groups must divide the channels"),
        (["compare", *SMALL, "--padding", "full"], "padding must be"),
        (["compare", *SMALL, "--stride", "0"], "stride must be"),
        (["compare", *SMALL, "--stride", "1,2,3"], "stride must be"),
        (["compare", *SMALL, "--dtype", "float31"], "expected a dtype like float32, got 'float31'"),
        (["compare", *SMALL, "--dtype", "complex64"], "supported are"),
        (["compare", *SMALL, "--threads", "1000000"], "threads"),
        (["compare", "--input", "1,1,9999999,9999999", "--weight", "1,1,1,1"], "GiB"),
        (["compare", *SMALL, "--activation", "tanh"], "activation must be"),
        (["demo", "--threads", "0"], "threads"),
        (["wisdom", "--import", "no-such.json"], "no-such.json"),
        (["wisdom", "--import", __file__], "not wisdom that was exported"),
        (["wisdom", "--forget", "--export", "-"], "not allowed with"),
        (["warmup", "--dtype", "complex64"], "supported are"),
        (["demo", "--image", "no-such.png"], "no-such.png"),
        (["receptive-field", "3,,1"], "expected whole numbers with 'x' between, got ''"),
        (["receptive-field", "3,2,same"], "give the padding in numbers"),
        (["receptive-field", "3,1,0,1,1"], "layers[0] must be"),
    ],
)
def test_refusals(capsys, argv, told):
    assert told in refuse(capsys, *argv)


def test_a_missing_extra_is_a_refusal(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    assert "pip install 'fastconv[cli]'" in refuse(capsys, "demo")


def test_receptive_field(capsys):
    lines = run(capsys, "receptive-field", "3x5", "3,2", "5,1,2").splitlines()
    assert [line.split()[-4:] for line in lines[1:4]] == [
        ["3x5", "1x1", "(0,", "0)"],
        ["5x7", "2x2", "(0,", "0)"],
        ["13x15", "2x2", "(-4,", "-4)"],
    ]
    assert "3: kernel 5, stride 1, padding 2" in lines[3]
    assert "One output sees 13x15 pixels" in lines[5]


def test_info(capsys):
    told = dict(line.split(maxsplit=1) for line in run(capsys, "info").splitlines())
    assert told["fastconv"] == fastconv.__version__
    assert missing() is None or told["CUDA"] == missing()
    assert "threading layer" in told["threads"]
    assert {"processor", "SIMD", "cores", "cache", "wisdom", "multiply-adds", "memory"} <= set(told)


def test_demo(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules["fastconv.tools.compare"], "SECONDS_EACH", 0.05)
    sheet = tmp_path / "sheet.png"
    out = run(capsys, "demo", "--output", str(sheet))
    assert "scipy correlate2d" in out
    assert out.count("(auto)") == 2
    assert str(sheet) in out.replace("\n", "")
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] > 1000
    # Twelve panels, none of them blank.
    for row in np.array_split(pixels, 4):
        for panel in np.array_split(row, 3, axis=1):
            assert panel.std() > 20


def test_demo_of_a_photograph_of_ones_own(tmp_path):
    from fastconv.tools import demo

    Image.fromarray(np.full((40, 1200), 200, np.uint8)).save(tmp_path / "grey.png")
    photo = demo.load(str(tmp_path / "grey.png"))
    assert photo.shape == (30, 900, 3)
    assert photo.dtype == np.float32
    shown = demo.panels(photo)
    assert len({panel.title for panel in shown}) == 12
    for panel in shown:
        assert 0 <= panel.image.min() <= panel.image.max() <= 1


def test_wisdom(capsys, tmp_path):
    run(capsys, "wisdom", "--forget")
    assert run(capsys, "wisdom") == "Nothing is remembered; compare --remember measures\n"
    found = json.loads(run(capsys, "compare", *SMALL, "--threads", "1", "--json", "--remember"))
    fastest = found["rows"][0]["algorithm"]
    header, line = run(capsys, "wisdom").splitlines()
    assert header.split() == ["problem", "threads", "fastest", "microseconds"]
    assert line.split()[-3:-1] == ["1", fastest]
    file = tmp_path / "wisdom.json"
    assert run(capsys, "wisdom", "--export", str(file)) == ""
    assert run(capsys, "wisdom", "--export", "-") == file.read_text()
    assert run(capsys, "wisdom", "--forget") == "1 problems forgotten\n"
    assert run(capsys, "wisdom", "--import", str(file)) == "1 problems remembered\n"
    again = json.loads(run(capsys, "compare", *SMALL, "--threads", "1", "--json"))
    assert [row["algorithm"] for row in again["rows"] if row["is_auto"]] == [fastest]
    run(capsys, "wisdom", "--forget")
