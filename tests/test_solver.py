"""The solver: what one step does, in which order, with which numbers, and what snapshots keep of it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import cli, pycaffe
from pycaffe_lite.errors import CaffeError, ModelFileError, NetError, SolverError
from pycaffe_lite.proto import model_file
from pycaffe_lite.proto.caffe_pb2 import SolverParameter
from pycaffe_lite.proto.prototxt import parse
from pycaffe_lite.solver import Action, policies
from pycaffe_lite.solver.solver import _REGISTRY

KIT = os.environ.get("PYCAFFE_LITE_CONFORMANCE", "")
needs_kit = pytest.mark.skipif(not KIT, reason="PYCAFFE_LITE_CONFORMANCE is not set")

ROWS = 8  # in data.h5


def data(batch: int = 4) -> str:
    return (
        'layer { name: "data" type: "HDF5Data" top: "x" top: "y" '
        f'hdf5_data_param {{ source: "data.txt" batch_size: {batch} }} }}\n'
    )


def product(name: str, bottom: str, outputs: int, more: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {more} '
        f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "gaussian" std: 0.5 }} }} }}\n'
    )


def loss(bottom: str, name: str = "loss", more: str = "") -> str:
    return f'layer {{ name: "{name}" type: "EuclideanLoss" bottom: "{bottom}" bottom: "y" top: "{name}" {more} }}\n'


NET = 'name: "small"\n' + data() + product("ip", "x", 2) + loss("ip")
DEEP = 'name: "deep"\n' + data() + product("ip", "x", 3) + product("ip2", "ip", 2) + loss("ip2")
FIXED = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 4 solver_mode: CPU random_seed: 3 snapshot_prefix: "s" '
USE_NET = 'net: "net.prototxt" '


@pytest.fixture(autouse=True)
def arrays(tmp_path, monkeypatch):
    """A folder of its own with a small data set, whose arrays it returns: x 8 x 3 and y 8 x 2."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=(ROWS, columns)).astype(np.float32) for columns in (3, 2))
    with h5py.File("data.h5", "w") as file:
        file["x"], file["y"] = x, y
    Path("data.txt").write_text("data.h5\n")
    return x, y


def make(text: str = "", net: str = NET, head: str = FIXED + USE_NET):
    """The solver of `head` and `text`, on `net`."""
    Path("net.prototxt").write_text(net)
    Path("solver.prototxt").write_text(head + text)
    return caffe.get_solver("solver.prototxt")


def params(solver) -> dict[str, np.ndarray]:
    """Copies of all parameters."""
    net = solver.net
    return {f"{name}/{i}": blob.data.copy() for name, blobs in net.params.items() for i, blob in enumerate(blobs)}


def assert_equal_params(one: dict[str, np.ndarray], other: dict[str, np.ndarray], rtol: float = 0) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=rtol, atol=rtol, err_msg=name)


def messages(capsys) -> list[str]:
    """What was logged since the last call, without the stamps."""
    return [line.split("] ", 1)[1] for line in capsys.readouterr().err.splitlines() if "] " in line]


