"""Named problems to measure: layers of real networks, image filters, poolings, calls of every operation.

The one home of these lists; `networks` has all layers of some. To import it does not load fastconv.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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


class Call(NamedTuple):
    """One call of any operation of fastconv: the arrays' shapes, in their order, then all other arguments."""

    name: str
    operation: str
    shapes: tuple[tuple[int, ...], ...]
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012 # never changed

    def arrays(self, dtype: Any = np.float32) -> list[np.ndarray]:
        """The arrays."""
        return [random(shape, dtype) for shape in self.shapes]

    def call(self) -> Callable[[], np.ndarray]:
        """The call, arrays made; AttributeError if this fastconv lacks the operation."""
        import fastconv

        return partial(getattr(fastconv, self.operation), *self.arrays(), *self.args, **self.options)


class ImageFilter(NamedTuple):
    """A filter of `fastconv.ndimage` on an image."""

    table: str
    function: str
    size: float
    """Of the window; of a Gaussian its standard deviation; 0 if there is none to choose."""
    shape: tuple[int, ...]
    dtype: str
    channels: int = 0
    """Channels last, if there are any."""

    @property
    def name(self) -> str:
        size = f" {self.size:g}" if self.size else ""
        shape = "x".join(map(str, self.shape + (self.channels,) * bool(self.channels)))
        return f"{self.function}{size} {shape} {self.dtype}"

    def array(self) -> np.ndarray:
        """The image: integers over all their range, floats from 0 to 1; with a tenth of them missing if so it is."""
        rng, shape = np.random.default_rng(0), self.shape + (self.channels,) * bool(self.channels)
        dtype = np.dtype(self.dtype)
        if dtype.kind != "f":
            return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        x = rng.random(shape, np.float32).astype(dtype)
        if self.table == "missing":
            x[rng.random(shape) < 0.1] = np.nan
        return x


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

#: Layers that an engine made for the usual 3x3 and 1x1 ones is slow at: the group "hard" of the benchmarks.
HARD_LAYERS = {
    layer.name: layer
    for layer in (
        # Windows that do not overlap: ConvNeXt, Vision Transformers (S/16, L/14, DINO's S/8), PVT's smaller keys
        Layer("convnext_stem", 1, 3, 224, 224, 96, 4, 4, stride=4),
        Layer("convnext_down_n8", 8, 96, 28, 28, 192, 2, 2, stride=2),
        Layer("convnext_down_384", 1, 384, 14, 14, 768, 2, 2, stride=2),
        Layer("vit_8x8", 1, 3, 224, 224, 384, 8, 8, stride=8),
        Layer("vit_14x14", 1, 3, 224, 224, 1024, 14, 14, stride=14),
        Layer("vit_16x16", 1, 3, 224, 224, 384, 16, 16, stride=16),
        Layer("pvt_4x4", 1, 128, 28, 28, 128, 4, 4, stride=4),
        Layer("pvt_8x8", 1, 64, 56, 56, 64, 8, 8, stride=8),
        Layer("patches_7x7", 1, 64, 56, 56, 128, 7, 7, stride=7),
        # Few channels out: denoising, optical flow, super-resolution, a latent image
        Layer("denoise_64_1", 1, 64, 256, 256, 1, 3, 3, padding=1),
        Layer("flow_64_2", 1, 64, 128, 128, 2, 5, 5, padding=2),
        Layer("superres_64_3", 1, 64, 256, 256, 3, 3, 3, padding=1),
        Layer("srgan_64_3", 1, 64, 128, 128, 3, 9, 9, padding=4),
        Layer("latent_64_4", 1, 64, 128, 128, 4, 3, 3, padding=1),
        # Strides of 2 to 4 and large kernels: AlexNet, ZFNet, SegFormer, Atari's DQN, audio as an image
        Layer("alexnet_11x11_s4", 1, 3, 224, 224, 64, 11, 11, stride=4, padding=2),
        Layer("zfnet_5x5_s2", 1, 96, 55, 55, 256, 5, 5, stride=2),
        Layer("segformer_7x7_s4", 1, 3, 224, 224, 64, 7, 7, stride=4, padding=3),
        Layer("dqn_8x8_s4", 32, 4, 84, 84, 32, 8, 8, stride=4),
        Layer("strided_9x9_s3", 1, 32, 96, 96, 64, 9, 9, stride=3, padding=4),
        # Small images, many weights: ResNet-50, VGG-16, Darknet
        Layer("resnet_1x1_2048_512", 1, 2048, 7, 7, 512, 1, 1),
        Layer("resnet_1x1_512_2048", 1, 512, 7, 7, 2048, 1, 1),
        Layer("resnet_1x1_1024_512", 1, 1024, 14, 14, 512, 1, 1),
        Layer("resnet_1x1_s2_512", 1, 512, 28, 28, 1024, 1, 1, stride=2),
        Layer("resnet_3x3_s2_256", 1, 256, 28, 28, 256, 3, 3, stride=2, padding=1),
        Layer("resnet_3x3_s2_512", 1, 512, 14, 14, 512, 3, 3, stride=2, padding=1),
        Layer("vgg_3x3_512", 1, 512, 14, 14, 512, 3, 3, padding=1),
        Layer("darknet_3x3_1024", 1, 512, 7, 7, 1024, 3, 3, padding=1),
    )
}

