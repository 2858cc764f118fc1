"""Operations and layers on a device that is not the host: a stand-in that takes only what CuPy documents."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format

import pycaffe_lite.device.operations as operation_module
from pycaffe_lite.device import HOST, OPERATIONS, Elementwise, operation, use
from pycaffe_lite.errors import DeviceError
from pycaffe_lite.layer import registered_types
from pycaffe_lite.layer_types.elementwise.power import linear
from pycaffe_lite.net import Net, weights
from pycaffe_lite.proto.caffe_pb2 import TRAIN, NetParameter

from .cases import CASES, Case
from .layer_harness import Rig, parse_layer
from .strict_cupy import StrictArray, StrictDevice, unwrap

# How each type computes. "generic": in array code alone, which runs on every device. "expression": with elementwise
# operations besides, of which devices make bodies themselves. "operation": with operations that need a body for the device.
# "host": it reads or writes arrays of the host, which are copied where it stands between layers of a device.
# A type that gets another kind turns its test red: one that stops being generic needs work for each device.
KINDS = {
    "generic": "Accuracy ArgMax Bias Concat ContrastiveLoss Crop EuclideanLoss Filter Flatten HingeLoss Input LSTMUnit "
    "MultinomialLogisticLoss Parameter Reduction Reshape SigmoidCrossEntropyLoss Silence Slice Split Tile",
    "expression": "AbsVal BNLL Clip ELU Eltwise Exp Log Power ReLU Sigmoid Swish TanH Threshold",
    "operation": "BatchNorm BatchReindex Convolution Deconvolution Dropout Embed Im2col InfogainLoss InnerProduct LRN LSTM "
    "MVN PReLU Pooling RNN SPP Scale Softmax SoftmaxWithLoss",
    "host": "Data DummyData HDF5Data HDF5Output ImageData MemoryData Python WindowData",
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names.split()}


@pytest.fixture
def bodies(monkeypatch, device):
    """A body of each operation for the device, which runs the host's and notes that it was used."""

    def body_of(name: str, host_body):
        def body(*args, **kwargs):
            device.used.add(name)
            found = host_body(*map(unwrap, args), **{key: unwrap(value) for key, value in kwargs.items()})
            return tuple(map(StrictArray, found)) if isinstance(found, tuple) else found

        return body

    for name, one in OPERATIONS.items():
        if not isinstance(one, Elementwise) and "any" not in one.bodies:
            monkeypatch.setitem(one.bodies, "strict", body_of(name, one.bodies["cpu"]))


# ---- operations ---------------------------------------------------------------------------------------------------


@pytest.fixture
def double(monkeypatch):
    """An operation of our own, forgotten after the test."""
    monkeypatch.setattr(operation_module, "OPERATIONS", {})

    @operation
    def double(x):
        x *= 2

    return double


def test_an_operation_has_no_body_for_another_device(device, double):
    with pytest.raises(DeviceError, match=r"^the operation double has no body for the device strict$"):
        double(StrictArray(np.ones(3)))


def test_the_array_picks_the_body_of_an_operation(device, double):
    calls: list = []
    array, values = StrictArray(np.ones(3)), np.ones(3)
    double.body("any")(lambda x: calls.append("any"))
    double(array)
    double.body("strict")(lambda x: calls.append(x))
    double(array)
    double(values)
    assert calls == ["any", array]
    np.testing.assert_array_equal(values, 2)


def test_bodies_of_an_operation_take_the_same_parameters(double):
    with pytest.raises(TypeError, match=r"the body of double for strict takes \['x', 'y'\], the host's takes \['x'\]"):
        double.body("strict")(lambda x, y: None)


@pytest.mark.parametrize("wrong", [np.ones(6)[::2], np.ones(4)])
def test_an_expression_takes_contiguous_arrays_of_one_size(wrong):
    with pytest.raises(ValueError, match="linear takes contiguous arrays of one size"):
        linear(np.ones(3), scale=1, shift=0, out=wrong)
    with pytest.raises(ValueError, match="linear takes contiguous arrays of one size"):
        linear(wrong, scale=1, shift=0, out=np.ones(3))


def test_an_expression_takes_the_numbers_that_it_names():
    with pytest.raises(TypeError, match=r"linear takes the numbers \('scale', 'shift'\), received \['scale', 'shfit'\]"):
        linear(np.ones(3), scale=1, shfit=0, out=np.ones(3))


# ---- every layer --------------------------------------------------------------------------------------------------

RUNNABLE = [case for case in CASES if not case.needs_database and case.bottoms(np.random.default_rng(0), 1)]


