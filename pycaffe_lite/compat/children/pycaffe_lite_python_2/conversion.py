"""Makes Python 3 of Python 2: syntax by fissix (a kept fork of Python's own lib2to3), division by a change of the tree."""

from __future__ import annotations

import ast
import functools
import importlib.util
import io
import re
import threading
import warnings
from types import CodeType
from typing import Any

from .evidence import parse

# What has another syntax, and methods of objects. Other names have their old meaning at run time: see meaning.py.
_FIXES = (
    *("dict", "except", "exec", "funcattrs", "has_key", "metaclass", "methodattrs", "ne", "next", "nonzero"),
    *("numliterals", "paren", "print", "raise", "repr", "sys_exc", "throw", "tuple_params"),
)
_OPERATORS = {"__div__": "__truediv__", "__idiv__": "__itruediv__", "__rdiv__": "__rtruediv__"}
_NEW_KEYWORDS = ("async", "await", "nonlocal")
_OCTAL = re.compile(r"0+[1-7][0-7]*")
_STRING = re.compile(r"([A-Za-z]*)['\"]")
_ESCAPE = re.compile(r"\\.", re.DOTALL)  # of these \N, \U and \u had no meaning in a string of bytes
_OPEN = re.compile("never closed|unterminated")
_lock = threading.Lock()  # fissix keeps what it knows of a text in its fixers


