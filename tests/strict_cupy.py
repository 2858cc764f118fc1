"""A stand-in for CuPy that runs on NumPy and takes only what CuPy documents: names, parameters, no array of the host.

What a layer computes in array code runs on both of NumPy and CuPy. Here it meets CuPy's signatures (of CuPy 14) without a
GPU: `x.sum(where=...)`, which CuPy does not have, is a TypeError. What is in none of the tables is refused as well; who
needs it looks it up in CuPy's reference first, and adds it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from pycaffe_lite.device import current

UFUNCS = {
    *("abs", "absolute", "add", "ceil", "divide", "equal", "exp", "expm1", "floor", "floor_divide", "fmod", "greater"),
    *("greater_equal", "invert", "isfinite", "isinf", "isnan", "less", "less_equal", "log", "log1p", "logical_and"),
    *("logical_not", "logical_or", "maximum", "minimum", "multiply", "negative", "not_equal", "power", "rint", "sign"),
    *("sqrt", "square", "subtract", "tanh", "trunc"),
}
UFUNC_KEYWORDS = ("out", "casting", "dtype")
FUNCTIONS = {  # those without an array of the device among their arguments, first
    "arange": "start stop step dtype",
    "empty": "shape dtype order",
    "full": "shape fill_value dtype order",
    "linspace": "start stop num endpoint retstep dtype axis",
    "ones": "shape dtype order",
    "zeros": "shape dtype order",
    "all": "a axis out keepdims",
    "any": "a axis out keepdims",
    "argmax": "a axis dtype out keepdims",
    "argmin": "a axis dtype out keepdims",
    "argsort": "a axis kind",
    "ascontiguousarray": "a dtype",
    "bincount": "x weights minlength",
    "broadcast_to": "array shape",
    "clip": "a a_min a_max out",
    "concatenate": "tup axis out dtype casting",
    "copyto": "dst src casting where",
    "cumsum": "a axis dtype out",
    "dot": "a b out",
    "einsum": "",
    "empty_like": "prototype dtype order subok shape",
    "expand_dims": "a axis",
    "flip": "a axis",
    "full_like": "a fill_value dtype order subok shape",
    "max": "a axis out keepdims",
    "mean": "a axis dtype out keepdims",
    "min": "a axis out keepdims",
    "moveaxis": "a source destination",
    "nonzero": "a",
    "ones_like": "a dtype order subok shape",
    "outer": "a b out",
    "pad": "array pad_width mode",
    "put_along_axis": "arr indices values axis",
    "repeat": "a repeats axis",
    "reshape": "a newshape order copy",
    "sort": "a axis kind",
    "stack": "tup axis out dtype casting",
    "sum": "a axis dtype out keepdims",
    "swapaxes": "a axis1 axis2",
    "take": "a indices axis out",
    "take_along_axis": "a indices axis",
    "tile": "A reps",
    "transpose": "a axes",
    "vdot": "a b",
    "where": "condition x y",
    "zeros_like": "a dtype order subok shape",
}
METHODS = {
    "all": "axis out keepdims",
    "any": "axis out keepdims",
    "argmax": "axis out dtype keepdims",
    "argsort": "axis kind",
    "astype": "dtype order casting subok copy",
    "copy": "order",
    "dot": "b out",
    "fill": "value",
    "item": "",
    "max": "axis out keepdims",
    "mean": "axis dtype out keepdims",
    "min": "axis out keepdims",
    "nonzero": "",
    "prod": "axis dtype out keepdims",
    "ravel": "order",
    "repeat": "repeats axis",
    "reshape": "shape order copy",
    "squeeze": "axis",
    "sum": "axis dtype out keepdims",
    "swapaxes": "axis1 axis2",
    "take": "indices axis out",
    "transpose": "axes",
    "view": "dtype type",
}
ATTRIBUTES = {"T", "dtype", "flags", "itemsize", "nbytes", "ndim", "shape", "size", "strides"}
SPREAD = {"reshape", "transpose"}  # methods whose first parameter may be given as several


class StrictArray:
    """An array of the device. Like CuPy's it refuses to become, or to meet, an array of the host."""

    __array_ufunc__ = None  # an array of the host and one of the device is an error, too

    def __init__(self, values: np.ndarray):
        self.values = values

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __getattr__(self, name: str) -> Any:
        if name in ATTRIBUTES:
            return wrap(getattr(self.values, name))
        if name not in METHODS:
            raise AttributeError(f"the table of strict_cupy has no cupy.ndarray.{name}")
        return checked(getattr(self.values, name), name, METHODS[name], several=name in SPREAD)

    def __getitem__(self, key: Any) -> Any:
        return wrap(self.values[unwrap(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.values[unwrap(key)] = unwrap(value)

    # As with CuPy's, these copy one element to the host.

    def __bool__(self) -> bool:
        return bool(self.values)

    def __float__(self) -> float:
        return float(self.values)

    def __int__(self) -> int:
        return int(self.values)

    def __len__(self) -> int:
        return len(self.values)


def wrap(result: Any) -> Any:
    """A result of NumPy as CuPy has it: arrays and their scalars are arrays of the device."""
    if isinstance(result, tuple) and any(isinstance(item, np.ndarray) for item in result):
        return tuple(map(wrap, result))
    return StrictArray(np.asarray(result)) if isinstance(result, np.ndarray | np.generic) else result


def unwrap(value: Any) -> Any:
    """An argument of CuPy as NumPy wants it. An array of the host is refused."""
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {np.ndarray}: an array of the host in an operation of the device")
    if isinstance(value, tuple | list) and any(isinstance(item, StrictArray | np.ndarray) for item in value):
        return type(value)(map(unwrap, value))
    return value.values if isinstance(value, StrictArray) else value


def checked(function: Callable, name: str, parameters: str, several: bool = False) -> Callable:
    """`function` on arrays of the device, with no parameters but these."""
    allowed = parameters.split()

    def call(*args: Any, **kwargs: Any) -> Any:
        unknown = kwargs.keys() - set(allowed)
        if unknown or (len(args) > len(allowed) and not several and name != "einsum"):
            raise TypeError(f"{name}() takes {', '.join(allowed)}; received {len(args)} arguments and {sorted(kwargs)}")
        if kwargs.get("out") is not None and not isinstance(kwargs["out"], StrictArray):
            raise TypeError(f"{name}(): out is no array of the device")
        result = function(*map(unwrap, args), **{key: unwrap(value) for key, value in kwargs.items()})
        return kwargs["out"] if kwargs.get("out") is not None else wrap(result)

    return call


def operator_on_device(function: Callable) -> Callable:
    return lambda *args: wrap(function(*map(unwrap, args)))


def in_place(function: Callable) -> Callable:
    def call(self: StrictArray, other: Any) -> StrictArray:
        function(self.values, unwrap(other))
        return self

    return call


ARITHMETIC = {name: getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")}
COMPARISONS = {name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne", "and_", "or_")}
for _name, _function in (ARITHMETIC | COMPARISONS).items():
    setattr(StrictArray, f"__{_name.rstrip('_')}__", operator_on_device(_function))
for _name in ("neg", "abs", "invert"):
    setattr(StrictArray, f"__{_name}__", operator_on_device(getattr(operator, _name)))
for _name, _function in ARITHMETIC.items():
    setattr(StrictArray, f"__i{_name}__", in_place(getattr(operator, f"i{_name}")))
    setattr(StrictArray, f"__r{_name}__", operator_on_device(lambda a, b, function=_function: function(b, a)))


class StrictModule:
    """`cupy`"""

    def __getattr__(self, name: str) -> Any:
        if name in UFUNCS:
            function = getattr(np, name)
            return checked(function, name, " ".join([*"xyz"[: function.nin], *UFUNC_KEYWORDS]))
        if name not in FUNCTIONS:
            raise AttributeError(f"the table of strict_cupy has no cupy.{name}")
        return checked(getattr(np, name), name, FUNCTIONS[name])


class StrictDevice:
    """A device whose arrays are these. It counts allocations and copies, and `used` has the operations that ran on it.

    New memory that nobody asked to be zero holds -77, so that who reads what was not written sees it.
    """

    name = "strict"
    xp = StrictModule()

    def __init__(self) -> None:
        self.uploads = self.downloads = self.allocations = 0
        self.used: set[str] = set()

    def zeros(self, size: int, dtype: Any) -> StrictArray:
        self.allocations += 1
        return StrictArray(np.zeros(size, dtype))

    def empty(self, size: int, dtype: Any) -> StrictArray:
        self.allocations += 1
        return StrictArray(np.full(size, -77, dtype))

    def upload(self, source: np.ndarray, target: StrictArray) -> None:
        assert isinstance(source, np.ndarray)
        assert isinstance(target, StrictArray)
        self.uploads += 1
        target.values[...] = source

    def download(self, source: StrictArray, target: np.ndarray) -> None:
        assert isinstance(source, StrictArray)
        assert isinstance(target, np.ndarray)
        self.downloads += 1
        target[...] = source.values

    @property
    def copies(self) -> tuple[int, int]:
        return self.uploads, self.downloads

    def elementwise(self, operation: Any) -> Callable:
        """What makes a body of an expression: here it runs for each element by itself, as a thread of a GPU would."""

        def body(arrays: list, numbers: list, outputs: list) -> None:
            current().used.add(operation.__name__)  # bodies are kept, and serve later devices too
            columns = [array.values.copy() for array in arrays]
            for i in range(outputs[0].size):
                found = operation.scalar(*(column[i] for column in columns), *numbers)
                for output, value in zip(outputs, found if isinstance(found, tuple) else (found,), strict=True):
                    output.values[i] = value

        return body
