"""protobuf in pure Python, which protobuf recommends to programs with old `_pb2.py` files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from google.protobuf.internal import api_implementation
import numpy as np
import pycaffe_lite as caffe
from pycaffe_lite import cli
from pycaffe_lite.proto import caffe_pb2

assert api_implementation.Type() == "python"
L, P = caffe.layers, caffe.params
spec = caffe.NetSpec()
spec.data, spec.label = L.DummyData(shape=[dict(dim=[4, 1, 8, 8]), dict(dim=[4])], ntop=2,
                                    data_filler=[dict(type="gaussian"), dict(type="constant", value=1)])
spec.conv = L.Convolution(spec.data, num_output=2, kernel_size=3, engine="CAFFE", weight_filler=dict(type="xavier"))
spec.pool = L.Pooling(spec.conv, pool=P.Pooling.AVE, kernel_size=2, stride=2)
spec.ip = L.InnerProduct(spec.pool, num_output=2, weight_filler=dict(type="xavier"))
spec.loss = L.SoftmaxWithLoss(spec.ip, spec.label)
open("net.prototxt", "w").write(str(spec.to_proto()))
open("solver.prototxt", "w").write(
    'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" type: "Adam" max_iter: 4 snapshot: 2 snapshot_prefix: "s" '
    "random_seed: 1"
)
for command in (
    ["check", "solver.prototxt"],
    ["train", "--solver=solver.prototxt", "-minloglevel=1"],
    ["summary", "net.prototxt"],
    ["upgrade_net_proto_text", "net.prototxt", "new.prototxt"],
):
    assert cli.main(command) == 0, command

whole = caffe.Net("net.prototxt", "s_iter_4.caffemodel", caffe.TRAIN)
solver = caffe.get_solver("solver.prototxt")
solver.restore("s_iter_2.solverstate")
solver.step(2)
for name, blobs in whole.params.items():
    for blob, resumed in zip(blobs, solver.net.params[name]):
        np.testing.assert_array_equal(blob.data, resumed.data)
whole.save_hdf5("weights.h5")
message = caffe_pb2.NetParameter.FromString(open("s_iter_4.caffemodel", "rb").read())
np.testing.assert_array_equal(caffe.io.blobproto_to_array(message.layer[1].blobs[0]), whole.params["conv"][0].data)
try:
    caffe.Net('layer { name: "a" type: "ReLU" botom: "x" }', caffe.TEST)
except caffe.CaffeError as error:
    assert 'did you mean "bottom"' in str(error), error
else:
    raise AssertionError
"""
# Files of tests that read and write messages, and those of their tests that measure time, which this runtime needs.
TESTS = ("test_prototxt.py", "test_net_spec.py", "test_upgrade.py", "test_model_file.py", "test_schema.py")
SLOW_HERE = "not quickly and not time and not memory"


@pytest.fixture
def environment(monkeypatch) -> dict[str, str]:
    for name in [name for name in os.environ if name.startswith(("PYTEST_", "COV_"))]:
        monkeypatch.delenv(name)
    return {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}


def test_a_program(environment, tmp_path):
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_what_reads_and_writes_messages(environment):
    here = Path(__file__).parent
    files = [str(here / name) for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "-k", SLOW_HERE, *files]
    done = subprocess.run(command, env=environment, cwd=here.parent, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-5000:]
