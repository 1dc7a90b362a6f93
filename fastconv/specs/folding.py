"""Windows that reach far beyond an image: they see the same elements again and again, whose weights are added up.

An output of an axis of n elements sees at most so many different ones, and those of a mode that repeats come back after
its period p (n for wrap, 2n for reflect, 2n - 2 for mirror), where taps are put together::

    sum over a of weights[a] * image[i - before + a]
        = sum over k from -p//2 of (sum of weights[a] for a - before = k mod p) * image[i + k]

Taps more than n before or behind an output see the same element of any mode that does not repeat. So the cost of a
window grows with the axis, not with the window. Sums are made in another order than SciPy's; and infinity times the sum
of weights of different signs, or of a zero and others, is not the NaN that it is times each.
"""

from __future__ import annotations

import numpy as np

from .boundary import Boundary
from .filters import Axis

#: Windows this many times as long as their axis are folded: about twice as many taps as those have that are left.
FAR = 4
#: Taps from which windows are folded where that may change a result: of integers, whose sums are to be SciPy's, and of
#: weights whose signs differ. (SciPy takes 0.5 ms for each row of 64 pixels then.)
MANY = 4096


def is_far(taps: int, size: int, exact: bool) -> bool:
    """Whether a window of an axis may be folded; `exact`: the order of its sums shows in a result."""
    return taps > FAR * max(size, 1) and (taps > MANY or not exact)


def folded(axis: Axis, size: int) -> tuple[Axis, np.ndarray]:
    """The axis of a window that sees the same elements of an axis of this size, and the place there of each tap."""
    at = np.arange(-axis.before, axis.taps - axis.before)
    if axis.boundary in (Boundary.NEAREST, Boundary.CONSTANT):
        before, taps = size, 2 * size + 1
        np.clip(at, -size, size, out=at)
    else:
        periods = {Boundary.WRAP: size, Boundary.REFLECT: 2 * size, Boundary.MIRROR: 2 * (size - 1)}
        taps = max(1, periods[axis.boundary])
        before = taps // 2
        at = (at + before) % taps - before
    return axis._replace(taps=taps, before=before), at + before


def added(weights: np.ndarray, places: np.ndarray, taps: int, along: int = 0) -> np.ndarray:
    """Weights at the places that their taps have along an axis of a folded window."""
    rest = weights.shape[:along] + weights.shape[along + 1 :]
    found = np.zeros((taps, *rest))
    np.add.at(found, places, np.moveaxis(weights, along, 0))
    return np.ascontiguousarray(np.moveaxis(found, 0, along))


def unlike(weights: np.ndarray, places: np.ndarray, taps: int) -> bool:
    """Whether signs differ of weights along one axis that are added up, zeros among them."""
    signs = [added((np.sign(weights) == sign).astype(float), places, taps) > 0 for sign in (-1, 0, 1)]
    return bool((np.sum(signs, 0) > 1).any())
