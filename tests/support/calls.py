"""Every public function has a good call here, argument by argument, in which tests change some."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastconv

X, WEIGHT, BIAS = np.ones((2, 3, 6, 7), np.float32), np.ones((4, 3, 2, 2), np.float32), np.ones(4, np.float32)
SIGNAL, VOLUME = X[:, :, 0], X[:, :, None].repeat(3, 2)
POOL = {"x": X, "kernel_size": 2, "stride": 1, "padding": 0, "dilation": 1, "ceil_mode": False, "algorithm": "auto",
        "device": "cpu", "out": None}
AVERAGE = {**POOL, "count_include_pad": True, "divisor_override": None}
LAYER = {"weight": WEIGHT, "bias": BIAS, "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "algorithm": "auto",
         "device": "cpu"}
#: A good call of every public function, argument by argument.
GOOD: dict[str, dict[str, Any]] = {
    "corr2d": {"x": X[0, 0], "kernel": WEIGHT[0, 0], "bias": 0},
    "conv2d": {"x": X, **LAYER, "out": None},
    "plan_conv2d": {"x_shape": X.shape, **LAYER, "dtype": np.float32},
    "max_pool2d": {**POOL, "return_indices": False},
    "min_pool2d": {**POOL, "return_indices": False},
    "avg_pool2d": AVERAGE,
    "lp_pool2d": {"norm_type": 2, **AVERAGE},
    "output_shape": {"x_shape": X.shape, "kernel_size": 2, "stride": 1, "padding": 0, "dilation": 1, "ceil_mode": False,
                     "channels": None},
    "receptive_field": {"layers": [3, (2, 2), {"kernel_size": 3}]},
    "algorithms": {"op": "conv2d", "device": "cpu"},
    "conv1d": {"x": SIGNAL, **LAYER, "weight": WEIGHT[:, :, 0], "out": None},
    "conv3d": {"x": VOLUME, **LAYER, "weight": WEIGHT[:, :, None], "out": None},
    "plan_conv1d": {"x_shape": SIGNAL.shape, **LAYER, "weight": WEIGHT[:, :, 0], "dtype": np.float32},
    "plan_conv3d": {"x_shape": VOLUME.shape, **LAYER, "weight": WEIGHT[:, :, None], "dtype": np.float32},
    "max_pool1d": {**POOL, "x": SIGNAL, "return_indices": False},
    "max_pool3d": {**POOL, "x": VOLUME, "return_indices": False},
    "avg_pool3d": {**AVERAGE, "x": VOLUME},
    "lp_pool3d": {"norm_type": 2, **AVERAGE, "x": VOLUME},
    "conv_transpose2d": {"x": X, **LAYER, "weight": WEIGHT[:3], "bias": BIAS[:3], "output_padding": 0,
                         "output_size": None, "out": None},
    "plan_conv_transpose2d": {"x_shape": X.shape, **LAYER, "weight": WEIGHT[:3], "bias": BIAS[:3], "output_padding": 0,
                              "output_size": None, "dtype": np.float32},
    "adaptive_avg_pool2d": {"x": X, "output_size": 4, "out": None},
    "adaptive_max_pool2d": {"x": X, "output_size": (2, 7), "return_indices": True, "out": None},
    "max_unpool2d": {"x": X[..., :3, :3], "indices": np.zeros((2, 3, 3, 3), int), "kernel_size": 2, "stride": 2,
                     "padding": 0, "output_size": None, "out": None},
    "unfold2d": {"x": X, "kernel_size": 2, "stride": 1, "padding": 0, "dilation": 1, "out": None},
    "fold2d": {"columns": np.ones((4, 4)), "output_size": 3, "kernel_size": 2, "stride": 1, "padding": 0, "dilation": 1,
               "out": None},
    "corr2d_matrix": {"kernel": WEIGHT[0, 0], "input_shape": (6, 7)},
}


def call(function: str, **changed: Any) -> Any:
    return getattr(fastconv, function)(**{**GOOD[function], **changed})
