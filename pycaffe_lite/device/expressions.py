"""Elementwise operations: an expression of one element, from which every device gets its loop.

    @elementwise
    def relu(x, *, slope):
        return x if x > 0 else slope * x

    relu(x, slope=0.1, out=y)

The positional parameters are elements of arrays. The others are numbers, which are converted to the type of the arrays; so
write a constant as a number with a default (`*, one=1`), and the arithmetic stays in that type. What the expression returns
is written to `out`: an array or, for several results, a tuple of arrays. All arrays are contiguous and of one size, and
`out` may be one of the inputs, since an element is read before it is written.

The host compiles a loop that runs on all threads. With `@elementwise(numpy=True)` it evaluates the expression with NumPy
instead, in blocks that fit the cache: NumPy has vector code for exp, log and tanh, a compiled loop calls the C library for
each element. Such an expression uses NumPy's functions and has no conditions. Other devices compile both kinds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from ..errors import DeviceError
from .cuda_kernels import CudaKernel, gpu
from .kernels import Kernel, inlined, prange
from .memory import current
from .operations import OPERATIONS

BLOCK = 2**14  # elements that NumPy evaluates at a time


class Elementwise:
    """An operation that is made from an expression; see the head of this file. `arrays` and `numbers`: its parameters."""

    __name__: str

    def __init__(self, expression: Callable, numpy: bool = False):
        functools.update_wrapper(self, expression)
        code = expression.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        self.arrays, self.numbers = names[: code.co_argcount], names[code.co_argcount :]
        self.expression = expression
        self._defaults = expression.__kwdefaults__ or {}
        self._numpy = numpy
        self._loops: dict[tuple[int | None, ...], Kernel] = {}  # of the host
        self._cuda_loops: dict[int, CudaKernel] = {}
        self._device_bodies: dict[str, Callable] = {}
        self._key = f"{expression.__module__.partition('.')[2]}.{expression.__name__}"
        OPERATIONS[self._key] = self

    def __call__(self, *arrays: Any, out: Any, **numbers: Any) -> None:
        outputs = out if isinstance(out, tuple) else (out,)
        real = outputs[0].dtype.type
        if not numbers.keys() <= set(self.numbers):
            raise TypeError(f"{self.__name__} takes the numbers {self.numbers}, received {sorted(numbers)}")
        for array in (*arrays, *outputs):
            if array.size != outputs[0].size or not array.flags.c_contiguous:
                raise ValueError(f"{self.__name__} takes contiguous arrays of one size, received {array.shape}")
        values = [self._value(name, numbers, real) for name in self.numbers]
        if not isinstance(outputs[0], np.ndarray):
            body = self._body_of(current())
            body([array.reshape(-1) for array in arrays], values, [array.reshape(-1) for array in outputs])
        elif self._numpy:
            self._run_numpy([array.reshape(-1) for array in arrays], values, [array.reshape(-1) for array in outputs])
        else:
            updated = tuple(_place_of(output, arrays) for output in outputs)
            new_outputs = [output for output, place in zip(outputs, updated) if place is None]
            self.loop(updated)(*(a.reshape(-1) for a in arrays), *values, *(a.reshape(-1) for a in new_outputs))

    def _value(self, name: str, numbers: dict[str, Any], real: Any) -> Any:
        return real(numbers[name] if name in numbers else self._defaults[name])

    def _run_numpy(self, arrays: list, values: list, outputs: list) -> None:
        numbers = dict(zip(self.numbers, values))
        for start in range(0, outputs[0].size, BLOCK):
            block = slice(start, start + BLOCK)
            results = self.expression(*(array[block] for array in arrays), **numbers)
            for output, values_of_block in zip(outputs, results if isinstance(results, tuple) else (results,), strict=True):
                output[block] = values_of_block

    def _body_of(self, device: Any) -> Callable:
        body = self._device_bodies.get(device.name)
        if body is None:
            if not hasattr(device, "elementwise"):
                raise DeviceError(f"the operation {self.__name__} has no body for the device {device.name}")
            body = self._device_bodies[device.name] = device.elementwise(self)
        return body

    @functools.cached_property
    def scalar(self) -> Callable:
        """The expression as a plain function with positional parameters only, as compilers want it."""
        code = self.expression.__code__
        positional = code.replace(co_argcount=len(self.arrays) + len(self.numbers), co_kwonlyargcount=0)
        function = FunctionType(positional, self.expression.__globals__, self.__name__)
        function.__module__ = self.expression.__module__
        return function

    def loop(self, updated: tuple[int | None, ...]) -> Kernel:
        """The host's loop. For each output, `updated` has the position of the input that it overwrites, or None."""
        if updated not in self._loops:
            self._loops[updated] = self._make_loop(updated)
        return self._loops[updated]

    def _make_loop(self, updated: tuple[int | None, ...]) -> Kernel:
        """Makes a loop that has the file and line of the expression, so that the cache and tracebacks find it there.

        A loop that knows which inputs it overwrites can be vectorised; one that gets an array twice must test for overlap.
        """
        results = [f"out{k}" if place is None else self.arrays[place] for k, place in enumerate(updated)]
        parameters = [*self.arrays, *self.numbers, *(f"out{k}" for k, place in enumerate(updated) if place is None)]
        elements = [f"{name}[i]" for name in self.arrays]
        text = (
            f"def {self.__name__}({', '.join(parameters)}):\n"
            f"    for i in prange({results[0]}.size):\n"
            f"        {', '.join(f'{name}[i]' for name in results)} = expression({', '.join([*elements, *self.numbers])})\n"
        )
        return Kernel(self._function(text, prange=prange), made_by=(self._key, updated))

    def cuda_loop(self, results: int) -> CudaKernel:
        """The loop of a GPU, for so many outputs: `cuda_loop(1).of_items(size, *arrays, *numbers, *outputs)`."""
        if results not in self._cuda_loops:
            outputs = [f"out{k}" for k in range(results)]
            elements, targets = ([f"{name}[i]" for name in names] for names in (self.arrays, outputs))
            text = (
                f"def {self.__name__}({', '.join([*self.arrays, *self.numbers, *outputs])}):\n"
                f"    for i in range(gpu.grid(1), out0.size, gpu.gridsize(1)):\n"
                f"        {', '.join(targets)} = expression({', '.join([*elements, *self.numbers])})\n"
            )
            self._cuda_loops[results] = CudaKernel(self._function(text, gpu=gpu))
        return self._cuda_loops[results]

    def _function(self, text: str, **names: Any) -> Callable:
        """A loop around the expression, from its text. It has the file and line of the expression."""
        code = self.expression.__code__
        space: dict[str, Any] = {"expression": inlined(self.scalar), "__name__": self.expression.__module__, **names}
        exec(compile("\n" * (code.co_firstlineno - 1) + text, code.co_filename, "exec"), space)
        return space[self.__name__]


def _place_of(output: Any, arrays: tuple) -> int | None:
    """The position of the output among `arrays`, or None."""
    return next((place for place, array in enumerate(arrays) if array is output), None)


def elementwise(expression: Callable | None = None, *, numpy: bool = False) -> Any:
    """Decorator: makes an operation from an expression. `numpy`: the host evaluates it with NumPy."""
    if expression is None:
        return functools.partial(Elementwise, numpy=numpy)
    return Elementwise(expression)
