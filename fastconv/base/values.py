"""Values as error messages tell them."""

from __future__ import annotations

import numpy as np

#: Characters of a value that a message has: enough to recognise it by, and no page of numbers.
MOST = 100


def shown(value: object) -> str:
    """A value as Python writes it, but not at length; an array by its shape and dtype."""
    if isinstance(value, np.ndarray):
        known = f"an array of shape {value.shape} and dtype {value.dtype}"
        return known if value.ndim else f"{known}, of {shown(value[()])}"
    try:
        text = repr(value)
    except Exception:  # an integer of too many digits, a list too deep, anything else that a class may do
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= MOST else f"{text[: MOST - 3]}..."
