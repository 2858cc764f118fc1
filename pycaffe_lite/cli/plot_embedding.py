"""Plots the 2-D embedding of digits by a trained net, and prints its nearest-neighbour accuracy.

    pycaffe_lite plot_embedding --model deploy.prototxt --weights net.caffemodel --out embedding.png
        --images t10k-images-idx3-ubyte --labels t10k-labels-idx1-ubyte
        --train-images train-images-idx3-ubyte --train-labels train-labels-idx1-ubyte

The accuracy needs training images: each test image gets the most frequent class of its 5 nearest neighbours among the first
10,000 of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..data.mnist import is_synthetic, read_images, read_labels
from ..errors import DataError, NetError, did_you_mean
from ..plots.embedding import knn_accuracy, scatter
from ..plots.figure import check_format, save

GROUP = "look"

SCALE = 0.00390625  # 1/256, as in training
REFERENCES = 10_000
BATCH = 500


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="pycaffe_lite plot_embedding",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="prototxt of the deploy net")
    parser.add_argument("--weights", required=True, help="caffemodel")
    parser.add_argument("--images", required=True, help="idx file of the images to plot (may be gzipped)")
    parser.add_argument("--labels", required=True, help="idx file of their labels")
    parser.add_argument("--train-images", help="idx file of the reference images for the accuracy")
    parser.add_argument("--train-labels", help="idx file of their labels")
    parser.add_argument("--blob", default="feat", help="blob with two values for each image (default: feat)")
    parser.add_argument("--out", required=True, help="image to write (.png, .pdf, .svg)")
    args = parser.parse_args(argv)
    if bool(args.train_images) != bool(args.train_labels):
        parser.error("--train-images and --train-labels go together")
    check_format(args.out)

    images, labels = _read(args.images, args.labels)
    points = embed(args.model, args.weights, images, args.blob)
    accuracy = None
    if args.train_images:
        train_images, train_labels = _read(args.train_images, args.train_labels, REFERENCES)
        references = embed(args.model, args.weights, train_images, args.blob)
        accuracy = knn_accuracy(references, train_labels, points, labels)
        print(f"5-NN accuracy: {accuracy:.3f} ({len(labels)} test images against {len(train_labels)} training images)")
    note = "synthetic digits" if is_synthetic(Path(args.images).parent) else None
    save(scatter(points, labels, accuracy, note), args.out)
    return 0


def embed(model: str, weights: str, images: np.ndarray, blob: str = "feat") -> np.ndarray:
    """The blob's values, N x 2, for images N x H x W of uint8, scaled by 1/256, in batches of 500."""
    import pycaffe_lite as caffe

    net = caffe.Net(model, weights, caffe.TEST)
    if blob not in net.blobs:
        raise NetError(f'{model}: there is no blob "{blob}"{did_you_mean(blob, net.blobs)}')
    source = net.inputs[0]
    values = []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH, np.newaxis].astype(np.float32) * np.float32(SCALE)
        net.blobs[source].reshape(*batch.shape)
        net.reshape()
        net.forward(**{source: batch})
        values.append(net.blobs[blob].data.reshape(len(batch), -1).copy())
    points = np.concatenate(values)
    if points.shape[1] != 2:
        raise NetError(f'{model}: blob "{blob}" has {points.shape[1]} values for each image, expected 2')
    return points


def _read(images_path: str, labels_path: str, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    images, labels = read_images(images_path), read_labels(labels_path)
    if len(images) != len(labels) or not len(images):
        raise DataError(f"{images_path} has {len(images)} images, {labels_path} has {len(labels)} labels")
    return images[:most], labels[:most]
