"""A layer in place gives the numbers that it gives out of place, whatever the layers around it need for their gradients.

Every type goes below every layer that may work in place, and what each type says of the values that its backward reads is
tried out: values that it does not claim to need are made NaN before backward.
"""

from __future__ import annotations

import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import rng
from pycaffe_lite.errors import NetError
from pycaffe_lite.net import Net
from pycaffe_lite.proto.caffe_pb2 import TEST, TRAIN, NetParameter
from pycaffe_lite.proto.prototxt import parse

from .cases import CASES, Case

BELOW = [case for case in CASES if case.gradients is not None and case.tops and not case.needs_database]
IN_PLACE = {
    "AVE pooling": 'type: "Pooling" pooling_param { pool: AVE kernel_size: 1 }',
    "BatchNorm": 'type: "BatchNorm"',
    "Bias": 'type: "Bias" bias_param { num_axes: 0 filler { value: 2 } }',
    "Clip": 'type: "Clip" clip_param { min: -0.4 max: 0.6 }',
    "Tile": 'type: "Tile" tile_param { tiles: 1 }',
    "Dropout": 'type: "Dropout"',
    "ELU": 'type: "ELU"',
    "Exp": 'type: "Exp" exp_param { scale: 0.1 }',
    "leaky ReLU": 'type: "ReLU" relu_param { negative_slope: 0.3 }',
    "Log": 'type: "Log" log_param { scale: 0.1 shift: 3 }',
    "LRN": 'type: "LRN" lrn_param { local_size: 3 }',
    "MVN": 'type: "MVN"',
    "Power": 'type: "Power" power_param { shift: -0.5 }',
    "PReLU": 'type: "PReLU" prelu_param { channel_shared: true }',
    "ReLU": 'type: "ReLU"',
    "ReLU that turns signs": 'type: "ReLU" relu_param { negative_slope: -0.3 }',
    "Scale": 'type: "Scale" scale_param { num_axes: 0 bias_term: true filler { value: -3 } }',
    "Sigmoid": 'type: "Sigmoid"',
    "Softmax": 'type: "Softmax" softmax_param { axis: -1 }',
    "square": 'type: "Power" power_param { power: 2 }',
    "Swish": 'type: "Swish"',
    "TanH": 'type: "TanH"',
}
SHARING = {
    "Concat": 'type: "Concat" concat_param { axis: -1 }',
    "Flatten": 'type: "Flatten" flatten_param { axis: 0 }',
    "Reshape": 'type: "Reshape" reshape_param { shape { dim: -1 } }',
    "Slice": 'type: "Slice" slice_param { axis: -1 }',
    "Split": 'type: "Split"',
}
SQUARE = 'type: "Power" loss_weight: 1 power_param { power: 2 }'


def layer(name: str, text: str, bottom: str, top: str) -> str:
    tops, bottoms = (
        " ".join(f'{kind}: "{blob}"' for blob in names.split()) for kind, names in (("top", top), ("bottom", bottom))
    )
    return f'layer {{ name: "{name}" {text} {bottoms} {tops} }}\n'


