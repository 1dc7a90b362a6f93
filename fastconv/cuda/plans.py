"""Plans of convolutions on a GPU. A plain call is a plan that is not kept.

Arrays of NumPy are copied to the GPU and back (`host_slices`); arrays on a GPU are used in place, on their owner's
current stream, and nothing here waits for the device.

Of a transposed convolution, as on the CPU, the rows and columns of the result of each remainder by the stride are a
convolution of `x` without stride (`fastconv.specs.phases`). A kernel writes with any steps, so each convolution writes
where its results belong: nothing is interleaved afterwards, and `x` is read where it is.
"""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..planner.choose import name
from ..planner.plan import Plan
from ..specs.arrays import result_array
from ..specs.conv import ConvSpec
from ..specs.dtypes import BFLOAT16
from ..specs.phases import separate
from .machine import this_machine
from .operands import Operand, operand, planner
from .shared.convert import converted, exchanged, fill
from .system import arrays, host_slices
from .system.arrays import Array
from .system.kernels import SIMULATED
from .system.recorded_launches import ALIGNED, Program
from .system.streams import Buffer, GpuStream, Stream, Tensor, dense, row_major

#: Layouts of input and output that a plan remembers the launches for.
MOST_LAYOUTS = 64


class DevicePlan(Plan):
    """A plan whose weights are packed on a GPU: on that of the given weight, else on whichever the inputs come from."""

    def __init__(
        self, spec: ConvSpec, weight: Operand, bias: Operand | None, algorithm: str, *, wait: bool = True
    ) -> None:
        self.spec = spec
        self._module = self._chosen(algorithm)
        #: Shapes of x, weight and result as kernels take them.
        self._shapes = spec.kernel_shapes[::-1] if self.is_transposed else spec.kernel_shapes
        self._weight, self._bias_given = weight, bias
        self._ready: dict[int, tuple[Any, Buffer]] = {}
        self._lock = threading.Lock()
        self._keep = wait
        self._programs: dict[tuple, Program] = {}
        if wait:
            # Packed now, so that calls may be captured in a CUDA graph; and what the caller changes later is not seen.
            if isinstance(weight, np.ndarray):
                self._weight = weight.copy()
            if isinstance(bias, np.ndarray):
                self._bias_given = bias.copy()
            owner = next((given for given in (weight, bias) if isinstance(given, Array)), None)
            stream = host_stream() if owner is None else arrays.current_stream(owner)
            with stream.current():
                self._packed_on(stream, 0 if owner is None else owner.device)
            if owner is not None:
                self._weight = self._bias_given = None  # type: ignore[assignment] # other devices have no way to them

    def _chosen(self, algorithm: str) -> Any:
        """What computes it, with the contract of the tables' modules."""
        return planner.choose(self.spec, algorithm)[0]

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
        spec = self.spec
        weight = _on_device(
            self._weight, self._shapes[1], spec.dtype, stream, device, copy=self._keep, axes=spec.axes
        )
        if not weight.contiguous:
            weight = converted(weight, spec.dtype, stream, copy=True)
        channels = self._shapes[2][1]
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
        return self._module.scratch(self.spec)

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Convolve `x`, of the planned shape and of a dtype that converts to the planned one without loss."""
        x = operand("x", x)
        spec = self.spec
        if x.shape != self.x_shape:
            raise ValueError(f"x has shape {x.shape}, but the plan is for {self.x_shape}")
        if x.dtype != spec.dtype and (BFLOAT16 in (x.dtype, spec.dtype) or not np.can_cast(x.dtype, spec.dtype)):
            raise TypeError(f"x has dtype {x.dtype}, but the plan is for {spec.dtype}")
        return self.run_on_gpu(x, out)

    def run_on_gpu(self, x: Operand, out: Any) -> Any:
        """Convolve an operand that is known to fit."""
        return self._run_host(x, out) if isinstance(x, np.ndarray) else self._run_device(x, out)

    def _run_device(self, x: Array, out: Any) -> Any:
        spec = self.spec
        inputs = tuple(given for given in (x, self._weight, self._bias_given) if isinstance(given, Array))
        images, _, outputs = self._shapes
        stream = arrays.current_stream(x)
        with stream.current():
            image = x.tensor(images, spec.axes)
            last = image.channels_last and not image.contiguous
            result = arrays.result(x, self.output_shape, spec.out_dtype, out, inputs, last)
            packed, bias = self._packed_on(stream, x.device)
            if math.prod(self.output_shape):
                self._launch(stream, x.device, image, packed, bias, result.tensor(outputs, spec.axes))
        return result.value if out is None else out

    def _launch(self, stream: Stream, device: int, x: Tensor, packed: Any, bias: Buffer, out: Tensor) -> None:
        """Run the algorithm, or repeat what it launched before for tensors that differ in their addresses only."""
        if self._keep and isinstance(stream, GpuStream):
            self._program(stream, device, x, packed, bias, out).run(stream, x.pointer, out.pointer)
        else:
            self._compute(stream, x, packed, bias, out)

    def _compute(self, stream: Stream, x: Tensor, packed: Any, bias: Buffer, out: Tensor) -> None:
        self._module.run(self.spec, converted(x, self.spec.dtype, stream), packed, bias, out, stream)

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
        """Compile and load the kernels for arrays in C order, so that the first call may be captured in a graph."""
        if isinstance(stream, GpuStream) and 0 not in self.output_shape:
            x, out = (Tensor(0, dtype, *arrays.image_layout(shape, row_major(shape), self.spec.axes))
                      for shape, dtype in ((self.x_shape, self.spec.dtype), (self.output_shape, self.spec.out_dtype)))
            self._program(stream, device, x, packed, bias, out)

    def _run_host(self, x: np.ndarray, out: Any) -> np.ndarray:
        spec = self.spec
        if isinstance(self._weight, Array) or isinstance(self._bias_given, Array) or self._weight is None:
            raise TypeError("x is a NumPy array, but weight or bias is on a GPU: copy x there, or them to the CPU")
        given = [x, self._weight, *([] if self._bias_given is None else [self._bias_given])]
        result = result_array(self.output_shape, spec.out_dtype, out, given)
        if not result.size:
            return result
        shape, _, out_shape = self._shapes
        images, outs = x.reshape(shape), result.reshape(out_shape)
        item = images[0].size * spec.dtype.itemsize + outs[0].nbytes
        step = host_slices.slices(spec.n, item, self._module.scratch(replace(spec, n=1)), this_machine().memory)

        def run(stream: Stream, prepared: Any, given: list[Buffer], results: list[Buffer], items: int) -> None:
            part = spec if items == spec.n else replace(spec, n=items)
            target = dense(results[0], (items, *out_shape[1:]))
            image = dense(given[0], (items, *shape[1:]))
            self._module.run(part, image, *prepared, target, stream)

        host_slices.pipeline([(images, spec.dtype)], [outs], step, run, lambda stream: self._packed_on(stream, 0))
        return result


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


def host_stream() -> Stream:
    """The stream that weights of NumPy arrays are packed on."""
    if SIMULATED:
        return arrays.SimulatedStream()
    return arrays.stream_of(0, arrays.LEGACY)


# -- transposed ----------------------------------------------------------------------------------------------


class Convolutions:
    """Those that a transposed one is made of, with the contract of an algorithm: `x` is an output of the convolution
    that is transposed, and `out` an input."""

    def __init__(self, spec: ConvSpec, algorithm: str) -> None:
        self.__name__ = __name__
        self._parts, _, self._complete, _ = separate(spec)
        self._modules: list[Any] = []
        chosen: dict[tuple[int, ...], Any] = {}
        for part in self._parts:  # of equal kernels all have one algorithm, if it can
            kernel, problem = part.problem.weight_shape, part.problem
            if kernel not in chosen or chosen[kernel].supports(problem) is not None:
                chosen[kernel], _ = planner.choose(problem, algorithm)
            self._modules.append(chosen[kernel])

    @property
    def names(self) -> str:
        """What runs."""
        return "+".join(sorted({name(module) for module in self._modules})) or "none"

    def scratch(self, spec: ConvSpec) -> int:
        pairs = zip(self._parts, self._modules, strict=True)
        return max((module.scratch(replace(part.problem, n=spec.n)) for part, module in pairs), default=0)

    def prepare(self, spec: ConvSpec, weight: Tensor, stream: Stream) -> list[Any]:
        return [module.prepare(part.problem, exchanged(weight, spec.groups, part.taps, stream), stream)
                for part, module in zip(self._parts, self._modules, strict=True)]

    def run(self, spec: ConvSpec, x: Tensor, packed: list[Any], bias: Buffer, out: Tensor, stream: Stream) -> None:
        if not self._complete:
            fill(out, bias, stream)
        for part, module, weight in zip(self._parts, self._modules, packed, strict=True):
            problem = part.problem if part.problem.n == spec.n else replace(part.problem, n=spec.n)
            module.run(problem, x.part(*part.seen[2:]), weight, bias, out.part(*part.at[2:]), stream)


#: Kept, because a plain call decides every time.
convolutions = lru_cache(maxsize=1024)(Convolutions)


class TransposedDevicePlan(DevicePlan):
    """A transposed convolution whose weights are packed on a GPU."""

    is_transposed = True

    def _chosen(self, algorithm: str) -> Convolutions:
        return convolutions(self.spec, algorithm)

    @property
    def algorithm(self) -> str:
        """What runs: the names of one or several convolutions."""
        return self._module.names
