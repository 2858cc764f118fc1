"""What the layers of a net carry from one iteration to the next besides parameters: see `Layer.save_state`."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import glog
from ..errors import ModelFileError
from .net import Net

DAMAGED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)  # what a state of the wrong shape runs into


@dataclass(frozen=True)
class LayerState:
    """What one layer carries. `state` is made of what JSON holds, and of arrays of floats."""

    layer: str
    state: dict[str, Any]


def layer_states(net: Net) -> list[LayerState]:
    """The states of all layers that carry anything, in order."""
    states = [LayerState(node.name, node.layer.save_state()) for node in net.nodes]
    return [state for state in states if state.state]


def restore(net: Net, states: Sequence[LayerState]) -> None:
    """Lets the layers with these names go on from these states. A net may have several of one name: they go by order.

    Names that the net does not have are ignored, with a note. Raises `ModelFileError` for a damaged state; some layers may
    then have changed already.
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
    for name, rest in waiting.items():
        if rest:
            glog.info(f"Ignoring the state of layer {name}")
