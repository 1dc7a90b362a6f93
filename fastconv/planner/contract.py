"""The contract of an algorithm: what each module or object in a table offers. mypy checks all of every table by it.

A kernel file has these functions, and beside them those of `TRAITS` that differ from what stands there. Specs are
checked when an algorithm sees them; on a GPU, where arrays are tensors, `prepare` and `run` take a stream at the end.
"""

from __future__ import annotations

from typing import Any, Protocol


class Algorithm(Protocol):
    """What the planner asks of every algorithm."""

    __name__: str
    """Its operation, "_" and its public name, behind the last "." if there is one."""

    def supports(self, spec: Any, /) -> str | None:
        """None, or the reason why not, in words a user can act on."""

    def cost(self, spec: Any, machine: Any, /) -> float:
        """Estimated seconds; infinite where it is never worth it."""

    def scratch(self, spec: Any, /) -> int:
        """Bytes that it allocates while it runs."""


class Convolution(Algorithm, Protocol):
    """A convolution, or a transposed one; `x` and `out` have the shapes of `kernel_shapes`."""

    def prepare(self, spec: Any, weight: Any, /) -> Any:
        """The weight, packed; a plan does so once."""

    def run(self, spec: Any, x: Any, packed: Any, bias: Any, out: Any, /) -> None:
        """Fill `out`."""


class Pooling(Algorithm, Protocol):
    """A pooling, of all elements at once or adaptive."""

    def run(self, spec: Any, x: Any, out: Any, indices: Any, /) -> None:
        """Fill `out`, and `indices` unless it is None."""


class Gradient(Algorithm, Protocol):
    """The gradient of a convolution for its weight, or of a pooling for its input; or an unpooling."""

    def run(self, spec: Any, x: Any, grad: Any, out: Any, /) -> None:
        """Fill `out`; `grad` is the gradient for the output. Of maxima, `x` are their indices. An unpooling has `x` and
        the indices instead."""


class Move(Algorithm, Protocol):
    """What moves or adds up elements: unfolding, folding."""

    def run(self, spec: Any, x: Any, out: Any, /) -> None:
        """Fill `out`."""


#: What the files of algorithms say of themselves, and what holds for those that say nothing.
TRAITS: dict[str, Any] = {
    # Sums of products with no transform: they are exact where the definition's are, and round no more elsewhere.
    "exact": False,
    # Image filters use it: a NaN or an infinity reaches just the outputs that see it.
    "filters": False,
    # A function `prepare_if_suited`, as `prepare` but None where the weight is not of the special kind it is for.
    "prepare_if_suited": None,
    # Whether "auto" may pick it; and where kernels run as Python, for which its loops are easy to follow.
    "automatic": True,
    "plain": False,
    # Estimated seconds of `prepare`.
    "prepare_cost": lambda spec, machine: 0.0,
    # The problems that it asks the planner for, which measuring measures first.
    "parts": lambda spec: (),
}


def trait(algorithm: Algorithm, name: str) -> Any:
    """What an algorithm says of itself."""
    return getattr(algorithm, name, TRAITS[name])