def run_case(case: Case, where) -> list[np.ndarray]:
    """Tops and gradients of a case on one device; equal on each call."""
    rng = np.random.default_rng(1)
    use(where)
    rig = Rig(parse_layer(f'type: "{case.type}" {case.text}', case.phase), case.bottoms(rng, 3), case.tops)
    for blob in rig.layer.blobs:
        blob.data[...] = rng.normal(size=blob.shape)
    tops = rig.forward()
    if case.gradients is None:
        return tops
    wanted = [i in case.gradients for i in range(len(rig.bottom))]
    gradients = rig.backward([rng.normal(size=top.shape) for top in tops], wanted)
    return [*tops, *gradients, *(blob.diff.copy() for blob in rig.layer.blobs)]


def touches_host(case: Case, device: StrictDevice) -> bool:
    """Whether the layer itself copies anything to the host, when all that it reads is on the device."""
    rng = np.random.default_rng(1)
    rig = Rig(parse_layer(f'type: "{case.type}" {case.text}', case.phase), case.bottoms(rng, 3), case.tops)
    rig.layer._rng = np.random.default_rng(3)
    before = device.downloads
    rig.layer.reshape(rig.bottom, rig.top)
    rig.layer.forward(rig.bottom, rig.top)
    return device.downloads > before


@pytest.mark.usefixtures("bodies")
@pytest.mark.parametrize("case", RUNNABLE, ids=lambda case: case.id)
def test_a_layer_gives_on_the_device_what_it_gives_on_the_host(case, device):
    results = run_case(case, device)
    for host, there in zip(run_case(case, HOST), results, strict=True):
        np.testing.assert_allclose(there, host, 1e-11, 1e-11)


@pytest.mark.usefixtures("bodies")
@pytest.mark.parametrize("name", sorted({case.type for case in RUNNABLE}))
def test_how_a_type_computes(name, device):
    kinds = set()
    for case in RUNNABLE:
        if case.type != name:
            continue
        device.used.clear()
        run_case(case, device)
        operations = {used for used in device.used if "." in used}
        kind = "operation" if operations else "expression" if device.used else "generic"
        kinds.add("host" if touches_host(case, device) else kind)
    order = ["host", "operation", "expression", "generic"]
    assert min(kinds, key=order.index) == KIND_OF[name]


def test_the_table_of_kinds_has_every_type():
    assert KIND_OF.keys() == registered_types().keys()


# ---- nets and solvers ---------------------------------------------------------------------------------------------

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "soft" type: "Reduction" bottom: "x" top: "y" reduction_param { axis: 1 operation: MEAN } }
layer { name: "steps" type: "ReLU" bottom: "y" top: "z" relu_param { negative_slope: 0.5 } }
layer { name: "slow" type: "InnerProduct" bottom: "z" top: "loss" loss_weight: 1
        inner_product_param { axis: 0 num_output: 1 bias_term: false } }
force_backward: true
"""


def net() -> Net:
    param = text_format.Parse(NET, NetParameter())
    param.state.phase = TRAIN
    return Net(param)


def test_a_net_names_the_layer_and_the_operation_that_cannot_run(device):
    made = net()
    with pytest.raises(DeviceError, match=r'layer "slow" \(InnerProduct\): the operation matmul has no body'):
        made.forward_layers()
    use(HOST)
    made.forward_layers()
    use(device)
    with pytest.raises(DeviceError, match=r'layer "slow" \(InnerProduct\): the operation matmul has no body'):
        made.backward_layers()


def test_a_net_stays_on_the_device_between_layers(device):
    made = net()
    made.blobs["x"].data[...] = [[1, 2, 3], [3, 2, 1]]
    made.forward_layers(0, 2)
    assert device.copies == (1, 0)  # the input went up
    np.testing.assert_allclose(made.blobs["y"].data, [2, 2], 1e-6)
    assert device.copies == (1, 1)


def test_new_weights_are_not_read_before_they_are_written(device, tmp_path):
    use(HOST)
    made = net()
    weights.save(made, tmp_path / "net.caffemodel")
    use(device)
    parameter = made.nodes[-1].layer.blobs[0]
    assert parameter.data_inout.shape == parameter.shape  # the newest values are on the device
    before = device.downloads
    weights.copy_from(made, tmp_path / "net.caffemodel")
    assert device.downloads == before


def test_an_input_array_is_not_downloaded_before_it_is_written(device):
    param = text_format.Parse(
        'layer { name: "data" type: "MemoryData" top: "x" top: "y" '
        "memory_data_param { batch_size: 2 channels: 1 height: 1 width: 3 } }",
        NetParameter(),
    )
    param.state.phase = TRAIN
    made = Net(param)
    made.nodes[0].layer.set_arrays(np.ones((4, 1, 1, 3), np.float32), np.arange(4, dtype=np.float32))
    for _ in range(3):
        made.forward_layers()
        assert made.blobs["x"].data_inout.shape == (2, 1, 1, 3)
        assert made.blobs["y"].data_inout.shape == (2, 1, 1, 1)
    assert device.downloads == 0
