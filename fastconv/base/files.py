"""Where this package keeps what it need not find out twice, and how: whole files that are replaced in one step and that
nobody but the user can have written, of which the compiled kernels used least recently give way to new ones.

Loading a kernel runs whatever its file says. So a folder that others own or can write to is not used at all, and a file
in it is not believed either. The folders above need no look: who can exchange ours for another one still cannot make
files that belong to this user.

Processes do not wait for each other: a file is whole or not there, and removing one twice does no harm.
"""

from __future__ import annotations

import math
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

#: What the file of a compiled kernel is called: a function, a hash of what its code depends on, and for what it is.
KERNEL = re.compile(r"[\w.<>-]+-[0-9a-f]{32,64}\.(nbc|cubin)", re.ASCII)
#: What a file is called that is being written.
TEMPORARY = re.compile(r"fastconv-\w+\.tmp")

#: Bytes of compiled kernels that are kept if $FASTCONV_CACHE_BYTES does not say: three times what all tests compile.
DEFAULT_LIMIT = 256 << 20
#: The share of the limit that a process writes before it looks again how much there is: 5 ms for a thousand files.
UNSEEN_SHARE = 1 / 16
#: Seconds within which a file's use is noted once: a warm start reads hundreds of files, and should write none.
NOTED = 3600
#: Seconds after which a file that is being written was left by a process that died.
ABANDONED = 86_400

#: Bytes that this process has written since it last looked how much there is; it looks after the first file, too.
_unseen: float = math.inf


class Entry(NamedTuple):
    """A file of the cache: its size in bytes, and when it was last used, in seconds since the epoch."""

    file: Path
    size: int
    used: float

    @property
    def is_kernel(self) -> bool:
        return KERNEL.fullmatch(self.file.name) is not None


# -- where ---------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where compiled kernels and wisdom are kept: ``$FASTCONV_CACHE_DIR``, else a folder in the user's cache."""
    if given := os.environ.get("FASTCONV_CACHE_DIR"):
        return Path(os.path.expanduser(given))
    import platformdirs  # late: it takes 5 ms

    with suppress(RuntimeError):  # no home
        return platformdirs.user_cache_path("fastconv", appauthor=False)
    return Path("~")


def untrusted(folder: Path) -> str | None:
    """Why nothing is read from or written to this folder; None if it is the user's own, or not there yet."""
    if folder.parts[:1] == ("~",):
        return "there is no home folder; set FASTCONV_CACHE_DIR"
    if not hasattr(os, "geteuid"):  # Windows, where a profile is its user's own
        profile = os.path.realpath(os.path.expanduser("~"))
        return None if Path(os.path.realpath(folder)).is_relative_to(profile) else f"it is outside of {profile}"
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return str(error.strerror)
    return _others(status) if stat.S_ISDIR(status.st_mode) else "it is not a folder"


def _others(status: os.stat_result) -> str | None:
    """Why somebody else may have written this; None if nobody can have."""
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid != os.geteuid():
        return f"it belongs to another user (number {status.st_uid})"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others can write to it (its mode is {stat.S_IMODE(status.st_mode):o}; chmod go-w changes that)"
    return None


def problem(folder: Path) -> str | None:
    """Why a folder is not used, or only read; None if all is well."""
    if refused := untrusted(folder):
        return f"not used: {refused}"
    place = next(place for place in (folder, *folder.parents) if os.path.exists(place))
    return None if os.access(place, os.W_OK | os.X_OK) else f"only read: nothing can be written to {place}"


def _refused(file: Path) -> bool:
    return any(map(untrusted, {cache_folder(), file.parent}))


# -- reading and writing -------------------------------------------------------------------------------------


def read(file: Path, *, note: bool = True) -> bytes | None:
    """A file's content, None if there is none that can be trusted; that it was used is noted, for `prune`."""
    if _refused(file):
        return None
    try:
        with open(file, "rb") as stream:
            status = os.fstat(stream.fileno())
            if _others(status):
                return None
            data = stream.read()
    except OSError:
        return None
    if note and time.time() - status.st_mtime > NOTED:
        with suppress(OSError):
            os.utime(file)
    return data


def write(file: Path, data: bytes) -> bool:
    """Write a file that other processes see as it was or as it will be; False if it cannot be written."""
    global _unseen
    if _refused(file):
        return False
    try:
        _make(file.parent)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix="fastconv-", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            os.replace(temporary, file)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError:  # a cache that cannot be written is no reason to fail
        return False
    _unseen += len(data)
    most = limit()
    if _unseen > UNSEEN_SHARE * most:
        _unseen = 0
        prune(most)
    return True


def _make(folder: Path) -> None:
    """Make a folder and those above it for this user alone; `Path.mkdir` gives its mode to the last one only."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(0o700, exist_ok=True)


# -- how much ------------------------------------------------------------------------------------------------


def limit() -> int:
    """Bytes of compiled kernels that are kept; ValueError if $FASTCONV_CACHE_BYTES is none such."""
    text = os.environ.get("FASTCONV_CACHE_BYTES") or str(DEFAULT_LIMIT)
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"FASTCONV_CACHE_BYTES must be a number of bytes like {DEFAULT_LIMIT}, got {text!r}")
    return int(text)


def entries(folder: Path) -> list[Entry]:
    """The files of a folder, the most recently used first; none if it is not trusted."""
    found: list[Entry] = []
    if untrusted(folder) is None:
        with suppress(OSError), os.scandir(folder) as items:
            for item in items:
                with suppress(OSError):  # another process has removed it
                    status = item.stat(follow_symlinks=False)
                    if not stat.S_ISDIR(status.st_mode):
                        found.append(Entry(Path(item.path), status.st_size, status.st_mtime))
    return sorted(found, key=lambda entry: (-entry.used, entry.file.name))


def prune(most: int) -> int:
    """Remove the kernels used least recently until the others take so many bytes at most; how many were removed."""
    found, abandoned = entries(cache_folder()), time.time() - ABANDONED
    remove(file for file, _, used in found if used < abandoned and TEMPORARY.fullmatch(file.name))
    kernels = [entry for entry in found if entry.is_kernel]
    totals = accumulate(entry.size for entry in kernels)
    return remove(entry.file for entry, total in zip(kernels, totals, strict=True) if total > most)


def remove(files: Iterable[Path]) -> int:
    """Remove files, and count those that are gone."""
    count = 0
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)
            count += 1
    return count
