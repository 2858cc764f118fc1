"""A layer type of one's own, in one file: everything that describes layers knows it without a list to edit."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path

import pytest

import pycaffe_lite as caffe
from pycaffe_lite import cli, coord_map, draw, layer
from pycaffe_lite import layers as L
from pycaffe_lite.check import check
from pycaffe_lite.errors import NetError
from pycaffe_lite.proto.caffe_pb2 import LayerParameter
from pycaffe_lite.user_code.registry import Registry

GENERATE = runpy.run_path(str(Path(__file__).parent.parent / "docs/generate.py"))

BLUR = '''"""Blur: the mean of each window, times a weight   (no file of Caffe).

    y = w * the mean of x in a window

bottom[0]: `N x C x H x W`.   top[0]: the same, as if `kernel_size` were odd and `stride` 1.
Parameters: w, one value.

`convolution_param`: as in Convolution.
"""

import numpy as np

from pycaffe_lite.layer import Layer, WindowSizes, register
from pycaffe_lite.proto.caffe_pb2 import FillerParameter


@register("Blur")
class Blur(Layer):
    exact_bottoms = 1
    exact_tops = 1
    family = "filters"
    param_field = "convolution_param"
    is_result = True

    def setup(self, bottom, top):
        self.add_param((1,), FillerParameter(value=1))

    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data * self.blobs[0].data

    @classmethod
    def variant(cls, param):
        return "MEAN"

    @classmethod
    def window_of(cls, param):
        return WindowSizes(tuple(param.convolution_param.kernel_size) or (3,))

    @classmethod
    def files_for_setup(cls, param):
        return [("source", param.infogain_loss_param.source)] if param.infogain_loss_param.source else []

    def multiply_adds(self, bottom, top):
        return 9 * top[0].count
'''

NET = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }
layer { name: "blur" type: "Blur" bottom: "x" top: "y" convolution_param { kernel_size: 5 num_output: 2 } %s }
"""


@pytest.fixture(autouse=True)
def blur(tmp_path, monkeypatch):
    """The module of the type, registered for one test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("blur.py").write_text(BLUR)
    Path("net.prototxt").write_text(NET % "")
    registry = Registry("layer", "pycaffe_lite.layers", NetError, lambda: layer.Layer)
    registry.update(layer._REGISTRY)
    monkeypatch.setattr(layer, "_REGISTRY", registry)
    yield importlib.import_module("blur")
    del sys.modules["blur"]


def test_its_docstring_is_its_documentation():
    section = GENERATE["section"]("Blur")
    assert section.startswith("## Blur\n\nThe mean of each window, times a weight.")
    assert "| `kernel_size` | repeated uint32 |" in section
    assert "| filters | [Blur](docs/layers.md#blur) ([py](blur.py)) |" in GENERATE["readme_table"]()
    assert "[Blur](#blur)" in GENERATE["layers_page"]()


def test_its_parameters_have_a_place_in_a_net_spec():
    n = caffe.NetSpec()
    n.y = L.Blur(L.Input(), kernel_size=5)
    assert n.to_proto().layer[1].convolution_param.kernel_size == [5]
    assert "Blur" in dir(L)


def test_tables_ask_it_for_its_work(capsys):
    (_, summary) = caffe.Net("net.prototxt", caffe.TEST).summary().layers
    assert (summary.type, summary.parameters, summary.multiply_adds) == ("Blur", 1, 9 * 32)
    assert cli.main(["summarize", "net.prototxt"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "blur Blur   x -> y 5 2"


def test_a_picture_shows_what_it_says():
    param = LayerParameter(name="b", type="Blur")
    assert draw.get_layer_label(param, "LR") == r'"b\n(Blur MEAN)\nkernel size: 3\nstride: 1\npad: 0"'
    assert draw.choose_color_by_layertype("Blur") == draw.choose_color_by_layertype("Pooling")
    param.convolution_param.num_output = 2
    assert draw.get_edge_label(param) == "2"


def test_check_sets_it_up_and_knows_that_it_is_a_result():
    loss = 'layer { name: "loss" type: "EuclideanLoss" bottom: "x" bottom: "x" top: "loss" }\n'
    Path("net.prototxt").write_text(NET % "" + loss)
    findings, tables = check("net.prototxt")
    assert not findings.lines()  # nobody reads y
    assert [row.shape for row in next(iter(tables.values())) if row.top == "y"] == [(1, 2, 4, 4)]
    Path("net.prototxt").write_text(NET % 'infogain_loss_param { source: "gone" }')
    assert 'layer "blur" (Blur): there is no source "gone"' in check("net.prototxt")[0].lines()[0]


def test_its_window_maps_coordinates():
    axis, scale, shift = coord_map.coord_map(L.Blur(L.Input(), kernel_size=5).fn)
    assert (axis, scale.tolist(), shift.tolist()) == (1, [1], [-2])


def test_a_type_says_nothing_of_itself_unless_it_wants_to():
    @layer.register("Plain")
    class Plain(layer.Layer):
        pass

    param = LayerParameter(name="p", type="Plain")
    assert (Plain.family, Plain.param_field) == (layer.OTHER_FAMILY, "")
    assert draw.get_layer_label(param, "TB") == '"p (Plain)"'
    assert draw.get_edge_label(param) == '""'
    with pytest.raises(coord_map.UndefinedMapException, match="Plain"):
        coord_map.coord_map(L.Plain(L.Input()).fn)


def test_a_derived_type_keeps_what_its_base_says():
    base = layer.class_of("Convolution")

    @layer.register("MyConvolution")
    class MyConvolution(base):
        pass

    assert (MyConvolution.family, MyConvolution.param_field) == (layer.OTHER_FAMILY, "convolution_param")
    assert base.family == "vision"
    assert MyConvolution.weights_and_bias
