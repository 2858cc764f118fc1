"""Which field of a layer holds which message: `convolution_param` is a ConvolutionParameter."""

from __future__ import annotations

from functools import cache

from .caffe_pb2 import LayerParameter


@cache
def field_of_message() -> dict[str, str]:
    """Message to field: `{"ConvolutionParameter": "convolution_param", "LossParameter": "loss_param", ...}`."""
    fields = [field for field in LayerParameter.DESCRIPTOR.fields if field.name.endswith("_param")]
    return {field.message_type.name: field.name for field in fields if field.message_type is not None}


def own_field(layer_type: str) -> str:
    """The field with the message that is called after a layer type, or an empty string where there is none."""
    return field_of_message().get(f"{layer_type}Parameter", "")
