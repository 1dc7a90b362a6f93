"""The cache of compiled kernels: looking into it, making it smaller, and carrying it to other machines.

A kernel is compiled when it is first needed and kept in a folder of the user: ``$FASTCONV_CACHE_DIR``, else where the
system has caches. When all kernels take more than ``$FASTCONV_CACHE_BYTES``, by default 256 MiB, the ones used least
recently are removed. Loading a kernel runs the code in its file, so a folder that belongs to another user, or that
others can write to, is not used at all. Each process then compiles its kernels anew, as it does where there is no home
folder. `info` tells whether the cache is used.

Measured choices lie in this folder, too, but are no concern of this module: see `fastconv.wisdom`.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import files
from .base.packs import Pack, write_pack
from .base.units import byte_count
from .typing import Processor

if TYPE_CHECKING:
    from .warming.warmup import Problems

__all__ = ["Files", "Info", "clear", "export_kernels", "import_kernels", "info", "prune"]


@dataclass(frozen=True)
class Files:
    """A number of files, and the bytes that they take together."""

    count: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.count:,} file{'s' * (self.count != 1)}, {byte_count(self.bytes)}"


@dataclass(frozen=True)
class Info:
    """The content and state of the cache, from `info`. ``str()`` gives it as lines of text."""

    folder: Path
    """The folder of the cache, which may not exist yet."""
    problem: str | None
    """The reason why the cache is not used, or is only read; None if all is well."""
    kernels: Files
    """Kernels compiled for the CPU."""
    gpu_kernels: Files
    """Kernels compiled for GPUs."""
    wisdom: Files
    """Measured choices, for all machines that use the folder; see `fastconv.wisdom`."""
    other: Files
    """The processor's measured peak, unfinished files, and files that do not belong there."""
    limit: int
    """Bytes that kernels may take before those used least recently are removed."""
    used: tuple[datetime, datetime] | None
    """Last uses, to the hour, of the kernel that would be removed first and of the one used last; None without any."""

    def __str__(self) -> str:
        lines = {
            "folder": self.folder,
            "problem": self.problem,
            "kernels": self.kernels,
            "GPU kernels": self.gpu_kernels,
            "wisdom": self.wisdom,
            "other": self.other,
            "limit": f"{byte_count(self.limit)} of kernels",
            "used": self.used and "from {:%Y-%m-%d %H:%M} to {:%Y-%m-%d %H:%M}".format(*self.used),
        }
        return "\n".join(f"{label:<14} {text!s}" for label, text in lines.items() if text is not None)


def info() -> Info:
    """The content of the cache, and whether it can be used.

    Returns
    -------
    Info
        The folder, the problem with it if there is one, files by kind, the limit, and when kernels were used.

    Raises
    ------
    ValueError
        If ``FASTCONV_CACHE_BYTES`` is set to something that is not a number of bytes.

    Examples
    --------
    >>> from fastconv import cache
    >>> found = cache.info()
    >>> found.kernels.count >= 0
    True
    >>> print(found)  # doctest: +SKIP
    folder         /home/ada/.cache/fastconv
    kernels        212 files, 14.1 MiB
    GPU kernels    0 files, 0 B
    wisdom         3 files, 1.2 KiB
    other          1 file, 7 B
    limit          256.0 MiB of kernels
    used           from 2026-11-02 09:14 to 2026-11-29 07:22
    """
    folder = files.cache_folder()
    found = files.entries(folder)
    kernels = [entry for entry in found if entry.is_kernel]
    places = [] if files.untrusted(folder) else folder.glob("wisdom/*")
    learnt = [entry for place in places for entry in files.entries(place)]
    used = [datetime.fromtimestamp(entry.used) for entry in kernels]
    return Info(
        folder=folder,
        problem=files.problem(folder),
        kernels=_files_of(entry for entry in kernels if entry.file.suffix == ".nbc"),
        gpu_kernels=_files_of(entry for entry in kernels if entry.file.suffix == ".cubin"),
        wisdom=_files_of(learnt),
        other=_files_of(entry for entry in found if not entry.is_kernel),
        limit=files.limit(),
        used=(used[-1], used[0]) if used else None,
    )


def prune(limit: int | None = None) -> int:
    """Remove the compiled kernels used least recently, until the others take no more bytes than the limit.

    This happens by itself while kernels are compiled. Wisdom is not touched.

    Parameters
    ----------
    limit : int, optional
        The limit in bytes; by default ``FASTCONV_CACHE_BYTES``, or 256 MiB.

    Returns
    -------
    int
        Number of kernels that were removed.

    Raises
    ------
    TypeError, ValueError
        If `limit` or ``FASTCONV_CACHE_BYTES`` is not a number of bytes.
    PermissionError
        If the folder is not used; the message says why.

    Examples
    --------
    >>> from fastconv import cache
    >>> cache.prune(1 << 50)
    0
    """
    if limit is None:
        limit = files.limit()
    elif isinstance(limit, bool) or not hasattr(limit, "__index__"):
        raise TypeError(f"limit must be an integer, got {limit!r}")
    elif limit < 0:
        raise ValueError(f"limit must be a number of bytes, got {limit}")
    _folder()
    return files.prune(limit)


def clear() -> int:
    """Remove all compiled kernels, for the CPU and for GPUs, and the processor's measured peak.

    They are made again when they are needed. Wisdom stays; `fastconv.wisdom.forget_wisdom` removes it.

    Returns
    -------
    int
        Number of kernels that were removed.

    Raises
    ------
    PermissionError
        If the folder is not used; the message says why.
    """
    from .cpu.system import target

    folder = _folder()
    files.remove([folder / target.IMPORTED])
    files.remove(folder.glob(f"peak-{'[0-9a-f]' * 16}.txt"))
    return files.remove(entry.file for entry in files.entries(folder) if entry.is_kernel)