def code_of(source: bytes, filename: str) -> CodeType:
    """The code of a file in Python 2, with the line numbers of the file.

    Raises SyntaxError for a text that neither Python 2 nor Python 3 takes, about the line up to which one of them took it.
    """
    try:
        text = importlib.util.decode_source(source)
        tree = Conversion().tree(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes and comparisons that were usual then
            return compile(tree, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as old:  # ValueError: null bytes, or bytes that are no text of the file's encoding
        raise _error(old, source, filename) from None


def code_of_expression(source: str) -> CodeType:
    """The code of one expression in Python 2. Raises SyntaxError."""
    source = source.strip(" \t")
    body = Conversion().tree(source).body
    if len(body) == 1 and isinstance(body[0], ast.Expr):
        return compile(ast.Expression(body[0].value), "<string>", "eval", dont_inherit=True)
    return compile(source, "<string>", "eval", dont_inherit=True)  # which says what is wrong


def text_of(source: bytes) -> str:
    """The text of a file in Python 2, in the syntax of Python 3. Raises SyntaxError or ValueError."""
    return Conversion().text(importlib.util.decode_source(source))


def _error(old: SyntaxError | ValueError, source: bytes, filename: str) -> SyntaxError:
    error = old if isinstance(old, SyntaxError) else SyntaxError(str(old))
    try:
        parse(source)
    except SyntaxError as new:  # Python knows best where a bracket was opened
        error = new if _OPEN.search(new.msg) else max(new, error, key=lambda error: error.lineno or 0)
    except ValueError:  # null bytes: said already
        pass
    error.filename = filename
    return error


class Conversion:
    """Converts one program: a file, or the cells of a notebook in their order. `from __future__` counts from there on."""

    def __init__(self) -> None:
        self._prints = True  # `print` is a statement
        self._floors = True  # the quotient of integers is an integer

    def text(self, source: str) -> str:
        """The text in Python 3. Raises SyntaxError."""
        return str(self._tree_of_fissix(source))

    def tree(self, source: str) -> ast.Module:
        """The syntax tree in Python 3, with the line numbers of `source`. Raises SyntaxError."""
        converted = self._tree_of_fissix(source)
        lines = _old_lines(converted)
        try:
            tree = parse(str(converted))
        except SyntaxError as error:
            error.lineno = lines[min((error.lineno or 1) - 1, len(lines) - 1)]
            raise
        for node in ast.walk(self.visit(tree)):
            if hasattr(node, "lineno"):
                node.lineno = node.end_lineno = lines[node.lineno - 1]  # type: ignore[attr-defined]
                node.col_offset = node.end_col_offset = -1  # type: ignore[attr-defined]  # unknown: other columns
        return tree

    def visit(self, tree: ast.Module) -> ast.Module:
        """Gives the division of a tree in Python 3 the meaning that it had. (Named as IPython calls it.)"""
        self._floors &= not _imports_from_future(tree, "division")
        return ast.fix_missing_locations(_Division().visit(tree)) if self._floors else tree

    def _tree_of_fissix(self, source: str) -> Any:
        source = with_spaces(source if source.endswith("\n") else source + "\n")
        try:
            tree = _converted(source, self._prints)
            self._prints &= "print_function" not in tree.future_features
            return tree
        except SyntaxError as error:
            if not self._prints:
                raise
            try:  # print(x, file=y), as some files of Python 3 have it that are of Python 2 elsewhere
                return _converted(source, False)
            except SyntaxError as other:
                raise max(error, other, key=lambda error: error.lineno or 0) from None


def _converted(source: str, prints: bool) -> Any:
    """fissix's tree of a text, converted."""
    from fissix.pgen2.parse import ParseError
    from fissix.pgen2.tokenize import TokenError

    try:
        with _lock:
            tree = _tool(prints).refactor_string(source, "")
    except ParseError as error:
        line, column = error.context[1]
        near = str(error.value).strip()
        raise SyntaxError("invalid syntax" + (f' at "{near}"' if near else ""), ("", line, column + 1, None)) from None
    except TokenError as error:
        message, (line, column) = error.args
        raise SyntaxError(message, ("", line, column, None)) from None
    for leaf in tree.leaves():
        leaf.value = _token(str(leaf.value), "unicode_literals" in tree.future_features)
    return tree


def _token(text: str, is_unicode: bool) -> str:
    """A name, number or string that fissix leaves as it is, but Python 3 takes for something else."""
    if text in _NEW_KEYWORDS:
        return f"{text}_"
    if _OCTAL.fullmatch(text):
        return "0o" + text.lstrip("0")
    string = _STRING.match(text)
    if string is None:
        return text
    prefix = string[1].lower()
    if prefix == "ur":
        return text[1:]
    if prefix or is_unicode:
        return text
    return _ESCAPE.sub(lambda escape: "\\" + escape[0] if escape[0][1] in "NUu" else escape[0], text)


@functools.cache
def _tool(prints: bool) -> Any:
    from fissix.pgen2 import driver, pgen

    # fissix would write its grammar into the user's cache folder as a pickle. To make it anew takes 30 ms.
    before = driver.load_packaged_grammar
    driver.load_packaged_grammar = lambda package, source: pgen.generate_grammar(source)
    try:
        from fissix.refactor import RefactoringTool
    finally:
        driver.load_packaged_grammar = before
    return RefactoringTool([f"fissix.fixes.fix_{name}" for name in _FIXES], {"print_function": not prints})


def with_spaces(source: str) -> str:
    """Replaces tabs in indentations, which Python 2 took for spaces up to the next multiple of 8.

    What is no Python, such as a cell in another language, is returned as it is.
    """
    if "\t" not in source or source.startswith("%%"):
        return source
    from fissix.pgen2 import tokenize

    lines = source.splitlines(keepends=True)
    inside: set[int] = set()  # lines that begin within a string
    try:
        for kind, _, (first, _), (last, _), _ in tokenize.generate_tokens(io.StringIO(source).readline):
            if kind == tokenize.STRING:
                inside.update(range(first + 1, last + 1))
    except (tokenize.TokenError, IndentationError):
        return source  # the parser will say what is wrong
    for i, line in enumerate(lines):
        if i + 1 not in inside:
            code = line.lstrip(" \t")
            lines[i] = line[: len(line) - len(code)].expandtabs(8) + code
    return "".join(lines)


def _old_lines(tree: Any) -> list[int]:
    """For each line of a text that fissix converted, the line it was. New tokens have no number."""
    lines = [0]
    for leaf in tree.leaves():
        for part, number in ((leaf.prefix, 0), (leaf.value, leaf.lineno)):
            lines[-1] = lines[-1] or (number if part.strip() else 0)
            lines += [number and number + i + 1 if part.strip() else 0 for i in range(part.count("\n"))]
    old, known = 1, []
    for line in lines:
        old = max(old, line)
        known.append(old)
    return known


def _imports_from_future(tree: ast.Module, feature: str) -> bool:
    imports = (node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__")
    return any(alias.name == feature for node in imports for alias in node.names)


class _Division(ast.NodeTransformer):
    """`a / b` asks at run time whether both are integers (see meaning.py), unless one is a number with a point."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Div) or _is_float(node.left) or _is_float(node.right):
            return node
        return ast.copy_location(_call("__divide__", node.left, node.right), node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AugAssign:
        self.generic_visit(node)
        if isinstance(node.op, ast.Div) and not _is_float(node.value):
            node.value = ast.copy_location(_call("__divisor__", node.value), node.value)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.name = _OPERATORS.get(node.name, node.name)
        self.generic_visit(node)
        return node


def _is_float(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, float)


def _call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(args), [])
