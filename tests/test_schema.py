"""The schema is Caffe's: the same messages, numbers, types and defaults, and further fields only from number 1000 on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, text_format

from pycaffe_lite.proto import caffe_pb2

KIT = os.environ.get("PYCAFFE_LITE_CONFORMANCE")
ROOT = Path(__file__).resolve().parent.parent
Field = descriptor_pb2.FieldDescriptorProto

needs_kit = pytest.mark.skipif(not KIT, reason="PYCAFFE_LITE_CONFORMANCE names no conformance kit")


def load(name):
    return json.loads(Path(KIT or "", name).read_text("utf-8")) if KIT else {}


def in_subprocess(script, *arguments, **environment):
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def schema():
    file = descriptor_pb2.FileDescriptorProto()
    caffe_pb2.DESCRIPTOR.CopyToProto(file)
    return file


def default_of(message_name, field):
    """What a message that lacks the field answers, in the words of schema.json."""
    value = getattr(getattr(caffe_pb2, message_name)(), field.name)
    if field.type == Field.TYPE_ENUM:
        enum = caffe_pb2.DESCRIPTOR.message_types_by_name[message_name].fields_by_name[field.name].enum_type
        return enum.values_by_number[value].name
    return value.decode() if field.type == Field.TYPE_BYTES else value


def described(message_name, field):
    words = {
        "name": field.name,
        "number": field.number,
        "label": Field.Label.Name(field.label).removeprefix("LABEL_").lower(),
        "type": Field.Type.Name(field.type).removeprefix("TYPE_").lower(),
        "packed": field.options.packed,
        "deprecated": field.options.deprecated,
    }
    if field.type_name:
        words["type_name"] = field.type_name.lstrip(".")
    if field.label != Field.LABEL_REPEATED and field.type != Field.TYPE_MESSAGE:
        default = default_of(message_name, field)
        words["default"] = np.float32(default) if field.type == Field.TYPE_FLOAT else default
        words["explicit_default"] = field.HasField("default_value")
    return words


def values(enum):
    return {value.name: value.number for value in enum.value}


@needs_kit
@pytest.mark.parametrize("expected", load("schema.json").get("messages", []), ids=lambda message: message["name"])
def test_message_is_that_of_caffe(schema, expected):
    message = next(message for message in schema.message_type if message.name == expected["name"])
    fields = {field.name: described(message.name, field) for field in message.field}
    for want in expected["fields"]:
        if want["type"] == "float" and "default" in want:
            want = {**want, "default": np.float32(want["default"])}
        assert fields.pop(want["name"]) == want
    assert [field for field in fields.values() if field["number"] < 1000] == []
    enums = {enum.name: values(enum) for enum in message.enum_type}
    assert enums == {enum["name"]: {v["name"]: v["number"] for v in enum["values"]} for enum in expected["enums"]}


@needs_kit
def test_file_is_that_of_caffe(schema):
    expected = load("schema.json")
    assert (schema.package, schema.syntax or "proto2") == (expected["package"], expected["syntax"])
    assert [values(enum) for enum in schema.enum_type] == [{"TRAIN": 0, "TEST": 1}]
    assert len(expected["messages"]) == expected["count"] == 63


@needs_kit
@pytest.mark.parametrize("sample", load("schema_samples.json").get("samples", []), ids=lambda sample: sample["message"])
def test_sample_round_trip(sample):
    message_class = getattr(caffe_pb2, sample["message"])
    message = message_class.FromString(bytes.fromhex(sample["hex"]))
    assert message.SerializeToString(deterministic=True).hex() == sample["hex"]
    assert text_format.MessageToString(message) == sample["text"]
    assert text_format.Parse(sample["text"], message_class()) == message


@needs_kit
@pytest.mark.parametrize("case", load("schema_samples.json").get("wire_compat", []), ids=lambda case: case["notes"])
def test_other_spellings_on_the_wire(case):
    message = getattr(caffe_pb2, case["message"]).FromString(bytes.fromhex(case["hex"]))
    assert message.SerializeToString().hex() == case["equals"]


def test_facts():
    """A few that hurt most when wrong, for those who lack the kit."""
    messages = caffe_pb2.DESCRIPTOR.message_types_by_name
    numbers = {
        "NetParameter": {"name": 1, "layers": 2, "input": 3, "input_dim": 4, "input_shape": 8, "layer": 100},
        "LayerParameter": {"name": 1, "type": 2, "bottom": 3, "top": 4, "param": 6, "blobs": 7, "relu_param": 123},
        "BlobProto": {"num": 1, "width": 4, "data": 5, "diff": 6, "shape": 7, "double_data": 8},
        "Datum": {"channels": 1, "data": 4, "label": 5, "float_data": 6, "encoded": 7},
        "SolverState": {"iter": 1, "learned_net": 2, "history": 3, "current_step": 4},
    }
    for name, fields in numbers.items():
        assert {field: messages[name].fields_by_name[field].number for field in fields} == fields
    assert (caffe_pb2.TRAIN, caffe_pb2.TEST, caffe_pb2.Phase.Value("TEST")) == (0, 1, 1)
    assert caffe_pb2.V1LayerParameter.DECONVOLUTION == 39
    solver = caffe_pb2.SolverParameter()
    assert (solver.type, solver.solver_mode, solver.snapshot_after_train) == ("SGD", solver.GPU, True)
    assert np.float32(solver.delta) == np.float32(1e-8)
    assert caffe_pb2.BlobProto(data=[1, 2]).SerializeToString() == b"\x2a\x08\x00\x00\x80\x3f\x00\x00\x00\x40"


def test_committed_set_is_that_of_the_schema():
    pytest.importorskip("grpc_tools")
    tool = ROOT / "tools" / "generate_proto.py"
    if not tool.exists():
        pytest.skip("not run from a checkout")
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


SECOND_SCHEMA = """
import sys
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

