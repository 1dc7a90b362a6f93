"""What the page of a call is told, as JSON: every number that it shows, as text, and where its windows lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...specs.axes import by
from ...specs.conv import ConvSpec, short
from ...specs.conv_transpose import TransposeSpec
from ...specs.pool import PoolSpec
from .calculation import Calculation, window
from .numerals import MINUS, TIMES, are_rounded, signed, typeset

#: Most elements of a matrix that a page shows: a table with more is not read any longer.
MOST_OF_A_MATRIX = 2500


def headline(calculation: Calculation) -> str:
    """The sizes of a call and its options that differ from the defaults, in words."""
    spec, geometry = calculation.spec, calculation.geometry
    kernel = (geometry.kh, geometry.kw)[2 - geometry.axes :]
    what = "window" if isinstance(spec, PoolSpec) else "kernel"
    parts = [f"input {_sizes(calculation.x, geometry.axes)}", f"{what} {by(kernel)}",
             f"output {_sizes(calculation.output, geometry.axes)}"]  # fmt: skip
    first = 2 - geometry.axes
    stride, dilation = short(geometry.stride[first:]), short(geometry.dilation[first:])
    padding = short(tuple(short(sides) for sides in geometry.padding[first:]))
    default_stride = kernel if isinstance(spec, PoolSpec) else (1, 1)[first:]
    parts += [f"stride {stride}"] * (geometry.stride[first:] != default_stride)
    parts += [f"padding {padding}"] * (padding != 0) + [f"dilation {dilation}"] * (dilation != 1)
    if isinstance(geometry, ConvSpec):
        mode = geometry.padding_mode
        parts += [f"padding mode {mode}"] * (mode != "zeros") + [f"{geometry.groups} groups"] * (geometry.groups > 1)
    return ", ".join(parts)


def _sizes(planes: np.ndarray, axes: int) -> str:
    size = by(planes.shape[3 - axes :])
    return size if len(planes) == 1 else f"{len(planes)} channels of {size}"


def size_rules(calculation: Calculation) -> list[str]:
    """How the size of each axis of the output comes about."""
    spec, geometry = calculation.spec, calculation.geometry
    rules, first = [], 2 - geometry.axes
    for axis, name in list(enumerate(("rows", "columns")))[first:]:
        reach, step, pads = window(geometry)[axis], geometry.stride[axis], sum(geometry.padding[axis])
        size, outputs = (geometry.h, geometry.w)[axis], (geometry.oh, geometry.ow)[axis]
        if isinstance(spec, TransposeSpec):
            more = size - (outputs - 1) * step - reach + pads
            rules.append(f"{name}: ({outputs} {MINUS} 1) {TIMES} {step} + {reach} {MINUS} {pads}"
                         f"{f' + {more}' * (more > 0)} = {size}")
        elif (size - reach + pads + step) // step == outputs:
            rules.append(f"{name}: ⌊({size} {MINUS} {reach} + {pads} + {step}) / {step}⌋ = {outputs}")
    if not rules:
        return []
    formula = (f"(size {MINUS} 1) {TIMES} stride + window {MINUS} padding" if isinstance(spec, TransposeSpec)
               else f"⌊(size {MINUS} window + padding + stride) / stride⌋")  # fmt: skip
    return [f"size of the output: {formula}", *rules]


def picture(calculation: Calculation, title: str, op: str, shades: bool, axes: int) -> dict[str, Any]:
    """All that the page `windows.js` shows, in types that `json.dumps` takes; the caller's output has `axes`."""
    windows, output = calculation.windows, calculation.output
    channels, places = range(len(output)), range(len(windows.cells))
    terms = [[calculation.terms(channel, place) for place in places] for channel in channels]
    kernels = calculation.kernels
    geometry = calculation.geometry
    values = [calculation.x, output, *(kernels if kernels is not None else ()), *(one for row in terms for one in row)]
    return {
        "kind": calculation.kind,
        "title": title,
        "op": op,
        "axes": axes,
        "headline": typeset(headline(calculation)),
        "rules": size_rules(calculation),
        "rounded": "Numbers are rounded where they are written." if any(map(are_rounded, values)) else "",
        "input": _input_grid(calculation, shades),
        "output": _output_grid(calculation, shades),
        "kernel": None if kernels is None else {
            "rows": geometry.kh, "columns": geometry.kw,
            "texts": [[signed(taps) for taps in kernel] for kernel in kernels],
        },
        "window": {"rows": geometry.kh, "columns": geometry.kw, "dilated": max(geometry.dilation) > 1},
        "stride": list(geometry.stride),
        "channels": calculation.channels,
        "first": [calculation.first_channel(channel) for channel in channels],
        "cells": [cells.tolist() for cells in windows.cells],
        "taps": [taps.tolist() for taps in windows.taps],
        "starts": windows.starts.tolist(),
        "ends": windows.ends.tolist(),
        "nearest": windows.nearest.tolist(),
        "terms": [[[signed(line) for line in one] for one in row] for row in terms],
        "sums": [[signed(one.sum(1)) for one in row] for row in terms] if calculation.channels > 1 else None,
        "whole": None if calculation.bias is None else [signed(np.array([one.sum() for one in row])) for row in terms],
        "bias": None if calculation.bias is None else signed(calculation.bias),
        "divisors": [calculation.divisor(place) for place in places] if calculation.kind == "avg" else None,
        "picked": _picked(calculation, terms),
        "columns": calculation.kind == "conv" and len(places) * calculation.channels * geometry.kh * geometry.kw
        <= MOST_OF_A_MATRIX,
        "pointwise": calculation.kind == "conv" and geometry.kh * geometry.kw == 1,
        "matrix": _matrices(calculation),
        "weights": _weights(calculation),
    }  # fmt: skip


