"""Numbers as an explanation writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

#: Significant digits of a number that is not whole, below 1 and from 1 on: as many as a cell of a grid has room for.
DIGITS = 3, 4
#: Whole floats from here on are written with an exponent.
_LONG = 1e7
#: Signs of pages, whose fonts have them.
MINUS, TIMES = "\u2212", "\u00d7"


def numeral(value: Any) -> str:
    """A number as text: whole ones without a decimal point, others with three or four digits."""
    if isinstance(value, bool | int):
        return str(int(value))
    number = float(value)
    if number.is_integer() and abs(number) < _LONG:
        return str(int(number))
    return f"{number:.{DIGITS[abs(number) >= 1]}g}"


def numerals(values: np.ndarray) -> list[str]:
    """All numbers of an array as texts, row by row."""
    return [numeral(value) for value in _plain(values)]


def typeset(text: str) -> str:
    """A text as a page has it: with a true minus, and a true multiplication sign between sizes."""
    return re.sub(r"(?<=\d)x(?=\d)", TIMES, re.sub(r"-(?=\d|inf)", MINUS, text))


def signed(values: np.ndarray) -> list[str]:
    """All numbers of an array as a page has them."""
    return [typeset(text) for text in numerals(values)]


def are_rounded(values: np.ndarray) -> bool:
    """Whether a text of some number of an array is not all of it."""
    if values.dtype.kind in "iub":
        return False
    return any(value == value and values.dtype.type(numeral(value)) != values.dtype.type(value)
               for value in _plain(values))  # fmt: skip


def _plain(values: np.ndarray) -> list[Any]:
    """The numbers of an array as Python's."""
    flat = values.reshape(-1)
    return [float(value) for value in flat] if values.dtype.kind == "V" else flat.tolist()


def factor(text: str) -> str:
    """A number's text as it stands in a sum or a product: in parentheses if it is negative."""
    return f"({text})" if text.startswith("-") else text


def added(texts: Iterable[str]) -> str:
    return " + ".join(map(factor, texts))