def gradient(w: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the loss of NET, in double precision."""
    error = (x @ w.T + b - y).astype(np.float64) / len(x)
    return error.T @ x, error.sum(0)


# ---- learning rates -----------------------------------------------------------------------------------------------

POLICIES = {
    'lr_policy: "fixed"': lambda i: 0.2,
    'lr_policy: "step" gamma: 0.5 stepsize: 3': lambda i: 0.2 * 0.5 ** [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3][i],
    'lr_policy: "exp" gamma: 0.9': lambda i: 0.2 * math.exp(i * math.log(0.9)),
    'lr_policy: "inv" gamma: 0.3 power: 0.75': lambda i: 0.2 / math.pow(1 + 0.3 * i, 0.75),
    'lr_policy: "multistep" gamma: 0.1 stepvalue: 2 stepvalue: 5': lambda i: [0.2, 0.02, 0.002][(i >= 2) + (i >= 5)],
    'lr_policy: "poly" power: 2 max_iter: 12': lambda i: 0.2 * ((12 - i) / 12) ** 2,
    'lr_policy: "sigmoid" gamma: -0.7 stepsize: 5': lambda i: 0.2 / (1 + math.exp(0.7 * (i - 5))),
}


def param_of(text: str) -> SolverParameter:
    param = SolverParameter()
    parse(text, param)
    return param


@pytest.mark.parametrize("text", POLICIES)
def test_learning_rate_of_each_policy(text):
    param, step = param_of("base_lr: 0.2 " + text), 0
    for i in range(12):
        rate, step = policies.learning_rate(param, i, step)
        assert rate == pytest.approx(POLICIES[text](i), rel=1e-6), i


def test_the_rate_of_poly_is_0_beyond_max_iter():
    assert policies.learning_rate(param_of('base_lr: 1 lr_policy: "poly" power: 0.5 max_iter: 5'), 9, 0)[0] == 0


def test_reading_the_rate_changes_nothing(capsys):
    solver = make(head='base_lr: 1 lr_policy: "multistep" gamma: 0.1 stepvalue: 0 stepvalue: 0 ' + USE_NET)
    assert [solver.lr for _ in range(4)] == pytest.approx([0.1] * 4)
    assert solver.current_step == 0
    assert not [line for line in messages(capsys) if "MultiStep" in line]
    solver.step(1)
    assert solver.current_step == 1


@pytest.mark.parametrize("field", ["base_lr", "gamma", "power", "momentum", "weight_decay"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_numbers_that_are_none_are_refused_with_their_field(field, value):
    head = FIXED.replace("base_lr: 0.1 ", "") if field == "base_lr" else FIXED
    with pytest.raises(SolverError, match=f"{field} is a number, received {value}"):
        make(f"{field}: {value} ", head=head + USE_NET)


def test_multistep_counts_its_steps_and_logs_them(capsys):
    solver = make(head='base_lr: 1e-3 lr_policy: "multistep" gamma: 0.1 stepvalue: 1 stepvalue: 3 ' + USE_NET)
    rates = []
    for _ in range(5):
        solver.step(1)
        rates.append(solver.last_rate)
    assert rates == pytest.approx([1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    assert solver.current_step == 2
    steps = [line for line in messages(capsys) if "MultiStep" in line]
    assert steps == ["MultiStep Status: Iteration 1, step = 1", "MultiStep Status: Iteration 3, step = 2"]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "lr_policy is not set"),
        ('lr_policy: "stepp"', r'unknown lr_policy "stepp" \(did you mean "step"\?\)'),
        ('lr_policy: "step" gamma: 0.1', "stepsize > 0, received 0"),
        ('lr_policy: "exp" gamma: -1', "gamma >= 0, received -1"),
        ('lr_policy: "poly" power: 1', "max_iter > 0"),
    ],
)
def test_policies_say_what_they_lack(text, cause):
    with pytest.raises(SolverError, match=cause):
        make(head=f"base_lr: 1 {text} " + USE_NET)


@pytest.mark.parametrize(
    "text",
    ['lr_policy: "exp" gamma: 1e38', 'lr_policy: "poly" power: -1 max_iter: 20', 'lr_policy: "inv" gamma: 9 power: -1e9'],
)
def test_a_rate_beyond_all_numbers_is_an_error_that_says_so(text):
    with pytest.raises(SolverError, match="the learning rate of iteration 20 is infinite"):
        policies.learning_rate(param_of("base_lr: 0.2 " + text), 20, 0)


# ---- what a step does, and when -----------------------------------------------------------------------------------


def test_order_of_test_display_update_and_snapshot(capsys):
    make("display: 2 test_iter: 2 test_interval: 2 snapshot: 2 ").solve()
    events = []
    for line in messages(capsys):
        if match := re.match(r"Iteration (\d+), (Testing|lr|loss)", line):
            events.append((match[2], int(match[1])))
        elif match := re.match(r"Iteration (\d+) \(", line):
            events.append(("display", int(match[1])))
        elif match := re.match(r"Snapshotting.*_iter_(\d+)\.(\w+)$", line):
            events.append((match[2], int(match[1])))
    assert events == [
        *[("Testing", 0), ("display", 0), ("lr", 0), ("caffemodel", 2), ("solverstate", 2)],
        *[("Testing", 2), ("display", 2), ("lr", 2), ("caffemodel", 4), ("solverstate", 4)],
        *[("loss", 4), ("Testing", 4)],
    ]


LOG = [
    r"Solving small",
    r"Learning Rate Policy: fixed",
    r"Iteration 0, Testing net \(#0\)",
    r"    Test net output #0: loss = TEST \(\* 1 = TEST loss\)",
    r"Iteration 0 \(\S+ iter/s, \S+s/3 iters\), loss = TRAIN",
    r"    Train net output #0: loss = TRAIN \(\* 1 = TRAIN loss\)",
    r"Iteration 0, lr = 0\.1",
    r"Snapshotting to binary proto file s_iter_2\.caffemodel",
    r"Snapshotting solver state to binary proto file s_iter_2\.solverstate",
    r"Optimization Done\..*",
]


def test_the_log_of_a_run(capsys):
    solver = make("display: 3 test_iter: 1 test_interval: 5 ", head=FIXED.replace("max_iter: 4", "max_iter: 2") + USE_NET)
    loss = f"{solver.net.forward()['loss']:g}"
    solver = make(head=Path("solver.prototxt").read_text())
    capsys.readouterr()
    solver.solve()
    lines = [line for line in messages(capsys) if not line.startswith("Ignoring")]
    assert len(lines) == len(LOG)
    for line, pattern in zip(lines, LOG, strict=True):  # the first test is of the same weights on the same data
        assert re.fullmatch(pattern.replace("TEST", loss).replace("TRAIN", loss), line), line


@needs_kit
def test_the_log_and_the_files_of_caffes_command_line(monkeypatch, capsys):
    shutil.copytree(Path(KIT, "solvers"), "kit", copy_function=shutil.copyfile)
    monkeypatch.chdir("kit")
    case = json.loads(Path("manifest.json").read_text())["cli"]
    Path("cli").mkdir(exist_ok=True)
    assert cli.main(["train", f"--solver={case['solver']}", f"--weights={case['weights']}"]) == 0
    assert sorted(map(str, Path("cli").iterdir())) == case["files_written"]
    log = list(filter(None, map(kit_entry, messages(capsys))))
    assert [entry[:2] for entry in log] == [entry[:2] for entry in case["log"]]
    np.testing.assert_allclose([entry[2] for entry in log], [entry[2] for entry in case["log"]], rtol=2e-4)


def kit_entry(line: str) -> list | None:
    """A line of the log as the kit's manifest has it."""
    for kind, pattern in {
        "testing": r"Iteration (\d+), Testing net \(#(\d+)\)",
        "test_output": r"    Test net output #(\d+): \S+ = (\S+)",
        "train_loss": r"Iteration (\d+) \(.*\), loss = (\S+)",
        "train_output": r"    Train net output #(\d+): \S+ = (\S+)",
        "lr": r"Iteration (\d+), lr = (\S+)",
    }.items():
        if match := re.match(pattern, line):
            return [kind, int(match[1]), float(match[2])]
    return None


def test_no_test_at_0_without_test_initialization(capsys):
    make("test_iter: 1 test_interval: 2 test_initialization: false ").step(3)
    assert [line for line in messages(capsys) if "Testing" in line] == ["Iteration 2, Testing net (#0)"]


def test_a_test_sees_the_weights_of_all_updates_before_it():
    solver = make("test_iter: 2 test_interval: 1 ", NET.replace("batch_size: 4", f"batch_size: {ROWS}"))
    seen = []
    solver.test_watchers.append(lambda solver, index, scores: seen.extend(scores))
    expected = []
    for _ in range(3):
        expected.append(solver.net.forward_layers())  # the data set is one batch
        solver.step(1)
    assert seen == pytest.approx(expected)


def test_each_test_net_has_its_source_its_state_and_its_number_of_batches(capsys):
    staged = NET + layer_in_stage("a") + layer_in_stage("b")
    Path("other.prototxt").write_text(staged.replace("small", "other"))
    text = (
        'test_net: "other.prototxt" test_net_param { name: "inline" } test_interval: 1 '
        'test_iter: 0 test_iter: 2 test_iter: 3 test_state { } test_state { stage: "a" } test_state { stage: "b" level: 1 } '
    )
    solver = make(text, staged)
    assert [net.name for net in solver.test_nets] == ["inline", "other", "small"]
    assert [set(net.layer_dict) & {"only_a", "only_b"} for net in solver.test_nets] == [set(), {"only_a"}, {"only_b"}]
    counts = [count_forwards(net) for net in solver.test_nets]
    solver.step(1)
    assert [len(count) for count in counts] == [0, 2, 3]
    assert [line for line in messages(capsys) if "Testing" in line] == [f"Iteration 0, Testing net (#{i})" for i in range(3)]


def layer_in_stage(name: str) -> str:
    return (
        f'layer {{ name: "only_{name}" type: "Silence" bottom: "{"x" if name == "a" else "y"}" '
        f'include {{ stage: "{name}" }} }}\n'
    )


def count_forwards(net) -> list[int]:
    calls: list[int] = []
    net.before_forward(lambda layer: calls.append(layer) if layer == 0 else None)
    return calls


def test_train_state_filters_the_train_net():
    solver = make('train_state { stage: "a" } test_iter: 1 test_interval: 1 ', NET + layer_in_stage("a"))
    assert "only_a" in solver.net.layer_dict
    assert "only_a" not in solver.test_nets[0].layer_dict


def test_a_test_without_batches_or_outputs_logs_no_number(capsys):
    make("test_iter: 0 test_interval: 1 test_compute_loss: true ").step(1)
    silent = NET + 'layer { name: "none" type: "Silence" bottom: "loss" }\n'
    solver = make("test_iter: 1 test_interval: 1 test_compute_loss: true display: 1 ", silent)
    solver.step(1)
    lines = messages(capsys)
    assert not [line for line in lines if "net output" in line]
    assert len([line for line in lines if line.startswith("Test loss: ")]) == 1


def test_callbacks_run_around_the_passes_of_each_step():
    solver = make("iter_size: 2 ")
    events: list[str] = []
    solver.net.before_forward(lambda layer: events.append("pass") if layer == 0 else None)
    solver.add_callback(lambda: events.append("start"), lambda: events.append(f"ready {solver.iter}"))
    before = params(solver)
    solver.add_callback(lambda: None, lambda: assert_equal_params(before, params(solver)) if solver.iter == 0 else None)
    solver.step(2)
    assert events == ["start", "pass", "pass", "ready 0", "start", "pass", "pass", "ready 1"]


def test_the_loss_that_is_shown_is_the_mean_of_a_window():
    solver = make("average_loss: 3 ")
    losses, shown = [], []
    solver.watchers.append(lambda one: (losses.append(float(one.net.blobs["loss"].data)), shown.append(one.smoothed_loss)))
    solver.step(6)
    assert shown == pytest.approx([np.mean(losses[max(0, i - 2) : i + 1]) for i in range(6)])
    solver.step(1)  # starts a window of its own
    assert solver.smoothed_loss == pytest.approx(losses[6])


def test_debug_info_logs_blobs_and_updates_where_something_is_displayed(capsys):
    solver = make("debug_info: true display: 2 test_iter: 1 test_interval: 2 ")
    capsys.readouterr()
    solver.step(2)
    lines = messages(capsys)
    shown = next(i for i, line in enumerate(lines) if re.match(r"Iteration 0 \(", line))
    number = r"[\d.e+-]+"
    norms = rf"\({number}, {number}\)"
    patterns = [  # in this order, though other lines may stand between
        rf"    \[Forward\] Layer ip, top blob ip data: {number}",
        rf"    \[Forward\] Layer ip, param blob 0 data: {number}",
        rf"    \[Backward\] Layer loss, bottom blob ip diff: {number}",
        rf"    \[Backward\] Layer ip, param blob 1 diff: {number}",
        rf"    \[Backward\] All net params \(data, diff\): L1 norm = {norms}; L2 norm = {norms}",
        rf"    \[Update\] Layer ip, param 0 data: {number}; diff: {number}",
    ]
    rest = iter(lines)
    for pattern in patterns:
        assert any(re.fullmatch(pattern, line) for line in rest), pattern
    assert any("[Forward]" in line for line in lines[: lines.index("    Test net output #0: " + outputs(lines))])
    assert sum("[Update] Layer ip, param 0" in line for line in lines) == 1  # of two iterations
    assert shown < max(i for i, line in enumerate(lines) if "[Update]" in line)


def outputs(lines: list[str]) -> str:
    return next(line for line in lines if "Test net output" in line).split(": ", 1)[1]


# ---- updates ------------------------------------------------------------------------------------------------------


def reference(arrays, start: dict[str, np.ndarray], steps: int, momentum: float = 0, decay=lambda w: 0.0, rate: float = 0.1):
    """SGD on NET with batches of 4, in double precision: a few lines that are obviously right."""
    x, y = arrays
    values = [start["ip/0"].astype(np.float64), start["ip/1"].astype(np.float64)]
    velocity = [np.zeros_like(value) for value in values]
    for i in range(steps):
        batch = slice(4 * i % ROWS, 4 * i % ROWS + 4)
        for k, g in enumerate(gradient(*values, x[batch], y[batch])):
            velocity[k] = momentum * velocity[k] + rate * (g + decay(values[k]))
        values = [value - v for value, v in zip(values, velocity)]
    return {"ip/0": values[0], "ip/1": values[1]}


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_sgd_with_momentum(arrays, momentum):
    solver = make(f"momentum: {momentum} ")
    expected = reference(arrays, params(solver), 10, momentum)
    solver.step(10)
    assert_equal_params(params(solver), expected, 1e-5)


@pytest.mark.parametrize(("kind", "decay"), [("L2", lambda w: 0.3 * w), ("L1", lambda w: 0.3 * np.sign(w))])
def test_weight_decay(arrays, kind, decay):
    solver = make(f'momentum: 0.5 weight_decay: 0.3 regularization_type: "{kind}" ')
    expected = reference(arrays, params(solver), 6, 0.5, decay)
    solver.step(6)
    assert_equal_params(params(solver), expected, 1e-5)


def test_lr_mult_and_decay_mult_belong_to_one_parameter(arrays):
    net = NET.replace('top: "ip"', 'top: "ip" param { lr_mult: 0.5 decay_mult: 2 } param { lr_mult: 3 decay_mult: 0 }')
    solver = make("weight_decay: 0.3 ", net)
    w, b = params(solver).values()
    b[:] = solver.net.params["ip"][1].data[...] = 1
    gw, gb = gradient(w, b, arrays[0][:4], arrays[1][:4])
    solver.step(1)
    expected = {"ip/0": w - 0.1 * 0.5 * (gw + 2 * 0.3 * w), "ip/1": b - 0.1 * 3 * gb}
    assert_equal_params(params(solver), expected, 1e-5)


@pytest.mark.parametrize("more", ["", "clip_gradients: 0.1 "])
def test_iter_size_equals_a_larger_batch(more):
    """A batch is cut in two. The clipped gradient is the sum of both, so that there the limit is twice as high."""
    solver = make("momentum: 0.9 weight_decay: 0.1 iter_size: 2 " + more.replace("0.1", "0.2"))
    whole = make("momentum: 0.9 weight_decay: 0.1 " + more, NET.replace("batch_size: 4", "batch_size: 8"))
    losses: list[float] = []
    solver.watchers.append(lambda one: losses.append(one.smoothed_loss))
    solver.step(4)
    for i in range(4):
        whole.step(1)
        assert losses[i] == pytest.approx(whole.smoothed_loss, rel=1e-5)
    assert_equal_params(params(solver), params(whole), 1e-5)


def test_clip_gradients_scales_all_gradients_by_their_common_norm(arrays, capsys):
    solver = make("clip_gradients: 0.25 ", DEEP)
    start = params(solver)
    norm = []
    solver.add_callback(
        lambda: None, lambda: norm.append(math.sqrt(sum((one.blob.diff**2).sum() for one in solver.net.learnable)))
    )
    solver.step(1)
    assert norm[0] > 0.5
    step = math.sqrt(sum(((start[name] - value) ** 2).sum() for name, value in params(solver).items()))
    assert step == pytest.approx(0.1 * 0.25, rel=1e-5)
    (line,) = [line for line in messages(capsys) if line.startswith("Gradient clipping")]
    pattern = r"Gradient clipping: scaling down gradients \(L2 norm (\S+) > 0.25\) by scale factor (\S+)"
    logged = [float(number) for number in re.fullmatch(pattern, line).groups()]
    assert logged == pytest.approx([norm[0], 0.25 / norm[0]], rel=1e-4)


def test_a_gradient_that_is_nan_is_no_reason_to_clip_the_others():
    """As in Caffe: only its own parameter becomes NaN."""
    solver = make("clip_gradients: 0.25 ", DEEP)
    solver.add_callback(lambda: None, lambda: solver.net.learnable[0].blob.diff.__setitem__(..., np.nan))
    solver.step(1)
    values = [np.isnan(one.blob.data).any() for one in solver.net.learnable]
    assert values[0]
    assert not any(values[1:])


def test_gradients_below_the_limit_are_left_alone():
    solver, clipped = make(), make("clip_gradients: 1000 ")
    solver.step(3)
    clipped.step(3)
    assert_equal_params(params(solver), params(clipped))


SHARE = 'param { name: "w" } param { name: "b" }'
SHARED = data() + product("left", "x", 2, SHARE) + product("right", "x", 2, SHARE) + loss("left", "l1") + loss("right", "l2")


def test_shared_parameters_are_updated_once(arrays):
    """Both branches see the same data, so the shared gradient is twice that of one branch."""
    solver = make("momentum: 0.9 clip_gradients: 0.5 ", SHARED)
    assert [len(blobs) for blobs in solver.history] == [2]
    w, b = solver.net.params["left"][0].data.copy(), solver.net.params["left"][1].data.copy()
    gw, gb = (2 * g for g in gradient(w, b, arrays[0][:4], arrays[1][:4]))
    scale = 0.5 / math.sqrt((gw**2).sum() + (gb**2).sum())
    assert scale < 1
    solver.step(1)
    for side in ("left", "right"):
        np.testing.assert_allclose(solver.net.params[side][0].data, w - 0.1 * scale * gw, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(solver.net.params[side][1].data, b - 0.1 * scale * gb, rtol=1e-5, atol=1e-6)


def test_random_seed_makes_equal_runs():
    net = (
        NET.replace('type: "EuclideanLoss"', 'type: "EuclideanLoss" loss_weight: 1')
        .replace('bottom: "ip" bottom: "y"', 'bottom: "drop" bottom: "y"')
        .replace(
            'layer { name: "loss"', 'layer { name: "drop" type: "Dropout" bottom: "ip" top: "drop" }\nlayer { name: "loss"'
        )
    )
    runs = []
    for seed in (5, 5, 6):
        solver = make(net=net, head=FIXED.replace("random_seed: 3", f"random_seed: {seed}") + USE_NET)
        solver.step(5)
        runs.append(params(solver))
    assert_equal_params(runs[0], runs[1])
    assert not np.array_equal(runs[0]["ip/0"], runs[2]["ip/0"])


# ---- snapshots ----------------------------------------------------------------------------------------------------

FORMATS = {"BINARYPROTO": "", "HDF5": ".h5"}


@pytest.mark.parametrize("format", FORMATS)
def test_a_restored_run_goes_on_bit_by_bit(format):
    text = f"momentum: 0.9 weight_decay: 0.01 snapshot_format: {format} "
    multistep = FIXED.replace("fixed", "multistep") + "gamma: 0.5 stepvalue: 2 stepvalue: 6 " + USE_NET
    solver = make(text, DEEP, multistep)
    solver.step(4)
    solver.snapshot()
    solver.step(4)
    resumed = make(text.replace(format, "BINARYPROTO"), DEEP, multistep.replace("random_seed: 3", ""))
    resumed.restore("s_iter_4.solverstate" + FORMATS[format])
    assert (resumed.iter, resumed.current_step) == (4, 1)
    resumed.step(4)
    assert_equal_params(params(solver), params(resumed))
    assert (resumed.iter, resumed.current_step) == (8, 2)
    for one, other in zip(solver.history[0], resumed.history[0], strict=True):
        np.testing.assert_array_equal(one.data, other.data)


@pytest.mark.parametrize("format", FORMATS)
def test_names_and_contents_of_snapshots(format):
    solver = make(f'momentum: 0.9 snapshot_format: {format} snapshot: 2 snapshot_prefix: "run/x" ', head=prefixless())
    Path("run").mkdir(exist_ok=True)
    solver.step(5)
    kinds = [f"{kind}{FORMATS[format]}" for kind in ("caffemodel", "solverstate")]
    assert sorted(os.listdir("run")) == sorted(f"x_iter_{n}.{kind}" for n in (2, 4) for kind in kinds)
    fresh = caffe.Net("net.prototxt", caffe.TRAIN, weights=f"run/x_iter_4.{kinds[0]}")
    solver.restore(f"run/x_iter_4.{kinds[1]}")
    assert solver.iter == 4
    np.testing.assert_array_equal(solver.net.params["ip"][0].data, fresh.params["ip"][0].data)


def prefixless() -> str:
    Path("run").mkdir(exist_ok=True)
    return FIXED.replace('snapshot_prefix: "s"', "") + USE_NET


@pytest.mark.parametrize(
    ("text", "prefix"), [("", "solver"), ('snapshot_prefix: "run"', "run/solver"), ('snapshot_prefix: "run/a.b"', "run/a.b")]
)
def test_the_default_of_snapshot_prefix_is_the_name_of_the_solver(text, prefix):
    make(text, head=prefixless()).snapshot()
    assert Path(f"{prefix}_iter_0.caffemodel").exists()
    assert Path(f"{prefix}_iter_0.solverstate").exists()


def test_a_state_names_its_model():
    make().snapshot()
    state = model_file.read_message("s_iter_0.solverstate", "SolverState")
    assert (state.learned_net, state.iter) == ("s_iter_0.caffemodel", 0)


@pytest.mark.parametrize("format", FORMATS)
def test_a_state_finds_its_model_after_both_have_moved(format):
    solver = make(f'snapshot_format: {format} snapshot_prefix: "run/x"', head=prefixless())
    solver.step(2)
    solver.snapshot()
    Path("run").rename("elsewhere")
    resumed = make('snapshot_prefix: "y"', head=prefixless())
    resumed.restore("elsewhere/x_iter_2.solverstate" + FORMATS[format])
    assert_equal_params(params(solver), params(resumed))


def test_snapshot_diff_writes_the_updates_as_well():
    solver = make("snapshot_diff: true ")
    solver.step(1)
    solver.snapshot()
    blob = next(one for one in model_file.read_layers("s_iter_1.caffemodel") if one.name == "ip").blobs[0]
    np.testing.assert_array_equal(blob.diff.reshape(2, 3), solver.net.params["ip"][0].diff)


OTHER_NETS = {
    "more parameters": (DEEP, "the state has 4 history blobs, this type of solver needs 2 on this net"),
    "wider": (NET.replace("num_output: 2", "num_output: 1"), r"history blob 0 is 1 x 3 \(3\), this net needs 2 x 3 \(6\)"),
    "transposed": (
        NET.replace("num_output: 2", "num_output: 2 transpose: true"),
        r'layer "ip" \(InnerProduct\): parameter 0 is 2 x 3 \(6\) in the net and 3 x 2 \(6\) in the model',
    ),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("other", OTHER_NETS)
def test_the_state_of_another_net_is_refused_and_nothing_changes(other, format):
    text, cause = OTHER_NETS[other]
    goal = 'layer { name: "y1" type: "Slice" bottom: "y" top: "y1" top: "rest" slice_param { axis: 1 } }\n'
    if other == "wider":  # one output, one goal
        text = text.replace('layer { name: "loss"', goal + 'layer { name: "loss"').replace(
            'bottom: "y" top: "l', 'bottom: "y1" top: "l'
        )
    source = make(f"momentum: 0.9 snapshot_format: {format} ", text)
    source.step(2)
    source.snapshot()
    assert_refused_and_unchanged(make("momentum: 0.9 "), "s_iter_2.solverstate" + FORMATS[format], cause)


@pytest.mark.parametrize("format", FORMATS)
def test_a_model_that_fits_in_part_is_refused_and_nothing_changes(format):
    """The histories have equal counts, and the first layer has equal shapes: the second shows that it is another net."""
    wide = data() + product("ip", "x", 6) + product("ip2", "ip", 2) + loss("ip2")
    turned = wide.replace("num_output: 2", "num_output: 2 transpose: true")
    source = make(f"momentum: 0.9 snapshot_format: {format} ", turned)
    source.step(2)
    source.snapshot()
    assert_refused_and_unchanged(make("momentum: 0.9 ", wide), "s_iter_2.solverstate" + FORMATS[format], 'layer "ip2"')


def assert_refused_and_unchanged(solver, state: str, cause: str) -> None:
    solver.step(1)
    before, history = params(solver), [blob.data.copy() for blob in solver.history[0]]
    with pytest.raises(ModelFileError, match=cause) as caught:
        solver.restore(state)
    assert "s_iter_2." in str(caught.value)  # says which file
    assert_equal_params(before, params(solver))
    assert (solver.iter, solver.current_step) == (1, 0)
    for blob, values in zip(solver.history[0], history, strict=True):
        np.testing.assert_array_equal(blob.data, values)


def test_a_state_without_its_model_is_refused():
    make().snapshot()
    Path("s_iter_0.caffemodel").unlink()
    with pytest.raises(ModelFileError, match=r"s_iter_0\.caffemodel: there is no such file"):
        make().restore("s_iter_0.solverstate")


@pytest.mark.parametrize(
    ("text", "snapshots"),
    [
        ("", [4]),
        ("snapshot: 2 ", [2, 4]),
        ("snapshot: 3 ", [3, 4]),
        ("snapshot: 3 snapshot_after_train: false ", [3]),
        ("snapshot_after_train: false ", []),
    ],
)
def test_solve_ends_with_a_snapshot_unless_one_was_just_written(text, snapshots, capsys):
    make(text).solve()
    assert sorted(int(path.stem.rsplit("_", 1)[1]) for path in Path().glob("*.caffemodel")) == snapshots
    written = [line for line in messages(capsys) if line.startswith("Snapshotting to")]
    assert len(written) == len(snapshots)  # none twice


def test_solve_resumes_from_a_state():
    solver = make("snapshot: 2 ")
    solver.solve()
    resumed = make()
    resumed.solve("s_iter_2.solverstate")
    assert_equal_params(params(solver), params(resumed))


def test_solve_says_at_once_that_its_snapshot_has_no_folder():
    solver = make('snapshot_prefix: "gone/x" ', head=prefixless())
    with pytest.raises(SolverError, match=r'solver\.prototxt: .*the folder "gone" is missing'):
        solver.solve()
    assert solver.iter == 0
    make('snapshot_prefix: "gone/x" snapshot_after_train: false ', head=prefixless()).solve()


# ---- signals ------------------------------------------------------------------------------------------------------


def ask(solver, **actions) -> None:
    """Asks for `actions` (by name: at_1=Action.STOP) when the solver looks for the n-th time."""
    looks = iter(range(1000))
    solver.requested_action = lambda: actions.get(f"at_{next(looks)}", Action.NONE)


def test_a_stop_ends_solve_with_a_snapshot(capsys):
    solver = make("display: 1 ")
    ask(solver, at_1=Action.STOP)
    solver.solve()
    assert solver.iter == 2
    assert solver.last_snapshot == "s_iter_2.solverstate"
    lines = messages(capsys)
    assert lines[-1] == "Optimization stopped early."
    assert not any("Optimization Done" in line for line in lines)


def test_a_stop_at_a_snapshot_writes_one_only(capsys):
    solver = make("snapshot: 2 ")
    ask(solver, at_1=Action.STOP)
    solver.solve()
    assert sum(line.startswith("Snapshotting to") for line in messages(capsys)) == 1


def test_a_snapshot_on_demand_does_not_end_training():
    solver = make()
    ask(solver, at_0=Action.SNAPSHOT)
    solver.solve()
    assert solver.iter == 4
    assert {path.name for path in Path().glob("*state")} == {"s_iter_1.solverstate", "s_iter_4.solverstate"}


def test_a_test_can_be_stopped_between_two_batches(capsys):
    solver = make("test_iter: 5 test_interval: 2 test_initialization: false snapshot_after_train: false ")
    forwards = count_forwards(solver.test_nets[0])
    ask(solver, at_2=Action.NONE, at_3=Action.SNAPSHOT, at_4=Action.STOP)  # looks 0 and 1 follow the first two steps
    solver.solve()
    assert (solver.iter, len(forwards)) == (2, 2)
    assert "Test interrupted." in messages(capsys)
    assert Path("s_iter_2.solverstate").exists()


def test_a_stopped_solver_can_go_on():
    solver = make()
    ask(solver, at_0=Action.STOP)
    solver.solve()
    solver.solve()
    assert solver.iter == 4


# ---- set-up -------------------------------------------------------------------------------------------------------


def test_the_weights_field_fills_all_nets():
    source = make()
    source.net.params["ip"][0].data[...] = 7
    source.net.save("a.caffemodel")
    source.net.params["ip"][0].data[...] = 8
    source.net.save_hdf5("b.caffemodel.h5")
    text = "test_iter: 1 test_interval: 1 weights: "
    for weights, value in (
        ('"a.caffemodel"', 7),
        ('"a.caffemodel,b.caffemodel.h5"', 8),
        ('"b.caffemodel.h5" weights: "a.caffemodel"', 7),
    ):
        solver = make(text + weights)
        for net in (solver.net, *solver.test_nets):
            assert np.all(net.params["ip"][0].data == value)


TIED = 'param { name: "w" } param { name: "b" }'
ONLY_TEST, ONLY_TRAIN = "include { phase: TEST }", "include { phase: TRAIN }"
BRANCH = product("branch", "x", 2, f"{TIED} {ONLY_TEST}")
LAST = data() + product("ip", "x", 2, TIED) + loss("ip") + BRANCH
FIRST = data() + BRANCH + product("ip", "x", 2, TIED) + loss("ip")
NO_LAYER_IN_COMMON = (
    data()
    + product("ip", "x", 2, f"{TIED} {ONLY_TRAIN}")
    + product("branch", "x", 2, f"{TIED} {ONLY_TEST}").replace('top: "branch"', 'top: "ip"')
    + loss("ip")
)


@pytest.mark.parametrize("net", [NET, LAST, FIRST, NO_LAYER_IN_COMMON])
def test_a_test_net_has_the_parameters_of_the_training_net_from_the_start(net):
    """Also a layer that only the test net has, if it shares a parameter by name."""

    def assert_shared(solver) -> None:
        weights = solver.net.params["ip"]
        for blobs in solver.test_nets[0].params.values():
            for mine, blob in zip(blobs, weights, strict=True):
                np.testing.assert_array_equal(mine.data, blob.data)

    solver = make("test_iter: 1 test_interval: 9 test_initialization: false ", net)
    assert_shared(solver)
    solver.step(2)
    solver.snapshot()
    assert_shared(solver)
    other = make("test_iter: 1 test_interval: 9 test_initialization: false ", net, FIXED.replace("3", "4") + USE_NET)
    other.restore("s_iter_2.solverstate")
    assert_shared(other)
    other.net.params["ip"][0].data[...] = 5
    assert_shared(other)
    other.net.copy_from("s_iter_2.caffemodel")
    assert_shared(other)
    np.testing.assert_array_equal(other.net.params["ip"][0].data, solver.net.params["ip"][0].data)
    given = caffe.Net("net.prototxt", caffe.TRAIN)
    other.share_weights(given)
    other.test_all()
    assert_shared(other)


def test_a_test_net_whose_shared_parameter_has_another_size_is_refused():
    net = data() + product("ip", "x", 2, f"{TIED} {ONLY_TRAIN}") + loss("ip", more=ONLY_TRAIN)
    net += product("branch", "x", 3, f"{TIED} {ONLY_TEST}")
    expected = r'layer "branch".*parameter "w" is 3 x 3 \(9\) here and 2 x 3 \(6\) in the other net'
    with pytest.raises(NetError, match=expected):
        make("test_iter: 1 test_interval: 9 ", net)


def test_gpu_mode_warns_once_and_goes_on(capsys, monkeypatch):
    monkeypatch.delattr(pycaffe.use_gpu_or_warn, "said", raising=False)
    head = FIXED.replace("CPU", "GPU") + USE_NET
    make(head=head).step(1)
    make(head=head).step(1)
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("W")]
    assert len(warnings) == 1
    assert "GPU" in warnings[0]
    assert "pip install" in warnings[0] or "CUDA" in warnings[0]


def test_a_net_can_stand_in_the_solver():
    solver = make(head=FIXED + f"net_param {{ {NET} }} test_iter: 1 test_interval: 1 ")
    solver.step(1)
    assert [net.name for net in (solver.net, *solver.test_nets)] == ["small", "small"]


def test_an_error_in_a_net_that_stands_in_the_solver_names_the_solver_file():
    with pytest.raises(NetError, match=r'solver\.prototxt.*layer "ip"'):
        make(head=FIXED + f"net_param {{ {NET.replace('num_output: 2', '')} }} ")


SOLVER_ERRORS = {  # beyond those of the kit
    "test_iter: -1 test_interval: 1": "test_iter is a number of batches, received -1",
    "test_iter: 1": "test_interval > 0, received 0",
    "iter_size: 0": "iter_size is at least 1, received 0",
    "average_loss: 0": "average_loss is at least 1, received 0",
    'weight_decay: 1 regularization_type: "L3"': '"L1" or "L2", received "L3"',
    'type: "SDG"': r'unknown solver type "SDG" \(did you mean "SGD"\?\)',
    'train_net: "net.prototxt"': "expected one of net, .* received net, train_net",
}


@pytest.mark.parametrize("text", SOLVER_ERRORS)
def test_what_cannot_be_solved_is_said_with_its_file(text):
    with pytest.raises(SolverError, match=SOLVER_ERRORS[text]) as caught:
        make(text)
    assert str(caught.value).startswith("solver.prototxt: ")


KIT_ERRORS = {
    "solver_unknown_type": "SGDX",
    "solver_unknown_policy": 'unknown lr_policy "cosine"',
    "solver_no_policy": "lr_policy is not set",
    "solver_no_net": "received none",
    "solver_two_nets": "received net, train_net",
    "solver_net_missing": "train_gone.prototxt",
    "solver_missing_file": "solver_missing_file.prototxt",
    "solver_test_interval": "test_interval",
    "solver_test_state_count": "test_state.*expected 1, received 2",
    "solver_test_net_iter": "test_iter.*expected 1, received 0",
    "solver_snapshot_dir": '"no_dir"',
    "solver_regularization": '"L3"',
    "solver_average_loss": "average_loss",
    "solver_step_size": "stepsize",
    "solver_gamma_negative": "gamma.*-0.5",
    "solver_adagrad_momentum": "(?i)adagrad.*momentum|momentum.*adagrad",
    "solver_rmsprop_momentum": "(?i)rmsprop.*momentum|momentum.*rmsprop",
    "solver_rmsprop_decay": "rms_decay",
    "solver_type_twice": "solver_type",
    "solver_unknown_field": "learning_rate",
    "restore_missing": "no such file",
    "restore_random": r"\.(solverstate|caffemodel)",
    "restore_wrong_net": "another net|history",
    "restore_wrong_solver": "type of solver",
    "restore_model_missing": "no such file",
}
NEEDS_TYPE = {"adagrad": "AdaGrad", "rmsprop": "RMSProp", "wrong_solver": "Adam"}


def kit_errors() -> list[dict]:
    cases = json.loads(Path(KIT, "errors", "manifest.json").read_text())["cases"] if KIT else []
    return [case for case in cases if case["id"].startswith(("solver_", "restore_"))]


@needs_kit
@pytest.mark.parametrize("case", kit_errors(), ids=lambda case: case["id"])
def test_errors_of_the_kit_name_their_cause(case, monkeypatch):
    name = case["id"]
    for part, solver_type in NEEDS_TYPE.items():
        if part in name and solver_type not in _REGISTRY:
            pytest.skip(f"there is no {solver_type} yet")
    shutil.copytree(Path(KIT, "errors"), "kit", copy_function=shutil.copyfile)
    monkeypatch.chdir("kit")
    if case["verdict"] == "accepts":
        assert name not in KIT_ERRORS
        replay(case["steps"])
        return
    with pytest.raises(CaffeError, match=KIT_ERRORS[name]):
        replay(case["steps"])


def replay(steps: list[list]) -> None:
    solver = None
    for call, *arguments in steps:
        if call == "solver":
            solver = caffe.get_solver(*arguments)
        else:
            getattr(solver, call)(*arguments)
