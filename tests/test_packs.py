"""Kernels that travel: packs, exported and imported or named; damaged ones, and those that do not fit; and packs for
classes of processors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_files import CALL, DATA, command, fill, finish, kernels, left, name, start

import fastconv
from fastconv import cache
from fastconv.base import files, packs
from fastconv.cpu.system import target
from fastconv.cpu.system.processor import CLASSES, Processor, host


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder, which is not there yet."""
    monkeypatch.setenv("FASTCONV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTCONV_CACHE_BYTES", raising=False)
    return tmp_path / "cache"


# -- files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def pack(folder: Path, tmp_path: Path) -> Path:
    """A pack of four kernels, and a cache that is empty."""
    fill(folder)
    assert cache.export_kernels(tmp_path / "kernels.zip") == 4
    shutil.rmtree(folder)
    return tmp_path / "kernels.zip"


def changed(pack: Path, **manifest: Any) -> Path:
    """A pack with another manifest."""
    old, new = packs.Pack(pack), pack.with_name("changed.zip")
    packs.write_pack(new, ((name, old.get(name) or b"") for name in old.names), old.manifest | manifest)
    return new


def test_export_and_import(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file.name: DATA for file in fill(folder)} | {name(7, "cubin"): b"for a GPU"}
    assert files.write(folder / name(7, "cubin"), b"for a GPU")
    file = str(tmp_path / "kernels.zip")
    assert command(capsys, "export", file) == (0, "5 kernels exported\n", "")
    assert cache.export_kernels(tmp_path / "again.zip") == 5
    assert (tmp_path / "again.zip").read_bytes() == Path(file).read_bytes()
    opened = packs.Pack(file)
    assert set(opened.names) == before.keys()
    assert opened.get(name(7, "cubin")) == b"for a GPU"
    assert opened.get(name(8)) is None
    assert opened.get("manifest.json") is None
    assert opened.manifest["machine"]
    assert opened.manifest["processor"].keys() == {"name", "features"}
    cache.clear()
    assert command(capsys, "import", file) == (0, "5 kernels imported\n", "")
    assert {name: (folder / name).read_bytes() for name in left(folder)} == before
    assert cache.import_kernels(tmp_path / "kernels.zip") == 5


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"Numba": "0.1"}, r": Numba 0\.1 \(here .*\)$"),
        ({"FASTCONV_SIMD": "0", "machine": "abacus"}, r"machine abacus \(here \w+\), FASTCONV_SIMD 0 \(here \)$"),
        ({"processor": {"name": "z80", "features": ["sums"]}}, r"processor z80 \(here .*, without sums\)$"),
        ({"processor": "z80"}, "processor z80"),
        ({"new": 1}, r"new 1 \(here None\)"),
    ],
)
def test_a_pack_that_does_not_fit_is_one_warning(
    pack: Path, folder: Path, other: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = changed(pack, **other)
    with pytest.warns(UserWarning, match=told) as warned:
        assert cache.import_kernels(file) == 0
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert not folder.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, out, err = command(capsys, "import", str(file))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"fastconv: nothing is imported of {file}")


def zipped(file: Path, **members: Any) -> None:
    with zipfile.ZipFile(file, "w") as opened:
        for member, value in members.items():
            opened.writestr(member.replace("_json", ".json"), value if isinstance(value, bytes) else json.dumps(value))


@pytest.mark.parametrize("kernel", ["../evil.nbc", f"../{name(0)}", f"/{name(0)}", f"sub/{name(0)}", f"C:{name(0)}",
                                    f"..\\{name(0)}", f"{name(0)}\n", "notes.txt", ".", "", f"{name(0)}/..", "a\0.nbc"])
def test_names_lead_nowhere_else(kernel: str, pack: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packs.write_pack(pack, [(kernel, DATA)], packs.Pack(pack).manifest)
    with pytest.raises(ValueError, match="is no kernel's name"):
        cache.import_kernels(pack)
    assert not folder.exists()
    assert command(capsys, "import", str(pack))[0] == 2


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{}", b'"x"', b"[" * 100_000, b"\xff", {"format": "other"},
                                      {"format": "fastconv kernels 1"},
                                      {"format": "fastconv kernels 1", "manifest": {}, "sha256": 1},
                                      {"format": "fastconv kernels 1", "manifest": 1, "sha256": {}}])
def test_a_damaged_manifest(manifest: Any, pack: Path) -> None:
    zipped(pack, manifest_json=manifest)
    with pytest.raises(ValueError, match="not a pack of kernels"):
        cache.import_kernels(pack)


def test_a_damaged_kernel_keeps_all_out(pack: Path, folder: Path) -> None:
    with zipfile.ZipFile(pack) as opened:
        members = {info.filename: opened.read(info) for info in opened.infolist()}
    members[name(2)] = members[name(2)][:-1]  # whole for the zip, not for its checksum
    with zipfile.ZipFile(pack, "w") as opened:
        for member, data in members.items():
            opened.writestr(member, data)
    assert packs.Pack(pack).get(name(2)) is None
    with pytest.raises(ValueError, match=f"is damaged: 1 of 4 kernels, {name(2)} among them"):
        cache.import_kernels(pack)
    assert not folder.exists()


@given(place=st.floats(0, 1), damage=st.sampled_from(["cut", "flip", "zeros", "insert"]))
def test_damaged_packs_import_right_or_not_at_all(
    place: float, damage: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTCONV_CACHE_DIR", str(folder / "cache"))
        manifest = target.manifest(target.processor())
        packs.write_pack(folder / "pack", [(name(number), DATA) for number in range(3)], manifest)
        data = (folder / "pack").read_bytes()
        at = int(place * (len(data) - 1))
        after = {"cut": b"", "flip": bytes([data[at] ^ 0x10]) + data[at + 1 :], "zeros": bytes(len(data) - at),
                 "insert": b"x" + data[at:]}[damage]
        (folder / "pack").write_bytes(data[:at] + after)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the manifest may be another
                cache.import_kernels(folder / "pack")
        except ValueError:
            assert not (folder / "cache").exists()
        else:
            assert all(file.read_bytes() == DATA for file in (folder / "cache").glob("*"))
    shutil.rmtree(folder)


def test_what_is_missing_or_cannot_be_written(
    pack: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = command(capsys, "import", "no-such.zip")
    assert code == 2
    assert "no-such.zip" in err
    assert command(capsys, "export", str(pack.parent / "no-such" / "pack"))[0] == 2
    monkeypatch.setattr(files, "write", lambda file, data: False)
    with pytest.raises(OSError, match=f"cannot be written to {folder}"):
        cache.import_kernels(pack)


def test_imported_kernels_are_loaded(tmp_path: Path) -> None:
    """Export, clear, import, each in a process of its own; then a call compiles nothing."""
    folder, pack = tmp_path / "cache", str(tmp_path / "pack")
    finish(start(folder, "-c", CALL))
    before = kernels(folder)
    assert before
    for verb, told in (["export", pack], "exported"), (["clear"], "removed"), (["import", pack], "imported"):
        assert finish(start(folder, "-m", "fastconv", "cache", *verb)) == f"{len(before)} kernels {told}\n"
        assert (left(folder) == set()) == (told == "removed")
    compiling = "from numba.core import compiler\ncompiler.compile_extra = None\n"  # whoever calls it fails
    finish(start(folder, "-c", compiling + CALL))
    assert kernels(folder) == before


# -- processors ----------------------------------------------------------------------------------------------

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
