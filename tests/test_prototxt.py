"""Prototxt text: what C++ protobuf accepts gives the message that google's own parser gives; what it refuses ends in an
error with the file, the line and the layer."""

import contextlib
import os
import random
import time
import tracemalloc
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycaffe_lite.errors import PrototxtError
from pycaffe_lite.proto import prototxt, read_net, read_solver
from pycaffe_lite.proto.caffe_pb2 import Datum, LayerParameter, NetParameter, SolverParameter
from pycaffe_lite.proto.schema import fields_of

KIT = os.environ.get("PYCAFFE_LITE_CONFORMANCE", "")
KIT_FILES = sorted(Path(KIT).glob("*/*.prototxt")) if KIT else []
needs_kit = pytest.mark.skipif(not KIT, reason="PYCAFFE_LITE_CONFORMANCE is not set")

NET = """# a net
name: "two"
layer {
  name: "conv1" type: "Convolution"
  bottom: "data" top: "conv1"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 20 kernel_size: [5, 3] weight_filler { type: "xavier" } }
  include { phase: TRAIN stage: 'a' }
}

layer
{
  name: "ip2"
  type: "InnerProduct"
  bottom: "conv1"
  top: "ip2"
}
"""


def parsed(text, message_class=NetParameter):
    message = message_class()
    prototxt.parse(text, message, "net.prototxt")
    return message


def error_of(text, message_class=NetParameter):
    with pytest.raises(PrototxtError) as caught:
        parsed(text, message_class)
    return str(caught.value)


# What is accepted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing but a comment",
        NET,
        NET.replace("\n", "\r\n"),
        "name: 'single' \"joined\" # comment\n 'and again'",
        "name: \"it's\" ; input: '\"', input: 'b'; state: < phase: TEST >",
        "layer < name: 'a' > layer: { name: 'b' } layer: [ { name: 'c' }, < name: 'd' > ] input: []",
        "input_dim: 0x1F input_dim: 017 input_dim: -0x10 input_dim: [1, 2,3 ] input_dim: -2147483648",
        "state { phase: 1 level: -3 }  force_backward: true debug_info: 0",
        "layer { propagate_down: [true, false, t, f, True, False, 1, 0] }",
        "layer { loss_weight: [.5, 2., 1e-3, 1E+3, 1f, 2.5F, 3, -4, inf, -inf, infinity, Inf, nan] }",
        "layer { loss_weight: 0.1 loss_weight: 1e39 loss_weight: 123456789012345678901 }",
        r"name: 'tab\t nl\n cr\r q\' \" \\ \a\b\f\v oct\101\7 hex\x41\x4 u\u00e4 U\U0001F600'",
        "name: 'Zeichen \u00e4\u4e2d \U0001f600' # K\u00f6rper",
        "name:'a'layer{name:'b'top:'c'}layer<>",
        "state { stage: 'a' stage: 'b' }",
        "layer { python_param { param_str: '{\\'a\\': 1}' } }",
    ],
)
def test_same_message_as_google(text):
    assert text_format.MessageToString(parsed(text)) == text_format.MessageToString(text_format.Parse(text, NetParameter()))


def test_what_only_the_other_implementations_accept():
    """Each of these is read by C++ protobuf or is harmless, but refused by google's parser in Python."""
    assert parsed(b"\xef\xbb\xbfname: 'bom'").name == "bom"
    assert parsed(b"# \xd6\xd0\xce\xc4 in GBK\nname: 'n'").name == "n"
    assert parsed(r"name: 'a\?\ud83d\ude00'").name == "a?\U0001f600"
    assert parsed("layer { propagate_down: 0x1 }").layer[0].propagate_down == [True]
    assert parsed("input_dim: - 5").input_dim == [-5]
    assert [layer.name for layer in parsed("layer [ { name: 'a' }, < name: 'b' > ] layer: []").layer] == ["a", "b"]


