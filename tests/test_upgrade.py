"""Upgrades of old nets and solvers: the tables, the rules with a twist, and the conformance kit's pairs."""

import json
import os
from pathlib import Path

import pytest

from pycaffe_lite import glog
from pycaffe_lite.errors import NetError, SolverError
from pycaffe_lite.proto import prototxt, read_net, read_solver, upgrade
from pycaffe_lite.proto.caffe_pb2 import LayerParameter, NetParameter, SolverParameter, V0LayerParameter, V1LayerParameter
from pycaffe_lite.proto.source import Source
from pycaffe_lite.proto.upgrade import LostField, default_snapshot_prefix, net_needs_upgrade, upgrade_net, upgrade_solver

KIT = os.environ.get("PYCAFFE_LITE_CONFORMANCE", "")
FOLDER = Path(KIT) / "upgrade"
CASES = json.loads((FOLDER / "manifest.json").read_text())["cases"] if KIT else []
PAIRS = [case for case in CASES if "legacy" in case]


def parsed(text, message_class=NetParameter):
    message = message_class()
    prototxt.parse(text, message)
    return message


def check(old, new):
    """The old net becomes the new one, which needs no upgrade itself. Returns the notes."""
    net, expected = parsed(old), parsed(new)
    assert net_needs_upgrade(net)
    notes = upgrade_net(net)
    assert net == expected
    assert not net_needs_upgrade(net)
    assert upgrade_net(net) == []
    assert net == expected
    return notes


# The kit


@pytest.mark.skipif(not KIT, reason="PYCAFFE_LITE_CONFORMANCE is not set")
@pytest.mark.parametrize("case", PAIRS, ids=lambda case: case["id"])
def test_kit_pair(case):
    read = read_net if case["kind"] == "net" else read_solver
    got, want = read(FOLDER / case["legacy"])[0], read(FOLDER / case["upgraded"])[0]
    assert got == want


@pytest.mark.skipif(not KIT, reason="PYCAFFE_LITE_CONFORMANCE is not set")
@pytest.mark.parametrize("version", ["v0", "v1"])
def test_kit_binary_model(version):
    net = NetParameter.FromString((FOLDER / f"old_weights.{version}.caffemodel").read_bytes())
    assert net_needs_upgrade(net)
    upgrade_net(net)
    assert net == NetParameter.FromString((FOLDER / f"old_weights.{version}.upgraded.caffemodel").read_bytes())


# V0


def test_v0_layers():
    notes = check(
        """
        layers { top: "data" top: "label" layer { name: "d" type: "data" source: "db" batchsize: 8 scale: 0.5 meanfile: "m"
                 cropsize: 4 mirror: true rand_skip: 2 } }
        layers { bottom: "data" top: "c" layer { name: "c" type: "conv" num_output: 3 kernelsize: 5 stride: 2 group: 1 pad: 1
                 biasterm: false weight_filler { type: "xavier" } blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0 } }
        layers { bottom: "c" top: "p" layer { name: "p" type: "pool" pool: AVE kernelsize: 3 stride: 2 } }
        """,
        """
        layer { name: "d" type: "Data" top: "data" top: "label" data_param { source: "db" batch_size: 8 rand_skip: 2 }
                transform_param { scale: 0.5 mean_file: "m" crop_size: 4 mirror: true } }
        layer { name: "c" type: "Convolution" bottom: "data" top: "c"
                param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
                convolution_param { num_output: 3 kernel_size: 5 stride: 2 group: 1 pad: 1 bias_term: false
                                    weight_filler { type: "xavier" } } }
        layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
        """,
    )
    assert notes == ['the old "layers" with a "layer" inside were upgraded', 'the old "layers" were replaced by "layer"']


def test_v0_padding_goes_into_the_layer_behind():
    notes = check(
        """
        input: "x" input_dim: 1 input_dim: 1 input_dim: 5 input_dim: 5
        layers { layer { name: "pad1" type: "padding" pad: 2 } bottom: "x" top: "xp" }
        layers { layer { name: "c" type: "conv" kernelsize: 5 } bottom: "xp" top: "c" }
        layers { layer { name: "pad2" type: "padding" pad: 1 } bottom: "c" top: "c" }
        layers { layer { name: "p" type: "pool" kernelsize: 3 } bottom: "c" top: "p" }
        """,
        """
        layer { name: "input" type: "Input" top: "x" input_param { shape { dim: [1, 1, 5, 5] } } }
        layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { pad: 2 kernel_size: 5 } }
        layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pad: 1 kernel_size: 3 } }
        """,
    )
    assert 'layer "pad1" (padding): its padding went into the layer behind it' in notes


