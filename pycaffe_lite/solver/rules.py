"""The update rules. Each runs as one pass over a parameter: normalise, regularise, compute the update, apply it.

`w` is the parameter, `g` its gradient, `rate` the learning rate times the parameter's lr_mult. The update that is subtracted
from `w` is left in the gradient, as in Caffe (src/caffe/solvers/*.cpp).
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from ..blob import Blob
from ..device import elementwise, inlined
from ..errors import SolverError
from .solver import Solver, at_once, register


@inlined
def gradient(w, g, scale, l2, l1):
    """The gradient of the mean loss plus that of the regularisation."""
    return scale * g + l2 * w + l1 * np.sign(w)


@elementwise
def sgd_update(w, g, velocity, *, rate, scale, l2, l1, momentum):
    update = momentum * velocity + rate * gradient(w, g, scale, l2, l1)
    return w - update, update, update


@register("SGD")
class SGDSolver(Solver):
    """v = momentum v + rate g; w -= v.

    The base of all rules. A subclass defines `rule`, an elementwise operation on `w`, `g` and its history sets that returns
    their new values in this order. Its `fields` are the fields of the solver file that `rule` takes besides `rate`,
    `scale`, `l2` and `l1`.
    """

    rule = sgd_update
    fields: ClassVar[tuple[str, ...]] = ("momentum",)

    @at_once
    def update(self, blob: Blob, history: list[Blob], rate: float, scale: float, l2: float, l1: float) -> None:
        arrays = (blob.data_inout, blob.diff_inout, *(past.data_inout for past in history))
        constants = {name: getattr(self.param, name) for name in self.fields}
        self.rule(*arrays, out=arrays, rate=rate, scale=scale, l2=l2, l1=l1, **constants)


@elementwise
def nesterov_update(w, g, velocity, *, rate, scale, l2, l1, momentum):
    new = momentum * velocity + rate * gradient(w, g, scale, l2, l1)
    update = new + momentum * (new - velocity)
    return w - update, update, new


@register("Nesterov")
class NesterovSolver(SGDSolver):
    """v' = momentum v + rate g; w -= (1 + momentum) v' - momentum v.   Nesterov, 1983."""

    rule = nesterov_update


@elementwise
def adagrad_update(w, g, squares, *, rate, scale, l2, l1, delta):
    step = gradient(w, g, scale, l2, l1)
    sum_of_squares = squares + step * step
    update = rate * step / (np.sqrt(sum_of_squares) + delta)
    return w - update, update, sum_of_squares


@register("AdaGrad")
class AdaGradSolver(SGDSolver):
    """h += g^2; w -= rate g / (sqrt(h) + delta).   Duchi, Hazan and Singer, 2011."""

    rule = adagrad_update
    fields = ("delta",)

    def check(self) -> None:
        _refuse_momentum(self)


@elementwise
def rmsprop_update(w, g, squares, *, rate, scale, l2, l1, rms_decay, delta, one=1):
    step = gradient(w, g, scale, l2, l1)
    mean_square = rms_decay * squares + (one - rms_decay) * step * step
    update = rate * step / (np.sqrt(mean_square) + delta)
    return w - update, update, mean_square


@register("RMSProp")
class RMSPropSolver(SGDSolver):
    """h = rms_decay h + (1 - rms_decay) g^2; w -= rate g / (sqrt(h) + delta).   Tieleman and Hinton, 2012."""

    rule = rmsprop_update
    fields = ("rms_decay", "delta")

    def check(self) -> None:
        _refuse_momentum(self)
        if not 0 <= self.param.rms_decay < 1:
            message = f"rms_decay is at least 0 and less than 1, received {self.param.rms_decay:g}"
            raise SolverError(message, field="rms_decay")


@elementwise
def adadelta_update(w, g, squares, updates, *, rate, scale, l2, l1, momentum, delta, one=1):
    step = gradient(w, g, scale, l2, l1)
    mean_square = momentum * squares + (one - momentum) * step * step
    step *= np.sqrt((updates + delta) / (mean_square + delta))
    mean_update = momentum * updates + (one - momentum) * step * step
    return w - rate * step, rate * step, mean_square, mean_update


@register("AdaDelta")
class AdaDeltaSolver(SGDSolver):
    """h = momentum h + (1 - momentum) g^2; s = g sqrt((u + delta) / (h + delta)); u the same of s^2; w -= rate s.

    Zeiler, ADADELTA: an adaptive learning rate method, 2012.
    """

    history_sets = 2
    rule = adadelta_update
    fields = ("momentum", "delta")


@elementwise
def adam_update(w, g, means, squares, *, rate, scale, l2, l1, momentum, momentum2, delta, one=1):
    step = gradient(w, g, scale, l2, l1)
    mean = momentum * means + (one - momentum) * step
    mean_square = momentum2 * squares + (one - momentum2) * step * step
    update = rate * mean / (np.sqrt(mean_square) + delta)
    return w - update, update, mean, mean_square


@register("Adam")
class AdamSolver(SGDSolver):
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + delta).

    b1 is `momentum`, b2 is `momentum2`, t counts from 1.   Kingma and Ba, 2015.
    """

    history_sets = 2
    rule = adam_update
    fields = ("momentum", "momentum2", "delta")

    def check(self) -> None:
        wrong = next((name for name in ("momentum", "momentum2") if not 0 <= getattr(self.param, name) < 1), "")
        if wrong:
            received = f"{self.param.momentum:g} and {self.param.momentum2:g}"
            raise SolverError(f"momentum and momentum2 are at least 0 and less than 1, received {received}", field=wrong)

    @at_once
    def update(self, blob: Blob, history: list[Blob], rate: float, scale: float, l2: float, l1: float) -> None:
        t = self.iter + 1
        correction = math.sqrt(1 - self.param.momentum2**t) / (1 - self.param.momentum**t)
        super().update(blob, history, rate * correction, scale, l2, l1)


def _refuse_momentum(solver: Solver) -> None:
    if solver.param.momentum:
        raise SolverError(f"{solver.param.type} takes no momentum, received {solver.param.momentum:g}", field="momentum")
