"""The contract of an algorithm: the functions that each entry of a table offers. mypy checks every table by it.

An algorithm is a module (or an object) with these functions. It also defines those of `TRAITS` whose default does not
hold for it. Specs have been checked when an algorithm sees them. On a GPU arrays are tensors, and `prepare` and `run`
take a stream as their last argument.
"""

from __future__ import annotations

from typing import Any, Protocol


class Algorithm(Protocol):
    """The functions that the planner needs of every algorithm."""

    __name__: str
    """The operation, "_" and the public name, like "conv_direct"; a path before the last "." is ignored."""

    def supports(self, spec: Any, /) -> str | None:
        """The reason why the algorithm cannot solve `spec`, in words a user can act on; None if it can."""

    def cost(self, spec: Any, machine: Any, /) -> float:
        """Estimated seconds of `run`; infinite where the algorithm is never worth it."""
        ...

    def scratch(self, spec: Any, /) -> int:
        """Bytes that the algorithm allocates while it runs."""
        ...


class Convolution(Algorithm, Protocol):
    """A convolution or a transposed convolution; `x` and `out` have the shapes of `kernel_shapes`."""

    def prepare(self, spec: Any, weight: Any, /) -> Any:
        """The weight, packed for `run`: once by a plan, and by every plain call, for which the CPU's
        `memory.is_for_one_call` is true: what is packed then may lie in memory that the next call uses again."""

    def run(self, spec: Any, x: Any, packed: Any, bias: Any, out: Any, /) -> None:
        """Fill `out`."""


class Pooling(Algorithm, Protocol):
    """A pooling with a window, of all elements at once, or adaptive."""

    def run(self, spec: Any, x: Any, out: Any, indices: Any, /) -> None:
        """Fill `out`, and `indices` unless it is None."""


class Gradient(Algorithm, Protocol):
    """The gradient of a convolution for its weight, or of a pooling for its input; or an unpooling."""

    def run(self, spec: Any, x: Any, grad: Any, out: Any, /) -> None:
        """Fill `out` from `x` and `grad`, the gradient for the output. For a max pooling `x` holds the indices of the
        maxima. For an unpooling `x` is its input and `grad` holds the indices."""


class Move(Algorithm, Protocol):
    """An operation that moves or adds up elements: unfolding or folding."""

    def run(self, spec: Any, x: Any, out: Any, /) -> None:
        """Fill `out`."""


#: Properties that an algorithm may define, and their values where it does not.
TRAITS: dict[str, Any] = {
    # Whether it adds up products without a transform: exact where the definition is, and rounding no more elsewhere.
    "exact": False,
    # Whether image filters use it: a NaN or an infinity must reach only the outputs whose window contains it.
    "filters": False,
    # A function `prepare_if_suited`: like `prepare`, but None unless the weight is of the kind the algorithm is for.
    "prepare_if_suited": None,
    # What an output's error is bounded by multiples of the rounding of: its own "window", or the "largest output".
    "error_bound": "window",
    # Whether "auto" may pick it; and where kernels run as Python, for which its loops are easy to follow.
    "automatic": True,
    "plain": False,
    # Estimated seconds of `prepare`.
    "prepare_cost": lambda spec, machine: 0.0,
    # Problems that the algorithm asks the planner to choose for; measuring measures them first.
    "parts": lambda spec: (),
}


def trait(algorithm: Algorithm, name: str) -> Any:
    """The value of a property of an algorithm, or its default."""
    return getattr(algorithm, name, TRAITS[name])
