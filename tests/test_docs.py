"""What the README says must be so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import fastconv

ROOT = Path(__file__).resolve().parents[1]
fastconv.numba.declare()  # where the package is not installed, Numba has not been told
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def run_snippets(text: str) -> dict[str, object]:
    """Run a page's snippets in order; what they leave. Results have the shapes in their comments."""
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        for statement in ast.parse(block).body:
            exec(compile(ast.Module([statement], []), "page", "exec"), names)
            line = block.splitlines()[statement.end_lineno - 1]
            if shape := re.search(r"^y = .*# \((\d.*)\)$", line):
                assert names["y"].shape == tuple(map(int, shape[1].split(","))), line
    return names


def test_snippets_run_in_order_and_give_the_shapes_in_their_comments():
    names = run_snippets(TEXT)
    assert names["edges"].shape == (3, 3)


@pytest.mark.parametrize(
    ("op", "title"),
    [("conv2d", "convolution"), ("max_pool2d", "pooling"), ("conv2d_weight", "gradient for the weight")],
)
def test_every_algorithm_has_a_row(op, title):
    rows = TEXT.split(f"| {title} | idea | wins for |")[1].split("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)`", rows, re.MULTILINE)) == sorted(fastconv.algorithms(op))


def test_pages_run():
    """Of those with code."""
    found = {page.name: len(run_snippets(page.read_text(encoding="utf-8"))) for page in PAGES[1:]}
    assert {name for name, names in found.items() if names > 5} == {"dask.md", "filters.md", "njit.md"}, found


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).is_file(), target