#: The groups of layers that benchmarks choose from.
LAYER_GROUPS = {"layers": LAYERS, "hard": HARD_LAYERS}

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

#: One of each kind that an algorithm of `conv2d` may demand; all small, so that compiling takes longer than computing.
SMALL_LAYERS = {
    layer.name: layer
    for layer in (
        LAYERS["resnet_3x3_64"],
        LAYERS["resnet_1x1"],
        LAYERS["mobilenet_3x3"],
        Layer("filter_11x11", 1, 1, 512, 512, 1, 11, 11),
        Layer("filter_1x31", 1, 1, 512, 512, 1, 1, 31),
        Layer("lenet_conv3", 1, 16, 5, 5, 120, 5, 5),  # a kernel of the image's size
    )
}

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

_PADDED = {"padding": 1}

#: Signals, volumes, transposed convolutions and what is around convolution: calls that PyTorch has, too.
DIMENSIONS = {
    call.name: call
    for call in (
        # convolutions of volumes
        Call("stem", "conv3d", ((1, 16, 16, 112, 112), (32, 16, 3, 3, 3)), options=_PADDED),
        Call("c3d_1", "conv3d", ((1, 3, 16, 112, 112), (64, 3, 3, 3, 3)), options=_PADDED),
        Call("c3d_2", "conv3d", ((1, 64, 16, 56, 56), (128, 64, 3, 3, 3)), options=_PADDED),
        Call("c3d_3", "conv3d", ((1, 128, 8, 28, 28), (256, 128, 3, 3, 3)), options=_PADDED),
        Call("c3d_4", "conv3d", ((1, 256, 4, 14, 14), (512, 256, 3, 3, 3)), options=_PADDED),
        Call("c3d_5", "conv3d", ((1, 512, 2, 7, 7), (512, 512, 3, 3, 3)), options=_PADDED),
        Call("r3d_stem", "conv3d", ((1, 3, 16, 112, 112), (64, 3, 3, 7, 7)),
             options={"stride": (1, 2, 2), "padding": (1, 3, 3)}),
        Call("r3d_2", "conv3d", ((1, 64, 8, 28, 28), (64, 64, 3, 3, 3)), options=_PADDED),
        Call("r3d_3", "conv3d", ((1, 64, 16, 56, 56), (128, 64, 3, 3, 3)), options={"stride": 2, "padding": 1}),
        Call("r2plus1d_space", "conv3d", ((1, 64, 8, 28, 28), (144, 64, 1, 3, 3)), options={"padding": (0, 1, 1)}),
        Call("r2plus1d_time", "conv3d", ((1, 144, 8, 28, 28), (64, 144, 3, 1, 1)), options={"padding": (1, 0, 0)}),
        Call("time_stride", "conv3d", ((1, 64, 8, 28, 28), (64, 64, 3, 1, 1)),
             options={"stride": (2, 1, 1), "padding": (1, 0, 0)}),
        Call("1x1x1", "conv3d", ((1, 64, 8, 28, 28), (256, 64, 1, 1, 1))),
        Call("depthwise", "conv3d", ((1, 64, 8, 28, 28), (64, 1, 3, 3, 3)), options={"padding": 1, "groups": 64}),
        Call("dilated", "conv3d", ((1, 32, 16, 32, 32), (32, 32, 3, 3, 3)), options={"padding": 2, "dilation": 2}),
        Call("unet", "conv3d", ((1, 32, 32, 32, 32), (32, 32, 3, 3, 3)), options=_PADDED),
        Call("small", "conv3d", ((2, 8, 4, 8, 8), (8, 8, 3, 3, 3)), options=_PADDED),
        # of signals
        Call("wavenet", "conv1d", ((1, 64, 16000), (64, 64, 2)), options={"dilation": 64}),
        Call("wavenet_1x1", "conv1d", ((1, 64, 16000), (128, 64, 1))),
        Call("speech", "conv1d", ((1, 80, 3000), (512, 80, 3)), options=_PADDED),
        Call("speech_stride", "conv1d", ((1, 512, 3000), (512, 512, 3)), options={"padding": 1, "stride": 2}),
        Call("wav", "conv1d", ((1, 1, 16000), (512, 1, 10)), options={"stride": 5}),
        Call("text", "conv1d", ((32, 128, 64), (100, 128, 5))),
        # transposed: weight is (channels in, channels out / groups, kernel)
        Call("unet_up", "conv_transpose2d", ((1, 256, 32, 32), (256, 128, 2, 2)), options={"stride": 2}),
        Call("unet_up_large", "conv_transpose2d", ((1, 64, 128, 128), (64, 32, 2, 2)), options={"stride": 2}),
        Call("dcgan_1", "conv_transpose2d", ((16, 100, 1, 1), (100, 512, 4, 4))),
        Call("dcgan_3", "conv_transpose2d", ((16, 256, 8, 8), (256, 128, 4, 4)), options={"stride": 2, "padding": 1}),
        Call("dcgan_5", "conv_transpose2d", ((16, 64, 32, 32), (64, 3, 4, 4)), options={"stride": 2, "padding": 1}),
        Call("decoder_3x3", "conv_transpose2d", ((1, 64, 56, 56), (64, 64, 3, 3)), options=_PADDED),
        Call("decoder_3x3_s2", "conv_transpose2d", ((1, 128, 28, 28), (128, 64, 3, 3)),
             options={"stride": 2, "padding": 1, "output_padding": 1}),
        Call("fsrcnn", "conv_transpose2d", ((1, 56, 96, 96), (56, 1, 9, 9)),
             options={"stride": 3, "padding": 4, "output_padding": 2}),
        Call("fcn_8x", "conv_transpose2d", ((1, 21, 28, 28), (21, 21, 16, 16)), options={"stride": 8, "padding": 4}),
        Call("bilinear_up", "conv_transpose2d", ((1, 64, 28, 28), (64, 1, 4, 4)),
             options={"stride": 2, "padding": 1, "groups": 64}),
        Call("vocoder", "conv_transpose1d", ((1, 512, 128), (512, 256, 16)), options={"stride": 8, "padding": 4}),
        Call("unet3d_up", "conv_transpose3d", ((1, 64, 8, 8, 8), (64, 32, 2, 2, 2)), options={"stride": 2}),
        Call("gan3d", "conv_transpose3d", ((1, 128, 8, 8, 8), (128, 64, 4, 4, 4)), options={"stride": 2, "padding": 1}),
        # poolings
        Call("max_2x2x2", "max_pool3d", ((1, 64, 16, 56, 56),), (2,)),
        Call("max_3x3x3_s2", "max_pool3d", ((1, 64, 16, 56, 56),), (3, 2, 1)),
        Call("max_1x2x2", "max_pool3d", ((1, 64, 16, 112, 112),), ((1, 2, 2),)),
        Call("max_3x3x3_s1", "max_pool3d", ((1, 32, 8, 28, 28),), (3, 1, 1)),
        Call("avg_2x2x2", "avg_pool3d", ((1, 64, 16, 56, 56),), (2,)),
        Call("avg_3x3x3_s2", "avg_pool3d", ((1, 64, 16, 56, 56),), (3, 2, 1)),
        Call("avg_global", "avg_pool3d", ((1, 512, 2, 7, 7),), ((2, 7, 7),)),
        Call("max_signal", "max_pool1d", ((8, 64, 4096),), (3, 2, 1)),
        Call("avg_signal", "avg_pool1d", ((8, 64, 4096),), (4,)),
        Call("adaptive_avg_7", "adaptive_avg_pool2d", ((8, 256, 30, 30),), (7,)),
        Call("adaptive_max_7", "adaptive_max_pool2d", ((8, 256, 30, 30),), (7,)),
        Call("adaptive_avg_1", "adaptive_avg_pool2d", ((8, 512, 14, 14),), (1,)),
        # unrolled
        Call("unfold", "unfold2d", ((1, 64, 56, 56),), (3,), _PADDED),
        Call("fold", "fold2d", ((1, 64 * 9, 56 * 56),), ((56, 56), 3), _PADDED),
    )
}

