"""Upgrades old nets and solvers to the present format, as defined by Caffe's src/caffe/util/upgrade_proto.cpp.

There were two formats for nets before the present one, and each upgrade is one step:
V0 `layers { layer { type: "conv" num_output: 8 } }` -> V1 `layers { type: CONVOLUTION convolution_param { num_output: 8 } }`
-> `layer { type: "Convolution" convolution_param { num_output: 8 } }`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from ..errors import NetError, SolverError, did_you_mean
from .caffe_pb2 import LayerParameter, NetParameter, SolverParameter, V1LayerParameter
from .source import Source, label


class LostField(str):
    """A note on a field that the new format lacks. (Caffe drops these fields too.)"""


# V0 type -> V1 type, and the V1 message that gets the fields of this type.
_V0_TYPES: dict[str, tuple[str, str]] = {
    "accuracy": ("ACCURACY", ""),
    "bnll": ("BNLL", ""),
    "concat": ("CONCAT", "concat_param"),
    "conv": ("CONVOLUTION", "convolution_param"),
    "data": ("DATA", "data_param"),
    "dropout": ("DROPOUT", "dropout_param"),
    "euclidean_loss": ("EUCLIDEAN_LOSS", ""),
    "flatten": ("FLATTEN", ""),
    "hdf5_data": ("HDF5_DATA", "hdf5_data_param"),
    "hdf5_output": ("HDF5_OUTPUT", "hdf5_output_param"),
    "im2col": ("IM2COL", ""),
    "images": ("IMAGE_DATA", "image_data_param"),
    "infogain_loss": ("INFOGAIN_LOSS", "infogain_loss_param"),
    "innerproduct": ("INNER_PRODUCT", "inner_product_param"),
    "lrn": ("LRN", "lrn_param"),
    "multinomial_logistic_loss": ("MULTINOMIAL_LOGISTIC_LOSS", ""),
    "pool": ("POOLING", "pooling_param"),
    "relu": ("RELU", ""),
    "sigmoid": ("SIGMOID", ""),
    "softmax": ("SOFTMAX", ""),
    "softmax_loss": ("SOFTMAX_LOSS", ""),
    "split": ("SPLIT", ""),
    "tanh": ("TANH", ""),
    "window_data": ("WINDOW_DATA", "window_data_param"),
}

# V0 field -> its name in the message of the type, and the types that have it.
_V0_FIELDS: dict[str, tuple[str, set[str]]] = {
    "num_output": ("num_output", {"conv", "innerproduct"}),
    "biasterm": ("bias_term", {"conv", "innerproduct"}),
    "weight_filler": ("weight_filler", {"conv", "innerproduct"}),
    "bias_filler": ("bias_filler", {"conv", "innerproduct"}),
    "pad": ("pad", {"conv", "pool"}),
    "kernelsize": ("kernel_size", {"conv", "pool"}),
    "stride": ("stride", {"conv", "pool"}),
    "group": ("group", {"conv"}),
    "pool": ("pool", {"pool"}),
    "dropout_ratio": ("dropout_ratio", {"dropout"}),
    "local_size": ("local_size", {"lrn"}),
    "alpha": ("alpha", {"lrn"}),
    "beta": ("beta", {"lrn"}),
    "k": ("k", {"lrn"}),
    "source": ("source", {"data", "hdf5_data", "images", "window_data", "infogain_loss"}),
    "batchsize": ("batch_size", {"data", "hdf5_data", "images", "window_data"}),
    "rand_skip": ("rand_skip", {"data", "images"}),
    "shuffle_images": ("shuffle", {"images"}),
    "new_height": ("new_height", {"images"}),
    "new_width": ("new_width", {"images"}),
    "concat_dim": ("concat_dim", {"concat"}),
    "det_fg_threshold": ("fg_threshold", {"window_data"}),
    "det_bg_threshold": ("bg_threshold", {"window_data"}),
    "det_fg_fraction": ("fg_fraction", {"window_data"}),
    "det_context_pad": ("context_pad", {"window_data"}),
    "det_crop_mode": ("crop_mode", {"window_data"}),
}

# V0 field -> field of the V1 layer, and of its transform_param, whatever the type.
_V0_LAYER_FIELDS = {"name": "name", "blobs": "blobs", "blobs_lr": "blobs_lr", "weight_decay": "weight_decay"}
_V0_TRANSFORM_FIELDS = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}

# V1 type -> the message of the data layer whose fields of these names are now in transform_param.
_V1_DATA = {"DATA": "data_param", "IMAGE_DATA": "image_data_param", "WINDOW_DATA": "window_data_param"}
_TRANSFORM_FIELDS = ["scale", "mean_file", "crop_size", "mirror"]

# V1 type -> the present type.
V1_TYPES: dict[str, str] = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DECONVOLUTION": "Deconvolution",
    "DATA": "Data",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "ELTWISE": "Eltwise",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
}

# V1 field with one value for each blob -> field of ParamSpec. Other fields keep their names.
_V1_PARAM_FIELDS = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}

_SOLVER_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}


def net_needs_upgrade(net: NetParameter) -> bool:
    """Whether `upgrade_net` would change the net."""
    return bool(net.layers or net.input or any(_has_old_batch_norm(layer) for layer in net.layer))


def upgrade_net(net: NetParameter, source: Source | None = None) -> list[str]:
    """Upgrades a net to the present format, in place.

    Returns a sentence for each kind of upgrade, and a `LostField` for each lost field. Raises NetError if the net makes no
    sense in its own format; `source` gives the places for errors.
    """
    source = source or Source()
    notes: list[str] = []
    if net.layers and net.layer:
        raise NetError('a net has either "layer" or the old "layers", not both', source.where(net.layers[0]))
    if any(layer.HasField("layer") for layer in net.layers):
        notes += _upgrade_v0(net, source)
    if net.layers:
        notes += _upgrade_data(net)
        notes += _upgrade_v1(net)
    if net.input:
        notes += _upgrade_input(net, source)
    notes += _upgrade_batch_norm(net)
    return notes


def upgrade_solver(solver: SolverParameter, source: Source | None = None) -> list[str]:
    """Upgrades a solver and the nets inside it to the present format, in place; returns a sentence for each upgrade.

    Raises SolverError if both the old `solver_type` and `type` are given, and NetError like `upgrade_net`.
    """
    source = source or Source()
    notes: list[str] = []
    if solver.HasField("solver_type"):
        if solver.HasField("type"):
            raise SolverError('a solver has either "type" or the old "solver_type", not both', source.where(), "type")
        solver.type = _SOLVER_TYPES[SolverParameter.SolverType.Name(solver.solver_type)]
        solver.ClearField("solver_type")
        notes.append(f'the old "solver_type" is now type: "{solver.type}"')
    for net in _inner_nets(solver):
        notes += upgrade_net(net, source)
    return notes


def default_snapshot_prefix(solver: SolverParameter, solver_path: str | os.PathLike) -> str:
    """The prefix of snapshot files. If `snapshot_prefix` is missing, it is the solver file's path without its last
    extension; if it is a folder, the solver file's name is appended."""
    base = os.path.splitext(os.fspath(solver_path))[0]
    if not solver.HasField("snapshot_prefix"):
        return base
    if os.path.isdir(solver.snapshot_prefix):
        return os.path.join(solver.snapshot_prefix, os.path.basename(base))
    return solver.snapshot_prefix


