"""Flags as gflags takes them (`-solver x`, `--solver=x`, `--solver x`), and what several commands do with them."""

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
        what = "severity from which on --alsologtostderr=false shows messages (default 2)"
        self.flag("stderrthreshold", type=int, metavar="N", help=what)
        what = "show messages from this severity on: 0 info, 1 warning, 2 error"
        self.flag("minloglevel", type=int, metavar="N", help=what)
        self.flag("log_dir", metavar="FOLDER", help="folder of log files (default: none)")
        self.flag("v", type=int, help=argparse.SUPPRESS)
        self.add_argument("--traceback", action="store_true", help="show where in the program an error came up")

    def flag(self, name: str, **options: Any) -> None:
        """Adds `--name`, which may be written `-name`."""
        self.add_argument(f"--{name}", dest=name, **options)

    def truth(self, name: str, **options: Any) -> None:
        """Adds a flag that is on, off or not given; as in gflags a value stands only behind "=", and `--noname` is off."""
        self.flag(name, type=_truth, nargs="?", const=True, metavar="BOOL", **options)

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parses and obeys the flags of the log. An unknown flag ends the program with the nearest right one."""
        values, rest = self.parse_known_args([self._spelled(word) for word in argv])
        if rest:
            name = rest[0].lstrip("-").split("=")[0]
            known = [action.dest for action in self._actions]
            self.error(f'unknown {"flag" if rest[0].startswith("-") else "argument"} "{rest[0]}"{did_you_mean(name, known)}')
        glog.configure(**{field.name: getattr(values, field.name) for field in dataclasses.fields(glog.Settings)})
        import_types(values)
        return values

    def _spelled(self, word: str) -> str:
        """A flag with two dashes; one of truth with its value, so that it does not take an argument for it."""
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
    """What gflags takes for a flag that is on or off."""
    if text.lower() not in (*_TRUE, *_FALSE):
        raise argparse.ArgumentTypeError(f'expected true or false, received "{text}"')
    return text.lower() in _TRUE


def add_import_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--import`, for commands that meet layers or solvers. `import_types` obeys it."""
    what = "module with layer or solver types of your own: a dotted name, or a .py file; may be given several times"
    parser.add_argument("--import", action="append", default=[], metavar="MODULE", help=what)


def import_types(values: argparse.Namespace) -> None:
    """Imports the modules that `--import` names."""
    if given := getattr(values, "import", None):
        from ..own_types import import_types  # late: it brings all kernels, which `--help` does not need

        import_types(given)


def add_state_flags(flags: Flags) -> None:
    """Adds `--level`, `--stage`, `--no-python-layers` and `--import`, which every command that builds a net takes."""
    flags.flag("level", type=int, default=0, metavar="N", help="level of the net's state (default 0)")
    flags.flag("stage", default="", metavar="NAMES", help="stages of the net's state, with commas")
    what = "refuse a net with Python layers, which run any code they name (or set PYCAFFE_LITE_NO_PYTHON_LAYERS=1)"
    flags.add_argument("--no-python-layers", action="store_true", help=what)
    add_import_flag(flags)


def stages(values: argparse.Namespace) -> list[str]:
    """The names that `--stage` gives."""
    return [stage for stage in values.stage.split(",") if stage]


def refuse_gpu(values: argparse.Namespace) -> None:
    """`--gpu` asks for what is not there: an error that says what to install."""
    if values.gpu:
        raise DeviceError(f"--gpu {values.gpu}: {cuda_problem()}")
