"""Measures how long the layers of a net take in training, like `--timing` of Caffe's python/train.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import glog
from ..solver import Solver

KINDS = ("forw", "back", "updt")


class LayerTimes:
    """Measures forward, backward and update of each layer of a solver's train net, and logs the times at every display.

    The times are milliseconds per iteration, averaged since the last display.
    """

    def __init__(self, solver: Solver):
        self._net = net = solver.net
        self._display = solver.param.display
        self._ms = {kind: np.zeros(len(net.nodes)) for kind in KINDS}
        self._iterations, self._begin = 0, 0.0
        net.before_forward(self._start)
        net.after_forward(lambda layer: self._stop("forw", layer))
        net.before_backward(self._start)
        net.after_backward(lambda layer: self._stop("back", layer))
        indices = {id(node): i for i, node in enumerate(net.nodes)}
        owners = {id(param.blob): indices[id(param.node)] for param in net.all_params if param.owner is None}
        solver.update_each = True
        setattr(solver, "update", self._timed(solver.update, owners))  # noqa: B010  mypy knows it as a method
        solver.watchers.append(self._show)

    def _start(self, layer: int) -> None:
        self._begin = time.perf_counter()

    def _stop(self, kind: str, layer: int) -> None:
        self._ms[kind][layer] += 1000 * (time.perf_counter() - self._begin)

    def _timed(self, update: Callable[..., None], owners: dict[int, int]) -> Callable[..., None]:
        def timed(blob: Any, *rest: Any) -> None:
            self._start(owners[id(blob)])
            update(blob, *rest)
            self._stop("updt", owners[id(blob)])

        return timed

    def _show(self, solver: Solver) -> None:
        self._iterations += 1
        if (solver.iter - 1) % self._display:  # the solver has already counted the iteration that it displayed
            return
        for kind, times in self._ms.items():
            order = range(len(times)) if kind == "forw" else reversed(range(len(times)))
            for i in order:
                if kind != "updt" or self._net.nodes[i].layer.blobs:
                    glog.info(f"{kind} {i:3d} {self._net.nodes[i].name:>8} : {times[i] / self._iterations:.2f}")
        total = sum(times.sum() for times in self._ms.values())
        glog.info(f"solver total: {total / self._iterations:.2f}")
        for times in self._ms.values():
            times[:] = 0
        self._iterations = 0
