"""Pictures of nets: pycaffe's functions, the graph behind the picture, and the layout without Graphviz."""

import inspect
import io
import itertools
import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

from pycaffe_lite import draw
from pycaffe_lite.cli import call, draw_net
from pycaffe_lite.errors import CaffeError, NetError
from pycaffe_lite.plots import layout as layouts
from pycaffe_lite.proto import caffe_pb2

SIAMESE = """
name: "siamese"
layer { name: "pair" type: "Data" top: "pair" top: "sim" include { phase: TRAIN } data_param { batch_size: 64 } }
layer { name: "pair" type: "Data" top: "pair" top: "sim" include { phase: TEST } data_param { batch_size: 100 } }
layer { name: "slice" type: "Slice" bottom: "pair" top: "data" top: "data_p" }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1" inner_product_param { num_output: 500 } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "feat" type: "InnerProduct" bottom: "ip1" top: "feat" inner_product_param { num_output: 2 } }
layer { name: "ip1_p" type: "InnerProduct" bottom: "data_p" top: "ip1_p" inner_product_param { num_output: 500 } }
layer { name: "relu1_p" type: "ReLU" bottom: "ip1_p" top: "ip1_p" }
layer { name: "feat_p" type: "InnerProduct" bottom: "ip1_p" top: "feat_p" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "ContrastiveLoss" bottom: "feat" bottom: "feat_p" bottom: "sim" top: "loss" }
"""


def net(text=SIAMESE):
    return text_format.Parse(text, caffe_pb2.NetParameter())


def layer(text):
    return text_format.Parse(text, caffe_pb2.LayerParameter())