def _inner_nets(solver: SolverParameter) -> Iterator[NetParameter]:
    for name in ("net_param", "train_net_param"):
        if solver.HasField(name):
            yield getattr(solver, name)
    yield from solver.test_net_param


def _put(message: Message, name: str, value: Any) -> None:
    """Sets a field to a value from another message: a scalar, a message, or the values of a repeated field."""
    field = getattr(message, name)
    if isinstance(value, Message):
        field.CopyFrom(value)
    elif not hasattr(field, "extend"):
        setattr(message, name, value)
    else:
        field.extend(value if hasattr(value, "extend") else [value])


# V0


def _upgrade_v0(net: NetParameter, source: Source) -> list[str]:
    for connection in net.layers:
        if not connection.HasField("layer"):
            raise NetError('this "layers" has no "layer" inside, but others of this net have', source.where(connection))
    notes = ['the old "layers" with a "layer" inside were upgraded']
    notes += _fold_padding(net, source)
    upgraded = []
    for connection in net.layers:
        layer, dropped = _upgrade_v0_layer(connection, source)
        upgraded.append(layer)
        of = label(connection)
        notes += [LostField(f'{of}: the field "{name}" has no meaning here and is ignored') for name in dropped]
    del net.layers[:]
    net.layers.extend(upgraded)
    return notes


def _fold_padding(net: NetParameter, source: Source) -> list[str]:
    """Removes the padding layers; the convolution or pooling after each one gets its padding."""
    producers: dict[str, V1LayerParameter | None] = dict.fromkeys(net.input)
    kept, notes = [], []
    for connection in net.layers:
        layer = V1LayerParameter()
        layer.CopyFrom(connection)
        for i, bottom in enumerate(connection.bottom):
            if bottom not in producers:
                message = f'bottom "{bottom}" is not the top of any earlier layer{did_you_mean(bottom, producers)}'
                raise NetError(message, source.where(connection))
            padding = producers[bottom]
            if padding is not None and padding.layer.type == "padding":
                _check_padding(padding, connection, source)
                layer.layer.pad = padding.layer.pad
                layer.bottom[i] = padding.bottom[0]
        if layer.layer.type == "padding":
            notes.append(f"{label(layer)}: its padding went into the layer behind it")
        else:
            kept.append(layer)
        producers.update(dict.fromkeys(connection.top, connection))
    del net.layers[:]
    net.layers.extend(kept)
    return notes


def _check_padding(padding: V1LayerParameter, user: V1LayerParameter, source: Source) -> None:
    if user.layer.type not in ("conv", "pool") or len(user.bottom) != 1:
        message = f'only a "conv" or "pool" with one bottom can follow {label(padding)}'
        raise NetError(message, source.where(user))
    if len(padding.bottom) != 1 or len(padding.top) != 1:
        raise NetError("a padding layer has one bottom and one top", source.where(padding))


