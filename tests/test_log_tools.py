"""parse_log, extract_seconds, summarize, classify and detect: what they write from small files."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pycaffe_lite as caffe
from pycaffe_lite.cli import call, classify, detect, extract_seconds, parse_log, summarize
from pycaffe_lite.net import listing

LOG = """\
I1231 23:59:50.000000  4711 net.cpp:255] Iteration is a word here
I1231 23:59:58.500000  4711 solver.cpp:282] Solving mnist
I1231 23:59:59.000000  4711 solver.cpp:341] Iteration 0, Testing net (#0)
I1231 23:59:59.500000  4711 solver.cpp:409]     Test net output #0: accuracy = 0.11
I1231 23:59:59.500000  4711 solver.cpp:409]     Test net output #1: loss = 2.5 (* 1 = 2.5 loss)
I1231 23:59:59.600000  4711 solver.cpp:239] Iteration 0 (0 iter/s, 0.4s/100 iters), loss = 0.3
I1231 23:59:59.600000  4711 solver.cpp:258]     Train net output #0: loss = 0.31 (* 1 = 0.31 loss)
I1231 23:59:59.600000  4711 sgd_solver.cpp:112] Iteration 0, lr = 0.01
I0101 00:00:01.250000  4711 solver.cpp:239] Iteration 100, loss = 0.0342
I0101 00:00:01.250000  4711 solver.cpp:258]     Train net output #0: loss = nan (* 1 = nan loss)
I0101 00:00:01.250000  4711 sgd_solver.cpp:112] Iteration 100, lr = 0.001
I0101 00:00:02.000000  4711 solver.cpp:341] Iteration 100, Testing net (#0)
I0101 00:00:02.500000  4711 solver.cpp:409]     Test net output #0: accuracy = 0.905
I0101 00:00:02.500000  4711 solver.cpp:409]     Test net output #1: loss = 0.02 (* 1 = 0.02 loss)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.log").write_text(LOG)


def rows(path: str, delimiter: str = ",") -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


# ---- logs ---------------------------------------------------------------------------------------------------------


def test_parse_log_writes_caffes_columns(capsys):
    Path("out").mkdir()
    assert call(parse_log.main, ["run.log", "out", "--verbose"]) == 0
    assert rows("out/run.log.train") == [
        ["NumIters", "Seconds", "LearningRate", "loss"],
        ["0.0", "1.1", "0.01", "0.31"],
        ["100.0", "2.75", "0.01", "nan"],
    ]
    assert rows("out/run.log.test") == [
        ["NumIters", "Seconds", "LearningRate", "accuracy", "loss"],
        ["0.0", "1.0", "0.001", "0.11", "2.5"],
        ["100.0", "4.0", "0.001", "0.905", "0.02"],
    ]
    assert capsys.readouterr().out == "Wrote out/run.log.train\nWrote out/run.log.test\n"


def test_parse_log_takes_a_delimiter_and_writes_nothing_for_no_rows(capsys):
    Path("run.log").write_text("\n".join(line for line in LOG.splitlines() if "Test" not in line))
    assert call(parse_log.main, ["run.log", ".", "--delimiter", ";", "--verbose"]) == 0
    assert rows("run.log.train", ";")[0] == ["NumIters", "Seconds", "LearningRate", "loss"]
    assert not Path("run.log.test").exists()
    assert "Not writing run.log.test" in capsys.readouterr().out


def test_rows_of_several_test_nets():
    """They share a row, as in Caffe, unless that would lose one of them."""

    def tested(*names: str) -> list[dict[str, float]]:
        text = "".join(f"Iteration 5, Testing net (#{n})\n Test net output #0: {x} = {n}\n" for n, x in enumerate(names))
        return parse_log.parse_log(text)["test"]

    assert [{k: row[k] for k in list(row)[3:]} for row in tested("a", "b")] == [{"a": 0, "b": 1}]
    assert [row["a"] for row in tested("a", "a")] == [0, 1]


def test_extract_seconds_writes_one_number_for_each_iteration_line():
    assert call(extract_seconds.main, ["run.log", "seconds.txt"]) == 0
    seconds = Path("seconds.txt").read_text().splitlines()
    assert seconds[1:] == ["0.500000", "1.100000", "1.100000", "2.750000", "2.750000", "3.500000"]


