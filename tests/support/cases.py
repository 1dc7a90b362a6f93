"""Hostile problems by name: convolutions, poolings, transposed convolutions; and the arrays to try them on."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np

from fastconv.cpu import planner
from fastconv.cpu.system import kernels
from fastconv.planner import choose
from fastconv.specs import conv


@dataclass(frozen=True)
class Conv:
    """One `conv2d` problem. With `plain` it is tried in every dtype; with `threads` in float32 by all threads.

    (Everything else is tried in one thread: the compiled code is the same.)
    """

    name: str
    x: tuple[int, ...]
    weight: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    bias: bool = True
    plain: bool = False
    threads: bool = False

    def arrays(self, dtype: Any) -> list[np.ndarray]:
        """x, weight and, unless the case is without, bias."""
        shapes = [self.x, self.weight, (self.weight[0],)][: 3 if self.bias else 2]
        return [values(shape, dtype, seed) for seed, shape in enumerate(shapes)]


@dataclass(frozen=True)
class Pool:
    """One pooling problem, for all pooling operations."""

    name: str
    x: tuple[int, ...]
    kernel: Any
    options: dict[str, Any] = field(default_factory=dict)
    plain: bool = False

    def array(self, dtype: Any) -> np.ndarray:
        """x, a quarter of it equal to its largest value, so that many windows have several maxima."""
        x = values(self.x, dtype)
        return np.minimum(x, np.sort(x, axis=None)[x.size * 3 // 4]) if x.size else x


#: Some variants compile a kernel for each width of row and number of output channels, so few of these are used here.
CONV = (
    Conv("plain", (2, 4, 9, 8), (3, 4, 3, 3), plain=True, threads=True),
    Conv("everything", (2, 6, 17, 19), (6, 3, 3, 2), {"stride": (2, 1), "padding": ((0, 2), (1, 3)),
                                                     "dilation": (1, 3), "groups": 2}, plain=True),
    Conv("1x1 kernel", (2, 5, 7, 6), (8, 5, 1, 1), plain=True, threads=True),
    # sizes of image and kernel
    Conv("1x1 image", (1, 1, 1, 1), (1, 1, 1, 1)),
    Conv("1x1 image, 3x3 kernel", (1, 4, 1, 1), (5, 4, 3, 3), {"padding": 1}),
    Conv("kernel as large as the image", (2, 3, 5, 7), (4, 3, 5, 7)),
    Conv("kernel larger than the image", (1, 2, 4, 4), (3, 2, 5, 6), {"padding": (1, 2)}),
    Conv("kernel larger than the image, one axis", (1, 2, 2, 12), (3, 2, 3, 3), {"padding": (1, 0)}),
    Conv("one row", (1, 3, 1, 23), (3, 3, 1, 5)),
    Conv("one column", (1, 3, 23, 1), (3, 3, 5, 1)),
    Conv("one row, padded", (1, 3, 1, 23), (3, 3, 3, 3), {"padding": 1}),
    Conv("1x7", (1, 8, 6, 20), (5, 8, 1, 7), {"padding": "same"}),
    Conv("7x1", (1, 8, 20, 6), (8, 8, 7, 1), {"padding": "same"}),
    Conv("7x7", (1, 3, 15, 18), (5, 3, 7, 7), {"padding": 3, "stride": 2}),
    Conv("5x5", (1, 4, 13, 14), (5, 4, 5, 5), {"padding": 2}),
    Conv("2x2", (1, 4, 9, 10), (5, 4, 2, 2), bias=False),
    Conv("13x11 kernel", (1, 1, 30, 41), (1, 1, 13, 11)),
    # large kernels, cut into chunks, and images around the edges of the tiles that go with them
    Conv("31x31 kernel, same", (1, 1, 37, 70), (1, 1, 31, 31), {"padding": "same"}, threads=True),
    Conv("31x31 kernel, depthwise on a small image", (2, 3, 9, 10), (3, 1, 31, 31), {"padding": 15, "groups": 3}),
    Conv("17x17 kernel larger than the image", (1, 2, 6, 5), (3, 2, 17, 17), {"padding": ((9, 6), (7, 12))}),
    Conv("1x31", (1, 1, 7, 75), (2, 1, 1, 31), {"padding": (0, 3)}),
    Conv("1x13, depthwise", (2, 3, 8, 40), (3, 1, 1, 13), {"padding": (1, 2), "groups": 3}),
    Conv("2x4 kernel", (1, 1, 5, 70), (1, 1, 2, 4)),
    Conv("3x9, multiplier", (1, 2, 30, 131), (4, 1, 3, 9), {"padding": "same", "groups": 2}, threads=True),
    Conv("31x1", (1, 1, 60, 19), (2, 1, 31, 1), {"padding": (3, 0)}),
    Conv("9x11 kernel, stride", (1, 2, 30, 35), (2, 2, 9, 11), {"stride": (2, 3), "padding": 4}),
    Conv("11x9 kernel, dilation", (1, 1, 40, 45), (2, 1, 11, 9), {"dilation": (2, 3), "padding": 5}),
    *(Conv(f"5x9 kernel, {ow} columns out", (1, 1, 13, ow + 8), (1, 1, 5, 9)) for ow in (63, 64, 65, 128, 129, 200)),
    Conv("5x5 kernel, 2 groups of 3 to 2 channels", (2, 6, 40, 21), (4, 3, 5, 5), {"padding": (4, 1), "groups": 2},
         threads=True),
    # rows around the width of a vector, of two, and past a tile
    *(Conv(f"{ow} columns out", (1, 4, 5, ow + 2), (5, 4, 3, 3), bias=False) for ow in (15, 16, 17, 31, 32, 33, 70)),
    Conv("long rows, padded", (1, 3, 6, 130), (5, 3, 3, 3), {"padding": 1}, threads=True),
    # strides
    Conv("stride 2", (2, 4, 11, 12), (5, 4, 3, 3), {"stride": 2, "padding": 1}),
    Conv("stride (2, 1)", (1, 4, 11, 12), (5, 4, 3, 3), {"stride": (2, 1)}),
    Conv("stride (1, 3)", (1, 4, 11, 18), (5, 4, 3, 3), {"stride": (1, 3), "padding": 1}),
    Conv("stride larger than the kernel", (1, 2, 13, 14), (3, 2, 2, 2), {"stride": (4, 5)}),
    Conv("stride larger than the image", (1, 2, 5, 6), (3, 2, 3, 3), {"stride": (50, 2**31 - 1), "padding": 1}),
    Conv("1x1 kernel, stride", (2, 5, 7, 6), (8, 5, 1, 1), {"stride": (3, 2)}),
    # padding
    Conv("asymmetric padding", (1, 3, 6, 7), (3, 3, 3, 3), {"padding": ((0, 2), (3, 1))}),
    Conv("padding before only", (1, 3, 6, 7), (4, 3, 3, 3), {"padding": [(2, 0), (1, 0)]}),
    Conv("padding larger than the kernel", (1, 2, 3, 4), (3, 2, 2, 2), {"padding": (5, 7)}),
    Conv("padding larger than everything", (1, 1, 2, 2), (3, 1, 3, 3), {"padding": 20, "stride": 3}),
    Conv("1x1 kernel, padding", (2, 3, 4, 4), (4, 3, 1, 1), {"padding": (2, 1)}),
    Conv("valid", (1, 3, 6, 7), (4, 3, 3, 3), {"padding": "valid", "stride": 2}),
    Conv("same, even kernel", (1, 2, 7, 8), (3, 2, 4, 2), {"padding": "same"}),
    Conv("same_lower, even kernel", (1, 2, 7, 8), (3, 2, 4, 2), {"padding": "same_lower"}),
    Conv("same, stride", (1, 2, 7, 8), (3, 2, 4, 3), {"padding": "same", "stride": (2, 3)}),
    Conv("same_lower, stride", (1, 2, 7, 8), (3, 2, 4, 3), {"padding": "same_lower", "stride": (2, 3)}),
    Conv("same, stride larger than the kernel", (1, 2, 7, 12), (3, 2, 2, 2), {"padding": "same", "stride": 5}),
    Conv("same, dilation", (1, 2, 7, 8), (3, 2, 3, 2), {"padding": "same", "dilation": (2, 3)}),
    # dilation
    Conv("dilation", (1, 3, 12, 12), (4, 3, 3, 3), {"dilation": (2, 3)}),
    Conv("dilation, stride, padding", (1, 3, 12, 12), (4, 3, 3, 3), {"dilation": 2, "stride": 2, "padding": 2}),
    Conv("dilation larger than the image", (1, 2, 3, 3), (3, 2, 3, 3), {"dilation": (5, 7), "padding": (5, 7)}),
    Conv("dilation of one tap", (1, 2, 5, 6), (3, 2, 1, 1), {"dilation": 2**31 - 1}),
    # channels and groups
    Conv("37 to 53 channels", (1, 37, 6, 7), (53, 37, 3, 3), {"padding": 1}),
    Conv("37 to 53 channels, 1x1", (1, 37, 6, 7), (53, 37, 1, 1), threads=True),
    Conv("64 to 64 channels", (1, 64, 8, 7), (64, 64, 3, 3), {"padding": 1}, threads=True),
    Conv("600 channels to 2", (1, 600, 4, 5), (2, 600, 3, 3), threads=True),
    Conv("1 channel to 70", (1, 1, 6, 9), (70, 1, 3, 3)),
    Conv("2 groups", (2, 6, 8, 9), (6, 3, 3, 3), {"groups": 2, "padding": 1}),
    Conv("1x1 kernel, more than a tile", (2, 5, 9, 11), (9, 5, 1, 1), threads=True),
    Conv("1x1 kernel, stride, padding, groups", (2, 6, 17, 13), (34, 3, 1, 1), {"stride": (2, 3), "groups": 2,
                                                                             "padding": ((1, 0), (2, 1))}),
    Conv("1x1 kernel, stride, rows longer than a tile", (2, 18, 9, 45), (40, 18, 1, 1), {"stride": 2}, threads=True),
    Conv("1x1 kernel, stride, several blocks", (1, 300, 25, 47), (20, 300, 1, 1), {"stride": (1, 3)}, threads=True),
    Conv("fully connected", (5, 300, 1, 1), (21, 300, 1, 1), threads=True),
    Conv("fully connected, one image of two groups", (1, 6, 5, 7), (38, 3, 5, 7), {"groups": 2}),
    Conv("3 groups, 1x1", (2, 6, 8, 9), (9, 2, 1, 1), {"groups": 3}),
    Conv("depthwise", (2, 17, 8, 9), (17, 1, 3, 3), {"groups": 17, "padding": 1}, threads=True),
    Conv("depthwise, stride", (1, 16, 9, 11), (16, 1, 3, 3), {"groups": 16, "padding": 1, "stride": 2}),
    Conv("depthwise, multiplier", (1, 5, 8, 9), (15, 1, 3, 3), {"groups": 5, "padding": 1}),
    Conv("depthwise, dilation", (1, 5, 12, 12), (5, 1, 3, 3), {"groups": 5, "dilation": 3}),
    Conv("depthwise 7x7 plane, 5x5", (2, 3, 7, 7), (3, 1, 5, 5), {"groups": 3, "padding": 2}),
    Conv("depthwise 14x14 plane, stride 2", (1, 4, 14, 14), (8, 1, 5, 5), {"groups": 4, "padding": 2, "stride": 2}),
    Conv("depthwise, long rows", (1, 3, 9, 117), (3, 1, 3, 3), {"groups": 3, "padding": [(1, 0), (2, 1)]},
         threads=True),
    Conv("depthwise, long rows, stride 2", (1, 3, 12, 141), (3, 1, 3, 3), {"groups": 3, "padding": 1, "stride": 2}),
    Conv("depthwise, dilation, stride, tall", (1, 2, 40, 21), (2, 1, 3, 3), {"groups": 2, "padding": 3, "stride": 2,
                                                                             "dilation": 3}),
    Conv("one channel, tall kernel", (1, 1, 40, 70), (1, 1, 9, 9), {"padding": 4}),
    # batch
    Conv("batch 3", (3, 2, 5, 8), (3, 2, 3, 3)),
    Conv("batch 0", (0, 2, 5, 6), (3, 2, 3, 3)),
    Conv("no batch axis", (2, 5, 6), (3, 2, 3, 3), {"padding": 1}),
)

POOL = (
    Pool("plain", (2, 3, 8, 9), 2, plain=True),
    Pool("everything", (2, 2, 13, 14), (3, 2), {"stride": (2, 3), "padding": ((1, 2), (0, 1)), "dilation": (2, 1),
                                               "ceil_mode": True}, plain=True),
    Pool("one plane", (7, 8), 3),
    Pool("no batch axis", (3, 7, 8), 3),
    Pool("batch 0", (0, 3, 7, 8), 3),
    Pool("1x1 image", (1, 1, 1, 1), 1),
    Pool("1x1 window", (1, 2, 5, 6), 1),
    Pool("1x1 window, stride", (1, 2, 5, 6), 1, {"stride": 3}),
    Pool("window as large as the image", (2, 2, 5, 6), (5, 6)),
    Pool("window larger than the image", (1, 2, 3, 4), (5, 6), {"padding": (1, 2)}),
    Pool("window larger than the image, dilation", (1, 2, 4, 5), 4, {"padding": 2, "dilation": 2, "stride": 1}),
    Pool("one row", (1, 1, 40), (1, 3), {"stride": (1, 1)}),
    Pool("one row high, dealt", (2, 3, 70), (1, 3), {"stride": (1, 2), "padding": (0, 1)}),
    Pool("one row high, taps left over", (2, 2, 170), (1, 8), {"stride": (2, 3), "padding": ((0, 0), (3, 4))}),
    Pool("one row high, dilation", (1, 2, 150), (1, 4), {"stride": (1, 2), "padding": (0, 4), "dilation": (1, 3)}),
    Pool("one row high, far apart", (1, 2, 400), (1, 11), {"stride": (1, 9), "padding": (0, 5), "ceil_mode": True}),
    Pool("one row high, long", (1, 2, 9000), (1, 2), {"stride": (1, 2), "padding": (0, 1)}),
    Pool("one column", (1, 40, 1), (3, 1), {"stride": (2, 1), "padding": (1, 0)}),
    Pool("3x3 stride 2", (1, 4, 11, 12), 3, {"stride": 2, "padding": 1}),
    Pool("3x3 stride 1 same", (1, 2, 6, 40), 3, {"stride": 1, "padding": "same"}),
    Pool("4x2 same", (1, 2, 7, 8), (4, 2), {"stride": 1, "padding": "same"}),
    Pool("4x2 same_lower, stride", (1, 2, 7, 8), (4, 3), {"stride": (3, 2), "padding": "same_lower"}),
    Pool("13x13", (1, 2, 30, 35), 13, {"stride": 1}),
    Pool("13x13, padded", (1, 1, 20, 37), 13, {"stride": 2, "padding": 6}),
    Pool("window per axis", (1, 2, 9, 10), (2, 3), {"stride": (2, 3), "padding": (0, 1)}),
    Pool("stride larger than the window", (1, 2, 11, 13), 2, {"stride": (4, 5)}),
    Pool("stride larger than the image", (1, 2, 5, 6), 3, {"stride": (100, 2**31 - 1)}),
    Pool("asymmetric padding", (1, 2, 8, 9), 3, {"stride": 2, "padding": ((0, 2), (2, 1))}),
    Pool("padding after only", (1, 2, 8, 9), 4, {"stride": 2, "padding": ((0, 3), (0, 3))}),
    Pool("ceil_mode", (1, 2, 8, 9), 3, {"stride": 2, "ceil_mode": True}),
    Pool("ceil_mode, padded", (1, 2, 7, 8), 3, {"stride": 3, "padding": 1, "ceil_mode": True}),
    Pool("ceil_mode, window behind the input dropped", (1, 2, 4, 4), 2, {"stride": 3, "padding": 1, "ceil_mode": True}),
    Pool("ceil_mode, asymmetric padding", (1, 2, 7, 8), 3, {"stride": 4, "padding": ((0, 1), (1, 0)),
                                                           "ceil_mode": True}),
    Pool("dilation", (1, 2, 11, 12), 3, {"stride": 1, "dilation": (2, 3)}),
    Pool("dilation, padded", (1, 2, 11, 12), 3, {"stride": 2, "dilation": 2, "padding": 2}),
    Pool("dilation, ceil_mode", (1, 2, 9, 10), 2, {"stride": 3, "dilation": 3, "padding": 1, "ceil_mode": True}),
    *(Pool(f"{w} columns", (2, 3, w), (2, 3), {"stride": (1, 1)}) for w in (16, 17, 18, 33, 34, 35, 70)),
)

FLOATS = ("float32", "float64", "float16")
INTEGERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
#: Dtypes that between them see every way a dtype is treated.
TELLING = (*FLOATS, "bool", "int8", "uint8", "int16", "int64")


def values(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> np.ndarray:
    """Random numbers: floats between -1 and 1, integers over the full range of their dtype."""
    dtype, rng = np.dtype(dtype), np.random.default_rng(seed)
    if dtype.kind == "f":
        return rng.uniform(-1, 1, shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Run kernels in so many threads, also those of small problems; None is as many as there are."""
    before, worth_it = numba.get_num_threads(), kernels.PARALLEL_OPERATIONS
    numba.set_num_threads(count or numba.config.NUMBA_NUM_THREADS)
    kernels.PARALLEL_OPERATIONS = 0
    try:
        yield
    finally:
        numba.set_num_threads(before)
        kernels.PARALLEL_OPERATIONS = worth_it


