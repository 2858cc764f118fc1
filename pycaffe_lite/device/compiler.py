"""How Numba compiles kernels. This file and cache.py use private parts of Numba; tests/test_compile.py lists them.

Numba compiles every function to machine code, copies it into each caller, and optimises the copy again. The body of a
`prange` loop is optimised four times. Kernels have their own target, `pycaffe_lite`, beside Numba's `cpu`. In this target

- a function that a kernel calls is linked into the kernel as it was lowered, and the kernel is optimised once;
- only kernels are compiled to machine code, and only they can be called from Python;
- each kernel has its own copy of the functions. In Numba's target all kernels share them by name: a process that compiles a
  kernel may run the copy from another kernel, with sums in another order; a process that loads the kernel gets other bits.

Functions that a user compiles in the same process are left to Numba's own target.
"""

from __future__ import annotations

import functools
import gc
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core import event, types
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import CPUContext
from numba.core.registry import CPUDispatcher, CPUTarget
from numba.core.target_extension import CPU, dispatcher_registry, jit_registry, target_override, target_registry
from numba.np.numpy_support import from_dtype

from . import notice
from .cache import Cache, cache_of

_numba_log = logging.getLogger("numba")

if hasattr(os, "register_at_fork"):  # a child cannot wait for a thread of its parent to finish compiling
    _lock: Any = global_compiler_lock
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)

NAME = "pycaffe_lite"

# Sums may be reordered, which vector code needs. NaN and infinity keep their meaning, so that a diverged net can be seen.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}

# Numba would also look for other code to run in threads, which takes time. Kernels only need `prange`.
_OTHER_LOOPS = ["comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion"]
_PRANGE_ONLY = dict.fromkeys(_OTHER_LOOPS, False)


class _Library(JITCodeLibrary):
    """The code of a kernel, or of a function that is linked into kernels."""

    def _ensure_finalized(self) -> None:
        """Does nothing. Numba wants machine code of every function; `get_pointer_to_function` makes it when it is needed."""

    def get_pointer_to_function(self, name: str) -> int:
        if not self._finalized:
            self.finalize()
        return super().get_pointer_to_function(name)

    def finalize(self) -> None:
        self._own = {function.name for function in self._final_module.functions if not function.is_declaration}
        self._linking_libraries = list(self._all_libraries(set()))
        super().finalize()

    def _all_libraries(self, seen: set) -> Iterator[JITCodeLibrary]:
        """The libraries of all functions that are called, directly or indirectly, each once."""
        for library in self._linking_libraries:
            if library not in seen:
                seen.add(library)
                yield library
                if isinstance(library, _Library):
                    yield from library._all_libraries(seen)

    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:
            if not function.is_declaration and function.name not in self._own:
                function.linkage = llvm.Linkage.internal
        super()._optimize_final_module()


class _Codegen(JITCPUCodegen):
    _library_class = _Library


