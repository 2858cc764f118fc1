"""docs/layers.md and the table of layers in README.md are what docs/generate.py makes of the docstrings, and say it all."""

from __future__ import annotations

import inspect
import re
import runpy
import sys
from functools import cache
from pathlib import Path

import pytest

from pycaffe_lite.layer import registered_types
from pycaffe_lite.proto import caffe_pb2

REPOSITORY = Path(__file__).parent.parent
LAYERS = (REPOSITORY / "docs/layers.md").read_text("utf-8")
README = (REPOSITORY / "README.md").read_text("utf-8")
GENERATE = runpy.run_path(str(REPOSITORY / "docs/generate.py"))
SECTIONS = {text.split("\n", 1)[0]: text for text in re.split(r"^## ", LAYERS, flags=re.MULTILINE)[1:]}

MOVES_VALUES = ("data", "shape")  # families that compute nothing; what they do is said without a formula
MESSAGES = {
    field.name: field.message_type for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields if field.name.endswith("_param")
}


@cache
def messages_read(name: str) -> set[str]:
    """The messages that the code of a type's file, or a base of the type, takes from its layer in the prototxt."""
    layer = registered_types()[name]
    bases = [base for base in layer.__mro__ if "layer_types" in base.__module__]
    texts = map(inspect.getsource, [sys.modules[layer.__module__], *bases])
    return {found for text in texts for found in re.findall(r"self\.param\.(\w+_param)\b", text)}


def rows(name: str, message: str) -> dict[str, list[str]]:
    """The table of a message in a section: type, default and meaning of each field."""
    table = re.search(
        rf"`{message}`(?::[^\n]*|\n\n[^\n|]+)?\n\n\| field .*?\n\|---.*?\n(.*?)\n(?:\n|$)", SECTIONS[name], re.DOTALL
    )
    assert table, f"{name} has no table of {message}"
    cells = (re.split(r" \| ", line.strip("| "), maxsplit=3) for line in table[1].split("\n"))
    return {field.strip("`"): rest for field, *rest in cells}


def test_what_is_committed_is_what_the_docstrings_give():
    assert GENERATE["layers_page"]() == LAYERS, "run `make docs`"
    assert GENERATE["readme_page"]() == README, "run `make docs`"


@pytest.mark.parametrize("name", registered_types())
def test_each_type_has_shapes_and_formula(name):
    section = SECTIONS[name]
    assert re.search(r"^- (\*\*(bottom|top)|No tops)", section, re.MULTILINE)
    assert re.search(r"^- (\*\*bottom|No bottoms)", section, re.MULTILINE), "nothing is said of bottoms"
    assert re.search(r"^- (\*\*[^*]*top|No tops)", section, re.MULTILINE), "nothing is said of tops"
    formula = re.search(r"`\w+(\[\w+\])? = |^```\n", section, re.MULTILINE)
    kind = registered_types()[name]
    assert formula or kind.is_result or kind.family in MOVES_VALUES


@pytest.mark.parametrize("name", registered_types())
def test_each_type_names_what_it_reads(name):
    for message in messages_read(name):
        assert f"`{message}`" in SECTIONS[name]


@pytest.mark.parametrize("message", MESSAGES)
def test_each_field_has_its_default(message):
    owners = [name for name in registered_types() if message in messages_read(name)]
    if message in ("loss_param", "transform_param"):
        owners = ["All types"]
    elif message == "data_param":
        owners = ["Data"]  # the others read its `prefetch` alone
    elif not owners:
        owners = [next(name for name in registered_types() if f"{name.lower()}_param" == message)]
    for name in owners:
        table = rows(name, message)
        assert set(table) == set(MESSAGES[message].fields_by_name)
        for field, (kind, default, meaning) in table.items():
            assert kind
            assert meaning
            check_default(MESSAGES[message].fields_by_name[field], default)


def check_default(field, default: str) -> None:
    assert default
    if field.has_default_value:
        value = default.strip('`"')
        if field.enum_type:
            assert field.enum_type.values_by_name[value].number == field.default_value
        elif isinstance(field.default_value, float):
            assert float(value) == pytest.approx(field.default_value)
        else:
            assert value == str(field.default_value).lower()


def test_links_lead_somewhere():
    headings = {"#" + text.strip("`").lower() for text in re.findall(r"^#+ (.*)$", LAYERS, re.MULTILINE)}
    inside = re.findall(r"\]\((#[^)]*)\)", LAYERS)
    outside = re.findall(r"\]\(docs/layers\.md(#[^)]*)\)", README)
    assert {*inside, *outside} <= headings
    assert len(outside) == len(registered_types())
    for target in re.findall(r"\]\(([^)#]+)\)", LAYERS):
        assert (REPOSITORY / "docs" / target).is_file(), target


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("`elu_param`:\n- `alpha` (default 2): a.", "expected the default 1, received 2"),
        ("`elu_param`:\n- `alpha`: a.", "expected the default 1, received none"),
        ("`elu_param`:\n- `beta` (default 1): b.", "differ in"),
        ("`tile_param`:\n- `axis` (default 1): a.\n- `tiles`: t.", "expected the default to be given"),
        ("`elu_param`:\n- alpha (default 1): a.", "expected `field`"),
        ("`elu_param`: as in ReLU.", "ReLU has no list of the fields of elu_param"),
    ],
)
def test_docstrings_that_are_wrong_are_refused(text, complaint):
    with pytest.raises(SystemExit, match=complaint):
        GENERATE["markdown"](text)


def test_notes_on_the_code_are_left_out():
    assert list(GENERATE["paragraphs"]("A\n\nInside: B\n\nC")) == ["A"]