def _upgrade_v0_layer(connection: V1LayerParameter, source: Source) -> tuple[V1LayerParameter, list[str]]:
    """The V1 layer, and the names of the fields that V1 lacks."""
    old = connection.layer
    layer = V1LayerParameter(bottom=connection.bottom, top=connection.top)
    type_name, param = _V0_TYPES.get(old.type, ("", ""))
    if type_name:
        layer.type = V1LayerParameter.LayerType.Value(type_name)  # type: ignore[assignment]
    elif old.HasField("type"):
        message = f'there is no V0 layer type "{old.type}"{did_you_mean(old.type, _V0_TYPES)}'
        raise NetError(message, source.where(connection))
    dropped = [field.name for field, _ in connection.ListFields() if field.name not in ("layer", "bottom", "top")]
    for field, value in old.ListFields():
        name = field.name
        new_name, types = _V0_FIELDS.get(name, ("", set()))
        if name in _V0_LAYER_FIELDS:
            _put(layer, _V0_LAYER_FIELDS[name], value)
        elif name in _V0_TRANSFORM_FIELDS:
            _put(layer.transform_param, _V0_TRANSFORM_FIELDS[name], value)
        elif old.type in types:
            _put(getattr(layer, param), new_name, value)
        elif name == param:  # hdf5_output_param is a message in V0 too
            _put(layer, name, value)
        elif name != "type":
            dropped.append(name)
    return layer, dropped


# V1


def _upgrade_data(net: NetParameter) -> list[str]:
    """Moves the transformation fields of the data layers into transform_param."""
    moved = False
    for layer in net.layers:
        param_name = _V1_DATA.get(V1LayerParameter.LayerType.Name(layer.type))
        if param_name is None:
            continue
        param = getattr(layer, param_name)
        for name in _TRANSFORM_FIELDS:
            if param.HasField(name):
                setattr(layer.transform_param, name, getattr(param, name))
                param.ClearField(name)
                moved = True
    return ["transformation fields of data layers were moved into transform_param"] if moved else []


def _upgrade_v1(net: NetParameter) -> list[str]:
    for old in net.layers:
        layer = net.layer.add()
        for field, value in old.ListFields():
            if field.name in _V1_PARAM_FIELDS:
                _set_params(layer, _V1_PARAM_FIELDS[field.name], value)
            elif field.name == "type":
                layer.type = V1_TYPES[V1LayerParameter.LayerType.Name(value)]
            else:
                _put(layer, field.name, value)
    del net.layers[:]
    return ['the old "layers" were replaced by "layer"']


def _set_params(layer: LayerParameter, name: str, values: list) -> None:
    while len(layer.param) < len(values):
        layer.param.add()
    for param, value in zip(layer.param, values, strict=False):
        setattr(param, name, value)


# Fields of the net that became layers, and layers whose parameters changed


def _upgrade_input(net: NetParameter, source: Source) -> list[str]:
    """Turns input, input_shape and input_dim (four for each input) into one Input layer at the start.

    Inputs without a shape are dropped: old weight files have them, next to layers that only carry weights.
    """
    if net.input_shape:
        shapes = [list(shape.dim) for shape in net.input_shape]
    else:
        shapes = [list(net.input_dim[i : i + 4]) for i in range(0, len(net.input_dim) - 3, 4)]
    if net.input_shape or net.input_dim:
        if len(shapes) < len(net.input):
            received = f"{len(net.input_shape)} input_shape" if net.input_shape else f"{len(net.input_dim)} input_dim"
            message = f"{len(net.input)} inputs need an input_shape or four input_dim each, got {received}"
            raise NetError(message, source.where())
        _insert_input_layer(net, shapes)
        note = 'the fields "input", "input_dim" and "input_shape" were replaced by an Input layer'
    else:
        note = f"the inputs {', '.join(net.input)} have no input_shape and are ignored"
    for name in ("input", "input_shape", "input_dim"):
        net.ClearField(name)
    return [note]


def _insert_input_layer(net: NetParameter, shapes: list[list[int]]) -> None:
    layer = LayerParameter(name="input", type="Input", top=net.input)
    for _, shape in zip(net.input, shapes, strict=False):
        layer.input_param.shape.add(dim=shape)
    net.layer.insert(0, layer)


def _has_old_batch_norm(layer: LayerParameter) -> bool:
    if layer.type != "BatchNorm" or len(layer.param) != 3:
        return False
    return any(
        not param.HasField(name) or getattr(param, name) for param in layer.param for name in ("lr_mult", "decay_mult")
    )


def _upgrade_batch_norm(net: NetParameter) -> list[str]:
    """Keeps the solver from changing running averages. Nets used to need three `param` entries for that."""
    old = [layer for layer in net.layer if _has_old_batch_norm(layer)]
    for layer in old:
        for param in layer.param:
            param.lr_mult = param.decay_mult = 0
    return [f"lr_mult and decay_mult of {len(old)} BatchNorm layers were set to 0"] if old else []
