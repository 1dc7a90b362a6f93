"""Plans of convolutions on a GPU. A plain call makes a plan and does not keep it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..planner.choose import name
from ..planner.plan import Plan
from ..specs.conv import ConvSpec
from ..specs.conv_transpose import TransposeSpec
from ..specs.dtypes import converts
from . import planner
from .driver import Given, Job, Wanted, run
from .operands import Operand, check_layout, operand
from .shared.convert import converted
from .system import arrays
from .system.arrays import Array
from .system.kernels import SIMULATED
from .system.recorded_launches import ALIGNED, Program
from .system.streams import Buffer, GpuStream, Stream, Tensor, dense, row_major

#: Most layouts of input and output for which a plan keeps its launches.
MOST_LAYOUTS = 64


class DevicePlan(Plan):
    """A plan with weights packed on a GPU: the one that holds the given weight, else each one that inputs come from.

    It keeps its weights unpacked as well, for copies and pickles of it: as much memory again as they take, here if they
    are NumPy's, else on their GPU. A copy's weights are NumPy's in either case, and are packed on the first GPU.
    """

    planner = planner

    def __init__(
        self, problem: ConvSpec | TransposeSpec, weight: Operand, bias: Operand | None, algorithm: str, *,
        wait: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(problem)
        check_layout(problem)
        self._module = planner.choose(problem, algorithm).algorithm
        self._weight, self._bias_given = weight, bias
        self._ready: dict[int, tuple[Any, Buffer]] = {}
        self._lock = threading.Lock()
        self._keep = wait
        self._plain: Tensor | None = None
        self._programs: dict[tuple, Program] = {}
        if wait:
            # Packed now, so that a CUDA graph may capture calls, and later changes by the caller have no effect.
            if isinstance(weight, np.ndarray):
                self._weight = weight.copy()
            if isinstance(bias, np.ndarray):
                self._bias_given = bias.copy()
            owner = next((given for given in (weight, bias) if isinstance(given, Array)), None)
            stream = host_stream() if owner is None else arrays.current_stream(owner)
            with stream.current():
                self._packed_on(stream, 0 if owner is None else owner.device)
            if owner is not None:
                self._weight = self._bias_given = None  # type: ignore[assignment] # other devices cannot reach them

    def _packed_on(self, stream: Stream, device: int) -> tuple[Any, Buffer]:
        """Packed weights and bias on a device."""
        found = self._ready.get(device)
        if found is None:
            with self._lock:
                found = self._ready.get(device)
                if found is None:
                    if self._weight is None:
                        owner = next(iter(self._ready))
                        raise ValueError(f"x is on GPU {device}, but the plan's weight is on GPU {owner}")
                    if self._keep:
                        found = self._pack(stream.lasting(), device)
                        self._foresee(stream, device, *found)
                        stream.wait()  # once: later calls may be on any stream
                    else:
                        found = self._pack(stream, device)
                    self._ready[device] = found
        return found

    def _pack(self, stream: Stream, device: int) -> tuple[Any, Buffer]:
        spec = self.problem
        _, weights, (_, channels, *_) = spec.kernel_shapes
        weight = _on_device(self._weight, weights, spec.dtype, stream, device, copy=self._keep, axes=spec.axes)
        if not weight.contiguous:
            weight = converted(weight, spec.dtype, stream, copy=True)
        if self._keep and any(isinstance(given, Array) for given in (self._weight, self._bias_given)):
            self._plain = weight
        if self._bias_given is None:
            return self._module.prepare(spec, weight, stream), stream.zeros(channels, spec.acc_dtype)
        sizes = (1, 1, 1, channels)
        bias = _on_device(self._bias_given, sizes, spec.acc_dtype, stream, device, copy=True)
        return self._module.prepare(spec, weight, stream), bias.owner

    @property
    def algorithm(self) -> str:
        """Name of the algorithm that runs."""
        return name(self._module)

    @property
    def scratch_bytes(self) -> int:
        """Memory on the GPU that a call needs beside input and output, in bytes."""
        return self._module.scratch(self.problem)

    def _given(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Weight and bias as NumPy's arrays; fetched, if they are on a GPU."""
        if self._plain is None:
            return self._weight, self._bias_given  # type: ignore[return-value] # of NumPy, both
        ((device, (_, bias)),) = self._ready.items()
        stream = host_stream(device)
        with stream.current():
            return stream.download(self._plain.owner).reshape(self.problem.weight_shape), stream.download(bias)

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Convolve `x`, of the planned shape and of a dtype that converts to the planned one without loss."""
        x = operand("x", x)
        spec = self.problem
        if x.shape != self.x_shape:
            raise ValueError(f"x has shape {x.shape}, but the plan is for {self.x_shape}")
        if not converts(x.dtype, spec.dtype):
            raise TypeError(f"x has dtype {x.dtype}, but the plan is for {spec.dtype}")
        return self.run_on_gpu(x, out)

    def run_on_gpu(self, x: Operand, out: Any) -> Any:
        """Convolve an operand whose shape and dtype have been checked."""
        problem, others = self.problem, (self._weight, self._bias_given)
        if isinstance(x, np.ndarray) and (self._weight is None or any(isinstance(one, Array) for one in others)):
            raise TypeError("x is a NumPy array, but weight or bias is on a GPU: copy x there, or them to the CPU")

        def kernel(items: int, packed: Any, given: Sequence[Tensor], made: Sequence[Tensor], stream: Stream) -> None:
            weights, biases = packed
            if isinstance(x, np.ndarray):
                self._module.run(problem.of_images(items), given[0], weights, biases, made[0], stream)
            else:
                self._launch(stream, x.device, given[0], weights, biases, made[0])

        images, _, outputs = problem.kernel_shapes
        job = Job(kernel, problem.n, problem.axes, self._module.scratch(problem.of_images(1)), self._packed_on,
                  in_place=True, keeps_layout=True)  # fmt: skip
        given = Given(x, (None, *images[1:]), problem.dtype)
        wanted = Wanted(problem.output_shape, (None, *outputs[1:]), problem.out_dtype)
        return run(job, [given], [wanted], out, [one for one in others if one is not None])[0]

    def _launch(self, stream: Stream, device: int, x: Tensor, packed: Any, bias: Buffer, out: Tensor) -> None:
        """Run the algorithm or, in a plan, repeat its launches for a layout with the addresses of these tensors."""
        if self._keep and isinstance(stream, GpuStream):
            self._program(stream, device, x, packed, bias, out).run(stream, x.pointer, out.pointer)
        else:
            self._compute(stream, x, packed, bias, out)

    def _compute(self, stream: Stream, x: Tensor, packed: Any, bias: Buffer, out: Tensor) -> None:
        self._module.run(self.problem, converted(x, self.problem.dtype, stream), packed, bias, out, stream)

    def _program(
        self, stream: GpuStream, device: int, x: Tensor, packed: Any, bias: Buffer, out: Tensor
    ) -> Program:
        key = device, x.dtype, x.strides, out.strides, x.pointer % ALIGNED, out.pointer % ALIGNED
        program = self._programs.get(key)
        if program is None:
            if len(self._programs) >= MOST_LAYOUTS:
                self._programs.clear()

            def run(stream: Stream, x: Tensor, out: Tensor) -> None:
                self._compute(stream, x, packed, bias, out)

            program = self._programs[key] = Program(run, stream, x, out)
        return program

    def _foresee(self, stream: Stream, device: int, packed: Any, bias: Buffer) -> None:
        """Compile and load the kernels for arrays in C order, so that a graph may capture the first call."""
        if isinstance(stream, GpuStream) and 0 not in self.output_shape:
            spec = self.problem
            x, out = (Tensor(0, dtype, *arrays.image_layout(shape, row_major(shape), spec.axes))
                      for shape, dtype in ((self.x_shape, spec.dtype), (self.output_shape, spec.out_dtype)))
            self._program(stream, device, x, packed, bias, out)


def _on_device(
    given: Operand, shape: tuple[int, ...], dtype: np.dtype, stream: Stream, device: int, *, copy: bool,
    axes: int = 2,
) -> Tensor:
    """An operand on the stream's device, of `dtype`."""
    if isinstance(given, np.ndarray):
        return dense(stream.upload(np.ascontiguousarray(given, dtype)), shape)
    if given.device != device:
        raise ValueError(f"{given.name} is on GPU {given.device}, x on GPU {device}")
    return converted(given.tensor(shape, axes), dtype, stream, copy=copy)


def host_stream(device: int = 0) -> Stream:
    """The stream on which weights that are NumPy arrays are packed, and weights become NumPy arrays again."""
    if SIMULATED:
        return arrays.SimulatedStream()
    return arrays.stream_of(device, arrays.LEGACY)