def test_bytes_field_takes_any_byte():
    assert parsed(r"data: '\000\377\xfe' 'a'", Datum).data == b"\0\xff\xfea"


@needs_kit
@pytest.mark.parametrize("path", KIT_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_kit_file_gives_same_message_as_google(path):
    text = path.read_text(encoding="utf-8")
    accepted = 0
    for message_class in (NetParameter, SolverParameter):
        try:
            expected = text_format.Parse(text, message_class())
        except text_format.ParseError:
            error_of(text, message_class)
            continue
        if path.stem == "missing_required":  # google's parser in Python leaves that to whoever writes the message
            assert 'ClipParameter needs the field "max"' in error_of(text)
            continue
        assert parsed(text, message_class) == expected
        accepted += 1
    assert accepted or path.parent.name == "errors"


# What is refused, and how


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layr { }", '1: NetParameter has no field "layr" (did you mean "layer"?)'),
        (
            NET.replace("num_output", "num_outputs"),
            '7: layer "conv1" (Convolution): ConvolutionParameter has no field "num_outputs" (did you mean "num_output"?)',
        ),
        (
            NET.replace('top: "ip2"', 'top: "ip2" botom: "x"'),
            '16: layer "ip2" (InnerProduct): LayerParameter has no field "botom" (did you mean "bottom"?)',
        ),
        ('name: "a" name: "b"', '1: NetParameter takes one "name", this is the second'),
        ("state {} state {}", '1: NetParameter takes one "state", this is the second'),
        ("name: ['a']", '1: "name" takes one value, not a list in [ ]'),
        ("input: ['a',]", '1: expected a string in quotes for "input", got "]"'),
        ("input: ['a' 3]", '1: expected "," or "]" in the list of "input", got 3'),
        ("input: ['a'", '1: expected "," or "]" in the list of "input", got the end of the file'),
        ("name: abc", '1: expected a string in quotes for "name", got abc'),
        ("name 'abc'", '1: expected ":" after "name", got the string \'abc\''),
        (
            "input_dim: 'two'",
            "1: expected a whole number from -2147483648 to 2147483647 for \"input_dim\", got the string 'two'",
        ),
        ("input_dim: 2.5", '1: expected a whole number from -2147483648 to 2147483647 for "input_dim", got 2.5'),
        (
            "input_dim: 2147483648",
            '1: expected a whole number from -2147483648 to 2147483647 for "input_dim", got 2147483648',
        ),
        ("input_dim: 09", '1: expected a whole number from -2147483648 to 2147483647 for "input_dim", got 09'),
        ("input_dim: 12px", '1: expected a whole number from -2147483648 to 2147483647 for "input_dim", got 12px'),
        (
            "layer { name: 'c' convolution_param {\n num_output: -2 } }",
            '2: layer "c": expected a whole number from 0 to 4294967295 for "num_output", got -2',
        ),
        ("layer { loss_weight: 'a' }", "1: expected a number for \"loss_weight\", got the string 'a'"),
        ("layer { loss_weight: 0x10 }", '1: expected a number for "loss_weight", got 0x10'),
        ("layer { loss_weight: 1.2.3 }", '1: expected a number for "loss_weight", got 1.2.3'),
        ("force_backward: maybe", '1: expected true or false for "force_backward", got maybe'),
        ("force_backward: 2", '1: expected true or false for "force_backward", got 2'),
        ("state { phase: TESTING }", '1: expected one of TRAIN, TEST for "phase", got TESTING (did you mean "TEST"?)'),
        ("state { phase: 7 }", '1: expected one of TRAIN, TEST for "phase", got 7'),
        (
            "state { phase: 'TEST' }",
            "1: expected one of TRAIN, TEST for \"phase\", got the string 'TEST' (write TEST without quotes)",
        ),
        ("layer: 3", '1: expected a message in { } for "layer", got 3'),
        ("\nlayer {\n name: 'c'\n", '2: layer "c": the "{" here is never closed'),
        (
            "layer { name: 'c'\n convolution_param { pad: 1\n top: 'x' }",
            '3: layer "c": ConvolutionParameter has no field "top" (is a "}" missing for the "{" of line 2?)',
        ),
        ("name: 'x'\n}", '2: there is no open "{" or "<" for this "}"'),
        ("state {\n>", '2: expected a field of NetState or "}" to close the "{" of line 1, got ">"'),
        ('\nname: "abc\nlayer { }', "2: this string has no closing quote on its line"),
        ("name: 'abc", "1: this string has no closing quote on its line"),
        ("name: 'a\\q'", r"1: a string cannot contain \q (a backslash itself is written as two)"),
        ("name: '\\U00110000'", r"1: a string cannot contain \U (a backslash itself is written as two)"),
        ("name: '\\377'", '1: the string of "name" is not in UTF-8'),
        (b"\nname: '\xd6\xd0'", '2: the string of "name" is not in UTF-8'),
        ("name: 'a',, force_backward: 1", '1: expected a field of NetParameter, got ","'),
        ("name: 'a' \u00a0", "1: expected a field of NetParameter, got the character U+00A0"),
        (b"name: 'a' \xff", "1: expected a field of NetParameter, got the byte 0xff"),
        ("[caffe.extension]: 3", '1: expected a field of NetParameter, got "["'),
        (
            "layer { name: 'c' type: 'Clip'\n clip_param { min: 0 } }",
            '2: layer "c" (Clip): ClipParameter needs the field "max"',
        ),
        (
            "test_iter: 3",
            '1: NetParameter has no field "test_iter" (this looks like a solver, not a net; its field net names the net)',
        ),
    ],
)
def test_error(text, message):
    assert error_of(text) == f"net.prototxt:{message}"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (
            "layer { type: CONVOLUTION }",
            '(in a "layer" it is type: "Convolution", without quotes it belongs to the old "layers")',
        ),
        (
            "layers { type: 'InnerProduct' }",
            '(in the old "layers" it is type: INNER_PRODUCT, in quotes it belongs to "layer")',
        ),
        ("layer { blobs_lr: 1 }", '(it belongs to the old "layers"; a "layer" has param { lr_mult decay_mult share_mode })'),
        ("layer { param: 'w' }", "(in a \"layer\" it is param { name: 'w' })"),
        ("layers { batch_norm_param { } }", '(it belongs to "layer", not to the old "layers")'),
        ("layers { type: CONVOLUTON }", '(did you mean "CONVOLUTION"?)'),
    ],
)
def test_hint_where_old_and_new_are_mixed(text, hint):
    assert error_of(text).endswith(hint)


