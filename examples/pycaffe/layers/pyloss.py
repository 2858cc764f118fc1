"""The Euclidean loss as a layer in Python."""

import caffe
import numpy as np


class EuclideanLossLayer(caffe.Layer):
    """Half the mean of squared distances: sum((a - b)^2) / (2 N).

    bottom[0], bottom[1]: a and b, N x ..., of equal counts. top[0]: the loss, one number.
    """

    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise ValueError(f"EuclideanLossLayer: expected two bottoms, received {len(bottom)}")

    def reshape(self, bottom, top):
        if bottom[0].count != bottom[1].count:
            raise ValueError(
                f"EuclideanLossLayer: expected bottoms of equal counts, received {bottom[0].count} and {bottom[1].count}"
            )
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.difference = bottom[0].data - bottom[1].data.reshape(bottom[0].data.shape)
        top[0].data[...] = np.sum(self.difference**2) / (2 * bottom[0].num)

    def backward(self, top, propagate_down, bottom):
        gradient = top[0].diff[0] * self.difference / bottom[0].num  # top[0].diff is the loss weight
        for i, sign in ((0, 1), (1, -1)):
            if propagate_down[i]:
                bottom[i].diff[...] = sign * gradient.reshape(bottom[i].data.shape)
