"""Nets written in Python; and the names and signatures of pycaffe's pure-Python modules."""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import layers as L
from pycaffe_lite import params as P
from pycaffe_lite.net_spec import SpecError, assign_proto, param_name_dict
from pycaffe_lite.proto import caffe_pb2

KIT = os.environ.get("PYCAFFE_LITE_CONFORMANCE")


def lenet(n):
    n.data, n.label = L.DummyData(shape=[{"dim": [2, 1, 12, 12]}, {"dim": [2, 1, 1, 1]}], ntop=2)
    n.conv = L.Convolution(n.data, kernel_size=5, num_output=3, weight_filler={"type": "xavier"})
    n.pool = L.Pooling(n.conv, kernel_size=2, stride=2, pool=P.Pooling.AVE)
    n.ip = L.InnerProduct(n.pool, num_output=4, param=[{"lr_mult": 1}, {"lr_mult": 2}])
    n.relu = L.ReLU(n.ip, in_place=True)
    n.loss = L.SoftmaxWithLoss(n.relu, n.label, loss_weight=3, include={"phase": caffe.TRAIN})
    return n


def described(net):
    return [(layer.name, layer.type, list(layer.bottom), list(layer.top)) for layer in net.layer]


def error_of(build, kind=SpecError) -> str:
    with pytest.raises(kind) as error:
        build()
    return str(error.value)


def spec(**tops):
    n = caffe.NetSpec()
    for name, top in tops.items():
        n[name] = top
    return n.to_proto()


# ---- what comes out -----------------------------------------------------------------------------------------------


def test_names_are_those_of_the_attributes():
    net = lenet(caffe.NetSpec()).to_proto()
    assert described(net) == [
        ("data", "DummyData", [], ["data", "label"]),
        ("conv", "Convolution", ["data"], ["conv"]),
        ("pool", "Pooling", ["conv"], ["pool"]),
        ("ip", "InnerProduct", ["pool"], ["ip"]),
        ("relu", "ReLU", ["ip"], ["ip"]),
        ("loss", "SoftmaxWithLoss", ["ip", "label"], ["loss"]),
    ]
    conv, pool, ip, loss = (net.layer[i] for i in (1, 2, 3, 5))
    assert conv.convolution_param.kernel_size == [5]
    assert conv.convolution_param.weight_filler.type == "xavier"
    assert pool.pooling_param.pool == caffe_pb2.PoolingParameter.AVE
    assert [param.lr_mult for param in ip.param] == [1, 2]
    assert (loss.loss_weight, loss.include[0].phase) == ([3], caffe.TRAIN)


def test_names_are_made_up_without_a_netspec():
    class Plain:
        pass

    n = lenet(Plain())
    names = ["DummyData1", "Convolution1", "Pooling1", "InnerProduct1", "ReLU1", "SoftmaxWithLoss1"]
    assert [layer.name for layer in n.loss.to_proto().layer] == names
    assert n.loss.to_proto().layer[0].top == ["DummyData1", "DummyData2"]
    again = caffe.to_proto(n.pool, n.conv, L.Pooling(n.conv, kernel_size=2))
    assert [layer.name for layer in again.layer] == ["DummyData1", "Convolution1", "Pooling1", "Pooling2"]


