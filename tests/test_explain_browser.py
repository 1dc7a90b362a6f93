"""Explanations in a browser: stepping gives the sums that fastconv computes, by button, key, drag and play; pages fit a
phone, can be read in light and dark, are named for screen readers, and load nothing.

They need Chromium and nothing else: with Debian's package ``chromium`` installed,
``python -m pytest tests/test_explain_browser.py``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Chromium, missing
from numpy.testing import assert_allclose

from fastconv import explain, explain_stack
from fastconv.tools.explain.numerals import MINUS, TIMES, numeral

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.skipif(missing() is not None, reason=str(missing()))]

RNG = np.random.default_rng(0)
SQUARE, CORNER = np.arange(9).reshape(3, 3), np.array([[0, 1], [2, 3]])
#: The pages that are stepped through, and all that are laid out.
STEPPED = {
    "conv2d": ((SQUARE, CORNER), {}),
    "channels": ((RNG.integers(-9, 10, (3, 5, 5)), RNG.integers(-3, 4, (2, 3, 3, 3)), [1, -2]),
                 {"padding": 1, "stride": 2}),
    "groups": ((RNG.integers(-9, 10, (4, 4, 3)), RNG.integers(-3, 4, (4, 2, 2, 2))), {"groups": 2, "dilation": (2, 1)}),
    "signal": ((np.arange(8), [1, 0, -1]), {"op": "conv1d"}),
    "transposed": ((np.arange(1, 5).reshape(2, 2), np.arange(1, 10).reshape(3, 3)),
                   {"op": "conv_transpose2d", "stride": 2, "padding": 1, "output_padding": 1}),
    "max": ((RNG.integers(-9, 10, (2, 5, 5)),), {"op": "max_pool2d", "kernel_size": 3, "stride": 2, "padding": 1}),
    "avg": ((np.arange(16).reshape(4, 4),), {"op": "avg_pool2d", "kernel_size": 2}),
    "pointwise": ((RNG.standard_normal((3, 3, 3)), RNG.standard_normal((2, 3, 1, 1))), {}),
}  # fmt: skip
PAGES = {name: explain(*operands, **options) for name, (operands, options) in STEPPED.items()} | {
    "photo": explain(RNG.integers(0, 256, (24, 24)), [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "colours": explain(RNG.integers(0, 256, (3, 16, 16)), RNG.integers(-2, 3, (2, 3, 3, 3)), padding="same"),
    "floats": explain(RNG.standard_normal((10, 10)), RNG.standard_normal((3, 3)), padding=1),
    "stack": explain_stack([(3, 2, 1), 2, (3, 1, 0, 2)], (16, 14)),
}
CHOSEN = "document.querySelector('.chosen')"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    running = Chromium()
    yield running
    running.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, made in PAGES.items():
        made.save(folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in PAGES}


def lines(browser: Chromium) -> list[str]:
    """The lines of the sum that a reader sees, with Python's signs."""
    shown = browser.evaluate("[...document.querySelectorAll('.sum p')].map((line) => line.textContent)")
    return [line.replace(MINUS, "-").replace(TIMES, "*").replace(" (bias)", "") for line in shown]


def result(browser: Chromium) -> str:
    """What the sum ends with; the output that is marked in the grid must be the same."""
    shown, marked = browser.evaluate("[document.querySelector('.sum strong').textContent, "
                                     f"{CHOSEN}.querySelector('span').textContent]")  # fmt: skip
    assert shown == marked
    return shown.replace(MINUS, "-")


def check_sum(browser: Chromium, made: Any, index: tuple[int, ...]) -> None:
    """What is written out is the output that fastconv computed, and adds up to it."""
    expected, shown = made.output[index], lines(browser)
    assert result(browser) == numeral(expected.item())
    named = next(line for line in shown if line.startswith("output"))
    name, _, written = named.partition(" = ")
    assert name == f"output[{', '.join(map(str, index))}]"
    sides = [written, *(line.lstrip("= ") for line in shown if line.startswith("= "))]
    for one in itertools.chain.from_iterable(side.split(" = ") for side in sides):
        if "no element" not in one:  # each side of each equals sign has the value of the output
            assert_allclose(eval(one, {"max": max}), expected, atol=0.02)
    for line in shown:
        if line.startswith("channel"):
            left, right = re.sub(r"^channel \d+: ", "", line).split(" = ")
            assert_allclose(eval(left), float(right), atol=0.02)


