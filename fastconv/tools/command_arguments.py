"""Values of the command line's arguments: parsers for `argparse`, whose errors say what was expected."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np


def as_numbers(text: str, between: str = ",") -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(between))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers with {between!r} between, got {text!r}") from None


def as_pair(text: str, between: str = ",") -> int | tuple[int, ...]:
    numbers = as_numbers(text, between)
    return numbers[0] if len(numbers) == 1 else numbers


def as_padding(text: str) -> Any:
    if text[:1].isalpha():
        return text
    numbers = as_numbers(text)
    return (numbers[:2], numbers[2:]) if len(numbers) == 4 else as_pair(text)


def as_dtype(text: str) -> np.dtype:
    try:
        return np.dtype(text)
    except TypeError:
        raise argparse.ArgumentTypeError(f"expected a dtype like float32, got {text!r}") from None


def as_layer(text: str) -> tuple[Any, ...]:
    return tuple(part if part[:1].isalpha() else as_pair(part, "x") for part in text.split(","))
