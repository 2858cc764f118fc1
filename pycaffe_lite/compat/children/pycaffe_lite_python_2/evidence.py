"""Says why a text is Python 2. What runs in Python 3 is not, even if it was written for both."""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from importlib.machinery import PathFinder

BUILTINS = {
    *("apply", "basestring", "buffer", "cmp", "execfile", "file", "intern", "long", "raw_input", "reduce", "reload"),
    *("unichr", "unicode", "xrange", "StandardError"),
}
_ATTRIBUTES = {  # of modules
    "itertools": {"ifilter", "ifilterfalse", "imap", "izip", "izip_longest"},
    "os": {"getcwdu"},
    "string": {"join", "letters", "lowercase", "maketrans", "uppercase"},
    "sys": {"maxint", "setdefaultencoding"},
    "types": {"DictType", "IntType", "ListType", "StringType", "StringTypes", "UnicodeType"},
    "urllib": {"quote", "quote_plus", "unquote", "urlencode", "urlopen", "urlretrieve"},
}
_METHODS = {"has_key": 1, "iteritems": 0, "iterkeys": 0, "itervalues": 0}  # of dicts: numbers of arguments
_LISTS = {"filter", "map", "zip"}  # functions that returned lists
_OTHER_KEYS = {
    "email",
    "http",
    "pandas",
    "sqlite3",
}  # classes there have such methods, and keys() that are lists
_CATCHES = re.compile(r"NameError|ImportError|ModuleNotFoundError|AttributeError|Exception")
_BOTH = re.compile(r"version_info|hexversion|PY2|PY3")  # names in files that were written for both
_ASKS = re.compile(r"version|python_?[23]|hasattr", re.IGNORECASE)  # names in conditions
_ONLY_THEN = ("__coerce__", "__hex__", "__long__", "__unicode__")  # methods that Python 3 never calls


def why_python_2(source: bytes | str) -> str | None:
    """A line of a text and what in it only Python 2 takes; None if Python 3 can run the text.

    A text that neither takes counts as Python 2: its conversion will say what is wrong with it.
    """
    try:
        return why_tree_is_python_2(parse(source))
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except ValueError as error:  # null bytes, up to Python 3.11
        return str(error)


def parse(source: bytes | str) -> ast.Module:
    """The tree of a text, without warnings about its escapes, which Python gives when it loads the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def why_tree_is_python_2(tree: ast.Module) -> str | None:
    """A line that Python 3 can parse, but that must fail when it runs, since the program provides for no other case."""
    bound, modules = set(_bound(tree)), _modules(tree)
    if any(map(_BOTH.fullmatch, _names(tree))):
        return None
    for node in _unguarded(tree):
        name = _removed(node, bound) or _removed_attribute(node, modules)
        if name is not None:
            return f"line {getattr(node, 'lineno', 1)}: {name}"
    return None


def _bound(tree: ast.AST) -> Iterator[str]:
    """All names that a program gives to something, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]


def _modules(tree: ast.AST) -> set[str]:
    """The names that are modules of those names, and nothing else in the program."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    imported = [alias for node in imports for alias in node.names]
    names = {alias.name for alias in imported if not alias.asname}
    times = Counter(_bound(tree))
    return {name for name in names if times[name] == sum(alias.name.partition(".")[0] == name for alias in imported)}


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            yield node.id if isinstance(node, ast.Name) else node.attr


def _unguarded(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes outside of `try` that catches a missing name, and outside of what depends on the version of Python."""
    todo = deque([tree])
    while todo:
        node = todo.popleft()
        yield node
        if isinstance(node, ast.Try) and any(_catches(handler) for handler in node.handlers):
            todo.extend([*node.orelse, *node.finalbody])
        elif not _may_be_skipped(node):
            todo.extend(ast.iter_child_nodes(node))


def _may_be_skipped(node: ast.AST) -> bool:
    """Whether Python 3 may never come to what is in a node."""
    if isinstance(node, ast.FunctionDef):
        return node.name in _ONLY_THEN
    return isinstance(node, ast.If | ast.IfExp | ast.BoolOp) and bool(_ASKS.search(ast.unparse(getattr(node, "test", node))))


def _catches(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or bool(_CATCHES.search(ast.unparse(handler.type)))


def _removed(node: ast.AST, bound: set[str]) -> str | None:
    """What a node uses and Python 3 lacks."""
    if isinstance(node, ast.Name):
        return node.id if node.id in BUILTINS - bound else None
    if isinstance(node, ast.Import):
        return next((alias.name for alias in node.names if _is_removed_module(alias.name)), None)
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names = {alias.name for alias in node.names} & _ATTRIBUTES.get(node.module, set())
        return node.module if names or _is_removed_module(node.module) else None
    if isinstance(node, ast.Call):
        return _removed_call(node, bound)
    if isinstance(node, ast.Subscript) and (_is_list(node.value, bound) or _is_keys(node.value, bound)):
        return ast.unparse(node)
    return None


def _removed_attribute(node: ast.AST, modules: set[str]) -> str | None:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
        return ast.unparse(node) if node.attr in _ATTRIBUTES.get(node.value.id, set()) else None
    return None


def _is_removed_module(name: str) -> bool:
    from .meaning import MODULES

    top = name.partition(".")[0]
    return top in MODULES and PathFinder.find_spec(top) is None


def _removed_call(node: ast.Call, bound: set[str]) -> str | None:
    function = node.func
    if isinstance(function, ast.Name) and function.id == "len" and len(node.args) == 1 and _is_list(node.args[0], bound):
        return ast.unparse(node)
    if not isinstance(function, ast.Attribute) or function.attr in bound or bound & _OTHER_KEYS:
        return None
    counts = _METHODS.get(function.attr) == len(node.args) and not node.keywords
    return f".{function.attr}" if counts and ast.unparse(function.value) != "six" else None


def _is_list(node: ast.AST, bound: set[str]) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _LISTS - bound


def _is_keys(node: ast.AST, bound: set[str]) -> bool:
    """Whether a node is `x.keys()` or the like, of an `x` that is likely a dict."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.args or node.keywords:
        return False
    return node.func.attr in {"items", "keys", "values"} - bound and not bound & _OTHER_KEYS
