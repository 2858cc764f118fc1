"""Finds types by their names in prototxts: those of this package, of users' modules and of installed packages."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TypeVar

from .. import glog
from ..errors import CaffeError, did_you_mean
from .caffe_name import caffe_is_this_package

T = TypeVar("T", bound=type)


class Registry(dict[str, T]):
    """Name to class. Errors call a type a `kind`; `group` is the entry points of packages that add types; `base` returns the
    class that all types derive from; `elsewhere` says where a type is found that is not here, as the end of a sentence.

    A package names modules that register types when they are imported:

        [project.entry-points."pycaffe_lite.layers"]
        mine = "my_package.layers"

    They are imported when an unknown type is requested, or when all types are listed.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        error: type[CaffeError],
        base: Callable[[], type],
        elsewhere: Callable[[str], str] = lambda name: "",
    ):
        super().__init__()
        self.elsewhere = elsewhere
        self.kind, self.group, self.error, self.base = kind, group, error, base
        self._lock = threading.RLock()  # reentrant: a module that is being imported may request a type
        self._asked = False

    def register(self, name: str) -> Callable[[T], T]:
        """Class decorator: registers a type under its name in a prototxt.

        If a reloaded module or a notebook cell defines the class again, the new class replaces the old one.
        """

        def add(cls: T) -> T:
            base = self.base()
            if not (isinstance(name, str) and name and isinstance(cls, type) and issubclass(cls, base)):
                raise self.error(f"expected a name and a class derived from {base.__name__}, received {name!r} and {cls!r}")
            before = self.get(name)
            if before is not None and not _is_new_version(before, cls):
                raise self.error(f'the {self.kind} type "{name}" is registered already, by {_describe(before)}')
            self[name] = cls
            return cls

        return add

    def find(self, name: str) -> T:
        """The class of that name. Raises the registry's error if neither this package nor an installed one has it."""
        if problem := self.problem(name):
            raise self.error(problem, field="type")
        return self[name]

    def problem(self, name: str) -> str:
        """Says that neither this package nor an installed one has that type; empty if one has it."""
        if name not in self:
            self.load_installed()
        return "" if name in self else f'unknown {self.kind} type "{name}"{self._hint(name)}'

    def _hint(self, name: str) -> str:
        all_types = f"; there are {', '.join(self)}" if len(self) < 20 else ""
        if not name:
            return f": the {self.kind} has no type{all_types}"
        near = self.elsewhere(name) or did_you_mean(name, self)
        return f"{near}{all_types}" if near else f"{all_types}; --import names a module with types of your own"

    def load_installed(self) -> None:
        """Imports the modules that installed packages name, once. A failure is a warning, since a net may not need it."""
        with self._lock:
            if self._asked:
                return
            self._asked = True
            for entry in sorted(entry_points(group=self.group), key=lambda entry: (entry.name, entry.value)):
                try:
                    with caffe_is_this_package():
                        entry.load()
                except Exception as error:  # user code may raise anything
                    package = entry.dist.name if entry.dist else "an installed package"
                    problem = f"{type(error).__name__}: {error}"
                    glog.warning(f"the {self.kind} types of {package} ({entry.value}) cannot be loaded: {problem}")


def _is_new_version(before: type, cls: type) -> bool:
    """Whether this is the same class of the same module, defined again."""
    same_module = before.__module__ == cls.__module__ or _file(before) == _file(cls) != ""
    return same_module and before.__qualname__ == cls.__qualname__


def _describe(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}" + (f" in {_file(cls)}" if _file(cls) else "")


def _file(cls: type) -> str:
    return getattr(sys.modules.get(cls.__module__), "__file__", None) or ""
