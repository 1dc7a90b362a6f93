"""Packs: many compiled kernels in one file, to be carried to other machines of the same kind.

A pack is a zip of the cache's files under their names, and a manifest (JSON) with what they were compiled for and a
SHA-256 of each. Who loads its kernels trusts whoever made it, as with a program: they are pickles and machine code.
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
    """Write kernels, by name, and for what they were compiled; how many there were."""
    import zipfile  # late: 10 ms, and few processes have to do with packs

    checksums: dict[str, str] = {}

    def put(name: str, data: bytes) -> None:  # the date of a ZipInfo is fixed: the same kernels make the same pack
        pack.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # half the size; inflates at 150 MB/s

    with zipfile.ZipFile(file, "w") as pack:
        for name, data in kernels:
            put(name, data)
            checksums[name] = hashlib.sha256(data).hexdigest()
        put(_MANIFEST, json.dumps({"format": _FORMAT, "manifest": manifest, "sha256": checksums}).encode())
    return len(checksums)


class Pack:
    """A pack that was written. It is held in memory, so that the file may be replaced and the process may fork.

    `manifest` is what was given to `write_pack`. A ValueError says that a file is no pack.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        import zipfile  # late, as above

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
        except Exception as error:  # a damaged zip raises whatever its bytes lead to
            raise ValueError(f"{os.fspath(file)} is not a pack of kernels: {error}") from None

    @property
    def names(self) -> tuple[str, ...]:
        """Those of its kernels."""
        return tuple(self._checksums)

    def get(self, name: str) -> bytes | None:
        """A kernel, None if there is none of this name, or it is damaged."""
        try:
            data = self._zip.read(name)
        except Exception:  # as above
            return None
        return data if hashlib.sha256(data).hexdigest() == self._checksums.get(name) else None


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], within: str = "") -> list[str]:
    """Where two manifests differ, like "NumPy 2.1 (here 2.2)"; of lists, what is only there (+) and only here (-)."""
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
