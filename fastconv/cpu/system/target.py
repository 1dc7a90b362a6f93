"""The processor that kernels are compiled for, and packs of kernels that were compiled elsewhere.

Kernels are compiled for the processor at hand, unless there are ready ones for another processor that has no feature
this one lacks. Then all kernels of this process are for that other one, so that ready kernels and those that must still
be compiled fit each other. Ready kernels come, in this order, from the pack that ``$FASTCONV_KERNELS`` names, from one
that was imported into the cache, or from the packs that a wheel brought along, of which the one for most features is
taken. An empty ``$FASTCONV_KERNELS`` asks for none of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sysconfig
import warnings
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import numba
import numpy as np

from ...base import files
from ...base.packs import Pack, differences
from .processor import Processor, host

PACKAGE = Path(__file__).resolve().parents[2]

#: The folder of the packs that a wheel brings along.
BUNDLED = PACKAGE / "kernels"

#: The file in the cache that says for which processor the imported kernels are.
IMPORTED = "imported.json"


def hash_of(sources: Iterable[Path]) -> str:
    """A hash of the names and contents of source files."""
    digest = hashlib.sha256()
    for file in sorted(sources):
        digest.update(os.path.relpath(file, PACKAGE).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def package_hash() -> str:
    """A hash of all sources of this package."""
    return hash_of(PACKAGE.rglob("*.py"))


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """The versions that all compiled code depends on, beside its sources, the compiler's settings and the processor.

    Patch releases of Python and NumPy are left out: they do not change what compiled code sees of them.
    """
    return {
        "Python": f"{sysconfig.get_config_var('SOABI')}",
        "NumPy": ".".join(np.__version__.split(".")[:2]),
        "Numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "FASTCONV_SIMD": os.environ.get("FASTCONV_SIMD", ""),
    }


def manifest(processor: Processor) -> dict[str, Any]:
    """The description that a pack of kernels for a processor carries."""
    sources = hash_of([*PACKAGE.glob("cpu/**/*.py"), PACKAGE / "base" / "toom_cook.py"])[:16]
    told = {"name": processor.name, "features": sorted(processor.features)}
    return {"kernels": sources, **versions(), "processor": told}


@lru_cache(maxsize=4)
def kernels_id(processor: Processor) -> bytes:
    """Sixteen bytes that tell kernels of these sources, versions and processor from others."""
    return hashlib.sha256(json.dumps(manifest(processor)).encode()).digest()[:16]


def misfit(pack: Pack) -> str | None:
    """How a pack's description differs from what this process needs; None if it fits."""
    there = processor_of(pack)
    found = differences(pack.manifest, manifest(there))
    if lacking := sorted(there.features - host().features):
        found.append(f"processor {there.name} (here {host().name}, without {', '.join(lacking)})")
    return ", ".join(found) or None


def processor_of(pack: Pack) -> Processor:
    """The processor that a pack is for."""
    told = pack.manifest.get("processor")
    told = told if isinstance(told, dict) else {}
    features = told.get("features")
    return Processor(str(told.get("name")), frozenset(map(str, features if isinstance(features, list) else ())))


class _Chosen(NamedTuple):
    processor: Processor
    packs: tuple[Pack, ...]


@lru_cache(maxsize=1)
def _chosen() -> _Chosen:
    given = os.environ.get("FASTCONV_KERNELS")
    if given == "":
        return _Chosen(host(), ())
    if given and (pack := _fitting(given, warn=True)):
        return _Chosen(processor_of(pack), (pack,))
    imported = _imported()
    if imported is not None:
        return _Chosen(imported, ())
    bundled = [pack for file in sorted(BUNDLED.glob("*.zip")) if (pack := _fitting(file, warn=False))]
    if bundled:
        best = max(bundled, key=lambda pack: len(processor_of(pack).features))
        return _Chosen(processor_of(best), (best,))
    return _Chosen(host(), ())


def _fitting(file: str | os.PathLike[str], *, warn: bool) -> Pack | None:
    """The pack in a file; None if it does not fit, with a warning if the user has named it."""
    try:
        pack = Pack(file)
        why = misfit(pack)
    except (OSError, ValueError) as error:
        why = str(error)
    if why is None:
        return pack
    if warn:
        warnings.warn(f"the kernels in {os.fspath(file)} are not used: {why}", stacklevel=2)
    return None


def _imported() -> Processor | None:
    """The processor that imported kernels are for, if they may run on this one."""
    data = files.read(files.cache_folder() / IMPORTED, note=False)
    if data is None:
        return None
    try:
        told = json.loads(data)
        processor = Processor(str(told["name"]), frozenset(map(str, told["features"])))
    except (ValueError, TypeError, KeyError):  # damaged: as if nothing was imported
        return None
    return processor if processor.features <= host().features else None


def processor() -> Processor:
    """The processor that this process's kernels are for."""
    return _chosen().processor


def features() -> frozenset[str]:
    """The instruction sets that this process's kernels may use."""
    return processor().features


def packed(name: str) -> bytes | None:
    """A kernel's file from this process's packs."""
    return next((data for pack in _chosen().packs if (data := pack.get(name)) is not None), None)
