"""The tokens of prototxt. Reading them takes linear time, whatever the text."""

from __future__ import annotations

import re
from typing import cast

CLOSING = {"{": "}", "<": ">"}  # the braces of a message
_LONG_LINE = 1000

# One of the alternatives always matches, so reading takes linear time. Only single characters are repeated without limit,
# because `re` keeps a hundred bytes for each repetition of a group. A `number` is any run that begins like a number, even
# with too many exponents. A `string` is only its quote. An `other` is a brace, a separator or the start of an error.
_TOKEN = re.compile(
    r"""[ \t\n\v\f\r]*
    (?: (?P<name> [A-Za-z_][A-Za-z0-9_]* )
      | (?P<number> \.?[0-9] [A-Za-z0-9_.]* (?: (?<=[eE])[+-] [A-Za-z0-9_.]* ){0,2} )
      | (?P<string> ["'] )
      | (?P<comment> \#[^\n]* )
      | (?P<end> \Z )
      | (?P<other> [\s\S] )
    )""",
    re.VERBOSE,
)


def token_from(text: str, at: int) -> tuple[str, int, int]:
    """The next token from an offset on: its kind (see `_TOKEN`, without comments), its start and its end."""
    while True:
        match = cast("re.Match[str]", _TOKEN.match(text, at))
        kind = cast(str, match.lastgroup)
        start, at = match.span(kind)
        if kind == "string":
            end = _end_of_string(text, start)
            return ("string", start, end) if end else ("other", start, at)
        if kind != "comment":
            return kind, start, at


def _end_of_string(text: str, start: int) -> int:
    """The end of the string whose quote is at `start`, or 0 if its line has no closing quote."""
    before = start
    while (end := text.find(text[start], before + 1)) >= 0 and text.find("\n", before, end) < 0:
        backslashes = 0
        while text[end - 1 - backslashes] == "\\":
            backslashes += 1
        if backslashes % 2 == 0:
            return end + 1
        before = end
    return 0


def end_of_line(text: str, at: int) -> int:
    """The offset of the end of a line: where reading goes on after a string without a closing quote."""
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def quote_is_missing(text: str, at: int) -> bool:
    """Whether a string in the rest of a line has no closing quote, as when one is missing before. Not for long lines."""
    rest, kind, end = text[at : end_of_line(text, at)], "", 0
    while kind != "end" and len(rest) < _LONG_LINE:
        kind, start, end = token_from(rest, end)
        if rest[start:end] in ('"', "'"):
            return True
    return False


def count_unclosed(text: str) -> int:
    """How many more braces are opened than closed; negative if more are closed."""
    count, kind, end = 0, "", 0
    while kind != "end":
        kind, start, end = token_from(text, end)
        token = text[start:end]
        if token in CLOSING:
            count += 1
        elif token in CLOSING.values():
            count -= 1
        elif token in ('"', "'"):
            end = end_of_line(text, start)
    return count