def unsupported(algorithm: str, arrays: list[np.ndarray], **options: Any) -> str | None:
    """Why an algorithm cannot convolve these arrays, None if it can."""
    x, weight = arrays[:2]
    problem = conv.conv_spec(x.shape, weight.shape, [array.dtype for array in arrays], **options)
    (module,) = (module for module in planner.table("conv2d") if choose.name(module) == algorithm)
    return module.supports(problem)


def example(algorithm: str, dtype: Any = "float32") -> Conv | None:
    """A case that an algorithm supports in this dtype, if there is one."""
    names = "plain", "1x1 kernel", "depthwise", "1x13, depthwise", "5x5", "kernel as large as the image"
    cases = [case for name in names for case in CONV if case.name == name]
    return next((case for case in cases if not unsupported(algorithm, case.arrays(dtype), **case.options)), None)


def fenced(array: np.ndarray) -> np.ndarray:
    """A copy that ends where memory ends and begins after bytes that are NaNs in every float dtype.

    A kernel that reads or writes behind it ends the process. One that reads before it spoils its result, and one that
    writes there is found by `intact`.
    """
    page = mmap.PAGESIZE
    end = -(-array.nbytes // page) * page + page
    memory = mmap.mmap(-1, end + page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(start + end), page, 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    raw = np.frombuffer(memory, np.uint8)
    raw[:end] = 0xFF
    copy = raw[end - array.nbytes : end].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def intact(copy: np.ndarray) -> bool:
    """Whether the bytes before an array that `fenced` made are as they were."""
    return bool((copy.base[: -mmap.PAGESIZE - copy.nbytes] == 0xFF).all())


def _unaligned(x: np.ndarray) -> np.ndarray:
    raw = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    raw[...] = x
    return raw


def _readonly(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


class Measured(np.ndarray):
    """A subclass of arrays, as those with units are."""


#: What callers hand over: each makes an array of shape (N, C, H, W) into one of the same shape and dtype kind.
LAYOUTS = {
    "transposed": lambda x: x.transpose(3, 2, 1, 0).copy().transpose(3, 2, 1, 0),
    "channels last": lambda x: x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
    "negative strides": lambda x: x[:, ::-1, ::-1, ::-1].copy()[:, ::-1, ::-1, ::-1],
    "every second": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder("S")),
    "read-only": _readonly,
    "unaligned": _unaligned,
    "broadcast": lambda x: np.broadcast_to(x[:, :, :1, :1], x.shape),
    "list": lambda x: x.tolist(),
    "memory map": lambda x: x.view(np.memmap),
    "subclass": lambda x: x.view(Measured),
}

#: Transposed convolutions: x, weight, options.
TRANSPOSED: dict[str, tuple[tuple, tuple, dict[str, Any]]] = {
    "plain": ((2, 4, 5, 6), (4, 3, 3, 2), {}),
    "stride divides the kernel": ((2, 4, 5, 6), (4, 3, 4, 2), {"stride": 2, "padding": 1}),
    "it does not": ((2, 4, 5, 6), (4, 3, 3, 5), {"stride": 2, "padding": (1, 2), "output_padding": (1, 0)}),
    "everything": ((2, 4, 5, 6), (4, 3, 2, 3), {"stride": (3, 1), "padding": ((1, 0), (0, 3)), "dilation": (2, 3),
                                                "groups": 2, "output_padding": (2, 1)}),
    "odd phases": ((1, 4, 5, 7), (4, 3, 4, 4), {"stride": 2, "padding": ((1, 3), (3, 2))}),
    "stride 3": ((1, 4, 3, 9), (4, 2, 3, 6), {"stride": 3, "padding": (1, 2), "output_padding": 2}),
    "stride beyond the kernel": ((2, 4, 5, 6), (4, 3, 2, 1), {"stride": (4, 3), "output_padding": (3, 2)}),
    "one pixel": ((3, 5, 1, 1), (5, 4, 4, 4), {}),
    "one pixel, padded": ((3, 5, 1, 1), (5, 4, 4, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "crops more than the kernel reaches": ((1, 2, 9, 8), (2, 3, 3, 2), {"padding": (4, 3)}),
    "depthwise": ((1, 4, 5, 21), (4, 1, 4, 4), {"stride": 2, "padding": 1, "groups": 4}),
    "signal": ((2, 4, 9), (4, 3, 6), {"stride": 3, "padding": 1, "output_padding": 1}),
    "volume": ((1, 4, 2, 3, 4), (4, 3, 2, 4, 3), {"stride": (2, 2, 1), "padding": (0, 1, 1)}),
    "volume, everything": ((2, 4, 3, 4, 3), (4, 3, 3, 2, 2), {"stride": (2, 1, 3), "padding": ((1, 0), (0, 1), (0, 0)),
                                                             "dilation": (1, 2, 1), "groups": 2}),
    "batch 0": ((0, 4, 5, 6), (4, 3, 3, 2), {}),
    "depthwise, everything": ((2, 4, 5, 21), (4, 2, 3, 4), {"stride": (2, 3), "padding": ((1, 0), (0, 3)), "groups": 4,
                                                            "dilation": (3, 2), "output_padding": (1, 2)}),
    "depthwise, wide": ((1, 3, 9, 70), (3, 1, 5, 3), {"stride": 2, "padding": (2, 1), "groups": 3}),
    "depthwise signal": ((2, 3, 70), (3, 1, 7), {"stride": 6, "padding": ((5, 2),), "groups": 3}),
    "depthwise, stride beyond the kernel": ((1, 3, 3, 4), (3, 1, 1, 2), {"stride": (2, 7), "groups": 3}),
    "depthwise, cropped": ((1, 3, 20, 30), (3, 1, 2, 4), {"stride": (2, 4), "padding": (9, 31), "groups": 3}),
}
