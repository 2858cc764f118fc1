"""Trained parameters: copied from and written to Caffe's binary and HDF5 models, and shared between nets.

Layers are matched by name. Names that the net does not have are ignored; numbers and shapes of parameters must agree. A
binary model stores a shared parameter with every layer, an HDF5 model only with its owner.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import h5py
import numpy as np

from .. import glog
from ..blob import Blob, shape_text
from ..errors import ModelFileError, NetError, located, nearest
from ..files import new_hdf5
from ..proto import model_file
from ..proto.model_file import LayerBlobs, RawBlob
from .build import Node
from .net import Net

_SHOWN = 5  # names in a warning


class Copy(NamedTuple):
    """New values for a parameter, or for its gradient."""

    target: Blob
    values: np.ndarray
    is_gradient: bool = False

    def run(self) -> None:
        """Copies them. The old values are not read, so a device need not send them."""
        array = self.target.host_diff_out if self.is_gradient else self.target.host_out
        array[...] = self.values.reshape(self.target.shape)


class Found(NamedTuple):
    """What a model file has for a net: the copies, and the names of all layers of the file that have parameters."""

    copies: list[Copy]
    layers: list[str]


def copy_from(net: Net, *paths: str | os.PathLike, warn: bool = True) -> None:
    """Copies the parameters of model files, whose format is detected, into the layers with the same names.

    Nothing of a file is copied unless all of it fits. A warning, unless `warn` is false, names the layers with parameters
    that no file has: they keep their values. Raises `ModelFileError` with file, layer and shapes.
    """
    copied: set[int] = set()
    layers: list[str] = []
    for path in paths:
        with located(os.fspath(path)):
            found = _from_hdf5(net, path) if model_file.is_hdf5(path) else _from_layers(net, model_file.read_layers(path))
        for copy in found.copies:
            copy.run()
        copied.update(id(copy.target) for copy in found.copies)
        layers += found.layers
    if warn and paths and (text := _kept(net, copied, layers)):
        glog.warning(f"{', '.join(map(str, paths))}: {text}")


def _kept(net: Net, copied: set[int], layers: list[str]) -> str:
    """Names the layers with a parameter that was not copied, nor one that shares its memory; empty if there is none.

    copied: ids of blobs. layers: the names of the layers with parameters in the files, for the nearest names.
    """
    learned = {param.learnable for param in net.all_params if id(param.blob) in copied}
    nodes = [node for node in net.nodes if node.param_ids]
    kept = [node.name for node in nodes if any(net.all_params[i].learnable not in learned for i in node.param_ids)]
    if not kept:
        return ""
    unused = [name for name in layers if net.find(name) is None]
    near = [nearest(name, unused) for name in kept[:_SHOWN]]
    text = f"there is nothing for {len(kept)} of {len(nodes)} layers with parameters, which {_keep(len(kept))}: "
    text += _some([f'"{name}"' + (f' (nearest "{other}")' if other else "") for name, other in zip(kept, near)], len(kept))
    if unused and 2 * len(kept) > len(nodes) and not any(near):
        text += "; there is something for " + _some([f'"{name}"' for name in unused], len(unused))
    return text


def _keep(count: int) -> str:
    return "keeps its values" if count == 1 else "keep their values"


def _some(texts: list[str], count: int) -> str:
    """The first of `count` texts, with commas."""
    shown = ", ".join(texts[:_SHOWN])
    return f"{shown} and {count - _SHOWN} more" if count > _SHOWN else shown


def _from_layers(net: Net, layers: list[LayerBlobs]) -> Found:
    """The copies from a binary model, for each layer that the net has under the same name."""
    copies: list[Copy] = []
    for source in layers:
        node = net.find(source.name)
        if node is None:
            glog.info(f"Ignoring source layer {source.name}")
            continue
        if len(source.blobs) != len(node.layer.blobs):
            raise ModelFileError(
                f'layer "{node.name}" ({node.layer.type}) has {len(node.layer.blobs)} parameters in the net '
                f"and {len(source.blobs)} in the model"
            )
        for i, (target, blob) in enumerate(zip(node.layer.blobs, source.blobs, strict=True)):
            if not _same_shape(target.shape, blob):
                raise _wrong_shape(node, i, target, blob.shape)
            copies.append(Copy(target, blob.data))
            if blob.diff is not None and blob.diff.size == target.count:
                copies.append(Copy(target, blob.diff, is_gradient=True))
    return Found(copies, [source.name for source in layers if source.blobs])


def share_with(net: Net, other: Net, log: Callable[[str], None] = glog.info) -> None:
    """Makes layers use the memory of the parameters in `other`'s layers of the same name (Net::ShareTrainedLayersWith).

    A parameter with a name, in a layer that only `net` has, uses the memory that the parameters of its name have in these
    layers, or else in `other`. `log` gets a line for each layer that only `other` has.
    """
    for source in other.nodes:
        node = net.find(source.name)
        if node is None:
            log(f"Ignoring source layer {source.name}")
            continue
        if len(source.layer.blobs) != len(node.layer.blobs):
            raise NetError(
                f"expected {len(node.layer.blobs)} parameters, received {len(source.layer.blobs)} from the other net",
                node.where,
            )
        for i, (target, blob) in enumerate(zip(node.layer.blobs, source.layer.blobs, strict=True)):
            if target.shape != blob.shape:
                raise NetError(f"parameter {i} is {target} here and {blob} in the other net", node.where)
            target.share_data(blob)
    _share_by_name(net, other)


def _share_by_name(net: Net, other: Net) -> None:
    """The part of `share_with` for layers that only `net` has."""
    named = {param.name: param.blob for param in [*other.all_params, *net.all_params] if other.find(param.node.name)}
    for param in net.all_params:
        if param.name in named and param.name and other.find(param.node.name) is None:
            blob = named[param.name]
            if param.blob.count != blob.count:
                raise NetError(
                    f'parameter "{param.name}" is {param.blob} here and {blob} in the other net, which shares it',
                    param.node.where,
                )
            param.blob.share_data(blob)


def save(net: Net, path: str | os.PathLike, write_diff: bool = False) -> None:
    """Writes a binary model with every layer's parameters, as Caffe does; with `write_diff` also gradients."""
    model_file.write_message(path, to_message(net, write_diff))


