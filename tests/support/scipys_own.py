"""SciPy's own tests of `scipy.ndimage`, run with the functions of `fastconv.ndimage` in place of SciPy's.

    python tests/support/scipys_own.py test_filters [what pytest takes]

SciPy's wheels carry them. They look names up in `scipy.ndimage`, where ours are put before they are collected.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import pytest
import scipy.ndimage

import fastconv.ndimage

xp_capabilities_table: dict[Any, Any] = {}
with contextlib.suppress(ImportError):  # SciPy has it from 1.17 on
    from scipy._lib._array_api import xp_capabilities_table


def replace() -> None:
    """Put our functions in the place of SciPy's, also where SciPy notes which kinds of arrays each takes."""
    for name in fastconv.ndimage.__all__:
        theirs, ours = getattr(scipy.ndimage, name, None), getattr(fastconv.ndimage, name)
        if theirs is None:
            continue
        if theirs in xp_capabilities_table:
            xp_capabilities_table[ours] = xp_capabilities_table[theirs]
        setattr(scipy.ndimage, name, ours)


def main(arguments: list[str]) -> int:
    """Run the tests of a module by its name, and tell pytest's exit status."""
    replace()
    module, *others = arguments
    path = Path(scipy.ndimage.__file__).parent / "tests" / f"{module}.py"
    settings = "-p", "no:cacheprovider", "--rootdir", str(path.parent), "-c", "/dev/null"
    return int(pytest.main([str(path), *settings, *others]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