class Run:
    """A net with random values. Those bottoms of `case` that have a gradient come from a Bias."""

    def __init__(self, case: Case, above: str):
        bottoms = case.bottoms(np.random.default_rng(2), 3)
        text = "".join(self._bottom(i, array.shape, i in case.gradients) for i, array in enumerate(bottoms))
        self.tops = [f"top{i}" for i in range(case.tops)]
        weights = "loss_weight: 0 " * case.tops
        names = " ".join(f"bottom{i}" for i in range(len(bottoms)))
        text += layer("below", f'type: "{case.type}" {case.text} {weights}', names, " ".join(self.tops)) + above
        text += "".join(layer(f"{top}_squared", SQUARE, top, f"{top}_squared") for top in self.tops[1:])
        param = NetParameter()
        source = parse(text, param)
        param.state.phase = case.phase
        rng.set_seed(3)
        self.net = Net(param, source, dtype=np.float64)
        for i, array in enumerate(bottoms):
            self.net.blobs[f"in{i}" if i in case.gradients else f"bottom{i}"].data[...] = array

    @staticmethod
    def _bottom(i: int, shape: tuple[int, ...], has_gradient: bool) -> str:
        dims = " ".join(f"dim: {dim}" for dim in shape)
        name = f"in{i}" if has_gradient else f"bottom{i}"
        text = layer(name, f'type: "Input" input_param {{ shape {{ {dims} }} }}', "", name)
        return text + (
            layer(f"bias{i}", 'type: "Bias" bias_param { num_axes: 0 }', name, f"bottom{i}") if has_gradient else ""
        )

    def results(self, *blobs: str) -> dict[str, np.ndarray]:
        """The losses, the values of `blobs`, and all gradients that reach a parameter."""
        net = self.net
        rng.set_seed(4)
        for _ in range(2):  # what the first pass leaves behind must not disturb the second
            net.clear_param_diffs()
            loss = net.forward_backward()
        found = {"loss": np.array(loss), **{name: net.blobs[name].data.copy() for name in blobs}}
        found |= {f"{param.node.name} {param.label}": param.blob.diff.copy() for param in net.all_params}
        return found | {
            name: net.blobs[name].diff.copy() for name in net.blobs if name.startswith("bottom") and "split" not in name
        }


def assert_equal(got: dict[str, np.ndarray], expected: dict[str, np.ndarray], label: str) -> None:
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, 1e-10, 1e-12, err_msg=f"{label}: {name}")


def fits(case: Case, above: str) -> Run | None:
    try:
        return Run(case, above)
    except NetError:
        return None  # the layer does not take such a shape


@pytest.mark.parametrize("case", BELOW, ids=lambda case: case.id)
def test_all_pairs(case):
    tried = 0
    for name, text in IN_PLACE.items():
        after = layer("squared", SQUARE, "out", "squared")
        if outside := fits(case, layer("above", text, "top0", "out") + after):
            inside = Run(case, layer("above", text, "top0", "top0") + after.replace('"out"', '"top0"'))
            expected = outside.results("out")
            expected["top0"] = expected.pop("out")
            assert_equal(inside.results("top0"), expected, name)
            tried += 1
    assert tried >= 12


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("case", {case.type: case for case in BELOW}.values(), ids=lambda case: case.type)
def test_layers_that_share_memory(case, sharing):
    """One reader of the blob before the layer in place, one after it."""
    for name in ("Dropout", "Power", "Sigmoid"):
        first, last = (
            layer("first", SQUARE, "top0", "first"),
            layer("last", 'type: "Exp" exp_param { scale: 0.1 }', "top0", "last"),
        )
        shares = layer("sharing", SHARING[sharing], "top0", "shared")
        after = layer("squared", SQUARE, "out", "squared") + layer("sum", SQUARE, "last", "sum")
        outside = fits(case, first + shares + layer("above", IN_PLACE[name], "shared", "out") + last + after)
        if outside is None:
            assert sharing not in ("Reshape", "Split")  # which also take a scalar
            return
        in_place = layer("above", IN_PLACE[name], "shared", "shared")
        inside = Run(case, first + shares + in_place + last + after.replace('"out"', '"shared"'))
        expected = outside.results("out", "last")
        expected["shared"] = expected.pop("out")
        assert_equal(inside.results("shared", "last"), expected, name)