def _grid(planes: np.ndarray, first: Sequence[int], outside: np.ndarray, texts: list[list[str]]) -> dict[str, Any]:
    rows, columns = outside.shape
    return {
        "rows": rows,
        "columns": columns,
        "first": list(first),
        "outside": np.flatnonzero(outside).tolist(),
        "texts": texts,
        "chars": max(len(text) for plane in texts for text in plane),
        "channels": len(planes),
    }


def _input_grid(calculation: Calculation, shades: bool) -> dict[str, Any]:
    """The input with its padding; that of a maximum or a minimum has no value."""
    windows, grid = calculation.windows, calculation.grid
    texts = [signed(plane) for plane in grid]
    if calculation.kind in ("max", "min"):
        texts = [["" if outside else text for text, outside in zip(plane, windows.outside.reshape(-1), strict=True)]
                 for plane in texts]  # fmt: skip
    return _grid(grid, windows.first, windows.outside, texts) | {"shades": _shades(grid) if shades else None}


def _output_grid(calculation: Calculation, shades: bool) -> dict[str, Any]:
    """The output; a transposed convolution's with what its padding cuts off around it, which has no value."""
    planes, first, sides = calculation.output, (0, 0), ((0, 0), (0, 0))
    if isinstance(calculation.spec, TransposeSpec):
        sides = calculation.geometry.padding
        first = -sides[0][0], -sides[1][0]
    outside = np.pad(np.zeros(planes.shape[1:], bool), sides, constant_values=True)
    inside = np.flatnonzero(~outside).tolist()
    texts = [[""] * outside.size for _ in planes]
    for plane, shown in zip(planes, texts, strict=True):
        for cell, text in zip(inside, signed(plane), strict=True):
            shown[cell] = text
    grid = _grid(planes, first, outside, texts)
    shade = _shades(planes.reshape(len(planes), -1)) if shades and len(inside) == outside.size else None
    return grid | {"places": inside, "shades": shade}


def _shades(planes: np.ndarray) -> list[list[int]]:
    """Shades of grey, from 0 (black) to 255: up to the largest value; with negative values, zero is in the middle."""
    values = planes.astype(np.float64)
    known = np.where(np.isfinite(values), values, 0)
    most = np.abs(known).max() or 1.0
    scaled = known / most if known.min() >= 0 else (known / most + 1) / 2
    shades: list[list[int]] = np.rint(255 * scaled).astype(int).tolist()
    return shades


def _picked(calculation: Calculation, terms: list[list[np.ndarray]]) -> list[list[int]] | None:
    """The first term of each window that is its maximum or minimum."""
    if calculation.kind not in ("max", "min"):
        return None
    outputs = calculation.output.reshape(len(terms), -1)
    return [[int(np.argmax((one[0] == made) | ((one[0] != one[0]) & (made != made))))
             for one, made in zip(row, plane, strict=True)]
            for row, plane in zip(terms, outputs, strict=True)]  # fmt: skip


def _matrices(calculation: Calculation) -> list[list[list[str]]] | None:
    """The matrix of each output channel, row by row; None where it is too large to read."""
    if calculation.kernels is None:
        return None
    size = calculation.channels * calculation.x[0].size
    if len(calculation.windows.cells) * size > MOST_OF_A_MATRIX or len(calculation.output) * size > MOST_OF_A_MATRIX:
        return None
    return [[signed(row) for row in calculation.matrix(channel)] for channel in range(len(calculation.output))]


def _weights(calculation: Calculation) -> str:
    """How many weights there are, and how many a fully connected layer would have."""
    if calculation.kernels is None:
        return ""
    dense, own = calculation.x.size * calculation.output.size, calculation.kernels.size
    return (f"A fully connected layer from {calculation.x.size} inputs to {calculation.output.size} outputs has "
            f"{dense:,} weights; this one has {own:,}, which all places share.")
