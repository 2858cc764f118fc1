"""How the coordinates of one blob map to those of another, with the names of pycaffe's `caffe.coord_map`.

A map is `(axis, scale, shift)`: a point x of a layer's bottom is at scale * x + shift in its top. It holds for the axes from
`axis` + 1 on (the spatial axes); `axis` is None if it does not matter. Scale and shift are 1 and 0, or arrays with one value
for all axes or one for each. `crop` uses a map to align one feature map with another, as in fully convolutional nets. Tops
are those of `net_spec`.
(python/caffe/coord_map.py)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from . import layer_types  # noqa: F401  registers the types
from .errors import NetError
from .layer import CoordinateMap as Map
from .layer import class_of, registered_types
from .net_spec import Function, Top
from .net_spec import layers as L

# Types that a script adds here pass coordinates through too.
PASS_THROUGH_LAYERS = [name for name, kind in registered_types().items() if kind.keeps_coordinates]

_IDENTITY: Map = (None, 1, 0)


class UndefinedMapException(Exception):
    """A layer that does not map coordinates, such as InnerProduct."""


class AxisMismatchException(Exception):
    """Two maps along different axes."""


class CropError(NetError, AssertionError):
    """A crop that is impossible. Scripts for pycaffe expect an AssertionError."""


def conv_params(fn: Function) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Channel axis, stride, extent of the kernel including dilation, and pad of a convolution or pooling."""
    window = class_of(fn.type_name).window_of(fn.layer_parameter())
    if window is None or window.coordinate_map() is None:
        raise UndefinedMapException(f"a {fn.type_name} layer without kernel_size does not map coordinates")
    return window.axis, np.array(window.stride), window.extent(), np.array(window.pad)


def crop_params(fn: Function) -> tuple[int, np.ndarray]:
    """The first cropped axis and the offsets of a Crop layer."""
    axis, _, shift = coord_map(fn)
    return (axis or 0) + 1, -shift


def coord_map(fn: Function) -> Map:
    """The map from a layer's bottoms to its tops. Raises UndefinedMapException for a type without a map."""
    if fn.type_name in PASS_THROUGH_LAYERS:
        return _IDENTITY
    kind = registered_types().get(fn.type_name)
    mapping = kind.coordinate_map(fn.layer_parameter()) if kind else None
    if mapping is None:
        hint = " without kernel_size" if kind and kind.window_of(fn.layer_parameter()) else ""
        raise UndefinedMapException(f"a {fn.type_name} layer{hint} does not map coordinates")
    return mapping


def compose(base_map: Map, next_map: Map) -> Map:
    """`next_map` first, then `base_map`. Raises AxisMismatchException if their axes differ."""
    axis, scale, shift = base_map
    next_axis, next_scale, next_shift = next_map
    if axis is not None and next_axis is not None and axis != next_axis:
        raise AxisMismatchException(f"one map is along axis {axis}, the other along axis {next_axis}")
    return next_axis if axis is None else axis, scale * next_scale, scale * next_shift + shift


def inverse(coord_map: Map) -> Map:
    """The map from the tops back to the bottoms."""
    axis, scale, shift = coord_map
    return axis, 1 / scale, -shift / scale


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """The map from `top_from` to `top_to`, through the nearest blob from which both are computed.

    Raises NetError, a RuntimeError, if no chain of layers with maps connects them.
    """
    from_maps = dict(_walk_back(top_from))
    for top, back in _walk_back(top_to):
        if top in from_maps:
            return compose(back, inverse(from_maps[top]))
    raise NetError("the two tops are not joined by layers that map coordinates")


def _walk_back(start: Top) -> Iterator[tuple[Top, Map]]:
    """The blobs from which `start` is computed, `start` first, each with the map from it to `start`."""
    maps = {start: _IDENTITY}
    queue = [start]
    for top in queue:
        yield top, maps[top]
        bottoms = top.fn.inputs[: class_of(top.fn.type_name).mapped_bottoms]
        try:
            step = coord_map(top.fn) if bottoms else _IDENTITY
        except UndefinedMapException:
            continue
        for bottom in bottoms:
            if bottom not in maps:
                maps[bottom] = compose(maps[top], step)
                queue.append(bottom)


def crop(top_from: Top, top_to: Top) -> Any:
    """The top of a Crop layer that cuts `top_from` to the region of `top_to`.

    Raises CropError if the scales differ, or if the offset is negative or not an integer.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    scale, offset = np.array(scale, ndmin=1), -np.array(shift, ndmin=1)
    if not (scale == 1).all():
        raise CropError(f"to crop, both must have the same scale, received the factor {_numbers(scale)}")
    if not ((offset >= 0).all() and (offset == np.round(offset)).all()):
        raise CropError(f"offsets of a crop are whole and not negative, received {_numbers(offset)}")
    first = 2 if axis is None else axis + 1
    return L.Crop(top_from, top_to, crop_param={"axis": first, "offset": [int(value) for value in offset]})


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values)
