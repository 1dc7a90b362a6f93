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

PACKAGE = Path(fastconv.__file__).parent
MODULES = {
    ".".join(("fastconv", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): file
    for file in PACKAGE.rglob("*.py")
}

#: What this package uses, but loads only when it needs it.
HEAVY = ("numba", "numba_cuda", "cuda", "torch", "cupy", "llvmlite", "scipy", "matplotlib", "skimage", "rich", "PIL",
         "threadpoolctl", "platformdirs")
#: The modules that load them, and those that are loaded without.
LOADED_LATE = ("fastconv.cpu", "fastconv.cuda", "fastconv.gpu")
LIGHT = sorted(name for name in MODULES if not name.startswith(LOADED_LATE))


def imports(module: str) -> dict[str, bool]:
    """What a module imports, by full name; True where it does so only when a function is called."""
    tree = ast.parse(MODULES[module].read_text())
    late = {node for function in ast.walk(tree) if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for node in ast.walk(function)}
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
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


#: What the modules below the applications (compare, the command line ...) may import: from these lines down only.
ALLOWED = {
    "_forks": set(),
    "_files": set(),
    "packs": {"_files"},
    "checks": {"devices"},
    "timing": {"checks"},
    "devices": set(),
    "toom_cook": set(),
    "spec": {"checks"},
    "pool_spec": {"checks", "spec"},
    "wisdom": {"_files", "spec", "cpu.target"},  # that one late
    "shapes": {"checks"},
    "choice": {"checks", "spec", "pool_spec", "wisdom", "cpu", "cpu.machine", "cpu.runtime", "cuda",
               "cuda.machine"},  # from "cpu" on late
    "plan": {"checks", "spec", "pool_spec", "choice", "timing", "wisdom"},
    "gpu": {"checks", "choice", "devices", "spec", "pool_spec", "plan", "cuda.arrays", "cuda.convert",
            "cuda.host", "cuda.machine", "cuda.pool_global", "cuda.program", "cuda.runtime", "cuda.streams"},
    "api": {"checks", "choice", "devices", "spec", "plan", "gpu", "_forks"},  # gpu late
    "pool": {"checks", "devices", "pool_spec", "plan", "gpu"},  # gpu late
    "adaptive": {"checks", "devices", "pool_spec", "plan", "_forks", "cpu", "cpu.adaptive", "gpu",
                 "gpu_moves"},  # from "cpu" on late
    "conv_nd": {"api"},
    "transpose": {"checks", "devices", "transpose_spec", "transposed", "_forks", "gpu_transposed"},  # that one late
    "transpose_spec": {"checks", "spec"},
    "unfold_spec": {"checks", "spec"},
    "unfold": {"checks", "devices", "unfold_spec", "_forks", "cpu", "cpu.columns", "cpu.simd",
               "gpu_moves"},  # from "cpu" on late
    "pool_nd": {"pool"},
    "signal": {"checks", "spec", "plan", "_forks"},
    "phases": {"checks", "spec"},
    "ways": {"checks", "choice", "spec", "plan", "phases", "cpu", "cpu.columns", "cpu.kept", "cpu.machine",
             "cpu.runtime", "cpu.shuffle", "cpu.simd", "cpu.transposed_depthwise", "cpu.volumes"},  # those of cpu late
    "transposed": {"checks", "choice", "spec", "plan", "phases", "timing", "ways", "wisdom"},
    "backward": {"checks", "choice", "spec", "pool_spec", "plan", "wisdom", "cpu.scatter"},  # the last one late
    "gpu_transposed": {"checks", "choice", "gpu", "phases", "spec", "transpose_spec", "transposed", "cuda.convert",
                       "cuda.streams"},
    "gpu_moves": {"checks", "gpu", "pool_spec", "unfold_spec", "cuda.arrays", "cuda.columns", "cuda.convert",
                  "cuda.host", "cuda.machine", "cuda.streams"},
    "gpu_grad": {"checks", "choice", "spec", "pool_spec", "plan", "gpu", "gpu_transposed", "cuda.arrays",
                 "cuda.convert", "cuda.host", "cuda.machine", "cuda.pooling", "cuda.scatter", "cuda.streams"},
    "grad": {"checks", "devices", "spec", "pool_spec", "transposed", "backward", "gpu_grad", "_forks"},  # gpu_grad late
    "training": set(),
    "nn": {"checks", "api", "pool", "grad", "training", "transpose"},
}


@pytest.mark.parametrize("module", sorted(name.removeprefix("fastconv.") for name in MODULES))
def test_imports_go_down_only(module: str) -> None:
    if module in ALLOWED:
        assert set(own(f"fastconv.{module}")) <= ALLOWED[module]
    folder = module.partition(".")[0]
    if folder in ("cpu", "cuda") and folder != module:
        kinds = f"{folder}.conv_", f"{folder}.pool_", f"{folder}.weight_"
        algorithms = {name for name in own(f"fastconv.{module}") if name.startswith(kinds)}
        if module.startswith(f"{folder}.weight_"):  # the definition makes sums again that are not finite
            algorithms.discard(f"{folder}.weight_naive")
        assert not algorithms, "algorithms do not know each other, and helpers do not know algorithms"
        rest = {name for name in own(f"fastconv.{module}") if not name.startswith(f"{folder}.")}
        assert rest <= {"checks", "spec", "pool_spec", "toom_cook", "_files", "_forks", "packs"}


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("fastconv.cpu.")))
def test_the_cache_knows_what_compiled_code_depends_on(module: str) -> None:
    """The key of compiled code has the sources within `cpu`; from elsewhere come types, which are in the signature."""
    from fastconv.cpu.disk_cache import sources

    early = {name for name, late in imports(module).items() if not late and name in MODULES}
    compiled = {MODULES[name] for name in early if name.startswith(("fastconv.cpu.", "fastconv.toom_cook"))}
    assert compiled <= sources(MODULES[module])
    tree = ast.parse(MODULES[module].read_text())
    specs = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module in ("spec", "pool_spec")]
    above = {alias.name for node in specs for alias in node.names}
    assert above <= {"ConvSpec", "PoolSpec", "Depth", "FLAT", "Pair"}


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
    assert "numpy" in loaded
