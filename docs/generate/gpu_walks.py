"""What blocks of threads do with their arrays, noted in Numba's simulator: ``python -m generate.gpu_walks FILE``.

How often each element of the input is read from the GPU's memory, and which block writes each element of the result.
What threads read from shared memory, or from registers, is not counted: that is what these are for.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .walks import addresses, noted


def main(file: str) -> None:
    """Run every problem, and save what was noted."""
    from fastconv.cuda.system import simulator
    from fastconv.cuda.system.arrays import SimulatedArray
    from fastconv.cuda.system.streams import SimulatedPointer

    from .problems import gpu_problems

    read: list[int] = []
    written: dict[int, tuple[int, tuple[int, ...]]] = {}
    launches = [0]
    get, put, launch = SimulatedPointer.__getitem__, SimulatedPointer.__setitem__, simulator.launch

    def fetch(self: SimulatedPointer, index: Any) -> Any:
        read.append(self.address(index))
        return get(self, index)

    def store(self: SimulatedPointer, index: Any, value: Any) -> None:
        place: Any = simulator.this().blockIdx
        written[self.address(index)] = launches[0], tuple(place)
        put(self, index, value)

    def counted(*arguments: Any) -> None:
        launches[0] += 1
        launch(*arguments)

    for owner, name, function in ((SimulatedPointer, "__getitem__", fetch), (SimulatedPointer, "__setitem__", store),
                                  (simulator, "launch", counted)):  # fmt: skip
        setattr(owner, name, function)  # this process exists for nothing else
    found: dict[str, np.ndarray] = {}
    for problem in gpu_problems(SimulatedArray):
        read.clear()
        written.clear()
        result = problem.call(problem.x)
        inputs, outputs = addresses(problem.x), addresses(result.array)
        distinct, times = np.unique(read, return_counts=True)
        often = dict(zip(distinct.tolist(), times.tolist(), strict=True))
        writers = [written.get(each, (-1, (-1,))) for each in outputs.ravel().tolist()]
        blocks = {place: number for number, place in enumerate(sorted(set(writers)))}
        times_of = [often.get(each, 0) for each in inputs.ravel().tolist()]
        found[f"{problem.stem}.often"] = np.reshape(times_of, inputs.shape)
        found[f"{problem.stem}.blocks"] = np.reshape([blocks[each] for each in writers], outputs.shape)
        found[f"{problem.stem}.text"] = np.array(problem.text)
    np.savez_compressed(file, **found)


def walks() -> dict[str, np.ndarray]:
    """What `main` saves."""
    return noted("generate.gpu_walks", NUMBA_ENABLE_CUDASIM="1")


if __name__ == "__main__":
    main(sys.argv[1])
