"""The scripts of examples/imagenet and of examples/finetune_flickr_style, on a dozen images."""

from __future__ import annotations

import csv
import gzip
import http.server
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pycaffe_lite as caffe
from pycaffe_lite import glog
from pycaffe_lite.check import check
from pycaffe_lite.data.database import open_database
from pycaffe_lite.proto import read_net

REPOSITORY = Path(__file__).parent.parent
CAFFENET = Path("examples/models/bvlc_reference_caffenet")
FLICKR = Path("examples/finetune_flickr_style")
LEAVE = shutil.ignore_patterns("*_lmdb", "*.caffemodel*", "*.solverstate*", "logs", "__pycache__")


@pytest.fixture(autouse=True)
def quiet():
    glog.set_min_level(1)
    yield
    glog.set_min_level(0)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """What of the repository the two examples need, as the current folder."""
    for folder in ("examples/imagenet", CAFFENET, FLICKR):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=LEAVE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*command: str, fails: bool = False, **environment: str) -> str:
    settings = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY), **environment}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=500)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def edit(path: Path, **changes: object) -> None:
    """Gives fields of a prototxt other values, wherever they stand."""
    text = path.read_text("utf-8")
    for field, value in changes.items():
        text, count = re.subn(rf"\b{field}: \S+", f"{field}: {value}", text)
        assert count, field
    path.write_text(text)


def shrink(net: Path) -> None:
    """CaffeNet with a hundredth of its weights, in batches of two."""
    text = net.read_text("utf-8").replace("num_output: 4096", "num_output: 16")
    net.write_text(re.sub(r"batch_size: \d+", "batch_size: 2", text))


def picture(seed: int, size: tuple[int, int] = (300, 260)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1] // 20, size[0] // 20, 3), np.uint8)).resize(size)


# ---- ImageNet -------------------------------------------------------------------------------------------------------


IMAGES = {"TRAIN_DATA_ROOT": "images/train", "VAL_DATA_ROOT": "images/val/"}