# -- what is large enough for a GPU ------------------------------------------------------------------------------

#: Filters of a large image.
GPU_FILTERS = {f"{size}x{size}": Filter(f"{size}x{size}", 4096, 4096, size, size) for size in (3, 5, 7, 9, 11, 15)}

#: Batches of volumes.
GPU_VOLUMES = {
    call.name: call
    for call in (
        Call("8x3x16x112x112", "conv3d", ((8, 3, 16, 112, 112), (64, 3, 3, 3, 3)), options=_PADDED),
        Call("8x64x16x56x56", "conv3d", ((8, 64, 16, 56, 56), (64, 64, 3, 3, 3)), options=_PADDED),
        Call("8x256x8x14x14", "conv3d", ((8, 256, 8, 14, 14), (256, 256, 3, 3, 3)), options=_PADDED),
    )
}


def _decoder(c_in: int, size: int, c_out: int, kernel: int, stride: int) -> Call:
    """A decoder's layer on 32 square images, which become `stride` times as large."""
    name = f"{c_in}x{size}x{size} to {c_out}, {kernel}x{kernel}/{stride}"
    options = {"stride": stride, "padding": (kernel - stride) // 2}
    return Call(name, "conv_transpose2d", ((32, c_in, size, size), (c_in, c_out, kernel, kernel)), options=options)


#: Transposed convolutions, as decoders have them.
GPU_TRANSPOSED = {
    call.name: call
    for call in (
        _decoder(512, 8, 256, 4, 2),
        _decoder(128, 32, 64, 4, 2),
        _decoder(256, 28, 256, 2, 2),
        _decoder(64, 56, 64, 3, 1),
        _decoder(32, 64, 3, 4, 4),
    )
}

# -- filters of images: the tables of `images` ----------------------------------------------------------------

_IMAGES, _PIXELS = ((1080, 1920), (512, 512)), ("uint8", "uint16", "float32", "float64")
_SIZES = {
    "linear": {"correlate": (3, 5, 7, 15, 31), "gaussian_filter": (0.8, 1, 2, 4, 8),
               "uniform_filter": (3, 5, 9, 25, 51), "sobel": (0,), "laplace": (0,)},
    "extrema": {"maximum_filter": (3, 9, 51), "minimum_filter": (5, 15), "grey_opening": (7,)},
    "median": {"median_filter": (3, 5, 9, 25)},
}  # fmt: skip
IMAGE_FILTERS = [
    ImageFilter(table, function, size, shape, dtype, channels)
    for table, functions in _SIZES.items()
    for function, sizes in functions.items()
    for size in sizes
    for shape in _IMAGES
    for dtype in _PIXELS
    for channels in (0, 3)
    if table != "median" or (dtype in ("uint8", "float32") and not channels)
]
IMAGE_FILTERS += [
    ImageFilter("volumes", function, size, (256, 256, 256), "float32")
    for function, size in (("gaussian_filter", 1.5), ("uniform_filter", 5), ("maximum_filter", 5), ("correlate", 3),
                           ("median_filter", 3))
]  # fmt: skip
IMAGE_FILTERS += [
    ImageFilter("missing", function, size, shape, dtype)
    for function, sizes in (("uniform_filter", (9, 31)), ("gaussian_filter", (1, 3.75)))  # 9 and 31 elements, too
    for size in sizes
    for shape in _IMAGES
    for dtype in ("float32", "float64")
]
#: What asv measures: one of each kind.
REGULAR_IMAGE_FILTERS = [
    "correlate 3 1080x1920 uint8", "gaussian_filter 2 1080x1920 float32", "uniform_filter 9 1080x1920x3 uint8",
    "sobel 512x512 float32", "maximum_filter 9 1080x1920 uint8", "grey_opening 7 512x512 float32",
    "median_filter 5 1080x1920 uint8", "gaussian_filter 1.5 256x256x256 float32", "uniform_filter 9 512x512 float32",
]  # fmt: skip
