"""Log lines in the format of Caffe's glog, because log parsers expect it.

    I1122 09:32:01.123456  4711 solver.py:218] Iteration 100 (250 iter/s, 0.4s/100 iters), loss = 0.0342

They go through the standard logger `pycaffe_lite` to stderr and, if there is a `log_dir`, to files. glog's settings work as
in Caffe, as flags of commands (`-log_dir=logs`) or in the environment (`GLOG_log_dir=logs`): see `Settings`.
"""

from __future__ import annotations

import getpass
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

PROGRAM = "pycaffe_lite"  # log files have this name

logger = logging.getLogger(PROGRAM)

_SEVERITIES = {"INFO": logging.INFO, "WARNING": logging.WARNING, "ERROR": logging.ERROR, "FATAL": logging.CRITICAL}
_LETTERS = {level: name[0] for name, level in _SEVERITIES.items()}


@dataclass(frozen=True)
class Settings:
    """glog's flags. Severities are numbers: 0 info, 1 warning, 2 error, 3 fatal.

    - `minloglevel`: hides less severe messages everywhere.
    - `logtostderr`: the log goes to stderr only, even if there is a `log_dir`.
    - `alsologtostderr`: everything goes to stderr, besides files if there are any; on, as in Caffe's command.
    - `stderrthreshold`: the least severity that goes to stderr without these two flags.
    - `log_dir`: the folder of log files; empty for no files (glog's default is /tmp).
    """

    minloglevel: int = 0
    logtostderr: bool = False
    alsologtostderr: bool = True
    stderrthreshold: int = 2
    log_dir: str = ""


# ---- where it goes ------------------------------------------------------------------------------------------------


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        letter = _LETTERS.get(record.levelno, "I")
        time = f"{self.formatTime(record, '%m%d %H:%M:%S')}.{int(record.msecs * 1000):06d}"
        return f"{letter}{time} {threading.get_native_id():5d} {record.filename}:{record.lineno}] {record.getMessage()}"


class _Stderr(logging.Handler):
    """Writes to the current sys.stderr (tests and notebooks replace it), above a progress bar if one is shown.

    A closed terminal, or a pipe without a reader, does not end a training run.
    """

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        bars = sys.modules.get("tqdm")
        with suppress(OSError, ValueError):
            if bars is not None and sys.stderr.isatty():
                bars.tqdm.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr, flush=True)


