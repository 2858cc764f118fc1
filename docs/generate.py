"""Writes docs/layers.md, and the table of layers in README.md, from the docstrings of the layer types.

    python docs/generate.py [--check]

`--check` writes nothing and ends with status 1 where a file says something else than the docstrings.

A docstring is made of paragraphs, with empty lines between them. They are recognised by how they begin:

    ReLU: what it does   (relu_layer.cpp).    the first one, with the file of Caffe that defines the behaviour
    bottom[0]: ...   top[0]: ...              shapes and learned parameters, parted by three spaces or a new line
    `relu_param`: ...                         the fields of a message, a list of `name` (default 1): meaning
    `relu_param`: as in PReLU.                the same list as that type has
    Differences from Caffe: ...               at the end
    Inside: ...                               from here on for readers of the code only, and left out

Four spaces make a formula. Types and defaults of fields come from the schema; a field that is missing, and a default that is
not the schema's, are errors.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet

from pycaffe_lite import layer_types, proto
from pycaffe_lite.layer import OTHER_FAMILY, registered_types

ROOT = Path(__file__).resolve().parent.parent
LAYERS, README = ROOT / "docs" / "layers.md", ROOT / "README.md"
BEGIN, END = "<!-- layers: written by docs/generate.py -->", "<!-- end of layers -->"
NOTE = "<!-- Written by docs/generate.py from the docstrings of pycaffe_lite/layer_types: edit these, then `make docs`. -->"

# As bytes: descriptors that were loaded show 0.999 as 0.999000013.
SCHEMA = FileDescriptorSet.FromString(resources.files(proto).joinpath("caffe.binpb").read_bytes()).file[0]
MESSAGES = {message.name: message for message in SCHEMA.message_type}
HOLDERS = {field.name: field.type_name.removeprefix(".caffe.") for field in MESSAGES["LayerParameter"].field}

SHARED = ("transform_param", "loss_param")  # described once, for all types
SHAPES = r"(?:(?:bottom|top)\b[^:.\n]*|Parameters?\b[^:.\n]*):|No (?:bottoms|tops)\."
MESSAGE = re.compile(r"`(\w+)`: ?(.*?)\n(- .*)", re.DOTALL)
AS_IN = re.compile(r"`(\w+)`: as in (\w+)\.")
ITEM = re.compile(r"- (`\w+`[^:]*): (.*)", re.DOTALL)
FIELD = re.compile(r"`(\w+)`(?: \((?:default )?([^)]+)\))?")


class Message(NamedTuple):
    """A list of the fields of a message: the text before it, and default and meaning of each field."""

    name: str
    text: str
    fields: dict[str, tuple[str, str]]


class Field(NamedTuple):
    type: str
    default: str


def docstring(name: str) -> str:
    """The docstring of the file that defines a layer type."""
    return sys.modules[registered_types()[name].__module__].__doc__ or ""


def source(name: str) -> str:
    """The path of that file in the repository."""
    return registered_types()[name].__module__.replace(".", "/") + ".py"


def paragraphs(doc: str) -> Iterator[str]:
    for paragraph in doc.strip("\n").split("\n\n"):
        if paragraph.startswith("Inside: "):
            return
        yield paragraph


# ---- fields ---------------------------------------------------------------------------------------------------------


def parse_message(paragraph: str) -> Message | None:
    """The list of fields that a paragraph is, if it is one."""
    match = MESSAGE.fullmatch(paragraph)
    if match is None:
        return None
    fields: dict[str, tuple[str, str]] = {}
    for item in re.split(r"\n(?=- )", match[3]):
        parts = ITEM.fullmatch(item)
        if parts is None:
            sys.exit(f"{match[1]}: expected `field` (default ...): meaning, received {item}")
        named = FIELD.findall(parts[1])
        for name, default in named:  # a field without a default has that of the last one
            fields[name] = default or named[-1][1], joined(parts[2])
    return Message(match[1], joined(match[2]), fields)


def message_of(name: str, field: str) -> Message:
    """What the docstring of type `name` says of the message in the field `field` of a layer."""
    for paragraph in paragraphs(docstring(name)):
        message = parse_message(paragraph)
        if message and message.name == field:
            return message
    sys.exit(f"{name} has no list of the fields of {field}")


def schema_of(name: str) -> dict[str, Field]:
    """The fields of a message, by its own name or by that of the field of a layer that holds it."""
    message = MESSAGES[HOLDERS.get(name, name)]
    enums = {enum.name: [value.name for value in enum.value] for enum in [*message.enum_type, *SCHEMA.enum_type]}
    return {field.name: Field(type_of(field, enums), default_of(field)) for field in message.field}


def default_of(field: FieldDescriptorProto) -> str:
    """The default that the schema gives, as a prototxt would; empty where it gives none."""
    if field.type == FieldDescriptorProto.TYPE_STRING and field.HasField("default_value"):
        return f'"{field.default_value}"'
    return field.default_value.replace("e-0", "e-")


def type_of(field: FieldDescriptorProto, enums: dict[str, list[str]]) -> str:
    """The type of a field in words: one of C, the message, or the values of an enum."""
    name = field.type_name.rpartition(".")[2]
    if name in enums:
        name = ", ".join(f"`{value}`" for value in enums[name])
    elif name == "FillerParameter":
        name = "[FillerParameter](#fillerparameter)"
    name = name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return f"repeated {name}" if field.label == FieldDescriptorProto.LABEL_REPEATED else name


def table(message: Message) -> str:
    """The fields in the order of the docstring. Ends the program where these are not those of the schema."""
    schema = schema_of(message.name)
    if set(schema) != set(message.fields):
        sys.exit(f"{message.name}: the docstring and the schema differ in {set(schema) ^ set(message.fields)}")
    lines = ["| field | type | default | |", "|---|---|---|---|"]
    for name, (default, meaning) in message.fields.items():
        kind, expected = schema[name]
        if not default or default != (expected or default):
            sys.exit(
                f"{message.name}.{name}: expected the default {expected or 'to be given'}, received {default or 'none'}"
            )
        lines.append(f"| `{name}` | {kind} | {f'`{expected}`' if expected else default} | {linked(meaning)} |")
    return "\n".join(lines)


# ---- paragraphs -----------------------------------------------------------------------------------------------------


def joined(text: str) -> str:
    return " ".join(text.split())


def linked(text: str) -> str:
    """`text` with links to what is described for all types."""
    return re.sub(rf"`({'|'.join(SHARED)})`", r"[`\1`](#\1)", text)


def markdown(paragraph: str, heading: str = "") -> str:
    """A paragraph of a docstring, with a `heading` in front of the name of a message."""
    same = AS_IN.match(paragraph)
    message = message_of(same[2], same[1]) if same else parse_message(paragraph)
    if message:
        title = f"{heading} `{message.name}`\n\n" if heading else f"`{message.name}`: "
        text = message.text[:1].upper() + message.text[1:] if heading else message.text
        return f"{title}{linked(text)}".strip() + f"\n\n{table(message)}"
    if paragraph.startswith("    "):
        return "```\n" + re.sub(r"^ {4}", "", paragraph, flags=re.MULTILINE) + "\n```"
    if re.match(SHAPES, paragraph):
        parts = re.split(rf"(?: {{3}}|\n)(?={SHAPES})", paragraph)
        return "\n".join("- " + re.sub(r"^([^:]+):", r"**\1**:", linked(joined(part))) for part in parts)
    paragraph = re.sub(r"^(Differences from Caffe[^:]*):", r"**\1**:", paragraph)
    lead, *items = re.split(r"\n(?=- )", paragraph)
    if lead.startswith("- "):
        lead, items = "", [lead, *items]
    return linked(f"{joined(lead)}\n\n" * bool(lead) + "\n".join(map(joined, items))).strip()


def section(name: str) -> str:
    first, *rest = paragraphs(docstring(name))
    match = re.fullmatch(r"(\w+): (.*?) {3}\((.*)\)\.", " ".join(first.split("\n")))
    if match is None or match[1] != name:
        sys.exit(f"{source(name)}: expected the docstring to begin with `{name}: ...   (file.cpp).`")
    path = source(name)
    where = f"[{Path(path).name}](../{path}); in Caffe " + ", ".join(f"`{file}`" for file in match[3].split(", "))
    what = match[2][0].upper() + match[2][1:]
    return "\n\n".join([f"## {name}", f"{what}.", f"Source: {where}.", *map(markdown, rest)])


def layers_page() -> str:
    """docs/layers.md"""
    names = sorted(registered_types(), key=str.lower)
    shared = [markdown(paragraph, heading="###") for paragraph in paragraphs(layer_types.__doc__ or "")][1:]
    contents = " ·\n".join(f"[{name}](#{name.lower()})" for name in names)
    head = ["# Layers", NOTE, f"All {len(names)} layer types. What all of them share comes first.", contents]
    return "\n\n".join([*head, "## All types", *shared, *map(section, names)]) + "\n"


def readme_table() -> str:
    """The table in README.md: a row for each family of layer types, which is a folder of layer_types/."""
    families: dict[str, list[str]] = {}
    for name, kind in registered_types().items():
        families.setdefault(kind.family, []).append(name)
    lines = ["| | layers, with their sources |", "|---|---|"]
    for family in sorted(families, key=lambda name: (name == OTHER_FAMILY, name)):
        links = (f"[{name}](docs/layers.md#{name.lower()}) ([py]({source(name)}))" for name in families[family])
        lines.append(f"| {family} | {', '.join(links)} |")
    return "\n".join(lines) + "\n"


def readme_page() -> str:
    """README.md, with the table of today."""
    before, rest = README.read_text("utf-8").split(BEGIN)
    return f"{before}{BEGIN}\n\n{readme_table()}\n{END}{rest.split(END)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare the files with the docstrings")
    check = parser.parse_args().check
    for path, text in ((LAYERS, layers_page()), (README, readme_page())):
        if not check:
            path.write_text(text, "utf-8")
        elif path.read_text("utf-8") != text:
            print(f"{path} is older than the docstrings: run `make docs`", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
