"""Operations: each computation has one name, and a body for each device.

    @operation
    def max_pool(x, y, mask, window):       # the body for the host: NumPy, or kernels that Numba compiles
        ...

    @max_pool.body("cuda")
    def _(x, y, mask, window):
        ...

A layer calls `max_pool(...)` and knows no device: the first argument is an array, and its device picks the body. The body
decides how to divide the work, which memory it needs in between and which library it calls. A missing body is an error that
names the operation; the host never steps in silently. Array code that runs on every device is the body "any".
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import DeviceError
from .memory import current

OPERATIONS: dict[str, Any] = {}  # by module and name, such as "ops.pooling.max_pool"


class Operation:
    """A function of arrays with one body for each device; see the head of this file. `bodies`: by the device's name."""

    __name__: str

    def __init__(self, host_body: Callable):
        functools.update_wrapper(self, host_body)
        self.bodies: dict[str, Callable] = {"cpu": host_body}
        OPERATIONS[f"{host_body.__module__.partition('.')[2]}.{host_body.__name__}"] = self

    def body(self, device: str) -> Callable[[Callable], Callable]:
        """Decorator: registers the body for another device. It has the same parameters as the host's body."""

        def add(body: Callable) -> Callable:
            expected, received = (list(inspect.signature(function).parameters) for function in (self.bodies["cpu"], body))
            if received != expected:
                raise TypeError(f"the body of {self.__name__} for {device} takes {received}, the host's takes {expected}")
            self.bodies[device] = body
            return body

        return add

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        device = "cpu" if isinstance(args[0], np.ndarray) else current().name
        body = self.bodies.get(device) or self.bodies.get("any")
        if body is None:
            raise DeviceError(f"the operation {self.__name__} has no body for the device {device}")
        return body(*args, **kwargs)


def operation(host_body: Callable) -> Operation:
    """Makes an operation from its body for the host."""
    return Operation(host_body)