def to_message(net: Net, write_diff: bool = False) -> Any:
    """The net as a raw NetParameter (see `model_file`), with the inserted Split layers, phases and parameters."""
    message = model_file.raw.NetParameter(name=net.name)
    for node in net.nodes:
        layer = message.layer.add()
        layer.ParseFromString(node.layer.param.SerializeToString())
        layer.ClearField("blobs")
        for blob in node.layer.blobs:
            model_file.encode_blob(layer.blobs.add(), blob.data, blob.diff if write_diff else None)
    return message


def save_hdf5(net: Net, path: str | os.PathLike, write_diff: bool = False) -> None:
    """Writes an HDF5 model: `/data/<layer>/<i>`, and `/diff/<layer>/<i>` with `write_diff`; shared parameters once."""
    with located(os.fspath(path)), new_hdf5(path) as file:
        for kind in ("data", "diff") if write_diff else ("data",):
            group = file.create_group(kind)
            for node in net.nodes:
                try:
                    _write_group(net, node, group.require_group(node.name), kind)
                except (OSError, TypeError, ValueError) as error:
                    raise ModelFileError(
                        f'HDF5 cannot hold layer "{node.name}": names are paths there, not empty, and each occurs once; '
                        "a binary model can"
                    ) from error


def _write_group(net: Net, node: Node, group: h5py.Group, kind: str) -> None:
    for i, param_id in enumerate(node.param_ids):
        param = net.all_params[param_id]
        if param.owner is None:
            group[str(i)] = getattr(param.blob, kind)


def _from_hdf5(net: Net, path: str | os.PathLike) -> Found:
    """The copies from an HDF5 model, for each layer that has a group in it."""
    try:
        with h5py.File(path, "r") as file:
            data = file.get("data")
            if not isinstance(data, h5py.Group):
                if "history" in file:
                    model = file["learned_net"][()] if "learned_net" in file else b""
                    state = model_file.a_state_is_no_model(model if isinstance(model, bytes) else b"")
                    raise ModelFileError(f"expected weights, but {state}")
                raise ModelFileError('an HDF5 file, but not a model: it has no group "data"')
            groups = [(node, data.get(node.name)) for node in net.nodes]
            copies = [_from_group(net, node, group) for node, group in groups if isinstance(group, h5py.Group)]
            stored = [name for name, group in data.items() if isinstance(group, h5py.Group) and len(group)]
            return Found(list(itertools.chain.from_iterable(copies)), stored)
    except ModelFileError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:  # h5py raises these for damaged files
        raise ModelFileError(f"a damaged HDF5 file: {error}") from error


def _from_group(net: Net, node: Node, group: h5py.Group) -> Iterator[Copy]:
    """The copies for one layer. A shared parameter may be missing, because its owner has it, if that is in the net."""
    stored = [name for name, item in group.items() if isinstance(item, h5py.Dataset)]
    if len(stored) > len(node.layer.blobs):
        raise ModelFileError(f'layer "{node.name}" has {len(node.layer.blobs)} parameters, the model {len(stored)}')
    for i, param_id in enumerate(node.param_ids):
        param, item = net.all_params[param_id], group.get(str(i))
        if item is None and param.owner is not None:
            continue
        if item is None:
            raise _only_the_owner_has_it(node, i, param.blob, group)
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fiu":
            raise ModelFileError(f'layer "{node.name}" ({node.layer.type}): parameter {i} is not of numbers in the model')
        if item.shape != param.blob.shape:
            raise _wrong_shape(node, i, param.blob, item.shape)
        yield Copy(param.blob, item[()])


def _only_the_owner_has_it(node: Node, index: int, target: Blob, group: h5py.Group) -> ModelFileError:
    """The error for a layer that the model has without this parameter."""
    others = [f'"{name}"' for name, other in group.parent.items() if _has_shape(other, index, target.shape)]
    owners = f", perhaps {_some(others, len(others))}" if others else ""
    return ModelFileError(
        f'layer "{node.name}" ({node.layer.type}) has a parameter {index} that the model lacks; HDF5 models have a shared '
        f"parameter once, in the first layer that shares it{owners}: give this layer that name, or give a .caffemodel"
    )


def _has_shape(group: Any, index: int, shape: tuple[int, ...]) -> bool:
    item = group.get(str(index)) if isinstance(group, h5py.Group) else None
    return isinstance(item, h5py.Dataset) and item.shape == shape


def _same_shape(shape: tuple[int, ...], blob: RawBlob) -> bool:
    """Whether a stored shape fits. Old models store four dimensions, filled up with ones in front."""
    if blob.legacy:
        return len(shape) <= 4 and (1,) * (4 - len(shape)) + shape == blob.shape
    return shape == blob.shape


def _wrong_shape(node: Node, index: int, target: Blob, received: tuple[int, ...]) -> ModelFileError:
    return ModelFileError(
        f'layer "{node.name}" ({node.layer.type}): parameter {index} is {target} in the net '
        f"and {shape_text(received)} in the model; to learn this layer anew give it another name"
    )
