"""Nets: their layers, how these are connected, what runs forward and backward, and the models they read and write."""

from __future__ import annotations

import gc
import logging
import re
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import glog
from pycaffe_lite.data.database_writer import create_database
from pycaffe_lite.data.datum import encode_datum
from pycaffe_lite.errors import CaffeError, ModelFileError, NetError, PrototxtError
from pycaffe_lite.proto import Source, caffe_pb2, model_file, read_net
from pycaffe_lite.proto.caffe_pb2 import TEST, TRAIN, NetParameter, V1LayerParameter


def layer(type: str, name: str, bottom: str = "", top: str | None = None, more: str = "") -> str:
    """A line of prototxt. `bottom`, `top`: names with blanks between; a layer has one top of its own name unless told."""
    blobs = [f'bottom: "{blob}"' for blob in bottom.split()]
    blobs += [f'top: "{blob}"' for blob in (name if top is None else top).split()]
    return f'layer {{ name: "{name}" type: "{type}" {" ".join(blobs)} {more} }}\n'


def data(name: str = "data", shape: tuple[int, ...] = (2, 3), more: str = "") -> str:
    dims = " ".join(f"dim: {dim}" for dim in shape)
    return layer("Input", name, more=f"input_param {{ shape {{ {dims} }} }} {more}")


def product(name: str, bottom: str, top: str | None = None, outputs: int = 3, more: str = "") -> str:
    """An InnerProduct with random weights and without a bias."""
    settings = f'num_output: {outputs} bias_term: false weight_filler {{ type: "gaussian" }}'
    return layer("InnerProduct", name, bottom, top, f"inner_product_param {{ {settings} }} {more}")


def loss(bottom: str, name: str = "loss", top: str | None = None, more: str = "") -> str:
    return layer("EuclideanLoss", name, bottom, top, more)


@pytest.fixture
def make(tmp_path):
    """Writes a prototxt and builds its net."""

    def make(text: str, phase: int = TEST, **kwargs) -> caffe.Net:
        path = tmp_path / "net.prototxt"
        path.write_text(text, newline="")
        return caffe.Net(path, phase, **kwargs)

    return make


