"""The layer types: what all of them share.

Shapes are written as in `N x C x H x W`: number, channels, height, width. An axis may be negative where a type says so: -1
is the last one. A layer in a prototxt:

    layer {
      name: "conv1"
      type: "Convolution"
      bottom: "data"
      top: "conv1"
      param { lr_mult: 1 }
      param { lr_mult: 2 decay_mult: 0 }
      convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } }
    }

- `bottom` and `top` name the blobs that it reads and writes. A top with the name of a bottom is computed in place, which
  types allow that say "may be the same blob".
- `loss_weight`: the factor of each top in the net's loss, for all tops or for none. Not given: 1 for the first top of a type
  whose name ends in `Loss`, 0 for all others.
- `propagate_down`: whether the gradient goes on to each bottom, for all bottoms or for none. Not given: where something is
  learned below.
- `phase`: TRAIN or TEST; not given, that of the net.

A layer that learns has parameters, which its section lists in their order. `param` is given once for each, in that order;
those that it is not given for have its defaults.

`param`: how a parameter is trained and shared.
- `name` (default none): parameters of one name share memory, values and gradient; the first layer that has it owns it.
- `share_mode` (default STRICT): STRICT wants shared parameters of one shape, PERMISSIVE of one number of elements.
- `lr_mult` (default 1): factor on the solver's learning rate; 0 keeps the parameter as it is.
- `decay_mult` (default 1): factor on the solver's `weight_decay`.

`include`: rules that say in which nets the layer is; `exclude` says in which it is not. A layer has one of the two at most,
as often as needed, and it takes one rule that holds. A rule holds if all that it names is so.
- `phase` (default any): TRAIN or TEST.
- `min_level` (default any): the net's `level` is at least this.
- `max_level` (default any): the net's `level` is at most this.
- `stage` (default any): the net has all of these stages.
- `not_stage` (default any): the net has none of these.

`FillerParameter`: the first values of a parameter, as in `weight_filler { type: "xavier" }`. With n inputs of an output:
- `type` (default "constant"): constant, uniform, gaussian, xavier (uniform, of variance 1 / n), msra (gaussian, of variance
  2 / n), positive_unitball (from 0 to 1, and each row adds up to 1) or bilinear (upsampling, in a Deconvolution).
- `value` (default 0): of constant.
- `min` (default 0): of uniform.
- `max` (default 1): of uniform.
- `mean` (default 0): of gaussian.
- `std` (default 1): of gaussian.
- `sparse` (default -1): of gaussian, how many weights of an output are not set to 0, on average; -1 is all of them.
- `variance_norm` (default FAN_IN): what n is in xavier and msra: inputs, outputs (FAN_OUT), or their mean (AVERAGE).

`transform_param`: what Data, ImageData and WindowData do to images, in this order: crop, subtract the mean, scale, mirror.
- `scale` (default 1): factor on the values, after the mean was subtracted.
- `mirror` (default false): flips one image in two from left to right, in TEST, too.
- `crop_size` (default 0): side of a square in pixels, cut out at a random place in TRAIN and in the centre in TEST; 0: no
  crop.
- `mean_file` (default none): a binaryproto with a mean image of the size before the crop. Not with `mean_value`.
- `mean_value` (default none): one value for all channels, or one for each.
- `force_color` (default false): image files in a database are decoded to 3 channels.
- `force_gray` (default false): they are decoded to 1 channel. Not with `force_color`.

`loss_param`: which labels a loss counts and what it is divided by; for SoftmaxWithLoss, SigmoidCrossEntropyLoss and
InfogainLoss. The divisor is at least 1.
- `ignore_label` (default none): predictions with this label have neither loss nor gradient.
- `normalization` (default VALID): VALID divides by the number of labels that are not ignored, FULL by that of all labels,
  BATCH_SIZE by the size of the batch, NONE by 1. In SigmoidCrossEntropyLoss the default is BATCH_SIZE.
- `normalize` (default none): the old form. true is VALID, false is BATCH_SIZE; ignored where `normalization` is given.

Differences from Caffe, in all types:
- What is wrong with a net, a label or a file is an error, with the file, line and layer; in Caffe it ends the process, or
  reads outside of a blob.
- `engine` is read, noted in the log and ignored: there is one implementation of each layer.
- Elementwise types that need their input for the gradient keep it when they work in place. Caffe's compute a wrong gradient
  there, or refuse. BNLL alone does what Caffe does.
- Random numbers come from another generator: a seed draws other numbers than in Caffe.

Inside: one file for each type, named after it (`InnerProduct` is in `learned/inner_product.py`), in a folder for each
family. Importing this package registers them all. Files that begin with `_` are shared bases. `make docs` makes
docs/layers.md of these docstrings, and says what is missing.
"""

import importlib
import pkgutil

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