def test_the_net_is_built(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(str(lenet(caffe.NetSpec()).to_proto()))
    net = caffe.Net(path, caffe.TRAIN)
    assert net.blobs["pool"].shape == (2, 3, 4, 4)
    assert list(net.forward()) == ["loss"]


def test_layers_come_in_the_order_of_assignment_after_what_they_need():
    data = L.Input(shape={"dim": [1, 3]})
    hidden = L.InnerProduct(data, num_output=2)
    net = spec(b=L.Sigmoid(hidden), a=L.TanH(hidden), data=data)
    assert described(net) == [
        ("data", "Input", [], ["data"]),
        ("InnerProduct1", "InnerProduct", ["data"], ["InnerProduct1"]),
        ("b", "Sigmoid", ["InnerProduct1"], ["b"]),
        ("a", "TanH", ["InnerProduct1"], ["a"]),
    ]


def test_layers_without_tops():
    n = caffe.NetSpec()
    n.x, n.y = L.DummyData(shape={"dim": 3}, ntop=2)
    n["quiet/x"] = L.Silence(n.x, ntop=0)
    silent = L.Silence(n.y, ntop=0)
    assert n["quiet/x"].ntop == 0
    assert described(n.to_proto())[1] == ("quiet/x", "Silence", ["x"], [])
    assert described(caffe.to_proto(*n.x.fn.tops, *[]))[0][3] == ["DummyData1", "DummyData2"]
    assert spec(only=silent).layer[1].name == "only"


def test_a_name_given_as_parameter_is_the_layers():
    layer = spec(top=L.ReLU(L.Input(), name="unit")).layer[1]
    assert (layer.name, layer.top) == ("unit", ["top"])


def test_values_of_all_kinds():
    layer = spec(
        x=L.Convolution(
            L.Input(),
            kernel_size=(3, 4),
            stride=np.array([1, 2]),
            pad=np.int64(1),
            engine="CAFFE",
            bias_filler=caffe_pb2.FillerParameter(type="constant", value=2),
            param=[caffe_pb2.ParamSpec(name="w"), {"name": "b"}],
            convolution_param={"group": 1},
        )
    ).layer[1]
    conv = layer.convolution_param
    assert (conv.kernel_size, conv.stride, conv.pad, conv.group) == ([3, 4], [1, 2], [1], 1)
    assert (conv.engine, conv.bias_filler.value) == (caffe_pb2.ConvolutionParameter.CAFFE, 2)
    assert [param.name for param in layer.param] == ["w", "b"]


def test_a_prototxt_is_written_without_kernels():
    code = """if True:
        import sys
        from pycaffe_lite import layers as L
        data = L.Data(source="db", batch_size=2)
        print(L.ReLU(L.Convolution(data, num_output=3, kernel_size=5), in_place=True).to_proto())
        assert "numba" not in sys.modules"""
    written = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 'type: "ReLU"' in written


def test_types_that_borrow_a_message():
    data = L.Input()
    net = spec(up=L.Deconvolution(data, num_output=2), lstm=L.LSTM(data, data, num_output=3))
    assert (net.layer[1].convolution_param.num_output, net.layer[2].recurrent_param.num_output) == (2, 3)
    python = spec(p=L.Python(module="m", layer="l", param_str="{}")).layer[0].python_param
    assert (python.module, python.layer, python.param_str) == ("m", "l", "{}")


def test_param_names():
    names = param_name_dict()
    assert (names["Convolution"], names["HDF5Data"], names["Transformation"]) == ("convolution", "hdf5_data", "transform")


def test_a_layer_type_of_another_caffe_has_a_name():
    assert described(spec(x=L.Foreign(L.Input(), propagate_down=[True])))[1] == ("x", "Foreign", ["Input1"], ["x"])


def test_a_spec_can_be_copied_and_looked_into():
    n = lenet(caffe.NetSpec())
    assert copy.deepcopy(n).to_proto() == n.to_proto()
    assert "pool" in dir(n)
    assert hasattr(n, "pool")
    assert not hasattr(n, "fc")
    assert not hasattr(L, "_repr_html_")
    assert "Convolution" in dir(L)
    assert {"MAX", "AVE"} <= set(dir(P.Pooling))
    assert "Pooling" in dir(P)


# ---- what is wrong ------------------------------------------------------------------------------------------------


def test_an_unknown_parameter():
    text = error_of(lambda: spec(conv=L.Convolution(L.Input(), kernl_size=3)))
    assert text == 'layer "conv" (Convolution) has no parameter "kernl_size" (did you mean "kernel_size"?)'
    assert error_of(lambda: spec(x=L.Silence(L.Input(), zzz=1))).endswith('no parameter "zzz"')
    text = error_of(lambda: spec(x=L.ReLU(L.Input(), param={"lr_mul": 1})), AttributeError)
    assert text == 'ParamSpec has no field "lr_mul" (did you mean "lr_mult"?)'


def test_an_unknown_type_with_parameters():
    text = error_of(lambda: spec(x=L.Convolutoin(L.Input(), num_output=3)))
    assert 'layer type "Convolutoin" is unknown (did you mean "Convolution"?)' in text


def test_an_unknown_top():
    n = lenet(caffe.NetSpec())
    assert error_of(lambda: n.convs, AttributeError) == 'the net has no top "convs" yet (did you mean "conv"?)'
    assert error_of(lambda: n["a/b"], KeyError) == 'the net has no top "a/b" yet'


def test_an_unknown_constant():
    assert error_of(lambda: P.Pooling.MAXX).endswith('no constant "MAXX" (did you mean "MAX"?)')
    assert 'did you mean "Pooling"?' in error_of(lambda: P.Poling)


def test_what_is_no_top():
    both = L.DummyData(ntop=2)
    assert error_of(lambda: L.Silence(both), TypeError) == "Silence input 0 is not a Top (type is <class 'tuple'>)"
    assert '"data": expected one top' in error_of(lambda: spec(data=both), TypeError)


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        ({"num_output": 2.5}, TypeError, "ConvolutionParameter.num_output does not take 2.5"),
        ({"num_output": -1}, ValueError, "ConvolutionParameter.num_output does not take -1"),
        ({"pad": ["x"]}, TypeError, "ConvolutionParameter.pad does not take 'x'"),
        ({"engine": "FAST"}, ValueError, "ConvolutionParameter.engine does not take 'FAST'"),
        ({"weight_filler": "xavier"}, TypeError, "weight_filler is a message: expected a dict, received 'xavier'"),
        ({"weight_filler": caffe_pb2.ParamSpec()}, TypeError, "weight_filler does not take"),
        ({"num_output": {"a": 1}}, TypeError, "num_output does not take {'a': 1}"),
        ({"kernel_size": {"a": 1}}, TypeError, "kernel_size does not take {'a': 1}"),
    ],
)
def test_a_wrong_value(values, kind, text):
    assert text in error_of(lambda: spec(x=L.Convolution(L.Input(), **values)), kind)


