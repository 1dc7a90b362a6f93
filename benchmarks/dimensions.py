"""Signals, volumes and the operations around convolution beside PyTorch: ``python -m benchmarks.dimensions``.

Every row is checked against PyTorch's result, then both are timed in turns: plain calls that make their own output.
Ratios are of medians, and of minima, in one run: above one, fastconv is faster. With ``--threads 2 --pin`` each thread
has a core of its own, and turns begin with a rest in which the threads of the one before fall asleep, and with calls
that are not timed.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import fastconv
from benchmarks.checkouts import internal

from .contenders import keep_apart, spread
from .shapes import random

#: Calls of each contender, or as many as fit into so many seconds.
CALLS, SECONDS = 31, 0.6
#: Seconds after which idle threads sleep: PyTorch's spin for some 5 ms.
REST = 0.01


class Row(NamedTuple):
    """A call of an operation that PyTorch has, too: shapes of arrays, then other arguments."""

    operation: str
    arrays: tuple[tuple[int, ...], ...]
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012 # never changed

    def call(self) -> Callable[[], np.ndarray]:
        """fastconv's call."""
        arrays = [random(shape, np.float32) for shape in self.arrays]
        return partial(getattr(fastconv, self.operation), *arrays, *self.args, **self.options)


PAD = {"padding": 1}
ROWS = {
    # convolutions of volumes
    "stem": Row("conv3d", ((1, 16, 16, 112, 112), (32, 16, 3, 3, 3)), options=PAD),
    "c3d_1": Row("conv3d", ((1, 3, 16, 112, 112), (64, 3, 3, 3, 3)), options=PAD),
    "c3d_2": Row("conv3d", ((1, 64, 16, 56, 56), (128, 64, 3, 3, 3)), options=PAD),
    "c3d_3": Row("conv3d", ((1, 128, 8, 28, 28), (256, 128, 3, 3, 3)), options=PAD),
    "c3d_4": Row("conv3d", ((1, 256, 4, 14, 14), (512, 256, 3, 3, 3)), options=PAD),
    "c3d_5": Row("conv3d", ((1, 512, 2, 7, 7), (512, 512, 3, 3, 3)), options=PAD),
    "r3d_stem": Row("conv3d", ((1, 3, 16, 112, 112), (64, 3, 3, 7, 7)),
                    options={"stride": (1, 2, 2), "padding": (1, 3, 3)}),
    "r3d_2": Row("conv3d", ((1, 64, 8, 28, 28), (64, 64, 3, 3, 3)), options=PAD),
    "r3d_3": Row("conv3d", ((1, 64, 16, 56, 56), (128, 64, 3, 3, 3)), options={"stride": 2, "padding": 1}),
    "r2plus1d_space": Row("conv3d", ((1, 64, 8, 28, 28), (144, 64, 1, 3, 3)), options={"padding": (0, 1, 1)}),
    "r2plus1d_time": Row("conv3d", ((1, 144, 8, 28, 28), (64, 144, 3, 1, 1)), options={"padding": (1, 0, 0)}),
    "time_stride": Row("conv3d", ((1, 64, 8, 28, 28), (64, 64, 3, 1, 1)),
                       options={"stride": (2, 1, 1), "padding": (1, 0, 0)}),
    "1x1x1": Row("conv3d", ((1, 64, 8, 28, 28), (256, 64, 1, 1, 1))),
    "depthwise": Row("conv3d", ((1, 64, 8, 28, 28), (64, 1, 3, 3, 3)), options={"padding": 1, "groups": 64}),
    "dilated": Row("conv3d", ((1, 32, 16, 32, 32), (32, 32, 3, 3, 3)), options={"padding": 2, "dilation": 2}),
    "unet": Row("conv3d", ((1, 32, 32, 32, 32), (32, 32, 3, 3, 3)), options=PAD),
    "small": Row("conv3d", ((2, 8, 4, 8, 8), (8, 8, 3, 3, 3)), options=PAD),
    # of signals
    "wavenet": Row("conv1d", ((1, 64, 16000), (64, 64, 2)), options={"dilation": 64}),
    "wavenet_1x1": Row("conv1d", ((1, 64, 16000), (128, 64, 1))),
    "speech": Row("conv1d", ((1, 80, 3000), (512, 80, 3)), options=PAD),
    "speech_stride": Row("conv1d", ((1, 512, 3000), (512, 512, 3)), options={"padding": 1, "stride": 2}),
    "wav": Row("conv1d", ((1, 1, 16000), (512, 1, 10)), options={"stride": 5}),
    "text": Row("conv1d", ((32, 128, 64), (100, 128, 5))),
    # transposed: weight is (channels in, channels out / groups, kernel)
    "unet_up": Row("conv_transpose2d", ((1, 256, 32, 32), (256, 128, 2, 2)), options={"stride": 2}),
    "unet_up_large": Row("conv_transpose2d", ((1, 64, 128, 128), (64, 32, 2, 2)), options={"stride": 2}),
    "dcgan_1": Row("conv_transpose2d", ((16, 100, 1, 1), (100, 512, 4, 4))),
    "dcgan_3": Row("conv_transpose2d", ((16, 256, 8, 8), (256, 128, 4, 4)), options={"stride": 2, "padding": 1}),
    "dcgan_5": Row("conv_transpose2d", ((16, 64, 32, 32), (64, 3, 4, 4)), options={"stride": 2, "padding": 1}),
    "decoder_3x3": Row("conv_transpose2d", ((1, 64, 56, 56), (64, 64, 3, 3)), options=PAD),
    "decoder_3x3_s2": Row("conv_transpose2d", ((1, 128, 28, 28), (128, 64, 3, 3)),
                          options={"stride": 2, "padding": 1, "output_padding": 1}),
    "fsrcnn": Row("conv_transpose2d", ((1, 56, 96, 96), (56, 1, 9, 9)),
                  options={"stride": 3, "padding": 4, "output_padding": 2}),
    "fcn_8x": Row("conv_transpose2d", ((1, 21, 28, 28), (21, 21, 16, 16)), options={"stride": 8, "padding": 4}),
    "bilinear_up": Row("conv_transpose2d", ((1, 64, 28, 28), (64, 1, 4, 4)),
                       options={"stride": 2, "padding": 1, "groups": 64}),
    "vocoder": Row("conv_transpose1d", ((1, 512, 128), (512, 256, 16)), options={"stride": 8, "padding": 4}),
    "unet3d_up": Row("conv_transpose3d", ((1, 64, 8, 8, 8), (64, 32, 2, 2, 2)), options={"stride": 2}),
    "gan3d": Row("conv_transpose3d", ((1, 128, 8, 8, 8), (128, 64, 4, 4, 4)), options={"stride": 2, "padding": 1}),
    # poolings
    "max_2x2x2": Row("max_pool3d", ((1, 64, 16, 56, 56),), (2,)),
    "max_3x3x3_s2": Row("max_pool3d", ((1, 64, 16, 56, 56),), (3, 2, 1)),
    "max_1x2x2": Row("max_pool3d", ((1, 64, 16, 112, 112),), ((1, 2, 2),)),
    "max_3x3x3_s1": Row("max_pool3d", ((1, 32, 8, 28, 28),), (3, 1, 1)),
    "avg_2x2x2": Row("avg_pool3d", ((1, 64, 16, 56, 56),), (2,)),
    "avg_3x3x3_s2": Row("avg_pool3d", ((1, 64, 16, 56, 56),), (3, 2, 1)),
    "avg_global": Row("avg_pool3d", ((1, 512, 2, 7, 7),), ((2, 7, 7),)),
    "max_signal": Row("max_pool1d", ((8, 64, 4096),), (3, 2, 1)),
    "avg_signal": Row("avg_pool1d", ((8, 64, 4096),), (4,)),
    "adaptive_avg_7": Row("adaptive_avg_pool2d", ((8, 256, 30, 30),), (7,)),
    "adaptive_max_7": Row("adaptive_max_pool2d", ((8, 256, 30, 30),), (7,)),
    "adaptive_avg_1": Row("adaptive_avg_pool2d", ((8, 512, 14, 14),), (1,)),
    # unrolled
    "unfold": Row("unfold2d", ((1, 64, 56, 56),), (3,), PAD),
    "fold": Row("fold2d", ((1, 64 * 9, 56 * 56),), ((56, 56), 3), PAD),
}
#: PyTorch's names where they are others.
PEERS = {"unfold2d": "unfold", "fold2d": "fold"}