def test_error_names_layers_of_the_old_formats():
    assert error_of("layers { name: 'c' type: CONVOLUTION\n foo: 1 }").startswith(
        'net.prototxt:2: layer "c" (CONVOLUTION): '
    )
    assert error_of("layers { layer { name: 'c' type: 'conv' } foo: 1 }").startswith('net.prototxt:1: layer "c" (conv): ')


def test_error_without_a_file_name():
    with pytest.raises(PrototxtError) as caught:
        prototxt.parse("name: 'a'\nlayer { name: 'b' foo: 1 }", NetParameter())
    assert str(caught.value) == 'line 2: layer "b": LayerParameter has no field "foo"'


def test_net_given_as_solver():
    assert error_of("layer { }", SolverParameter).endswith(
        "(this looks like a net, not a solver; a solver names its net in the field net)"
    )


def test_binary_and_utf16_files():
    model = NetParameter(name="n", layer=[LayerParameter(name="a", phase=0)]).SerializeToString()
    assert error_of(model) == f"net.prototxt: {prototxt.BINARY}"
    assert error_of("name: 'a'".encode("utf-16")) == "net.prototxt: this text is in UTF-16, it must be saved as UTF-8"


def test_depth():
    def nested(depth):
        return "nested_type { " * depth + "}" * depth

    parsed(nested(100), descriptor_pb2.DescriptorProto)
    assert error_of(nested(101), descriptor_pb2.DescriptorProto).endswith("more than 100 messages inside one another")
    error_of("nested_type { " * 100_000, descriptor_pb2.DescriptorProto)


