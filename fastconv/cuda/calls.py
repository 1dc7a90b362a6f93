"""Convolution and pooling on a GPU, from arguments to results: what `api`, `plan` and `pool` are for the CPU.

Loaded at the first call for ``device="cuda"``. Arrays of NumPy are copied to the GPU and back (`cuda.host`); arrays on
a GPU are used in place, on their owner's current stream, and nothing here waits for the device.
"""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import Any

import numpy as np

from ..base.devices import on_gpu
from ..planner.choose import choose, operation
from ..planner.plan import Plan
from ..specs.arguments import flag
from ..specs.arguments import shape as check_shape
from ..specs.arrays import allocate, array, result_array
from ..specs.conv import ConvSpec, conv_spec
from ..specs.dtypes import BFLOAT16, check_dtype
from ..specs.pool import PoolSpec, adaptive_spec, pool_spec
from .algorithms import pool_global
from .machine import this_machine
from .shared.convert import converted
from .system import arrays, host_slices
from .system.arrays import Array
from .system.kernels import SIMULATED, require
from .system.recorded_launches import ALIGNED, Program
from .system.streams import Buffer, GpuStream, Stream, Tensor, dense, row_major

Operand = np.ndarray | Array
#: Layouts of input and output that a plan remembers the launches for.
MOST_LAYOUTS = 64


def operand(name: str, value: Any) -> Operand:
    """An argument as the functions here take it: looked at, not copied. RuntimeError if there is no GPU."""
    require()
    return arrays.view(name, value) if on_gpu(value) else array(name, value)


def check_together(a: Operand, a_name: str, b: Operand, b_name: str) -> None:
    """TypeError or ValueError unless both are of NumPy or on the same GPU."""
    if isinstance(a, np.ndarray) != isinstance(b, np.ndarray):
        names = (a_name, b_name) if isinstance(a, np.ndarray) else (b_name, a_name)
        raise TypeError(f"{names[0]} is a NumPy array, but {names[1]} is on a GPU: copy either to where the other is")
    if isinstance(a, Array) and isinstance(b, Array) and a.device != b.device:
        raise ValueError(f"{a_name} is on GPU {a.device}, {b_name} on GPU {b.device}")


# -- convolution ---------------------------------------------------------------------------------------------


def conv2d(x: Any, weight: Any, bias: Any, options: dict[str, Any], algorithm: str, out: Any) -> Any:
    """`fastconv.conv2d`, `conv1d` and `conv3d` on the GPU, by options of `conv_spec`."""
    x, weight = operand("x", x), operand("weight", weight)
    bias = None if bias is None else operand("bias", bias)
    plan = DevicePlan(_spec(x.shape, x.dtype, weight, bias, options), weight, bias, algorithm, wait=False)
    return plan.run_on_gpu(x, out)


def plan_conv2d(x_shape: Any, weight: Any, bias: Any, dtype: Any, options: dict[str, Any], algorithm: str) -> Plan:
    """`fastconv.plan_conv2d`, `plan_conv1d` and `plan_conv3d` for the GPU."""
    weight = operand("weight", weight)
    bias = None if bias is None else operand("bias", bias)
    x_dtype = weight.dtype if dtype is None else planned_dtype(dtype)
    return DevicePlan(_spec(check_shape("x_shape", x_shape), x_dtype, weight, bias, options), weight, bias, algorithm)


def planned_dtype(value: Any) -> np.dtype:
    if value == "bfloat16" or str(value) == "torch.bfloat16":
        return BFLOAT16
    try:
        return check_dtype("dtype", np.dtype(str(value).removeprefix("torch.") if "torch." in str(value) else value))
    except TypeError as error:
        raise TypeError(f"dtype must name a supported dtype, got {value!r}: {error}") from None


def _spec(
    x_shape: tuple[int, ...], x_dtype: np.dtype, weight: Operand, bias: Operand | None, options: dict[str, Any]
) -> ConvSpec:
    dtypes = [x_dtype, weight.dtype] if bias is None else [x_dtype, weight.dtype, bias.dtype]
    return conv_spec(
        x_shape, weight.shape, dtypes, bias_shape=None if bias is None else bias.shape, **options
    )


