"""Nets written in Python, with the names of pycaffe's `caffe.net_spec` (python/caffe/net_spec.py).

    from pycaffe_lite import layers as L, params as P

    n = NetSpec()
    n.data, n.label = L.Data(source="db", backend=P.Data.LMDB, batch_size=64, ntop=2)
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, weight_filler=dict(type="xavier"))
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.loss = L.SoftmaxWithLoss(n.relu1, n.label)
    print(n.to_proto())

A keyword is a field of the layer's own message (`convolution_param`) if that message has a field of this name, else a field
of LayerParameter. A name that ends in `param` is always a field of LayerParameter. `ntop` is the number of tops (default 1);
with `in_place` the top is the bottom.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import Message

from .errors import NetError, did_you_mean
from .proto import caffe_pb2, forks
from .proto.caffe_pb2 import LayerParameter, NetParameter
from .proto.fields import field_of_message, own_field

if TYPE_CHECKING:
    from .layer import Layer


class SpecError(NetError, AttributeError, KeyError):
    """An unknown name of a field, a constant or a top. Scripts for pycaffe expect AttributeError or KeyError."""


def param_name_dict() -> dict[str, str]:
    """Message to field, without their endings: `{"Convolution": "convolution", "Transformation": "transform", ...}`.

    If a layer type has its own parameters, their message is named after the type.
    """
    return {message.removesuffix("Parameter"): field.removesuffix("_param") for message, field in field_of_message().items()}


def to_proto(*tops: Top) -> NetParameter:
    """The net of all layers that the tops need. Blobs are named after their type: `Convolution1`, `Convolution2`."""
    return _net(tops, {})


def _net(tops: Any, names: dict[Any, str]) -> NetParameter:
    layers: OrderedDict[Function, LayerParameter] = OrderedDict()
    autonames: Counter[str] = Counter()
    for top in tops:
        top._to_proto(layers, names, autonames)
    return NetParameter(layer=layers.values())


# ---- values -------------------------------------------------------------------------------------------------------


def assign_proto(proto: Message, name: str, val: Any) -> None:
    """Sets field `name` of a message. A dict fills a message; a list fills a repeated field, a single value is appended.

    Raises SpecError for an unknown field, TypeError or ValueError for a value that the field does not accept.
    """
    if name not in proto.DESCRIPTOR.fields_by_name:
        raise SpecError(f'{proto.DESCRIPTOR.name} has no field "{name}"{_hint(proto, name, _fields(proto))}')
    field = getattr(proto, name)
    if hasattr(field, "extend"):
        for item in val if isinstance(val, list | tuple | np.ndarray) else [val]:
            if isinstance(item, dict) and hasattr(field, "add"):
                _fill(field.add(), item)
            else:
                _checked(proto, name, item, field.append)
    elif isinstance(val, dict) and isinstance(field, Message):
        _fill(field, val)
    elif isinstance(val, Message) and isinstance(field, Message):
        _checked(proto, name, val, field.CopyFrom)
    else:
        _checked(proto, name, val, lambda value: setattr(proto, name, value))


def _fill(message: Message, values: dict[str, Any]) -> None:
    for name, value in values.items():
        assign_proto(message, name, value)


def _number(enum: Any, val: Any) -> Any:
    """The number of an enum's value that is given by its name (`enum`: its descriptor, or None for other fields).

    Not every runtime of protobuf takes names.
    """
    if enum is None or not isinstance(val, str):
        return val
    if val not in enum.values_by_name:
        raise ValueError(f"expected one of {', '.join(enum.values_by_name)}{did_you_mean(val, enum.values_by_name)}")
    return enum.values_by_name[val].number


def _checked(proto: Message, name: str, val: Any, assign: Callable[[Any], Any]) -> None:
    """Assigns a value; if protobuf refuses it, the error names the field."""
    try:
        assign(_number(proto.DESCRIPTOR.fields_by_name[name].enum_type, val))
    except AttributeError:
        raise TypeError(f"{proto.DESCRIPTOR.name}.{name} is a message: expected a dict, received {val!r}") from None
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{proto.DESCRIPTOR.name}.{name} does not take {val!r}: {error}") from None


def _fields(proto: Message) -> list[str]:
    return list(proto.DESCRIPTOR.fields_by_name)


# ---- the graph ----------------------------------------------------------------------------------------------------


class Top:
    """Output number `n` of the layer `fn`."""

    def __init__(self, fn: Function, n: int):
        self.fn = fn
        self.n = n

    def to_proto(self) -> NetParameter:
        """The net of all layers that this top needs, with automatic names."""
        return to_proto(self)

    def _to_proto(self, layers: dict[Function, LayerParameter], names: dict[Any, str], autonames: Counter[str]) -> None:
        self.fn._to_proto(layers, names, autonames)


class Function:
    """A layer: its type, the tops that it reads, and its parameters; `tops` are its outputs.

    Raises TypeError for an input that is not a Top, such as the tuple from a layer with several tops.
    """

    def __init__(self, type_name: str, inputs: tuple[Top, ...], params: dict[str, Any]):
        for i, top in enumerate(inputs):
            if not isinstance(top, Top):
                raise TypeError(f"{type_name} input {i} is not a Top (type is {type(top)})")
        self.type_name = type_name
        self.inputs = inputs
        self.params = dict(params)
        self.ntop = self.params.pop("ntop", 1)
        self.in_place = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def _get_name(self, names: dict[Any, str], autonames: Counter[str]) -> str:
        """The layer's name: that of its first top, or a numbered name if it has no tops."""
        if self not in names:
            names[self] = self._get_top_name(self.tops[0] if self.tops else self, names, autonames)
        return names[self]

    def _get_top_name(self, top: Any, names: dict[Any, str], autonames: Counter[str]) -> str:
        if top not in names:
            autonames[self.type_name] += 1
            names[top] = f"{self.type_name}{autonames[self.type_name]}"
        return names[top]

    def _to_proto(self, layers: dict[Function, LayerParameter], names: dict[Any, str], autonames: Counter[str]) -> None:
        """Adds this layer to `layers`, after all layers that it needs."""
        if self in layers:
            return
        layer = LayerParameter(type=self.type_name)
        for top in self.inputs:
            top._to_proto(layers, names, autonames)
            layer.bottom.append(layers[top.fn].top[top.n])
        layer.top.extend(layer.bottom if self.in_place else [self._get_top_name(top, names, autonames) for top in self.tops])
        layer.name = self._get_name(names, autonames)
        self._assign_params(layer)
        layers[self] = layer

    def layer_parameter(self) -> LayerParameter:
        """The layer without its bottoms and tops."""
        layer = LayerParameter(type=self.type_name, name=self.type_name)
        self._assign_params(layer)
        return layer

    def _assign_params(self, layer: LayerParameter) -> None:
        for name, value in self.params.items():
            assign_proto(self._home(layer, name), name, value)

    def _home(self, layer: LayerParameter, name: str) -> Message:
        """The message that the parameter `name` belongs to: the layer's own, or the layer."""
        field = _own_field(self.type_name)
        message = getattr(layer, field) if field else layer
        if name in _fields(message) and not name.endswith("param"):
            return message
        if name in _fields(layer):
            return layer
        if not field and self.type_name not in (types := _layer_types()):
            hint = forks.of_type(self.type_name) or did_you_mean(self.type_name, types)
            raise SpecError(f'layer type "{self.type_name}" is unknown{hint}; so its parameter "{name}" has no place')
        hint = _hint(message, name, [*_fields(message), *_fields(layer)])
        raise SpecError(f'layer "{layer.name}" ({self.type_name}) has no parameter "{name}"{hint}')


