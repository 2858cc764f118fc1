"""Scores windows of images and writes them into a CSV file.

    pycaffe_lite detect windows.csv scores.csv --crop_mode list --model_def deploy.prototxt --pretrained_model x.caffemodel

A .csv input has the columns filename, ymin, xmin, ymax, xmax. A .txt input lists images; selective search proposes their
windows, which needs the module selective_search_ijcv_with_python. The output has a row for each window: filename, ymin,
xmin, ymax, xmax, class0, class1, ... A .h5 output is a pandas table (`df`) and needs pandas and tables. Flags and defaults
are those of Caffe's python/detect.py; default paths are those in a copy of Caffe.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..detector import COORDINATES, Detector, read_windows
from ..errors import DataError
from ..files import atomic_write
from ._flags import import_types
from .classify import add_model_flags, check_model, integers, load_mean, set_mode

GROUP = "train and test"

CROP_MODES = ("list", "selective_search")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="pycaffe_lite detect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input_file", help=".csv of windows, or .txt with the file name of an image on each line")
    parser.add_argument("output_file", help=".csv or .h5 to write")
    add_model_flags(parser)
    parser.add_argument("--crop_mode", choices=CROP_MODES, help="where windows come from (default: list for .csv)")
    parser.add_argument("--context_pad", type=int, default=16, help="pixels of context around a window (default: 16)")
    args = parser.parse_args(argv)
    import_types(args)

    check_output(args.output_file)
    mode = _crop_mode(args.input_file, args.crop_mode)
    mean, swap = load_mean(args.mean_file), integers(args.channel_swap, "--channel_swap")
    check_model(args)
    print(set_mode(args.gpu))
    detector = Detector(
        args.model_def, args.pretrained_model, mean, args.input_scale, args.raw_scale, swap or None, args.context_pad
    )
    start = time.perf_counter()
    print("Loading input...")
    if mode == "list":
        detections = detector.detect_windows((name, boxes.tolist()) for name, boxes in read_windows(args.input_file))
    else:
        names = Path(args.input_file).read_text("utf-8").splitlines()
        detections = detector.detect_selective_search([name.strip() for name in names if name.strip()])
    print(f"Processed {len(detections)} windows in {time.perf_counter() - start:.3f} s.")

    start = time.perf_counter()
    (write_csv if _is_csv(args.output_file) else write_hdf5)(args.output_file, detections)
    print(f"Saved to {args.output_file} in {time.perf_counter() - start:.3f} s.")
    return 0


def _is_csv(path: str) -> bool:
    return path.lower().endswith("csv")


def _crop_mode(path: str, mode: str | None) -> str:
    kind = "list" if _is_csv(path) else "selective_search" if path.lower().endswith("txt") else ""
    if not kind:
        raise DataError(f'expected a .txt or .csv file as input, received "{path}"')
    if mode == "list" and kind != mode:
        raise DataError(f"--crop_mode list needs windows in a .csv file, received {path}")
    if mode == "selective_search" and kind != mode:
        raise DataError(f"--crop_mode selective_search needs images in a .txt file, received {path}")
    return kind


def check_output(path: str) -> None:
    """Raises DataError for a .h5 file if the packages for it are missing, before the work begins."""
    if _is_csv(path):
        return
    for module in ("pandas", "tables"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise DataError(f"{path}: only a .csv can be written without pandas and tables ({error})") from error


def write_csv(path: str, detections: list[dict[str, Any]]) -> None:
    """Writes a row for each window."""
    classes = range(np.size(detections[0]["prediction"]) if detections else 0)
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["filename", *COORDINATES, *(f"class{i}" for i in classes)])
        for scored in detections:
            writer.writerow([scored["filename"], *map(int, scored["window"]), *np.ravel(scored["prediction"]).tolist()])


def write_hdf5(path: str, detections: list[dict[str, Any]]) -> None:
    """Writes the table of Caffe's tool: indexed by filename, with the scores as arrays in `prediction`."""
    pandas = importlib.import_module("pandas")
    rows = [
        {"filename": str(scored["filename"]), "prediction": scored["prediction"], **dict(zip(COORDINATES, scored["window"]))}
        for scored in detections
    ]
    with atomic_write(path) as temporary:
        pandas.DataFrame(rows).set_index("filename").to_hdf(temporary, key="df", mode="w")
