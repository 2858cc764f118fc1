"""Classifies images and writes the scores into a .npy file.

    pycaffe_lite classify cat.jpg scores.npy --model_def deploy.prototxt --pretrained_model net.caffemodel --mean_file ''

The input is an image, a folder of images, or a .npy file of images N x H x W x K. The output is an array N x classes, in the
order of the file names. Flags and defaults are those of Caffe's python/classify.py; default paths are those in a copy of
Caffe.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import io, pycaffe
from ..classifier import Classifier
from ..errors import DataError
from ..files import atomic_write
from ._flags import add_import_flag, import_types

GROUP = "train and test"

MODEL = "models/bvlc_reference_caffenet"
DEFAULTS = {
    "model_def": f"{MODEL}/deploy.prototxt",
    "pretrained_model": f"{MODEL}/bvlc_reference_caffenet.caffemodel",
    "mean_file": "python/caffe/imagenet/ilsvrc_2012_mean.npy",
    "labels_file": "data/ilsvrc12/synset_words.txt",
}
TOP = 5


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="pycaffe_lite classify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input_file", help="image, folder of images, or .npy")
    parser.add_argument("output_file", help=".npy to write")
    add_model_flags(parser)
    parser.add_argument("--center_only", action="store_true", help="score the centre alone, not the mean of ten crops")
    parser.add_argument("--images_dim", default="256,256", help="height,width that images are resized to")
    parser.add_argument("--ext", default="jpg", help="extension of the images in a folder (default: jpg)")
    parser.add_argument("--labels_file", default=DEFAULTS["labels_file"], help="a line `id name, ...` for each class")
    parser.add_argument("--print_results", action="store_true", help="print the five best classes of the first image")
    args = parser.parse_args(argv)
    import_types(args)

    print(set_mode(args.gpu))
    mean = load_mean(args.mean_file)
    dims, swap = integers(args.images_dim, "--images_dim"), integers(args.channel_swap, "--channel_swap")
    if len(dims) != 2:
        raise DataError(f'--images_dim: expected a height and a width, received "{args.images_dim}"')
    labels = read_labels(args.labels_file) if args.print_results else []
    check_model(args)
    classifier = Classifier(
        args.model_def, args.pretrained_model, dims, mean, args.input_scale, args.raw_scale, swap or None
    )
    inputs = load_inputs(args.input_file, args.ext, color=classifier.blobs[classifier.inputs[0]].shape[1] != 1)
    print(f"Classifying {len(inputs)} inputs.")
    start = time.perf_counter()
    scores = classifier.predict(inputs, not args.center_only)
    print(f"Done in {time.perf_counter() - start:.2f} s.")
    if args.print_results:
        print(best(scores[0], labels))
    print(f"Saving results into {args.output_file}")
    with atomic_write(args.output_file) as temporary, open(temporary, "wb") as file:
        np.save(file, scores)
    return 0


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that classify and detect share."""
    parser.add_argument("--model_def", default=DEFAULTS["model_def"], help="prototxt of the net")
    parser.add_argument("--pretrained_model", default=DEFAULTS["pretrained_model"], help="its weights")
    parser.add_argument("--gpu", action="store_true", help="compute on a GPU")
    add_import_flag(parser)
    help_text = ".npy, K x H x W, whose mean colour is subtracted; '': none"
    parser.add_argument("--mean_file", default=DEFAULTS["mean_file"], help=help_text)
    parser.add_argument("--input_scale", type=float, help="factor after the mean")
    parser.add_argument("--raw_scale", type=float, default=255.0, help="factor before the mean (default: 255)")
    parser.add_argument("--channel_swap", default="2,1,0", help="order of channels; the default makes BGR of RGB, '': none")


def set_mode(gpu: bool) -> str:
    """Chooses the device, and returns Caffe's text for it."""
    (pycaffe.set_mode_gpu if gpu else pycaffe.set_mode_cpu)()
    return "GPU mode" if gpu else "CPU mode"


def check_model(args: argparse.Namespace) -> None:
    """Raises DataError if the net or its weights are missing, before the work begins."""
    for flag in ("model_def", "pretrained_model"):
        _check_file(flag, getattr(args, flag))


def _check_file(flag: str, path: str, instead: str = "") -> None:
    """Raises DataError, which says what to give, if there is no file `path` for `--flag`."""
    if os.path.exists(path):
        return
    if path == DEFAULTS[flag]:
        raise DataError(f"--{flag} is not given, and its default {path}, a file of Caffe, is not here: give a file{instead}")
    raise DataError(f'--{flag}: there is no file "{path}"; relative paths start at {os.getcwd()}')


def load_array(path: str) -> np.ndarray:
    """The array of a .npy file. Raises DataError for another file."""
    if path.endswith(".binaryproto"):
        make = 'numpy.save("mean.npy", caffe.io.blobproto_to_array(blob)[0]) of a BlobProto makes one'
        raise DataError(f"{path} is a mean file of Caffe, but a .npy file is expected: {make}")
    try:
        array = np.load(path)
    except (ValueError, EOFError):  # NumPy's text recommends to unpickle what it does not know
        raise DataError(f"{path} is no .npy file of numbers") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise DataError(f"{path} is no .npy file of numbers")
    return array


def load_mean(path: str) -> np.ndarray | None:
    """The mean of each channel of a mean image K x H x W; K values are returned unchanged; None for an empty path."""
    if not path:
        return None
    _check_file("mean_file", path, ", or --mean_file '' for no mean")
    mean = load_array(path)
    if mean.ndim not in (1, 3):
        raise DataError(f"{path}: expected a mean K x H x W, received an array of shape {mean.shape}")
    return mean if mean.ndim == 1 else mean.mean(1).mean(1)


def integers(text: str, flag: str) -> list[int]:
    """The integers of a flag such as `2,1,0`."""
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise DataError(f'{flag}: expected whole numbers with commas, received "{text}"') from None


def load_inputs(path: str, extension: str, color: bool) -> Sequence[np.ndarray]:
    """The images H x W x K of a .npy file, a folder or an image file."""
    path = os.path.expanduser(path)
    kind = "folder" if os.path.isdir(path) else "file"
    print(f"Loading {kind}: {path}")
    if kind == "folder":
        files = sorted(Path(path).glob(f"*.{extension}"))
        if not files:
            raise DataError(f'the folder "{path}" has no files *.{extension}; --ext gives another extension')
        return [io.load_image(file, color) for file in files]
    if not path.endswith("npy"):
        return [io.load_image(path, color)]
    images = load_array(path)
    if images.ndim != 4 or not len(images):
        raise DataError(f"{path}: expected images N x H x W x K, received an array of shape {images.shape}")
    return list(images)


def read_labels(path: str) -> list[str]:
    """The first name of each class, in the order of their ids."""
    _check_file("labels_file", path)
    lines = Path(path).read_text("utf-8", "replace").splitlines()
    pairs = sorted(line.strip().partition(" ")[::2] for line in lines if line.strip())
    return [name.split(",")[0] for _, name in pairs]


def best(scores: np.ndarray, labels: Sequence[str]) -> list[tuple[str, str]]:
    """The names of the five best classes with their scores."""
    if len(labels) < scores.size:
        raise DataError(f"expected a label for each of {scores.size} classes, received {len(labels)}")
    order = np.argsort(-scores, kind="stable")[:TOP]
    return [(labels[i], f"{scores[i]:.5f}") for i in order]
