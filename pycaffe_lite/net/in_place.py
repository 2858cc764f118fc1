"""Layers that work in place: those that would overwrite values which are still needed get memory of their own.

In a prototxt a layer works in place if its top has the name of its bottom. That saves memory, and is right as long as no
layer needs the old values: neither one that reads the same memory later (Flatten, Reshape, Split, and Slice and Concat of
one blob share it), nor the backward of one that wrote or read them, such as a TanH. Caffe does not look, and gives wrong
numbers.

Here such a layer has two blobs: `before` for its bottom, and `after`, which is the blob of that name in the net, for its
top. Nothing is copied, and both have one gradient, as in place. A copy is made only for a layer that changes what it finds
(`Layer.stays_in_place`), and of a blob that no layer computes, since a program may write to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..blob import Blob
from ..layer import Layer
from .build import Graph, Node, Separated


@dataclass(eq=False)
class Values:
    """What a blob, and others in the same memory, hold until a layer overwrites it."""

    readers: list[tuple[int, int]] = field(default_factory=list)  # the layer's index, and that of its bottom
    needed_by: list[Layer] = field(default_factory=list)  # layers whose backward needs the values
    signs_needed_by: list[Layer] = field(default_factory=list)  # ... or only which of them are above 0


@dataclass(eq=False)
class InPlace:
    """A top that is a bottom of the same layer."""

    node: int
    slot: int  # the index of the bottom, and of the top
    old: Values
    new: Values


def separate(graph: Graph) -> None:
    """Gives memory of their own to those layers of `graph` that would overwrite values which are still needed."""
    shares, in_place = _trace(graph.nodes)
    for i, node in enumerate(graph.nodes):
        if graph.separated and shares[i]:
            node.reshape()  # a bottom may be another blob now
        for use in in_place[i]:
            if _needs_memory(use, node.layer):
                graph.separated.append(_separate(graph, use))
            else:
                use.new.signs_needed_by += use.old.signs_needed_by


def _trace(nodes: list[Node]) -> tuple[list[bool], list[list[InPlace]]]:
    """For each layer whether a top shares the memory of another bottom, and its tops that are bottoms."""
    shares, in_place = [], []
    values: dict[int, Values] = {}  # by id of the blob
    for i, node in enumerate(nodes):
        old = [values[id(blob)] for blob in node.bottom]
        new = [_values_of_top(node, slot, old) for slot in range(len(node.top))]
        uses = [InPlace(i, slot, old[slot], new[slot]) for slot in _slots_in_place(node)]
        for slot, value in enumerate(old):
            value.readers.append((i, slot))
        values.update((id(blob), value) for blob, value in zip(node.top, new, strict=True))
        if node.needs_backward:
            _note_needs(node, old, new)
        for blob, value in zip(node.top, new, strict=True):
            if any(blob.shares_memory(param) for param in node.layer.blobs):
                value.needed_by.append(node.layer)  # the top of a Parameter is the parameter
        shares.append(any(value in old for value in new))
        in_place.append(uses)
    return shares, in_place


def _slots_in_place(node: Node) -> Iterator[int]:
    return (slot for slot, (a, b) in enumerate(zip(node.bottom, node.top)) if a is b)


def _values_of_top(node: Node, slot: int, old: list[Values]) -> Values:
    """New values, or if the top shares the memory of another bottom, those of this bottom."""
    blob = node.top[slot]
    if any(blob is other for other in node.bottom):
        return Values()
    return next((value for other, value in zip(node.bottom, old) if blob.shares_memory(other)), Values())


def _note_needs(node: Node, old: list[Values], new: list[Values]) -> None:
    """Notes which values the backward of a layer needs."""
    layer = node.layer
    for slot, value in enumerate(old if layer.reads_bottoms else ()):
        overwritten = layer.stays_in_place and slot in _slots_in_place(node)
        (new[slot] if overwritten else value).needed_by.append(layer)
    for value in new if layer.reads_tops else ():
        (value.signs_needed_by if layer.reads_only_signs else value.needed_by).append(layer)


def _needs_memory(use: InPlace, layer: Layer) -> bool:
    """Whether the layer would overwrite values that another layer, or its own backward, still needs."""
    read_later = any(reader != (use.node, use.slot) and reader[0] >= use.node for reader in use.old.readers)
    signs_needed = use.old.signs_needed_by and not layer.keeps_signs
    return bool(read_later or use.old.needed_by or signs_needed or not layer.can_overwrite)


def _separate(graph: Graph, use: InPlace) -> Separated:
    """Gives bottom and top of the layer a blob each."""
    nodes, node = graph.nodes, graph.nodes[use.node]
    blob = node.bottom[use.slot]
    other = Blob(blob.shape, dtype=blob.dtype)
    start = next(i for i, earlier in enumerate(nodes) if any(blob is top for top in earlier.top))
    if nodes[start].bottom or nodes[start].layer.blobs:
        _replace(nodes[use.node + 1 :], blob, other)
        node.top[use.slot] = graph.blobs[node.top_names[use.slot]] = other
        pair = Separated(blob, other, start, use.node)
    else:  # the layers behind the source work on a copy
        start = next(i for i, reader in enumerate(nodes) if any(blob is bottom for bottom in reader.bottom))
        _replace(nodes[start : use.node], blob, other)
        node.bottom[use.slot] = other
        nodes[start].copies.append((blob, other))
        pair = Separated(other, blob, start, use.node)
    if node.layer.stays_in_place:
        node.bottom[use.slot] = pair.after
        node.copies.append((pair.before, pair.after))
    node.in_place.append((pair.before, pair.after))
    node.reshape()
    return pair


def _replace(nodes: list[Node], old: Blob, new: Blob) -> None:
    for node in nodes:
        for blobs in (node.bottom, node.top):
            blobs[:] = [new if blob is old else blob for blob in blobs]
