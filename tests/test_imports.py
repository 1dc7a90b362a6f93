"""Who may import whom, from the code's own import statements; and what `import fastconv` loads."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fastconv

PACKAGE = Path(fastconv.__file__).resolve().parent
MODULES = {
    ".".join(("fastconv", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): file
    for file in PACKAGE.rglob("*.py")
    if file.parent != PACKAGE / "examples"  # an installed package has the lessons inside
}

#: What this package uses, but loads only when it needs it.
HEAVY = ("numba", "numba_cuda", "cuda", "torch", "cupy", "llvmlite", "scipy", "matplotlib", "skimage", "rich", "PIL",
         "threadpoolctl", "platformdirs", "dask", "distributed", "xarray", "pandas")
#: The modules that load them, and those that are loaded without.
LOADED_LATE = ("fastconv.cpu", "fastconv.cuda", "fastconv.dask", "fastconv.numba.", "fastconv.warming.works")
LIGHT = sorted(name for name in MODULES if not name.startswith(LOADED_LATE))


def imports(module: str) -> dict[str, bool]:
    """What a module imports, by full name; True where it does so only when a function is called."""
    tree = ast.parse(MODULES[module].read_text())
    typed = {node for test in ast.walk(tree) if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
             for branch in test.body for node in ast.walk(branch)}
    late = {node for function in ast.walk(tree) if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for node in ast.walk(function)}
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
        if node in typed:  # nothing is loaded
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            inner = [f"{source}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else source for name in inner]
        else:
            continue
        for name in names:
            found[name] = node in late and found.get(name, True)
    return found


def own(module: str) -> dict[str, bool]:
    """What a module imports of this package, without the package's name."""
    return {name.removeprefix("fastconv.") if name != "fastconv" else "__init__": late
            for name, late in imports(module).items() if name.split(".")[0] == "fastconv"}


#: The package from top to bottom: a folder or module imports those below it, and its own.
FLOORS = (
    ("__init__", "__main__"), ("tools",), ("cache",), ("warming",), ("nn", "numba"),
    ("grad", "ndimage", "signal", "wisdom"), ("functional",), ("dask",), ("cpu", "cuda"), ("planner",), ("specs",),
    ("base", "typing"),
)  # fmt: skip
#: A device from top to bottom, its tables being `__init__`.
DEVICE_FLOORS = {
    "cpu": (("calls", "filters", "orders"), ("in_place", "transformed"), ("plans",), ("recipes",), ("channels_last",),
             ("padded",), ("__init__",), ("algorithms",), ("shared",), ("machine",), ("tiles",), ("system",)),
    "cuda": (("calls", "filters"), ("plans",), ("driver",), ("operands",), ("__init__",), ("algorithms",), ("shared",),
             ("machine",), ("tiles",), ("system",)),
}  # fmt: skip

#: The arrows that go up, when something is called: for which machine measured choices hold, Dask's workers that prepare
#: their kernels, and filters that are found under Dask's name.
UP = {("planner.remember", "cpu.system.target"), ("dask.plugin", "cache"), ("dask.plugin", "warming.warmup"),
      ("dask", "ndimage.others")}  # fmt: skip


def floor(floors: tuple[tuple[str, ...], ...], room: str) -> int:
    return next(number for number, rooms in enumerate(floors) if room in rooms)


@pytest.mark.parametrize("module", sorted(name.removeprefix("fastconv.") for name in MODULES))
def test_imports_go_down_only(module: str) -> None:
    room, _, inner = ("__init__" if module == "fastconv" else module).partition(".")
    here = floor(FLOORS, room)
    for name in own(f"fastconv.{module}" if module != "fastconv" else module):
        other, _, deeper = name.partition(".")
        if room == other:
            if room in DEVICE_FLOORS:
                floors = DEVICE_FLOORS[room]
                mine, its = ((one or "__init__").partition(".")[0] for one in (inner, deeper))
                assert floor(floors, mine) <= floor(floors, its), f"{module} imports {name}"
            continue
        told = room == "tools" and other == "__init__"  # the package's version
        assert told or (module, name) in UP or here < floor(FLOORS, other), f"{module} imports {name}"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if ".algorithms." in name))
