"""Elementwise operations: an expression of one element, from which the loops of all devices are made.

    @elementwise
    def relu(x, *, slope):
        return x if x > 0 else slope * x

    relu(x, slope=0.1, out=y)

The positional parameters are elements of arrays, the others are numbers, which become the type of the arrays; a constant of
the expression is therefore a number with a default (`*, one=1`), and the arithmetic stays in that type. What is returned is
written to `out`, an array or, for several results, a tuple of arrays. All arrays are contiguous and of one size, and `out`
may be one of the others: an element is read before it is written.

The host compiles a loop that runs on all threads. With `@elementwise(numpy=True)` it evaluates the expression with NumPy
instead, on blocks that stay in the cache: NumPy's exp, log and tanh run in vectors, which a compiled loop over those of the
C library does not. Such an expression is written with NumPy's functions and without conditions. Devices compile either.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from ..errors import DeviceError
from .kernels import Kernel, inlined, prange
from .memory import current
from .operations import OPERATIONS

BLOCK = 2**14  # elements that NumPy evaluates at a time


class Elementwise:
    """An operation that is made of an expression; see the head of this file. `arrays` and `numbers`: its parameters."""

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
        self._of_devices: dict[str, Callable] = {}
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
            self._by_numpy([array.reshape(-1) for array in arrays], values, [array.reshape(-1) for array in outputs])
        else:
            updated = tuple(_place_of(output, arrays) for output in outputs)
            fresh = [output for output, place in zip(outputs, updated) if place is None]
            self.loop(updated)(*(a.reshape(-1) for a in arrays), *values, *(a.reshape(-1) for a in fresh))

    def _value(self, name: str, given: dict[str, Any], real: Any) -> Any:
        return real(given[name] if name in given else self._defaults[name])

    def _by_numpy(self, arrays: list, values: list, outputs: list) -> None:
        numbers = dict(zip(self.numbers, values))
        for start in range(0, outputs[0].size, BLOCK):
            block = slice(start, start + BLOCK)
            found = self.expression(*(array[block] for array in arrays), **numbers)
            for output, values_of_block in zip(outputs, found if isinstance(found, tuple) else (found,), strict=True):
                output[block] = values_of_block

    def _body_of(self, device: Any) -> Callable:
        body = self._of_devices.get(device.name)
        if body is None:
            if not hasattr(device, "elementwise"):
                raise DeviceError(f"the operation {self.__name__} has no body for the device {device.name}")
            body = self._of_devices[device.name] = device.elementwise(self)
        return body

    @functools.cached_property
    def scalar(self) -> Callable:
        """The expression as a plain function whose parameters are all positional, as compilers want it."""
        code = self.expression.__code__
        positional = code.replace(co_argcount=len(self.arrays) + len(self.numbers), co_kwonlyargcount=0)
        function = FunctionType(positional, self.expression.__globals__, self.__name__)
        function.__module__ = self.expression.__module__
        return function

    def loop(self, updated: tuple[int | None, ...]) -> Kernel:
        """The host's loop. `updated` has for each output the array that it is, or None."""
        if updated not in self._loops:
            self._loops[updated] = self._make_loop(updated)
        return self._loops[updated]

    def _make_loop(self, updated: tuple[int | None, ...]) -> Kernel:
        """A loop at the place of the expression, so that it is cached and shown as that.

        One that knows which arrays it updates can be made of vectors; one that is given an array twice looks out for itself.
        """
        results = [f"out{k}" if place is None else self.arrays[place] for k, place in enumerate(updated)]
        parameters = [*self.arrays, *self.numbers, *(f"out{k}" for k, place in enumerate(updated) if place is None)]
        elements = [f"{name}[i]" for name in self.arrays]
        text = (
            f"def {self.__name__}({', '.join(parameters)}):\n"
            f"    for i in prange({results[0]}.size):\n"
            f"        {', '.join(f'{name}[i]' for name in results)} = expression({', '.join([*elements, *self.numbers])})\n"
        )
        code = self.expression.__code__
        space: dict[str, Any] = {"prange": prange, "expression": inlined(self.scalar)}
        space["__name__"] = self.expression.__module__
        exec(compile("\n" * (code.co_firstlineno - 1) + text, code.co_filename, "exec"), space)
        return Kernel(space[self.__name__], made_by=(self._key, updated))


def _place_of(output: Any, arrays: tuple) -> int | None:
    """Which of `arrays` the output is."""
    return next((place for place, array in enumerate(arrays) if array is output), None)


def elementwise(expression: Callable | None = None, *, numpy: bool = False) -> Any:
    """Decorator: makes an operation of an expression. `numpy`: the host evaluates it with NumPy."""
    if expression is None:
        return functools.partial(Elementwise, numpy=numpy)
    return Elementwise(expression)
