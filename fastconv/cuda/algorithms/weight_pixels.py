"""The gradient for a convolution's weight with all taps of a pair of channels in one thread: layers of small groups.

Index equation (symbols in `fastconv.specs.conv`)::

    out[o, c, a, b] = sum over n, i, j of grad[n, o, i, j] * x[n, first + c, row, col]
    row = i * stride_h - top + a * dilation_h,   col = j * stride_w - left + b * dilation_w

What it changes over `weight_implicit_gemm`, whose tile for a depthwise layer would be zeros but for one column: a
thread goes over pixels of one output channel. It loads each element of grad once, and the kh * kw elements of x that
grad's element meets, which its neighbours have loaded into the first-level cache; it keeps kh * kw sums in registers.
Neighbouring threads have neighbouring pixels, or neighbouring channels where these lie side by side (channels last), so
that a warp reads whole rows. A block adds up its threads' sums in shared memory, halving their number each time. Blocks
that share the pixels of a channel leave their parts to `partial_sums`; the order never changes.

x is read for every output channel of a group and grad for every input channel: it wins where there are few of them, as
in depthwise layers. Not measured yet on a GPU.
"""

from __future__ import annotations

from ...specs.conv import ConvSpec
from ..machine import Machine, this_machine
from ..shared.gather import places
from ..shared.partial_sums import add_parts
from ..shared.pooling import lanes_last
from ..system.kernels import MOST_BLOCKS, cuda, factory, integers, pick, pointer, scalar
from ..system.streams import Stream, Tensor
from ..tiles.elements import widen
from ..tiles.ptx import advance, int32, int64, within

#: Threads of a block, and how many of them have channels of one pixel if channels lie side by side.
BLOCK, CHANNELS = pick(128, 8), pick(32, 4)
#: Most sums that fit into a thread's registers: those of a 7x7 kernel.
TAPS = 49
#: Bytes of shared memory that a block may have without asking for more (48 KiB).
SHARED = 48 << 10
#: Least number of pixels of a thread, if there are so many.
LEAST = pick(16, 2)
#: Blocks wanted on each multiprocessor to hide the latency of memory.
RESIDENT = pick(16, 1)
#: Most parts of a sum.
MOST_PARTS = 1024


