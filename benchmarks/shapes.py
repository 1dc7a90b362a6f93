"""Named problems to measure: layers of real networks, image filters, poolings. The one home of these lists."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Layer(NamedTuple):
    """One convolution layer, in the symbols of `fastconv.specs.conv`."""

    name: str
    n: int
    c_in: int
    h: int
    w: int
    c_out: int
    kh: int
    kw: int
    stride: int = 1
    padding: int | tuple[int, int] = 0
    dilation: int = 1
    groups: int = 1

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of `fastconv.conv2d`, and of its namesakes elsewhere."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    def arrays(self, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Input, weight and bias."""
        x_shape = self.n, self.c_in, self.h, self.w
        weight_shape = self.c_out, self.c_in // self.groups, self.kh, self.kw
        return random(x_shape, dtype), random(weight_shape, dtype), random((self.c_out,), dtype)


class Pooling(NamedTuple):
    """One pooling layer."""

    name: str
    n: int
    c: int
    h: int
    w: int
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int]
    padding: int | tuple[int, int] = 0

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of `fastconv.max_pool2d` and `fastconv.avg_pool2d`, and of their namesakes elsewhere."""
        return {"kernel_size": self.kernel_size, "stride": self.stride, "padding": self.padding}

    def array(self, dtype: Any = np.float32) -> np.ndarray:
        """The input."""
        return random((self.n, self.c, self.h, self.w), dtype)


class Filter(NamedTuple):
    """One image filtered by one kernel."""

    name: str
    h: int
    w: int
    kh: int
    kw: int
    dtype: str = "float32"

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Image and kernel."""
        return random((self.h, self.w), self.dtype), random((self.kh, self.kw), self.dtype)


