"""Pictures of algorithms at work on small problems, from what they did: nothing in them is drawn by hand.

Above, from the compiled code: the inputs that one output depends on, and the outputs that one input changes. A
transform mixes more than a window sees, which shows in the last bits of outputs beside it: so its tiles can be seen.
Below, from the same code run as Python (`walks`): when each input is first read, and when each output is written. Of a
GPU's kernels (`gpu_walks`): how often each input is read, and which block of threads writes each output.
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
#: Colours of blocks of threads: neighbours differ.
BLOCKS = ListedColormap(["#2f7fc1", "#f2a33a", "#5aa469", "#c0392b", "#8e6bbf", "#7f8c8d", "#d9b310"])
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
    figure, axes = two_grids(*grids, rows=2 if walk else 1)
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
    return figure, f"{told} ({shown(problem.x, outputs).capitalize()}.)"


def shown(*arrays: np.ndarray) -> str:
    """What of arrays a picture shows."""
    return "the first plane of each is shown" if max(each.ndim for each in arrays) > 2 else "all of both is shown"


def two_grids(left: np.ndarray, right: np.ndarray, rows: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure with room for two grids beside each other, or for `rows` such pairs."""
    widths = [max(grid.shape[1], LEAST) for grid in (left, right)]
    size = min(CELL, 2 * WIDTH / sum(widths))
    height = max(left.shape[0], right.shape[0]) * size + 40
    figure = Figure(figsize=(2 * (WIDTH + 20) / 72, rows * height / 72), layout="constrained")
    return figure, figure.subplots(rows, 2, squeeze=False, width_ratios=widths)


def draw_blocks(text: str, often: np.ndarray, blocks: np.ndarray) -> tuple[Figure, str]:
    """The picture of a problem on a GPU, and the sentences below it: what `gpu_walks` noted."""
    figure, axes = two_grids(plane(often), plane(blocks))
    cells(axes[0, 0], plane(often), "How often each input is read", "viridis", None)
    cells(axes[0, 1], plane(blocks) % BLOCKS.N, "Blocks that write the outputs", BLOCKS, BLOCKS.N - 1)
    least, most, count = int(often.min()), int(often.max()), len(np.unique(blocks))
    times = f"{least} to {most} times" if least < most else "once" if most == 1 else f"{most} times"
    told = (f"``{text}``. From the GPU's memory each input is read {times}, dark to light; {count} block"
            f"{'s write' if count > 1 else ' writes'} the outputs, a colour each. (In Numba's simulator, where blocks "
            f"have fewer threads than on a GPU; {shown(often, blocks)}.)")  # fmt: skip
    return figure, told


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
