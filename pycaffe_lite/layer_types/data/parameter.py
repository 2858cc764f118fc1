"""Parameter: a learned blob, as a top for other layers   (parameter_layer.hpp).

No bottoms.   top[0]: the parameter's own memory, for the values and for the gradient.
Parameter: the blob, zeros at first.

The layer that reads the top overwrites its gradient. So, unlike the gradients of other parameters, it does not add up over
several backward passes (`iter_size`), in Caffe neither.

`parameter_param`:
- `shape` (default scalar): the shape of the blob.
"""

from __future__ import annotations

from ...layer import Blobs, Layer, register
from ...proto.caffe_pb2 import FillerParameter


@register("Parameter")
class Parameter(Layer):
    exact_bottoms = 0
    exact_tops = 1

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.add_param(self.param.parameter_param.shape.dim, FillerParameter(value=0))

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape_like(self.blobs[0])
        top[0].share_data(self.blobs[0])
        top[0].share_diff(self.blobs[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """The top is the parameter."""
