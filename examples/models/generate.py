"""Writes the nets of this folder: each `deploy.prototxt`, and `train_val.prototxt` where training is described.

    python examples/models/generate.py            # into the folder of this script
    python examples/models/generate.py FOLDER

Every net is a function that adds layers to a NetSpec, with the layer and blob names of the published models, because a
.caffemodel is loaded by the names of layers. To make a variant of a net, change its function or its tables and run this.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from google.protobuf.message import Message

from pycaffe_lite import NetSpec
from pycaffe_lite import layers as L
from pycaffe_lite import params as P
from pycaffe_lite.net_spec import Top
from pycaffe_lite.proto.caffe_pb2 import TEST, TRAIN, NetParameter

WIDTH = 100  # a message that fits stands on one line
MAX, AVE = P.Pooling.MAX, P.Pooling.AVE

# Weights as usual, biases with twice the rate and without decay: how Caffe's own models are trained.
RATES = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]
NO_BIAS = {"bias_term": False}


def gaussian(std: float, bias: float) -> dict:
    """Rates and fillers of a layer in training."""
    weight = {"type": "gaussian", "std": std}
    return {"param": RATES, "weight_filler": weight, "bias_filler": {"type": "constant", "value": bias}}


def xavier(bias: float) -> dict:
    return {"param": RATES, "weight_filler": {"type": "xavier"}, "bias_filler": {"type": "constant", "value": bias}}


def relu(n: NetSpec, name: str, top: Top) -> Top:
    """A ReLU in place."""
    n[name] = L.ReLU(top, in_place=True)
    return n[name]


# ---- AlexNet and CaffeNet -------------------------------------------------------------------------------------------
# A. Krizhevsky, I. Sutskever, G. Hinton: ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012.


def alexnet(n: NetSpec, training: bool, pool_first: bool = False) -> Top:
    """fc8, the scores of the classes. CaffeNet is AlexNet with pooling before normalization (`pool_first`)."""

    def fill(std: float, bias: float) -> dict:
        return gaussian(std, bias) if training else {}

    def pool_and_norm(i: int, top: Top) -> Top:
        for kind in ("pool", "norm") if pool_first else ("norm", "pool"):
            if kind == "pool":
                top = L.Pooling(top, pool=MAX, kernel_size=3, stride=2)
            else:
                top = L.LRN(top, local_size=5, alpha=1e-4, beta=0.75)
            n[f"{kind}{i}"] = top
        return top

    some = 1 if pool_first else 0.1  # the biases that are not zero
    n.conv1 = L.Convolution(n.data, num_output=96, kernel_size=11, stride=4, **fill(0.01, 0))
    top = pool_and_norm(1, relu(n, "relu1", n.conv1))
    n.conv2 = L.Convolution(top, num_output=256, kernel_size=5, pad=2, group=2, **fill(0.01, some))
    top = pool_and_norm(2, relu(n, "relu2", n.conv2))
    n.conv3 = L.Convolution(top, num_output=384, kernel_size=3, pad=1, **fill(0.01, 0))
    top = relu(n, "relu3", n.conv3)
    n.conv4 = L.Convolution(top, num_output=384, kernel_size=3, pad=1, group=2, **fill(0.01, some))
    top = relu(n, "relu4", n.conv4)
    n.conv5 = L.Convolution(top, num_output=256, kernel_size=3, pad=1, group=2, **fill(0.01, some))
    n.pool5 = L.Pooling(relu(n, "relu5", n.conv5), pool=MAX, kernel_size=3, stride=2)
    top = n.pool5
    for i in (6, 7):
        n[f"fc{i}"] = L.InnerProduct(top, num_output=4096, **fill(0.005, some))
        n[f"drop{i}"] = top = L.Dropout(relu(n, f"relu{i}", n[f"fc{i}"]), dropout_ratio=0.5, in_place=True)
    n.fc8 = L.InnerProduct(top, num_output=1000, **fill(0.01, 0))
    return n.fc8


def caffenet(n: NetSpec, training: bool) -> Top:
    return alexnet(n, training, pool_first=True)


# ---- GoogLeNet ------------------------------------------------------------------------------------------------------
# C. Szegedy et al.: Going Deeper with Convolutions, CVPR 2015.

# Outputs of the 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5 and pool_proj convolutions of each inception module (table 1).
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
SIDE = {"4a": "loss1", "4d": "loss2"}  # modules that carry a classifier of their own in training


def googlenet(n: NetSpec, training: bool) -> Top:
    """loss3/classifier. In training two more classifiers stand on inception modules 4a and 4d."""
    fill = xavier(0.2) if training else {}
    top = conv_relu(n, "conv1/7x7_s2", n.data, 64, kernel_size=7, stride=2, pad=3, **fill)
    n["pool1/3x3_s2"] = L.Pooling(top, pool=MAX, kernel_size=3, stride=2)
    n["pool1/norm1"] = L.LRN(n["pool1/3x3_s2"], local_size=5, alpha=1e-4, beta=0.75)
    top = conv_relu(n, "conv2/3x3_reduce", n["pool1/norm1"], 64, kernel_size=1, **fill)
    top = conv_relu(n, "conv2/3x3", top, 192, kernel_size=3, pad=1, **fill)
    n["conv2/norm2"] = L.LRN(top, local_size=5, alpha=1e-4, beta=0.75)
    n["pool2/3x3_s2"] = top = L.Pooling(n["conv2/norm2"], pool=MAX, kernel_size=3, stride=2)
    for module, outputs in INCEPTION.items():
        top = inception(n, f"inception_{module}", top, outputs, fill)
        if training and module in SIDE:
            side_classifier(n, SIDE[module], top)
        if module in ("3b", "4e"):
            n[f"pool{module[0]}/3x3_s2"] = top = L.Pooling(top, pool=MAX, kernel_size=3, stride=2)
    n["pool5/7x7_s1"] = L.Pooling(top, pool=AVE, kernel_size=7, stride=1)
    n["pool5/drop_7x7_s1"] = L.Dropout(n["pool5/7x7_s1"], dropout_ratio=0.4, in_place=True)
    n["loss3/classifier"] = L.InnerProduct(n["pool5/drop_7x7_s1"], num_output=1000, **(xavier(0) if training else {}))
    return n["loss3/classifier"]


def conv_relu(n: NetSpec, name: str, bottom: Top, num_output: int, **how) -> Top:
    module, kind = name.split("/")
    n[name] = L.Convolution(bottom, num_output=num_output, **how)
    return relu(n, f"{module}/relu_{kind.removesuffix('_s2')}", n[name])


def inception(n: NetSpec, module: str, bottom: Top, outputs: tuple[int, ...], fill: dict) -> Top:
    """Four ways side by side, their channels put one behind the other."""
    one, reduce3, three, reduce5, five, projection = outputs
    ways = [conv_relu(n, f"{module}/1x1", bottom, one, kernel_size=1, **fill)]
    top = conv_relu(n, f"{module}/3x3_reduce", bottom, reduce3, kernel_size=1, **fill)
    ways.append(conv_relu(n, f"{module}/3x3", top, three, kernel_size=3, pad=1, **fill))
    top = conv_relu(n, f"{module}/5x5_reduce", bottom, reduce5, kernel_size=1, **fill)
    ways.append(conv_relu(n, f"{module}/5x5", top, five, kernel_size=5, pad=2, **fill))
    n[f"{module}/pool"] = L.Pooling(bottom, pool=MAX, kernel_size=3, stride=1, pad=1)
    ways.append(conv_relu(n, f"{module}/pool_proj", n[f"{module}/pool"], projection, kernel_size=1, **fill))
    n[f"{module}/output"] = L.Concat(*ways)
    return n[f"{module}/output"]


def side_classifier(n: NetSpec, loss: str, bottom: Top) -> None:
    n[f"{loss}/ave_pool"] = L.Pooling(bottom, pool=AVE, kernel_size=5, stride=3)
    top = conv_relu(n, f"{loss}/conv", n[f"{loss}/ave_pool"], 128, kernel_size=1, **xavier(0.2))
    n[f"{loss}/fc"] = L.InnerProduct(top, num_output=1024, **xavier(0.2))
    n[f"{loss}/drop_fc"] = L.Dropout(relu(n, f"{loss}/relu_fc", n[f"{loss}/fc"]), dropout_ratio=0.7, in_place=True)
    n[f"{loss}/classifier"] = L.InnerProduct(n[f"{loss}/drop_fc"], num_output=1000, **xavier(0))
    accuracies = (f"{loss}/top-1", f"{loss}/top-5")
    scores(n, n[f"{loss}/classifier"], f"{loss}/loss", f"{loss}/loss1", accuracies, weight=0.3)


# ---- SqueezeNet -----------------------------------------------------------------------------------------------------
# F. Iandola et al.: SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size, 2016.


def squeezenet(n: NetSpec, training: bool, version: str) -> Top:
    """pool10, the scores of the classes. 1.1 has smaller filters in conv1 and pools earlier than 1.0."""
    weights = {"weight_filler": {"type": "xavier"}} if training else {}

    def fire(i: int, bottom: Top) -> Top:
        squeeze = 16 * (i // 2)
        n[f"fire{i}/squeeze1x1"] = L.Convolution(bottom, num_output=squeeze, kernel_size=1, **weights)
        top = relu(n, f"fire{i}/relu_squeeze1x1", n[f"fire{i}/squeeze1x1"])
        parts = []
        for size, geometry in (("1x1", {"kernel_size": 1}), ("3x3", {"kernel_size": 3, "pad": 1})):
            n[f"fire{i}/expand{size}"] = L.Convolution(top, num_output=4 * squeeze, **geometry, **weights)
            parts.append(relu(n, f"fire{i}/relu_expand{size}", n[f"fire{i}/expand{size}"]))
        n[f"fire{i}/concat"] = L.Concat(*parts)
        return n[f"fire{i}/concat"]

    filters, size, pools, pad = (96, 7, (4, 8), 1) if version == "1.0" else (64, 3, (3, 5), 0)
    n.conv1 = L.Convolution(n.data, num_output=filters, kernel_size=size, stride=2, **weights)
    n.pool1 = top = L.Pooling(relu(n, "relu_conv1", n.conv1), pool=MAX, kernel_size=3, stride=2)
    for i in range(2, 10):
        top = fire(i, top)
        if i in pools:
            n[f"pool{i}"] = top = L.Pooling(top, pool=MAX, kernel_size=3, stride=2)
    n.drop9 = L.Dropout(top, dropout_ratio=0.5, in_place=True)
    last = {"weight_filler": {"type": "gaussian", "std": 0.01}} if training else {}
    n.conv10 = L.Convolution(n.drop9, num_output=1000, kernel_size=1, **({"pad": pad} if pad else {}), **last)
    n.pool10 = L.Pooling(relu(n, "relu_conv10", n.conv10), pool=AVE, global_pooling=True)
    return n.pool10


# ---- VGG-16 ---------------------------------------------------------------------------------------------------------
# K. Simonyan, A. Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015 (net D).

VGG16 = {1: (64, 64), 2: (128, 128), 3: (256, 256, 256), 4: (512, 512, 512), 5: (512, 512, 512)}


def vgg16(n: NetSpec, training: bool) -> Top:
    top = n.data
    for block, outputs in VGG16.items():
        for i, num_output in enumerate(outputs, 1):
            n[f"conv{block}_{i}"] = L.Convolution(top, num_output=num_output, kernel_size=3, pad=1)
            top = relu(n, f"relu{block}_{i}", n[f"conv{block}_{i}"])
        n[f"pool{block}"] = top = L.Pooling(top, pool=MAX, kernel_size=2, stride=2)
    for i in (6, 7):
        n[f"fc{i}"] = L.InnerProduct(top, num_output=4096)
        n[f"drop{i}"] = top = L.Dropout(relu(n, f"relu{i}", n[f"fc{i}"]), dropout_ratio=0.5, in_place=True)
    n.fc8 = L.InnerProduct(top, num_output=1000)
    return n.fc8


# ---- ResNet-50 ------------------------------------------------------------------------------------------------------
# K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016.

RESNET50 = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}  # stages and their blocks


def resnet50(n: NetSpec, training: bool) -> Top:
    """fc1000. The statistics of BatchNorm are those of the trained model, whatever the phase."""

    def normalized(name: str, suffix: str) -> Top:
        n[f"bn{suffix}"] = L.BatchNorm(n[name], use_global_stats=True, in_place=True)
        n[f"scale{suffix}"] = L.Scale(n[f"bn{suffix}"], bias_term=True, in_place=True)
        return n[f"scale{suffix}"]

    def conv(branch: str, bottom: Top, num_output: int, **geometry: int) -> Top:
        n[f"res{branch}"] = L.Convolution(bottom, num_output=num_output, **geometry, **NO_BIAS)
        return normalized(f"res{branch}", branch)

    def block(name: str, bottom: Top, width: int, stride: int) -> Top:
        """1x1, 3x3, 1x1, and the input added; where the shape changes, the input goes through a 1x1 too."""
        first = name.endswith("a")
        short = conv(f"{name}_branch1", bottom, 4 * width, kernel_size=1, stride=stride) if first else bottom
        top = conv(f"{name}_branch2a", bottom, width, kernel_size=1, stride=stride)
        top = relu(n, f"res{name}_branch2a_relu", top)
        top = conv(f"{name}_branch2b", top, width, kernel_size=3, pad=1)
        top = relu(n, f"res{name}_branch2b_relu", top)
        top = conv(f"{name}_branch2c", top, 4 * width, kernel_size=1)
        n[f"res{name}"] = L.Eltwise(short, top)
        return relu(n, f"res{name}_relu", n[f"res{name}"])

    n.conv1 = L.Convolution(n.data, num_output=64, kernel_size=7, stride=2, pad=3, **NO_BIAS)
    top = relu(n, "conv1_relu", normalized("conv1", "_conv1"))
    n.pool1 = top = L.Pooling(top, pool=MAX, kernel_size=3, stride=2)
    for stage, blocks in RESNET50.items():
        for i, letter in enumerate(blocks):
            top = block(f"{stage}{letter}", top, 64 * 2 ** (stage - 2), stride=2 if stage > 2 and i == 0 else 1)
    n.pool5 = L.Pooling(top, pool=AVE, kernel_size=7, stride=1)
    n.fc1000 = L.InnerProduct(n.pool5, num_output=1000)
    return n.fc1000


# ---- MobileNet ------------------------------------------------------------------------------------------------------
# A. Howard et al.: MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, 2017.

# Outputs and stride of each pair of a depthwise 3x3 (dw) and a 1x1 convolution (sep).
MOBILENET = {
    "2_1": (64, 1),
    "2_2": (128, 2),
    "3_1": (128, 1),
    "3_2": (256, 2),
    "4_1": (256, 1),
    "4_2": (512, 2),
    **{f"5_{i}": (512, 1) for i in range(1, 6)},
    "5_6": (1024, 2),
    "6": (1024, 1),
}


def mobilenet(n: NetSpec, training: bool) -> Top:
    """fc7, a convolution of 1x1 on one pixel."""

    def conv(name: str, bottom: Top, num_output: int, **geometry: int) -> Top:
        n[name] = L.Convolution(bottom, num_output=num_output, **geometry, **NO_BIAS)
        n[f"{name}/bn"] = L.BatchNorm(n[name], use_global_stats=True)
        n[f"{name}/scale"] = L.Scale(n[f"{name}/bn"], bias_term=True, in_place=True)
        return relu(n, f"relu{name.removeprefix('conv')}", n[f"{name}/scale"])

    top, channels = conv("conv1", n.data, 32, kernel_size=3, stride=2, pad=1), 32
    for name, (num_output, stride) in MOBILENET.items():
        top = conv(f"conv{name}/dw", top, channels, kernel_size=3, stride=stride, pad=1, group=channels)
        top = conv(f"conv{name}/sep", top, num_output, kernel_size=1)
        channels = num_output
    n.pool6 = L.Pooling(top, pool=AVE, global_pooling=True)
    n.fc7 = L.Convolution(n.pool6, num_output=1000, kernel_size=1)
    return n.fc7


# ---- the ends of a net ----------------------------------------------------------------------------------------------


def deploy(name: str, body, shape: tuple[int, ...]) -> NetParameter:
    """The net in use: images in, `prob` out."""
    n = NetSpec()
    n.data = L.Input(shape={"dim": shape})
    n.prob = L.Softmax(body(n, training=False))
    return named(name, n.to_proto())


def train_val(name: str, body, crop: int, batches: tuple[int, int], mean: dict, end) -> NetParameter:
    """The net in training and in tests, on the databases that examples/imagenet makes."""

    def data(phase: int) -> NetSpec:
        n, training = NetSpec(), phase == TRAIN
        source = f"examples/imagenet/ilsvrc12_{'train' if training else 'val'}_lmdb"
        n.data, n.label = L.Data(
            ntop=2,
            include={"phase": phase},
            transform_param={"mirror": training, "crop_size": crop, **mean},
            data_param={"source": source, "batch_size": batches[not training], "backend": P.Data.LMDB},
        )
        return n

    n = data(TRAIN)
    end(n, body(n, training=True))
    net = n.to_proto()
    net.layer.insert(1, data(TEST).to_proto().layer[0])
    return named(name, net)


def scores(n: NetSpec, top: Top, layer: str, loss: str, accuracies: tuple[str, ...], weight: float | None = None) -> None:
    """The loss of a classifier, and in tests its accuracies: that of the best class, then that of the best five."""
    weights = {} if weight is None else {"loss_weight": weight}
    n[loss] = L.SoftmaxWithLoss(top, n.label, name=layer, **weights)
    for name, best in zip(accuracies, ({}, {"top_k": 5}), strict=False):
        n[name] = L.Accuracy(top, n.label, include={"phase": TEST}, **best)


def named(name: str, net: NetParameter) -> NetParameter:
    net.name = name
    return net


# ---- text -----------------------------------------------------------------------------------------------------------


def lines(message: Message) -> list[str]:
    """A message as prototxt: its plain fields on one line, then its messages, each on one line if that is short."""
    plain, nested = [], []
    for field, value in message.ListFields():
        for item in value if hasattr(value, "extend") else [value]:
            if field.message_type:
                nested += block(field.name, lines(item))
            else:
                plain.append(f"{field.name}: {literal(field, item)}")
    return [" ".join(plain)] * bool(plain) + nested


def block(name: str, content: list[str]) -> list[str]:
    line = f"{name} {{ {' '.join(content)} }}"
    return [line] if len(line) <= WIDTH else [f"{name} {{", *(f"  {part}" for part in content), "}"]


def literal(field, value) -> str:
    if field.enum_type:
        return field.enum_type.values_by_number[value].name
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


# ---- the files ------------------------------------------------------------------------------------------------------

IMAGE_MEAN = {"mean_file": "data/ilsvrc12/imagenet_mean.binaryproto"}
PIXEL_MEAN = {"mean_value": [104, 117, 123]}


def one_loss(n: NetSpec, top: Top) -> None:
    scores(n, top, "loss", "loss", ("accuracy",))


def googlenet_loss(n: NetSpec, top: Top) -> None:
    scores(n, top, "loss3/loss3", "loss3/loss3", ("loss3/top-1", "loss3/top-5"), 1)


def squeezenet_loss(n: NetSpec, top: Top) -> None:
    scores(n, top, "loss", "loss", ("accuracy", "accuracy_top5"))


def squeezenet10(n: NetSpec, training: bool) -> Top:
    return squeezenet(n, training, "1.0")


def squeezenet11(n: NetSpec, training: bool) -> Top:
    return squeezenet(n, training, "1.1")


def files() -> dict[str, NetParameter]:
    """All nets by the path of their file."""
    return {
        "bvlc_alexnet/deploy": deploy("AlexNet", alexnet, (10, 3, 227, 227)),
        "bvlc_alexnet/train_val": train_val("AlexNet", alexnet, 227, (256, 50), IMAGE_MEAN, one_loss),
        "bvlc_reference_caffenet/deploy": deploy("CaffeNet", caffenet, (10, 3, 227, 227)),
        "bvlc_reference_caffenet/train_val": train_val("CaffeNet", caffenet, 227, (256, 50), IMAGE_MEAN, one_loss),
        "bvlc_googlenet/deploy": deploy("GoogleNet", googlenet, (10, 3, 224, 224)),
        "bvlc_googlenet/train_val": train_val("GoogleNet", googlenet, 224, (32, 50), PIXEL_MEAN, googlenet_loss),
        "squeezenet_v1.0/deploy": deploy("SqueezeNet_v1.0", squeezenet10, (10, 3, 227, 227)),
        "squeezenet_v1.1/deploy": deploy("SqueezeNet_v1.1", squeezenet11, (10, 3, 227, 227)),
        "squeezenet_v1.1/train_val": train_val("SqueezeNet_v1.1", squeezenet11, 227, (32, 25), PIXEL_MEAN, squeezenet_loss),
        "vgg16/deploy": deploy("VGG_ILSVRC_16_layers", vgg16, (10, 3, 224, 224)),
        "resnet50/deploy": deploy("ResNet-50", resnet50, (1, 3, 224, 224)),
        "mobilenet_v1/deploy": deploy("MOBILENET", mobilenet, (1, 3, 224, 224)),
    }


def main(folder: Path) -> None:
    for path, net in files().items():
        file = folder / f"{path}.prototxt"
        file.parent.mkdir(parents=True, exist_ok=True)
        header = "# Made by examples/models/generate.py; its readme.md says more."
        file.write_text("\n".join([header, *lines(net), ""]))
        print(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
