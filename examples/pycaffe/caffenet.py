"""CaffeNet written with NetSpec.

    pycaffe_lite run caffenet.py TRAIN_DATABASE TEST_DATABASE

writes train.prototxt and test.prototxt into the current folder.
"""

import sys

from caffe import layers as L
from caffe import params as P
from caffe import to_proto


def conv_relu(bottom, size, outputs, **geometry):
    conv = L.Convolution(bottom, kernel_size=size, num_output=outputs, weight_filler={"type": "xavier"}, **geometry)
    return L.ReLU(conv, in_place=True)


def fc_relu_drop(bottom, outputs):
    fc = L.InnerProduct(bottom, num_output=outputs, weight_filler={"type": "xavier"})
    return L.Dropout(L.ReLU(fc, in_place=True), in_place=True)


def max_pool(bottom):
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=3, stride=2)


def norm(bottom):
    return L.LRN(bottom, local_size=5, alpha=1e-4, beta=0.75)


def caffenet(lmdb, batch_size=256, include_acc=False):
    """The net on a database of images of at least 227 x 227 pixels; include_acc: with a layer for the accuracy."""
    transform = {"crop_size": 227, "mean_value": [104, 117, 123], "mirror": not include_acc}
    data, label = L.Data(source=lmdb, backend=P.Data.LMDB, batch_size=batch_size, ntop=2, transform_param=transform)
    top = norm(max_pool(conv_relu(data, 11, 96, stride=4)))
    top = norm(max_pool(conv_relu(top, 5, 256, pad=2, group=2)))
    top = conv_relu(top, 3, 384, pad=1)
    top = conv_relu(top, 3, 384, pad=1, group=2)
    top = max_pool(conv_relu(top, 3, 256, pad=1, group=2))
    top = fc_relu_drop(fc_relu_drop(top, 4096), 4096)
    scores = L.InnerProduct(top, num_output=1000, weight_filler={"type": "xavier"})
    ends = [L.SoftmaxWithLoss(scores, label)]
    if include_acc:
        ends.append(L.Accuracy(scores, label))
    return to_proto(*ends)


def main(train="examples/imagenet/ilsvrc12_train_lmdb", test="examples/imagenet/ilsvrc12_val_lmdb"):
    for path, net in (
        ("train.prototxt", caffenet(train)),
        ("test.prototxt", caffenet(test, batch_size=50, include_acc=True)),
    ):
        with open(path, "w") as file:
            file.write(str(net))


if __name__ == "__main__":
    main(*sys.argv[1:])