@pytest.mark.parametrize("name", STEPPED)
def test_stepping_gives_the_sums_that_fastconv_computes(browser: Chromium, files: dict[str, Path], name: str) -> None:
    made = PAGES[name]
    browser.open(files[name])
    for index in np.ndindex(made.output.shape):
        check_sum(browser, made, index)
        browser.press("ArrowRight")
    check_sum(browser, made, (0,) * made.output.ndim)  # from the start again
    assert not browser.problems
    assert browser.requests == [files[name].resolve().as_uri()]


def test_the_lesson(browser: Chromium, files: dict[str, Path]) -> None:
    browser.open(files["conv2d"])
    assert lines(browser) == ["output[0, 0] = 0*0 + 1*1 + 3*2 + 4*3", "= 0 + 1 + 6 + 12", "= 19"]
    marked = browser.evaluate("[...document.querySelectorAll('.moves td.seen')].map((cell) => cell.textContent)")
    assert [one.replace(TIMES, "*") for one in marked] == ["0*0", "1*1", "3*2", "4*3"]


def test_the_window_is_drawn_with_its_padding(browser: Chromium, files: dict[str, Path]) -> None:
    """The box lies around all that the window covers, and dots mark where windows begin."""
    browser.open(files["max"])
    table = "document.querySelector('.moves')"
    begins = browser.evaluate(f"[...{table}.querySelectorAll('tbody td')]"
                              ".flatMap((one, k) => one.matches('.begins') ? k : [])")  # fmt: skip
    assert begins == [row * 7 + column for row in (0, 2, 4) for column in (0, 2, 4)]
    for first, last in zip(begins, (row * 7 + column for row in (2, 4, 6) for column in (2, 4, 6)), strict=True):
        corners = browser.evaluate(
            f"[[{table}.querySelectorAll('tbody td')[{first}], 'left', 'top'],"
            f" [{table}.querySelectorAll('tbody td')[{last}], 'right', 'bottom']].map(([one, x, y]) => {{"
            " const a = one.getBoundingClientRect(), b = document.querySelector('.frame-box').getBoundingClientRect();"
            " return Math.max(Math.abs(a[x] - b[x]), Math.abs(a[y] - b[y])); })")
        assert max(corners) <= 3
        browser.press("ArrowRight")


def test_keys_in_the_output(browser: Chromium, files: dict[str, Path]) -> None:
    made = PAGES["channels"]
    browser.open(files["channels"])
    browser.evaluate(f"{CHOSEN}.focus()")
    for way, *index in (("Down", 1, 0), ("Right", 1, 1), ("Up", 0, 1), ("Up", 0, 1), ("Left", 0, 0), ("Left", 0, 0),
                        ("End", 2, 2), ("Right", 2, 2), ("Home", 0, 0)):  # fmt: skip
        browser.press(way if way in ("Home", "End") else f"Arrow{way}")
        check_sum(browser, made, (0, *index))
        assert browser.evaluate(f"document.activeElement === {CHOSEN}")
        assert browser.evaluate(f"{CHOSEN}.getAttribute('aria-selected')") == "true"


def test_buttons_slider_and_tab(browser: Chromium, files: dict[str, Path]) -> None:
    made = PAGES["conv2d"]
    browser.open(files["conv2d"])
    reached = []
    now = "document.activeElement"
    for _ in range(7):
        browser.press("Tab")
        reached.append(browser.evaluate(f"{now}.getAttribute('aria-label') ?? {now}.innerText"))
    assert [one.strip() for one in reached] == ["Back", "Play", "Next", "Output", "19", "As a matrix product: im2col",
                                                "As one sparse matrix"]  # fmt: skip
    browser.click("document.querySelector('[aria-label=Next]')")
    check_sum(browser, made, (0, 1))
    browser.click("document.querySelector('[aria-label=Back]')")
    check_sum(browser, made, (0, 0))
    browser.evaluate("document.querySelector('input').focus()")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    check_sum(browser, made, (1, 0))
    assert browser.evaluate("document.querySelector('input').getAttribute('aria-valuetext')") == "output[1, 0]"
    assert browser.evaluate("document.querySelector('.count').textContent") == "3 of 4"


