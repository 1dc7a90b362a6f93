"""Convolutions and transposed ones, block by block; images that are filtered by one kernel are a batch of one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ..specs.boundary import Boundary
from ..specs.conv import ConvSpec, conv_spec
from ..specs.conv_transpose import TransposeSpec, transpose_spec
from .blocks import Operation, calls_of, extended
from .geometry import Along, Interval, Spread, Whole, Windows
from .graph import Chunks, multiplied, strided

Box = tuple[Interval, ...]


def arranged(spec: ConvSpec | TransposeSpec, spatial: Sequence[Any], channels: Any, images: Any) -> tuple[Any, ...]:
    """One value for each axis of an input, in its layout."""
    last = isinstance(spec, ConvSpec) and spec.channels_last
    batched = spec.batched if isinstance(spec, ConvSpec) else spec.convolution.batched
    ordered = (*spatial, channels) if last else (channels, *spatial)
    return (images, *ordered) if batched else ordered


class Convolution(Operation):
    """A convolution of blocks by the algorithm that a call with the whole array takes, wherever it can do a block.

    Blocks have their padding, so that all are convolved without any.
    """

    def __init__(self, spec: ConvSpec, algorithm: str, device: str | None, threads: int, is_filter: bool) -> None:
        super().__init__()
        self.spec, self.algorithm, self.device, self.threads = spec, algorithm, device, threads
        self.is_filter = is_filter
        """Whether blocks are images without the axes of a batch and of channels, and the kernel has none."""
        sizes, last = spec.x_shape, spec.channels_last
        inner = sizes[-spec.axes - 1 : -1] if last else sizes[-spec.axes :]
        kernel = spec.weight_shape[2:]
        along = [
            Windows(size, step, gap * (taps - 1) + 1, sides[0], spec.boundary if any(sides) else Boundary.CONSTANT)
            for size, step, taps, gap, sides in zip(
                inner, spec.strides, kernel, spec.dilations, spec.paddings, strict=True
            )
        ]
        self.axes = tuple(along) if is_filter else arranged(spec, along, Whole(spec.c_in), Along(sizes[0]))

    def __dask_tokenize__(self) -> Any:
        return "convolution", str(self.spec), self.algorithm, self.device, self.threads, self.is_filter

    def __reduce__(self) -> Any:
        return Convolution, (self.spec, self.algorithm, self.device, self.threads, self.is_filter)

    def chunks(self, given: tuple[Chunks, ...]) -> tuple[Chunks, ...]:
        """Chunks of the result, for those of the input."""
        return strided(self.axes, given, self.spec.output_shape[2:] if self.is_filter else self.spec.output_shape)

    def block(self, inputs: list[Any], box: Box, operands: tuple[Any, ...], kept: bool = False) -> Any:
        weight: Any
        weight, bias = (*operands, None)[:2]
        x = extended(inputs[0], self.axes, box)
        if self.is_filter:
            x, weight = x[None, None], weight[None, None]
        spec = self.spec
        part = conv_spec(
            x.shape, weight.shape, (spec.dtype,), axes=spec.axes, stride=spec.strides, dilation=spec.dilations,
            groups=spec.groups, activation=spec.activation, precision=spec.precision, channels_last=spec.channels_last,
        )  # fmt: skip
        made = run(self, part, x, weight, bias)
        return made[0, 0] if self.is_filter else made


class Transposed(Operation):
    """A transposed convolution of blocks: a block of the result is what is added to it."""

    def __init__(self, spec: TransposeSpec, algorithm: str, device: str | None, threads: int) -> None:
        super().__init__()
        self.spec, self.algorithm, self.device, self.threads = spec, algorithm, device, threads
        inner, inside = spec.convolution, spec.x_shape
        along = [
            Spread(size, step, taps, gap, sides[0])
            for size, step, taps, gap, sides in zip(
                inside[-spec.axes :], inner.strides, inner.weight_shape[2:], inner.dilations, inner.paddings,
                strict=True,
            )
        ]  # fmt: skip
        self.axes = arranged(spec, along, Whole(inside[-spec.axes - 1]), Along(inside[0]))

    def __dask_tokenize__(self) -> Any:
        return "transposed convolution", str(self.spec), self.algorithm, self.device, self.threads

    def __reduce__(self) -> Any:
        return Transposed, (self.spec, self.algorithm, self.device, self.threads)

    def chunks(self, given: tuple[Chunks, ...]) -> tuple[Chunks, ...]:
        """Chunks of the result, for those of the input."""
        return tuple(
            (count,) if isinstance(along, Whole)
            else multiplied(chunks, along.pitch, count) if isinstance(along, Spread)
            else chunks
            for along, chunks, count in zip(self.axes, given, self.spec.output_shape, strict=True)
        )  # fmt: skip

    def block(self, inputs: list[Any], box: Box, operands: tuple[Any, ...], kept: bool = False) -> Any:
        weight, bias = (*operands, None)[:2]
        (x,), inner, axes = inputs, self.spec.convolution, self.spec.axes
        cuts, wanted = [], []
        for along, (first, last) in zip(self.axes[-axes:], box[-axes:], strict=True):
            assert isinstance(along, Spread)
            (start, stop), = along.reads(first, last)
            before = along.before + first - start * along.pitch
            reach = (stop - start - 1) * along.pitch + along.halo + 1
            wanted.append(last - first)
            cuts.append((before, max(0, reach - before - wanted[-1])))
        geometry = inner.strides, tuple(cuts), 0, inner.dilations, tuple(wanted)
        part = transpose_spec(axes, x.shape, self.spec.dtype, weight, bias, geometry, inner.groups)
        return run(self, part, x, weight, bias)


def run(operation: Convolution | Transposed, part: Any, x: Any, weight: Any, bias: Any) -> Any:
    """Convolve a block; on the CPU with weights that are packed once for each shape of a block."""
    calls = calls_of(operation.device, x)
    if calls.__name__.endswith("cuda.calls"):
        return calls.conv(part, x, weight, bias, operation.algorithm, None)
    plans = operation.plans
    if part not in plans:
        from ..cpu.recipes import recipe

        this = recipe(part, _algorithm(operation, part, weight, bias))
        plans[part] = this, this.pack(weight, bias)
    this, ready = plans[part]
    return this.run(x, ready, None, ())


def _algorithm(operation: Convolution | Transposed, part: Any, weight: Any, bias: Any) -> str:
    """The algorithm of the call with the whole array; "auto" if it cannot do a block, or would have no room."""
    from ..cpu import planner
    from ..cpu.recipes import FILTERS, recipe
    from ..planner.choose import name

    if "whole" not in operation.plans:
        label = operation.algorithm
        if label == "auto":
            names = FILTERS if isinstance(operation, Convolution) and operation.is_filter else None
            with suppress(MemoryError):
                whole = recipe(operation.spec.extended, label, for_one_call=True, names=names)
                label = name(whole.pack(weight, bias)[0])
        operation.plans["whole"] = label
    label = operation.plans["whole"]
    return label if planner.reason(part, label) is None else "auto"