def export_kernels(
    file: str | os.PathLike[str], *, processor: Processor = "host", problems: Problems | None = None
) -> int:  # fmt: skip
    """Write compiled kernels into one file, a pack, for `import_kernels` or the environment's ``$FASTCONV_KERNELS``.

    A pack can be used where Python, NumPy, Numba and fastconv have these versions and the processor has all features
    of the one that the pack is for.

    Parameters
    ----------
    file : str or path
        The file to write; a zip.
    processor : str, optional
        "host", to write the kernels in the cache that are for this processor; or a class of processors, "x86-64-v3"
        (with AVX2) or "x86-64-v4" (with AVX-512), to compile for it everything that `fastconv.warmup` compiles.
    problems : optional
        Problems to compile for a class, as in `fastconv.warmup`; by default the common problems of all operations.

    Returns
    -------
    int
        Number of kernels in the pack.

    Raises
    ------
    ValueError, TypeError
        If the class is unknown, this processor is not of that class, `problems` are given for "host", or one is none.
    PermissionError
        If the cache is not used; the message says why.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from fastconv import cache
    >>> cache.export_kernels("kernels.zip")  # doctest: +SKIP
    212
    """
    import subprocess  # late: `import fastconv` does not need it

    from .cpu.system import target
    from .cpu.system.processor import CLASSES, host
    from .warming.warmup import portable

    if processor == "host":
        if problems is not None:
            raise ValueError("problems are compiled for a class of processors; for 'host' the cache is exported")
        return _export(file, _folder(), target.processor())
    if processor not in CLASSES:
        raise ValueError(f"processor must be 'host' or one of {', '.join(map(repr, CLASSES))}, got {processor!r}")
    goal = CLASSES[processor]
    if lacking := sorted(goal.features - host().features):
        raise ValueError(f"processor {processor!r} has {', '.join(lacking)}, which this one lacks")
    asked = pickle.dumps(portable(problems))
    with tempfile.TemporaryDirectory() as folder:
        settings = {"NUMBA_CPU_NAME": goal.name, "NUMBA_CPU_FEATURES": goal.flags, "FASTCONV_CACHE_DIR": folder}
        path = [str(target.PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | settings | {"PYTHONPATH": os.pathsep.join(path), "FASTCONV_KERNELS": ""}
        code = "import pickle, sys, fastconv; fastconv.warmup(pickle.load(sys.stdin.buffer))"
        command = [sys.executable, "-P", "-c", code]
        subprocess.run(command, env=environment, input=asked, check=True)
        return _export(file, Path(folder), goal)


def _export(file: str | os.PathLike[str], folder: Path, processor: Any) -> int:
    from .cpu.system import target

    made_for = target.kernels_id(processor)
    found = sorted(entry.file for entry in files.entries(folder) if entry.is_kernel)
    read = ((one.name, files.read(one, note=False) or b"") for one in found)  # packing a kernel is no use of it
    kernels = ((name, data) for name, data in read if data[32:48] == made_for or (data and name.endswith(".cubin")))
    return write_pack(file, kernels, target.manifest(processor))


def import_kernels(file: str | os.PathLike[str]) -> int:
    """Take the kernels of a pack that `export_kernels` wrote into the cache, if they were compiled for such a machine.

    To import a pack is to trust its maker, as with a program: it contains machine code and pickles.

    Parameters
    ----------
    file : str or path
        A pack.

    Returns
    -------
    int
        Number of kernels that were taken: all; or none, with a warning that tells how this machine, its processor or
        the versions of its packages differ.

    Raises
    ------
    ValueError
        If the file is no pack, or damaged. Nothing is taken then.
    PermissionError
        If the cache is not used; the message says why.
    OSError
        If the file cannot be read, or the cache cannot be written.

    Examples
    --------
    >>> from fastconv import cache
    >>> cache.import_kernels("no-such.zip")
    Traceback (most recent call last):
    ...
    FileNotFoundError: [Errno 2] No such file or directory: 'no-such.zip'
    """
    from .cpu.system import target
    from .cpu.system.processor import host

    name, folder, pack = os.fspath(file), _folder(), Pack(file)
    if why := target.misfit(pack):
        warnings.warn(f"nothing is imported of {name}, which is for another machine or version: {why}", stacklevel=2)
        return 0
    kernels = {kernel: data for kernel in pack.names if (data := pack.get(kernel)) is not None}
    if damaged := sorted(set(pack.names) - kernels.keys()):
        raise ValueError(f"{name} is damaged: {len(damaged)} of {len(pack.names)} kernels, {damaged[0]} among them")
    for kernel, data in kernels.items():
        if not files.write(folder / kernel, data):
            raise OSError(f"{kernel} cannot be written to {folder}")
    processor = target.processor_of(pack)
    if processor == host():
        files.remove([folder / target.IMPORTED])
    else:
        told = json.dumps({"name": processor.name, "features": sorted(processor.features)})
        files.write(folder / target.IMPORTED, told.encode())
    return len(kernels)


def _folder() -> Path:
    """The cache's folder; PermissionError if it is not used."""
    folder = files.cache_folder()
    if refused := files.untrusted(folder):
        raise PermissionError(f"{folder} is not used: {refused}")
    return folder


def _files_of(entries: Iterable[files.Entry]) -> Files:
    sizes = [entry.size for entry in entries]
    return Files(len(sizes), sum(sizes))
