"""Flags of commands that take arguments as well: `convert_imageset -gray images/ list.txt images_lmdb`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from ._flags import Flags, _truth


class ArgumentFlags(Flags):
    """`Flags` between, before or behind arguments.

    As in gflags a switch takes a value only behind "=", so that in `--gray images/` the folder is an argument, and
    `--nogray` turns it off.
    """

    def switch(self, name: str, **options: Any) -> None:
        """Adds a flag that is on or off (the default)."""
        self.flag(name, type=_truth, nargs="?", const=True, default=False, metavar="BOOL", **options)

    def parse(self, argv: Sequence[str]) -> Any:
        """Parses and obeys the flags of the log, as `Flags` does."""
        switches = {action.dest for action in self._actions if action.type is _truth}
        alone = {name.lstrip("-") for action in self._actions if action.nargs == 0 for name in action.option_strings}
        flags: list[str] = []
        arguments: list[str] = []
        words = iter(argv)
        for word in words:
            name, equals, _ = word.lstrip("-").partition("=")
            if not word.startswith("-") or not name:
                arguments.append(word)
            elif name in switches and not equals:
                flags.append(f"--{name}=true")
            elif name.startswith("no") and name[2:] in switches:
                flags.append(f"--{name[2:]}=false")
            else:
                flags += [word, *([] if equals or name in alone else islice(words, 1))]
        return super().parse([*flags, *arguments])
