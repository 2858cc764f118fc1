"""Helpers for the scripts of this folder: images to blobs and back, and solver files written from Python."""

import numpy as np
from caffe.proto import caffe_pb2


class SimpleTransformer:
    """Images as nets of Caffe want them: BGR, less a mean, scaled, channels first."""

    def __init__(self, mean=(128, 128, 128), scale=1.0):
        """mean: of blue, green and red. scale: factor after the mean."""
        self.set_mean(mean)
        self.set_scale(scale)

    def set_mean(self, mean):
        self.mean = np.array(mean, np.float32)

    def set_scale(self, scale):
        self.scale = scale

    def preprocess(self, image):
        """An image H x W x 3, RGB, 0 to 255, as an array 3 x H x W, BGR."""
        return ((np.asarray(image, np.float32)[:, :, ::-1] - self.mean) * self.scale).transpose(2, 0, 1)

    def deprocess(self, array):
        """The image, H x W x 3 of uint8, that `preprocess` made into this array."""
        image = array.transpose(1, 2, 0) / self.scale + self.mean
        return image[:, :, ::-1].round().clip(0, 255).astype(np.uint8)


class CaffeSolver:
    """The fields of a solver as a dict, `sp`, with defaults to begin with; `write` makes the prototxt.

        solver = CaffeSolver("train.prototxt", "test.prototxt")
        solver.sp["base_lr"] = 0.01
        solver.write("solver.prototxt")

    debug: few iterations, with tests and displays in between.
    """

    def __init__(self, trainnet_prototxt_path="trainnet.prototxt", testnet_prototxt_path="testnet.prototxt", debug=False):
        self.sp = {
            "train_net": trainnet_prototxt_path,
            "test_net": [testnet_prototxt_path],
            "test_iter": [100],
            "test_interval": 250,
            "test_initialization": False,
            "base_lr": 0.001,
            "lr_policy": "fixed",
            "momentum": 0.9,
            "weight_decay": 0.0005,
            "display": 25,
            "average_loss": 25,
            "max_iter": 100000,
            "snapshot": 2500,
            "snapshot_prefix": "snapshot",
        }
        if debug:
            self.sp.update(max_iter=12, test_iter=[1], test_interval=4, display=1, average_loss=1)

    def write(self, path):
        """Raises ValueError for a name that is no field, TypeError for a value that does not fit."""
        with open(path, "w") as file:
            file.write(str(caffe_pb2.SolverParameter(**self.sp)))
