"""Memory: the peak of a process that runs one layer, and the scratch that its plan says it needs."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np

import fastconv

from . import algorithms
from .shapes import LAYERS

LAYER_NAMES = ("vgg_conv1_2", "hd_3_to_16", "deeplab_d12", "resnet_1x1_s2", "mobilenet_3x3")
ALGORITHMS = algorithms("conv")


class Memory:
    """Peak memory; "none" makes input and output but does not convolve: it is what to subtract."""

    params = (LAYER_NAMES, ("none", *ALGORITHMS))
    param_names = ("layer", "algorithm")

    def setup_cache(self):
        """Compile into the disk cache in a process of its own: the compiler's memory is not what is asked for."""
        for layer, algorithm in itertools.product(LAYER_NAMES, ALGORITHMS):
            with contextlib.suppress(NotImplementedError):
                self.setup(layer, algorithm)
                self.peakmem_conv2d(layer, algorithm)

    def setup(self, layer, algorithm):
        self.x, weight, bias = LAYERS[layer].arrays()
        name = "auto" if algorithm == "none" else algorithm
        try:
            self.plan = fastconv.plan_conv2d(self.x.shape, weight, bias, algorithm=name, **LAYERS[layer].options)
        except ValueError as reason:  # NotImplementedError is how asv is told "n/a"
            raise NotImplementedError(str(reason)) from None

    def peakmem_conv2d(self, layer, algorithm):
        out = np.ones(self.plan.output_shape, np.float32)
        if algorithm != "none":
            self.plan(self.x, out=out)

    def track_scratch(self, layer, algorithm):
        return 0 if algorithm == "none" else self.plan.scratch_bytes

    track_scratch.unit = "bytes"
