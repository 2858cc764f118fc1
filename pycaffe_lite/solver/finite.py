"""Where numbers that are NaN or infinite come from, in words."""

from __future__ import annotations

from ..blob import Blob
from ..device import array_module
from ..net import Net


def first_bad_output(net: Net) -> str:
    """The first layer whose output is not finite, after a forward pass whose loss is not."""
    for node in net.nodes:
        for name, blob in zip(node.top_names, node.top, strict=True):
            if not _is_finite(blob):
                bad = [i for i, param in enumerate(node.layer.blobs) if not _is_finite(param)]
                own = f", whose parameter {bad[0]} is not finite either" if bad else ""
                return f'first seen in the output "{name}" of layer "{node.name}" ({node.layer.type}){own}'
    return "though all outputs are finite"


def bad_parameter(net: Net) -> str:
    """The first parameter that is not finite, or an empty string."""
    for param in net.all_params:
        if not _is_finite(param.blob):
            return f'parameter {param.label} of layer "{param.node.name}" ({param.node.layer.type}), which is not finite'
    return ""


def _is_finite(blob: Blob) -> bool:
    data = blob.data_in
    return bool(array_module(data).isfinite(data).all())