def _hint(message: Message, name: str, names: Iterable[str]) -> str:
    """The forks that have an unknown field of a message, or the nearest of the known names."""
    return forks.of_field(message.DESCRIPTOR.name, name) or did_you_mean(name, names)


def _own_field(type_name: str) -> str:
    """The field with the message of a layer type, which may belong to another type; empty if it has none.

    pycaffe accepts the parameters of a type with another type's message only as `convolution_param=dict(...)`.
    """
    if field := own_field(type_name):
        return field
    kind = _layer_types().get(type_name)
    return kind.param_field if kind else ""


def _layer_types() -> dict[str, type[Layer]]:
    """All layer types. They are imported late, since most nets can be written without importing kernels."""
    from . import layer_types  # noqa: F401  registers them
    from .layer import registered_types

    return registered_types(installed=True)


class NetSpec:
    """A net under construction: assigning a top to an attribute (or item, `n["a/b"]`) names it and adds it to the net.

    `to_proto()` gives the layers of all assigned tops and the layers that these need, in the order of assignment. Tops
    without a name get one, as in `to_proto(*tops)`.
    """

    tops: OrderedDict[str, Any]

    def __init__(self) -> None:
        object.__setattr__(self, "tops", OrderedDict())

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(value, Top | Function):
            raise TypeError(f'"{name}": expected one top, received {type(value)}')
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        tops = self.__dict__.get("tops", {})  # empty while the object is being copied
        if name not in tops:
            raise SpecError(f'the net has no top "{name}" yet{did_you_mean(name, tops)}')
        return tops[name]

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def __getitem__(self, item: str) -> Any:
        return self.tops[item] if item in self.tops else self.__getattr__(item)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.tops})

    def to_proto(self) -> NetParameter:
        """The net as a message, which prints as a prototxt."""
        return _net(self.tops.values(), {top: name for name, top in self.tops.items()})


# ---- the two objects that look like modules -----------------------------------------------------------------------


class Layers:
    """`L.Convolution(bottom, kernel_size=3)` is the top of a layer, with `ntop=2` a tuple of tops, with `ntop=0` a Function.

    Any type name is accepted, since the net may be for another Caffe; `Net` raises an error for a type it does not know.
    """

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):  # notebooks and inspect ask every object for such names
            raise AttributeError(name)

        def layer_fn(*args: Top, **kwargs: Any) -> Any:
            fn = Function(name, args, kwargs)
            return fn.tops[0] if fn.ntop == 1 else fn.tops or fn

        return layer_fn

    def __dir__(self) -> list[str]:
        return list(_layer_types())


class Parameters:
    """`P.Pooling.MAX` is the value of an enum: any constant of the message `PoolingParameter`."""

    def __getattr__(self, name: str) -> Any:
        message = getattr(caffe_pb2, f"{name}Parameter", None)
        if message is None:
            raise SpecError(f"there is no message {name}Parameter{did_you_mean(name, dir(self))}")
        return _Constants(message)

    def __dir__(self) -> list[str]:
        names = caffe_pb2.DESCRIPTOR.message_types_by_name
        return [name.removesuffix("Parameter") for name in names if name.endswith("Parameter")]


class _Constants:
    def __init__(self, message: type[Message]):
        self._message = message

    def __getattr__(self, name: str) -> int:
        values = self._message.DESCRIPTOR.enum_values_by_name
        if name not in values:
            raise SpecError(f'{self._message.DESCRIPTOR.name} has no constant "{name}"{did_you_mean(name, values)}')
        return values[name].number

    def __dir__(self) -> list[str]:
        return list(self._message.DESCRIPTOR.enum_values_by_name)


layers = Layers()
params = Parameters()
