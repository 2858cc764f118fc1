"""The update rules. Each runs as one pass over a parameter: normalise, regularise, compute the update, apply it.

`w` is the parameter, `g` its gradient, `rate` the learning rate times the parameter's lr_mult. The update that is
subtracted from `w` stays behind in the gradient, as in Caffe (src/caffe/solvers/*.cpp).
"""

from __future__ import annotations

import math

import numpy as np

from ..blob import Blob
from ..device import function, kernel, prange
from ..errors import SolverError
from .solver import Solver, register


@function
def gradient(w, g, scale, l2, l1):
    """The gradient of the mean loss and of the regularisation."""
    return scale * g + l2 * w + l1 * np.sign(w)


@kernel
def sgd_update(w, g, velocity, rate, scale, l2, l1, momentum):
    for i in prange(w.size):
        update = momentum * velocity[i] + rate * gradient(w[i], g[i], scale, l2, l1)
        velocity[i] = update
        g[i] = update
        w[i] -= update


@register("SGD")
class SGDSolver(Solver):
    """v = momentum v + rate g; w -= v.

    The base of all rules: a subclass brings a kernel of `w`, `g`, its history sets, `rate`, `scale`, `l2`, `l1` and
    `constants()`.
    """

    kernel = sgd_update

    def constants(self) -> tuple[float, ...]:
        """What else the kernel takes."""
        return (self.param.momentum,)

    def update(self, blob: Blob, history: list[Blob], rate: float, scale: float, l2: float, l1: float) -> None:
        real = blob.dtype.type
        arrays = [blob.data_inout, blob.diff_inout, *(past.data_inout for past in history)]
        self.kernel(*(array.reshape(-1) for array in arrays), *map(real, (rate, scale, l2, l1, *self.constants())))


@kernel
def nesterov_update(w, g, velocity, rate, scale, l2, l1, momentum):
    for i in prange(w.size):
        old = velocity[i]
        new = momentum * old + rate * gradient(w[i], g[i], scale, l2, l1)
        update = new + momentum * (new - old)
        velocity[i] = new
        g[i] = update
        w[i] -= update


@register("Nesterov")
class NesterovSolver(SGDSolver):
    """v' = momentum v + rate g; w -= (1 + momentum) v' - momentum v.   Nesterov, 1983."""

    kernel = nesterov_update


@kernel
def adagrad_update(w, g, squares, rate, scale, l2, l1, delta):
    for i in prange(w.size):
        step = gradient(w[i], g[i], scale, l2, l1)
        squares[i] += step * step
        update = rate * step / (math.sqrt(squares[i]) + delta)
        g[i] = update
        w[i] -= update


@register("AdaGrad")
class AdaGradSolver(SGDSolver):
    """h += g^2; w -= rate g / (sqrt(h) + delta).   Duchi, Hazan and Singer, 2011."""

    kernel = adagrad_update

    def check(self) -> None:
        _refuse_momentum(self)

    def constants(self) -> tuple[float, ...]:
        return (self.param.delta,)


@kernel
def rmsprop_update(w, g, squares, rate, scale, l2, l1, decay, delta):
    one = w.dtype.type(1)
    for i in prange(w.size):
        step = gradient(w[i], g[i], scale, l2, l1)
        squares[i] = decay * squares[i] + (one - decay) * step * step
        update = rate * step / (math.sqrt(squares[i]) + delta)
        g[i] = update
        w[i] -= update


@register("RMSProp")
class RMSPropSolver(SGDSolver):
    """h = rms_decay h + (1 - rms_decay) g^2; w -= rate g / (sqrt(h) + delta).   Tieleman and Hinton, 2012."""

    kernel = rmsprop_update

    def check(self) -> None:
        _refuse_momentum(self)
        if not 0 <= self.param.rms_decay < 1:
            raise SolverError(f"rms_decay is at least 0 and less than 1, received {self.param.rms_decay:g}")

    def constants(self) -> tuple[float, ...]:
        return self.param.rms_decay, self.param.delta


@kernel
def adadelta_update(w, g, squares, updates, rate, scale, l2, l1, momentum, delta):
    one = w.dtype.type(1)
    for i in prange(w.size):
        step = gradient(w[i], g[i], scale, l2, l1)
        squares[i] = momentum * squares[i] + (one - momentum) * step * step
        step *= math.sqrt((updates[i] + delta) / (squares[i] + delta))
        updates[i] = momentum * updates[i] + (one - momentum) * step * step
        g[i] = rate * step
        w[i] -= rate * step


@register("AdaDelta")
class AdaDeltaSolver(SGDSolver):
    """h = momentum h + (1 - momentum) g^2; s = g sqrt((u + delta) / (h + delta)); u likewise of s^2; w -= rate s.

    Zeiler, ADADELTA: an adaptive learning rate method, 2012.
    """

    history_sets = 2
    kernel = adadelta_update

    def constants(self) -> tuple[float, ...]:
        return self.param.momentum, self.param.delta


@kernel
def adam_update(w, g, means, squares, rate, scale, l2, l1, beta1, beta2, delta):
    one = w.dtype.type(1)
    for i in prange(w.size):
        step = gradient(w[i], g[i], scale, l2, l1)
        means[i] = beta1 * means[i] + (one - beta1) * step
        squares[i] = beta2 * squares[i] + (one - beta2) * step * step
        update = rate * means[i] / (math.sqrt(squares[i]) + delta)
        g[i] = update
        w[i] -= update


@register("Adam")
class AdamSolver(SGDSolver):
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + delta).

    b1 is `momentum`, b2 is `momentum2`, t counts from 1.   Kingma and Ba, 2015.
    """

    history_sets = 2
    kernel = adam_update

    def check(self) -> None:
        if not (0 <= self.param.momentum < 1 and 0 <= self.param.momentum2 < 1):
            received = f"{self.param.momentum:g} and {self.param.momentum2:g}"
            raise SolverError(f"momentum and momentum2 are at least 0 and less than 1, received {received}")

    def constants(self) -> tuple[float, ...]:
        return self.param.momentum, self.param.momentum2, self.param.delta

    def update(self, blob: Blob, history: list[Blob], rate: float, scale: float, l2: float, l1: float) -> None:
        t = self.iter + 1
        correction = math.sqrt(1 - self.param.momentum2**t) / (1 - self.param.momentum**t)
        super().update(blob, history, rate * correction, scale, l2, l1)


def _refuse_momentum(solver: Solver) -> None:
    if solver.param.momentum:
        raise SolverError(f"{solver.param.type} takes no momentum, received {solver.param.momentum:g}")