def test_algorithms_do_not_know_each_other(module: str) -> None:
    device = module.split(".")[1]
    others = {name for name in own(module) if name.startswith(f"{device}.algorithms.")}
    if ".weight_" in module:  # the definition makes sums again that are not finite
        others.discard(f"{device}.algorithms.weight_naive")
    assert not others


#: The folders and modules of `cpu` that have kernels, or what kernels call.
COMPILED = tuple(f"fastconv.cpu.{room}" for room in ("algorithms.", "shared.", "machine", "tiles.", "system."))


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith(COMPILED)))
def test_the_cache_knows_what_compiled_code_depends_on(module: str) -> None:
    """The key of compiled code has the sources within `cpu`; from elsewhere come types, which are in the signature, and
    what no kernel can call, but no numbers."""
    from fastconv.cpu.system.disk_cache import sources

    early = {name for name, late in imports(module).items() if not late and name in MODULES}
    compiled = {MODULES[name] for name in early if name.startswith(("fastconv.cpu.", "fastconv.base.toom_cook"))}
    assert compiled <= sources(MODULES[module])
    assert constants_from_specs(module) <= {"FLAT"}


def constants_from_specs(module: str, *known: str) -> set[str]:
    """The constants that a module imports from `specs`, but for these modules of it."""
    tree = ast.parse(MODULES[module].read_text())
    froms = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module not in known]
    above = {alias.name for node in froms if (node.module or "").startswith("specs.") for alias in node.names}
    return {name for name in above if name.isupper()}


#: The folders and modules of `cuda` that have kernels, or what kernels call.
COMPILED_FOR_GPUS = tuple(f"fastconv.cuda.{room}" for room in ("algorithms.", "shared.", "tiles.", "system."))


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith(COMPILED_FOR_GPUS)))
def test_the_key_of_a_gpus_code_has_what_it_depends_on(module: str) -> None:
    """Sources within `cuda`, and the modules elsewhere whose functions and constants make code: dtypes and matrices."""
    from fastconv.cuda.system.kernels import sources

    makes_code = "fastconv.cuda.", "fastconv.base.toom_cook", "fastconv.specs.dtypes"
    early = {name for name, late in imports(module).items() if not late and name in MODULES}
    assert {MODULES[name] for name in early if name.startswith(makes_code)} <= set(sources())
    assert constants_from_specs(module, "specs.dtypes") <= {"FLAT"}


def test_only_tiles_emit_instructions() -> None:
    """Of LLVM's IR everything else of a device knows only `wrappers`, around kernels."""
    emitters = {module for module in MODULES for name in imports(module) if name in ("llvmlite", "llvmlite.ir")}
    emitters = {module for module in emitters if "import ir" in MODULES[module].read_text()}
    assert emitters - {name for name in MODULES if ".tiles." in name} == {"fastconv.cpu.system.wrappers"}


def test_no_circles() -> None:
    graph = {module: {name for name in imports(module) if name in MODULES} for module in MODULES}
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", LIGHT)
def test_heavy_libraries_wait_for_the_first_call(module: str) -> None:
    early = [name for name, late in imports(module).items() if not late and name.startswith((*HEAVY, *LOADED_LATE))]
    assert not early


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_what_is_declared_is_imported(module: str) -> None:
    declared = {"fastconv", "numpy", *HEAVY}
    assert {name.split(".")[0] for name in imports(module)} - declared <= sys.stdlib_module_names


def test_import_fastconv_loads_little() -> None:
    code = "import json, sys, fastconv; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True,
                          cwd=PACKAGE.parent)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {*HEAVY}
    assert "fastconv.tools.explain.call" not in json.loads(done.stdout)
    assert "numpy" in loaded
