"""`fastconv.signal` may stand in the place of SciPy's functions: when it asks SciPy, SciPy's own answer."""

from __future__ import annotations

import subprocess
import sys

import pytest
import scipy.signal

#: Calls that ask SciPy for help, by what is in `ours`, and what must come of them.
REPLACED = """
import functools
import numpy as np, scipy.signal, fastconv.signal
names = fastconv.signal.__all__
scipys, ours = ({name: getattr(module, name) for name in names} for module in (scipy.signal, fastconv.signal))
image = np.arange(12.0).reshape(3, 4)
calls = [(image.astype(np.longdouble), image[:2, :2]), (image * complex(0, np.inf), image[:2, :2] + 0j),
         (image, image[:2, :2], "same", "fill", [1.5])]
def replace(replacing):
    for name in names:
        setattr(scipy.signal, name, replacing(name))
def check():
    for name in names:
        for call in calls:
            with np.errstate(invalid="ignore"):
                np.testing.assert_array_equal(getattr(scipy.signal, name)(*call), scipys[name](*call))
        try:
            getattr(scipy.signal, name)(image > 0, image > 0)
        except ValueError as error:
            assert "fastconv" not in str(error)
        else:
            assert False
def around(name):
    @functools.wraps(scipys[name])
    def call(*args):
        return ours[name](*args)
    return call
"""


@pytest.mark.parametrize(
    "program",
    [
        "replace(ours.get); check()",
        "check(); replace(ours.get); check()",
        "for name in names: ours[name](*calls[0])\nreplace(ours.get); check()",
        "replace(ours.get); check(); replace(scipys.get); check()",
        "replace(around); check()",  # which says that it is SciPy's
    ],
    ids=["before our first call", "after SciPy's", "after ours", "and back", "by a function around ours"],
)
def test_ours_in_the_place_of_scipys(program):
    done = subprocess.run([sys.executable, "-c", REPLACED + program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ours_where_scipy_defines_its_own_is_an_error():
    module = scipy.signal.convolve2d.__module__
    program = f"import sys\nsys.modules[{module!r}].convolve2d = scipy.signal.convolve2d = ours['convolve2d']\n"
    done = subprocess.run([sys.executable, "-c", REPLACED + program + "check()"], capture_output=True, text=True)
    assert "RuntimeError: SciPy's convolve2d was replaced in the module that defines it" in done.stderr
