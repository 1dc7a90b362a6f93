"""The lessons: everything they compute, with their numbers, exactly where these are integers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits

import fastconv
from fastconv import avg_pool2d, conv2d, corr2d, max_pool2d, output_shape, receptive_field

pytestmark = pytest.mark.usefixtures("one_thread")

ALGORITHMS = fastconv.algorithms("conv2d")
SQUARE, CORNER = np.arange(9).reshape(3, 3), np.array([[0, 1], [2, 3]])


def single(x: np.ndarray, kernel: np.ndarray, **options: object) -> np.ndarray:
    """One image, one kernel through the layer."""
    return conv2d(x[None], kernel[None, None], **options)[0]


# 1. Cross-correlation


@pytest.mark.parametrize(
    ("x", "kernel", "expected"),
    [
        (SQUARE, CORNER, [[19, 25], [37, 43]]),
        ([[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]],
         [[0, 1, 2], [2, 2, 0], [0, 1, 2]],
         [[12, 12, 17], [10, 17, 19], [9, 6, 14]]),
    ],
)
def test_cross_correlation(x: list, kernel: list, expected: list) -> None:
    assert_array_equal(corr2d(x, kernel), expected)
    assert_array_equal(corr2d(x, kernel, bias=5), np.add(expected, 5))
    assert corr2d(x, kernel).shape == tuple(n - k + 1 for n, k in zip(np.shape(x), np.shape(kernel), strict=True))


# 2. Edges


def test_edges() -> None:
    image = np.ones((6, 8))
    image[:, 2:6] = 0
    edges = np.zeros((6, 7))
    edges[:, 1], edges[:, 5] = 1, -1
    assert_array_equal(corr2d(image, [[1, -1]]), edges)
    assert_array_equal(corr2d(image.T, [[1, -1]]), np.zeros((8, 5)))
    assert_array_equal(corr2d(image.T, [[1], [-1]]), edges.T)  # the kernel transposed finds them again
    diagonal = np.eye(6)
    assert_array_equal(corr2d(diagonal, [[1, -1]]), np.eye(6, 5) - np.eye(6, 5, -1))
    assert_array_equal(corr2d(diagonal.T, [[1, -1]]), corr2d(diagonal, [[1, -1]]))
    assert_array_equal(corr2d(diagonal, [[1], [-1]]), corr2d(diagonal, [[1, -1]]).T)


def test_hand_made_kernels() -> None:
    square = np.arange(9.0)[None] ** 2
    assert_array_equal(corr2d(square, [[1, -2, 1]]), np.full((1, 7), 2))  # the second derivative
    assert_allclose(corr2d(np.ones((5, 5)), np.full((3, 3), 1 / 9)), np.ones((3, 3)))  # a box blur
    for d in range(1, 5):
        derivative = np.ones((1, 1))
        for _ in range(d):
            derivative = corr2d(np.pad(derivative, ((0, 0), (1, 1))), [[-1, 1]])
        derivative = derivative[:, ::-1]  # corr2d does not flip, so the taps come out reversed
        assert derivative.shape == (1, d + 1)
        powers = np.arange(12.0)[None] ** d
        assert_allclose(np.abs(corr2d(powers, derivative)), np.full((1, 12 - d), np.prod(np.arange(1, d + 1))))


# 4. Convolution and cross-correlation


def test_convolution_flips_the_kernel() -> None:
    from scipy.signal import convolve2d

    convolved = convolve2d(SQUARE, CORNER, mode="valid")
    assert_array_equal(corr2d(SQUARE, CORNER[::-1, ::-1]), convolved)
    assert (corr2d(SQUARE, CORNER) != convolved).any()


# 5. Padding, stride, output shape


@pytest.mark.parametrize(
    ("size", "kernel", "padding", "stride", "expected"),
    [
        ((8, 8), 3, 1, 1, (8, 8)),
        ((8, 8), (5, 3), (2, 1), 1, (8, 8)),
        ((8, 8), 3, 1, 2, (4, 4)),
        ((8, 8), (3, 5), (0, 1), (3, 4), (2, 2)),
        ((3, 3), 2, 1, 1, (4, 4)),
        ((3, 3), 2, 1, (3, 2), (2, 2)),
        ((5, 5), 3, 1, 2, (3, 3)),
    ],
)
def test_output_shape(size: tuple, kernel: object, padding: object, stride: object, expected: tuple) -> None:
    assert output_shape(size, kernel, stride, padding) == expected
    kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
    assert single(np.ones(size), np.ones((kh, kw)), stride=stride, padding=padding).shape == expected
    per_side = [(n + 2 * p - k) // s + 1 for n, k, p, s in
                zip(size, (kh, kw), np.broadcast_to(padding, 2), np.broadcast_to(stride, 2), strict=True)]
    assert tuple(per_side) == expected


def test_padding_and_stride() -> None:
    padded = single(SQUARE, CORNER, padding=1)
    assert padded.shape == (4, 4)
    assert padded[0, 0] == 0
    assert_array_equal(single(SQUARE, CORNER, padding=1, stride=(3, 2)), [[0, 8], [6, 8]])
    image, filters = np.ones((3, 5, 5)), np.ones((2, 3, 3, 3))
    assert conv2d(image, filters, padding=1, stride=2).shape == (2, 3, 3)


def test_same_padding() -> None:
    for k in (1, 3, 5, 7):
        x, kernel = np.arange(81.0).reshape(9, 9), np.ones((k, k))
        assert_array_equal(single(x, kernel, padding="same"), single(x, kernel, padding=(k - 1) // 2))
        assert_array_equal(single(x, kernel, padding="same_lower"), single(x, kernel, padding="same"))
    x, kernel = np.arange(49.0).reshape(7, 7), np.arange(16.0).reshape(4, 4)
    assert_array_equal(single(x, kernel, padding="same"), single(x, kernel, padding=((1, 2), (1, 2))))
    assert_array_equal(single(x, kernel, padding="same_lower"), single(x, kernel, padding=((2, 1), (2, 1))))


# 6. Channels


def test_channels() -> None:
    x, kernel = np.stack([SQUARE, SQUARE + 1]), np.stack([CORNER, CORNER + 1])
    assert_array_equal(conv2d(x, kernel[None]), [[[56, 72], [104, 120]]])
    several = conv2d(x, np.stack([kernel, kernel + 1, kernel + 2]))
    assert_array_equal(several, [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_by_one_convolution_is_a_matrix_product(algorithm: str) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.integers(-9, 9, (3, 3, 3)).astype(float), rng.integers(-9, 9, (2, 3, 1, 1)).astype(float)
    product = (weight[:, :, 0, 0] @ x.reshape(3, -1)).reshape(2, 3, 3)
    try:
        result = conv2d(x, weight, algorithm=algorithm)
    except ValueError as error:
        assert "cannot do this" in str(error)  # noqa: PT017 # an algorithm for larger kernels
    else:
        assert_allclose(result, product, atol=1e-12)


# 7. Cross-correlation as a matrix product


def unrolled_kernel(kernel: np.ndarray, h: int, w: int) -> np.ndarray:
    """The matrix M with M @ x.ravel() == corr2d(x, kernel).ravel()."""
    kh, kw = kernel.shape
    oh, ow = h - kh + 1, w - kw + 1
    matrix = np.zeros((oh, ow, h, w), kernel.dtype)
    for i, j in np.ndindex(oh, ow):
        matrix[i, j, i : i + kh, j : j + kw] = kernel
    return matrix.reshape(oh * ow, h * w)


def test_cross_correlation_as_a_matrix_product() -> None:
    x, kernel = np.random.default_rng(1).integers(0, 10, (6, 7)), np.random.default_rng(2).integers(0, 10, (3, 2))
    columns = np.lib.stride_tricks.sliding_window_view(x, kernel.shape).reshape(-1, kernel.size)
    assert_array_equal((columns @ kernel.ravel()).reshape(4, 6), corr2d(x, kernel))
    matrix = unrolled_kernel(kernel, 6, 7)
    assert_array_equal(matrix @ x.ravel(), corr2d(x, kernel).ravel())
    assert_array_equal(fastconv.corr2d_matrix(kernel, x.shape).toarray(), matrix)
    assert_array_equal(fastconv.unfold2d(x[None], kernel.shape).T, columns)
    assert_array_equal(unrolled_kernel(CORNER, 3, 3) @ SQUARE.ravel(), [19, 25, 37, 43])


def test_translation_invariance_and_locality() -> None:
    x, kernel = np.random.default_rng(1).integers(0, 10, (8, 8)), CORNER
    shifted = np.roll(x, (2, 1), (0, 1))
    assert_array_equal(corr2d(shifted, kernel)[2:, 1:], corr2d(x, kernel)[:-2, :-1])
    matrix = unrolled_kernel(kernel, 8, 8)
    assert set(np.unique(matrix)) == {0, *kernel.ravel()}  # (h * w)**2 numbers in a dense layer, kh * kw here
    assert (np.count_nonzero(matrix, axis=1) <= kernel.size).all()


# 8. Pooling


def test_pooling() -> None:
    assert_array_equal(max_pool2d(SQUARE, 2, stride=1), [[4, 5], [7, 8]])
    assert_array_equal(avg_pool2d(SQUARE, 2, stride=1), [[2, 3], [5, 6]])
    x = np.arange(16).reshape(1, 1, 4, 4)
    assert_array_equal(max_pool2d(x, 3), [[[[10]]]])  # the stride is the window
    assert_array_equal(max_pool2d(x, 3, padding=1, stride=2), [[[[5, 7], [13, 15]]]])
    assert_array_equal(max_pool2d(x, (2, 3), padding=(0, 1), stride=(2, 3)), [[[[5, 7], [13, 15]]]])
    both = np.concatenate([x, x + 1], axis=1)
    assert_array_equal(max_pool2d(both, 3, padding=1, stride=2)[0], [[[5, 7], [13, 15]], [[6, 8], [14, 16]]])


# 9. Feature maps and receptive fields


def test_receptive_field() -> None:
    assert receptive_field([2, 2]).size == (3, 3)
    for row, col in np.ndindex(5, 5):
        image = np.zeros((5, 5))
        image[row, col] = 1
        element = corr2d(corr2d(image, np.ones((2, 2))), np.ones((2, 2)))[0, 0]
        assert (element != 0) == (row < 3 and col < 3)


# 10. LeNet


def test_lenet_forward() -> None:
    rng = np.random.default_rng(0)
    digits = load_digits().images[:4]
    x = np.pad(digits.repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2)))[:, None].astype(np.float32) / 16
    assert x.shape == (4, 1, 28, 28)

    def weights(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def sigmoid(values: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-values))

    shapes = []
    for layer in (
        lambda x: sigmoid(conv2d(x, weights(6, 1, 5, 5), np.zeros(6, np.float32), padding=2)),
        lambda x: avg_pool2d(x, 2),
        lambda x: sigmoid(conv2d(x, weights(16, 6, 5, 5), np.zeros(16, np.float32))),
        lambda x: avg_pool2d(x, 2),
        lambda x: x.reshape(4, -1),
        lambda x: sigmoid(x @ weights(120, 400).T),
        lambda x: sigmoid(x @ weights(84, 120).T),
        lambda x: x @ weights(10, 84).T,
    ):
        x = layer(x)
        shapes.append(x.shape[1:])
    assert shapes == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,)]
    assert x.dtype == np.float32
    assert np.ptp(x, axis=0).max() > 0  # different digits, different answers
