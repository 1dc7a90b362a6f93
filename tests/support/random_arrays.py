"""Arrays are drawn at random, of every dtype, with special values and in any memory layout, to try operations on."""

from __future__ import annotations

import numpy as np

FLOATS, INTEGERS = ("float32", "float32", "float64", "float16"), ("int8", "uint8", "int32", "int64", "bool")
SPECIALS = ("none", "none", "nan", "inf", "pixel", "block", "speckle", "channel", "huge", "tiny", "faint", "zeros",
            "sparse")  # fmt: skip
LAYOUTS = ("C", "C", "F", "strided", "reversed", "swapped", "read-only")


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, special: str) -> np.ndarray:
    """An array (images, channels, space ...), with special values among ordinary ones."""
    kind = np.dtype(dtype)
    if kind.kind != "f":
        if kind.kind == "b":
            return rng.random(shape) < 0.5
        limits = np.iinfo(kind)
        low, high = (limits.min, limits.max) if special in ("huge", "block") else (max(limits.min, -9), 9)
        return rng.integers(low, high, shape, kind, endpoint=True)
    x = (rng.random(shape) if rng.random() < 0.5 else rng.standard_normal(shape)).astype(kind)
    largest = float(np.finfo(kind).max)
    fill = kind.type(rng.choice([1e3, min(1e20, largest / 8), largest / 64]))
    some = tuple(int(rng.integers(size)) for size in shape)
    if not x.size:
        return x
    if special in ("nan", "inf"):
        x[some] = np.nan if special == "nan" else rng.choice([np.inf, -np.inf])
    elif special == "pixel":
        x[some] = fill
    elif special == "block":
        x[(some[0], slice(None), *(slice(at, at + int(rng.integers(1, size + 1))) for at, size in zip(
            some[2:], shape[2:], strict=True)))] = fill
    elif special == "speckle":
        x[:, :, rng.random(shape[2:]) < 0.1] = fill
    elif special == "channel":
        x[:, some[1]] = fill
    elif special == "huge":
        x *= kind.type(largest / 1e4)
    elif special == "tiny":
        x *= kind.type(np.finfo(kind).tiny * 4)
    elif special == "faint":  # products are no denormal numbers; squares are, or zeros
        digits = np.finfo(kind).nmant
        x[:, :, rng.random(shape[2:]) < rng.random()] *= kind.type(2.0 ** int(rng.integers(digits)))
        x *= kind.type(np.finfo(kind).tiny * 2.0**digits)
    elif special == "zeros":
        x[(slice(None), slice(None), *(slice(0, at) for at in some[2:]))] = 0
    elif special == "sparse":
        x[rng.random(shape) < 0.9] = 0
    return x


def laid_out(x: np.ndarray, layout: str) -> np.ndarray:
    """An equal array that lies otherwise in memory."""
    if layout == "F":
        return np.asfortranarray(x)
    if layout == "strided":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if layout == "reversed":
        return np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    if layout == "swapped":
        return x.astype(x.dtype.newbyteorder())
    if layout == "read-only":
        x = x.copy()
        x.flags.writeable = False
    return x