def add_the_other():
    other = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    field = other.message_type.add(name="NetParameter").field.add(name="fork", number=100)
    field.type, field.label = field.TYPE_STRING, field.LABEL_OPTIONAL
    descriptor_pool.Default().AddSerializedFile(other.SerializeToString())

if sys.argv[1] == "first":
    add_the_other()
from pycaffe_lite.proto import caffe_pb2, model_file
if sys.argv[1] == "second":
    add_the_other()

other = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName("caffe.NetParameter"))
assert other(fork="x").SerializeToString() == bytes([0xA2, 0x06, 1]) + b"x"
assert len(caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(name="a")]).layer) == 1
assert not hasattr(caffe_pb2.NetParameter, "fork")
"""


@pytest.mark.parametrize("order", ["first", "second"])
def test_another_caffe_schema_in_the_process(order):
    done = in_subprocess(SECOND_SCHEMA, order)
    assert done.returncode == 0, done.stderr


IMPLEMENTATION = """
import numpy as np
from google.protobuf.internal import api_implementation
from pycaffe_lite.proto import caffe_pb2
from pycaffe_lite.proto.model_file import decode_blob, encode_blob, raw

assert api_implementation.Type() == "python"
assert caffe_pb2.ConvolutionParameter().group == 1
blob = raw.BlobProto()
encode_blob(blob, np.arange(6, dtype=np.float32).reshape(2, 3))
plain = caffe_pb2.BlobProto.FromString(blob.SerializeToString())
assert list(plain.data) == [0, 1, 2, 3, 4, 5] and list(plain.shape.dim) == [2, 3]
unpacked = raw.BlobProto.FromString(bytes.fromhex("2d0000803f 2d00000040 0801 1001 1801 2002"))
assert decode_blob(unpacked).data.tolist() == [1, 2]
"""


def test_protobuf_without_its_native_code():
    done = in_subprocess(IMPLEMENTATION, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python")
    assert done.returncode == 0, done.stderr
