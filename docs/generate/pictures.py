"""The picture of an algorithm at work on a small problem, from what it did: nothing in it is drawn by hand.

Above, from the compiled code: the inputs that one output depends on, and the outputs that one input changes. A
transform mixes more than a window sees, which shows in the last bits of outputs beside it: so its tiles can be seen.
Below, from the same code run as Python (`walks`): when each input is first read, and when each output is written.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .problems import Problem

#: What is not involved; what depends on each other; what differs in its last bits only.
COLOURS = ListedColormap(["#e8edf2", "#2f7fc1", "#f2a33a"])
#: The largest rounding that is called so, as a part of the largest output.
ROUNDING = 1e-5
#: How much an input is changed: more than all of them.
CHANGE = 200
#: Points for a cell of a grid, at most, and for a grid's width.
CELL, WIDTH = 17.0, 300.0
#: Columns of the narrowest grid: its title must fit.
LEAST = 12


def draw(problem: Problem, walk: dict[str, np.ndarray]) -> tuple[Figure, str]:
    """The picture of a problem, and the sentences below it. `walk` has what was noted of it, or is empty."""
    inputs, output, outputs, source = dependences(problem)
    grids = [plane(inputs), plane(outputs)]
    rows = 2 if walk else 1
    widths = [max(grid.shape[1], LEAST) for grid in grids]
    size = min(CELL, 2 * WIDTH / sum(widths))
    height = max(grid.shape[0] for grid in grids) * size + 40
    figure = Figure(figsize=(2 * (WIDTH + 20) / 72, rows * height / 72), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False, width_ratios=widths)
    cells(axes[0, 0], grids[0], "Inputs that the framed output depends on", COLOURS, 2)
    cells(axes[0, 1], grids[1], "Outputs that the framed input changes", COLOURS, 2)
    mark(axes[0, 1], output)
    mark(axes[0, 0], source)
    told = (f"``{problem.text}``. Above, the framed output depends on {np.count_nonzero(grids[0])} of these inputs, "
            f"and the framed input changes {np.count_nonzero(grids[1] == 1)} of these outputs")  # fmt: skip
    rounded = np.count_nonzero(grids[1] == 2)
    told += f" (and {rounded} more in their last bits: they share a transform)." if rounded else "."
    if walk:
        read, often, written = (plane(walk[name]) for name in ("read", "often", "written"))
        cells(axes[1, 0], order(read), "Inputs, from the first read to the last", "viridis", None)
        cells(axes[1, 1], order(written), "Outputs, from the first written to the last", "viridis", None)
        least, most = int(often.min()), int(often.max())
        times = f"{least} to {most} times" if least < most else "once" if most == 1 else f"{most} times"
        told += (" Below, the order in which the kernels, run as Python, read inputs and write outputs, from dark to "
                 f"light: from the array an input is read {times}.")  # fmt: skip
    else:
        told += " Its kernels are emitted as machine code, so that their order cannot be watched."
    shown = "the first plane of each is shown" if max(problem.x.ndim, outputs.ndim) > 2 else "all of both is shown"
    return figure, f"{told} ({shown[0].upper()}{shown[1:]}.)"


def dependences(problem: Problem) -> tuple[np.ndarray, tuple[int, ...], np.ndarray, tuple[int, ...]]:
    """Which inputs change one output, and which outputs one input changes: 1, or 2 if only in their last bits.

    An order statistic does not see every change: so inputs are made larger than all others, and smaller.
    """
    x = problem.x
    before = np.asarray(problem.call(x)).astype(float)
    near = middle(before.shape)
    inputs = np.zeros(x.shape, int)
    changes = {}
    for place in np.ndindex(x.shape):
        changed = np.zeros(before.shape, int)
        for value in (CHANGE, 0 if x.dtype.kind == "u" else -CHANGE):
            other = x.copy()
            other[place] = value
            changed = np.maximum(changed, compared(before, np.asarray(problem.call(other)).astype(float)))
        changes[place] = np.where(changed == 2, 1, np.where(changed == 1, 2, 0))
        inputs[place] = changed[near] == 2
    source = middle(x.shape)
    return inputs, near, changes[source], source


def compared(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """0 where nothing has changed, 1 where the last bits have, 2 elsewhere."""
    difference = np.abs(after - before)
    return (difference > 0).astype(int) + (difference > ROUNDING * np.abs(before).max())


def middle(shape: tuple[int, ...]) -> tuple[int, ...]:
    """An element of the first plane, near its middle."""
    return (0,) * (len(shape) - 2) + tuple((size - 1) // 2 for size in shape[-2:])


def plane(array: np.ndarray) -> np.ndarray:
    """The first plane of an array."""
    return array[(0,) * (array.ndim - 2)]


def order(when: np.ndarray) -> np.ndarray:
    """The times of a plane as their ranks; what is never used stays empty."""
    ranks = np.searchsorted(np.unique(when[when >= 0]), when)
    return np.ma.masked_where(when < 0, ranks)


def cells(axes: Axes, grid: np.ndarray, title: str, colours: ListedColormap | str, most: int | None) -> None:
    """Draw a grid of cells."""
    axes.pcolormesh(grid, cmap=colours, vmin=0, vmax=most, edgecolors="white", linewidth=0.6)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)


def mark(axes: Axes, place: tuple[int, ...]) -> None:
    """Draw a frame around a cell."""
    axes.add_patch(Rectangle((place[-1], place[-2]), 1, 1, fill=False, edgecolor="#c0392b", linewidth=2))
