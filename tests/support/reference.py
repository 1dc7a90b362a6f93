"""The oracle: convolution and pooling from SciPy and NumPy, in float64 or exact integers. It never imports fastconv.

Also the one home of the tolerances: `assert_close`.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.signal import correlate

#: Largest error allowed, in units of the largest sum of absolute products: what the library promises of every
#: algorithm, also of those that transform their input. A forgotten or doubled tap is thousands of times larger.
TOLERANCE = {np.dtype(np.float16): 2e-5, np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-13}


def pads(padding, size, kernel, stride, dilation):
    """Any form of padding as two numbers for each axis, before and behind, from the definitions of each form."""
    if isinstance(padding, str):
        sides = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            outputs = (n + s - 1) // s if padding != "valid" else 0
            total = max(0, (outputs - 1) * s + d * (k - 1) + 1 - n) if outputs else 0
            sides.append((total // 2, (total + 1) // 2)[:: -1 if padding == "same_lower" else 1])
        return tuple(sides)
    given = np.asarray(padding).reshape(np.shape(padding) + (1,) * (2 - np.ndim(padding)))
    padding = np.broadcast_to(given, (len(size), 2))
    return tuple((int(before), int(after)) for before, after in padding)


def both(value, axes=2):
    """An int, or one for each axis, as a tuple."""
    return (value,) * axes if np.ndim(value) == 0 else tuple(value)


def conv_dtype(*operands):
    """Dtype of a convolution's result."""
    dtype = np.result_type(*(operand.dtype for operand in operands)).newbyteorder("=")
    return dtype if dtype.kind == "f" else np.dtype(np.int32 if dtype.itemsize == 1 else np.int64)


def wrapped(integers, dtype):
    """Integers modulo the size of a dtype, in int64."""
    return integers.astype(dtype).astype(np.int64)


def conv2d(x, weight, bias=None, *, stride=1, padding=0, dilation=1, groups=1):
    """The result and its scale, the largest sum of absolute products; integers exactly, modulo the result's size.

    Along as many axes as the weight has.
    """
    operands = [x, weight] if bias is None else [x, weight, bias]
    dtype = conv_dtype(*operands)
    wide = np.float64 if dtype.kind == "f" else np.int64  # int64 wraps: exact modulo 2**64, and so modulo 2**32
    with np.errstate(invalid="ignore", over="ignore"):
        args = [operand.astype(wide) for operand in operands]
        result = _conv2d(*args, stride=stride, padding=padding, dilation=dilation, groups=groups)
        if wide is np.int64:
            return result.astype(dtype), 0
        scale = _conv2d(*map(np.abs, args), stride=stride, padding=padding, dilation=dilation, groups=groups)
        return result, scale.max(initial=0)


