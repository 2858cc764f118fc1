"""Flags in gflags' forms (`-solver x`, `--solver=x`, `--solver x`), and flags that several commands share."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any, NoReturn

from .. import glog
from ..device import cuda_problem
from ..errors import DeviceError, did_you_mean

_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


class Flags(argparse.ArgumentParser):
    """A parser whose flags may be written with one dash or two."""

    def __init__(self, command: str, description: str | None):
        super().__init__(
            prog=f"pycaffe_lite {command}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.truth("logtostderr", help="the log goes to stderr only, and no progress bar is shown")
        self.truth("alsologtostderr", help="the log goes to stderr besides files (default true); given, no bar is shown")
        help_text = "severity from which on --alsologtostderr=false shows messages (default 2)"
        self.flag("stderrthreshold", type=int, metavar="N", help=help_text)
        help_text = "show messages from this severity on: 0 info, 1 warning, 2 error"
        self.flag("minloglevel", type=int, metavar="N", help=help_text)
        self.flag("log_dir", metavar="FOLDER", help="folder of log files (default: none)")
        self.flag("v", type=int, help=argparse.SUPPRESS)
        self.add_argument("--traceback", action="store_true", help="show where in the program an error came up")

    def flag(self, name: str, **options: Any) -> None:
        """Adds `--name`, which may also be written `-name`."""
        self.add_argument(f"--{name}", dest=name, **options)

    def truth(self, name: str, **options: Any) -> None:
        """Adds a flag that is on, off or not given. As in gflags, a value must follow "=", and `--noname` means off."""
        self.flag(name, type=_truth, nargs="?", const=True, metavar="BOOL", **options)

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parses the flags and applies those of the log. For an unknown flag it suggests the nearest name and exits."""
        values, rest = self.parse_known_args([self._spelled(word) for word in argv])
        if rest:
            name = rest[0].lstrip("-").split("=")[0]
            names = [action.dest for action in self._actions]
            self.error(f'unknown {"flag" if rest[0].startswith("-") else "argument"} "{rest[0]}"{did_you_mean(name, names)}')
        glog.configure(**{field.name: getattr(values, field.name) for field in dataclasses.fields(glog.Settings)})
        import_types(values)
        return values

    def _spelled(self, word: str) -> str:
        """The word with two dashes if it is a flag. A flag without a value gets one, so that it takes no argument for it."""
        word = _two_dashes(word)
        switches = [action.dest for action in self._actions if action.type is _truth]
        if word.startswith("--") and word[2:] in switches:
            return f"{word}=true"
        if word.startswith("--no") and word[4:] in switches:
            return f"--{word[4:]}=false"
        return word

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n{self.prog} --help shows all flags.\n")


def _two_dashes(word: str) -> str:
    return f"-{word}" if word[:1] == "-" and word[1:2].isalpha() and word != "-h" else word


def _truth(text: str) -> bool:
    """Reads a value like gflags does for a flag that is on or off."""
    if text.lower() not in (*_TRUE, *_FALSE):
        raise argparse.ArgumentTypeError(f'expected true or false, received "{text}"')
    return text.lower() in _TRUE


def add_import_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--import`, for commands that use layers or solvers. `import_types` applies it."""
    help_text = "module with layer or solver types of your own: a dotted name, or a .py file; may be given several times"
    parser.add_argument("--import", action="append", default=[], metavar="MODULE", help=help_text)


def import_types(values: argparse.Namespace) -> None:
    """Imports the modules that `--import` names."""
    if given := getattr(values, "import", None):
        from ..own_types import import_types  # late, because it imports all kernels, which `--help` does not need

        import_types(given)


def add_state_flags(flags: Flags) -> None:
    """Adds `--level`, `--stage`, `--no-python-layers` and `--import`, which every command that builds a net takes."""
    flags.flag("level", type=int, default=0, metavar="N", help="level of the net's state (default 0)")
    flags.flag("stage", default="", metavar="NAMES", help="stages of the net's state, with commas")
    help_text = "refuse a net with Python layers, which run any code they name (or set PYCAFFE_LITE_NO_PYTHON_LAYERS=1)"
    flags.add_argument("--no-python-layers", action="store_true", help=help_text)
    add_import_flag(flags)


def stages(values: argparse.Namespace) -> list[str]:
    """The names given with `--stage`."""
    return [stage for stage in values.stage.split(",") if stage]


def refuse_gpu(values: argparse.Namespace) -> None:
    """Raises an error for `--gpu`, which says what to install."""
    if values.gpu:
        raise DeviceError(f"--gpu {values.gpu}: {cuda_problem()}")
