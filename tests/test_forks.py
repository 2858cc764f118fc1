"""Types, fields and values of forks of Caffe: errors name the type first, and the fork."""

from __future__ import annotations

from pathlib import Path

import pytest

import pycaffe_lite as caffe
from pycaffe_lite import layer
from pycaffe_lite.check import check
from pycaffe_lite.errors import CaffeError, PrototxtError
from pycaffe_lite.proto import caffe_pb2, forks

INPUT = 'input: "x" input_shape { dim: 1 dim: 2 dim: 4 dim: 4 }\n'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def error_of(text: str) -> str:
    """The error of a net with this text after an input, and `check` finds the same one and no other."""
    Path("net.prototxt").write_text(INPUT + text)
    with pytest.raises(CaffeError) as caught:
        caffe.Net("net.prototxt", caffe.TEST)
    assert check("net.prototxt")[0].lines() == [f"error: {caught.value}"]
    return str(caught.value)


# ---- the table ----------------------------------------------------------------------------------------------------


def test_the_table_has_only_what_this_package_has_not():
    known = layer.registered_types()
    assert not [name for name in forks.TYPES if name in known]
    fields = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
    assert not [field for field, _ in forks.TYPES.values() if field in fields]
    messages = caffe_pb2.DESCRIPTOR.message_types_by_name
    added = {(message, field) for message, rows in forks.FIELDS.items() for row in rows.values() for field in row.split()}
    assert not [(message, field) for message, field in added if field in messages[message].fields_by_name]
    assert set(forks.INSTEAD) <= added


# ---- types --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", forks.TYPES)
def test_the_type_is_named_before_its_field(name):
    field, where = forks.TYPES[name]
    param = f"{field} {{ a: 1 b {{ c: [1, 2] }} }}" if field else ""
    error = error_of(f'layer {{ name: "l" type: "{name}"\n bottom: "x" top: "y" {param} }}')
    assert error.startswith(f'net.prototxt:2: layer "l" ({name}): unknown layer type "{name}": Caffe does not have it')
    assert error.endswith(f"only forks do: {where}")
    assert f"nor its field {field}, " in error or not field


def test_the_type_may_stand_behind_its_field():
    text = 'layer { permute_param { order: 0 } include { phase: TEST }\n bottom: "x" top: "y" type: "Permute" name: "l" }'
    assert error_of(text).startswith('net.prototxt:2: layer "l" (Permute): unknown layer type "Permute"')


@pytest.mark.parametrize("field", ["my_own_param { a: 1 }", "zigzag_q: 3", "convolution_param { of_my_own: 1 }"])
def test_an_unknown_type_that_no_known_fork_has(field):
    error = error_of(f'layer {{ name: "l" type: "MyOwn" bottom: "x" top: "y"\n {field} }}')
    assert error == (
        'net.prototxt:2: layer "l" (MyOwn): unknown layer type "MyOwn"; --import names a module with types of your own'
    )


def test_a_misspelt_field_of_an_unknown_type_is_found_too():
    text = INPUT + 'layer { name: "l" type: "Permute" botom: "x" top: "y" permute_param { order: 1 } }'
    Path("net.prototxt").write_text(text)
    lines = check("net.prototxt")[0].lines()
    assert ["unknown layer type" in lines[0], '"botom" (did you mean "bottom"?)' in lines[1], len(lines)] == [True, True, 2]


# ---- fields and values --------------------------------------------------------------------------------------------

FIELDS = {
    'type: "Pooling" pooling_param {\n ceil_mode: false }': (
        'PoolingParameter has no field "ceil_mode": Caffe does not have it, only forks do: pull request 3057, Synopsys; '
        "Caffe has round_mode: FLOOR for ceil_mode: false, and CEIL, the default, for true"
    ),
    'type: "Dropout" dropout_param {\n scale_train: false }': "only forks do: Fast R-CNN, Synopsys",
    'type: "ReLU"\n permute_param { order: 1 }': (
        "only forks do: SSD, Intel, MobileNet-YOLO, Synopsys, for layers of type \"Permute\""
    ),
    'type: "SoftmaxWithLoss" loss_param {\n normalization: PRE_FIXED }': (
        'expected one of FULL, VALID, BATCH_SIZE, NONE for "normalization", got PRE_FIXED: '
        "Caffe does not have it, only forks do: R-FCN, Intel"
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", FIELDS, ids=lambda text: text.split()[-3])
def test_the_fork_of_a_field_is_named(text):
    error = error_of(f'layer {{ name: "l" bottom: "x" top: "y" {text} }}')
    assert error.startswith('net.prototxt:3: layer "l" (')
    assert error.endswith(FIELDS[text])


@pytest.mark.parametrize("field", ["eval_type", "ap_version", "plateau_winsize", "stagelr"])
def test_the_fork_of_a_field_of_a_solver_is_named(field):
    with pytest.raises(
        CaffeError, match=rf'^<text>:2: SolverParameter has no field "{field}": Caffe does not have it, only'
    ):
        caffe.get_solver(f'net: "net.prototxt"\n{field}: 1\n')


def test_a_netspec_names_the_fork_too():
    data = caffe.layers.Input(shape={"dim": [1, 2]})
    for layer_type, params, says in [
        ("Permute", {"permute_param": {"order": [0, 1]}}, "only forks do: SSD"),
        ("Permute", {"order": [0, 1]}, "only forks do: SSD"),
        ("Pooling", {"ceil_mode": False}, "only forks do: pull request 3057"),
        ("Pooling", {"pooling_param": {"ceil_mode": False}}, "only forks do: pull request 3057"),
    ]:
        spec = caffe.NetSpec()
        spec.y = getattr(caffe.layers, layer_type)(data, **params)
        with pytest.raises(Exception, match=says):
            spec.to_proto()


def test_a_type_of_ones_own_may_have_the_name_of_a_forks():
    @caffe.register_layer("Permute")
    class Permute(caffe.Layer):
        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)

    try:
        caffe.Net(INPUT + 'layer { name: "l" type: "Permute" bottom: "x" top: "y" }', caffe.TEST)
        error = error_of('layer { name: "l" type: "Permute" bottom: "x" top: "y" permute_param { } }')
        assert 'LayerParameter has no field "permute_param": Caffe does not have it' in error
    finally:
        del layer._REGISTRY["Permute"]


def test_an_old_layer_of_a_fork_is_named_by_its_type():
    text = 'layers { name: "p" type: ROI_POOLING bottom: "x" top: "p" roi_pooling_param { pooled_h: 2 } }'
    with pytest.raises(
        PrototxtError, match="got ROI_POOLING: Caffe does not have it, nor its field roi_pooling_param, only forks"
    ):
        caffe.Net(text, caffe.TEST)
