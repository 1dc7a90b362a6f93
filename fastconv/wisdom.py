"""Wisdom: choices learnt by measuring, to be carried to another machine or forgotten. The words are FFTW's.

``plan_conv2d(..., measure=True)`` and ``compare(..., remember=True)`` time the algorithms and remember which won.
``algorithm="auto"`` then takes the winner for that problem, dtype and number of threads, in this process and in
processes that start later (`fastconv.planner.remember`).
"""

from __future__ import annotations

import json

from .planner import remember

__all__ = ["export_wisdom", "forget_wisdom", "import_wisdom"]

_FORMAT = "fastconv wisdom 1"


def export_wisdom() -> str:
    """Everything that is remembered for this machine, as text.

    Returns
    -------
    str
        JSON for `import_wisdom`, to be used here after `forget_wisdom`, or on another machine of this kind.

    Examples
    --------
    >>> from fastconv import wisdom
    >>> wisdom.import_wisdom(wisdom.export_wisdom()) >= 0
    True
    """
    problems = sorted(remember.records(), key=lambda record: (record["problem"], record["threads"]))
    return json.dumps({"format": _FORMAT, "machine": remember.machine(), "problems": problems}, indent=1)


def import_wisdom(text: str) -> int:
    """Remember what `export_wisdom` returned; it replaces what is known about its problems.

    Parameters
    ----------
    text : str
        JSON from `export_wisdom`.

    Returns
    -------
    int
        Number of problems in `text`.

    Raises
    ------
    TypeError
        If `text` is not a string.
    ValueError
        If `text` is no wisdom, or is of another machine or version. Nothing is remembered then.

    Examples
    --------
    >>> from fastconv import wisdom
    >>> wisdom.import_wisdom("Know thyself")
    Traceback (most recent call last):
    ...
    ValueError: text is not wisdom that was exported: Expecting value: line 1 column 1 (char 0)
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    try:
        told = json.loads(text)
        if not isinstance(told, dict) or told.get("format") != _FORMAT or not isinstance(told.get("problems"), list):
            raise ValueError(f"it does not say {_FORMAT!r}")
        if not all(map(remember.is_sound, told["problems"])):
            raise ValueError("a problem is damaged")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"text is not wisdom that was exported: {error}") from None
    if told.get("machine") != remember.machine():
        machines = f"{told.get('machine')}, here {remember.machine()}"
        raise ValueError(f"text is the wisdom of another machine or version: {machines}")
    for record in told["problems"]:
        remember.keep(record)
    return len(told["problems"])


def forget_wisdom() -> int:
    """Forget everything, on disk and for other machines and versions, too.

    Returns
    -------
    int
        Number of problems that were forgotten.

    """
    return remember.forget()
