"""Kernels that travel: packs for this processor and for classes of processors, named, imported, and those that do not
fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import cache
from fastconv.base import packs
from fastconv.cpu.system import target
from fastconv.cpu.system.processor import CLASSES, Processor, host

ROOT = Path(__file__).resolve().parents[1]
V3 = CLASSES["x86-64-v3"]

needs_v3 = pytest.mark.skipif(not host().features >= V3.features, reason="this processor is not of the class x86-64-v3")

#: Calls whose results are checked against NumPy's, and how many files the cache holds afterwards.
CODE = """
import os, sys, numpy as np, fastconv
from fastconv.cpu.system import target
from fastconv.cpu.tiles import simd
rng = np.random.default_rng(0)
x, weight = rng.standard_normal((1, 8, 20, 20), np.float32), rng.standard_normal((8, 8, 1, 1), np.float32)
y = fastconv.conv2d(x, weight)
np.testing.assert_allclose(y, np.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x), rtol=1e-4, atol=1e-5)
windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
np.testing.assert_array_equal(fastconv.max_pool2d(x, 3, stride=2), windows.max((-1, -2)))
print(target.processor().name, simd.register_bytes(), len(list(target.files.cache_folder().glob("*.nbc"))))
"""


def run(code: str, folder: Path, **environment: Any) -> list[str]:
    """What a program prints in a process of its own with a cache of its own; warnings are errors."""
    given = {name: str(value) for name, value in environment.items()}
    variables = os.environ | {"PYTHONPATH": str(ROOT), "FASTCONV_CACHE_DIR": str(folder), "FASTCONV_QUIET": "1"} | given
    command = [sys.executable, "-P", "-W", "error", "-c", code]
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def v3_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache filled by a process that is told to compile for the class x86-64-v3."""
    folder = tmp_path_factory.mktemp("v3")
    name, width, count = run(CODE, folder, NUMBA_CPU_NAME=V3.name, NUMBA_CPU_FEATURES=V3.flags)
    assert (name, width) == ("x86-64-v3", "32")
    assert int(count) > 0
    return folder


@pytest.fixture
def v3_pack(v3_cache: Path, tmp_path: Path) -> Path:
    cache._export(tmp_path / "v3.zip", v3_cache, V3)
    return tmp_path / "v3.zip"


