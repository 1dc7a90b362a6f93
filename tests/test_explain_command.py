"""The command ``explain``: what it prints, the page that it writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pages import data_of
from PIL import Image

from fastconv.__main__ import main

pytestmark = pytest.mark.usefixtures("one_thread")


def run(capsys: pytest.CaptureFixture, *argv: str) -> tuple[int, str, str]:
    code = main(["explain", *argv])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ("--input 3x3 --kernel 2x2", "output[0, 0] = 0*0 + 1*1 + 3*2 + 4*3 = 19\n"),
        ("--input 3x3 --kernel 2x2 --op corr2d --at 1,1", "output[1, 1] = 4*0 + 5*1 + 7*2 + 8*3 = 43\n"),
        ("--input 2x3x3 --kernel 2x2 --channels 3 --at 2,1,1", "= 91 + 133 = 224\n"),
        ("--input 3x3 --kernel 2x2 --padding 1 --stride 3,2", "output 2x2, stride (3, 2), padding 1\n"),
        ("--input 4x4x4 --kernel 2x2 --groups 2 --channels 4", "2 groups"),
        ("--input 4x4 --kernel 3 --op max_pool2d --padding 1 --stride 2", "= max(0, 1, 4, 5) = 5\n"),
        ("--input 8 --kernel 1,0,-1 --op conv1d --at 2", "output[2] = 2*1 + 3*0 + 4*(-1) = -2\n"),
        ("--input 2x2 --kernel 0,1;2,3.5 --op conv_transpose2d --stride 2 --at 3,3", "output[3, 3] = 3*3.5 = 10.5\n"),
        ("--input 2x2x2 --kernel 2x2 --op conv_transpose2d --channels 3", "output 3 channels of 3x3"),
        ("--layers 2 2", "2: kernel 2x2   3x3   3x3   1x1\n"),
        ("--layers 5,1,2 2,2 5 2,2 --size 28", "5x5  16x16   4x4\n"),
    ],
)
def test_command(capsys: pytest.CaptureFixture, tmp_path: Path, argv: str, told: str) -> None:
    file = tmp_path / "page.html"
    code, out, err = run(capsys, *argv.split(), "--output", str(file))
    assert (code, err) == (0, "")
    assert told in out
    assert out.endswith(f"The page: {file}\n")
    assert data_of(file.read_text(encoding="utf-8"))


def test_command_on_a_photograph(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    photo, page = tmp_path / "photo.png", tmp_path / "page.html"
    Image.fromarray(np.repeat(np.repeat(np.arange(60, dtype=np.uint8)[None, :, None], 40, 0), 3, 2)).save(photo)
    code, out, _ = run(capsys, "--image", str(photo), "--output", str(page))
    assert code == 0
    assert "input 16x24, kernel 3x3, output 14x22" in out
    cut = "--crop", "1,2", "--size", "4", "--kernel", "1,-1"
    code, out, _ = run(capsys, "--image", str(photo), *cut, "--output", str(page))
    assert code == 0
    assert "output[0, 0] = 2*1 + 3*(-1) = -1" in out
    data = data_of(page.read_text(encoding="utf-8"))
    assert data["input"]["texts"] == [["2", "3", "4", "5"] * 4]
    code, out, _ = run(capsys, "--image", str(photo), "--op", "avg_pool2d", "--output", str(page))
    assert (code, "window 3x3, output 5x8" in out) == (0, True)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ("", "one of the arguments --input --image --layers is required"),
        ("--input 3x3", "--input needs a --kernel"),
        ("--input 3 --kernel 2", "--input of conv2d must be CxHxW or HxW, got 3"),
        ("--input 3x3 --kernel 2x2x2", "--kernel of conv2d must have 2 axes"),
        ("--input 0x3 --kernel 2x2", "expected sizes of at least 1"),
        ("--input ax3 --kernel 2x2", "expected whole numbers"),
        ("--input 3x3 --kernel 1,a", "expected equally long rows"),
        ("--input 3x3 --kernel 1,2;3", "expected equally long rows"),
        ("--input 3x3 --kernel 1,2 --op max_pool2d", "the --kernel of max_pool2d is its size"),
        ("--input 3x3 --kernel 2x2 --size 3", "--size does not go with --input"),
        ("--input 3x3 --kernel 2x2 --op nothing", "op must be one of"),
        ("--input 3x3 --kernel 2x2 --at 5,5", "index[0] must be below 2"),
        ("--input 99999999x99999999 --kernel 2x2", "--input may have 10,000 elements"),
        ("--input 3x3 --kernel 99999999x99999999", "--kernel may have 65,536 elements"),
        ("--input 3x3 --kernel 2x2 --channels 99999999", "--kernel may have 65,536 elements"),
        ("--layers 2 2 --kernel 3x3", "--kernel does not go with --layers"),
        ("--image no-such-file.png", "No such file"),
    ],
)
def test_command_refuses(capsys: pytest.CaptureFixture, tmp_path: Path, argv: str, told: str) -> None:
    code, out, err = run(capsys, *argv.split(), "--output", str(tmp_path / "page.html"))
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
