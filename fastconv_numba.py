"""What Numba loads when it first compiles something, in every program: the entry point `numba_extensions`.

It is no part of the package, because importing that takes 0.1 s, of which programs that do not use fastconv should not
pay: they only find that it is not imported. One that imports it later declares its functions then.
"""

import sys


def init() -> None:
    """Tell Numba what functions of fastconv are inside ``@njit``, if the program has imported it."""
    functions = getattr(sys.modules.get("fastconv"), "numba", None)
    if functions is not None:
        functions.declare()