def _conv2d(x, weight, bias=None, *, stride, padding, dilation, groups):
    if x.ndim < weight.ndim:
        return _conv2d(x[None], weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)[0]
    c_out, c_group, *kernel = weight.shape
    stride, dilation = both(stride, len(kernel)), both(dilation, len(kernel))
    padded = np.pad(x, ((0, 0), (0, 0), *pads(padding, x.shape[2:], kernel, stride, dilation)))
    spread = np.zeros((c_out, c_group, *((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))), x.dtype)
    spread[(..., *(slice(None, None, d) for d in dilation))] = weight
    size = [(n - k) // s + 1 for n, k, s in zip(padded.shape[2:], spread.shape[2:], stride, strict=True)]
    if min(size) < 1:
        raise ValueError("no window fits")
    out = np.zeros((x.shape[0], c_out, *size), x.dtype)
    every = tuple(slice(None, None, s) for s in stride)
    for n, o, c in np.ndindex(x.shape[0], c_out, c_group):
        image = padded[n, o // (c_out // groups) * c_group + c]
        out[n, o] += correlate(image, spread[o, c], "valid", "direct")[every]
    return out if bias is None else out + bias.reshape(-1, *(1,) * len(kernel))


def conv2d_gradients(x, weight_shape, weight, grad, *, stride=1, padding=0, dilation=1, groups=1):
    """Gradients of a convolution for its input and its weight, in float64, tap by tap; float64 in, batched."""
    (n, c_in, h, w), (c_out, c_group, kh, kw) = x.shape, weight_shape
    (sh, sw), (dh, dw), (oh, ow) = both(stride), both(dilation), grad.shape[2:]
    (top, bottom), (left, right) = pads(padding, (h, w), (kh, kw), (sh, sw), (dh, dw))
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    padded = padded.reshape(n, groups, c_group, *padded.shape[2:])
    for_padded, for_weight = np.zeros_like(padded), np.zeros((groups, c_out // groups, c_group, kh, kw))
    signal, kernel = grad.reshape(n, groups, c_out // groups, oh, ow), weight.reshape(for_weight.shape)
    for a, b in np.ndindex(kh, kw):
        rows, columns = np.arange(oh) * sh + a * dh, np.arange(ow) * sw + b * dw
        seen = np.ix_(range(n), range(groups), range(c_group), rows, columns)
        for_weight[..., a, b] = np.einsum("ngoij,ngcij->goc", signal, padded[seen])
        for_padded[seen] += np.einsum("ngoij,goc->ngcij", signal, kernel[..., a, b])
    inside = for_padded.reshape(n, c_in, *padded.shape[3:])[:, :, top : top + h, left : left + w]
    return inside, for_weight.reshape(weight_shape)


def pool2d_gradient(x, grad, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, op="max",
                    count_include_pad=True, divisor_override=None):
    """Gradient of a pooling for its input, in float64."""
    result = np.zeros(x.shape)
    if op != "avg":
        pool = max_pool2d if op == "max" else min_pool2d
        _, at = pool(x, kernel, stride, padding, dilation, ceil_mode)
        flat = result.reshape(-1, x.shape[-2] * x.shape[-1])
        outputs = len(flat), grad.shape[-2] * grad.shape[-1]
        for plane, (places, values) in enumerate(zip(at.reshape(outputs), grad.reshape(outputs), strict=True)):
            np.add.at(flat[plane], places, values)
        return result
    every = list(taps(x, kernel, stride, padding, dilation, ceil_mode))
    divisor = divisor_override or sum((padded if count_include_pad else inside).astype(int)
                                      for _, _, inside, padded in every)
    flat = result.reshape(-1, x.shape[-2] * x.shape[-1])
    share = np.broadcast_to(grad / divisor, grad.shape).reshape(len(flat), *grad.shape[-2:])
    for _, at, inside, _ in every:
        for plane, places in enumerate(at.reshape(len(flat), *grad.shape[-2:])):
            np.add.at(flat[plane], places[inside], share[plane][inside])
    return result


def conv_transpose(x, weight, bias=None, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    """The transposed convolution in float64, and its scale: every element of x adds the kernels times itself."""
    def run(x, weight, bias):
        n, c_in, *size = x.shape
        _, c_group, *kernel = weight.shape
        axes = len(kernel)
        steps, gaps, extra = (both(value, axes) for value in (stride, dilation, output_padding))
        full = [(count - 1) * s + (k - 1) * d + 1 for count, k, s, d in zip(size, kernel, steps, gaps, strict=True)]
        cut = pads(padding, size, kernel, steps, gaps)
        # with room for what output_padding adds behind what the kernels reach
        out = np.zeros((n, c_group * groups, *(f + e + sum(c) for f, e, c in zip(full, extra, cut, strict=True))))
        for group, tap in itertools.product(range(groups), np.ndindex(*kernel)):
            seen = x[:, group * c_in // groups : (group + 1) * c_in // groups]
            taps_ = weight[(slice(group * c_in // groups, (group + 1) * c_in // groups), slice(None), *tap)]
            to = [slice(t * d, t * d + (count - 1) * s + 1, s)
                  for t, d, count, s in zip(tap, gaps, size, steps, strict=True)]
            added = np.einsum("no...,oc->nc...", seen, taps_)
            out[(slice(None), slice(group * c_group, (group + 1) * c_group), *to)] += added
        inside = [slice(c[0], f + e - c[1]) for f, e, c in zip(full, extra, cut, strict=True)]
        out = out[(slice(None), slice(None), *inside)]
        return out if bias is None else out + bias.reshape(-1, *(1,) * axes)

    args = [None if operand is None else operand.astype(np.float64) for operand in (x, weight, bias)]
    return run(*args), run(*(None if operand is None else np.abs(operand) for operand in args)).max(initial=0)


def taps(x, kernel, stride, padding, dilation, ceil_mode, axes=2):
    """Per tap of a window in reading order: values of x under it (0 outside), flat index, inside?, inside padded?"""
    kernel, dilation, size = both(kernel, axes), both(dilation, axes), x.shape[-axes:]
    stride = kernel if stride is None else both(stride, axes)
    sides = pads(padding, size, kernel, stride, dilation)
    starts = []
    for n, k, s, p, d in zip(size, kernel, stride, sides, dilation, strict=True):
        room = n + sum(p) - (d * (k - 1) + 1)
        if room < 0:
            raise ValueError("no window fits")
        # With ceil_mode a last window may hang over the end, but must start in the input or in the padding before it.
        count = 1 + (-(-room // s) if ceil_mode else room // s)
        starts.append(np.array([i * s - p[0] for i in range(count) if not ceil_mode or i * s - p[0] < n]))
    for tap in np.ndindex(*kernel):
        places = np.ix_(*(start + t * d for start, t, d in zip(starts, tap, dilation, strict=True)))
        inside = padded = np.array(True)
        index = np.array(0)
        for place, n, (_, behind) in zip(places, size, sides, strict=True):
            inside = inside & (place >= 0) & (place < n)
            padded = padded & (place < n + behind)  # no tap lies before the padding
            index = index * n + place
        value = x[(..., *(place.clip(0, n - 1) for place, n in zip(places, size, strict=True)))]
        value = np.where(inside, value, x.dtype.type(0))
        yield value, np.broadcast_to(index, value.shape), inside, padded


def max_pool2d(x, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, axes=2):
    """Maxima and their flat indices: the first of equal values, the last NaN if there is one (as PyTorch has it)."""
    best = at = None
    for value, index, inside, _ in taps(x, kernel, stride, padding, dilation, ceil_mode, axes):
        if best is None:
            best, at, empty = value.copy(), index.copy(), np.full(value.shape, True)
        wins = inside & (empty | (value > best) | (value != value))  # true of NaN only
        best, at, empty = np.where(wins, value, best), np.where(wins, index, at), empty & ~inside
    if empty.any():
        raise ValueError("a window touches no input")
    return best, at


def min_pool2d(x, *args, **options):
    """Minima and their flat indices: maxima in the reverse order, which swaps the least and the greatest integer."""
    turned = np.negative if x.dtype.kind == "f" else np.invert
    best, at = max_pool2d(turned(x), *args, **options)
    return turned(best), at


def avg_pool2d(x, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, count_include_pad=True,
               divisor_override=None, axes=2):
    """Means in float64, and their scale: the largest mean of absolute values."""
    total = size = count = 0
    for value, _, inside, padded in taps(x.astype(np.float64), kernel, stride, padding, dilation, ceil_mode, axes):
        total, size = total + value, size + np.abs(value)
        count = count + (padded if count_include_pad else inside).astype(int)
    divisor = divisor_override or count
    return total / divisor, (size / divisor).max(initial=0)


def lp_pool2d(x, norm, kernel, stride=None, padding=0, dilation=1, axes=2, **options):
    """Norms, which are power means of absolute values times the window's size, in float64, and their scale."""
    x = np.abs(x.astype(np.float64))
    if norm == np.inf:
        result, _ = max_pool2d(x, kernel, stride, padding, dilation, options.get("ceil_mode", False), axes)
        return result, result.max(initial=0)
    mean, _ = avg_pool2d(x**norm, kernel, stride, padding, dilation, axes=axes, **options)
    result = (mean * np.prod(both(kernel, axes))) ** (1 / norm)
    return result, result.max(initial=0)


def assert_close(result, expected, scale):
    """A result of the library against the oracle's: integers equal, floats within `TOLERANCE` of the scale."""
    assert result.shape == expected.shape
    if result.dtype.kind != "f":
        np.testing.assert_array_equal(result, expected, strict=True)
        return
    limit = np.full(expected.shape, TOLERANCE[result.dtype] * scale)
    if result.dtype == np.float16:  # the rounding to float16 itself: to one of the two neighbours
        with np.errstate(over="ignore"):
            limit += np.spacing(np.abs(expected).clip(max=65504).astype(np.float16)).astype(np.float64)
    error = np.abs(result.astype(np.float64) - expected)
    worst = np.unravel_index(np.argmax(error - limit), error.shape) if error.size else ()
    message = f"at {worst}: got {result[worst]}, expected {expected[worst]}, scale {scale}" if error.size else ""
    assert (error <= limit).all(), message
