"""A layer type and a solver type that pycaffe_lite does not have: Softsign and Lion."""

import numpy as np

import pycaffe_lite as caffe


@caffe.register_layer("Softsign")
class Softsign(caffe.Layer):
    """y = s x / (1 + |x|), elementwise; s is `power_param { scale }`, 1 by default.

    bottom[0]: x, of any shape. top[0]: y, of the same shape.
    """

    exact_bottoms = exact_tops = 1

    def setup(self, bottom, top):
        self.scale = self.param.power_param.scale

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        x = bottom[0].data
        top[0].data[...] = self.scale * x / (1 + np.abs(x))

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = self.scale * top[0].diff / (1 + np.abs(bottom[0].data)) ** 2


@caffe.register_solver("Lion")
class Lion(caffe.SGDSolver):
    """w -= rate (sign(b1 m + (1 - b1) g) + decay w); m = b2 m + (1 - b2) g; b1 is momentum, b2 momentum2.

    Chen et al., Symbolic Discovery of Optimization Algorithms, 2023. `weight_decay` decays the weights themselves.
    """

    history_sets = 1  # blobs of the shape of a parameter, which snapshots keep: m

    def check(self):
        """Raises for a solver file that makes no sense."""
        if not (0 <= self.param.momentum < 1 and 0 <= self.param.momentum2 < 1):
            raise caffe.CaffeError("Lion: momentum and momentum2 are at least 0 and less than 1")

    def update(self, blob, history, rate, scale, l2, l1):
        """One parameter: `rate` with its lr_mult, `scale` makes the gradient that of one pass, l2 and l1 are its decays."""
        b1, b2 = self.param.momentum, self.param.momentum2
        weights, gradient, mean = blob.data, scale * blob.diff, history[0].data
        step = rate * (np.sign(b1 * mean + (1 - b1) * gradient) + l2 * weights + l1 * np.sign(weights))
        mean[...] = b2 * mean + (1 - b2) * gradient
        blob.diff[...] = step  # what is subtracted stays in the gradient, as with all solvers
        weights -= step
