"""Selects the layers that a net has in a state: phase, level and stages (Caffe's Net::FilterNet and StateMeetsRule)."""

from __future__ import annotations

from ..errors import NetError
from ..proto import Source
from ..proto.caffe_pb2 import LayerParameter, NetParameter, NetState, NetStateRule


def filter_net(net: NetParameter, source: Source) -> NetParameter:
    """A copy of `net` with only the layers that its `state` includes.

    A layer without rules is included. A layer with `include` rules is included if any of them is met, a layer with `exclude`
    rules if none is met. Both kinds on one layer are an error.
    """
    filtered = NetParameter()
    filtered.CopyFrom(net)
    del filtered.layer[:]
    for layer in net.layer:
        if layer.include and layer.exclude:
            raise NetError("include and exclude rules on one layer; use one kind", source.where(layer))
        if _included(layer, net.state):
            filtered.layer.add().CopyFrom(layer)
    return filtered


def _included(layer: LayerParameter, state: NetState) -> bool:
    if layer.include:
        return any(_meets(state, rule) for rule in layer.include)
    return not any(_meets(state, rule) for rule in layer.exclude)


def _meets(state: NetState, rule: NetStateRule) -> bool:
    """Whether all conditions of `rule` hold."""
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and all(stage in state.stage for stage in rule.stage)
        and not any(stage in state.stage for stage in rule.not_stage)
    )
