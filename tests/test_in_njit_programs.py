"""Programs of callers that have functions of this package in their ``@njit``."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import numba
import numpy as np
import pytest
from in_njit import same
from processes import run, run_code

from fastconv import ndimage

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[1]


def test_calls_run_serially_inside_a_prange() -> None:
    @numba.njit(parallel=True)
    def each(images):
        out = np.empty_like(images)
        for number in numba.prange(len(images)):
            out[number] = ndimage.minimum_filter(images[number], (3, 5))
        return out

    images = np.random.default_rng(14).random((40, 20, 30), np.float32)
    for result, image in zip(each(images), images, strict=True):
        same(result, ndimage.minimum_filter(image, (3, 5)))


CACHED = """
import sys
import numba
import numpy as np
import fastconv

fastconv.numba.declare()
smooth = fastconv.numba.correlate((3, 3), np.float64)

@numba.njit(cache=True)
def edges(x, k):
    return fastconv.max_pool2d(smooth(x, k), 2)

if __name__ == "__main__":
    x, k = np.arange(90.0).reshape(9, 10) ** 2, np.arange(9.0).reshape(3, 3)
    result = edges(x, k)
    print(sum(edges.stats.cache_hits.values()), result.sum())
"""


def test_a_callers_cache_keeps_the_code(tmp_path: Path) -> None:
    """The second process finds on disk what the first one compiled, and nothing that belonged to that process."""
    script = tmp_path / "program.py"
    script.write_text(CACHED)
    results = [run(script, NUMBA_CACHE_DIR=tmp_path).split() for _ in range(2)]
    assert [hits for hits, _ in results] == ["0", "1"]
    assert results[0][1] == results[1][1]


def test_numba_finds_the_functions_by_the_entry_point(tmp_path: Path) -> None:
    """As an installed package has it: where Numba compiles first, and where the package is imported later."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["numba_extensions"]
    metadata = tmp_path / "other-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[numba_extensions]\ninit = {entry['init']}\n")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    use = "\n@njit\ndef f(x):\n    return fastconv.max_pool2d(x, 2)\n\nassert f(np.ones((4, 4))).sum() == 4\n"
    first = "import sys\nimport numpy as np\nfrom numba import njit\nnjit(lambda x: x + 1)(1)\n"
    told = "assert 'fastconv.numba.poolings' in sys.modules\n"
    run_code(f"import fastconv\n{first}{told}", PYTHONPATH=path)
    run_code(f"{first}assert 'fastconv' not in sys.modules\nimport fastconv\n{use}", PYTHONPATH=path)


def test_nothing_is_read_or_written_out_of_bounds() -> None:
    """Random problems again, with every index checked."""
    code = """
        import numba, numpy as np, pytest, sys
        import test_in_njit_filters as filters
        import test_in_njit_layers as layers
        from fastconv.numba.parts import part
        beyond = part(lambda x, i: x[i])
        with pytest.raises(IndexError):
            numba.njit(lambda x: beyond(x, len(x)))(np.ones(3))
        filters.test_correlations_equal_plain_calls("f4", ("mirror",))
        filters.test_extremes_equal_plain_calls("minimum_filter", "f4", ("reflect",))
        layers.test_convolutions_equal_plain_calls("f4", ("reflect",))
        filters.test_a_window_of_one_shape_correlates_as_a_plain_call("f4", "wrap", (2, 3))
    """
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "support")))
    run_code(re.sub(r"^ {8}", "", code, flags=re.M), NUMBA_BOUNDSCHECK=1, PYTHONPATH=path)