def test_assign_proto():
    layer = caffe_pb2.LayerParameter()
    assign_proto(layer, "bottom", "a")
    assign_proto(layer, "bottom", ["b", "c"])
    assign_proto(layer, "bottom", [])
    assign_proto(layer, "relu_param", {"negative_slope": 0.5})
    assert (layer.bottom, layer.relu_param.negative_slope) == (["a", "b", "c"], 0.5)


# ---- the names of pycaffe -----------------------------------------------------------------------------------------

MODULES = ("net_spec", "io", "classifier", "detector", "coord_map")


def arguments(signature: str) -> str:
    """Names and defaults of arguments, without their types."""
    function = ast.parse(f"def f{signature}: pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    for argument in ast.walk(function.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return ast.unparse(function.args)


def signature(function) -> str:
    return arguments(str(inspect.signature(function)))


@pytest.mark.skipif(KIT is None, reason="needs PYCAFFE_LITE_CONFORMANCE")
@pytest.mark.parametrize("module", MODULES)
def test_names_and_signatures_are_pycaffes(module):
    modules = json.loads((Path(KIT or "") / "pycaffe_api.json").read_text())["modules"]
    ours = importlib.import_module(f"pycaffe_lite.{module}")
    net = modules["caffe"]["Net"]["members"]
    checked = 0
    for name, entry in modules[f"caffe.{module}"].items():
        if not entry["own"]:
            continue
        found = getattr(ours, name)
        if "signature" in entry:
            assert signature(found) == arguments(entry["signature"]), name
        elif entry["kind"] == "constant":
            assert type(found).__name__ == entry["type"], name
        inherited = net if "Net" in entry.get("bases", ()) else {}
        for member, detail in entry.get("members", {}).items():
            if inherited.get(member) != detail and detail["kind"] == "method" and "signature" in detail:
                assert signature(getattr(found, member)) == arguments(detail["signature"]), f"{name}.{member}"
                checked += 1
        checked += 1
    assert checked >= 3


def test_the_package_hands_them_out():
    for name in ("Classifier", "Detector", "NetSpec", "layers", "params", "to_proto", *MODULES):
        assert getattr(caffe, name) is not None
        assert name in dir(caffe)