@pytest.mark.parametrize("case", BELOW, ids=lambda case: case.id)
def test_backward_reads_what_the_type_says(case):
    def gradients(spoil: bool) -> dict[str, np.ndarray]:
        run = Run(case, layer("squared", SQUARE, "top0", "squared"))
        run.net.forward_layers()
        node = run.net.find("below")
        at = run.net.layer_index("below")
        run.net.backward_layers(end=at + 1)
        if spoil:
            for blob in node.bottom if not node.layer.reads_bottoms else []:
                blob.data[...] = np.nan
            for blob in node.top if not node.layer.reads_tops else []:
                blob.data[...] = np.nan
            if node.layer.reads_tops and node.layer.reads_only_signs:
                node.top[0].data[...] *= 7
        run.net.backward_layers(start=at)
        found = {f"{param.node.name} {param.label}": param.blob.diff.copy() for param in run.net.all_params}
        return found | {f"bottom{i}": node.bottom[i].diff.copy() for i in case.gradients}

    assert_equal(gradients(spoil=True), gradients(spoil=False), "without what it does not read")


# ---- nets of one's own --------------------------------------------------------------------------------------------

X = np.random.default_rng(1).normal(size=(2, 3, 4, 4))
OTHERS = [np.random.default_rng(2).uniform(0.5, 2, X.shape), np.random.default_rng(3).normal(size=X.shape)]
SEVERAL_BOTTOMS = {
    "Bias with two bottoms": ('type: "Bias" bias_param { axis: 0 }', 1),
    "sum": ('type: "Eltwise" eltwise_param { coeff: 2 coeff: -1 coeff: 3 }', 2),
    "product": ('type: "Eltwise" eltwise_param { operation: PROD }', 2),
    "product by division": ('type: "Eltwise" eltwise_param { operation: PROD stable_prod_grad: false }', 2),
    "maximum": ('type: "Eltwise" eltwise_param { operation: MAX }', 2),
    "Scale with two bottoms": ('type: "Scale" scale_param { axis: 0 bias_term: true }', 1),
}
INPUTS = "".join(f'input: "x{i}" input_shape {{ dim: 2 dim: 3 dim: 4 dim: 4 }} ' for i in range(3))


def test_every_type_that_may_overwrite_is_tried():
    tried = {text.split('"')[1] for text in [*IN_PLACE.values(), *(text for text, _ in SEVERAL_BOTTOMS.values())]}
    able = {name for name, cls in caffe.layer.registered_types().items() if cls.can_overwrite}
    assert able - tried == {"AbsVal", "BNLL", "Python", "Threshold"}  # refused, Caffe's gradient, yours, no gradient


@pytest.mark.parametrize("name", [*IN_PLACE, *SEVERAL_BOTTOMS])
def test_in_place_on_an_input(name):
    """A program writes the input and reads its gradient, in the blob that the layer works on."""
    text, others = SEVERAL_BOTTOMS.get(name) or (IN_PLACE[name], 0)
    bottoms = " ".join(f"x{i}" for i in range(others + 1))
    results = []
    for top in ("out", "x0"):
        caffe.set_random_seed(7)
        net = caffe.Net(f"force_backward: true {INPUTS}{layer('l', text, bottoms, top)}", caffe.TRAIN)
        for _ in range(2):
            for i, array in enumerate([X, *OTHERS]):
                net.blobs[f"x{i}"].data[...] = array
            net.forward()
            out = net.blobs[top].data.copy()
            net.blobs[top].diff[...] = OTHERS[1]
            net.backward()
        results.append([out, *(net.blobs[f"x{i}"].diff.copy() for i in range(others + 1))])
    for outside, inside in zip(*results, strict=True):
        np.testing.assert_allclose(inside, outside, 1e-6, 1e-7)


def make(text: str, phase: int = TRAIN) -> caffe.Net:
    """A net with an input x, 2 x 3 x 4 x 4, and all gradients."""
    return caffe.Net(f'force_backward: true input: "x" input_shape {{ dim: 2 dim: 3 dim: 4 dim: 4 }} {text}', phase)


def separate_layers(net: caffe.Net) -> list[str]:
    """The layers in place that have memory of their own."""
    return [
        node.name
        for node in net.nodes
        for name, blob in zip(node.top_names, node.top)
        if name in node.bottom_names and blob is not node.bottom[node.bottom_names.index(name)]
    ]


