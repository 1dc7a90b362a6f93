"""Sums of images, and lengths of vectors whose components are images, element by element.

::

    out[..] = a[..] + b[..]                     or with squares    a[..] ** 2 + b[..] ** 2, with a root at last

One thread an element, in the dtype of the result: integers wrap around, as NumPy's do.
"""

from __future__ import annotations

import numpy as np

from ..shared.places import NARROW, dot, indices, joined
from ..system.kernels import INT64, cuda, factory, integers, pick, pointer
from ..system.streams import Stream, Tensor
from ..tiles.rounding import root, settle

BLOCK = pick(256, 8)


def run(
    a: Tensor, b: Tensor | None, out: Tensor, square_a: bool, square_b: bool, ends: bool, stream: Stream
) -> None:  # fmt: skip
    """Combine two images of the result's dtype, or take one; with the root at last if it `ends` with it."""
    other = a if b is None else b
    axes = joined(list(zip(out.shape, a.strides, other.strides, out.strides, strict=True))) or [(1, 0, 0, 0)]
    sizes, *steps = zip(*axes, strict=True)
    kernel = _combine(out.dtype, len(axes), b is not None, square_a, square_b, ends, out.size >= NARROW)
    stream.launch(kernel, -(-out.size // BLOCK), BLOCK, a.pointer, other.pointer, out.pointer, sizes, *steps, out.size)


@factory
def _combine(dtype, rank, both, square_a, square_b, ends, wide):
    place, index_of, is_bool = dot(rank), indices(rank, wide), dtype == np.bool_
    number = np.uint8 if is_bool else dtype.type
    from_root = settle(np.dtype(np.float64), dtype, "cast")

    def combine(a, b, out, sizes, a_steps, b_steps, out_steps, elements):
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at < elements:
            index = index_of(at, sizes)
            total = a[place(index, a_steps)]
            if square_a:
                total = number(total * total)
            if both:
                part = b[place(index, b_steps)]
                if square_b:
                    part = number(part * part)
                total = number(total | part) if is_bool else number(total + part)
            if ends:
                total = from_root(root(np.float64(total)))
            out[place(index, out_steps)] = total

    several = integers(rank)
    return (*(pointer(dtype),) * 3, *(several,) * 4, INT64), combine
