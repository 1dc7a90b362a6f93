"""Types of the public names: what checkers see, what `help` shows, and that names of modes are those of the tables."""

from __future__ import annotations

import ast
import inspect
import pydoc
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import scipy.ndimage

import fastconv
import fastconv.dask
from fastconv import cache, grad, ndimage, nn, signal, wisdom
from fastconv import typing as names
from fastconv.base.devices import DEVICES
from fastconv.cpu.system.processor import CLASSES
from fastconv.ndimage.linear import _PRECISIONS
from fastconv.ndimage.order import ALGORITHMS
from fastconv.signal import _BOUNDARIES, _MODES
from fastconv.specs.axes import FORMATS
from fastconv.specs.boundary import SCIPY, TORCH
from fastconv.specs.dtypes import PRECISIONS
from fastconv.tools.compare import FUNCTIONS
from fastconv.warming.warmup import Problems

PACKAGE = Path(fastconv.__file__).parent
ROOT = Path(__file__).parents[1]
MODULES = fastconv, cache, fastconv.dask, grad, ndimage, nn, fastconv.numba, signal, wisdom
#: Parameters that take anything: another library's object, a function's own arguments, or what depends on others.
ANYTHING = {"compare.weight", "compare.options", "WarmUp.setup.worker", "plot.file"}


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function, class, and method of a class, by its name."""
    for module in MODULES:
        for name in module.__all__:
            found = getattr(module, name)
            if isinstance(found, types.ModuleType):
                continue
            yield f"{module.__name__}.{name}", found
            for label, method in vars(found).items() if isinstance(found, type) else ():
                if inspect.isfunction(method) and not label.startswith("_"):
                    yield f"{module.__name__}.{name}.{label}", method


PUBLIC = dict(public())


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.3.0", reason="NumPy's own types were others")
def test_a_users_program_is_checked() -> None:
    """Also that its wrong lines are errors: to ignore none is one."""
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent",
                           "tests/typed_user.py"], cwd=ROOT, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", PUBLIC)
def test_signatures_are_the_functions_own(name: str) -> None:
    """Each argument has a name and a type that can be looked up, and is in what `help` shows."""
    function = PUBLIC[name]
    signature = inspect.signature(function)
    told = pydoc.plain(pydoc.render_doc(function))
    kinds = {one.kind for one in signature.parameters.values()}
    assert kinds != {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    for label, one in signature.parameters.items():
        if label == "self":
            continue
        assert one.annotation is not inspect.Parameter.empty, label
        if one.annotation in ("Any", Any):
            assert any(f"{name}.{label}".endswith(f".{known}") for known in ANYTHING), label
        assert f"{label}: " in told, label
    assert isinstance(function, type) or signature.return_annotation is not inspect.Signature.empty
    typing.get_type_hints(function.__init__ if isinstance(function, type) else function, localns={"Problems": Problems})


@pytest.mark.parametrize(
    ("literal", "known"),
    [
        (names.Device, DEVICES), (names.PaddingMode, TORCH), (names.Precision, PRECISIONS), (names.Boundary, SCIPY),
        (names.RankAlgorithm, ALGORITHMS), (names.Extent, _MODES), (names.Surroundings, _BOUNDARIES),
        (names.FilterPrecision, {*_PRECISIONS} - {None}), (names.Processor, {"host", *CLASSES}),
        (names.Operation, FUNCTIONS), (names.DataFormat1d, FORMATS[1]), (names.DataFormat2d, FORMATS[2]),
        (names.DataFormat3d, FORMATS[3]),
    ],
)  # fmt: skip
def test_names_of_modes_are_those_of_the_tables(literal: Any, known: Any) -> None:
    assert sorted(get_args(literal)) == sorted(known)


def options(literal: Any) -> set[str]:
    """The names in a `Literal`, or in a union of several."""
    return {name for one in get_args(literal) for name in (get_args(one) or [one])}


@pytest.mark.parametrize("operation", [name for name, one in FUNCTIONS.items()
                                       if "algorithm" in inspect.signature(one).parameters])  # fmt: skip
def test_names_of_algorithms_are_those_of_the_tables(operation: Any) -> None:
    """No more and no fewer than the tables of both devices have."""
    literal = typing.get_type_hints(FUNCTIONS[operation])["algorithm"]
    tables = {name for device in DEVICES for name in fastconv.algorithms(operation, device)}
    if operation == "conv3d":  # lacks one algorithm of images
        tables.add("separable")
    assert options(literal) == {"auto", *tables}


def typed(file: Path) -> set[str]:
    """The names that a module has for type checkers only."""
    blocks = [one for one in ast.parse(file.read_text()).body
              if isinstance(one, ast.If) and ast.unparse(one.test).endswith("TYPE_CHECKING")]  # fmt: skip
    found = [node for block in blocks for line in block.body for node in ast.walk(line)]
    imported = {alias.name for node in found if isinstance(node, ast.ImportFrom) for alias in node.names}
    return imported | {node.target.id for node in found if isinstance(node, ast.AnnAssign)
                       and isinstance(node.target, ast.Name)}  # fmt: skip


def test_what_is_loaded_late_has_a_type() -> None:
    late = typed(PACKAGE / "__init__.py")
    assert "__version__" in late
    assert late - {"__version__"} <= {*fastconv.__all__}
    assert all(hasattr(fastconv, name) for name in late)
    assert typed(PACKAGE / "dask/__init__.py") == {*fastconv.dask.__all__}
    scipys = {*scipy.ndimage.__all__} - {*ndimage.__all__}
    assert scipys <= typed(PACKAGE / "ndimage/__init__.py")  # an older SciPy has fewer