# Files and places


def test_read(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    net, source = read_net(path)
    assert [layer.name for layer in net.layer] == ["conv1", "ip2"]
    assert source.name == str(path)
    assert source.where(net.layer[1]) == f'{path}:11: layer "ip2" (InnerProduct)'
    path.write_text("base_lr: 0.1 solver_type: ADAM")
    assert read_solver(str(path))[0].type == "Adam"


@pytest.mark.parametrize("name", ["missing.prototxt", ".", "nul\0byte"])
def test_unreadable_file(tmp_path, name):
    with pytest.raises(PrototxtError, match="cannot read this file: ") as caught:
        prototxt.read(tmp_path / name, NetParameter())
    assert caught.value.where == str(tmp_path / name)


def test_where():
    def layer(name, kind="", top=()):
        return LayerParameter(name=name, type=kind, top=top)

    text = NET + 'layer { name: "conv1" type: "Data" top: "data" }\n' + 'layers { layer { name: "v0" } top: "v" }'
    source = prototxt.parse(text, NetParameter(), "net.prototxt")
    assert source.where() == "net.prototxt"
    assert source.where(layer("ip2", "InnerProduct", ["ip2"])) == 'net.prototxt:11: layer "ip2" (InnerProduct)'
    assert source.where(layer("conv1", "Data", ["data"])) == 'net.prototxt:18: layer "conv1" (Data)'
    assert source.where(layer("conv1", "Convolution", ["conv1"])) == 'net.prototxt:3: layer "conv1" (Convolution)'
    assert source.where(layer("conv1", "Other", ["other"])) == 'net.prototxt:3: layer "conv1" (Other)'
    assert source.where(layer("v0", "Pooling", ["v"])) == 'net.prototxt:19: layer "v0" (Pooling)'
    assert source.where(layer("x_split", "Split")) == 'net.prototxt: layer "x_split" (Split)'
    assert source.where(layer("ip2")) == 'net.prototxt:11: layer "ip2"'
    twice = 'layer {{ name: "d" type: "Data" top: "d" include {{ phase: {} }} }}\n'
    phases = twice.format("TRAIN") + twice.format("TEST")
    net = NetParameter()
    source = prototxt.parse(phases, net, "net.prototxt")
    assert [source.where(layer) for layer in net.layer] == [f'net.prototxt:{i}: layer "d" (Data)' for i in (1, 2)]
    nameless = prototxt.parse(text, NetParameter())
    assert nameless.where(layer("ip2", "InnerProduct")) == 'layer "ip2" (InnerProduct)'
    assert nameless.where() == ""


# Any message, any text


def field_values(field, depth):
    kinds = field.cpp_type
    if kinds == field.CPPTYPE_MESSAGE:
        return messages(field.message_type, depth - 1)
    if kinds == field.CPPTYPE_ENUM:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if kinds == field.CPPTYPE_STRING:
        return st.binary(max_size=8) if field.type == field.TYPE_BYTES else st.text(max_size=8)
    return {
        field.CPPTYPE_BOOL: st.booleans(),
        field.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
        field.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
        field.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
        field.CPPTYPE_FLOAT: st.floats(width=32, allow_nan=False),
        field.CPPTYPE_DOUBLE: st.floats(allow_nan=False),
    }[kinds]


@st.composite
def messages(draw, descriptor, depth=3):
    """Some of a message's fields as a dict, as a message constructor takes it."""
    rules = fields_of(descriptor)
    fields = [item for item in descriptor.fields if depth > 0 or item.message_type is None]
    chosen = draw(st.lists(st.sampled_from(fields), max_size=4, unique_by=lambda item: item.name)) if fields else []
    chosen += [item for item in fields if rules[item.name].required and item not in chosen]
    return {
        item.name: draw(
            st.lists(field_values(item, depth), max_size=3) if rules[item.name].repeated else field_values(item, depth)
        )
        for item in chosen
    }


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from([NetParameter, SolverParameter, Datum]).flatmap(lambda c: st.tuples(st.just(c), messages(c.DESCRIPTOR)))
)
def test_round_trip(case):
    message_class, values = case
    message = message_class(**values)
    for options in ({}, {"as_one_line": True}, {"as_utf8": True}, {"use_short_repeated_primitives": True}):
        assert parsed(text_format.MessageToString(message, **options), message_class) == message
    assert parsed(prototxt.to_text(message), message_class) == message


