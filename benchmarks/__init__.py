"""asv suites (`bench_*.py`) over the named problems of `shapes`.

asv imports every module here to find the benchmarks, so none runs a kernel or needs another framework on import. Then
it forks a process for each benchmark: what is imported then, they have.
"""

from pathlib import Path

_TABLES = Path(__file__).resolve().parents[1] / "fastconv" / "cpu" / "algorithms"


def algorithms(kind: str) -> tuple[str, ...]:
    """The algorithms ("conv" or "pool") of this working tree, which need not be those of the commit that is measured.

    asv numbers its parameters and takes the numbers from one commit to another: a list that changed with the
    installed fastconv would put results under wrong names. An algorithm that a commit lacks is "n/a" there.
    """
    names = {file.stem.removeprefix(f"{kind}_") for file in _TABLES.glob(f"{kind}_*.py")}
    return tuple(sorted(names - {"gradient"}))  # which is no algorithm of a table