def supports(spec: ConvSpec) -> str | None:
    if reason := places(spec):
        return reason
    taps = spec.kh * spec.kw
    if taps > TAPS:
        return f"it is for kernels of at most {TAPS} elements, got {spec.kh}x{spec.kw}"
    if taps * BLOCK * spec.acc_dtype.itemsize > SHARED:
        return f"sums of {taps} elements of {spec.acc_dtype} take more than the {SHARED} bytes of shared memory"
    if spec.c_out * (spec.c_in // spec.groups) > MOST_BLOCKS:
        return f"its blocks are numbered in 32 bits, too few for {spec.c_out} channels out of {spec.c_in}"
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    pairs, pixels, taps = spec.c_out * (spec.c_in // spec.groups), spec.n * spec.oh * spec.ow, spec.kh * spec.kw
    # Some 5 instructions a tap and 40 a pixel, and a multiprocessor does 128 a cycle; it loads 32 values a cycle.
    cycles = pairs * pixels * max((5 * taps + 40) / 128, (taps + 1) / 32)
    reads = spec.n * spec.h * spec.w * spec.c_in * (spec.c_out // spec.groups) + pairs * pixels
    work = cycles / (machine.processors * machine.clock)
    return 2 * machine.launch + max(work, reads * spec.dtype.itemsize / machine.bandwidth)


def scratch(spec: ConvSpec) -> int:
    parts = max(_cut(spec, last)[1] for last in (False, True))
    return parts * spec.c_out * spec.taps * spec.acc_dtype.itemsize


def _cut(spec: ConvSpec, last: bool) -> tuple[int, int, int]:
    """Number of blocks of a part, number of parts, and pixels of a part."""
    blocks, pixels = spec.c_out * (spec.c_in // spec.groups), spec.n * spec.oh * spec.ow
    together = BLOCK
    if last:
        blocks, together = -(-spec.c_out // CHANNELS) * (spec.c_in // spec.groups), BLOCK // CHANNELS
    wanted = -(-RESIDENT * this_machine().processors // blocks)
    parts = max(1, min(wanted, MOST_PARTS, pixels // (LEAST * together)))
    share = max(1, -(-pixels // (parts * together))) * together
    return blocks, max(1, -(-pixels // share)), share


def run(spec: ConvSpec, x: Tensor, grad: Tensor, out: Tensor, stream: Stream) -> None:
    last = lanes_last(x) and lanes_last(grad)
    blocks, parts, share = _cut(spec, last)
    sums = stream.empty(parts * spec.c_out * spec.taps, spec.acc_dtype)
    stream.launch(
        _weight_taps(x.dtype, spec.acc_dtype, (spec.kh, spec.kw), spec.stride, spec.dilation, last),
        (blocks, parts), BLOCK, x.pointer, x.strides, grad.pointer, grad.strides, sums.pointer,
        (spec.h, spec.w), (spec.n * spec.oh * spec.ow, spec.oh, spec.ow),
        (spec.c_out, spec.c_out // spec.groups, spec.c_in // spec.groups, share),
        (spec.padding[0][0], spec.padding[1][0]),
    )
    add_parts(sums, parts, spec.taps, (spec.kh * spec.kw, 1), out, stream)


@factory
def _weight_taps(dtype, acc_dtype, window, stride, dilation, last):
    number, acc, load = scalar(acc_dtype), acc_dtype.type, widen(dtype, acc_dtype)
    (kh, kw), (step_h, step_w), (gap_h, gap_w) = window, stride, dilation
    taps, lanes = kh * kw, CHANNELS if last else 1
    together, size = BLOCK // lanes, taps * BLOCK

    def weight_taps(x, x_steps, grad, grad_steps, sums, image, outputs, channels, pad):
        memory = cuda.shared.array(size, number)
        totals = cuda.local.array(taps, number)
        h, w, oh, ow = int32(image[0]), int32(image[1]), int32(outputs[1]), int32(outputs[2])
        c_out, o_group, c_group = int32(channels[0]), int32(channels[1]), int32(channels[2])
        t, block = int32(cuda.threadIdx.x), int32(cuda.blockIdx.x)
        c, first = int32(block % c_group), int32(block // c_group * lanes)
        o = int32(first + t % lanes)
        if o >= c_out:
            o = int32(c_out - 1)  # its sums are not stored
        begin = cuda.blockIdx.y * channels[3]
        end = int32(min(begin + channels[3], outputs[0]))
        for q in range(taps):
            totals[q] = 0
        x = advance(x, int64(o // o_group * c_group + c) * x_steps[1])
        grad = advance(grad, o * grad_steps[1])
        for pixel in range(int32(begin + t // lanes), end, int32(together)):
            n, i, j = int32(pixel // ow // oh), int32(pixel // ow % oh), int32(pixel % ow)
            signal = load(grad[n * grad_steps[0] + i * grad_steps[2] + j * grad_steps[3]])
            row, col = int32(i * step_h - pad[0]), int32(j * step_w - pad[1])
            seen = advance(x, n * x_steps[0] + row * x_steps[2] + col * x_steps[3])
            for a in range(kh):
                for b in range(kw):
                    if within(int32(row + a * gap_h), h) and within(int32(col + b * gap_w), w):
                        value = load(seen[a * gap_h * x_steps[2] + b * gap_w * x_steps[3]])
                        totals[a * kw + b] = acc(totals[a * kw + b] + signal * value)

        for q in range(taps):
            memory[q * BLOCK + t] = totals[q]
        width = int32(BLOCK // 2)
        while width >= lanes:
            cuda.syncthreads()
            for at in range(t, int32(taps * width), int32(BLOCK)):
                place = at // width * BLOCK + at % width
                memory[place] += memory[place + width]
            width = int32(width // 2)
        cuda.syncthreads()
        part = cuda.blockIdx.y * (channels[0] * c_group * taps)
        for at in range(t, int32(taps * lanes), int32(BLOCK)):
            o, tap = int32(first + at % lanes), int32(at // lanes)
            if o < c_out:
                sums[part + (int64(o) * c_group + c) * taps + tap] = memory[tap * BLOCK + at % lanes]

    pair, four = integers(2), integers(4)
    signature = (pointer(dtype), four, pointer(dtype), four, pointer(acc_dtype), pair, integers(3), four, pair)
    return signature, weight_taps
