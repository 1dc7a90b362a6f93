"""Kernels compiled in advance: whole, by name or for one problem, in other processes; and the line while one waits."""

from __future__ import annotations

import contextlib
import io
import operator
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastconv
from fastconv import grad, ndimage, signal
from fastconv.__main__ import main
from fastconv.cpu import planner
from fastconv.cpu.system import notice
from fastconv.specs.conv import conv_spec
from fastconv.specs.pool import adaptive_spec, pool_spec
from fastconv.warming import filters, team, warmup, works

PACKAGE = Path(fastconv.__file__).parent
FLOAT = np.dtype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache, and two processes to fill it, however many cores there are."""
    monkeypatch.setenv("FASTCONV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(warmup, "cores", lambda: 2)
    return tmp_path / "cache"


def kernels(folder: Path) -> set[str]:
    return {file.name for file in folder.glob("*.nbc")}


def another_process(code: str, **options) -> str:
    """What a new process prints that runs this."""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-W", "error", "-"], input=code, capture_output=True, text=True,
                          env=environment, **options)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- what is ready -------------------------------------------------------------------------------------------


def test_later_processes_compile_nothing(folder):
    new = fastconv.warmup(["unfold2d", "max_unpool2d"])
    there = kernels(folder)
    assert new == len(there) > 1
    another_process("import numpy as np, fastconv; x = np.ones((1, 3, 40, 50), np.float32); fastconv.unfold2d(x, 3)\n"
                    "fastconv.max_unpool2d(x, np.zeros(x.shape, int), 2)")  # fmt: skip
    assert kernels(folder) == there
    assert fastconv.warmup(iter(["unfold2d", "max_unpool2d"])) == 0


def test_plans_and_plain_calls_of_a_problem_compile_nothing(folder):
    weight = np.ones((8, 4, 3, 3), np.float32)
    plans = fastconv.plan_conv2d((1, 4, 20, 20), weight), fastconv.plan_conv_transpose2d((1, 8, 9, 9), weight, stride=2)
    warmed = fastconv.warmup([*plans, plans[0].spec])
    there = kernels(folder)
    assert warmed <= len(there)
    another_process("import numpy as np, fastconv; weight = np.random.default_rng(0).random((8, 4, 3, 3), np.float32)\n"
                    "for x, name, options in (((1, 4, 20, 20), 'conv2d', {}),\n"
                    "                         ((1, 8, 9, 9), 'conv_transpose2d', {'stride': 2})):\n"
                    "    getattr(fastconv, 'plan_' + name)(x, weight, **options)(np.ones(x, np.float32))\n"
                    "    getattr(fastconv, name)(np.ones(x, np.float32), weight, **options)")  # fmt: skip
    assert kernels(folder) == there


def test_weights_that_suit_special_algorithms_and_others():
    spec = conv_spec((1, 1, 512, 512), (1, 1, 11, 11), (FLOAT,))
    assert fastconv.plan_conv2d((1, 1, 512, 512), np.ones((1, 1, 11, 11), FLOAT)).algorithm == "separable"
    ran = []
    with pytest.MonkeyPatch.context() as patch:
        made = works.recipe
        patch.setattr(works, "recipe", lambda spec, algorithm, for_one_call: ran.append(algorithm) or
                      made(spec, algorithm, for_one_call))  # fmt: skip
        works._plan(spec, "auto")
    assert len(ran) == 2
    assert ran[0] == "auto"
    assert ran[1] != "separable"


def test_specs_of_poolings(folder):
    specs = pool_spec("max", (1, 2, 9, 9), FLOAT, 3), adaptive_spec("avg", (1, 2, 9, 9), FLOAT, 4)
    assert fastconv.warmup(specs) >= 2
    there = kernels(folder)
    another_process("import numpy as np, fastconv; x = np.ones((1, 2, 9, 9), np.float32)\n"
                    "fastconv.max_pool2d(x, 3, return_indices=True); fastconv.adaptive_avg_pool2d(x, 4)")  # fmt: skip
    assert kernels(folder) == there


#: Public functions that run no kernels, or others' only.
NO_KERNELS = {"algorithms", "compare", "corr2d_matrix", "explain", "explain_stack", "get_num_threads", "num_threads",
              "output_shape", "receptive_field", "set_num_threads", "warmup"}  # fmt: skip
PUBLIC = sorted(
    {name for module in (fastconv, grad, signal) for name in module.__all__ if callable(getattr(module, name))}
    - NO_KERNELS
)


OPERATIONS = [name for name in PUBLIC if not name.startswith("plan_")] + [f"ndimage.{name}" for name in ndimage.__all__]


@pytest.mark.parametrize("op", OPERATIONS)
def test_every_operation_has_a_name(op):
    assert works.stages([op], [FLOAT])


#: The operations whose works are by algorithm: the others use kernels of theirs.
TABLES = [op for op in planner.operations() if op not in works.BESIDES]


@pytest.mark.parametrize("family", sorted({works._family(op) for op in TABLES}))
def test_every_algorithm_of_the_tables_runs(family):
    ops = [op for op in TABLES if works._family(op) == family]
    missing = {name for op in ops for name in fastconv.algorithms(op)}
    missing -= {algorithm for _, algorithm, _ in works.stages(ops, [FLOAT])[0]}
    assert missing == ({"across"} if family == "lp_pool" else set())  # which takes no powers


def test_names_are_those_of_operations():
    assert set(works.names()) == {*OPERATIONS, "max_pool2d_input", "min_pool2d_input", "avg_pool2d_input"}


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8", "int8", "int32", "bool"])
def test_every_dtype_has_works(dtype):
    found = works.stages(works.names(), [np.dtype(dtype)])
    assert {"conv naive", "max_pool naive"} <= {" ".join(unit[:2]) for unit in found[0]}


def test_no_two_units_do_the_same_work():
    for units in works.stages([*works.names(), *works.names()], [FLOAT, FLOAT]):
        every = [work for several in units.values() for work in several]
        assert all(every.count(work) == 1 for work in every)


@pytest.mark.parametrize("name", filters.NAMES)
def test_calls_of_filters_are_right(name):
    for unit, work in filters.works(name, np.dtype("uint8")):
        assert unit == (name, "", "uint8")
        work.run(work.spec, work.algorithm)


# -- in other processes --------------------------------------------------------------------------------------


def test_a_script_from_the_standard_input_needs_no_guard(folder):
    code = """