class _NotCallable:
    """Takes the place of machine code for a function that has none."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *args: Any) -> Any:
        raise TypeError(f"{self.name} is for kernels to call; from Python, call {self.name}.py_func")


class _Context(CPUContext):
    def __init__(self, typing_context: Any):
        super().__init__(typing_context, NAME)

    def init(self) -> None:
        super().init()
        self._internal_codegen = _Codegen("pycaffe_lite.exec")

    def create_cpython_wrapper(self, library: Any, fndesc: Any, *args: Any, **options: Any) -> None:
        if not fndesc.qualname.startswith("__numba_parfor_gufunc"):  # Python never calls the body of a loop
            super().create_cpython_wrapper(library, fndesc, *args, **options)

    def get_executable(self, library: Any, fndesc: Any, env: Any) -> Any:
        defined = {function.name for function in library._final_module.functions}
        if library._finalized or fndesc.llvm_cpython_wrapper_name in defined:
            return super().get_executable(library, fndesc, env)
        return _NotCallable(fndesc.qualname)


class _Target(CPUTarget):
    @functools.cached_property
    def _toplevel_target_context(self) -> _Context:
        return _Context(self.typing_context)


class _Dispatcher(CPUDispatcher):
    """Numba's object for a compiled function; it compiles the function for each signature."""

    targetdescr = _Target(NAME)
    is_kernel = False
    _cache: Any
    sees_literals = True  # Numba's versions of NumPy's functions may need them

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Numba compiles `f(x, 0)` and `f(x, n)` separately. Our functions need only one version: LLVM sees the 0 too."""
        if not self.sees_literals:
            args, kws = tuple(map(types.unliteral, args)), {name: types.unliteral(kind) for name, kind in kws.items()}
        return super().get_call_template(args, kws)

    def _compile_for_args(self, *args: Any, **kws: Any) -> Any:
        """Numba calls this if no signature fits the arguments of a call from Python exactly."""
        return self.compile(self.signature_of(args))

    def signature_of(self, args: tuple) -> tuple:
        """The signature for arguments. It depends on the dtype of the arrays, not on the types of Python numbers."""
        real = next((arg.dtype.type for arg in args if isinstance(arg, np.ndarray) and arg.dtype.kind == "f"), float)
        return tuple(self._type_of(arg, real) for arg in args)

    def _type_of(self, arg: Any, real: type) -> Any:
        if isinstance(arg, np.ndarray):
            if not (arg.flags.c_contiguous and arg.flags.aligned):
                shape = f"strides {arg.strides} for shape {arg.shape} of {arg.dtype}"
                raise TypeError(f"{self.py_func.__name__}: expected contiguous arrays, received {shape}")
            return types.Array(from_dtype(arg.dtype), arg.ndim, "C")  # read-only ones too: no kernel writes to them
        kind = numba.typeof(real(arg) if type(arg) is float else arg)
        return types.int64 if isinstance(kind, types.Integer) and kind != types.uint64 else kind

    def is_on_disk(self, signature: tuple) -> bool:
        return isinstance(self._cache, Cache) and self._cache.holds(signature, self.targetctx)

    def compile(self, sig: Any) -> Any:
        # The target override is for parts of Numba that do not ask the dispatcher, such as the parfors of 0.68.
        # All threads share the listeners. Without the lock, that of a waiting thread would hear the end of another thread's.
        with global_compiler_lock, target_override(NAME), event.install_listener("numba:compile", _Announcer(self)):
            return super().compile(sig)

    def add_overload(self, cres: Any) -> None:
        if isinstance(cres.entry_point, _NotCallable):
            self.overloads[tuple(cres.signature.args)] = cres
        else:
            super().add_overload(cres)


class _Announcer(event.Listener):
    """Changes the process while a kernel is compiled.

    It shows a notice, and silences Numba's log, which has thousands of lines at DEBUG. It pauses the garbage collector; that
    saves a tenth of the time. It listens only while its thread holds Numba's compiler lock, so it does not hear the
    compilations of other threads.
    """

    def __init__(self, dispatcher: _Dispatcher):
        self.dispatcher = dispatcher

    def on_start(self, event: Any) -> None:
        if event.data["dispatcher"] is self.dispatcher:
            self.levels = _hold_levels()
            if self.dispatcher.is_kernel:
                notice.begin(self.dispatcher.py_func.__name__)
                self.collects = gc.isenabled()
                gc.disable()

    def on_end(self, event: Any) -> None:
        if event.data["dispatcher"] is self.dispatcher:
            _restore_levels(self.levels)
            if self.dispatcher.is_kernel:
                notice.end()
                if self.collects:
                    gc.enable()


def _hold_levels() -> dict[logging.Logger, int]:
    """Keeps Numba's loggers from writing less than warnings; returns their levels. Those without one have their parent's.

    Other threads miss nothing, since what Numba logs at these levels is written under the lock that this thread holds.
    """
    loggers = [log for log in list(logging.root.manager.loggerDict.values()) if isinstance(log, logging.Logger)]
    levels = {log: log.level for log in loggers if log.level and log.name.startswith("numba.")}
    levels[_numba_log] = _numba_log.level
    for log, level in levels.items():
        log.setLevel(max(level, logging.WARNING))
    return levels


def _restore_levels(levels: dict[logging.Logger, int]) -> None:
    for log, level in levels.items():
        log.setLevel(level)


class _PycaffeLite(CPU):
    """The target. It inherits everything that Numba and its extensions define for the CPU."""


target_registry[NAME] = _PycaffeLite
dispatcher_registry[_PycaffeLite] = _Dispatcher
jit_registry[_PycaffeLite] = functools.partial(numba.jit, _target=NAME)


def compile_function(body: Callable, inline: bool = False) -> Any:
    """Makes the dispatcher of a function that kernels call."""
    dispatcher = _jit(body, no_cpython_wrapper=True, forceinline=inline)
    dispatcher.sees_literals = False
    return dispatcher


def compile_kernel(body: Callable, parallel: bool) -> Any:
    """Makes the dispatcher of a kernel. If `parallel`, its `prange` loops run on all threads."""
    dispatcher = _jit(body, parallel=dict(_PRANGE_ONLY) if parallel else False)
    dispatcher.is_kernel = True
    dispatcher._cache = cache_of(body, parallel) or dispatcher._cache
    return dispatcher


def _jit(body: Callable, **options: Any) -> Any:
    jit: Any = numba.njit  # its annotations lack some options
    return jit(body, _target=NAME, no_cfunc_wrapper=True, **options, **_OPTIONS)
