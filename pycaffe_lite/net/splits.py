"""Split layers: a blob with several consumers gets one copy for each, so that their gradients can be summed.

The names are Caffe's (insert_splits.cpp): blob `conv1` written by layer `relu1` as its top 0 is followed by the layer
`conv1_relu1_0_split` with the tops `conv1_relu1_0_split_0`, `conv1_relu1_0_split_1`, ... in the order of the consumers.
"""

from __future__ import annotations

from collections import Counter

from ..errors import NetError, did_you_mean
from ..proto import Source
from ..proto.caffe_pb2 import LayerParameter, NetParameter

Slot = tuple[int, int]  # (layer index, index among the layer's bottoms or tops)


def insert_splits(net: NetParameter, source: Source) -> NetParameter:
    """A copy of `net` with Split layers after every top that is used more than once.

    A bottom that no earlier layer produces is an error. A nonzero loss weight counts as a use of its top; if the top has
    other uses, its first copy gets the weight.
    """
    producer, uses = _trace(net, source)
    split = NetParameter()
    split.CopyFrom(net)
    del split.layer[:]
    copies_taken: Counter[Slot] = Counter()
    for i, original in enumerate(net.layer):
        layer = split.layer.add()
        layer.CopyFrom(original)
        for j in range(len(original.bottom)):
            top = producer[i, j]
            if uses[top] > 1:
                layer.bottom[j] = f"{_split_name(net, top)}_{copies_taken[top]}"
                copies_taken[top] += 1
        for j, blob in enumerate(original.top):
            if uses[i, j] > 1:
                weight = original.loss_weight[j] if j < len(original.loss_weight) else 0
                _add_split(split, _split_name(net, (i, j)), blob, uses[i, j], weight)
                if weight:
                    layer.ClearField("loss_weight")
                    copies_taken[i, j] += 1
    return split


def is_inserted(layer: LayerParameter) -> bool:
    """Whether `insert_splits` made this layer; its name tells."""
    return layer.type == "Split" and layer.name.endswith("_split")


def _trace(net: NetParameter, source: Source) -> tuple[dict[Slot, Slot], Counter[Slot]]:
    """Returns the top that feeds each bottom (the last top of that name), and how often each top is used."""
    producer: dict[Slot, Slot] = {}
    uses: Counter[Slot] = Counter()
    last: dict[str, Slot] = {}
    for i, layer in enumerate(net.layer):
        for j, blob in enumerate(layer.bottom):
            if blob not in last:
                raise NetError(_unknown_bottom(net, i, blob, list(last)), source.where(layer))
            producer[i, j] = last[blob]
            uses[last[blob]] += 1
        for j, blob in enumerate(layer.top):
            last[blob] = (i, j)
        for j, weight in enumerate(layer.loss_weight[: len(layer.top)]):
            uses[last[layer.top[j]]] += weight != 0
    return producer, uses


def produced_twice(net: NetParameter, source: Source, layer: LayerParameter, top: str) -> str:
    """Why `layer`, in a net with splits, cannot produce a top that it or an earlier layer produces already."""
    first = next(other for other in net.layer if top in other.top)
    if first.name == layer.name and first.top == layer.top:
        return f'the layer produces top "{top}" twice: give each top a name of its own'
    where = source.where(first)
    already = f'top "{top}" is produced already, by {where.layer}' + (f" of line {where.line}" if where.line else "")
    readers = _readers(net, top)
    others = ", ".join(f'"{reader.name}"' for reader in readers if top not in reader.top)
    if any(reader.name == layer.name for reader in readers):
        other = f"is also read by {others}" if others else "has another reader"
        return f"{already}: this layer cannot work in place, since the blob {other}; give its top another name"
    if others:
        already += f", and read by {others}"
    if not (first.bottom or layer.bottom or (first.include and layer.include)):
        return f"{already}: give each of them an include {{ phase: TRAIN }} or {{ phase: TEST }}, or its top another name"
    return f"{already}: give this top another name"


def _readers(net: NetParameter, blob: str) -> list[LayerParameter]:
    """The layers that read a blob, or a copy of it."""
    copies = {top for layer in net.layer if is_inserted(layer) and blob in layer.bottom for top in layer.top}
    return [layer for layer in net.layer if not is_inserted(layer) and copies.union([blob]).intersection(layer.bottom)]


def _unknown_bottom(net: NetParameter, index: int, blob: str, produced: list[str]) -> str:
    later = next((layer.name for layer in net.layer[index:] if blob in layer.top), None)
    hint = f'; layer "{later}" produces it only afterwards' if later is not None else did_you_mean(blob, produced)
    return f'bottom "{blob}" is not the top of any earlier layer{hint}'


def _split_name(net: NetParameter, top: Slot) -> str:
    layer = net.layer[top[0]]
    return f"{layer.top[top[1]]}_{layer.name}_{top[1]}_split"


def _add_split(net: NetParameter, name: str, blob: str, count: int, weight: float) -> None:
    layer = net.layer.add(name=name, type="Split", bottom=[blob])
    layer.top.extend(f"{name}_{k}" for k in range(count))
    if weight:
        layer.loss_weight.extend([weight] + [0] * (count - 1))
