"""Whole networks to measure: every convolution that is different, on one image of 224x224."""

from __future__ import annotations

from benchmarks.shapes import Layer


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
