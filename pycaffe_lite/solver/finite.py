"""Finds where NaN and infinite numbers come from, and says it in words."""

from __future__ import annotations

from ..blob import Blob
from ..device import array_module
from ..net import Net


def first_bad_output(net: Net) -> str:
    """Describes the first layer whose output is not finite, after a forward pass with such a loss."""
    for node in net.nodes:
        for name, blob in zip(node.top_names, node.top, strict=True):
            if not _is_finite(blob):
                bad = [i for i, param in enumerate(node.layer.blobs) if not _is_finite(param)]
                parameter_note = f", whose parameter {bad[0]} is not finite either" if bad else ""
                return f'first seen in the output "{name}" of layer "{node.name}" ({node.layer.type}){parameter_note}'
    return "though all outputs are finite"


def bad_parameter(net: Net) -> str:
    """Describes the first parameter that is not finite; an empty string if all are finite."""
    for param in net.all_params:
        if not _is_finite(param.blob):
            return f'parameter {param.label} of layer "{param.node.name}" ({param.node.layer.type}), which is not finite'
    return ""


def _is_finite(blob: Blob) -> bool:
    data = blob.data_in
    return bool(array_module(data).isfinite(data).all())
