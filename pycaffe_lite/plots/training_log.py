"""Reads a training log of this package or of Caffe: losses, outputs of the nets and learning rates by iteration.

    I1122 09:32:01.123456  4711 solver.py:218] Iteration 100 (250.1 iter/s, 0.4s/100 iters), loss = 0.0342
    I1122 09:32:01.123456  4711 solver.py:237]     Train net output #0: loss = 0.03 (* 1 = 0.03 loss)
    I1122 09:32:01.123456  4711 rules.py:105] Iteration 100, lr = 0.0099
    I1122 09:32:03.123456  4711 solver.py:330] Iteration 500, Testing net (#0)
    I1122 09:32:04.123456  4711 solver.py:397]     Test net output #0: loss = 0.0211 (* 1 = 0.0211 loss)

Lines without the stamp in front are read too, but have no seconds. Caffe's own reader of such logs is
tools/extra/parse_log.py.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta

_STAMP = re.compile(r"[IWEF](\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{1,6})")
_ITERATION = re.compile(r"Iteration (\d+)")
_LOSS = re.compile(r"Iteration \d+.*, loss = (\S+)")
_RATE = re.compile(r"Iteration \d+, lr = (\S+)")
_TESTING = re.compile(r"Iteration \d+, Testing net \(#(\d+)\)")
_OUTPUT = re.compile(r"(Train|Test) net output #\d+: (\S+) = (\S+)( \(\* )?")


@dataclass
class TrainRow:
    """One display of the training net. `seconds` since the start of solving (None without stamps). `loss` is the one that
    the solver shows, averaged over `average_loss` iterations. Values that the log does not give are NaN."""

    iteration: int
    seconds: float | None
    loss: float = math.nan
    learning_rate: float = math.nan
    outputs: dict[str, float] = field(default_factory=dict)


@dataclass
class TestRow:
    """One test of test net number `net`: the means of its outputs."""

    iteration: int
    seconds: float | None
    net: int = 0
    outputs: dict[str, float] = field(default_factory=dict)


@dataclass
class TrainingLog:
    """Rows in the order of the log. `losses`: names of the outputs that are part of the loss according to the log."""

    train: list[TrainRow] = field(default_factory=list)
    test: list[TestRow] = field(default_factory=list)
    losses: set[str] = field(default_factory=set)


def parse(text: str) -> TrainingLog:
    """The log in `text`. Other lines, and incomplete ones, are skipped; an empty log is not an error."""
    log = TrainingLog()
    clock = Clock()
    row: TrainRow | TestRow | None = None
    for line in text.splitlines():
        clock.see(line)
        if match := _TESTING.search(line):
            row = TestRow(_iteration(line), clock.seconds, int(match[1]))
            log.test.append(row)
        elif match := _LOSS.search(line):
            row = TrainRow(_iteration(line), clock.seconds, loss=_number(match[1]))
            log.train.append(row)
        elif match := _RATE.search(line):
            _row_of_rate(log, line, clock).learning_rate = _number(match[1])
        elif (match := _OUTPUT.search(line)) and isinstance(row, TrainRow if match[1] == "Train" else TestRow):
            row.outputs[match[2]] = _number(match[3])
            if match[4]:
                log.losses.add(match[2])
    return log


def _row_of_rate(log: TrainingLog, line: str, clock: Clock) -> TrainRow:
    """The row for a learning rate, which follows the loss of its iteration; a new row if that line is missing."""
    iteration = _iteration(line)
    if not log.train or log.train[-1].iteration != iteration:
        log.train.append(TrainRow(iteration, clock.seconds))
    return log.train[-1]


def _iteration(line: str) -> int:
    match = _ITERATION.search(line)
    return int(match[1]) if match else 0


def _number(text: str) -> float:
    try:
        return float(text.rstrip(","))
    except ValueError:
        return math.nan


class Clock:
    """Seconds since the line that says "Solving", or since the first stamp. Stamps have no year: if they jump back by
    months, a new year has begun."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        self._start: datetime | None = None
        self._now: datetime | None = None
        self._solving = False

    def see(self, line: str) -> None:
        now = _stamp(line)
        if now is None:
            return
        while self._now and self._now - now > timedelta(days=180):
            now += timedelta(days=366)  # a year of 2000, a leap year, which all stamps are parsed as
        self._now = now
        solving = "] Solving" in line and not self._solving
        if self._start is None or solving:
            self._start = now
            self._solving = solving
        self.seconds = (now - self._start).total_seconds()


def _stamp(line: str) -> datetime | None:
    match = _STAMP.match(line)
    if not match:
        return None
    month, day, hour, minute, second = (int(part) for part in match.groups()[:5])
    try:
        return datetime(2000, month, day, hour, minute, second, int(match[6].ljust(6, "0")))
    except ValueError:
        return None