def test_damaged_text_ends_in_an_error_or_a_message():
    chance = random.Random(1)
    texts = [NET.encode(), *(path.read_bytes() for path in KIT_FILES[::20])]
    pieces = [
        b"{",
        b"}",
        b"<",
        b">",
        b"[",
        b"]",
        b":",
        b",",
        b"'",
        b'"',
        b"\\",
        b"#",
        b"-",
        b"9" * 30,
        b"\n",
        b"\xff",
        b"layer",
        b"e",
    ]
    errors = []
    for _ in range(1500):
        text = bytearray(chance.choice(texts))
        for _ in range(chance.randint(1, 3)):
            start = chance.randrange(len(text) + 1)
            text[start : start + chance.choice([0, 0, 1, 5])] = chance.choice(
                [*pieces, b"", bytes([chance.randrange(1, 256)])]
            )
        try:
            prototxt.parse(bytes(text), NetParameter(), "net.prototxt")
        except PrototxtError as error:
            errors.append(error)
    assert len(errors) > 500
    assert all(error.where.startswith("net.prototxt") and len(str(error)) < 500 for error in errors)


def test_large_net_is_read_quickly():
    layer = NET[NET.index("layer") :]
    start = time.perf_counter()
    net = parsed(layer * 630)
    assert time.perf_counter() - start < 1.5
    assert len(net.layer) == 1260


@pytest.mark.parametrize(
    "unit",
    ['"\\a" ', "#\n", " ", "9", "0x9", "a", "'", "\\", "-", "1e+", "input_dim: 1;", "layer {", "{", "\\'"],
)
@pytest.mark.parametrize("start", ["name: ", "name: '", "input_dim: "])
def test_hostile_text_takes_linear_time(start, unit):
    begin = time.perf_counter()
    error_of(start + unit * 100_000 + "@")
    assert time.perf_counter() - begin < 2  # anything worse than linear would take minutes


@pytest.mark.parametrize(
    "text",
    ["1" * 500_000, "1e+" * 200_000, 'name: "' + "\\a" * 250_000, "#\n" * 250_000, " \n" * 250_000, "'\"" * 250_000],
    ids=["digits", "exponents", "escapes", "comments", "lines", "quotes"],
)
def test_a_token_takes_no_memory_but_for_itself(text):
    """The module `re` keeps a hundred bytes for each repetition of a group."""
    tracemalloc.start()
    try:
        with contextlib.suppress(PrototxtError):
            prototxt.parse(text, NetParameter())
        assert tracemalloc.get_traced_memory()[1] < 20 * len(text)
    finally:
        tracemalloc.stop()


def test_lines_are_counted_from_any_offset():
    parser = prototxt.Parser("a\nb\n\nc", "")
    assert [parser.line(offset) for offset in (5, 0, 2, 2, 4, 1)] == [4, 1, 2, 2, 3, 1]


@pytest.mark.parametrize("field", ["type", "name", "bottom", "include { phase", "loss_weight", "convolution_param"])
def test_a_byte_that_is_no_text_anywhere(field):
    """protobuf's table of an enum's names does not even compare it."""
    layer = "layer" if "phase" in field or field == "name" else "layers"
    with pytest.raises(PrototxtError, match="0xed"):
        prototxt.parse(f"{layer} {{ {field}: ".encode() + b"\xed }", NetParameter())