def random(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Reproducible numbers: normal for floats, small for integers."""
    generator, dtype = np.random.default_rng(0), np.dtype(dtype)
    if dtype.kind == "f":
        return generator.standard_normal(shape, np.float32).astype(dtype, copy=False)
    return generator.integers(0 if dtype.kind == "u" else -8, 8, shape).astype(dtype)


LAYERS = {
    layer.name: layer
    for layer in (
        # LeNet-5 (28x28 digits), AlexNet
        Layer("lenet_conv1", 64, 1, 28, 28, 6, 5, 5, padding=2),
        Layer("lenet_conv2", 64, 6, 14, 14, 16, 5, 5),
        Layer("alexnet_conv1", 16, 3, 227, 227, 96, 11, 11, stride=4),
        Layer("alexnet_conv2", 16, 96, 27, 27, 256, 5, 5, padding=2, groups=2),
        # VGG-16
        Layer("vgg_conv1_1", 1, 3, 224, 224, 64, 3, 3, padding=1),
        Layer("vgg_conv1_2", 1, 64, 224, 224, 64, 3, 3, padding=1),
        Layer("vgg_conv3_2", 1, 256, 56, 56, 256, 3, 3, padding=1),
        Layer("vgg_conv5_1", 8, 512, 14, 14, 512, 3, 3, padding=1),
        # ResNet-50, ResNeXt-50
        Layer("resnet_stem", 1, 3, 224, 224, 64, 7, 7, stride=2, padding=3),
        Layer("resnet_3x3_64", 1, 64, 56, 56, 64, 3, 3, padding=1),
        Layer("resnet_3x3_128", 1, 128, 28, 28, 128, 3, 3, padding=1),
        Layer("resnet_3x3_256", 1, 256, 14, 14, 256, 3, 3, padding=1),
        Layer("resnet_3x3_512", 1, 512, 7, 7, 512, 3, 3, padding=1),
        Layer("resnet_3x3_256_n32", 32, 256, 14, 14, 256, 3, 3, padding=1),
        Layer("resnet_3x3_s2", 1, 128, 56, 56, 128, 3, 3, stride=2, padding=1),
        Layer("resnet_1x1", 1, 64, 56, 56, 256, 1, 1),
        Layer("resnet_1x1_s2", 1, 256, 56, 56, 512, 1, 1, stride=2),
        Layer("resnext_groups32", 1, 128, 56, 56, 128, 3, 3, padding=1, groups=32),
        # Inception-v3
        Layer("inception_1x7", 1, 192, 17, 17, 192, 1, 7, padding=(0, 3)),
        Layer("inception_7x1", 1, 192, 17, 17, 192, 7, 1, padding=(3, 0)),
        Layer("inception_5x5", 1, 48, 35, 35, 64, 5, 5, padding=2),
        # Depthwise: MobileNet, EfficientNet, ConvNeXt
        Layer("mobilenet_3x3", 1, 144, 56, 56, 144, 3, 3, padding=1, groups=144),
        Layer("mobilenet_3x3_s2", 1, 96, 112, 112, 96, 3, 3, stride=2, padding=1, groups=96),
        Layer("efficientnet_5x5", 1, 240, 28, 28, 240, 5, 5, padding=2, groups=240),
        Layer("convnext_7x7", 1, 96, 56, 56, 96, 7, 7, padding=3, groups=96),
        # Large kernels: RepLKNet, and a dense one
        Layer("replknet_31x31", 1, 128, 28, 28, 128, 31, 31, padding=15, groups=128),
        Layer("dense_13x13", 1, 32, 56, 56, 32, 13, 13, padding=6),
        # Dense prediction: DeepLab, U-Net, YOLO, a super-resolution layer on a full-HD frame
        Layer("deeplab_d2", 1, 256, 33, 33, 256, 3, 3, padding=2, dilation=2),
        Layer("deeplab_d12", 1, 256, 33, 33, 256, 3, 3, padding=12, dilation=12),
        Layer("unet_64", 1, 64, 284, 284, 64, 3, 3),
        Layer("yolo_s2", 1, 32, 320, 320, 64, 3, 3, stride=2, padding=1),
        Layer("hd_3_to_16", 1, 3, 1080, 1920, 16, 3, 3, padding=1),
        # Sizes that fit no tile
        Layer("odd_37_53", 1, 37, 41, 43, 53, 3, 3, padding=1),
        Layer("odd_tiny", 1, 3, 9, 7, 5, 3, 2),
    )
}

#: The layers that asv measures: one of each kind, none so large that the slowest variant takes more than half a second.
REGULAR_LAYERS = (
    "lenet_conv2",
    "vgg_conv1_1",
    "resnet_stem",
    "resnet_3x3_64",
    "resnet_3x3_512",
    "resnet_3x3_s2",
    "resnet_1x1",
    "resnext_groups32",
    "mobilenet_3x3",
    "convnext_7x7",
    "inception_1x7",
    "odd_37_53",
)

POOLINGS = {
    pooling.name: pooling
    for pooling in (
        Pooling("vgg_2x2_s2", 1, 64, 224, 224, 2, 2),
        Pooling("vgg_2x2_s2_n8", 8, 64, 112, 112, 2, 2),
        Pooling("resnet_3x3_s2", 1, 64, 112, 112, 3, 2, 1),
        Pooling("inception_3x3_s1", 1, 192, 35, 35, 3, 1, 1),
        Pooling("spp_5x5_s1", 1, 256, 20, 20, 5, 1, 2),
        Pooling("spp_13x13_s1", 1, 256, 20, 20, 13, 1, 6),
        Pooling("large_13x13_s1", 1, 8, 256, 256, 13, 1, 6),
        Pooling("global_7x7", 16, 512, 7, 7, 7, 7),
        Pooling("uneven_2x3", 1, 64, 111, 113, (2, 3), (2, 3), (0, 1)),
        Pooling("lenet_2x2_s2", 64, 6, 28, 28, 2, 2),
    )
}

REGULAR_POOLINGS = ("vgg_2x2_s2", "resnet_3x3_s2", "inception_3x3_s1", "spp_13x13_s1", "global_7x7", "uneven_2x3")

FILTERS = {
    image.name: image
    for image in (
        Filter("64_3x3", 64, 64, 3, 3),
        Filter("128_5x5", 128, 128, 5, 5),
        Filter("256_3x3", 256, 256, 3, 3),
        Filter("512_5x5", 512, 512, 5, 5),
        Filter("256_41x41", 256, 256, 41, 41),
        Filter("512_9x9", 512, 512, 9, 9),
        Filter("512_11x11", 512, 512, 11, 11),
        Filter("512_13x13", 512, 512, 13, 13),
        Filter("512_15x15", 512, 512, 15, 15),
        Filter("512_31x31", 512, 512, 31, 31),
        Filter("512_41x41", 512, 512, 41, 41),
        Filter("512_1x31", 512, 512, 1, 31),
        Filter("512_31x1", 512, 512, 31, 1),
        Filter("512_21x21_float64", 512, 512, 21, 21, "float64"),
        Filter("1024_3x3", 1024, 1024, 3, 3),
        Filter("1024_3x3_float64", 1024, 1024, 3, 3, "float64"),
        Filter("1024_7x7", 1024, 1024, 7, 7),
        Filter("1024_7x7_float64", 1024, 1024, 7, 7, "float64"),
        Filter("1024_21x21", 1024, 1024, 21, 21),
        Filter("1024_41x41_float64", 1024, 1024, 41, 41, "float64"),
        Filter("1024_5x5_uint8", 1024, 1024, 5, 5, "uint8"),
        Filter("hd_3x3", 1080, 1920, 3, 3),
        Filter("hd_7x7", 1080, 1920, 7, 7),
        Filter("hd_13x13", 1080, 1920, 13, 13),
        Filter("2048_15x15", 2048, 2048, 15, 15),
    )
}

REGULAR_FILTERS = ("256_3x3", "512_15x15", "512_1x31", "1024_3x3", "1024_7x7", "1024_7x7_float64", "1024_5x5_uint8")

# -- whole networks: every convolution that is different, on one image of 224x224 -----------------------------


def _square(c_in: int, size: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> Layer:
    """A layer on a square image, padded so that stride 1 keeps its size; its name tells all of it."""
    name = f"{kernel}x{kernel} {c_in}->{c_out} @{size}" + f" /{stride}" * (stride > 1) + " depthwise" * (groups > 1)
    return Layer(name, 1, c_in, size, size, c_out, kernel, kernel, stride, kernel // 2, groups=groups)


def resnet50() -> list[Layer]:
    """ResNet-50's 23 different layers, in their order; the 3x3 layer of a block has its stride, as in torchvision."""
    layers, channels, size = [_square(3, 224, 64, 7, 2)], 64, 56
    for width, blocks, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for stride in (first, *[1] * (blocks - 1)):
            layers += [_square(channels, size, width, 1), _square(width, size, width, 3, stride)]
            layers.append(_square(width, size // stride, 4 * width, 1))
            if channels != 4 * width:  # the shortcut
                layers.append(_square(channels, size, 4 * width, 1, stride))
            channels, size = 4 * width, size // stride
    return list(dict.fromkeys(layers))


def mobilenet_v2() -> list[Layer]:
    """MobileNetV2's 30 different layers, in their order: the first, 28 of its 17 blocks, and the last."""
    layers, channels, size = [_square(3, 224, 32, 3, 2)], 32, 112
    for expansion, c_out, blocks, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip # the paper's table 2: t, c, n, s
        for stride in (first, *[1] * (blocks - 1)):
            inner = expansion * channels
            if expansion > 1:
                layers.append(_square(channels, size, inner, 1))
            layers.append(_square(inner, size, inner, 3, stride, inner))
            channels, size = c_out, size // stride
            layers.append(_square(inner, size, channels, 1))
    return list(dict.fromkeys([*layers, _square(channels, size, 1280, 1)]))


NETWORKS = {"resnet50": resnet50, "mobilenet_v2": mobilenet_v2}
