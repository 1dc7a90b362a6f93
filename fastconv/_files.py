"""Where this package keeps what it need not find out twice, and how: whole files, replaced in one step."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Where compiled kernels and wisdom are kept: ``$FASTCONV_CACHE_DIR``, else a folder in the user's cache."""
    if given := os.environ.get("FASTCONV_CACHE_DIR"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):  # a user without a home
        return Path(base) / "fastconv" if base else Path.home() / ".cache" / "fastconv"
    return Path(tempfile.gettempdir()) / f"fastconv-{os.getuid()}"


def write(file: Path, data: bytes) -> bool:
    """Write a file that other processes see as it was or as it will be; False if it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            os.replace(temporary, file)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError:  # a cache that cannot be written is no reason to fail
        return False
    return True