import fastconv
from fastconv.warming import warmup
warmup.cores = lambda: 2
print(fastconv.warmup(["unfold2d", "max_unpool2d"]))
"""
    assert another_process(code) == f"{len(kernels(folder))}\n"
    assert kernels(folder)


def test_it_is_this_process_where_no_other_can_be_started(folder, monkeypatch):
    monkeypatch.setattr(team, "_Process", None)
    monkeypatch.setattr(sys, "executable", None)
    assert fastconv.warmup(("unfold2d", "max_unpool2d")) >= 0


def test_what_others_put_into_the_cache_meanwhile_is_not_counted(folder, monkeypatch):
    fastconv.warmup("unfold2d")
    (one, *_) = folder.glob("*.nbc")

    @contextlib.contextmanager
    def interrupted(count, threads):
        with run_team(count, threads) as run:
            yield run
        one.with_name(f"other{one.name}").write_bytes(one.read_bytes())

    run_team = warmup.team
    monkeypatch.setattr(warmup, "team", interrupted)
    assert fastconv.warmup("unfold2d") == 0


def test_what_fails_in_another_process(folder):
    unit = "conv", "naive", "float32"
    with team.team(2, 1) as run:
        assert [done for done, _ in run({unit: []})] == [unit]
        with pytest.raises(RuntimeError, match=r"^conv naive float32 cannot be compiled: ZeroDivisionError: "):
            list(run({unit: [team.Work(operator.truediv, 1, 0)]}))
        with pytest.raises(RuntimeError, match="the process ended, with exit status 3"):
            list(run({unit: [team.Work(operator.call, os._exit, 3)]}))


def test_kernels_compiled_meanwhile_in_another_process(folder, monkeypatch):
    monkeypatch.setattr(team, "cores", lambda: 2)
    units = works.by_every_algorithm([conv_spec((1, 3, 20, 20), (4, 3, 3, 3), (FLOAT,))])
    assert {"naive", "im2col", "direct"} <= {algorithm for _, algorithm, _ in units}
    some = {unit: units[unit] for unit in units if unit[1] in ("naive", "im2col")}
    with team.meanwhile(some | {("conv", "none", "float32"): [team.Work(operator.truediv, 1, 0)]}, 1):
        pass
    assert any("naive_loops" in name for name in kernels(folder))
    with pytest.raises(KeyboardInterrupt), team.meanwhile(units, 1):
        raise KeyboardInterrupt
    monkeypatch.setattr(team, "cores", lambda: 1)
    monkeypatch.setattr(team, "_Process", None)
    with team.meanwhile(units, 1):
        pass


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problems", "options", "error", "told"),
    [
        ("conv4d", {}, ValueError, "problems must name operations, 'conv2d', .*, got 'conv4d'"),
        (["conv2d", 3], {}, TypeError, "problems must be names of operations, specs or plans, got 3"),
        (3, {}, TypeError, "problems must be names of operations, specs or plans, got 3"),
        (np.ones((1, 1, 3, 3)), {}, TypeError, "problems must be"),
        ("conv2d", {"dtypes": "float31"}, TypeError, "dtypes must name supported dtypes, got 'float31'"),
        ("conv2d", {"dtypes": ["float32", "complex64"]}, TypeError, "got 'complex64': .* supported are bool"),
        ("conv2d", {"dtypes": None}, TypeError, "dtypes must name supported dtypes, got None"),
        ("conv2d", {"progress": 1}, TypeError, "progress must be True or False, got 1"),
        (conv_spec((1, 1, 9, 9), (1, 1, 3, 3), (FLOAT,), precision="tf32"), {}, ValueError, "for device='cuda'"),
    ],
)
def test_refusals(folder, problems, options, error, told):
    with pytest.raises(error, match=told):
        fastconv.warmup(problems, **options)
    assert not kernels(folder)


def test_nothing_to_do(folder):
    assert fastconv.warmup([]) == 0
    assert fastconv.warmup("conv2d", dtypes=()) == 0


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
def test_a_cache_that_is_not_used_is_told(folder):
    folder.mkdir(0o700)
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match=r"for nothing: .* is not used: others can write to it"):
        fastconv.warmup("unfold2d")


def test_without_rich(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(ImportError, match=r"pip install 'fastconv\[cli\]'"):
        fastconv.warmup("unfold2d", progress=True)
    assert not kernels(folder)


# -- the command line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rich", [True, False])
def test_command(folder, capsys, monkeypatch, rich):
    if not rich:
        monkeypatch.setitem(sys.modules, "rich.progress", None)
    assert main(["warmup", "unfold2d", "max_unpool2d", "--dtype", "float32", "--dtype", "uint8"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert ("100%" in out) is rich
    count = len(kernels(folder))
    assert f"{count} new. In all {count} compiled kernels" in out


def test_command_refuses(capsys):
    assert main(["warmup", "conv4d"]) == 2
    assert capsys.readouterr().err.startswith("fastconv: problems must name operations")


# -- the line while one waits --------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stream that says it is one, and when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        self.told.set()


@pytest.fixture
def terminal(monkeypatch):
    stream = Terminal()
    modules = {name: module for name, module in sys.modules.items() if name != "ipykernel"}
    monkeypatch.setattr(notice, "sys", SimpleNamespace(stderr=stream, modules=modules))  # pytest sets the real one
    monkeypatch.setattr(notice, "_silent", False)
    monkeypatch.setattr(notice, "_spent", 0.0)
    monkeypatch.setattr(notice, "PATIENCE", 0.05)
    monkeypatch.delenv("FASTCONV_QUIET", raising=False)
    return stream


def test_a_slow_build_is_told_once_a_process(terminal, folder):
    for _ in range(2):
        with notice.noticed():
            assert terminal.told.wait(10)
    (line,) = terminal.getvalue().splitlines()
    assert line.startswith("fastconv: ")
    assert str(folder) in line
    assert "python -m fastconv warmup" in line


def test_builds_of_one_call_count_together(terminal, monkeypatch):
    monkeypatch.setattr(notice, "PAUSE", 1000.0)
    monkeypatch.setattr(notice, "PATIENCE", 1000.0)
    with notice.noticed():
        pass
    notice._spent = 1000.0
    with notice.noticed():
        assert terminal.told.wait(10)


def test_other_calls_do_not(terminal, monkeypatch):
    monkeypatch.setattr(notice, "PATIENCE", 1000.0)
    monkeypatch.setattr(notice, "PAUSE", -1.0)
    notice._spent = 1000.0
    with notice.noticed():
        assert not terminal.told.wait(0.1)
    assert notice._spent < 1000


def test_a_quick_build_is_not_told(terminal, monkeypatch):
    monkeypatch.setattr(notice, "PATIENCE", 0.2)
    with notice.noticed():
        pass
    assert not terminal.told.wait(0.4)


@pytest.mark.parametrize("why", ["asked", "asked for", "no terminal", "no stderr"])
def test_nothing_is_told(terminal, monkeypatch, why):
    silenced = notice.silenced if why == "asked for" else notice.contextmanager(lambda: (yield))
    if why == "asked":
        monkeypatch.setenv("FASTCONV_QUIET", "1")
    elif why == "no terminal":
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    elif why == "no stderr":
        monkeypatch.setattr(notice.sys, "stderr", None)
    with silenced(), notice.noticed():
        assert not terminal.told.wait(0.2)


def test_a_notebook_is_told(terminal, monkeypatch):
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    monkeypatch.setitem(notice.sys.modules, "ipykernel", sys)
    with notice.noticed():
        assert terminal.told.wait(10)


def test_a_folder_that_is_not_used_is_told(terminal, monkeypatch):
    monkeypatch.setattr(notice, "untrusted", lambda folder: "it is a fake")
    with notice.noticed():
        assert terminal.told.wait(10)
    assert "not kept: it is a fake" in terminal.getvalue()


@pytest.mark.parametrize("kind", ["kernel", "micro"])
def test_builds_are_watched(folder, monkeypatch, kind):
    """Both ways to machine code."""
    began = []

    @notice.contextmanager
    def watched():
        began.append(kind)
        yield

    from fastconv.cpu.system import building, micro
    from fastconv.cpu.system.kernels import compiled
    from fastconv.cpu.tiles import product_tile

    monkeypatch.setattr(building, "noticed", watched)
    if kind == "kernel":
        compiled(_fill)(np.ones(1))
    else:
        monkeypatch.setattr(micro, "_addresses", {})
        product_tile.matrix_product_address(6, 1, False, FLOAT)
    assert began


def _fill(out):
    out[0] = 2.0