class DevicePlan(Plan):
    """A plan whose weights are packed on a GPU: on that of the given weight, else on whichever the inputs come from."""

    def __init__(
        self, spec: ConvSpec, weight: Operand, bias: Operand | None, algorithm: str, *, wait: bool = True
    ) -> None:
        self.spec = spec
        self._module = self._chosen(algorithm)
        self._x_shape, self._out_shape, self._shapes = self._sizes()
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
        return choose(operation(self.spec), self.spec, algorithm, "cuda")[0]

    def _sizes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, ...], ...]]:
        """Shapes of x and of the result; and of x, weight and result as kernels take them."""
        return self.spec.x_shape, self.spec.output_shape, self.spec.kernel_shapes

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
    def scratch_bytes(self) -> int:
        """Memory on the GPU that a call needs beside input and output, in bytes."""
        return self._module.scratch(self.spec)

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Convolve `x`, of the planned shape and of a dtype that converts to the planned one without loss."""
        x = operand("x", x)
        spec = self.spec
        if x.shape != self._x_shape:
            raise ValueError(f"x has shape {x.shape}, but the plan is for {self._x_shape}")
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
            result = arrays.result(x, self._out_shape, spec.out_dtype, out, inputs, last)
            packed, bias = self._packed_on(stream, x.device)
            if math.prod(self._out_shape):
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
        if isinstance(stream, GpuStream) and 0 not in self._out_shape:
            x, out = (Tensor(0, dtype, *arrays.image_layout(shape, row_major(shape), self.spec.axes))
                      for shape, dtype in ((self._x_shape, self.spec.dtype), (self._out_shape, self.spec.out_dtype)))
            self._program(stream, device, x, packed, bias, out)

    def _run_host(self, x: np.ndarray, out: Any) -> np.ndarray:
        spec = self.spec
        if isinstance(self._weight, Array) or isinstance(self._bias_given, Array) or self._weight is None:
            raise TypeError("x is a NumPy array, but weight or bias is on a GPU: copy x there, or them to the CPU")
        given = [x, self._weight, *([] if self._bias_given is None else [self._bias_given])]
        result = result_array(self._out_shape, spec.out_dtype, out, given)
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


# -- pooling -------------------------------------------------------------------------------------------------


def pool2d(op: str, x: Any, options: dict[str, Any], return_indices: bool, algorithm: str, out: Any) -> Any:
    """One of the poolings of images, signals or volumes on the GPU. `options` are those of `pool_spec`."""
    x = operand("x", x)
    spec = pool_spec(op, x.shape, pooled_dtype("x", x), **options)
    return _pool(spec, algorithm, x, flag("return_indices", return_indices), out)


def adaptive_pool2d(op: str, x: Any, output_size: Any, return_indices: bool, out: Any) -> Any:
    """`fastconv.adaptive_avg_pool2d` and `adaptive_max_pool2d` on the GPU."""
    x = operand("x", x)
    spec = adaptive_spec(op, x.shape, pooled_dtype("x", x), output_size)
    return _pool(spec, "auto", x, flag("return_indices", return_indices), out)


def pooled_dtype(name: str, x: Operand) -> np.dtype:
    """What is known to be supported; TypeError otherwise."""
    return x.dtype if x.dtype == BFLOAT16 else check_dtype(name, x.dtype)


def _pool(spec: PoolSpec, algorithm: str, x: Operand, return_indices: bool, out: Any) -> Any:
    if not spec.adaptive:
        module, _ = choose(operation(spec), spec, algorithm, "cuda")
    elif reason := pool_global.supports(spec):
        raise ValueError(f"output_size {spec.output_shape[-2:]} is not supported on a GPU: {reason}")
    else:
        module = pool_global
    if isinstance(x, np.ndarray):
        return _pool_host(spec, module, x, return_indices, out)
    return _pool_device(spec, module, x, return_indices, out)


def _pool_device(spec: PoolSpec, module: Any, x: Array, return_indices: bool, out: Any) -> Any:
    stream = arrays.current_stream(x)
    lead = (1, 1, *spec.lead)[-2:]
    sizes, outs = (shape[1:] for shape in spec.kernel_shapes)
    with stream.current():
        image = x.tensor((*lead, *sizes), spec.axes)
        last = image.channels_last and not image.contiguous
        result = arrays.result(x, spec.output_shape, spec.out_dtype, out, (x,), last)
        indices = arrays.empty_like(x, spec.output_shape, np.dtype(np.int64)) if return_indices else None
        if math.prod(spec.output_shape):
            inner = (*lead, *outs)
            found = None if indices is None else indices.tensor(inner, spec.axes)
            module.run(spec, image, result.tensor(inner, spec.axes), found, stream)
    values = result.value if out is None else out
    return values if indices is None else (values, indices.value)


def _pool_host(spec: PoolSpec, module: Any, x: np.ndarray, return_indices: bool, out: Any) -> Any:
    result = result_array(spec.output_shape, spec.out_dtype, out, [x])
    indices = allocate(spec.output_shape, np.dtype(np.int64)) if return_indices else None
    if result.size:
        shape, inner = spec.kernel_shapes
        outs = [result.reshape(inner), *([] if indices is None else [indices.reshape(inner)])]
        item = math.prod(shape[1:]) * spec.dtype.itemsize + sum(array[0].nbytes for array in outs)
        step = host_slices.slices(spec.planes, item, module.scratch(replace(spec, lead=(1,))), this_machine().memory)

        def run(stream: Stream, _: Any, given: list[Buffer], results: list[Buffer], items: int) -> None:
            part = replace(spec, lead=(items,))
            targets = [dense(buffer, (1, items, *inner[1:])) for buffer in results]
            image = dense(given[0], (1, items, *shape[1:]))
            module.run(part, image, targets[0], targets[1] if len(targets) > 1 else None, stream)

        host_slices.pipeline([(x.reshape(shape), spec.dtype)], outs, step, run)
    return result if indices is None else (result, indices)


__all__ = [
    "DevicePlan",
    "adaptive_pool2d",
    "check_together",
    "conv2d",
    "operand",
    "plan_conv2d",
    "planned_dtype",
    "pool2d",
    "pooled_dtype",
]
