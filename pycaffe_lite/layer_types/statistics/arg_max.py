"""ArgMax: the indices or the values of the largest elements   (argmax_layer.cpp).

bottom[0]: `N x ...`.
top[0], with `axis`: the bottom's shape with `top_k` at that axis; indices or, with `out_max_val`, values.
top[0], without `axis`: `N x 1 x top_k` (`x 1 ...`, as many axes as the bottom), indices among all values of an item. With
`out_max_val` it is `N x 2 x top_k ...`, indices and values.

The largest comes first; of equal values, the one with the larger index. There is no gradient.

`argmax_param`:
- `out_max_val` (default false): gives indices and values, or with `axis` only values.
- `top_k` (default 1): how many elements.
- `axis` (default none): the axis to search, may be negative; by default all axes but the first.
"""

from __future__ import annotations

from typing import Any

from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, Layer, register


@register("ArgMax")
class ArgMax(Layer):
    is_result = True
    exact_bottoms = 1
    exact_tops = 1
    reads_bottoms = False
    reads_tops = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.argmax_param
        self.top_k, self.values, self.by_axis = param.top_k, param.out_max_val, param.HasField("axis")

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        x = bottom[0]
        axis = x.axis(self.param.argmax_param.axis if self.by_axis else 0)
        if self.by_axis:
            self.axes = (x.count_from(0, axis), x.shape[axis], x.count_from(axis + 1))
            shape = [*x.shape[:axis], self.top_k, *x.shape[axis + 1 :]]
        else:
            self.axes = (x.shape[0], x.count_from(1), 1)
            shape = [x.shape[0], 2 if self.values else 1, self.top_k, *[1] * (x.num_axes - 3)]
        if not 1 <= self.top_k <= self.axes[1]:
            raise NetError(f"expected top_k from 1 to {self.axes[1]}, the number of values, received {self.top_k}")
        top[0].reshape(shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x = bottom[0].data_in.reshape(self.axes)
        indices = largest(x, self.top_k)
        outer, _, inner = self.axes
        if self.values and not self.by_axis:
            y = top[0].data_out.reshape(outer, 2, self.top_k)
            y[:, 0] = indices[:, :, 0]
            y[:, 1] = array_module(x).take_along_axis(x, indices, 1)[:, :, 0]
        else:
            y = top[0].data_out.reshape(outer, self.top_k, inner)
            y[...] = array_module(x).take_along_axis(x, indices, 1) if self.values else indices


def largest(x: Any, count: int) -> Any:
    """The indices along axis 1 of the `count` largest values, in falling order; of equal values, later ones come first."""
    xp = array_module(x)
    if count == 1:
        return x.shape[1] - 1 - xp.argmax(x[:, ::-1], axis=1)[:, None]
    return xp.argsort(x, axis=1, kind="stable")[:, ::-1][:, :count]
