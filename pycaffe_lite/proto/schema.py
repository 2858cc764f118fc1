"""The fields of a message, in a form that is quick to ask and the same in each runtime of protobuf."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor


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
    return {
        item.name: Field(
            name=item.name,
            type=item.type,
            repeated=_is(item, "repeated"),
            required=_is(item, "required"),
            message_type=item.message_type,
            enum_type=item.enum_type,
        )
        for item in descriptor.fields
    }


def _is(field: FieldDescriptor, kind: str) -> bool:
    """Whether a field is "repeated" or "required". Releases of protobuf have attributes for these, or one `label`."""
    if hasattr(field, f"is_{kind}"):
        return bool(getattr(field, f"is_{kind}"))
    label = getattr(descriptor_pb2.FieldDescriptorProto, f"LABEL_{kind.upper()}")
    return bool(getattr(field, "label") == label)  # noqa: B009  unknown to the type checker
