"""The states of a net's layers, which an exact resume needs besides the parameters: see `Layer.save_state`."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import glog
from ..errors import ModelFileError
from .net import Net

DAMAGED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)  # damaged states cause these errors


@dataclass(frozen=True)
class LayerState:
    """The state of one layer. `state` holds what JSON can hold, and arrays of floats."""

    layer: str
    state: dict[str, Any]


def layer_states(net: Net) -> list[LayerState]:
    """The states of all layers that have one, in order."""
    states = [LayerState(node.name, node.layer.save_state()) for node in net.nodes]
    return [state for state in states if state.state]


def restore(net: Net, states: Sequence[LayerState]) -> None:
    """Loads the states into the layers with these names. Layers with the same name take their states in order.

    States of unknown layers are ignored, and the log says so. Raises `ModelFileError` for a damaged state; some layers may
    have changed by then.
    """
    waiting: dict[str, deque[LayerState]] = defaultdict(deque)
    for state in states:
        waiting[state.layer].append(state)
    for node in net.nodes:
        if not waiting[node.name]:
            continue
        try:
            node.layer.load_state(waiting[node.name].popleft().state)
        except DAMAGED as error:
            raise ModelFileError(f'the state of layer "{node.name}" ({node.layer.type}) is damaged: {error}') from error
    for name, unused in waiting.items():
        if unused:
            glog.info(f"Ignoring the state of layer {name}")
