"""What the README and the documentation's pages say must be so, and nothing public may be missing there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import sys
import tomllib
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import distributed
import numpy as np
import pytest

import fastconv
from fastconv.tools.cli import main
from tests import links

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from generate import algorithms, api, equations, lessons, measured, problems  # noqa: E402 # by the path above

fastconv.numba.declare()  # where the package is not installed, Numba has not been told
#: The pages that are written by hand.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
         *sorted((ROOT / "docs" / "howto").glob("*.md"))]  # fmt: skip
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
#: What a snippet prints, and a page shows.
RESULTS = {"conv2d: input 3x3, kernel 2x2, output 2x2"}
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def run_snippets(text: str) -> dict[str, object]:
    """Run a page's snippets in order; what they leave. Results have the shapes in their comments."""
    names: dict[str, object] = {}
    for block in BLOCK.findall(text):
        for statement in ast.parse(block).body:
            exec(compile(ast.Module([statement], []), "page", "exec"), names)
            line = block.splitlines()[statement.end_lineno - 1]
            if shape := re.search(r"^y = .*# \((\d[\d, ]*)\)", line):
                assert names["y"].shape == tuple(map(int, shape[1].split(","))), line
    return names


@pytest.mark.parametrize("page", [page for page, text in TEXTS.items() if BLOCK.search(text)])
def test_snippets_run_in_order_and_give_the_shapes_in_their_comments(page, tmp_path, monkeypatch):
    """Files are written elsewhere, and a cluster's workers are threads of this process, which begin at once."""
    monkeypatch.chdir(tmp_path)
    threads = partial(distributed.LocalCluster, processes=False, dashboard_address=None)
    monkeypatch.setattr(distributed, "LocalCluster", threads)
    assert len(run_snippets(TEXTS[page])) > 3


def test_all_code_is_marked_as_such():
    """Indented blocks, which are not run, hold commands."""
    for page, text in TEXTS.items():
        for line in re.findall(r"\n\n    (\S.*)", text):
            if page != "CONTRIBUTING.md" and not line.startswith(("python", ".venv/", "bash ", "FASTCONV_", "pip ")):
                assert line in RESULTS, (page, line)


def test_commands_are_there(capsys):
    assert main(["--help"]) == 0
    verbs = re.findall(r"^    ([a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    for page, text in TEXTS.items():
        for verb in re.findall(r"python -m fastconv ([a-z-]+)", text):
            assert verb in verbs, (page, verb)
        for module in re.findall(r"python -m ((?:benchmarks|tests)\.\w+)", text):
            assert importlib.util.find_spec(module), (page, module)


def test_the_readme_begins_with_its_commands():
    shown = [line.strip() for line in TEXTS["README.md"].splitlines() if line.startswith("    ")]
    assert shown == [
        "python3 -m venv .venv && .venv/bin/pip install -e '.[cli]' && .venv/bin/python -m fastconv demo",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test,ptx]' && .venv/bin/python -m pytest -n auto",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[docs]' && .venv/bin/sphinx-build -W docs build/site",
    ]


def test_every_extra_is_told():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    cells = re.findall(r"^\| (`.*?) \|", TEXTS["docs/install.md"], re.MULTILINE)
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(extras)


@pytest.mark.parametrize(
    ("op", "title"),
    [("conv2d", "convolution"), ("max_pool2d", "pooling"), ("conv2d_weight", "gradient for the weight")],
)
def test_every_algorithm_has_a_row(op, title):
    rows = TEXTS["docs/algorithms.md"].split(f"| {title} | idea | wins for |")[1].split("\n\n")[0]
    assert sorted(re.findall(r"^\| \[`(\w+)`", rows, re.MULTILINE)) == sorted(fastconv.algorithms(op))


def test_links_lead_somewhere():
    """Those to files; the others are looked at in the built site."""
    generated = {f"docs/algorithms/{stem}.rst" for stem in algorithms.stems()}
    generated |= {f"docs/api/{page}" for page in api.pages()}
    generated |= {f"docs/lessons/{file.stem}.rst" for file in (ROOT / "examples").glob("[0-9]*.py")}
    for page, text in TEXTS.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            file = ((ROOT / page).parent / target).resolve()
            assert file.relative_to(ROOT).as_posix() in generated or file.is_file(), (page, target)


# -- what is generated ---------------------------------------------------------------------------------------


def test_every_public_name_has_a_page():
    """What a public module shows by `dir`, and is of this package, stands on a page of its own."""
    modules = {f"fastconv.{name}" for name in fastconv.__all__ if isinstance(getattr(fastconv, name), ModuleType)}
    assert modules < set(api.MODULES)
    pages = api.pages()
    shown = set()
    for module in api.MODULES:
        listed = re.findall(r"^   (\w+)$", pages[f"{module}.rst"], re.MULTILINE)
        shown |= {getattr(importlib.import_module(module), name) for name in listed}
        assert sorted(listed) == sorted(api.public(module)), module
    for module in api.MODULES:
        loaded = importlib.import_module(module)
        named = getattr(loaded, "__all__", None) or dir(loaded)
        for name in named:
            thing = getattr(loaded, name)
            assert isinstance(thing, ModuleType) or thing in shown, f"{module}.{name}"
            assert isinstance(thing, ModuleType) or inspect.getdoc(thing), f"{module}.{name}"


