"""The fields of a message, in a form that is quick to ask and the same in each runtime of protobuf."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor


@dataclass(frozen=True)
class Field:
    """A field of a message, as the parser needs it."""

    name: str
    type: int  # a FieldDescriptorProto.TYPE_...
    repeated: bool
    required: bool
    message_type: Descriptor | None
    enum_type: EnumDescriptor | None


@cache
def fields_of(descriptor: Descriptor) -> dict[str, Field]:
    """The fields of a message by name, in the order of the schema."""
    # Labels are read from the descriptor's proto: the descriptor's own attribute differs between protobuf's runtimes.
    proto = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(proto)
    labels = {item.name: item.label for item in proto.field}
    return {
        item.name: Field(
            name=item.name,
            type=item.type,
            repeated=labels[item.name] == descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
            required=labels[item.name] == descriptor_pb2.FieldDescriptorProto.LABEL_REQUIRED,
            message_type=item.message_type,
            enum_type=item.enum_type,
        )
        for item in descriptor.fields
    }