def make_images() -> None:
    """Twelve images in two folders, and the lists."""
    Path("data/ilsvrc12").mkdir(parents=True)
    for split, count in (("train", 8), ("val", 4)):
        lines = []
        for i in range(count):
            path = Path(f"images/{split}/n{i % 2}/{i}.JPEG")
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(i).save(path, "JPEG")
            lines.append(f"{path.relative_to(f'images/{split}')} {i % 2}\n")
        Path(f"data/ilsvrc12/{split}.txt").write_text("".join(lines))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the databases and the mean, as the scripts make them."""
    folder, before = tmp_path_factory.mktemp("imagenet") / "clone", Path.cwd()
    for part in ("examples/imagenet", CAFFENET):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=LEAVE)
    os.chdir(folder)
    try:
        make_images()
        run("examples/imagenet/create_imagenet.sh", **IMAGES)
        run("examples/imagenet/make_imagenet_mean.sh")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def imagenet(made, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    shutil.copytree(made, tmp_path / "clone")
    monkeypatch.chdir(tmp_path / "clone")


def records(split: str) -> list[tuple[bytes, caffe.proto.caffe_pb2.Datum]]:
    with open_database(f"examples/imagenet/ilsvrc12_{split}_lmdb", "lmdb") as database:
        cursor = database.cursor()
        pairs = [cursor.next() for _ in range(database.count())]
        return [(bytes(key), caffe.proto.caffe_pb2.Datum.FromString(bytes(value))) for key, value in pairs]


def test_databases_and_mean(imagenet):
    keys, data = zip(*records("train"))
    assert sorted(key[9:] for key in keys) == [f"n{i % 2}/{i}.JPEG".encode() for i in (0, 2, 4, 6, 1, 3, 5, 7)]
    assert [datum.label for datum in data] == [int(key[10:11]) for key in keys]
    assert len(records("val")) == 4
    blob = caffe.proto.caffe_pb2.BlobProto.FromString(Path("data/ilsvrc12/imagenet_mean.binaryproto").read_bytes())
    mean = np.mean([caffe.io.datum_to_array(datum) for datum in data], axis=0)
    assert mean.shape == (3, 256, 256)
    np.testing.assert_allclose(caffe.io.blobproto_to_array(blob)[0], mean, rtol=1e-5)


def test_databases_of_files_as_they_are(imagenet):
    """They take the place of those that were there."""
    run("examples/imagenet/create_imagenet.sh", "--encoded", RESIZE="false", **IMAGES)
    _, datum = records("val")[0]
    assert datum.encoded
    with Image.open(io.BytesIO(datum.data)) as image:
        assert image.size == (300, 260)


def test_a_folder_that_is_not_there(clone):
    said = run("examples/imagenet/create_imagenet.sh", fails=True)
    assert "there is no folder data/imagenet/train/; set TRAIN_DATA_ROOT" in said
    assert not Path("examples/imagenet/ilsvrc12_train_lmdb").exists()


def train_and_resume() -> None:
    schedule = {"test_iter": 1, "test_interval": 1, "max_iter": 1, "display": 1}
    edit(CAFFENET / "solver.prototxt", **schedule)
    log = run("examples/imagenet/train_caffenet.sh")
    assert "Iteration 1, Testing net (#0)" in log
    assert "Test net output #0: accuracy = " in log
    assert (CAFFENET / "caffenet_train_iter_1.solverstate").exists()
    edit(CAFFENET / "solver.prototxt", max_iter=2)
    log = run("examples/imagenet/resume_training.sh")
    assert f"Resuming from {CAFFENET}/caffenet_train_iter_1.solverstate" in log
    assert (CAFFENET / "caffenet_train_iter_2.caffemodel").exists()


def test_training_of_a_small_caffenet(imagenet):
    shrink(CAFFENET / "train_val.prototxt")
    train_and_resume()


@pytest.mark.slow
def test_training_of_caffenet(imagenet):
    edit(CAFFENET / "train_val.prototxt", batch_size=2)
    train_and_resume()


def test_time(clone):
    edit(CAFFENET / "deploy.prototxt", num_output=16)
    log = run("examples/imagenet/time_caffenet.sh", "--iterations=1")
    assert "fc8\tforward: " in log
    assert "Average Forward-Backward: " in log


# ---- fine-tuning: the nets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train_val", "deploy", "solver"])
def test_check_finds_no_error(name, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    findings, _ = check(str(FLICKR / f"{name}.prototxt"))
    assert not findings.errors
    assert all("there is no list" in warning for warning in findings.warnings), findings.warnings


@pytest.mark.parametrize("name", ["train_val", "deploy"])
def test_it_is_caffenet_up_to_fc8(name):
    """Layer by layer: so its weights fit."""
    nets = [read_net(str(REPOSITORY / folder / f"{name}.prototxt"))[0] for folder in (FLICKR, CAFFENET)]
    ours, caffenets = (
        [layer for layer in net.layer if layer.name not in ("data", "accuracy", "loss", "prob")] for net in nets
    )
    assert [layer.name for layer in ours] == [*(layer.name for layer in caffenets[:-1]), "fc8_flickr"]
    assert ours[:-1] == caffenets[:-1]
    if name == "train_val":
        assert [param.lr_mult for param in ours[-1].param] == [10, 20]


def fine_tune(assemble: tuple[str, ...]) -> tuple[caffe.Net, caffe.Net]:
    """One iteration from weights of CaffeNet; the net that the weights are of, and the tuned one."""
    run(sys.executable, str(FLICKR / "assemble_data.py"), *assemble)
    original = caffe.Net(str(CAFFENET / "deploy.prototxt"), caffe.TEST)
    rng = np.random.default_rng(0)
    for blobs in original.params.values():
        blobs[0].data[...] = 0.01 * rng.standard_normal(blobs[0].shape, np.float32)
    original.save("caffenet.caffemodel")
    edit(FLICKR / "train_val.prototxt", batch_size=2)
    edit(FLICKR / "solver.prototxt", test_iter=1, max_iter=1)
    log = run(
        sys.executable, "-m", "pycaffe_lite", "train", f"--solver={FLICKR}/solver.prototxt", "--weights=caffenet.caffemodel"
    )
    assert "Test net output #0: accuracy = " in log
    tuned = FLICKR / "finetune_flickr_style_iter_1.caffemodel"
    return original, caffe.Net(str(FLICKR / "deploy.prototxt"), caffe.TEST, weights=str(tuned))


def check_tuned(original: caffe.Net, tuned: caffe.Net) -> None:
    assert tuned.params["fc8_flickr"][0].shape[0] == 20
    for name in list(original.params)[:-1]:  # copied, and changed a little
        change = abs(tuned.params[name][0].data - original.params[name][0].data).max()
        assert 0 < change < 0.002, name
    assert tuned.params["fc8_flickr"][0].data.std() == pytest.approx(0.01, rel=0.2)  # its filler


def test_fine_tuning_a_small_caffenet(clone):
    for net in (FLICKR / "train_val.prototxt", FLICKR / "deploy.prototxt", CAFFENET / "deploy.prototxt"):
        net.write_text(net.read_text("utf-8").replace("num_output: 4096", "num_output: 16"))
    check_tuned(*fine_tune(("--synthetic", "--images=10", "--labels=2")))


@pytest.mark.slow
def test_fine_tuning_caffenet(clone):
    check_tuned(*fine_tune(("--synthetic", "--images=10", "--labels=2")))


# ---- fine-tuning: the images ----------------------------------------------------------------------------------------


@pytest.fixture
def assemble():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("assemble_data", REPOSITORY / FLICKR / "assemble_data.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["assemble_data"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["assemble_data"]


def lists(folder: Path) -> dict[str, list[tuple[Path, int]]]:
    found = {}
    for split in ("train", "test"):
        pairs = [line.rpartition(" ") for line in (folder / f"{split}.txt").read_text("utf-8").splitlines()]
        found[split] = [(Path(path), int(label)) for path, _, label in pairs]
    return found


def test_synthetic_images(assemble, tmp_path):
    assert assemble.main(["--synthetic", "--images=12", "--labels=2", f"--output={tmp_path}"]) == 0
    found = lists(tmp_path)
    assert [label for _, label in found["train"]] == [0, 1] * 5
    assert [label for _, label in found["test"]] == [0, 1]
    for path, _ in found["train"] + found["test"]:
        with Image.open(path) as image:
            assert image.size == (256, 256)
    assert (tmp_path / "labels.txt").read_text() == "stripes at 0 degrees\nstripes at 90 degrees\n"


def test_a_folder_of_images(assemble, tmp_path, capsys):
    for name, count in (("wild cats", 10), ("dogs", 5), (".hidden", 3)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(count):
            picture(i, (40, 40)).save(tmp_path / "photos" / name / f"a {i}.JPG", "JPEG")
        (tmp_path / "photos" / name / "notes.txt").write_text("no image")
    arguments = ["--folder", str(tmp_path / "photos"), f"--output={tmp_path / 'out'}"]
    assert assemble.main(arguments) == 0
    found = lists(tmp_path / "out")
    assert sorted(label for _, label in found["train"]) == [0] * 4 + [1] * 8
    assert sorted(label for _, label in found["test"]) == [0] + [1] * 2
    assert all(path.parent.name == ("dogs", "wild cats")[label] for pairs in found.values() for path, label in pairs)
    assert (tmp_path / "out/labels.txt").read_text() == "dogs\nwild cats\n"
    assert assemble.main([*arguments, "--images=4", "--labels=1"]) == 0
    found = lists(tmp_path / "out")
    assert [label for pairs in found.values() for _, label in pairs] == [0] * 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="expected one for each class"):
        assemble.main(["--folder", str(tmp_path / "empty")])


class Handler(http.server.BaseHTTPRequestHandler):
    """Images, and what comes in place of them."""

    asked: list[str] = []

    def do_GET(self):
        self.asked.append(self.path)
        answers = {"/gone.jpg": b"gone", "/page.jpg": b"<html>", "/large.jpg": bytes(200_000)}
        file = io.BytesIO()
        picture(len(self.path), (60, 40)).save(file, "JPEG")
        body = file.getvalue()
        if self.path == "/cut.jpg":
            body = body[: len(body) // 2]
        status = 404 if self.path == "/missing.jpg" else 200
        body = answers.get(self.path, body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Handler.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def write_list(path: Path, rows: list[tuple[str, object, str]]) -> Path:
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "image_url", "label", "_split"])
        writer.writerows((i, *row) for i, row in enumerate(rows))
    return path


def test_images_of_a_list(assemble, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(assemble, "MAX_BYTES", 100_000)
    monkeypatch.setattr(assemble, "UNAVAILABLE", assemble.hashlib.sha1(b"gone").hexdigest())
    names = ["a.jpg", "b.jpg?x=../../y", "c.jpg", "gone.jpg", "page.jpg", "large.jpg", "cut.jpg", "missing.jpg", "other.jpg"]
    rows = [
        (f"{server}/{name}", 19 if name == "other.jpg" else i % 3, "test" if i == 2 else "train")
        for i, name in enumerate(names)
    ]
    path = write_list(tmp_path / "list.csv.gz", rows)
    arguments = ["--list", str(path), "--workers=2", "--labels=3", f"--output={tmp_path / 'out'}"]
    assert assemble.main(arguments) == 0
    found = lists(tmp_path / "out")
    assert sorted(label for _, label in found["train"]) == [0, 1]
    assert [label for _, label in found["test"]] == [2]
    files = [file for pairs in found.values() for file, _ in pairs]
    assert sorted(files) == sorted((tmp_path / "out/images").iterdir())  # nothing half-fetched is left
    said = capsys.readouterr()
    assert "3 of 8 are there." in said.out
    for name, what in (
        ("gone", "is gone"),
        ("page", "no image"),
        ("large", "more than"),
        ("cut", "no image"),
        ("missing", "404"),
    ):
        assert re.search(f"{name}.jpg: .*{what}", said.err), name
    Handler.asked.clear()
    assemble.main(arguments)
    assert not {"/a.jpg", "/c.jpg"} & set(Handler.asked)  # they are there already
    assert (tmp_path / "out/labels.txt").read_text() == "Detailed\nPastel\nMelancholy\n"


def test_a_slow_answer_ends(assemble, server, monkeypatch):
    monkeypatch.setattr(assemble, "DEADLINE", -1.0)
    with pytest.raises(ValueError, match="seconds"):
        assemble.download(f"{server}/a.jpg")


def test_too_many_pixels(assemble, monkeypatch):
    monkeypatch.setattr(assemble, "MAX_PIXELS", 100)
    file = io.BytesIO()
    picture(0, (40, 40)).save(file, "PNG")
    with pytest.raises(ValueError, match="more than 100 pixels"):
        assemble.check_image(file.getvalue())


@pytest.mark.parametrize(
    "row", [("file:///etc/passwd", 1, "train"), ("http://a/b.jpg", "x", "train"), ("http://a/b.jpg", 1, "validation")]
)
def test_a_list_with_a_fault(assemble, row, tmp_path):
    path = write_list(tmp_path / "list.csv", [row])
    with pytest.raises(SystemExit, match=r"list.csv:2: expected columns image_url \(http or https\)"):
        assemble.main(["--list", str(path), f"--output={tmp_path}"])