CONVOLUTION = 'type: "Convolution" convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "xavier" } }'
USUAL = (
    layer("conv", CONVOLUTION, "x", "c")
    + layer("bn", 'type: "BatchNorm"', "c", "c")
    + layer("scale", 'type: "Scale" scale_param { bias_term: true }', "c", "c")
    + layer("relu", 'type: "ReLU"', "c", "c")
    + layer("drop", 'type: "Dropout"', "c", "c")
    + layer("bias", 'type: "Bias"', "c", "c")
)


def test_memory_only_where_it_is_needed():
    assert separate_layers(make(USUAL)) == ["bn", "scale", "bias"]  # Bias changes the signs that ReLU needs
    assert separate_layers(
        make(USUAL.replace('type: "BatchNorm"', 'type: "BatchNorm" batch_norm_param { use_global_stats: true }'))
    ) == ["scale", "bias"]
    assert (
        separate_layers(
            caffe.Net(
                USUAL.replace('bottom: "x"', 'bottom: "y"') + 'input: "y" input_shape { dim: 2 dim: 3 dim: 4 dim: 4 }',
                caffe.TEST,
            )
        )
        == []
    )


def test_bnll_in_place_is_caffes_and_the_layer_below_has_its_values():
    net = make(layer("tanh", 'type: "TanH"', "x", "y") + layer("bnll", 'type: "BNLL"', "y", "y"))
    net.blobs["x"].data[...] = X
    net.forward()
    y = np.log1p(np.exp(np.tanh(X)))
    np.testing.assert_allclose(net.blobs["y"].data, y, 1e-6)
    net.blobs["y"].diff[...] = 1
    net.backward()
    np.testing.assert_allclose(net.blobs["x"].diff, (1 - np.tanh(X) ** 2) / (1 + np.exp(-y)), 1e-5)