def test_v0_fields_without_a_place_are_named():
    notes = check(
        'layers { top: "a" blobs_lr: 1 layer { name: "r" type: "relu" num_output: 3 new_num: 1 } }',
        'layer { name: "r" type: "ReLU" top: "a" }',
    )
    assert [note for note in notes if isinstance(note, LostField)] == [
        f'layer "r" (relu): the field "{name}" has no meaning here and is ignored'
        for name in ("blobs_lr", "num_output", "new_num")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'layers { layer { name: "a" type: "conf" } }',
            'old.prototxt:1: layer "a" (conf): there is no V0 layer type "conf" (did you mean "conv"?)',
        ),
        (
            'input: "data" layers { layer { name: "a" type: "relu" } bottom: "dat" top: "y" }',
            'old.prototxt:1: layer "a" (relu): bottom "dat" is not the top of any earlier layer (did you mean "data"?)',
        ),
        (
            'input: "x" layers { layer { name: "p" type: "padding" } bottom: "x" top: "y" }'
            '\nlayers { layer { name: "r" type: "relu" } bottom: "y" top: "z" }',
            'old.prototxt:2: layer "r" (relu): only a "conv" or "pool" with one bottom can follow layer "p" (padding)',
        ),
        (
            'input: "x" layers { layer { name: "p" type: "padding" } bottom: "x" top: "y" top: "z" }'
            'layers { layer { name: "c" type: "conv" } bottom: "y" top: "c" }',
            'old.prototxt:1: layer "p" (padding): a padding layer has one bottom and one top',
        ),
        (
            'layers { layer { name: "a" type: "relu" } } layers { name: "b" type: RELU }',
            'old.prototxt:1: layer "b" (RELU): this "layers" has no "layer" inside, but others of this net have',
        ),
        (
            '\nlayers { name: "a" } layer { name: "b" }',
            'old.prototxt:2: layer "a": a net has either "layer" or the old "layers", not both',
        ),
        (
            'input: "a" input: "b" input_dim: [1, 1, 1, 1]',
            "old.prototxt: 2 inputs need an input_shape or four input_dim each, got 4 input_dim",
        ),
        (
            'input: "a" input_dim: [1, 1, 1]',
            "old.prototxt: 1 inputs need an input_shape or four input_dim each, got 3 input_dim",
        ),
        (
            'input: "a" input: "b" input_shape { dim: 1 }',
            "old.prototxt: 2 inputs need an input_shape or four input_dim each, got 1 input_shape",
        ),
    ],
)
def test_net_that_cannot_be_upgraded(text, message):
    net = NetParameter()
    source = prototxt.parse(text, net, "old.prototxt")
    with pytest.raises(NetError) as caught:
        upgrade_net(net, source)
    assert str(caught.value) == message


# V1


def test_v1_parameters_of_blobs():
    check(
        """layers { name: "ip" type: INNER_PRODUCT bottom: "x" top: "y" param: "w" blob_share_mode: STRICT
                    blob_share_mode: PERMISSIVE blobs_lr: 1 blobs_lr: 2 blobs_lr: 3 weight_decay: 0 loss_weight: 2
                    inner_product_param { num_output: 3 } include { phase: TRAIN } exclude { stage: "a" }
                    blobs { num: 1 data: [1, 2] } }""",
        """layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
                   param { name: "w" share_mode: STRICT lr_mult: 1 decay_mult: 0 }
                   param { share_mode: PERMISSIVE lr_mult: 2 } param { lr_mult: 3 } loss_weight: 2
                   inner_product_param { num_output: 3 } include { phase: TRAIN }
                   exclude { stage: "a" } blobs { num: 1 data: [1, 2] } }""",
    )


@pytest.mark.parametrize(
    ("kind", "param"), [("DATA", "data_param"), ("IMAGE_DATA", "image_data_param"), ("WINDOW_DATA", "window_data_param")]
)
def test_v1_transformations(kind, param):
    notes = check(
        f'layers {{ type: {kind} {param} {{ source: "s" scale: 2 mean_file: "m" crop_size: 3 mirror: false }} }}',
        f"""layer {{ type: "{upgrade.V1_TYPES[kind]}" {param} {{ source: "s" }}
                     transform_param {{ scale: 2 mean_file: "m" crop_size: 3 mirror: false }} }}""",
    )
    assert notes[0] == "transformation fields of data layers were moved into transform_param"


def test_deprecated_dimension_fields_are_left_to_the_layers():
    check(
        "layers { type: CONCAT concat_param { concat_dim: 2 } } layers { type: SLICE slice_param { slice_dim: 2 } }",
        'layer { type: "Concat" concat_param { concat_dim: 2 } } layer { type: "Slice" slice_param { slice_dim: 2 } }',
    )