def test_dragging_and_tapping(browser: Chromium, files: dict[str, Path]) -> None:
    made = PAGES["channels"]
    browser.open(files["channels"])
    cell = "document.querySelectorAll('.moves')[1].querySelectorAll('tbody td')[{}]"
    browser.mouse("mousePressed", cell.format(8))
    check_sum(browser, made, (0, 0, 0))
    for number, index in ((12, (0, 0, 2)), (24, (0, 1, 1)), (48, (0, 2, 2))):
        browser.mouse("mouseMoved", cell.format(number))
        check_sum(browser, made, index)
    browser.mouse("mouseReleased", cell.format(48))
    browser.mouse("mouseMoved", cell.format(8))  # let go, the window stays
    check_sum(browser, made, (0, 2, 2))
    browser.click("document.querySelectorAll('[role=grid]')[1].querySelectorAll('tbody td')[3]")
    check_sum(browser, made, (1, 1, 0))


def test_a_finger_drags_the_window_and_scrolls_beside_it(browser: Chromium, files: dict[str, Path]) -> None:
    made = PAGES["channels"]
    browser.open(files["channels"], 360, 740)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
    cell = "document.querySelectorAll('.moves')[0].querySelectorAll('tbody td')[{}]"
    for start, stop, index, scrolls in ((8, 24, (0, 1, 1), False), (6, 0, (0, 1, 1), True)):
        x, y = browser.middle(cell.format(start))
        browser.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        goal = browser.middle(cell.format(stop)) if not scrolls else (x, y - 150)
        for part in (0.25, 0.5, 0.75, 1):
            point = {"x": x + part * (goal[0] - x), "y": y + part * (goal[1] - y)}
            browser.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=[point])
        browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        check_sum(browser, made, index)
        browser.wait_for(f"(window.scrollY > 50) === {str(scrolls).lower()}")
    browser.call("Emulation.setTouchEmulationEnabled", enabled=False)


def test_play(browser: Chromium, files: dict[str, Path]) -> None:
    browser.open(files["avg"])
    browser.click("document.querySelector('.play')")
    assert browser.evaluate("document.querySelector('.play').getAttribute('aria-label')") == "Pause"
    browser.wait_for("document.querySelector('.count').textContent === '2 of 4'")
    assert browser.evaluate("document.querySelector('.sum').getAttribute('aria-live')") == "off"  # no chatter
    browser.press("ArrowRight")
    assert browser.evaluate("document.querySelector('.count').textContent") == "3 of 4"
    assert browser.evaluate("document.querySelector('.sum').getAttribute('aria-live')") == "polite"
    assert browser.evaluate("document.querySelector('.play').getAttribute('aria-label')") == "Play"


def test_matrices_follow(browser: Chromium, files: dict[str, Path]) -> None:
    made = PAGES["channels"]
    browser.open(files["channels"])
    browser.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.wait_for("document.querySelectorAll('.product table').length >= 4")
    for _ in range(10):
        browser.press("ArrowRight")
    read = ("(number) => [...document.querySelectorAll('.product table')[number]"
            ".querySelectorAll('td.along, td.chosen')].map((cell) => cell.textContent)")  # fmt: skip
    kernel, column, output, row = ([float(text.replace(MINUS, "-")) for text in browser.evaluate(f"({read})({number})")]
                                   for number in range(4))  # fmt: skip
    calculation = made.calculation
    assert kernel == calculation.kernels[1].ravel().tolist()
    assert column == made.columns()[:, 1].tolist()
    assert output == [np.dot(kernel, column)] == [made.output[1, 0, 1] - calculation.bias[1]]
    assert row == [one for one in made.matrix(1)[1].tolist() if one]


def test_the_stack(browser: Chromium, files: dict[str, Path]) -> None:
    made = PAGES["stack"]
    browser.open(files["stack"])
    last, (rows, columns) = len(made.layers), made.sizes[-1]
    for cell in range(rows * columns):
        index = divmod(cell, columns)
        check_seen(browser, made, last, index)
        browser.press("ArrowRight")
    browser.click(f"document.querySelectorAll('table')[1].querySelectorAll('tbody td')[{made.sizes[1][1] + 2}]")
    check_seen(browser, made, 1, (1, 2))
    browser.evaluate(f"{CHOSEN}.focus()")
    browser.press("ArrowDown")
    check_seen(browser, made, 1, (2, 2))
    assert not browser.problems


def check_seen(browser: Chromium, made: Any, layer: int, index: tuple[int, int]) -> None:
    read = ("(number) => [...document.querySelectorAll('table')[number].querySelectorAll('tbody td')]"
            ".map((cell) => cell.classList.contains('seen'))")  # fmt: skip
    for below in range(layer):
        expected = np.zeros(made.sizes[below], bool)
        expected[np.ix_(*made.seen(layer, index, below))] = True
        assert browser.evaluate(f"({read})({below})") == expected.ravel().tolist()
    assert lines(browser)[0].startswith(f"Layer {layer}, output [{index[0]}, {index[1]}] sees rows ")


