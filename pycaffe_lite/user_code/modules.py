"""Finds and loads the modules that users write."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from importlib.machinery import ModuleSpec
from types import ModuleType

from ..errors import CaffeError, NetError, did_you_mean
from .caffe_name import FOLDER, caffe_is_this_package


def load(name: str) -> ModuleType:
    """Imports a module by its dotted name. Raises `NetError` if it is missing or cannot be parsed.

    Errors of its code are passed on unchanged. `import caffe` in the module means this package. If the module is not on
    `sys.path`, the current folder is searched, to which the paths in a prototxt are relative; that folder is then appended
    to `sys.path`.
    """
    check_name(name)
    top = name.partition(".")[0]
    if _on_path(top) is None and _here(top) is not None:
        sys.path.append(os.getcwd())
    try:
        with caffe_is_this_package():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module exists, but something that it imports does not
        raise NetError(missing_module_text(name)) from error
    except SyntaxError as error:
        hint = "modules in Python 2 are converted in commands and under `pycaffe_lite run script.py`, not in other programs"
        raise NetError(f"{error.filename}:{error.lineno}: {error.msg} ({hint})") from error


def load_types(module: str) -> None:
    """Imports a module that registers types, given by its dotted name or by the path of its .py file.

    Any error of its code becomes a `NetError` with the line that raised it.
    """
    try:
        if module.endswith(".py") or os.sep in module:
            _load_file(module)
        else:
            check_name(module, "--import")
            load(module)
    except CaffeError as error:
        error.where = error.where or f"--import {module}"
        raise
    except (Exception, SystemExit) as error:
        raise NetError(f"{_place(error)}: {type(error).__name__}: {error}", f"--import {module}") from error


def _load_file(path: str) -> None:
    """Imports a file under its name without the extension. Its folder is added to `sys.path`, for files beside it."""
    folder, file = os.path.split(os.path.abspath(path))
    name = file.removesuffix(".py")
    if not os.path.isfile(path):
        if os.path.isdir(path):
            raise NetError(f'expected a .py file or the dotted name of a module, received the folder "{path}"')
        beside = os.listdir(folder) if os.path.isdir(folder) else []
        raise NetError(f'there is no file "{path}"{did_you_mean(file, beside)}; relative paths start at {os.getcwd()}')
    loaded = sys.modules.get(name)
    if loaded is not None:
        if os.path.realpath(getattr(loaded, "__file__", None) or "") == os.path.realpath(path):
            return
        raise NetError(f'a module "{name}" is loaded already, {loaded}: give the file another name')
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise NetError(f'expected a .py file, received "{path}"')
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        with caffe_is_this_package():
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _place(error: BaseException) -> str:
    """File and line of the code that raised an error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}"


def check_name(name: str, what: str = "python_param.module") -> None:
    """Raises `NetError` unless this is a dotted name."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise NetError(f'expected the dotted name of a module in {what}, received "{name}"')


def find(name: str) -> ModuleSpec | None:
    """Finds a module without running its code or that of its packages. None if it is missing."""
    top, *rest = name.split(".")
    spec = _on_path(top) or _here(top)
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = _find_in(f"{spec.name}.{part}", spec.submodule_search_locations)
    return spec


def _on_path(top: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except ValueError:  # the module was made by hand and has no spec, as in tests
        return ModuleSpec(top, None)


def _here(top: str) -> ModuleSpec | None:
    return _find_in(top, [os.getcwd()])


def _find_in(name: str, folders: list[str]) -> ModuleSpec | None:
    """Asks all finders, since one may convert modules in Python 2."""
    specs = (finder.find_spec(name, folders, None) for finder in sys.meta_path)
    return next(filter(None, specs), None)


def missing_module_text(name: str) -> str:
    """The message for a missing module: the nearest name, and where Python looks."""
    hint = did_you_mean(name, _modules_beside(name))
    return f'there is no Python module "{name}"{hint}; Python looks in {_folders()}; set PYTHONPATH to add others'


def _folders() -> str:
    """The folders of `sys.path` that may hold users' modules."""
    dirs = [entry for entry in sys.path if entry and entry != FOLDER and not entry.startswith((sys.prefix, sys.base_prefix))]
    return ", ".join(dict.fromkeys([*dirs, os.getcwd()])) + " and its own folders"


def _modules_beside(name: str) -> Iterable[str]:
    """The other modules in the package of `name`; without a package, all that can be imported."""
    package, _, _ = name.rpartition(".")
    folders: Iterable[str] = [*sys.path, os.getcwd()]
    if package:
        package_spec = find(package)
        folders = (package_spec and package_spec.submodule_search_locations) or []
    return [module.name for module in pkgutil.iter_modules(list(folders), package and f"{package}.")]


def missing_name_text(spec: ModuleSpec, name: str) -> str:
    """The message if nothing in the text of a module, which is not run, defines `name`; else an empty string."""
    if spec.origin is None or not spec.origin.endswith(".py"):
        return ""
    try:
        tree = ast.parse(spec.loader.get_source(spec.name) or "")  # type: ignore[union-attr]  # converted, if in Python 2
    except ImportError:  # the file cannot be read
        return ""
    except (SyntaxError, ValueError) as error:
        return f"{spec.origin} is no Python of this version ({error})"
    classes = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    if name in classes or name in _bound(tree) or "*" in _bound(tree):
        return ""
    return f'the module "{spec.name}" has no class "{name}"{did_you_mean(name, classes)}'


def _bound(tree: ast.AST) -> set[str]:
    """The names that a module may define by other means than a class; "*" if its text does not show them."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef):
            names.add("*" if node.name == "__getattr__" else node.name)
        elif isinstance(node, ast.Name) and node.id in ("globals", "setattr", "exec", "vars"):
            names.add("*")
    return names


def of_another_caffe(cls: type) -> str:
    """The file of another caffe from which a class is derived; empty if there is none."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] == "caffe":
            with suppress(KeyError):
                return str(getattr(sys.modules[base.__module__], "__file__", None) or base.__module__)
            return base.__module__
    return ""