@pytest.fixture
def no_dot(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


def image(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def names(text, phase=None):
    nodes, edges = draw._graph(net(text), phase)
    names = [node.blob or f"[{node.layers[0].name}]" for node in nodes]
    return names, [(names[a], names[b]) for a, b in edges]


# ---------------------------------------------------------------------------------------------------- pycaffe's functions


def test_signatures_are_those_of_pycaffe():
    folder = os.environ.get("PYCAFFE_LITE_CONFORMANCE")
    if not folder:
        pytest.skip("PYCAFFE_LITE_CONFORMANCE is not set")
    for name, entry in json.loads(Path(folder, "pycaffe_api.json").read_text())["modules"]["caffe.draw"].items():
        if entry["kind"] == "function":
            parameters = inspect.signature(getattr(draw, name)).parameters.values()
            found = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
            assert f"({', '.join(found)})" == entry["signature"]
        elif entry["own"]:
            assert isinstance(getattr(draw, name), dict)


def test_pooling_types():
    assert draw.get_pooling_types_dict() == {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('name: "ip" type: "InnerProduct"', r'"ip\n(InnerProduct)"'),
        (
            'name: "c" type: "Convolution" convolution_param { kernel_size: 5 pad: 2 }',
            r'"c\n(Convolution)\nkernel size: 5\nstride: 1\npad: 2"',
        ),
        (
            'name: "c" type: "Convolution" convolution_param { kernel_h: 3 kernel_w: 5 stride: 2 stride: 1 }',
            r'"c\n(Convolution)\nkernel size: 3x5\nstride: 2x1\npad: 0"',
        ),
        (
            'name: "p" type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 }',
            r'"p\n(Pooling AVE)\nkernel size: 3\nstride: 2\npad: 0"',
        ),
        (
            'name: "p" type: "Pooling" pooling_param { global_pooling: true }',
            r'"p\n(Pooling MAX)\nkernel size: global\nstride: 1\npad: 0"',
        ),
        ('name: "a|\\"b" type: "X"', r'"a\|\"b\n(X)"'),
    ],
)
def test_layer_labels(text, label):
    assert draw.get_layer_label(layer(text), "LR") == label
    assert draw.get_layer_label(layer(text), "TB") == label.replace(r"\n", " ")


def test_learning_rate_multipliers():
    ip = 'name: "ip" type: "InnerProduct" '
    assert draw.get_layer_lr_mult(layer(ip)) == (1, 1)
    assert draw.get_layer_lr_mult(layer(ip + "param { lr_mult: 3 }")) == (3, 1)
    two = layer(ip + "param { lr_mult: 1 } param { lr_mult: 2 }")
    assert draw.get_layer_lr_mult(two) == (1, 2)
    assert draw.get_layer_label(two, "TB", display_lrm=True) == '"ip (InnerProduct) lr mult: 1.0, 2.0"'
    frozen = layer(ip + "param { lr_mult: 0 } param { lr_mult: 0 }")
    assert draw.get_layer_label(frozen, "TB", display_lrm=True) == '"ip (InnerProduct)"'
    with pytest.raises(ValueError, match="ReLU"):
        draw.get_layer_lr_mult(layer('type: "ReLU"'))
    with pytest.raises(NetError, match="3 param entries"):
        draw.get_layer_lr_mult(layer(ip + "param {} param {} param {}"))


def test_edge_labels():
    assert draw.get_edge_label(layer('type: "Data" data_param { batch_size: 64 }')) == "Batch 64"
    assert draw.get_edge_label(layer('type: "Deconvolution" convolution_param { num_output: 20 }')) == "20"
    assert draw.get_edge_label(layer('type: "InnerProduct" inner_product_param { num_output: 10 }')) == "10"
    assert draw.get_edge_label(layer('type: "ReLU"')) == '""'


def test_pydot_graph_has_layers_blobs_and_double_arrows_to_layers_in_place():
    pytest.importorskip("pydot")
    graph = draw.get_pydot_graph(net(), "TB", phase=caffe_pb2.TRAIN)
    labels = {node.get_name(): node.get("label") for node in graph.get_nodes()}
    edges = {(labels[e.get_source()], labels[e.get_destination()]): e for e in graph.get_edges()}
    assert graph.get_rankdir() == "TB"
    assert edges['"pair (Data)"', '"sim"'].get("label") == '"Batch 64"'
    assert edges['"ip1"', '"relu1 (ReLU)"'].get("dir") == "both"
    assert ('"sim"', '"loss (ContrastiveLoss)"') in edges
    assert draw.LAYER_STYLE_DEFAULT["fillcolor"] == draw.choose_color_by_layertype("Slice") == "#6495ED"


# -------------------------------------------------------------------------------------------------------------- the graph


@pytest.mark.parametrize(("phase", "batch"), [(caffe_pb2.TRAIN, 64), (caffe_pb2.TEST, 100)])
def test_a_phase_leaves_out_the_layers_of_the_other(phase, batch):
    nodes, _ = draw._graph(net(), phase)
    assert [n.layers[0].data_param.batch_size for n in nodes if n.layers and n.layers[0].type == "Data"] == [batch]


def test_exclude_rules_and_rules_without_a_phase():
    text = """
    layer { name: "a" type: "X" top: "a" exclude { phase: TEST } }
    layer { name: "b" type: "X" top: "b" include { stage: "s" } }
    layer { name: "c" type: "X" top: "c" include { phase: TRAIN } include { phase: TEST } }"""
    assert names(text, caffe_pb2.TRAIN)[0] == ["[a]", "a", "[b]", "b", "[c]", "c"]
    assert names(text, caffe_pb2.TEST)[0] == ["[b]", "b", "[c]", "c"]
    both = net('layer { name: "a" type: "X" include { phase: TEST } exclude { phase: TRAIN } }')
    with pytest.raises(NetError, match=r'"a".*not both'):
        draw._graph(both, caffe_pb2.TEST)


def test_two_phases_share_the_blobs_of_their_data_layers():
    found, edges = names(SIAMESE)
    assert found.count("[pair]") == 2
    assert found.count("sim") == 1
    assert edges.count(("[pair]", "sim")) == 2


def test_layers_in_place_belong_to_their_blob_and_never_close_a_circle():
    nodes, _ = draw._graph(net(), None)
    assert [layer.name for node in nodes if node.blob == "ip1" for layer in node.layers] == ["relu1"]
    text = """
    layer { name: "a" type: "X" top: "x" top: "y" }
    layer { name: "b" type: "Eltwise" bottom: "x" bottom: "y" top: "x" }
    layer { name: "c" type: "X" bottom: "x" }"""
    found, _ = names(text)
    assert found.count("x") == 2
    _, edges = draw._graph(net(text), None)
    assert layouts._ranks(len(found), edges) == [0, 1, 1, 2, 3, 4]


# ------------------------------------------------------------------------------------------------------------- the layout


def arranged(edges, breadths):
    layout = layouts.arrange(len(breadths), edges, breadths)
    for members in layout.order:
        for i, j in itertools.pairwise(members):
            assert layout.cross[j] - layout.cross[i] >= (layout.size[i] + layout.size[j]) / 2
    return layout


def test_ranks_are_longest_paths_and_a_late_input_stands_before_its_use():
    edges = [(0, 1), (1, 2), (2, 3), (0, 3), (4, 5), (5, 3)]
    assert layouts._ranks(6, edges) == [0, 1, 2, 3, 1, 2]


def test_two_branches_do_not_cross_and_a_chain_is_straight():
    # 0 -> (1, 2), two chains of four that are listed crosswise, both into 11.
    edges = [(0, 1), (0, 2), (1, 4), (2, 3), (4, 6), (3, 5), (6, 8), (5, 7), (8, 9), (7, 9)]
    layout = arranged(edges, [1.0] * 10)
    assert layouts._crossings(layout) == 0
    for chain in ([1, 4, 6, 8], [2, 3, 5, 7]):
        assert len({round(layout.cross[i], 6) for i in chain}) == 1
    assert layout.cross[0] == pytest.approx((layout.cross[1] + layout.cross[2]) / 2)


def test_crossings_are_counted():
    layout = layouts.Layout([1.0] * 4, [0, 0, 1, 1], [[0, 1], [2, 3]], [[], [], [1], [0]], [[3], [2], [], []], [0.0] * 4, 4)
    assert layouts._crossings(layout) == 1
    layouts._uncross(layout)
    assert layouts._crossings(layout) == 0


def test_long_edges_of_one_node_share_their_way():
    rank = [0, 1, 2, 3, 4]
    before, after = layouts._with_way_points(rank, [(0, 1), (1, 2), (2, 3), (3, 4), (0, 3), (0, 4)])
    assert rank[5:] == [1, 2, 3]
    assert sorted(before[3]) == [2, 6]
    assert sorted(after[6]) == [3, 7]


def test_a_hopeless_tangle_is_refused(monkeypatch):
    monkeypatch.setattr(layouts, "MAX_WAY_POINTS", 2)
    with pytest.raises(CaffeError, match="too tangled"):
        layouts._with_way_points([0, 4], [(0, 1)])


# ------------------------------------------------------------------------------------------------------------ the picture


@pytest.mark.usefixtures("no_dot")
@pytest.mark.parametrize("rankdir", ["LR", "RL", "TB", "BT"])
def test_without_dot_there_is_a_picture_that_runs_the_right_way(rankdir):
    conv = 'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" }'
    pool = 'layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" }'
    ip = 'layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip" }'
    picture = image(draw.draw_net(net(conv + pool + ip), rankdir)).astype(int)
    red, green, blue = (picture[..., channel] for channel in range(3))
    axis = 1 if rankdir in ("LR", "RL") else 0
    conv_at = np.nonzero((red - green > 60) & (abs(green - blue) < 20))[axis].mean()
    ip_at = np.nonzero((red - green > 60) & (blue - green > 60))[axis].mean()
    assert (conv_at < ip_at) == (rankdir in ("LR", "TB"))
    assert abs(conv_at - ip_at) > picture.shape[axis] / 4


@pytest.mark.usefixtures("no_dot")
def test_a_long_net_is_folded():
    chain = "".join(f'layer {{ name: "ip{i}" type: "InnerProduct" bottom: "b{i}" top: "b{i + 1}" }}\n' for i in range(40))
    height, width, _ = image(draw.draw_net(net(chain), "LR")).shape
    assert width < 4 * height


@pytest.mark.usefixtures("no_dot")
@pytest.mark.parametrize(
    "text", ["", 'layer { name: "alone" type: "X" }', 'name: "$x$ \\n" layer { top: "' + "y" * 500 + '" }']
)
def test_odd_nets_are_drawn(text):
    assert image(draw.draw_net(net(text), "TB")).size


@pytest.mark.skipif(not shutil.which("dot"), reason="Graphviz is not installed")
def test_with_dot_there_is_a_picture():
    pytest.importorskip("pydot")
    assert image(draw.draw_net(net(), "LR")).size


def test_a_dot_that_fails_is_noted_and_matplotlib_draws(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pydot")
    dot = tmp_path / "dot"
    dot.write_text("#!/bin/sh\necho no fonts >&2\nexit 1\n")
    dot.chmod(dot.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert image(draw.draw_net(net(), "LR")).size
    assert "dot failed (no fonts)" in capsys.readouterr().err


def test_raw_is_text_for_graphviz(tmp_path):
    pytest.importorskip("pydot")
    draw.draw_net_to_file(net(), str(tmp_path / "net.raw"))
    assert (tmp_path / "net.raw").read_text().startswith("digraph")


@pytest.mark.usefixtures("no_dot")
def test_unknown_direction_and_formats_are_errors(tmp_path):
    with pytest.raises(CaffeError, match='rankdir is "UP"'):
        draw.draw_net(net(), "UP")
    with pytest.raises(CaffeError, match='no image format "xyz"'):
        draw.draw_net_to_file(net(), tmp_path / "net.xyz")
    with pytest.raises(CaffeError, match="no extension"):
        draw.draw_net_to_file(net(), tmp_path / "net")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_dot")
def test_the_command_draws_an_old_net(tmp_path, capsys):
    old = tmp_path / "old.prototxt"
    old.write_text(
        'input: "data" input_dim: 1 input_dim: 1 input_dim: 28 input_dim: 28\n'
        'layers { name: "ip" type: INNER_PRODUCT bottom: "data" top: "ip" inner_product_param { num_output: 9 } }'
    )
    out = tmp_path / "net.png"
    argv = [str(old), str(out), "--rankdir", "TB", "--phase", "TEST", "--display_lrm"]
    assert call(draw_net.main, argv) == 0
    assert capsys.readouterr().out == f"Drawing net to {out}\n"
    assert image(out.read_bytes()).size
