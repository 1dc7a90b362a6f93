"""The cache: its folder, who is trusted, and what is pruned; from Python and from the command line."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_files import CALL, DATA, command, fill, finish, kernels, left, name, start, used

from fastconv import cache
from fastconv.base import files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder, which is not there yet."""
    monkeypatch.setenv("FASTCONV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTCONV_CACHE_BYTES", raising=False)
    return tmp_path / "cache"


def untouched(folder: Path) -> dict[Path, tuple[int, ...]]:
    """What tells that files and folders were neither written nor replaced; to look at a folder is no harm."""
    found = ((file, file.stat()) for file in folder.rglob("*"))
    return {file: (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns) for file, status in found}


# -- where it is ---------------------------------------------------------------------------------------------


def test_the_folder_is_the_systems_unless_it_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import platformdirs

    monkeypatch.setenv("FASTCONV_CACHE_DIR", "")
    assert files.cache_folder() == Path(platformdirs.user_cache_dir("fastconv", appauthor=False))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FASTCONV_CACHE_DIR", "~/kernels")  # as a container's settings write it, without a shell
    assert files.cache_folder() == tmp_path / "kernels"


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    def homeless(*_: object, **__: object) -> Path:
        raise RuntimeError

    for answer in (homeless, lambda *_, **__: Path("~/.cache/fastconv")):  # as its versions differ
        monkeypatch.setattr(platformdirs, "user_cache_path", answer)
        monkeypatch.delenv("FASTCONV_CACHE_DIR", raising=False)
        assert not files.write(files.cache_folder() / name(0), DATA)
        assert files.read(files.cache_folder() / name(0)) is None
        assert cache.info().problem == "not used: there is no home folder; set FASTCONV_CACHE_DIR"
    assert not Path("~").exists()