class _File(logging.FileHandler):
    """A log file. A full disk does not end the program."""

    def __init__(self, path: str | os.PathLike, delay: bool = False):
        super().__init__(path, encoding="utf-8", delay=delay)
        self.setFormatter(_Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignores the error; `logging` would print a traceback for every line."""

    def close(self) -> None:
        with suppress(OSError):
            super().close()


class _SeverityFile(_File):
    """A glog file for one severity and above. It is created with its first line, and a link points to the newest file."""

    def __init__(self, folder: Path, severity: str):
        name = f"{PROGRAM}.{platform.node() or '(unknown)'}.{_user()}.log.{severity}"
        super().__init__(folder / f"{name}.{time.strftime('%Y%m%d-%H%M%S')}.{os.getpid()}", delay=True)
        self._link = folder / f"{PROGRAM}.{severity}"
        self.setLevel(_SEVERITIES[severity])

    def _open(self) -> Any:
        stream = super()._open()
        print(time.strftime("Log file created at: %Y/%m/%d %H:%M:%S"), file=stream)
        print(f"Running on machine: {platform.node()}", file=stream)
        print("Log line format: [IWEF]mmdd hh:mm:ss.uuuuuu threadid file:line] msg", file=stream)
        with suppress(OSError, NotImplementedError):
            self._link.unlink(missing_ok=True)
            self._link.symlink_to(os.path.basename(self.baseFilename))
        return stream


def _user() -> str:
    with suppress(KeyError, OSError, ImportError):  # the user of a container may have no name
        return getpass.getuser()
    return "invalid-user"


# ---- settings -----------------------------------------------------------------------------------------------------

_stderr = _Stderr()
_stderr.setFormatter(_Formatter())
_files: list[_SeverityFile] = []
_settings = Settings()
_quiet = False


def configure(**changes: Any) -> None:
    """Changes the given `Settings`, except those that are None. Raises `OSError` if `log_dir` cannot be written to."""
    _apply(replace(_settings, **{name: value for name, value in changes.items() if value is not None}))


@contextmanager
def kept_settings() -> Iterator[None]:
    """Restores the settings at the end of the block."""
    before = _settings
    try:
        yield
    finally:
        _apply(before)


def _apply(new_settings: Settings) -> None:
    global _settings
    folder = "" if new_settings.logtostderr else new_settings.log_dir
    if folder != _folder():
        _open_files(folder)
    _settings = new_settings
    logger.setLevel(_level(new_settings.minloglevel))
    _set_stderr_level()


def _set_stderr_level() -> None:
    shown = _settings.logtostderr or _settings.alsologtostderr
    least = logging.NOTSET if shown else _level(_settings.stderrthreshold)
    _stderr.setLevel(max(least, logging.WARNING) if _quiet else least)


def _folder() -> str:
    """The folder of the current log files, or an empty string."""
    return "" if _settings.logtostderr or not _files else _settings.log_dir


def _open_files(folder: str) -> None:
    files: list[_SeverityFile] = []
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"the log cannot be written to the folder {folder}")
        files = [_SeverityFile(Path(folder), severity) for severity in _SEVERITIES]
    for handler in _files:
        logger.removeHandler(handler)
        handler.close()
    for handler in files:
        logger.addHandler(handler)
    _files[:] = files


def _level(severity: int) -> int:
    return list(_SEVERITIES.values())[min(max(severity, 0), 3)]


def settings() -> Settings:
    """The current settings."""
    return _settings


def log_file() -> str | None:
    """The file in `log_dir` that receives all messages, if there is one."""
    return _files[0].baseFilename if _files else None


def set_min_level(level: int) -> None:
    """Shows messages from this severity on: 0 info, 1 warning, 2 error, 3 fatal."""
    configure(minloglevel=level)


def to_file(path: str | os.PathLike) -> logging.Handler:
    """Also sends the log to a file, until the returned handler is removed from `logger` and closed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handler = _File(path)
    logger.addHandler(handler)
    return handler


def quiet_stderr(quiet: bool = True) -> None:
    """Keeps messages below a warning off stderr, where a progress bar is shown instead; files still get them."""
    global _quiet
    _quiet = quiet
    _set_stderr_level()


# ---- the environment ----------------------------------------------------------------------------------------------

_seen: dict[str, str] = {}  # the variables as they were last read


def read_environment() -> None:
    """Applies the `GLOG_...` variables that are new or have changed: scripts set them before they import Caffe.

    A value that cannot be parsed is ignored. A folder that cannot be written to causes a warning.
    """
    variables = {field.name: os.environ.get(f"GLOG_{field.name}") for field in fields(Settings)}
    changed = {name: text for name, text in variables.items() if text is not None and text != _seen.get(name)}
    _seen.update(changed)
    changes = {name: _value(getattr(Settings, name), text) for name, text in changed.items()}
    try:
        configure(**changes)
    except OSError as problem:
        configure(**{**changes, "log_dir": None})
        warning(f"GLOG_log_dir: {problem}; there is no log file")


def _value(default: Any, text: str) -> Any:
    """The text of a variable as a value of the default's type."""
    if isinstance(default, bool):
        return text[:1] in ("", "t", "T", "y", "Y", "1")  # the same rule as in glog
    if isinstance(default, int):
        return int(text) if text.isdecimal() else None
    return text


# ---- lines --------------------------------------------------------------------------------------------------------


def info(message: str) -> None:
    """Logs a message about the run."""
    logger.info(message, stacklevel=2)


def warning(message: str) -> None:
    """Logs something that a person should look at."""
    logger.warning(message, stacklevel=2)


def error(message: str) -> None:
    """Logs an error."""
    logger.error(message, stacklevel=2)


logger.addHandler(_stderr)
logger.propagate = False
_apply(_settings)
read_environment()