@needs_v3
@pytest.mark.parametrize("other", [{}, {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": V3.flags}])
def test_a_named_pack_is_loaded_and_nothing_compiled(v3_pack: Path, tmp_path: Path, other: dict[str, str]) -> None:
    """On this processor, and on another one of the class."""
    assert run(CODE, tmp_path / "cache", FASTCONV_KERNELS=v3_pack, **other) == ["x86-64-v3", "32", "0"]


@needs_v3
def test_an_imported_pack_is_loaded_and_nothing_compiled(v3_pack: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    code = f"from fastconv import cache; print(cache.import_kernels({str(v3_pack)!r}))"
    (count,) = run(code, folder)
    assert int(count) == len(packs.Pack(v3_pack).names) > 0
    other = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": V3.flags}
    assert run(CODE, folder, **other) == ["x86-64-v3", "32", count]
    assert run(CODE, folder) == ["x86-64-v3", "32", count]
    run("from fastconv import cache; cache.clear()", folder)
    assert run(CODE, folder)[0] == host().name


@pytest.mark.parametrize("damage", ["", '{"name', "[]", '{"name": 1, "features": 2}'])
def test_a_damaged_note_of_what_was_imported_counts_as_none(tmp_path: Path, damage: str) -> None:
    (tmp_path / target.IMPORTED).write_text(damage)
    code = "from fastconv import cache\nfrom fastconv.cpu.system import target\n"
    code += "print(target.processor().name, cache.clear())"
    assert run(code, tmp_path) == [host().name, "0"]
    assert not list(tmp_path.iterdir())


def test_a_pack_for_this_processor(tmp_path: Path) -> None:
    count = run(CODE, tmp_path / "one")[-1]
    export = f"from fastconv import cache; print(cache.export_kernels({str(tmp_path / 'pack.zip')!r}))"
    assert run(export, tmp_path / "one") == [count]
    assert run(CODE, tmp_path / "two", FASTCONV_KERNELS=tmp_path / "pack.zip")[-1] == "0"


def test_kernels_of_other_sources_are_not_exported(tmp_path: Path) -> None:
    run(CODE, tmp_path / "cache")
    for file in (tmp_path / "cache").glob("*.nbc"):
        data = file.read_bytes()
        file.write_bytes(data[:32] + bytes(16) + data[48:])
    assert cache._export(tmp_path / "pack.zip", tmp_path / "cache", target.processor()) == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"Numba": "0.1"}, "Numba 0.1"),
        ({"machine": "vax"}, "machine vax"),
        ({"processor": {"name": "z", "features": ["sse2", "teleport"]}}, "teleport"),
        ({"processor": {"name": "z", "features": 3}}, "processor features 3"),
    ],
)
def test_a_pack_that_does_not_fit_is_not_used(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    file = tmp_path / "other.zip"
    packs.write_pack(file, [], target.manifest(host()) | change)
    code = "import warnings\nwith warnings.catch_warnings(record=True) as seen:\n    warnings.simplefilter('always')\n"
    code += "    " + CODE.strip().replace("\n", "\n    ") + "\nprint(len(seen), seen[0].message)"
    name, _, count, warned, *message = run(code, tmp_path / "cache", FASTCONV_KERNELS=file)
    assert name == host().name
    assert int(count) > 0  # compiled, as without the pack
    assert warned == "1"
    assert told in " ".join(message)
    assert str(file) in " ".join(message)


def test_no_pack_where_none_is_wanted(tmp_path: Path) -> None:
    assert run(CODE, tmp_path / "cache", FASTCONV_KERNELS="")[0] == host().name


@needs_v3
def test_bundled_packs(v3_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that fit, the one for most features; others are passed over in silence."""
    bundled = tmp_path / "kernels"
    bundled.mkdir()
    v3_pack.rename(bundled / "b.zip")
    packs.write_pack(bundled / "a.zip", [], target.manifest(Processor("less", frozenset({"sse2"}))))
    packs.write_pack(bundled / "c.zip", [], target.manifest(V3) | {"Numba": "0.1"})
    (bundled / "d.zip").write_bytes(b"no pack")
    monkeypatch.setattr(target, "BUNDLED", bundled)
    monkeypatch.setattr(target, "_imported", lambda: None)
    monkeypatch.delenv("FASTCONV_KERNELS", raising=False)
    chosen = target._chosen.__wrapped__()
    assert chosen.processor == V3
    assert len(chosen.packs) == 1


def test_bad_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONV_CACHE_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="processor must be 'host' or one of 'x86-64-v3', 'x86-64-v4', got 'pdp11'"):
        cache.export_kernels(tmp_path / "pack.zip", processor="pdp11")
    with pytest.raises(ValueError, match="problems are compiled for a class"):
        cache.export_kernels(tmp_path / "pack.zip", problems="conv2d")
    if host().features >= V3.features:
        with pytest.raises(ValueError, match="problems must name operations"):
            cache.export_kernels(tmp_path / "pack.zip", processor="x86-64-v3", problems="conv9d")
    monkeypatch.setitem(CLASSES, "x86-64-v3", Processor("x86-64-v3", frozenset({"teleport"})))
    with pytest.raises(ValueError, match="has teleport, which this one lacks"):
        cache.export_kernels(tmp_path / "pack.zip", processor="x86-64-v3")


@needs_v3
def test_a_pack_for_a_class_compiles_what_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONV_CACHE_DIR", str(tmp_path / "cache"))
    file = tmp_path / "pack.zip"
    weight = np.ones((4, 4, 1, 1), np.float32)
    plans = fastconv.plan_conv2d((1, 4, 9, 9), weight), fastconv.plan_conv_transpose2d((1, 4, 9, 9), weight)
    assert cache.export_kernels(file, processor="x86-64-v3", problems=iter(["max_pool1d", *plans])) > 0
    assert packs.Pack(file).manifest["processor"]["name"] == "x86-64-v3"
    assert json.loads(zipfile.ZipFile(file).read("manifest.json"))["manifest"] == packs.Pack(file).manifest