DEPLOY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
layer { name: "mean" type: "Pooling" bottom: "data" top: "mean" pooling_param { pool: AVE global_pooling: true } }
layer { name: "scores" type: "Scale" bottom: "mean" top: "scores" }
"""
FLAGS = ["--model_def", "deploy.prototxt", "--pretrained_model", "net.caffemodel", "--mean_file", ""]


@pytest.mark.parametrize(
    ("command", "argv", "says"),
    [
        (parse_log, ["missing.log", "."], "missing.log"),
        (parse_log, ["run.log", "no/folder"], "no/folder"),
        (parse_log, ["run.log", ".", "--delimiter", ";;"], "one character"),
        (extract_seconds, ["empty.log", "seconds.txt"], "time stamp"),
        (summarize, ["missing.prototxt"], "missing.prototxt"),
        (classify, ["x.png", "out.npy", "--mean_file", "run.log"], "run.log is no .npy file"),
        (classify, ["x.png", "out.npy", "--mean_file", "", "--images_dim", "8"], "--images_dim"),
        (classify, ["x.png", "out.npy", "--mean_file", "", "--channel_swap", "b,g,r"], "--channel_swap"),
        (classify, ["x.png", "out.npy"], "--mean_file is not given, and its default python/caffe/imagenet/"),
        (classify, ["x.png", "out.npy"], "is not here: give a file, or --mean_file '' for no mean"),
        (classify, ["x.png", "out.npy", "--mean_file", "m.npy"], '--mean_file: there is no file "m.npy"; relative paths'),
        (classify, ["x.png", "out.npy", "--mean_file", ""], "--model_def is not given, and its default models/"),
        (classify, ["x.png", "out.npy", *FLAGS[:2], *FLAGS[4:]], "--pretrained_model is not given, and its default models/"),
        (classify, ["x.png", "out.npy", *FLAGS, "--print_results"], "--labels_file is not given, and its default data/"),
        (detect, ["x.csv", "out.csv"], "--mean_file is not given, and its default python/caffe/imagenet/"),
        (detect, ["x.csv", "out.csv", "--mean_file", ""], "--model_def is not given, and its default models/"),
        (detect, ["x.png", "out.csv"], ".txt or .csv"),
        (detect, ["x.txt", "out.csv", "--crop_mode", "list"], "--crop_mode list"),
    ],
)
def test_mistakes_are_told_in_one_line(command, argv, says, capsys):
    Path("empty.log").write_text("hello\n")
    Path("deploy.prototxt").write_text(DEPLOY)
    assert call(command.main, argv) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


# ---- summarize ----------------------------------------------------------------------------------------------------

NET = """
layer { name: "data" type: "Input" top: "data" top: "lost" }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { kernel_size: 5 stride: 2 pad: 1 num_output: 8 group: 2 } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_h: 2 kernel_w: 3 } }
layer { name: "py" type: "Python" bottom: "pool" bottom: "label" top: "l" loss_weight: 0.1
  python_param { module: "m" layer: "Loss" } }
