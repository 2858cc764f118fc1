"""The update rules. Each runs as one pass over a parameter: normalise, regularise, compute the update, apply it.

`w` is the parameter, `g` its gradient, `rate` the learning rate times the parameter's lr_mult. The update that is
subtracted from `w` stays behind in the gradient, as in Caffe (sgd_solver.cpp).
"""

from __future__ import annotations

from ..blob import Blob
from ..device import kernel, prange
from .solver import Solver, register


@kernel
def sgd_update(w, g, history, rate, momentum, scale, l2, l1):
    for i in prange(w.size):
        update = momentum * history[i] + rate * (scale * g[i] + l2 * w[i] + l1 * ((w[i] > 0) - (w[i] < 0)))
        history[i] = update
        g[i] = update
        w[i] -= update


@register("SGD")
class SGDSolver(Solver):
    """v = momentum v + rate g; w -= v."""

    def update(self, blob: Blob, history: list[Blob], rate: float, scale: float, l2: float, l1: float) -> None:
        real = blob.dtype.type
        w, g, v = (array.reshape(-1) for array in (blob.data_inout, blob.diff_inout, history[0].data_inout))
        sgd_update(w, g, v, real(rate), real(self.param.momentum), real(scale), real(l2), real(l1))
