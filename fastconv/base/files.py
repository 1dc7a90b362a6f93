"""Files of the user's cache folder: compiled kernels, and measured choices ("wisdom").

A file is replaced in one step and read as a whole, so processes never wait for each other. Removing a file twice does
no harm. When the compiled kernels exceed a limit, the ones used least recently are removed.

Loading a kernel runs the code in its file. So a folder or file that another user owns or can write to is not used at
all. The folders above need no check: whoever can replace our folder by another one still cannot make files that belong
to this user.
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

#: File name of a compiled kernel: its function, a hash of all that its code depends on, and the suffix of its device.
KERNEL = re.compile(r"[\w.<>-]+-[0-9a-f]{32,64}\.(nbc|cubin)", re.ASCII)
#: File name of a file that is still being written.
TEMPORARY = re.compile(r"fastconv-\w+\.tmp")

#: Bytes of compiled kernels that are kept unless $FASTCONV_CACHE_BYTES is set: three times what all tests compile.
DEFAULT_LIMIT = 256 << 20
#: Share of the limit that a process writes before it counts the cache again, which takes 5 ms for a thousand files.
UNSEEN_SHARE = 1 / 16
#: Seconds before a file's use is noted again: a warm start reads hundreds of files and should write none.
NOTED = 3600
#: Seconds after which an unfinished file counts as left behind by a process that died: a day.
ABANDONED = 86_400

#: Bytes written by this process since it last counted the cache; infinite at first, so the first file makes it count.
_unseen: float = math.inf


class Entry(NamedTuple):
    """A file of the cache: its path, its size in bytes, and the time of its last use in seconds since the epoch."""

    file: Path
    size: int
    used: float

    @property
    def is_kernel(self) -> bool:
        return KERNEL.fullmatch(self.file.name) is not None


# -- where ---------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """The folder of compiled kernels and wisdom: ``$FASTCONV_CACHE_DIR``, else a folder in the user's cache."""
    if given := os.environ.get("FASTCONV_CACHE_DIR"):
        return Path(os.path.expanduser(given))
    import platformdirs  # late: it takes 5 ms

    with suppress(RuntimeError):  # no home
        return platformdirs.user_cache_path("fastconv", appauthor=False)
    return Path("~")


def untrusted(folder: Path) -> str | None:
    """The reason why nothing is read from or written to `folder`; None if it is the user's own, or absent."""
    if folder.parts[:1] == ("~",):
        return "there is no home folder; set FASTCONV_CACHE_DIR"
    if not hasattr(os, "geteuid"):  # Windows, where a profile belongs to its user
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
    """The reason why another user may have written this file or folder; None if nobody else can have."""
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid != os.geteuid():
        return f"it belongs to another user (number {status.st_uid})"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others can write to it (its mode is {stat.S_IMODE(status.st_mode):o}; chmod go-w changes that)"
    return None


def problem(folder: Path) -> str | None:
    """The reason why a folder is not used, or is only read; None if all is well."""
    if refused := untrusted(folder):
        return f"not used: {refused}"
    place = next(place for place in (folder, *folder.parents) if os.path.exists(place))
    return None if os.access(place, os.W_OK | os.X_OK) else f"only read: nothing can be written to {place}"


def _refused(file: Path) -> bool:
    return any(map(untrusted, {cache_folder(), file.parent}))


# -- reading and writing -------------------------------------------------------------------------------------


def read(file: Path, *, note: bool = True) -> bytes | None:
    """A file's content; None if there is no file that can be trusted. With `note` its use is noted for `prune`."""
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
    """Write a file in one step, so that other processes see the old or the new content; False if that fails."""
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
    except OSError:  # a cache that cannot be written to must not make the call fail
        return False
    _unseen += len(data)
    most = limit()
    if _unseen > UNSEEN_SHARE * most:
        _unseen = 0
        prune(most)
    return True


def _make(folder: Path) -> None:
    """Make a folder and those above it, each for this user alone; `Path.mkdir` sets the mode of the last one only."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(0o700, exist_ok=True)


# -- how much ------------------------------------------------------------------------------------------------


def limit() -> int:
    """The limit in bytes of compiled kernels; ValueError if $FASTCONV_CACHE_BYTES is not a number of bytes."""
    text = os.environ.get("FASTCONV_CACHE_BYTES") or str(DEFAULT_LIMIT)
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"FASTCONV_CACHE_BYTES must be a number of bytes like {DEFAULT_LIMIT}, got {text!r}")
    return int(text)


def entries(folder: Path) -> list[Entry]:
    """The files of a folder, the most recently used first; an empty list if the folder is not trusted."""
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
    """Remove the kernels used least recently until the rest take at most `most` bytes; returns how many were removed.

    Unfinished files that processes left behind are removed, too."""
    found, abandoned = entries(cache_folder()), time.time() - ABANDONED
    remove(file for file, _, used in found if used < abandoned and TEMPORARY.fullmatch(file.name))
    kernels = [entry for entry in found if entry.is_kernel]
    totals = accumulate(entry.size for entry in kernels)
    return remove(entry.file for entry, total in zip(kernels, totals, strict=True) if total > most)


def remove(files: Iterable[Path]) -> int:
    """Remove files; returns how many of them are gone."""
    count = 0
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)
            count += 1
    return count