"""


def test_summarize_prints_the_table_of_caffe(capsys):
    Path("net.prototxt").write_text(NET)
    assert call(summarize.main, ["net.prototxt"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "data Input                                  -> data, lost",
        "conv Convolution (, x2.0 Dx0.0) data        -> conv       5/2+1 8/2",
        "pool Pooling                    conv        -> pool       2x3",
        "py   m.Loss                     pool, label -> 0.1 * l",
    ]
    assert call(summarize.main, ["net.prototxt", "-w", "5"]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "pool Pooling   conv -> pool 2x3"


def test_summarize_shows_unread_tops_and_unknown_bottoms(capsys):
    net = caffe.proto.caffe_pb2.NetParameter()
    caffe.proto.prototxt.parse(NET, net)
    first, _, _, last = listing.table(net)
    assert "\033[1;4mlost" in first[5]
    assert "\033[1;4mdata" not in first[5]
    assert "\033[41mlabel\033[0m" in last[3]


# ---- classify and detect ------------------------------------------------------------------------------------------

COLOURS = {"a.png": (255, 0, 51), "b.png": (0, 102, 204)}


@pytest.fixture
def model() -> None:
    """A net whose scores are the mean blue, green and red of an image, from 0 to 255; and two images of one colour."""
    Path("deploy.prototxt").write_text(DEPLOY)
    net = caffe.Net("deploy.prototxt", caffe.TEST)
    net.params["scores"][0].data[...] = 1
    net.save("net.caffemodel")
    Path("images").mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (6, 6), colour).save(f"images/{name}")  # of the size that is asked for: resizing darkens borders


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("extra", [[], ["--center_only"]])
def test_classify_scores_a_folder_in_the_order_of_names(extra, capsys):
    assert call(classify.main, ["images", "out.npy", *FLAGS, "--ext", "png", "--images_dim", "6,6", *extra]) == 0
    expected = [colour[::-1] for colour in COLOURS.values()]
    np.testing.assert_allclose(np.load("out.npy").reshape(2, 3), expected, rtol=1e-4)
    out = capsys.readouterr().out
    assert "CPU mode" in out
    assert "Classifying 2 inputs." in out


@pytest.mark.usefixtures("model")
def test_classify_prints_the_best_classes_of_a_file(capsys):
    Path("labels.txt").write_text("n2 green, grass\nn1 blue, sky\nn3 red\n")
    argv = ["images/b.png", "out", *FLAGS, "--images_dim", "6,6", "--print_results", "--labels_file", "labels.txt"]
    assert call(classify.main, argv) == 0
    assert "[('blue', '204.00000'), ('green', '102.00000'), ('red', '0.00000')]" in capsys.readouterr().out
    assert np.load("out").size == 3


@pytest.mark.usefixtures("model")
def test_classify_takes_an_array_a_mean_and_scales():
    np.save("in.npy", np.full((3, 8, 8, 3), 0.5, np.float32))
    np.save("mean.npy", np.arange(3 * 4 * 4).reshape(3, 4, 4))
    scales = ["--raw_scale", "10", "--input_scale", "2", "--channel_swap", ""]
    argv = ["in.npy", "out.npy", *FLAGS[:4], "--mean_file", "mean.npy", "--images_dim", "4,4", *scales]
    assert call(classify.main, argv) == 0
    assert np.load("out.npy").shape[0] == 3
    np.testing.assert_allclose(np.load("out.npy").reshape(3, 3)[0], 2 * (5 - np.array([7.5, 23.5, 39.5])), rtol=1e-5)


@pytest.mark.usefixtures("model")
def test_detect_writes_a_row_for_each_window():
    header = "filename,ymin,xmin,ymax,xmax"
    Path("windows.csv").write_text(f"{header}\nimages/a.png,0,0,4,4\nimages/b.png,1,2,5,6\nimages/a.png,2,2,6,6\n")
    argv = ["windows.csv", "out.csv", *FLAGS, "--crop_mode", "list", "--context_pad", "0"]
    assert call(detect.main, argv) == 0
    found = rows("out.csv")
    assert found[0] == [*header.split(","), "class0", "class1", "class2"]
    assert [row[:5] for row in found[1:]] == [
        ["images/a.png", "0", "0", "4", "4"],
        ["images/a.png", "2", "2", "6", "6"],
        ["images/b.png", "1", "2", "5", "6"],
    ]
    scores = np.array([row[5:] for row in found[1:]], float)
    np.testing.assert_allclose(scores, [(51, 0, 255), (51, 0, 255), (204, 102, 0)], rtol=1e-5, atol=1e-4)


def test_a_table_in_hdf5_needs_pandas(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert call(detect.main, ["windows.csv", "out.h5", *FLAGS]) == 1
    assert "only a .csv can be written without pandas" in capsys.readouterr().err


@pytest.mark.usefixtures("model")
def test_selective_search_says_what_it_needs(capsys):
    Path("images.txt").write_text("images/a.png\n")
    assert call(detect.main, ["images.txt", "out.csv", *FLAGS, "--context_pad", "0"]) == 1
    assert "selective_search_ijcv_with_python" in capsys.readouterr().err
