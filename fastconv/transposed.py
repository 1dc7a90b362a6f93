"""The transpose of a convolution as linear map: what its input's gradient and `conv_transpose2d` are.

A `ConvSpec` describes the convolution that is transposed; what comes out has the shape of its input::

    out[n, c, u, v] = bias[c] + sum over o, a, b, i, j with i * stride_h - top + a * dilation_h = u  (v alike)
                      of weight[o, c, a, b] * y[n, o, i, j]

Without a stride that is a convolution of `y` with the kernels flipped and their channels exchanged. With one, the rows
u of each remainder by the stride see only some of the taps, always the same: each remainder is a convolution without
stride, and their results are interleaved. No zeros are inserted, nothing is multiplied by them. Where the stride
divides the kernel, all remainders see equally many taps, and together they are one convolution with as many times the
channels, if that takes less time than one for each (`fastconv.phases`). Small images and many weights are better
multiplied as they are, and the columns of the product summed up (`cpu.columns`): that moves no weights.

Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285, chapter 4; Shi et
al., Is the deconvolution layer the same as a convolutional layer?, arXiv:1609.07009.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from .checks import allocate, kernel_ready, result_array
from .choice import candidates, check_names
from .phases import Part, Parts, Turns, separate, together
from .plan import recipe
from .spec import ConvSpec

#: Seconds to exchange and pack one weight, for `_multiplied` (1.1 to 2.7 ns measured, AMD EPYC 9004).
MOVE = 2.5e-9
#: Bytes of the columns of one image, at most.
COLUMNS_BYTES = 32 << 20


def run(
    spec: ConvSpec,
    weight: np.ndarray,
    y: np.ndarray,
    bias: np.ndarray | None = None,
    algorithm: str = "auto",
    device: str = "cpu",
    out: Any = None,
) -> np.ndarray:
    """Transpose the convolution `spec`, whose weight and output's shape `weight` and `y` have.

    `bias` has one value a channel of the result. `algorithm` is one of the convolution's.
    """
    inputs = (weight, y) if bias is None else (weight, y, bias)
    result = result_array(spec.x_shape, spec.out_dtype, out, inputs)
    if not result.size:
        return result
    images, y = result.reshape(spec.kernel_shapes[0]), y.reshape(spec.kernel_shapes[2])
    weight = kernel_ready(weight, spec.acc_dtype)
    check_names(algorithm, device)
    if (algorithm, device) == ("auto", "cpu") and _multiplied(spec):
        _multiply(spec, weight, y, bias, images)
        return result
    convolutions, turns, complete, whole = _parts(spec)
    if not complete:
        images[...] = 0 if bias is None else bias.reshape(-1, *(1,) * (images.ndim - 2))
    several = turns is not None and len(convolutions) > 1
    results = None
    for number, part in enumerate(convolutions):
        biases = bias if bias is None else np.repeat(bias, len(part.order))
        this, seen = recipe(part.problem, algorithm, device, once=True), y[part.seen]
        operands = this.pack(_exchanged(spec, weight, part), biases)
        if whole:
            this.run(seen, operands, images.reshape(part.problem.output_shape), ())
        elif turns is None:
            images[part.at] = this.run(seen, operands, None, ())
        elif several:
            shape = (len(convolutions), *part.problem.output_shape)
            results = np.empty(shape, spec.out_dtype) if results is None else results
            this.run(seen, operands, results[number], ())
        else:
            results = this.run(seen, operands, None, ())
    if results is not None and turns is not None:
        _interleave(results, turns, images, several)
    return result


#: Seconds of a call into a convolution, beside what its cost counts.
PREPARE = 3e-5


@lru_cache(maxsize=1024)
def _parts(spec: ConvSpec) -> Parts:
    """The convolutions that are estimated to take the least time: one, if there is one that gives all, or several."""
    joint, apart = together(spec), separate(spec)
    return apart if joint is None else min(joint, apart, key=_seconds)


def _seconds(parts: Parts) -> float:
    return sum(min(candidates(part.problem, once=True).values()) + PREPARE for part in parts.parts)


def _exchanged(spec: ConvSpec, weight: np.ndarray, part: Part) -> np.ndarray:
    """Weights as those of a convolution of `y`."""
    from .cpu.shuffle import exchange

    given = weight.reshape(spec.groups, spec.c_out // spec.groups, spec.c_in // spec.groups, -1)
    groups, depth, channels, _ = given.shape
    exchanged = np.empty((groups, channels, part.order.shape[0], depth, part.order.shape[1]), weight.dtype)
    exchange(_bits(given), part.order, _bits(exchanged))
    return exchanged.reshape(part.problem.weight_shape)


def _bits(array: np.ndarray) -> np.ndarray:
    """An array as integers: elements are moved, whatever they are."""
    return array.view(f"u{array.itemsize}")


def _interleave(results: np.ndarray, turns: Turns, images: np.ndarray, by_phase: bool) -> None:
    """Put the phases, which are channels of `results` or its first axis, in turns."""
    from .cpu.shuffle import interleave

    missing = (1,) * (5 - images.ndim)
    out = images.reshape(-1, *missing, *images.shape[2:])
    many = math.prod(turns.phases)
    order = (many, len(out)) if by_phase else (len(out), many)
    phases = results.reshape(*order, *missing, *results.shape[2 - images.ndim :])
    interleave(_bits(phases), *turns, _bits(out), by_phase)


# -- as a matrix product -------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _multiplied(spec: ConvSpec) -> bool:
    """Whether a matrix product and the sums of its columns are estimated to take less time than convolutions."""
    from .cpu.machine import this_machine

    depth, positions = spec.c_out // spec.groups, spec.oh * spec.ow
    columns = spec.c_in // spec.groups * spec.kh * spec.kw * positions
    if spec.dtype.kind != "f" or spec.axes == 3 or columns * spec.acc_dtype.itemsize > COLUMNS_BYTES:
        return False
    machine, side = this_machine(1), spec.n if positions == 1 else positions
    rate = machine.blas_flops * 4 / spec.acc_dtype.itemsize * min(side, depth) / (min(side, depth) + 16)
    all_columns = spec.n * spec.groups * columns
    product = 2 * all_columns * depth / rate + 3 * all_columns * spec.acc_dtype.itemsize / machine.bandwidth
    product += (spec.n + 2) * spec.groups * machine.call
    moved = MOVE * spec.c_out * (spec.c_in // spec.groups) * spec.kh * spec.kw
    return product < moved + _seconds(_parts(spec))


@np.errstate(over="ignore", invalid="ignore")  # of inf and NaN, BLAS would warn and the loops do not
def _multiply(
    spec: ConvSpec, weight: np.ndarray, y: np.ndarray, bias: np.ndarray | None, images: np.ndarray
) -> None:
    """The weights, transposed, times `y`: columns, summed up to images."""
    from .cpu.columns import fold

    matrices = weight.reshape(spec.groups, spec.c_out // spec.groups, -1)
    signals = kernel_ready(y, spec.acc_dtype).reshape(spec.n, spec.groups, -1, spec.oh * spec.ow)
    sums = images if images.dtype == spec.acc_dtype else allocate(images.shape, spec.acc_dtype)
    grouped = sums.reshape(spec.n, spec.groups, -1, spec.h, spec.w)
    window, pads = (spec.kh, spec.kw, spec.oh, spec.ow), (spec.padding[0][0], spec.padding[1][0])
    for group, matrix in enumerate(matrices):
        # Of one pixel, all images are one product.
        rows = signals[:, group, :, 0] @ matrix if signals.shape[3] == 1 else None
        if rows is not None and (spec.h, spec.w) == (spec.kh, spec.kw) and pads == (0, 0) and spec.dilation == (1, 1):
            grouped[:, group] = rows.reshape(grouped[:, group].shape)
            continue
        for image in range(spec.n):
            columns = matrix.T @ signals[image, group] if rows is None else rows[image][:, None]
            loops = fold.sized(columns.size)
            loops(columns, grouped[image, group], window, spec.stride, pads, spec.dilation)
    if bias is not None:
        sums += bias.astype(spec.acc_dtype).reshape(-1, 1, 1)
    if sums is not images:
        with np.errstate(over="ignore"):
            images[...] = sums
