"""Log lines in the shape of Caffe's glog, because people's log parsers read them.

    I1122 09:32:01.123456  4711 solver.py:218] Iteration 100 (250 iter/s, 0.4s/100 iters), loss = 0.0342

They go to stderr through the standard logger `pycaffe_lite`. `GLOG_minloglevel` hides what is less severe (0 info,
1 warning, 2 error, 3 fatal).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger("pycaffe_lite")

_SEVERITIES = [logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL]
_LETTERS = {logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "F"}


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        letter = _LETTERS.get(record.levelno, "I")
        time = f"{self.formatTime(record, '%m%d %H:%M:%S')}.{int(record.msecs * 1000):06d}"
        return f"{letter}{time} {threading.get_native_id():5d} {record.filename}:{record.lineno}] {record.getMessage()}"


class _Stderr(logging.Handler):
    """Writes to today's sys.stderr (tests and notebooks replace it), above a progress bar if one is shown.

    A terminal that was closed, or a pipe that nobody reads, is no reason to end a training run.
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
    """A full disk is none either."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Says nothing, where `logging` would print a traceback for every line."""

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def info(message: str) -> None:
    """Logs what a run tells of itself."""
    logger.info(message, stacklevel=2)


def warning(message: str) -> None:
    """Logs what a person should look at."""
    logger.warning(message, stacklevel=2)


def error(message: str) -> None:
    """Logs what went wrong."""
    logger.error(message, stacklevel=2)


def set_min_level(level: int) -> None:
    """Shows messages from this severity on: 0 info, 1 warning, 2 error, 3 fatal."""
    logger.setLevel(_SEVERITIES[min(max(level, 0), 3)])


def to_file(path: str | os.PathLike) -> logging.Handler:
    """Sends the log to a file as well, for as long as the returned handler is not removed from `logger` and closed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handler = _File(path)
    handler.setFormatter(_Formatter())
    logger.addHandler(handler)
    return handler


def quiet_stderr(quiet: bool = True) -> None:
    """Keeps everything below a warning off stderr (a progress bar is shown instead); files still get it."""
    _stderr.setLevel(logging.WARNING if quiet else logging.NOTSET)


_stderr = _Stderr()
_stderr.setFormatter(_Formatter())
logger.addHandler(_stderr)
logger.propagate = False
_level = os.environ.get("GLOG_minloglevel", "0")
set_min_level(int(_level) if _level.isdigit() else 0)