@pytest.fixture
def log():
    """The messages logged so far, of every severity."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    level = glog.logger.level
    glog.logger.addHandler(handler)
    glog.logger.setLevel(logging.INFO)
    yield messages
    glog.logger.setLevel(level)
    glog.logger.removeHandler(handler)


def names(net: caffe.Net) -> list[str]:
    return [node.name for node in net.nodes]


def fill(net: caffe.Net, seed: int = 0) -> None:
    """Random inputs."""
    for i, name in enumerate(net.inputs):
        blob = net.blobs[name]
        blob.data[...] = np.random.default_rng([seed, i]).normal(size=blob.shape)


# ---- which layers a net has ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "included"),
    [
        ("", True),
        ("include { phase: TEST }", True),
        ("include { phase: TRAIN }", False),
        ("include { }", True),
        ("include { min_level: 2 }", True),
        ("include { min_level: 3 }", False),
        ("include { max_level: 2 }", True),
        ("include { max_level: 1 }", False),
        ("include { min_level: 1 max_level: 3 }", True),
        ('include { stage: "deploy" }', True),
        ('include { stage: "deploy" stage: "fast" }', True),
        ('include { stage: "deploy" stage: "slow" }', False),
        ('include { not_stage: "slow" }', True),
        ('include { not_stage: "fast" }', False),
        ('include { not_stage: "slow" not_stage: "fast" }', False),
        ('include { stage: "deploy" not_stage: "fast" }', False),
        ("include { phase: TEST max_level: 1 }", False),
        ('include { phase: TRAIN } include { stage: "fast" }', True),
        ('include { phase: TRAIN } include { stage: "slow" }', False),
        ("exclude { phase: TEST }", False),
        ("exclude { phase: TRAIN }", True),
        ("exclude { }", False),
        ('exclude { phase: TEST stage: "slow" }', True),
        ('exclude { phase: TRAIN } exclude { not_stage: "slow" }', False),
    ],
)
def test_rules(make, rules, included):
    net = make(data() + data("extra", more=rules), TEST, level=2, stages=["deploy", "fast"])
    assert names(net) == ["data", "extra"][: 1 + included]


def test_without_level_and_stages_the_level_is_0_and_there_are_no_stages(make):
    text = data("low", more="include { max_level: 0 }") + data("high", more="include { min_level: 1 }")
    text += data("staged", more='include { stage: "x" }') + data("plain", more='include { not_stage: "x" }')
    assert names(make(text)) == ["low", "plain"]


def test_stages_of_the_file_count_too(make):
    text = 'state { stage: "deploy" }\n' + data("a", more='include { stage: "deploy" stage: "fast" }')
    assert names(make(text, stages=["fast"])) == ["a"]
    assert names(make(text)) == []


def test_one_name_in_two_phases(make):
    text = data("x", (1, 2), "include { phase: TRAIN }") + data("x", (5, 2), "include { phase: TEST }")
    assert make(text, TRAIN).blobs["x"].shape == (1, 2)
    assert make(text, TEST).blobs["x"].shape == (5, 2)


def test_a_layer_without_a_phase_takes_that_of_the_net(make):
    net = make(data("a") + data("b", more="phase: TRAIN"), TEST)
    assert [node.layer.phase for node in net.nodes] == [TEST, TRAIN]
    assert [node.layer.param.phase for node in net.nodes] == [TEST, TRAIN]


# ---- splits, in-place layers, names --------------------------------------------------------------------------------


def test_a_blob_with_one_consumer_is_not_split(make):
    assert names(make(data() + product("ip", "data"))) == ["data", "ip"]


def test_split_has_a_copy_for_each_consumer_in_their_order(make):
    net = make(data() + product("b", "data") + product("a", "data") + loss("data data", "c"))
    split = "data_data_0_split"
    assert names(net) == ["data", split, "b", "a", "c"]
    assert net.top_names[split] == [f"{split}_{i}" for i in range(4)]
    assert net.bottom_names[split] == ["data"]
    assert net.bottom_names["b"] == [f"{split}_0"]
    assert net.bottom_names["a"] == [f"{split}_1"]
    assert net.bottom_names["c"] == [f"{split}_2", f"{split}_3"]
    assert list(net.blobs) == ["data", *net.top_names[split], "b", "a", "c"]


def test_split_is_named_for_the_last_layer_that_wrote_the_blob_in_place(make):
    net = make(data() + product("ip", "data") + layer("ReLU", "relu", "ip", "ip") + loss("ip ip"))
    assert names(net) == ["data", "ip", "relu", "ip_relu_0_split", "loss"]


def test_split_is_named_for_the_index_of_the_top(make):
    net = make(data(shape=(2, 4)) + layer("Slice", "cut", "data", "p q") + loss("q q") + loss("p q", "other"))
    assert names(net) == ["data", "cut", "q_cut_1_split", "loss", "other"]
    assert net.bottom_names["other"] == ["p", "q_cut_1_split_2"]


def test_gradients_of_all_copies_are_summed(make):
    weight = "loss_weight: 1"
    text = "force_backward: true\n" + data() + product("a", "data", more=weight) + product("b", "data", more=weight)
    net = make(text)
    fill(net)
    net.forward()
    net.backward()
    expected = net.params["a"][0].data.sum(axis=0) + net.params["b"][0].data.sum(axis=0)
    np.testing.assert_allclose(net.blobs["data"].diff, np.tile(expected, (2, 1)), rtol=1e-5)


def test_a_loss_weight_is_a_use_and_goes_to_the_first_copy(make):
    net = make(data() + product("ip", "data", more="loss_weight: 3") + layer("ReLU", "relu", "ip"))
    assert names(net) == ["data", "ip", "ip_ip_0_split", "relu"]
    assert net.outputs == ["ip_ip_0_split_0", "relu"]
    assert net.bottom_names["relu"] == ["ip_ip_0_split_1"]
    assert net.layer_dict["ip"].loss_weights == [0]
    assert net.layer_dict["ip_ip_0_split"].loss_weights == [3, 0]
    fill(net)
    assert net.forward_layers() == pytest.approx(3 * net.blobs["ip"].data.sum(), rel=1e-5)


def test_a_loss_that_is_used_and_weighted_counts_twice_but_its_gradient_once(make):
    net = make(
        data() + data("goal") + product("ip", "data") + loss("ip goal", more="loss_weight: 3") + layer("Power", "p", "loss")
    )
    fill(net)
    value = float(net.forward()["p"])
    assert net.forward_layers() == pytest.approx((1 + 3) * value, rel=1e-5)
    net.backward()
    np.testing.assert_allclose(net.blobs["ip"].diff, 3 * (net.blobs["ip"].data - net.blobs["goal"].data) / 2, rtol=1e-5)


@pytest.mark.parametrize("weight", ["", "loss_weight: 0"])
def test_an_implied_weight_or_one_of_0_is_no_use(make, weight):
    assert names(make(data() + data("b") + loss("data b", more=weight) + layer("Power", "p", "loss"))) == [
        "data",
        "b",
        "loss",
        "p",
    ]


def test_a_layer_in_place_writes_the_blob_of_its_bottom(make):
    net = make(data() + layer("Power", "twice", "data", "data", "power_param { scale: 2 }") + product("ip", "data"))
    assert list(net.blobs) == ["data", "ip"]
    assert net.nodes[1].top[0] is net.nodes[1].bottom[0] is net.blobs["data"]
    net.blobs["data"].data[...] = 3
    net.forward()
    assert (net.blobs["data"].data == 6).all()


def test_losses_without_tops_get_anonymous_ones(make):
    net = make(data() + data("b") + loss("data b", "one", "") + loss("data b", "two", "") + loss("data b", "three"))
    assert net.top_names["one"] == net.top_names["two"] == ["(automatic)"]
    assert net.blob_names.count("(automatic)") == 2
    assert net.outputs == ["three"]
    fill(net)
    value = float(net.forward()["three"])
    assert value > 0
    assert net.forward_layers() == pytest.approx(3 * value, rel=1e-5)


def test_inputs_are_in_file_order_and_outputs_sorted(make):
    net = make(
        data("z") + data("a") + data("m") + layer("Power", "y", "m") + layer("Power", "b", "z") + layer("Power", "k", "a")
    )
    assert net.inputs == ["z", "a", "m"]
    assert net.outputs == ["b", "k", "y"]


def test_an_input_layer_may_have_several_tops(make):
    net = make(layer("Input", "in", "", "x y", "input_param { shape { dim: 2 } shape { dim: 3 dim: 1 } }"))
    assert net.inputs == ["x", "y"]
    assert [blob.shape for blob in net.blobs.values()] == [(2,), (3, 1)]


def test_an_empty_file_is_a_net_without_layers(make, tmp_path):
    net = make("# nothing\n")
    assert (net.nodes, net.inputs, net.outputs, net.learnable) == ([], [], [], [])
    assert net.forward() == {}
    assert net.backward() == {}
    net.save(tmp_path / "empty.caffemodel")
    net.save_hdf5(tmp_path / "empty.h5")
    net.copy_from(tmp_path / "empty.h5")


def test_a_thousand_layers(make, tmp_path):
    text = data() + "".join(
        product(f"ip{i}", f"ip{i - 1}" if i else "data") if i % 10 == 0 else layer("Power", f"ip{i}", f"ip{i - 1}")
        for i in range(1000)
    )
    net = make(text + product("side", "ip500"))
    assert len(net.nodes) == 1003
    assert len(net.learnable) == 101
    net.forward()
    net.backward()
    net.save(tmp_path / "deep.caffemodel")
    net.copy_from(tmp_path / "deep.caffemodel")


# ---- errors say where ----------------------------------------------------------------------------------------------

TWO = data() + data("label")
SHARE = 'param { name: "w" %s }'

BAD_NETS = {  # the layer in error is called "bad": text, what the error says
    "unknown type": (
        data() + layer("InerProduct", "bad", "data"),
        'unknown layer type "InerProduct" (did you mean "InnerProduct"?)',
    ),
    "unknown bottom": (
        data() + product("ip1", "data") + product("bad", "ip2"),
        'bottom "ip2" is not the top of any earlier layer (did you mean "ip1"?)',
    ),
    "no bottom like it": (data() + product("bad", "qqq"), 'bottom "qqq" is not the top of any earlier layer'),
    "empty bottom name": (data() + layer("ReLU", "bad", more='bottom: ""'), 'bottom "" is not the top of any earlier layer'),
    "bottom of a later layer": (
        data() + product("bad", "late") + product("late", "data"),
        'bottom "late" is not the top of any earlier layer; layer "late" produces it only afterwards',
    ),
    "own top": (data() + product("bad", "bad"), 'layer "bad" produces it only afterwards'),
    "too few bottoms": (data() + layer("EuclideanLoss", "bad", "data"), "expected 2 bottoms, received 1"),
    "too many bottoms": (TWO + layer("ReLU", "bad", "data label"), "expected 1 bottom, received 2"),
    "too many tops": (data() + layer("ReLU", "bad", "data", "a b"), "expected 1 top, received 2"),
    "no tops": (data() + layer("InnerProduct", "bad", "data", ""), "expected 1 top, received 0"),
    "at least one": (data() + layer("Slice", "bad", "data", ""), "expected at least 1 top, received 0"),
    "bottoms and tops": (
        data(shape=(1, 1, 4, 4))
        + data("b", (1, 1, 4, 4))
        + layer("Convolution", "bad", "data b", "c", "convolution_param { num_output: 1 kernel_size: 1 }"),
        "expected as many tops as bottoms, received 2 bottoms and 1 tops",
    ),
    "duplicate top": (
        data() + product("ip", "data") + layer("Power", "bad", "ip", "data"),
        'top "data" is produced already, by layer "data"',
    ),
    "twice the same top": (data(shape=(2, 4)) + layer("Slice", "bad", "data", "a a"), 'produces top "a" twice'),
    "in place after a split": (
        data() + product("ip", "data") + layer("Power", "p", "ip") + layer("ReLU", "bad", "ip", "ip"),
        'top "ip" is produced already, by layer "ip"',
    ),
    "a name that is taken": (data() + layer("Power", "bad", "data", "(automatic)"), 'the name "(automatic)" is kept for'),
    "include and exclude": (
        data() + data("bad", more="include { phase: TRAIN } exclude { phase: TRAIN }"),
        "include and exclude rules on one layer",
    ),
    "loss weights": (
        data() + layer("Slice", "bad", "data", "a b c", "loss_weight: 1"),
        "loss_weight is given once for each top or not at all: expected 3, received 1",
    ),
    "propagate_down": (
        TWO + loss("data label", "bad", more="propagate_down: true"),
        "propagate_down is given once for each bottom or not at all: expected 2, received 1",
    ),
    "too many params": (
        data() + product("bad", "data", more="param { } param { }"),
        "expected at most 1 param entries (one for each parameter), received 2",
    ),
    "a layer's own demand": (data() + product("bad", "data", outputs=0), "num_output is at least 1, received 0"),
    "shapes": (TWO + data("c", (4, 3)) + loss("data c", "bad"), "received 2 x 3 (6) and 4 x 3 (12)"),
    "negative dimension": (data("bad", (2, -3)), "-3"),
    "shared shape": (
        data(shape=(2, 4))
        + product("a", "data", outputs=2, more=SHARE % "")
        + product("bad", "a", outputs=4, more=SHARE % ""),
        'param "w" needs the shape that it has in its owner, layer "a": expected 2 x 4 (8), received 4 x 2 (8)',
    ),
    "shared count": (
        data(shape=(2, 4))
        + product("a", "data", outputs=2, more=SHARE % "")
        + product("bad", "a", outputs=5, more=SHARE % "share_mode: PERMISSIVE"),
        'layer "a": expected 2 x 4 (8), received 5 x 2 (10)',
    ),
    "shared lr_mult": (
        data() + product("a", "data", more=SHARE % "lr_mult: 2") + product("bad", "a", more=SHARE % "lr_mult: 1"),
        'param "w" has lr_mult 1 here and 2 in layer "a", which shares it',
    ),
    "shared decay_mult": (
        data() + product("a", "data", more=SHARE % "decay_mult: 0") + product("bad", "a", more=SHARE % "decay_mult: 0.5"),
        'param "w" has decay_mult 0.5 here and 0 in layer "a"',
    ),
}


def with_comments_and_crlf(text: str) -> str:
    text = text.replace("layer { name:", 'layer {  # layer { name: "comment" }\n\n  name:')
    return f'# layer {{ name: "bad" }}\n\nname: "net" # é\n{text}'.replace("\n", "\r\n")


@pytest.mark.parametrize("change", [str, with_comments_and_crlf], ids=["plain", "crlf"])
@pytest.mark.parametrize(("text", "message"), BAD_NETS.values(), ids=BAD_NETS)
def test_an_error_says_file_line_and_layer(make, tmp_path, text, message, change):
    text = change(text)
    before, _, rest = text.rpartition('name: "bad"')
    line = before[: before.rindex("layer {", 0, before.rfind("#") if "\r" in text else None)].count("\n") + 1
    type_name = re.match(r'\s*type: "(\w+)"', rest).group(1)
    with pytest.raises(NetError) as error:
        make(text)
    assert str(error.value).startswith(f'{tmp_path / "net.prototxt"}:{line}: layer "bad" ({type_name}): ')
    assert message in error.value.message


def test_an_error_while_running_says_file_line_and_layer(make):
    net = make(data() + product("ip", "data"))
    net.blobs["data"].reshape(2, 4)
    with pytest.raises(
        NetError, match=r'net\.prototxt:2: layer "ip" \(InnerProduct\): the weights take 3 inputs, received 4'
    ):
        net.reshape()
    with pytest.raises(
        NetError, match=r'net\.prototxt:2: layer "ip" \(InnerProduct\): the weights take 3 inputs, received 4'
    ):
        net.forward()


def test_a_net_without_a_file_names_only_the_layer():
    param = NetParameter()
    param.layer.add(name="r", type="ReLU", bottom=["x"])
    with pytest.raises(NetError, match=r'^layer "r" \(ReLU\): bottom "x" is not'):
        caffe.Net.from_param(param)


def test_a_net_file_that_is_no_net(tmp_path, make):
    with pytest.raises(PrototxtError, match="cannot read"):
        caffe.Net(tmp_path / "missing.prototxt", TEST)
    with pytest.raises(PrototxtError, match=r"net\.prototxt:3"):
        make(data() + "\nlayer { nam: 3 }\n")


# ---- shared parameters, multipliers --------------------------------------------------------------------------------

SIAMESE = data("a") + data("b") + product("left", "a", more=SHARE % "") + product("right", "b", more=SHARE % "")


def test_shared_parameters_are_one_memory_and_are_learned_once(make):
    net = make(SIAMESE)
    left, right = net.params["left"][0], net.params["right"][0]
    assert np.shares_memory(left.data, right.data)
    assert np.shares_memory(left.diff, right.diff)
    assert left.data.any()
    assert len(net.learnable) == 1
    assert len(net.all_params) == 2
    assert list(net.params) == ["left", "right"]


def test_the_gradient_of_shared_parameters_is_that_of_all_branches(make):
    weight = "loss_weight: 1"
    net = make(
        data("a") + data("b") + "".join(product(n, b, more=f"{SHARE % ''} {weight}") for n, b in (("l", "a"), ("r", "b")))
    )
    fill(net)
    net.forward()
    net.clear_param_diffs()
    net.backward()
    expected = np.tile(net.blobs["a"].data.sum(axis=0) + net.blobs["b"].data.sum(axis=0), (3, 1))
    np.testing.assert_allclose(net.params["r"][0].diff, expected, rtol=1e-5)
    net.backward()
    np.testing.assert_allclose(net.params["l"][0].diff, 2 * expected, rtol=1e-5)
    net.clear_param_diffs()
    assert not net.params["r"][0].diff.any()


def test_parameters_without_a_name_are_not_shared(make):
    net = make(data() + product("a", "data", more='param { name: "" }') + product("b", "a", more='param { name: "" }'))
    assert not np.shares_memory(net.params["a"][0].data, net.params["b"][0].data)
    assert len(net.learnable) == 2


def test_one_of_two_parameters_may_be_shared(make):
    params = 'inner_product_param { num_output: 3 } param { } param { name: "bias" }'
    net = make(data() + layer("InnerProduct", "a", "data", more=params) + layer("InnerProduct", "b", "a", more=params))
    assert len(net.learnable) == 3
    assert np.shares_memory(net.params["a"][1].data, net.params["b"][1].data)
    assert not np.shares_memory(net.params["a"][0].data, net.params["b"][0].data)


def test_permissive_sharers_keep_their_own_shape(make):
    spec = SHARE % "share_mode: PERMISSIVE"
    net = make(data(shape=(2, 4)) + product("a", "data", outputs=2, more=spec) + product("b", "a", outputs=4, more=spec))
    a, b = net.params["a"][0], net.params["b"][0]
    assert (a.shape, b.shape) == ((2, 4), (4, 2))
    b.data[3, 1] = 99
    assert a.data[1, 3] == 99
    assert np.shares_memory(a.diff, b.diff)


def test_an_owner_of_any_mode_and_a_strict_sharer_must_have_one_shape(make):
    text = data(shape=(2, 4)) + product("a", "data", outputs=2, more=SHARE % "share_mode: PERMISSIVE")
    with pytest.raises(NetError, match="needs the shape"):
        make(text + product("b", "a", outputs=4, more=SHARE % "share_mode: STRICT"))


@pytest.mark.parametrize(
    ("owner", "sharer", "merged"),
    [
        ("", "", (None, None)),
        ("lr_mult: 2", "", (2, None)),
        ("", "lr_mult: 3 decay_mult: 0", (3, 0)),
        ("lr_mult: 2", "lr_mult: 2 decay_mult: 4", (2, 4)),
        ("decay_mult: 0.5", "lr_mult: 1", (1, 0.5)),
        ("lr_mult: 1", "", (1, None)),
    ],
)
def test_multipliers_come_from_owner_or_sharer(make, owner, sharer, merged):
    net = make(data() + product("a", "data", more=SHARE % owner) + product("b", "a", more=SHARE % sharer))
    assert [(one.lr_mult, one.decay_mult) for one in net.learnable] == [merged]


# ---- which layers run backward -------------------------------------------------------------------------------------

CHAIN = data() + data("goal") + product("one", "data", more="%s") + product("two", "one", more="%s") + loss("two goal")
MARK = 77.0


def marked(net: caffe.Net) -> caffe.Net:
    """The net after forward and backward, with `MARK` in every gradient that backward left alone."""
    fill(net)
    net.forward()
    for name, blob in net.blobs.items():
        if name != "loss":
            blob.diff[...] = MARK
    net.clear_param_diffs()
    net.backward()
    return net


def untouched(net: caffe.Net) -> list[str]:
    return [name for name, blob in net.blobs.items() if (blob.diff == MARK).all()]


def without_gradient(net: caffe.Net) -> list[str]:
    return [name for name, blobs in net.params.items() if not blobs[0].diff.any()]


def test_backward_stops_at_the_first_parameters(make):
    net = marked(make(CHAIN % ("", "")))
    assert untouched(net) == ["data", "goal"]
    assert without_gradient(net) == []
    assert [node.needs_backward for node in net.nodes] == [False, False, True, True, True]


def test_lr_mult_0_stops_backward(make):
    net = marked(make(CHAIN % ("param { lr_mult: 0 }", "")))
    assert untouched(net) == ["data", "goal", "one"]
    assert without_gradient(net) == ["one"]


def test_lr_mult_0_above_lets_the_gradient_through(make):
    net = marked(make(CHAIN % ("", "param { lr_mult: 0 }")))
    assert untouched(net) == ["data", "goal"]
    assert without_gradient(net) == ["two"]


def test_lr_mult_0_for_one_of_two_parameters(make):
    params = "inner_product_param { num_output: 3 } param { lr_mult: 0 } param { lr_mult: 2 }"
    net = marked(make(data() + data("goal") + layer("InnerProduct", "ip", "data", more=params) + loss("ip goal")))
    assert not net.params["ip"][0].diff.any()
    assert net.params["ip"][1].diff.all()


def test_force_backward_reaches_inputs_and_constants(make):
    net = marked(make("force_backward: true\n" + CHAIN % ("param { lr_mult: 0 }", "")))
    assert untouched(net) == []
    assert without_gradient(net) == []


def test_force_backward_leaves_labels_alone(make):
    text = data() + data("label", (2,)) + product("ip", "data") + layer("SoftmaxWithLoss", "loss", "ip label")
    assert untouched(marked(make("force_backward: true\n" + text))) == ["label"]


def test_without_a_loss_above_nothing_runs(make):
    net = marked(make(CHAIN % ("", "") + product("side", "data")))
    assert without_gradient(net) == ["side"]
    assert not net.nodes[-1].needs_backward
    assert without_gradient(marked(make(data() + product("ip", "data")))) == ["ip"]


def test_a_loss_of_weight_0_is_none(make):
    net = marked(make(CHAIN.replace('top: "loss"', 'top: "loss" loss_weight: 0') % ("", "")))
    assert without_gradient(net) == ["one", "two"]


def test_propagate_down_false_cuts_off_what_is_below(make):
    net = marked(make(CHAIN % ("", "propagate_down: false")))
    assert untouched(net) == ["data", "goal", "one"]
    assert without_gradient(net) == ["one"]


def test_propagate_down_false_cuts_off_one_branch_only(make):
    text = data() + product("one", "data") + product("a", "one", more="propagate_down: false") + product("b", "one")
    net = marked(make(text + loss("a b")))
    assert without_gradient(net) == []
    assert untouched(net) == ["data", "one_one_0_split_0"]


def test_propagate_down_true_asks_for_the_gradient_of_an_input(make):
    net = marked(make(CHAIN % ("propagate_down: true", "")))
    assert untouched(net) == ["goal"]


# ---- forward and backward ------------------------------------------------------------------------------------------


def test_the_loss_is_the_weighted_sum_of_all_tops(make):
    net = make(
        data()
        + data("goal")
        + product("ip", "data", more="loss_weight: 0.5")
        + loss("ip goal", more="loss_weight: -2")
        + loss("data goal", "other")
    )
    fill(net)
    total = net.forward_layers()
    expected = 0.5 * net.blobs["ip"].data.sum() - 2 * net.blobs["loss"].data + net.blobs["other"].data
    assert total == pytest.approx(float(expected), rel=1e-5)
    assert net.blob_loss_weights["ip_ip_0_split_0"] == 0.5
    assert net.blob_loss_weights["other"] == 1
    assert (net.blobs["ip_ip_0_split_0"].diff == 0.5).all()


def test_forward_backward_returns_the_loss(make):
    net = make(CHAIN % ("", ""))
    fill(net)
    assert net.forward_backward() == pytest.approx(float(net.blobs["loss"].data))
    assert net.params["one"][0].diff.any()


def test_forward_returns_views_of_outputs_and_wanted_blobs(make):
    net = make(data() + layer("Power", "a", "data") + layer("Power", "b", "a"))
    out = net.forward(blobs=["a"], data=np.full((2, 3), 5))
    assert list(out) == ["b", "a"]
    assert (out["b"] == 5).all()
    assert np.shares_memory(out["b"], net.blobs["b"].data)
    assert list(net.forward()) == ["b"]


def test_forward_from_a_layer_to_a_layer(make):
    net = make(
        data()
        + "".join(layer("Power", f"p{i}", f"p{i - 1}" if i else "data", more="power_param { shift: 1 }") for i in range(4))
    )
    assert list(net.forward(end="p1")) == ["p1"]
    assert [float(net.blobs[f"p{i}"].data.max()) for i in range(4)] == [1, 2, 0, 0]
    net.blobs["p0"].data[...] = 10
    assert list(net.forward(start="p1", end="p2", blobs=["p3"])) == ["p2", "p3"]
    assert [float(net.blobs[f"p{i}"].data.max()) for i in range(4)] == [10, 11, 12, 0]
    assert float(net.forward(start="p3")["p3"].max()) == 13


def test_forward_refuses_what_does_not_fit(make):
    net = make(TWO + loss("data label"))
    right = np.zeros((2, 3))
    with pytest.raises(NetError, match=r"expected the inputs data, label, received data$"):
        net.forward(data=right)
    with pytest.raises(NetError, match="expected the inputs data, label, received data, lable"):
        net.forward(data=right, lable=right)
    for shape in ((4, 3), (2, 4), (2, 3, 1), ()):
        message = f'input "label" is 2 x 3 (6), received an array of shape {shape}; reshape the net first'
        with pytest.raises(NetError, match=re.escape(message)):
            net.forward(data=right, label=np.zeros(shape))
    with pytest.raises(NetError, match=r'no layer "los" \(did you mean "loss"\?\)'):
        net.forward(end="los")
    with pytest.raises(NetError, match=r'no blob "lable" \(did you mean "label"\?\)'):
        net.forward(blobs=["lable"])
    with pytest.raises(NetError, match="layer indices go from 0 to 2, received 0 and 3"):
        net.forward_layers(0, 3)


def test_backward_from_a_layer_to_a_layer(make):
    net = make(
        "force_backward: true\n"
        + data()
        + "".join(layer("Power", f"p{i}", f"p{i - 1}" if i else "data", more="power_param { scale: 2 }") for i in range(3))
    )
    ones = np.ones((2, 3))
    assert list(net.backward(p2=ones)) == ["data"]
    assert (net.blobs["data"].diff == 8).all()
    assert list(net.backward(p2=ones, end="p1", diffs=["p2"])) == ["p0", "p2"]
    net.blobs["p1"].diff[...] = 10
    out = net.backward(start="p1")
    assert np.shares_memory(out["data"], net.blobs["data"].diff)
    assert (out["data"] == 40).all()
    assert (net.blobs["p2"].diff == 1).all()


def test_backward_refuses_what_does_not_fit(make):
    net = make(CHAIN % ("", "") + layer("Power", "feature", "data"))
    with pytest.raises(
        NetError, match=r'"featur" is no output of the net \(did you mean "feature"\?\); the outputs are feature, loss'
    ):
        net.backward(featur=np.ones((2, 3)))
    for shape in ((5, 3), (2, 4), (2, 3, 1)):
        message = f'the gradient of output "feature" is 2 x 3 (6), received an array of shape {shape}'
        with pytest.raises(NetError, match=re.escape(message)):
            net.backward(feature=np.ones(shape))
    with pytest.raises(NetError, match='no layer "nine"'):
        net.backward(start="nine")
    with pytest.raises(NetError, match="no blob"):
        net.backward(diffs=["nine"])


def test_callbacks_know_the_index_of_the_layer(make):
    net = make(CHAIN % ("", ""))
    calls: list[tuple] = []
    net.before_forward(lambda i: calls.append(("before", i, float(net.blobs["two"].data.sum()))))
    net.after_forward(lambda i: calls.append(("after", i, float(net.blobs["two"].data.sum()))))
    fill(net)
    net.forward(start="one", end="two")
    total = float(net.blobs["two"].data.sum())
    assert calls == [("before", 2, 0), ("after", 2, 0), ("before", 3, 0), ("after", 3, total)]
    order: list[tuple[str, int]] = []
    net.before_backward(lambda i: order.append(("before", i)))
    net.after_backward(lambda i: order.append(("after", i)))
    net.backward()
    assert order == [(when, i) for i in (4, 3, 2, 1, 0) for when in ("before", "after")]


def test_a_new_batch_size(make):
    net = make(data() + product("ip", "data", outputs=4) + layer("Softmax", "prob", "ip"))
    small = np.random.default_rng(0).normal(size=(2, 3))
    first = net.forward(data=small)["prob"].copy()
    net.blobs["data"].reshape(5, 3)
    net.reshape()
    assert net.blobs["prob"].shape == (5, 4)
    net.blobs["data"].reshape(4, 3)  # forward shapes the rest, with or without reshape()
    again = net.forward(data=np.concatenate([small, small]))["prob"]
    assert again.shape == (4, 4)
    np.testing.assert_allclose(again, np.concatenate([first, first]), rtol=1e-6)


def test_debug_info_prints_caffes_lines(make, log):
    text = 'debug_info: true name: "n"\n' + data("data", (1, 2)) + data("goal", (1, 1))
    text += layer("InnerProduct", "ip", "data", more='inner_product_param { num_output: 1 } param { name: "w" }')
    net = make(text + loss("ip goal"))
    net.blobs["data"].data[...] = [[1, -2]]
    net.params["ip"][0].data[...] = [[3, 1]]
    net.params["ip"][1].data[...] = [-5]
    del log[:]
    net.forward()
    net.backward()
    assert log == [
        "    [Forward] Layer data, top blob data data: 1.5",
        "    [Forward] Layer goal, top blob goal data: 0",
        "    [Forward] Layer ip, top blob ip data: 4",
        "    [Forward] Layer ip, param blob w data: 2",
        "    [Forward] Layer ip, param blob 1 data: 5",
        "    [Forward] Layer loss, top blob loss data: 8",
        "    [Backward] Layer loss, bottom blob ip diff: 4",
        "    [Backward] Layer ip, param blob 0 diff: 6",
        "    [Backward] Layer ip, param blob 1 diff: 4",
        "    [Backward] All net params (data, diff): L1 norm = (9, 16); L2 norm = (5.91608, 9.79796)",
    ]


def test_debug_lines_of_an_update(make, log):
    net = make(data() + product("a", "data", more=SHARE % "") + product("b", "a", more=SHARE % "") + product("c", "b"))
    for learnable, value in zip(net.learnable, (2, -3), strict=True):
        learnable.blob.data[...] = value
        learnable.blob.diff[...] = value / 4
    del log[:]
    net.debug_update()
    assert log == [
        "    [Update] Layer a, param w data: 2; diff: 0.5",
        "    [Update] Layer b, param blob w (owned by layer a, param w) diff: 0.5",
        "    [Update] Layer c, param 0 data: 3; diff: 0.75",
    ]


# ---- building a net from files -------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """A net and its trained weights, as paths."""
    path, model = tmp_path / "files.prototxt", tmp_path / "files.caffemodel"
    path.write_text(
        data() + product("ip", "data") + layer("Power", "late", "ip", more='include { min_level: 1 stage: "s" }')
    )
    net = caffe.Net(path, TEST)
    net.params["ip"][0].data[...] = 42
    net.save(model)
    return path, model


def is_trained(net: caffe.Net) -> bool:
    return bool((net.params["ip"][0].data == 42).all())


def test_constructor_forms(files):
    path, model = files
    assert not is_trained(caffe.Net(path, TEST))
    assert is_trained(caffe.Net(path, model, TEST))
    assert is_trained(caffe.Net(str(path), str(model), TEST))
    assert is_trained(caffe.Net(str(path), TEST, weights=str(model)))
    assert is_trained(caffe.Net(path, TEST, 0, ["x"], model))
    assert is_trained(caffe.Net(network_file=path, phase=TEST, weights=model))
    net = caffe.Net(path, phase=TRAIN, level=1, stages=["s"])
    assert names(net) == ["data", "ip", "late"]
    assert net.phase == TRAIN
    assert names(caffe.Net(path, TEST, 1, ["s"])) == ["data", "ip", "late"]


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), (("m",), {}), ((TEST,), {"fase": 3}), ((TEST, 0, [], "m", 5), {})])
def test_other_constructor_forms_are_type_errors(files, args, kwargs):
    with pytest.raises(TypeError):
        caffe.Net(files[0], *args, **kwargs)


def test_missing_weights_are_named(files, tmp_path):
    with pytest.raises(CaffeError, match=r'there is no such file \(did you mean "files.caffemodel"\?\)'):
        caffe.Net(files[0], TEST, weights=tmp_path / "file.caffemodel")


def test_float64_nets(files):
    param, source = read_net(files[0])
    net = caffe.net.Net(param, source, dtype=np.float64)
    assert {blob.data.dtype for blob in net.blobs.values()} == {np.dtype(np.float64)}
    assert net.learnable[0].blob.diff.dtype == np.float64


# ---- models --------------------------------------------------------------------------------------------------------

FORMATS = pytest.mark.parametrize("save", [caffe.Net.save, caffe.Net.save_hdf5], ids=["binary", "hdf5"])
LENET = data(shape=(1, 1, 6, 6)) + layer(
    "Convolution",
    "conv1/7x7_s2",
    "data",
    "c",
    "convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: 'gaussian' } }",
)
LENET += layer(
    "InnerProduct", "ip/a/b", "c", "ip", "inner_product_param { num_output: 3 weight_filler { type: 'gaussian' } }"
)


def values(net: caffe.Net) -> dict[str, list[np.ndarray]]:
    return {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}


def assert_equal_values(got: dict, want: dict) -> None:
    assert list(got) == list(want)
    for name, arrays in want.items():
        for a, b in zip(got[name], arrays, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


@FORMATS
def test_round_trip(make, tmp_path, save):
    net = make(LENET)
    save(net, tmp_path / "model")
    other = make(LENET)
    other.copy_from(tmp_path / "model")
    assert net.params["conv1/7x7_s2"][0].data.any()
    assert_equal_values(values(other), values(net))


@FORMATS
def test_round_trip_of_shared_parameters(make, tmp_path, save):
    net = make(SIAMESE)
    save(net, str(tmp_path / "model"))
    other = make(SIAMESE)
    other.copy_from(str(tmp_path / "model"))
    assert_equal_values(values(other), values(net))
    assert np.shares_memory(other.params["left"][0].data, other.params["right"][0].data)


def test_a_binary_model_has_shared_parameters_twice_and_an_hdf5_model_once(make, tmp_path):
    net = make(SIAMESE)
    net.save(tmp_path / "m.caffemodel")
    net.save_hdf5(tmp_path / "m.h5")
    layers = model_file.read_layers(tmp_path / "m.caffemodel")
    assert {one.name: len(one.blobs) for one in layers} == {"a": 0, "b": 0, "left": 1, "right": 1}
    with h5py.File(tmp_path / "m.h5") as file:
        assert {name: len(group) for name, group in file["data"].items()} == {"a": 0, "b": 0, "left": 1, "right": 0}
    branch = make(data("a") + product("right", "a"))
    with pytest.raises(ModelFileError, match=r'layer "right".* has a parameter 0 that the model lacks'):
        branch.load_hdf5(tmp_path / "m.h5")


def test_a_saved_model_is_a_net_parameter(make, tmp_path):
    net = make('name: "n"\n' + data() + product("ip", "data", more="param { lr_mult: 2 }") + loss("ip ip"), TRAIN)
    net.save(tmp_path / "m.caffemodel")
    model = NetParameter.FromString((tmp_path / "m.caffemodel").read_bytes())
    assert model.name == "n"
    assert [one.name for one in model.layer] == ["data", "ip", "ip_ip_0_split", "loss"]
    assert {one.phase for one in model.layer} == {TRAIN}
    ip = model.layer[1]
    assert (ip.param[0].lr_mult, list(ip.blobs[0].shape.dim), len(ip.blobs[0].diff)) == (2, [3, 3], 0)
    np.testing.assert_array_equal(ip.blobs[0].data, net.params["ip"][0].data.ravel())


@FORMATS
def test_gradients_are_saved_on_request(make, tmp_path, save):
    net = make(data() + product("ip", "data"))
    net.params["ip"][0].diff[...] = 7
    save(net, tmp_path / "m", True)
    if save is caffe.Net.save:
        other = make(data() + product("ip", "data"))
        other.copy_from(tmp_path / "m")
        assert (other.params["ip"][0].diff == 7).all()
    else:
        with h5py.File(tmp_path / "m") as file:
            assert (file["diff/ip/0"][()] == 7).all()


@FORMATS
def test_other_layers_of_a_model_are_ignored(make, tmp_path, save, log):
    big = make(data() + product("a", "data") + product("b", "a"))
    save(big, tmp_path / "m")
    net = make(data() + product("b", "data") + product("new", "b"))
    new = net.params["new"][0].data.copy()
    net.copy_from(tmp_path / "m")
    np.testing.assert_array_equal(net.params["b"][0].data, big.params["b"][0].data)
    np.testing.assert_array_equal(net.params["new"][0].data, new)
    assert f'{tmp_path / "m"}: there is nothing for 1 of 2 layers with parameters, which keeps its values: "new"' in log


@FORMATS
def test_a_model_without_a_common_layer_is_worth_a_warning(make, tmp_path, save, log):
    save(make(data("x") + product("a", "x")), tmp_path / "m")
    make(data() + product("b", "data")).copy_from(tmp_path / "m")
    expected = f'{tmp_path / "m"}: there is nothing for 1 of 1 layers with parameters, which keeps its values: "b"'
    assert f'{expected}; there is something for "a"' in log


@FORMATS
def test_a_wrong_shape_is_an_error_with_both_shapes(make, tmp_path, save):
    save(make(data() + product("ip", "data", outputs=4)), tmp_path / "m")
    net = make(data() + product("ip", "data", outputs=2))
    with pytest.raises(ModelFileError) as error:
        net.copy_from(tmp_path / "m")
    start = f'{tmp_path / "m"}: layer "ip" (InnerProduct): parameter 0 is 2 x 3 (6) in the net and 4 x 3 (12) in the model'
    assert str(error.value).startswith(start)


def test_equal_counts_do_not_make_equal_shapes(make, tmp_path):
    make(data(shape=(1, 6)) + product("ip", "data", outputs=2)).save(tmp_path / "m")
    with pytest.raises(ModelFileError, match=r"is 4 x 3 \(12\) in the net and 2 x 6 \(12\) in the model"):
        make(data() + product("ip", "data", outputs=4)).copy_from(tmp_path / "m")


BIASED = layer("InnerProduct", "ip", "data", more="inner_product_param { num_output: 3 }")


def test_a_wrong_number_of_parameters_is_an_error(make, tmp_path):
    make(data() + BIASED).save(tmp_path / "two")
    make(data() + product("ip", "data")).save(tmp_path / "one")
    with pytest.raises(ModelFileError, match=r'layer "ip" \(InnerProduct\) has 1 parameters in the net and 2 in the model'):
        make(data() + product("ip", "data")).copy_from(tmp_path / "two")
    with pytest.raises(ModelFileError, match="has 2 parameters in the net and 1 in the model"):
        make(data() + BIASED).copy_from(tmp_path / "one")


def test_a_wrong_number_of_parameters_in_hdf5_is_an_error(make, tmp_path):
    make(data() + BIASED).save_hdf5(tmp_path / "two")
    make(data() + product("ip", "data")).save_hdf5(tmp_path / "one")
    with pytest.raises(ModelFileError, match='layer "ip" has 1 parameters, the model 2'):
        make(data() + product("ip", "data")).copy_from(tmp_path / "two")
    with pytest.raises(ModelFileError, match=r'layer "ip" \(InnerProduct\) has a parameter 1 that the model lacks'):
        make(data() + BIASED).copy_from(tmp_path / "one")


def test_hdf5_files_that_are_no_models(make, tmp_path):
    net = make(data() + BIASED)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["label"] = np.zeros(3)
    with pytest.raises(ModelFileError, match=r'other\.h5: an HDF5 file, but not a model: it has no group "data"'):
        net.copy_from(tmp_path / "other.h5")
    net.save_hdf5(tmp_path / "m.h5")
    whole = (tmp_path / "m.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match=r"cut\.h5: a damaged HDF5 file"):
        net.load_hdf5(tmp_path / "cut.h5")


def old_blob(layer_param: V1LayerParameter, shape: tuple[int, int, int, int], first: float) -> None:
    count = int(np.prod(shape))
    num, channels, height, width = shape
    layer_param.blobs.add(num=num, channels=channels, height=height, width=width, data=np.arange(first, first + count))


def test_models_of_the_second_generation(make, tmp_path):
    model = NetParameter(name="old")
    old = model.layers.add(name="ip", type=V1LayerParameter.INNER_PRODUCT)
    old_blob(old, (1, 1, 3, 3), 10)
    old_blob(old, (1, 1, 1, 3), 20)
    model.layers.add(name="unknown", type=V1LayerParameter.RELU)
    (tmp_path / "old").write_bytes(model.SerializeToString())
    net = make(data() + BIASED)
    net.copy_from(tmp_path / "old")
    np.testing.assert_array_equal(net.params["ip"][0].data, np.arange(10, 19).reshape(3, 3))
    np.testing.assert_array_equal(net.params["ip"][1].data, [20, 21, 22])


@pytest.mark.parametrize("shape", [(3, 3, 1, 1), (1, 3, 3, 1), (1, 1, 1, 9)])
def test_old_shapes_are_padded_in_front_only(make, tmp_path, shape):
    model = NetParameter()
    old_blob(model.layers.add(name="ip", type=V1LayerParameter.INNER_PRODUCT), shape, 0)
    (tmp_path / "old").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"is 3 x 3 \(9\) in the net and " + " x ".join(map(str, shape))):
        make(data() + product("ip", "data")).copy_from(tmp_path / "old")


def test_share_with_shares_values_but_not_gradients(make):
    net = make(data() + product("a", "data") + product("own", "a"))
    other = make(data() + product("a", "data") + product("theirs", "a", outputs=9))
    own = net.params["own"][0].data.copy()
    net.share_with(other)
    other.params["a"][0].data[...] = 5
    assert (net.params["a"][0].data == 5).all()
    assert (net.learnable[0].blob.data == 5).all()
    assert not np.shares_memory(net.params["a"][0].diff, other.params["a"][0].diff)
    np.testing.assert_array_equal(net.params["own"][0].data, own)


def test_share_with_refuses_other_shapes_and_counts(make):
    net = make(data() + product("ip", "data"))
    with pytest.raises(
        NetError, match=r'layer "ip" \(InnerProduct\): parameter 0 is 3 x 3 \(9\) here and 4 x 3 \(12\) in the other'
    ):
        net.share_with(make(data() + product("ip", "data", outputs=4)))
    with pytest.raises(NetError, match=r'layer "ip" \(InnerProduct\): expected 1 parameters, received 2'):
        net.share_with(make(data() + BIASED))


@FORMATS
def test_saving_into_a_folder_that_is_not_there(make, tmp_path, save):
    with pytest.raises(ModelFileError, match='there is no folder "'):
        save(make(data()), tmp_path / "missing" / "m")


@pytest.mark.parametrize(
    "text",
    [
        data("x") + product("a", "x") + product("a", "a", "b"),
        data("x") + product("a", "x") + product("a/0", "a"),
        data("x") + product("", "x", "a"),
    ],
    ids=["one name twice", "a name inside another", "no name"],
)
def test_names_that_hdf5_cannot_hold_are_errors(make, tmp_path, text):
    net = make(text)
    net.save(tmp_path / "m.caffemodel")
    with pytest.raises(ModelFileError, match=r'm\.h5: HDF5 cannot hold layer "'):
        net.save_hdf5(tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


# ---- the end -------------------------------------------------------------------------------------------------------


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "prefetch" in thread.name]


@pytest.fixture
def database(tmp_path) -> Path:
    with create_database(tmp_path / "db", "lmdb") as writer:
        for i in range(4):
            writer.put(b"%d" % i, encode_datum(np.full((1, 2, 2), i, np.uint8), i))
    return tmp_path / "db"


def database_layer(path: Path) -> str:
    return layer("Data", "data", top="data label", more=f'data_param {{ source: "{path}" batch_size: 2 backend: LMDB }}')


def test_close_ends_threads_and_leaves_the_blobs(make, database):
    net = make(database_layer(database) + layer("Power", "p", "data"))
    net.forward()
    assert prefetch_threads()
    net.close()
    assert not prefetch_threads()
    np.testing.assert_array_equal(net.blobs["label"].data, [0, 1])
    net.close()


def test_a_net_that_is_dropped_ends_its_threads(make, database):
    make(database_layer(database)).forward()
    gc.collect()
    assert not prefetch_threads()


def test_a_net_that_could_not_be_built_leaves_its_database_free(make, database):
    with pytest.raises(NetError):
        make(database_layer(database) + product("bad", "data", outputs=0))
    assert make(database_layer(database)).forward()["label"].tolist() == [0, 1]
    gc.collect()


def test_nets_from_messages_take_their_state():
    param = caffe_pb2.NetParameter()
    param.state.phase = TRAIN
    param.state.stage.append("s")
    for name, stage in (("a", "s"), ("b", "t")):
        one = param.layer.add(name=name, type="Input", top=[name])
        one.include.add(phase=TRAIN, stage=[stage])
        one.input_param.shape.add(dim=[1])
    net = caffe.Net.from_param(param, Source("x"))
    assert names(net) == ["a"]
    assert net.phase == TRAIN


def test_an_engine_is_ignored_with_a_note(make, log):
    make(data() + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" relu_param { engine: CUDNN } }')
    assert [line for line in log if 'layer "r" (ReLU): engine CUDNN is ignored' in line]


def test_a_negative_axis_counts_from_the_end_of_every_shape():
    text = 'input: "x" input_shape { dim: 6 dim: 4 } layer { name: "l" type: "InnerProduct" bottom: "x" top: "y" '
    net = caffe.Net(text + "inner_product_param { num_output: 5 axis: -1 } }", caffe.TEST)
    net.blobs["x"].reshape(3, 6, 4)
    net.forward()
    assert net.blobs["y"].data.shape == (3, 6, 5)


@pytest.mark.parametrize(("type_", "own", "channels"), [("Convolution", "num_output: 1", 1), ("Im2col", "", 25)])
def test_a_kernel_that_sticks_out_by_less_than_a_stride_is_one_window(type_, own, channels):
    """As in Caffe, where sizes are divided as C does. Beyond the image are zeros."""
    text = (
        f'input: "x" input_shape {{ dim: 1 dim: 1 dim: 4 dim: 4 }} layer {{ name: "l" type: "{type_}" bottom: "x" top: "y" '
    )
    text += f"convolution_param {{ kernel_size: 5 stride: 2 {own} weight_filler {{ value: 1 }} }} }}"
    net = caffe.Net(text, caffe.TEST)
    net.blobs["x"].data[...] = 1
    y = net.forward()["y"]
    assert y.shape == (1, channels, 1, 1)
    assert y.sum() == 16


def test_a_convolution_of_no_spatial_axes_needs_no_kernel():
    text = 'input: "x" input_shape { dim: 2 dim: 3 dim: 4 } layer { name: "l" type: "Convolution" bottom: "x" top: "y" '
    net = caffe.Net(text + "convolution_param { num_output: 3 axis: 2 weight_filler { value: 1 } } }", caffe.TEST)
    net.blobs["x"].data[...] = 1
    assert (net.forward()["y"] == 4).all()
