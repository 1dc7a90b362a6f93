"""Packs: many compiled kernels in one file, to be carried to other machines of the same kind.

A pack is a zip file. It holds files of the cache under their names, and a manifest (JSON) that says what they were
compiled for and gives a SHA-256 of each. Kernels are pickles and machine code: whoever loads a pack trusts its maker,
as with a program.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .files import KERNEL

_FORMAT = "fastconv kernels 1"
_MANIFEST = "manifest.json"


def write_pack(file: str | os.PathLike[str], kernels: Iterable[tuple[str, bytes]], manifest: Mapping[str, Any]) -> int:
    """Write a pack of kernels (name, content) with a manifest of what they were compiled for; returns their number."""
    import zipfile  # late: it takes 10 ms, and few processes use packs

    checksums: dict[str, str] = {}

    def put(name: str, data: bytes) -> None:  # a ZipInfo has a fixed date: equal kernels make an equal pack
        pack.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # halves the size; inflates at 150 MB/s

    with zipfile.ZipFile(file, "w") as pack:
        for name, data in kernels:
            put(name, data)
            checksums[name] = hashlib.sha256(data).hexdigest()
        put(_MANIFEST, json.dumps({"format": _FORMAT, "manifest": manifest, "sha256": checksums}).encode())
    return len(checksums)


class Pack:
    """A pack, read into memory, so that its file may be replaced and the process may fork.

    `manifest` is what was given to `write_pack`. ValueError if the file is not a pack.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        import zipfile  # late, as in `write_pack`

        data = Path(file).read_bytes()
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            told = json.loads(self._zip.read(_MANIFEST))
            if told["format"] != _FORMAT:
                raise ValueError(f"it does not say {_FORMAT!r}")
            self.manifest: dict[str, Any] = dict(told["manifest"])
            self._checksums: dict[str, str] = dict(told["sha256"])
            for name in self._checksums:
                if not KERNEL.fullmatch(name):
                    raise ValueError(f"{name!r} is no kernel's name")
        except Exception as error:  # a damaged zip can raise anything
            raise ValueError(f"{os.fspath(file)} is not a pack of kernels: {error}") from None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its kernels."""
        return tuple(self._checksums)

    def get(self, name: str) -> bytes | None:
        """The content of a kernel; None if there is none of this name, or it is damaged."""
        try:
            data = self._zip.read(name)
        except Exception:  # a damaged zip can raise anything
            return None
        return data if hashlib.sha256(data).hexdigest() == self._checksums.get(name) else None


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], within: str = "") -> list[str]:
    """The differences of two manifests as texts, like "NumPy 2.1 (here 2.2)".

    Items of a list have a sign: "+" if only `theirs` has it, "-" if only `ours` has it."""
    found = []
    for name in dict.fromkeys((*ours, *theirs)):
        there, here = theirs.get(name), ours.get(name)
        if isinstance(there, dict) and isinstance(here, dict):
            found += differences(there, here, f"{within}{name} ")
        elif isinstance(there, list) and isinstance(here, list):
            signs = {item: "+-"[item in here] for item in sorted({*map(str, there)} ^ {*map(str, here)})}
            if signs:
                found.append(" ".join([f"{within}{name}", *(sign + item for item, sign in signs.items())]))
        elif there != here:
            found.append(f"{within}{name} {there} (here {here})")
    return found
