"""Layers that work in place: those that would overwrite values which are still needed get memory of their own.

In a prototxt a layer works in place if its top has the name of its bottom. That saves memory, and is right as long as no
layer needs the old values: neither one that reads the same memory later (Flatten, Reshape, Split, and Slice and Concat of
one blob share it), nor the backward of one that wrote or read them, such as a TanH. Caffe does not look, and gives wrong
numbers.

Here such a layer has two blobs: `before` for its bottom, and `after` for its top. The last `after` is the blob of that name
in the net. Nothing is copied, and both have one gradient, as in place. A copy is made only for a layer that changes what it
finds (`Layer.stays_in_place`), and of a blob that no layer computes, since a program may write to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..blob import Blob
from ..layer import Layer
from .build import Graph, InPlace, Node


@dataclass(eq=False)
class Values:
    """What a blob, and others in the same memory, hold until a layer overwrites it."""

    readers: list[tuple[int, int]] = field(default_factory=list)  # the layer's index, and that of its bottom
    needed_by: list[Layer] = field(default_factory=list)  # layers whose backward needs the values
    signs_needed_by: list[Layer] = field(default_factory=list)  # ... or only which of them are above 0
    has_gradient: bool = False  # whether a layer that wrote them needs their gradient


@dataclass(eq=False)
class Use:
    """A top that is a bottom of the same layer."""

    node: int
    slot: int  # the index of the bottom, and of the top
    old: Values
    new: Values


def separate(graph: Graph) -> None:
    """Gives memory of their own to those layers of `graph` that would overwrite values which are still needed."""
    uses = _trace(graph)
    for i, node in enumerate(graph.nodes):
        if graph.in_place and node.layer.is_view:
            node.reshape()  # the bottom may have other memory now
        for use in uses[i]:
            if _needs_memory(use, node):
                _separate(graph, use)
            else:
                use.new.signs_needed_by += use.old.signs_needed_by


def _trace(graph: Graph) -> list[list[Use]]:
    """For each layer its tops that are bottoms, with what was and will be in them."""
    uses = []
    values: dict[int, Values] = {}  # by id of the blob
    for i, node in enumerate(graph.nodes):
        old = [values[id(blob)] for blob in node.bottom]
        new = [old[0] if node.layer.is_view else Values() for _ in node.top]
        for slot, value in enumerate(old):
            value.readers.append((i, slot))
        uses.append([Use(i, slot, old[slot], new[slot]) for slot in _slots_in_place(node)])
        values.update((id(blob), value) for blob, value in zip(node.top, new, strict=True))
        if node.needs_backward and node.bottom:  # a source has no gradient to compute
            _note_needs(node, old, new)
        for blob, value in zip(node.top, new, strict=True):
            value.has_gradient |= node.needs_backward
            if any(blob.shares_memory(param) for param in node.layer.blobs):
                value.needed_by.append(node.layer)  # the top of a Parameter is the parameter
    for name in graph.outputs:  # which the caller reads
        values[id(graph.blobs[name])].readers.append((len(graph.nodes), 0))
    return uses


def _slots_in_place(node: Node) -> list[int]:
    if node.layer.is_view:  # it changes nothing
        return []
    return [slot for slot, (a, b) in enumerate(zip(node.bottom, node.top)) if a is b]


def _note_needs(node: Node, old: list[Values], new: list[Values]) -> None:
    """Notes which values the backward of a layer needs."""
    layer = node.layer
    for slot, value in enumerate(old if layer.reads_bottoms else ()):
        overwritten = layer.stays_in_place and slot in _slots_in_place(node)
        (new[slot] if overwritten else value).needed_by.append(layer)
    for value in new if layer.reads_tops else ():
        (value.signs_needed_by if layer.reads_only_signs else value.needed_by).append(layer)


def _needs_memory(use: Use, node: Node) -> bool:
    """Whether the layer would overwrite what another layer, or its own backward, still needs, or keep back a gradient."""
    layer, old = node.layer, use.old
    read_later = any(reader != (use.node, use.slot) and reader[0] >= use.node for reader in old.readers)
    signs_needed = old.signs_needed_by and not layer.keeps_signs
    gradient_ends = old.has_gradient and not node.bottom_needs_backward[use.slot]
    return bool(read_later or old.needed_by or signs_needed or gradient_ends or not layer.can_overwrite)


def _separate(graph: Graph, use: Use) -> None:
    """Gives the layer a bottom with the memory of the blob, which the layers before it use too, and the blob new memory."""
    nodes, node = graph.nodes, graph.nodes[use.node]
    blob = node.bottom[use.slot]
    before = Blob(blob.shape, dtype=blob.dtype)
    start = max(i for i in range(use.node) if _begins(nodes[i], blob))
    if nodes[start].bottom or nodes[start].layer.blobs:
        blob.move_memory(before)
        _replace(nodes[start : use.node], blob, before)
        if any(blob is top for source in nodes[:start] for top in source.top):
            blob.data[...] = before.data  # what a source has written at set-up
    else:  # the layers behind the source work on a copy
        start = next(i for i, reader in enumerate(nodes) if any(blob is bottom for bottom in reader.bottom))
        _replace(nodes[start : use.node], blob, before)
        nodes[start].copies.append((blob, before))
    one_gradient = node.layer.can_overwrite and node.bottom_needs_backward[use.slot]
    pair = InPlace(before, blob, blob, start, use.node, one_gradient)
    if node.layer.stays_in_place:
        node.copies.append((before, blob))
    else:
        node.bottom[use.slot] = before
    node.in_place.append(pair)
    graph.in_place.append(pair)
    node.reshape()


def _begins(node: Node, blob: Blob) -> bool:
    """Whether a layer writes the blob, and not over values that are in it."""
    if any(blob is target for _, target in node.copies):
        return True
    return any(blob is top for top in node.top) and not any(blob is bottom for bottom in node.bottom)


def _replace(nodes: list[Node], old: Blob, new: Blob) -> None:
    """Makes layers use another blob."""

    def exchanged(blob: Blob) -> Blob:
        return new if blob is old else blob

    for node in nodes:
        node.bottom[:] = map(exchanged, node.bottom)
        node.top[:] = map(exchanged, node.top)
        node.copies[:] = [(source, exchanged(target)) for source, target in node.copies]
        for pair in node.in_place:
            pair.after = exchanged(pair.after)
