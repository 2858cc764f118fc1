"""A data layer in Python: images of a folder with any number of labels each.

    layer {
      name: "data" type: "Python" top: "data" top: "label"
      python_param {
        module: "shapes_datalayer" layer: "ShapesDataLayer"
        param_str: '{"folder": "shapes", "batch_size": 8, "size": [64, 64], "labels": ["red", "round"]}'
      }
    }

The folder has images and a file labels.txt: on each line the name of an image and the names of its labels, which may be
none. Python finds this module, and tools.py, where PYTHONPATH names their folders. `self.rng`, `save_state` and
`load_state` are of pycaffe_lite: with them a resumed run goes on with the image that would have come next.
"""

import json
from pathlib import Path

import caffe
import numpy as np
from PIL import Image

from tools import SimpleTransformer

DEFAULTS = {"shuffle": True, "mirror": True, "mean": [128, 128, 128]}
NEEDED = ("folder", "batch_size", "size", "labels")


class ShapesDataLayer(caffe.Layer):
    """top[0]: images, N x 3 x H x W, BGR less the mean. top[1]: N x labels, 1 for each label that an image has, else 0.

    param_str, in JSON: folder; batch_size; size, [H, W]; labels, their names in order; shuffle, mirror (true), mean (BGR).
    """

    def setup(self, bottom, top):
        settings = {**DEFAULTS, **json.loads(self.param_str)}
        for name in NEEDED:
            if name not in settings:
                raise ValueError(f'ShapesDataLayer: param_str lacks "{name}"')
        self.settings, self.batch_size = settings, settings["batch_size"]
        self.transformer = SimpleTransformer(settings["mean"])
        self.images = read_labels(Path(settings["folder"]), settings["labels"])
        self.order, self.next = [], 0
        height, width = settings["size"]
        top[0].reshape(self.batch_size, 3, height, width)
        top[1].reshape(self.batch_size, len(settings["labels"]))

    def reshape(self, bottom, top):
        """Nothing: all batches have one shape."""

    def forward(self, bottom, top):
        for i in range(self.batch_size):
            top[0].data[i], top[1].data[i] = self.load(self.take())

    def backward(self, top, propagate_down, bottom):
        """Nothing: there is nothing below to learn."""

    def take(self):
        """The index of the next image. A new round begins behind the last one, in a new order."""
        if self.next == len(self.order):
            count = len(self.images)
            shuffle = self.settings["shuffle"]
            self.order, self.next = (self.rng.permutation(count) if shuffle else np.arange(count)).tolist(), 0
        self.next += 1
        return self.order[self.next - 1]

    def load(self, index):
        path, labels = self.images[index]
        height, width = self.settings["size"]
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((width, height)))
        if self.settings["mirror"] and self.rng.integers(2):
            pixels = pixels[:, ::-1]
        return self.transformer.preprocess(pixels), labels

    def save_state(self):
        return {**super().save_state(), "order": self.order, "next": self.next}

    def load_state(self, state):
        super().load_state(state)
        self.order, self.next = state["order"], state["next"]


def read_labels(folder, names):
    """Paths and vectors of 0 and 1, from labels.txt in the folder."""
    images = []
    for number, line in enumerate((folder / "labels.txt").read_text("utf-8").splitlines(), 1):
        file, *labels = line.split() or [""]
        unknown = [label for label in labels if label not in names]
        if unknown:
            raise ValueError(f'{folder}/labels.txt:{number}: unknown label "{unknown[0]}"; there are {", ".join(names)}')
        if file:
            images.append((folder / file, np.array([name in labels for name in names], np.float32)))
    if not images:
        raise ValueError(f"{folder}/labels.txt names no image")
    return images
