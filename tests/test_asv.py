"""asv: the kept results, their pages in a browser that reaches nothing but this machine, and what compares commits."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from benchmarks import continuous, history

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def kept() -> dict[str, dict[str, Any]]:
    """The kept results by commit."""
    if not (RESULTS.is_dir() and (ROOT / ".git").exists()):
        pytest.skip("not a checkout: the results, and the history that they are of, are not there")
    if git("rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("a shallow clone: the history that the results are of is not there")
    results = map(json.loads, (file.read_text() for file in RESULTS.glob("*/*-*.json")))
    return {result["commit_hash"]: result for result in results}


def measured(kept: dict[str, dict[str, Any]]) -> set[str]:
    """The benchmarks that have a number in some commit."""
    return {
        name for one in kept.values() for name, (numbers, *_) in one["results"].items() if numbers and any(numbers)
    }


class Site:
    """Pages that a server gives, and what browsers have asked it for."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.address = folder, f"http://127.0.0.1:{port}/"
        self.asked: dict[str, int] = {}

    def opened(self, fragment: str, profile: Path) -> str:
        """The page as the browser has it when nothing more is to come; AssertionError with what it told as wrong."""
        assert CHROMIUM is not None
        done = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
             "--window-size=1280,4000",  # all of the grid is in sight: asv fetches a graph when it is
             "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={profile}",
             "--virtual-time-budget=20000", "--dump-dom", f"{self.address}index.html#{fragment}"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert not re.findall(r".*:CONSOLE.*", done.stderr)
        assert {path: status for path, status in self.asked.items() if status >= 400} == {}
        return done.stdout


@pytest.fixture(scope="module")
def pages(kept: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("asv", reason="the extra 'bench' is not installed")
    from benchmarks.publish import publish

    folder = tmp_path_factory.mktemp("pages") / "asv"
    publish(folder)
    return folder


@pytest.fixture(scope="module")
def site(pages: Path) -> Iterator[Site]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            site.asked[unquote(self.path.partition("?")[0])] = int(code)

        def log_error(self, *_: Any) -> None:
            """Nothing: `log_request` has noted the status."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(pages))) as server:
        site = Site(pages, server.server_address[1])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield site
        server.shutdown()
        thread.join()


def test_results_are_of_commits_of_this_history_and_name_no_host(kept):
    history = git("rev-list", "--first-parent", "HEAD").splitlines()
    assert len(kept.keys() & set(history)) >= 10
    assert kept.keys() <= set(history)
    (machine,) = RESULTS.glob("*/machine.json")
    facts = json.loads(machine.read_text())
    assert facts["machine"] == machine.parent.name
    assert re.fullmatch(r"[a-z0-9-]+-one-core", facts["machine"])
    assert sum(file.stat().st_size for file in RESULTS.rglob("*")) < 1 << 20


def test_pages_have_all_that_they_load(pages):
    text = (pages / "index.html").read_text()
    loaded = [*re.findall(r'src="([^"]*)"', text), *re.findall(r'<link [^>]*href="([^"]*)"', text)]
    assert len(loaded) > 15
    assert [one for one in loaded if not (pages / one).is_file()] == []


def test_grid_lists_every_benchmark_with_its_graph(kept, site, tmp_path):
    page = site.opened("/", tmp_path)
    for name in measured(kept):
        assert name.partition(".")[2] in page
        assert f"/graphs/summary/{name}.json" in site.asked
    assert page.count('<canvas class="flot-base"') >= len(measured(kept))


def test_graph_has_a_point_for_each_commit(kept, site, tmp_path):
    name = "bench_conv.Layers.time_conv2d"
    page = site.opened(name, tmp_path)
    assert "flot-tick-label" in page
    assert all(choice in page for choice in ("resnet_3x3_64", "auto", "plan"))
    (path,) = [path for path in site.asked if path.startswith("/graphs/") and path.endswith(f"/{name}.json")
               and "summary" not in path]  # fmt: skip
    points = [value for _, value in json.loads((site.folder / path[1:]).read_text()) if any(value)]
    assert len(points) == sum(any(result["results"].get(name, [None])[0] or ()) for result in kept.values())


def test_regressions_open(site, tmp_path):
    page = site.opened("/regressions", tmp_path)
    assert "Feed (Atom)" in page
    for name, *_ in json.loads((site.folder / "regressions.json").read_text())["regressions"]:
        assert name in page


def test_continuous_knows_the_line_that_it_changes():
    assert (ROOT / continuous.SLOWED).read_text().count(continuous.LINE) == 1
    rows = {
        "bench_conv.Layers.time_conv2d('resnet_stem', 'auto')": True,
        "bench_pool.Poolings.time_pool2d('uneven_2x3', 'max', 'auto')": True,
        "bench_pool.Poolings.time_pool2d('vgg_2x2_s2', 'max', 'auto')": False,
        "bench_pool.Indices.time_max_pool2d('uneven_2x3')": False,
    }
    assert {name: any(re.search(row, name) for row in continuous.ROWS) for name in rows} == rows


def test_proof_asks_of_two_commits_and_judges_what_asv_says(kept, monkeypatch):
    """asv is stood in for: it takes minutes."""
    row = "| +        | 1.00±0.01ms | 1.33±0.01ms | 1.33 | bench_conv.Layers.time_conv2d('{}', 'auto') |"
    silent, loud = "BENCHMARKS NOT SIGNIFICANTLY CHANGED.", "PERFORMANCE DECREASED."
    monkeypatch.setattr(continuous, "slowed_rows", lambda: {"'resnet_stem', 'auto'"})
    changed = []

    def found(first, second):
        """The faults, where asv says this of the two pairs."""
        answers = iter([first, second])

        def asv(base, head, repository):
            names = subprocess.run(["git", "diff", "--name-only", base, head], cwd=repository, check=True,
                                   capture_output=True, text=True).stdout.split()  # fmt: skip
            changed.append(names)
            code, text = next(answers)
            return subprocess.CompletedProcess([], code, text)

        monkeypatch.setattr(continuous, "continuous", asv)
        return continuous.faults()

    assert found((0, silent), (1, row.format("resnet_stem") + "\n" + loud)) == []
    assert changed == [["README.md"], ["README.md", str(continuous.SLOWED)]]
    assert found((1, row.format("resnet_stem")), (1, row.format("resnet_stem"))) == [
        "of the pair without a change asv is not silent"]  # fmt: skip
    assert found((0, silent), (0, silent)) == ["asv does not find the kernel that was slowed"]
    assert "rows of other kernels: 'odd_37_53', 'auto'" in found((0, silent), (1, row.format("odd_37_53")))[0]


def test_machine_is_named_by_its_processor(tmp_path, monkeypatch):
    pytest.importorskip("asv", reason="the extra 'bench' is not installed")
    for home in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(home, str(tmp_path))
    assert history.machine("A Processor (2nd)") == "a-processor-2nd-one-core"
    (facts,) = [
        one for one in json.loads((tmp_path / ".asv-machine.json").read_text()).values() if isinstance(one, dict)
    ]
    assert facts["cpu"] == "A Processor (2nd)"
    assert platform.node() not in facts.values()