def test_folders_that_are_made_are_the_users_alone(folder: Path) -> None:
    before = os.umask(0o002)
    try:
        assert files.write(folder / "wisdom" / "machine" / "0.json", b"{}")
    finally:
        os.umask(before)
    for made in (folder, folder / "wisdom", folder / "wisdom" / "machine"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


# -- info ----------------------------------------------------------------------------------------------------


def test_info(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = cache.Files(0, 0)
    assert cache.info() == cache.Info(folder, None, nothing, nothing, nothing, nothing, 256 << 20, None)
    assert not folder.exists()
    oldest, *_, newest = fill(folder)
    for file in (name(9, "cubin"), "wisdom/one/0.json", "wisdom/two/1.json", "peak-0123456789abcdef.txt"):
        assert files.write(folder / file, b"12345")
    used(folder / name(9, "cubin"), hours_ago=2)
    found = cache.info()
    assert (found.kernels, found.gpu_kernels) == (cache.Files(4, 4000), cache.Files(1, 5))
    assert (found.wisdom, found.other) == (cache.Files(2, 10), cache.Files(1, 5))
    assert found.used is not None
    assert [moment.timestamp() for moment in found.used] == pytest.approx(
        [oldest.stat().st_mtime, newest.stat().st_mtime], abs=1e-3)
    lines = dict(line.split(maxsplit=1) for line in str(found).splitlines())
    assert lines["folder"] == str(folder)
    assert lines["kernels"] == "4 files, 3.9 KiB"
    assert lines["other"] == "1 file, 5 B"
    assert "problem" not in lines
    assert command(capsys, "info") == (0, f"{found}\n", "")


def test_a_folder_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = fill(folder, 1)
    data = DATA

    def full(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:  # root may write wherever the disk lets it
        patch.setattr(tempfile, "mkstemp", full)
        patch.setattr(os, "utime", full)
        patch.setattr(os, "access", lambda *_: False)
        assert not files.write(folder / name(1), data)
        assert files.read(file) == data
        assert cache.info().problem == f"only read: nothing can be written to {folder}"
    monkeypatch.setenv("FASTCONV_CACHE_DIR", str(file))
    assert cache.info().problem == "not used: it is not a folder"
    monkeypatch.setenv("FASTCONV_CACHE_DIR", str(file / "below"))
    assert cache.info().problem == "not used: Not a directory"
    assert not files.write(file / "below" / name(1), data)
    assert file.read_bytes() == data


# -- who is trusted ------------------------------------------------------------------------------------------


def assert_unused(folder: Path, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = untouched(folder)
    assert files.read(folder / name(0)) is None
    assert files.read(folder / "wisdom" / "machine" / "0.json") is None
    assert not files.write(folder / name(0), b"new")
    assert not files.write(folder / "wisdom" / "other" / "0.json", b"new")
    found = cache.info()
    assert found.problem is not None
    assert found.problem.startswith("not used: ")
    assert why in found.problem
    assert (found.kernels.count, found.wisdom.count, found.other.count, found.used) == (0, 0, 0, None)
    for verb in (["prune"], ["clear"], ["export", str(folder / "pack")], ["import", str(folder / "pack")]):
        code, out, err = command(capsys, *verb)
        assert (code, out) == (2, "")
        assert err.startswith(f"fastconv: {files.cache_folder()} is not used: ")
        assert why in err
    assert untouched(folder) == before


@pytest.fixture
def filled(folder: Path) -> Path:
    fill(folder)
    assert files.write(folder / "wisdom" / "machine" / "0.json", b"{}")
    return folder


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o722])
def test_a_folder_that_others_can_write_to(filled: Path, mode: int, capsys: pytest.CaptureFixture[str]) -> None:
    filled.chmod(mode)
    assert_unused(filled, f"others can write to it (its mode is {mode:o};", capsys)
    filled.chmod(0o755)
    assert files.read(filled / name(0)) == DATA


def test_a_folder_of_another_user(
    filled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = filled.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert_unused(filled, f"it belongs to another user (number {owner})", capsys)


def test_a_link_counts_as_what_it_leads_to(
    filled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    link = filled.with_name("link")
    link.symlink_to(filled)
    monkeypatch.setenv("FASTCONV_CACHE_DIR", str(link))
    assert files.read(link / name(0)) == DATA
    filled.chmod(0o777)
    assert_unused(filled, "others can write to it", capsys)


def test_a_private_folder_within_a_public_one(folder: Path) -> None:
    folder.parent.chmod(0o1777)
    (file,) = fill(folder, 1)
    assert files.read(file) == DATA


def test_a_file_that_another_user_wrote(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's own folder may hold files that others once wrote."""
    fstat = os.fstat

    def foreign(handle: int) -> Any:
        told = list(fstat(handle))
        told[stat.ST_UID] += 1
        return os.stat_result(told)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", foreign)
        assert files.read(filled / name(0)) is None
        assert cache.export_kernels(filled.with_name("pack")) == 0
    (filled / name(0)).chmod(0o666)
    assert files.read(filled / name(0)) is None
    assert files.write(filled / name(0), b"compiled again")
    assert files.read(filled / name(0)) == b"compiled again"


def test_where_owners_cannot_be_told_the_profile_is_trusted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "geteuid")
    monkeypatch.setenv("HOME", str(tmp_path))
    (file,) = fill(folder, 1)
    assert files.read(file) == DATA
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    assert files.read(file) is None
    assert cache.info().problem == f"not used: it is outside of {tmp_path / 'elsewhere'}"


def test_kernels_are_compiled_where_the_folder_is_not_used(tmp_path: Path) -> None:
    """Nothing of it is loaded, nothing is written, and nothing is said."""
    tmp_path.chmod(0o777)
    assert finish(start(tmp_path, "-c", CALL)) == ""
    assert left(tmp_path) == set()
    tmp_path.chmod(0o700)
    assert finish(start(tmp_path, "-c", CALL)) == ""
    assert kernels(tmp_path)
    assert all(map(files.KERNEL.fullmatch, kernels(tmp_path))), "what `prune` and packs look for is what is written"


# -- making it smaller ---------------------------------------------------------------------------------------


def test_prune_removes_what_was_used_least_recently(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *_, fourth = fill(folder)
    assert cache.prune() == 0
    files.read(first)  # now it is the last
    assert cache.prune(4000) == 0
    assert cache.prune(2999) == 2
    assert left(folder) == {first.name, fourth.name}
    assert command(capsys, "prune", "--limit", "1000") == (0, "1 kernels removed\n", "")
    assert left(folder) == {first.name}
    assert cache.prune(0) == 1


def test_use_is_noted_once_an_hour(folder: Path) -> None:
    (file,) = fill(folder, 1)
    for minutes, noted in ((59, False), (61, True)):
        used(file, hours_ago=minutes / 60)
        before = file.stat().st_mtime
        assert files.read(file) == DATA
        assert (file.stat().st_mtime > before) == noted


def test_packing_is_not_using(folder: Path, tmp_path: Path) -> None:
    filled = fill(folder)
    before = [file.stat() for file in filled]
    assert cache.export_kernels(tmp_path / "pack") == 4
    assert [file.stat().st_mtime for file in filled] == [status.st_mtime for status in before]


def test_only_kernels_are_pruned_and_cleared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = {"wisdom/machine/0.json", "notes.txt", "peak-performance.txt", "mine.cubin", "some.nbc", "my.tmp",
            "fastconv-notes.txt"}
    for file in kept | {"peak-0123456789abcdef.txt", name(9, "cubin"), "fastconv-0ld_.tmp"}:
        assert files.write(folder / file, b"")
        used(folder / file, hours_ago=100)
    assert files.write(folder / "fastconv-new.tmp", b"")
    fill(folder)
    assert cache.prune(0) == 5
    assert "fastconv-0ld_.tmp" not in left(folder), "a process that died left it"
    assert "fastconv-new.tmp" in left(folder), "it is being written"
    assert "peak-0123456789abcdef.txt" in left(folder)
    fill(folder)
    assert files.write(folder / name(9, "cubin"), b"")
    assert command(capsys, "clear") == (0, "5 kernels removed\n", "")
    rest = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert rest == kept | {"fastconv-new.tmp"}
    assert cache.clear() == 0


def test_it_prunes_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    prune = files.prune
    monkeypatch.setattr(files, "prune", lambda most: (looks.append(most), prune(most)))
    monkeypatch.setattr(files, "_unseen", float("inf"))  # as in a new process
    monkeypatch.setenv("FASTCONV_CACHE_BYTES", "32000")
    for number in range(100):
        assert files.write(folder / name(number), DATA)
        used(folder / name(number), hours_ago=1000 - number)
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 32000 * (1 + files.UNSEEN_SHARE) + 1000
    assert name(99) in left(folder)
    assert name(0) not in left(folder)
    assert len(looks) == 34, "before and after every third file: 2000 bytes are a sixteenth of the limit"
    monkeypatch.setenv("FASTCONV_CACHE_BYTES", "0")
    assert files.write(folder / name(100), DATA)
    assert left(folder) == set()


@pytest.mark.parametrize("text", ["lots", "-1", "1e6", "256MB", "1.5", " ", "9" * 30, "²"])
def test_a_limit_that_is_none(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("FASTCONV_CACHE_BYTES", text)
    for act in (cache.info, cache.prune, lambda: files.write(folder / name(0), DATA)):
        with pytest.raises(ValueError, match="FASTCONV_CACHE_BYTES must be a number of bytes"):
            act()
    assert command(capsys, "info")[0] == 2


def test_the_limit_can_be_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, limit in (("", 256 << 20), ("0", 0), ("5000000000", 5_000_000_000)):
        monkeypatch.setenv("FASTCONV_CACHE_BYTES", text)
        assert cache.info().limit == limit


@pytest.mark.parametrize(("limit", "error"), [("1", TypeError), (1.5, TypeError), (True, TypeError), (-1, ValueError)])
def test_prune_takes_numbers_of_bytes(limit: Any, error: type[Exception], folder: Path) -> None:
    with pytest.raises(error, match="limit must be"):
        cache.prune(limit)
    assert cache.prune(np.int64(5)) == 0  # type: ignore[arg-type] # an integer all the same


def test_many_processes_write_read_and_prune(folder: Path) -> None:
    code = """
import random, sys
from fastconv import cache
from fastconv.base import files
mine = random.Random(int(sys.argv[1]))
for _ in range(400):
    number = mine.randrange(20)
    file = files.cache_folder() / f"_kernel-{number:040x}.nbc"
    data = files.read(file)
    assert data is None or data == bytes([number]) * 1000, (number, data)
    if data is None:
        assert files.write(file, bytes([number]) * 1000)
    if number == 0:
        cache.prune(5000)
assert files.prune(0) <= 20
"""
    for process in [start(folder, "-c", code, str(seed), FASTCONV_CACHE_BYTES="10000") for seed in range(4)]:
        finish(process)
    assert not [file for file in left(folder) if file.endswith(".tmp")]