def test_tables_agree_with_the_schema():
    assert set(upgrade.V1_TYPES) == set(V1LayerParameter.LayerType.keys())
    v0, v1, new = (message.DESCRIPTOR.fields_by_name for message in (V0LayerParameter, V1LayerParameter, LayerParameter))
    for v0_type, (v1_type, param) in upgrade._V0_TYPES.items():
        assert v1_type in upgrade.V1_TYPES
        names = [name for name, types in upgrade._V0_FIELDS.values() if v0_type in types]
        assert all(name in v1[param].message_type.fields_by_name for name in names)
    assert set(v0) == {*upgrade._V0_FIELDS, *upgrade._V0_LAYER_FIELDS, *upgrade._V0_TRANSFORM_FIELDS} | {
        "type",
        "hdf5_output_param",
        "new_num",  # these two never had a meaning
        "new_channels",
    }
    for name, field in v1.items():
        if name not in {*upgrade._V1_PARAM_FIELDS, "type", "layer"}:
            assert field.message_type == new[name].message_type
            assert field.cpp_type == new[name].cpp_type


# Inputs and BatchNorm


def test_inputs_with_shapes():
    check(
        """input: "a" input_shape { dim: [2, 3] } input: "b" input_shape { }
           layer { name: "r" type: "ReLU" bottom: "a" top: "r" }""",
        """layer { name: "input" type: "Input" top: "a" top: "b" input_param { shape { dim: [2, 3] } shape { } } }
           layer { name: "r" type: "ReLU" bottom: "a" top: "r" }""",
    )


def test_inputs_without_shapes_are_dropped():
    notes = check('input: "a" layer { name: "r" type: "ReLU" }', 'layer { name: "r" type: "ReLU" }')
    assert notes == ["the inputs a have no input_shape and are ignored"]


def test_batch_norm_with_three_params():
    fixed = "param { lr_mult: 0 decay_mult: 0 }"
    check(
        f'layer {{ type: "BatchNorm" param {{ lr_mult: 1 name: "m" }} param {{ decay_mult: 0 }} {fixed} }}',
        f'layer {{ type: "BatchNorm" param {{ lr_mult: 0 decay_mult: 0 name: "m" }} {fixed} {fixed} }}',
    )
    for text in ('layer { type: "BatchNorm" param { lr_mult: 1 } }', 'layer { type: "Scale" param {} param {} param {} }'):
        assert upgrade_net(parsed(text)) == []


# Solvers


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SGD", "SGD"),
        ("NESTEROV", "Nesterov"),
        ("ADAGRAD", "AdaGrad"),
        ("RMSPROP", "RMSProp"),
        ("ADADELTA", "AdaDelta"),
        ("ADAM", "Adam"),
    ],
)
def test_solver_type(old, new):
    solver = parsed(f"solver_type: {old} base_lr: 1", SolverParameter)
    assert upgrade_solver(solver) == [f'the old "solver_type" is now type: "{new}"']
    assert solver == parsed(f'type: "{new}" base_lr: 1', SolverParameter)
    assert upgrade_solver(solver) == []


def test_solver_type_twice():
    with pytest.raises(SolverError) as caught:
        upgrade_solver(parsed('type: "Adam" solver_type: ADAM', SolverParameter), Source("s.prototxt"))
    assert str(caught.value) == 's.prototxt: a solver has either "type" or the old "solver_type", not both'


def test_nets_inside_a_solver():
    solver = parsed("net_param { layers { type: RELU } } test_net_param { layers { type: TANH } }", SolverParameter)
    assert len(upgrade_solver(solver)) == 2
    assert solver == parsed(
        'net_param { layer { type: "ReLU" } } test_net_param { layer { type: "TanH" } }', SolverParameter
    )


def test_snapshot_prefix(tmp_path):
    folder = str(tmp_path)
    assert default_snapshot_prefix(SolverParameter(), "a.b/solver.v2.prototxt") == "a.b/solver.v2"
    assert default_snapshot_prefix(SolverParameter(), "a.b/solver") == "a.b/solver"
    assert default_snapshot_prefix(SolverParameter(snapshot_prefix="snap"), "solver.prototxt") == "snap"
    assert default_snapshot_prefix(SolverParameter(snapshot_prefix=folder), "x/solver.prototxt") == os.path.join(
        folder, "solver"
    )


def test_notes_are_logged(tmp_path):
    path = tmp_path / "old.prototxt"
    path.write_text('input: "a" input_shape { dim: 2 }')
    handler = glog.to_file(tmp_path / "log")
    read_net(path)
    glog.logger.removeHandler(handler)
    handler.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("I")
    assert lines[0].endswith(f'{path}: the fields "input", "input_dim" and "input_shape" were replaced by an Input layer')