# -- layout and colours --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_a_phone(browser: Chromium, files: dict[str, Path], name: str) -> None:
    """At 360 pixels nothing hangs over the edge, also with every part open; what may be wide scrolls in itself."""
    browser.open(files[name], 360, 740)
    browser.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.evaluate("new Promise((done) => requestAnimationFrame(() => "
                            "done(document.documentElement.scrollWidth)))") <= 360  # fmt: skip
    over = ("[...document.querySelectorAll('main *')].filter((one) => !one.closest('.product, .scroll') "
            "&& one.getBoundingClientRect().right > 360.5).map((one) => one.outerHTML.slice(0, 80))")  # fmt: skip
    assert browser.evaluate(over) == []
    buttons = browser.evaluate("[...document.querySelectorAll('button, summary, input')]"
                               ".map((one) => one.getBoundingClientRect().height)")  # fmt: skip
    assert min(buttons) >= 44  # a finger's width
    assert not browser.problems


#: The ratio of the brightness of text to that of the ground under it, by WCAG 2.2's formula; JavaScript, as pages are.
CONTRAST = """(selectors) => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const found = rgb(getComputedStyle(one).backgroundColor);
      if (found[3] !== 0) return found;
    }
  };
  return selectors.map((selector) => {
    const one = document.querySelector(selector);
    const [a, b] = [light(rgb(getComputedStyle(one).color)), light(ground(one))].sort((p, q) => q - p);
    return (a + 0.05) / (b + 0.05);
  });
}"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrast(browser: Chromium, files: dict[str, Path], dark: bool) -> None:
    browser.open(files["channels"], dark=dark)
    texts = ["h1", ".headline", ".rules", "button", ".count", ".moves td:not(.seen)", ".moves td.seen", "td.seen small",
             "td.chosen", ".grid th[scope]", ".sum p", ".sum .name", ".sum .channel", ".legend", "summary"]  # fmt: skip
    ratios = dict(zip(texts, browser.evaluate(f"({CONTRAST})({texts!r})"), strict=True))
    assert min(ratios.values()) >= 4.5, ratios
    grounds = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (grounds == "rgb(255, 255, 255)") != dark


def test_motion(browser: Chromium, files: dict[str, Path]) -> None:
    for still in (True, False):
        browser.open(files["conv2d"], still=still)
        seconds = browser.evaluate("getComputedStyle(document.querySelector('.frame-box')).transitionDuration")
        assert (float(seconds.split("s")[0]) == 0) == still


@pytest.mark.parametrize("name", ["channels", "stack"])
def test_a_screen_reader_is_told_names(browser: Chromium, files: dict[str, Path], name: str) -> None:
    browser.open(files[name])
    browser.call("Accessibility.enable")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    browser.call("Accessibility.disable")
    named: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert set(named["button"]) == {"Back", "Play", "Next"}
    for role in ("slider", "grid", "gridcell", "table", "rowheader", "heading", "region"):
        assert all(named[role]), (role, named[role])
    assert len(named["grid"]) == (2 if name == "channels" else 3)


def test_notebooks_show_pages_side_by_side(browser: Chromium, tmp_path: Path) -> None:
    """Frames are as high as their pages, and know nothing of each other."""
    file = tmp_path / "notebook.html"
    one, other = PAGES["conv2d"], PAGES["avg"]
    file.write_text(f"<!DOCTYPE html><title>n</title>{one._repr_html_()}{other._repr_html_()}", encoding="utf-8")
    browser.open(file)
    browser.wait_for("Array.from(frames).every((frame) => frame.document.querySelector('.sum'))")
    browser.wait_for("[...document.querySelectorAll('iframe')].every((one) => one.style.height.endsWith('px'))")
    browser.evaluate("frames[1].document.querySelector('[aria-label=Next]').click()")
    read = "Array.from(frames).map((frame) => frame.document.querySelector('.sum strong').textContent)"
    assert browser.evaluate(read) == ["19", numeral(other.output[0, 1].item())]
    hidden = ("[...document.querySelectorAll('iframe')].map((one) => one.contentDocument.documentElement.scrollHeight "
              "- one.clientHeight)")  # fmt: skip
    assert max(browser.evaluate(hidden)) <= 0
    assert not browser.problems
