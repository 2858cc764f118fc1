"""Reads a window from the prototxt, before there are blobs: for labels, tables and coordinates."""

from __future__ import annotations

from ...layer import WindowSizes
from ...proto.caffe_pb2 import ConvolutionParameter, PoolingParameter


def read_window(param: ConvolutionParameter | PoolingParameter) -> WindowSizes:
    """The window of a layer. A missing kernel size is 0."""
    return WindowSizes(
        kernel=_sizes(param, "kernel_size", "kernel", 0),
        stride=_sizes(param, "stride", "stride", 1),
        pad=_sizes(param, "pad", "pad", 0),
        dilation=tuple(getattr(param, "dilation", ())) or (1,),
        axis=getattr(param, "axis", 1),
    )


def _sizes(param: ConvolutionParameter | PoolingParameter, name: str, stem: str, default: int) -> tuple[int, ...]:
    """A field that is given once, or for each axis: repeated, or as `_h` and `_w`."""
    if param.HasField(f"{stem}_h") or param.HasField(f"{stem}_w"):
        return getattr(param, f"{stem}_h"), getattr(param, f"{stem}_w")
    value = getattr(param, name)
    return (value,) if isinstance(value, int) else tuple(value) or (default,)
