"""Flags of commands that take arguments as well: `convert_imageset -gray images/ list.txt images_lmdb`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from ._flags import Flags


class ArgumentFlags(Flags):
    """`Flags` that may come before, between or after arguments."""

    def switch(self, name: str, **options: Any) -> None:
        """Adds a flag that is on or off; off is the default."""
        self.truth(name, default=False, **options)

    def parse(self, argv: Sequence[str]) -> Any:
        """Parses the arguments, and applies the log flags as `Flags` does."""
        alone = {name for action in self._actions if action.nargs == 0 for name in action.option_strings}
        flags: list[str] = []
        arguments: list[str] = []
        words = map(self._spelled, argv)
        for word in words:
            if not word.startswith("-") or not word.strip("-"):
                arguments.append(word)
            else:
                flags += [word, *([] if "=" in word or word in alone else islice(words, 1))]
        return super().parse([*flags, *arguments])