def test_every_algorithm_has_a_page_with_a_picture():
    assert sorted(one.stem for one in problems.problems()) == sorted(algorithms.docstrings("cpu"))
    assert sorted(one.stem for one in problems.gpu_problems(np.asarray)) == sorted(algorithms.docstrings("cuda"))
    pictures = {f"{device}{stem}": (f"{stem}.png", "a problem") for device, name in (("", "cpu"), ("cuda_", "cuda"))
                for stem in algorithms.docstrings(name)}  # fmt: skip
    for stem in algorithms.stems():
        text = algorithms.text_of(stem, pictures)
        assert ".. image:: " in text, stem
        assert len(text.splitlines()) > 6, stem
        assert "::\n\n    " not in text, stem  # all equations are mathematics


@pytest.mark.parametrize(
    ("line", "tex"),
    [
        ("out[i, j] = bias[o] + sum over a, b of weight[a] * x[i * stride_h - top, j]",
         r"\mathrm{out}_{i ,\;j }=\mathrm{bias}_{o }+\sum_{a ,\;b } \mathrm{weight}_{a }\cdot "
         r"x _{i \cdot \mathrm{stride}_{h}-\mathrm{top},\;j }"),
        ("y = (sum over b of |x[b]| ** norm) ** (1 / norm)",
         r"y =(\sum_{b } |x _{b }|^{\mathrm{norm}})^{1/\mathrm{norm}}"),
        ("z = a row of x, at o // multiplier",
         r"z =\text{ a row of }x ,\;\text{ at }\lfloor o /\mathrm{multiplier}\rfloor "),
    ],
)  # fmt: skip
def test_an_equation_becomes_tex(line, tex):
    assert equations.formula(line) == tex


def test_all_equations_are_mathematics_to_docutils():
    math = pytest.importorskip("docutils.utils.math.latex2mathml")
    count = 0
    for device in ("cpu", "cuda"):
        for docstring in algorithms.docstrings(device).values():
            for _, _, block in equations.blocks(docstring):
                for is_formula, text in equations.parts(block):
                    count += is_formula and "<msub>" in math.tex2mathml(text, as_block=True)
    assert count > 50


def test_lessons_become_scripts_that_print_the_same(capsys):
    file = next((ROOT / "examples").glob("*_channels.py"))
    text = file.read_text(encoding="utf-8")
    script = lessons.script(text)
    exec(compile(script, "lesson", "exec"), {"__name__": "__main__"})
    told = capsys.readouterr().out
    exec(compile(text, "lesson", "exec"), {"__name__": "__main__"})
    assert told == capsys.readouterr().out != ""
    assert script.count("# %%") > 1
    for other in (ROOT / "examples").glob("[0-9]*.py"):
        ast.parse(lessons.script(other.read_text(encoding="utf-8")))


def read_record(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "docs" / "measured" / f"{name}.json").read_text(encoding="utf-8"))


def test_measured_tables_name_their_machine():
    assert {file.stem for file in (ROOT / "docs" / "measured").glob("*.json")} == set(measured.TABLES)
    for name, made in measured.TABLES.items():
        record = read_record(name)
        table = made(record)
        assert table.count("\n|") >= (len(measured.titles(record)) + 1 if made is measured.comparisons else 10)
        assert record["machine"] in measured.provenance(record)
        assert record["date"] in measured.provenance(record)
    record = read_record("accuracy")
    assert {row["algorithm"] for row in record["rows"]} == set(fastconv.algorithms("conv2d"))


def test_the_readmes_speeds_are_measured_ones():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text[text.index("<!-- speeds -->") : text.index("<!-- end of speeds -->")]
    _, _, *lines = re.findall(r"^\|.*\|$", table, re.M)
    records = [read_record(name) for name in ("images", "peers", "learning")]
    assert len(lines) > 4
    for line in lines:
        title, *cells = [cell.strip() for cell in line.strip("|").replace("`", "").split("|")]
        (record,) = [record for record in records if title in measured.titles(record)]
        assert cells == measured.in_short(record, title)


# -- the script that looks through the site ------------------------------------------------------------------

WHOLE = '<link rel="stylesheet" href="a.css"><body id="top"><a href="b.html#end">b</a><img src="p.png"></body>'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (WHOLE, []),
        (WHOLE.replace("b.html#end", "c.html"), ["index.html links to c.html, which is not there"]),
        (WHOLE.replace("#end", "#begin"), ["index.html links to b.html#begin, where this anchor is not"]),
        (WHOLE.replace("p.png", "q.png"), ["index.html links to q.png, which is not there"]),
        (WHOLE.replace("a.css", "https://example.org/a.css"),
         ["index.html loads https://example.org/a.css, which is not of this site"]),
        (WHOLE.replace("b.html#end", "#top"), []),
    ],
)  # fmt: skip
def test_broken_links_are_found(text, found, tmp_path):
    (tmp_path / "index.html").write_text(text)
    (tmp_path / "b.html").write_text('<p id="end">')
    for name in ("a.css", "p.png"):
        (tmp_path / name).write_text("")
    assert list(links.broken(tmp_path, links.pages_of(tmp_path))) == found


@pytest.mark.skipif(links.missing() is not None, reason=links.missing() or "")
def test_what_a_browser_does_not_like_is_found(tmp_path):
    phone = '<meta name="viewport" content="width=device-width">'
    (tmp_path / "good.html").write_text(f"{phone}<p>text</p>")
    (tmp_path / "bad.html").write_text(
        f'{phone}<img src="none.png"><p style="width: 2000px">wide</p><script>unknown()</script>'
    )
    found = list(links.opened(tmp_path, [Path("good.html"), Path("bad.html")]))
    for part in ("the picture none.png is not shown", "is 20", "unknown is not defined", "Failed to load resource"):
        assert any(line.startswith("bad.html") and part in line for line in found), found
    assert not any("good.html" in line for line in found)