def test_a_python_layer_in_place_may_change_some_values_only(tmp_path, monkeypatch):
    (tmp_path / "partial_layer.py").write_text(
        "import caffe\n"
        "class Partial(caffe.Layer):\n"
        "    def setup(self, bottom, top): pass\n"
        "    def reshape(self, bottom, top): pass\n"
        "    def forward(self, bottom, top): top[0].data[0] = 5\n"
        "    def backward(self, top, propagate_down, bottom): bottom[0].diff[0] = 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    partial = layer("partial", 'type: "Python" python_param { module: "partial_layer" layer: "Partial" }', "y", "y")
    net = make(layer("tanh", 'type: "TanH"', "x", "y") + partial)
    net.blobs["x"].data[...] = X
    net.forward()
    np.testing.assert_allclose(net.blobs["y"].data, [np.full_like(X[0], 5), np.tanh(X[1])], 1e-6)
    net.blobs["y"].diff[...] = 1
    net.backward()
    np.testing.assert_allclose(net.blobs["x"].diff, [0 * X[0], 1 - np.tanh(X[1]) ** 2], 1e-5, 1e-7)


def test_a_run_of_some_layers_sees_one_blob():
    """Between two runs a program may read and write the blob, as if the layer had no memory of its own."""
    net = make(layer("tanh", 'type: "TanH"', "x", "y") + layer("log", 'type: "Log" log_param { shift: 3 }', "y", "y"))
    assert separate_layers(net) == ["log"]
    net.blobs["x"].data[...] = X
    net.forward(end="tanh")
    np.testing.assert_allclose(net.blobs["y"].data, np.tanh(X), 1e-6)
    net.blobs["y"].data[...] *= 2
    net.forward(start="log")
    np.testing.assert_allclose(net.blobs["y"].data, np.log(2 * np.tanh(X) + 3), 1e-5)
    net.forward(start="log")  # again, on what is there
    np.testing.assert_allclose(net.blobs["y"].data, np.log(np.log(2 * np.tanh(X) + 3) + 3), 1e-5)
    net.forward()
    net.blobs["y"].diff[...] = 2
    net.backward(start="tanh")
    np.testing.assert_allclose(net.blobs["x"].diff, 2 * (1 - np.tanh(X) ** 2), 1e-5, 1e-6)


def test_batches_of_other_sizes():
    net = make(layer("tanh", 'type: "TanH"', "x", "y") + layer("log", 'type: "Log" log_param { shift: 3 }', "y", "y"))
    for count in (2, 5, 1):
        x = np.random.default_rng(count).normal(size=(count, 3, 4, 4))
        net.blobs["x"].reshape(*x.shape)
        net.blobs["x"].data[...] = x
        net.forward()
        net.blobs["y"].diff[...] = 1
        net.backward()
        t = np.tanh(x)
        np.testing.assert_allclose(net.blobs["y"].data, np.log(t + 3), 1e-6)
        np.testing.assert_allclose(net.blobs["x"].diff, (1 - t**2) / (t + 3), 1e-4, 1e-6)


def test_a_loss_weight_outlives_a_larger_batch_and_a_layer_in_place():
    loss = layer("p", 'type: "Power" power_param { scale: 2 } loss_weight: 3', "x", "y")
    for text, factor in ((loss, 6), (layer("l", 'type: "Log" log_param { shift: 9 } loss_weight: 3', "x", "x"), None)):
        net = make(text)
        for count in (2, 3, 1, 4):
            x = np.random.default_rng(count).normal(size=(count, 3, 4, 4))
            net.blobs["x"].reshape(*x.shape)
            net.blobs["x"].data[...] = x
            value = net.forward_layers()
            np.testing.assert_allclose(value, 6 * x.sum() if factor else 3 * np.log(x + 9).sum(), 1e-5)
            net.backward()
            np.testing.assert_allclose(net.blobs["x"].diff, np.full_like(x, factor) if factor else 3 / (x + 9), 1e-5)


# ---- what a fuzzer found: chains of layers in place, outputs, gradients that end ---------------------------------------

CHAINS = [
    "Scale Sigmoid Sigmoid TanH",
    "PReLU TanH LRN",
    "Exp square",
    "Dropout TanH Scale ReLU",
    "Tile Sigmoid AVE_pooling",
    "TanH BatchNorm ReLU",
]
SIZES = "num: 2 channels: 3 height: 4 width: 4"
SOURCES = {
    "Input": 'type: "Input" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } }',
    "DummyData": f'type: "DummyData" dummy_data_param {{ {SIZES} data_filler {{ type: "gaussian" }} }}',
    "Parameter": 'type: "Parameter" parameter_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } }',
}


@pytest.mark.parametrize("source", [*SOURCES, "TanH"])
@pytest.mark.parametrize("chain", CHAINS)
def test_several_layers_in_place_on_one_blob(chain, source):
    results = []
    for in_place in (False, True):
        text, blob = layer("x", SOURCES.get(source, SOURCES["Input"]), "", "x"), "x"
        if source not in SOURCES:
            text, blob = text + layer("below", f'type: "{source}"', "x", "y"), "y"
        for i, name in enumerate(chain.split()):
            top = blob if in_place else f"top{i}"
            text += layer(f"l{i}", IN_PLACE[name.replace("_", " ")], blob, top)
            blob = top
        caffe.set_random_seed(5)
        net = caffe.Net("force_backward: true " + text + layer("loss", SQUARE, blob, "loss"), caffe.TRAIN)
        (net.params["x"][0] if source == "Parameter" else net.blobs["x"]).data[...] = X
        for _ in range(2):
            if source in ("Input", "TanH"):
                net.blobs["x"].data[...] = X
            net.clear_param_diffs()
            net.forward()
            net.backward()
        found = [net.blobs[blob].data.copy(), net.blobs["loss"].data.copy()]
        if source != "Parameter":  # whose own gradient is compared
            found.append(net.blobs["x"].diff.copy())
        results.append(found + [param.blob.diff.copy() for param in net.all_params])
    for i, (outside, inside) in enumerate(zip(*results, strict=True)):
        np.testing.assert_allclose(inside, outside, 1e-5, 1e-6, err_msg=str(i))


@pytest.mark.parametrize("type_", ["AVE pooling", "Tile", "LRN", "Log"])
def test_a_loss_weight_of_a_layer_in_place(type_):
    weighted = IN_PLACE[type_] + " loss_weight: 2"
    outside, inside = (make(layer("p", IN_PLACE["Power"], "x", "y") + layer("l", weighted, "y", top)) for top in ("z", "y"))
    for _ in range(3):
        losses = []
        for net in (outside, inside):
            net.blobs["x"].data[...] = X
            losses.append(net.forward_layers())
            net.backward()
        np.testing.assert_allclose(losses[1], losses[0], 1e-6)
        np.testing.assert_allclose(inside.blobs["x"].diff, outside.blobs["x"].diff, 1e-5)


@pytest.mark.parametrize("view", ["Concat", "Slice"])
def test_a_view_in_place_changes_nothing_and_hides_nothing(view):
    results = []
    for top in ("z", "y"):
        below = layer("tanh", IN_PLACE["TanH"], "x", "y") + layer("view", SHARING[view], "y", "y")
        net = make(below + layer("power", IN_PLACE["Power"], "y", top) + layer("loss", SQUARE, top, "loss"))
        net.blobs["x"].data[...] = X
        net.forward()
        net.backward()
        results.append(net.blobs["x"].diff.copy())
    np.testing.assert_allclose(results[1], results[0], 1e-5)


def test_a_run_of_some_layers_among_several_in_place():
    text = layer("tanh", IN_PLACE["TanH"], "x", "y") + layer("log", 'type: "Log" log_param { shift: 3 }', "y", "y")
    net = make(text + layer("square", IN_PLACE["square"], "y", "y"))
    net.blobs["x"].data[...] = X
    steps = [np.tanh(X), np.log(np.tanh(X) + 3), np.log(np.tanh(X) + 3) ** 2]
    for name, expected in zip(("tanh", "log", "square"), steps):
        net.forward(end=name)
        np.testing.assert_allclose(net.blobs["y"].data, expected, 1e-5, 1e-6)
    net.blobs["y"].data[...] = X / 2
    net.forward(start="log")
    np.testing.assert_allclose(net.blobs["y"].data, np.log(X / 2 + 3) ** 2, 1e-5)
    seen = []
    net.after_forward(lambda i: seen.append(net.blobs["y"].data.copy()))
    net.forward()
    for values, expected in zip(seen[1:], steps, strict=True):  # the first is the input
        np.testing.assert_allclose(values, expected, 1e-5, 1e-6)


def test_an_output_is_not_overwritten():
    text = layer("double", 'type: "Power" power_param { scale: 2 }', "x", "y") + layer("split", 'type: "Split"', "y", "a b")
    net = make(text + layer("triple", 'type: "Power" power_param { scale: 3 }', "b", "b"), TEST)
    out = net.forward(x=X)
    np.testing.assert_allclose(out["a"], 2 * X, 1e-6)
    np.testing.assert_allclose(out["b"], 6 * X, 1e-6)


def test_a_gradient_that_ends_at_a_layer_in_place():
    gradients = []
    for top in ("w", "v"):
        text = layer("bias", 'type: "Bias"', "x", "a") + layer("split", 'type: "Split"', "a", "u v")
        text += layer("power", 'type: "Power" propagate_down: false power_param { scale: 3 }', "v", top)
        net = make(text + layer("one", SQUARE, top, "one") + layer("two", SQUARE, "u", "two"))
        net.blobs["x"].data[...] = X
        net.forward()
        net.backward()
        gradients.append(net.params["bias"][0].diff.copy())
    np.testing.assert_allclose(gradients[1], gradients[0], 1e-6)
