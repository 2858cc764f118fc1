"""The fields of a layer that hold messages: `convolution_param` holds a ConvolutionParameter."""

from __future__ import annotations

from functools import cache

from .caffe_pb2 import LayerParameter


@cache
def field_of_message() -> dict[str, str]:
    """Message to field: `{"ConvolutionParameter": "convolution_param", "LossParameter": "loss_param", ...}`."""
    fields = [field for field in LayerParameter.DESCRIPTOR.fields if field.name.endswith("_param")]
    return {field.message_type.name: field.name for field in fields if field.message_type is not None}


def own_field(layer_type: str) -> str:
    """The field whose message is named after a layer type, or an empty string if there is none."""
    return field_of_message().get(f"{layer_type}Parameter", "")