def contenders(row: Row) -> dict[str, Callable[[], Any]]:
    """fastconv's call and PyTorch's."""
    import torch

    tensors = [torch.from_numpy(random(shape, np.float32)) for shape in row.arrays]
    peer = getattr(torch.nn.functional, PEERS.get(row.operation, row.operation))

    def run_peer() -> np.ndarray:
        with torch.inference_mode():
            return peer(*tensors, *row.args, **row.options).numpy()

    return {"fastconv": row.call(), "torch": run_peer}


def main() -> None:
    """Print the table."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="part of the names or operations of the rows to run")
    parser.add_argument("--pin", action="store_true", help="keep threads from sharing a core while another idles")
    parser.add_argument("--check", action="store_true", help="results only, no times")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    fastconv.set_num_threads(arguments.threads)
    pinned = arguments.pin and arguments.threads > 1
    ratios = []
    print(f"{'row':<16} {'operation':<20} {'fastconv ms':>12} {'torch ms':>10} {'ratio':>7} {'of minima':>9}  error")
    for name, row in ROWS.items():
        if arguments.only not in name and arguments.only not in row.operation:
            continue
        ways = contenders(row)
        if pinned:
            spread()
        result, expected = (run() for run in ways.values())
        if pinned:
            keep_apart()
        error = float(np.abs(result - expected).max() / np.abs(expected).max())
        line = f"{name:<16} {row.operation:<20}"
        if not arguments.check:
            taken = internal("in_turns")(ways, CALLS, SECONDS, rest=REST if arguments.threads > 1 else 0)
            ours, theirs = (statistics.median(taken[who]) * 1e3 for who in ways)
            least = min(taken["torch"]) / min(taken["fastconv"])
            ratios.append(theirs / ours)
            line += f" {ours:12.3f} {theirs:10.3f} {theirs / ours:7.2f} {least:9.2f}"
        print(f"{line}  {error:.1e}", flush=True)
    if ratios:
        mean = math.exp(statistics.fmean(map(math.log, ratios)))
        print(f"geometric mean {mean:.2f}, worst {min(ratios):.2f}, {len(ratios)} rows")


if __name__ == "__main__":
    main()
