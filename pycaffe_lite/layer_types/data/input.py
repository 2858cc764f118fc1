"""Input: blobs that the caller fills   (input_layer.cpp).

No bottoms.   top: any number of blobs.

`input_param`:
- `shape` (default none): one for all tops, or one for each; without it the caller reshapes the blobs.
"""

from __future__ import annotations

from ...errors import NetError
from ...layer import Blobs, Layer, register


@register("Input")
class Input(Layer):
    is_input = True
    exact_bottoms = 0
    min_tops = 1

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        shapes = [shape.dim for shape in self.param.input_param.shape]
        if len(shapes) not in (0, 1, len(top)):
            raise NetError(f"expected one shape, or one for each of the {len(top)} tops, received {len(shapes)} shapes")
        for i, blob in enumerate(top):
            if shapes:
                blob.reshape(shapes[i if len(shapes) > 1 else 0])

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """The tops keep the shapes that `setup` or the caller gave them."""

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """The tops keep the values from the caller."""
