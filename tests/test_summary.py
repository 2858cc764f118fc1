"""The table of a net: `net.summary()` and `pycaffe_lite summary`."""

from __future__ import annotations

from pathlib import Path

import pytest

import pycaffe_lite as caffe
from pycaffe_lite import cli, glog
from pycaffe_lite.net.summary import without_splits
from pycaffe_lite.proto import read_net

NET = """name: "tiny"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 group: 2 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "up" type: "Deconvolution" bottom: "conv" top: "up"
  convolution_param { num_output: 2 kernel_size: 2 stride: 2 bias_term: false } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" param { name: "w" } inner_product_param { num_output: 5 } }
layer { name: "ip2" type: "InnerProduct" bottom: "conv" top: "ip2" param { name: "w" }
  inner_product_param { num_output: 5 bias_term: false } }
layer { name: "cut" type: "Slice" bottom: "ip" top: "left" top: "right" slice_param { axis: 1 slice_point: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "ip2" top: "bn" exclude { phase: TRAIN } }
"""
RNN = """
layer { name: "x" type: "Input" top: "x" top: "cont" top: "static"
  input_param { shape { dim: 3 dim: 2 dim: 7 } shape { dim: 3 dim: 2 } shape { dim: 2 dim: 6 } } }
layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" bottom: "static" top: "h" recurrent_param { num_output: 5 } }
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    yield
    glog.set_min_level(0)


def test_counts_parameters_once_multiply_adds_and_bytes():
    summary = caffe.Net("net.prototxt", caffe.TEST).summary()
    layers = {layer.name: layer for layer in summary.layers}
    assert list(layers) == ["x", "conv", "relu", "up", "ip", "ip2", "cut", "bn"]  # no Split
    counts = {name: (layer.parameters, layer.multiply_adds, layer.memory // 4) for name, layer in layers.items()}
    assert counts == {
        "x": (0, 0, 2 * 4 * 36),
        "conv": (8 * 2 * 9 + 8, 2 * 8 * 16 * 2 * 9, 2 * 8 * 16),
        "relu": (0, 0, 0),
        "up": (8 * 2 * 4, 2 * 8 * 16 * 2 * 4, 2 * 2 * 64),
        "ip": (5 * 128 + 5, 2 * 128 * 5, 10),
        "ip2": (0, 2 * 128 * 5, 10),
        "cut": (0, 0, 10),
        "bn": (5 + 5 + 1, 10, 10),
    }
    assert layers["ip2"].shares == ["ip"]
    assert layers["cut"].tops == [("left", (2, 2)), ("right", (2, 3))]
    assert summary.parameters == sum(count for count, _, _ in counts.values())
    assert summary.parameter_memory == 4 * summary.parameters
    assert summary.multiply_adds == sum(count for _, count, _ in counts.values())


def test_multiply_adds_of_a_recurrent_layer():
    Path("rnn.prototxt").write_text(RNN)
    (_, lstm) = caffe.Net("rnn.prototxt", caffe.TEST).summary().layers
    assert lstm.multiply_adds == 6 * 20 * 7 + 2 * 20 * 6 + 6 * 20 * 5


def test_the_table_is_what_is_printed():
    summary = caffe.Net("net.prototxt", caffe.TEST).summary()
    lines = str(summary).splitlines()
    assert lines[0] == "tiny"
    assert lines[2].split() == ["layer", "type", "output", "parameters", "multiply-adds", "memory"]
    assert " ".join(lines[5].split()) == "conv Convolution 2 x 8 x 4 x 4 152 4,608 1 KiB"
    assert "of ip" in next(line for line in lines if line.startswith("ip2"))
    assert repr(summary) == str(summary)
    assert "<td>conv</td><td>Convolution</td>" in summary._repr_html_()


def test_a_net_in_a_notebook():
    """The table, which Jupyter prefers, and the picture, both without the Split layers that the net puts in."""
    net = caffe.Net("net.prototxt", caffe.TEST)
    assert net._repr_html_() == net.summary()._repr_html_()
    svg = net._repr_svg_()
    assert "<svg" in svg
    drawn = without_splits(net)
    given, _ = read_net("net.prototxt")
    assert [layer.name for layer in drawn.layer] == [layer.name for layer in given.layer]
    assert [list(layer.bottom) for layer in drawn.layer] == [list(layer.bottom) for layer in given.layer]
    assert not any(layer.blobs for layer in drawn.layer)


def test_jupyter_shows_the_table():
    formatters = pytest.importorskip("IPython.core.formatters")
    data, _ = formatters.DisplayFormatter().format(caffe.Net("net.prototxt", caffe.TEST))
    assert data["text/html"].startswith("<b>tiny</b><table>")
    assert "<svg" in data["image/svg+xml"]


def test_the_command_filters_by_phase_and_reads_weights(capsys):
    assert cli.main(["summary", "net.prototxt"]) == 0
    shown = capsys.readouterr().out
    assert "BatchNorm" in shown
    assert "|w|" not in shown
    assert cli.main(["summary", "net.prototxt", "--phase", "TRAIN"]) == 0
    assert "BatchNorm" not in capsys.readouterr().out
    net = caffe.Net("net.prototxt", caffe.TEST)
    net.params["up"][0].data[...] = -0.25
    net.save("net.caffemodel")
    capsys.readouterr()
    assert cli.main(["summary", "net.prototxt", "--weights", "net.caffemodel"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("up"))
    assert line.endswith(" 0.25")


def test_the_net_may_be_given_as_in_other_commands(capsys):
    assert cli.main(["summary", "net.prototxt"]) == 0
    shown = capsys.readouterr().out
    for words in (["--model", "net.prototxt"], ["-model=net.prototxt"]):
        assert cli.main(["summary", *words]) == 0
        assert capsys.readouterr().out == shown
    for words, count in (([], "none"), (["net.prototxt", "--model", "net.prototxt"], "two")):
        assert cli.main(["summary", *words]) == 1
        assert capsys.readouterr().err == f"error: summary needs one net, as NET or --model; received {count}\n"


def test_summarize_is_another_name_for_the_layers_as_written(capsys):
    assert cli.main(["summarize", "net.prototxt"]) == 0
    shown = capsys.readouterr().out
    assert "->" in shown
    assert cli.main(["summary", "--written", "--model", "net.prototxt"]) == 0
    assert capsys.readouterr().out == shown


def test_mistakes_are_told_in_one_line(capsys):
    assert cli.main(["summary", "nat.prototxt"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
