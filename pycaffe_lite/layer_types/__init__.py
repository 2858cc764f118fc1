"""The layer types, and what they have in common.

Shapes are written as in `N x C x H x W`: number, channels, height, width. If a type says that an axis may be negative, -1 is
the last axis. A layer in a prototxt:

    layer {
      name: "conv1"
      type: "Convolution"
      bottom: "data"
      top: "conv1"
      param { lr_mult: 1 }
      param { lr_mult: 2 decay_mult: 0 }
      convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } }
    }

- `bottom` and `top` name the blobs that it reads and writes. If a top has the name of a bottom, the layer works in place;
  types that save memory in this way say "may be the same blob".
- `loss_weight`: the factor of each top in the net's loss, for all tops or for none. By default it is 1 for the first top of
  a type whose name ends in `Loss`, and 0 for all others.
- `propagate_down`: whether each bottom gets a gradient, for all bottoms or for none. By default a bottom gets a gradient if
  a layer below it learns.
- `phase`: TRAIN or TEST; by default the phase of the net.

A layer that learns has parameters, which its section lists in order. The layer may have one `param` for each of them, in the
same order; the other parameters have the defaults.

`param`: how a parameter is trained and shared.
- `name` (default none): parameters of the same name share memory, values and gradient; the first layer with it is the owner.
- `share_mode` (default STRICT): STRICT requires that shared parameters have the same shape, PERMISSIVE the same count.
- `lr_mult` (default 1): factor on the solver's learning rate; 0 keeps the parameter unchanged.
- `decay_mult` (default 1): factor on the solver's `weight_decay`.

`include`: a rule for the nets that contain the layer; `exclude` is a rule for those that do not. A layer may have several
rules of one of the two kinds, and one rule that is met is enough. A rule is met if all its fields hold.
- `phase` (default any): TRAIN or TEST.
- `min_level` (default any): the net's `level` is at least this.
- `max_level` (default any): the net's `level` is at most this.
- `stage` (default any): the net has all of these stages.
- `not_stage` (default any): the net has none of these.

`FillerParameter`: the first values of a parameter, as in `weight_filler { type: "xavier" }`. With n inputs for each output:
- `type` (default "constant"): constant, uniform, gaussian, xavier (uniform with variance 1 / n), msra (gaussian with
  variance 2 / n), positive_unitball (from 0 to 1, each row sums to 1) or bilinear (upsampling, in a Deconvolution).
- `value` (default 0): the value for constant.
- `min` (default 0): the lower bound for uniform.
- `max` (default 1): the upper bound for uniform.
- `mean` (default 0): the mean for gaussian.
- `std` (default 1): the standard deviation for gaussian.
- `sparse` (default -1): for gaussian, the mean number of weights of an output that are not set to 0; -1 keeps all.
- `variance_norm` (default FAN_IN): the n of xavier and msra: inputs (FAN_IN), outputs (FAN_OUT) or their mean (AVERAGE).

`transform_param`: how Data, ImageData and WindowData change images, in this order: crop, subtract the mean, scale, mirror.
- `scale` (default 1): factor on the values, after the mean is subtracted.
- `mirror` (default false): flips images from left to right with probability 1/2, in TEST too.
- `crop_size` (default 0): side of the square to crop, in pixels, at a random place in TRAIN and in the centre in TEST; 0: no
  crop.
- `mean_file` (default none): a binaryproto with a mean image in the size before the crop. Not with `mean_value`.
- `mean_value` (default none): one value for all channels, or one for each.
- `force_color` (default false): decodes image files in a database to 3 channels.
- `force_gray` (default false): decodes them to 1 channel. Not with `force_color`.

`loss_param`: which labels count in a loss, and its divisor; for SoftmaxWithLoss, SigmoidCrossEntropyLoss and InfogainLoss.
The divisor is at least 1.
- `ignore_label` (default none): predictions with this label have no loss and no gradient.
- `normalization` (default VALID): VALID divides by the number of labels that are not ignored, FULL by the number of all
  labels, BATCH_SIZE by the size of the batch, NONE by 1. In SigmoidCrossEntropyLoss the default is BATCH_SIZE.
- `normalize` (default none): the old form; true is VALID, false is BATCH_SIZE. `normalization` overrides it.

Differences from Caffe, in all types:
- A fault in a net, a label or a file is an error with file, line and layer; Caffe ends the process, or reads outside of a
  blob.
- `engine` is read, noted in the log and ignored: there is one implementation of each layer.
- A layer in place gives the numbers that it gives out of place, forward and backward: where the old values are still needed,
  by itself or by another layer, it gets memory of its own. Caffe does not look, and many pairs of layers, such as TanH
  and then Dropout in place, have a wrong gradient there. Only BNLL in place does what Caffe does.
- Random numbers come from another generator, so a seed gives other numbers than in Caffe.

Inside: one file for each type, named after it (`InnerProduct` is in `learned/inner_product.py`), in a folder for each
family. Importing this package registers all types. Files that begin with `_` are shared bases. `make docs` builds
docs/layers.md from these docstrings, and reports what is missing.
"""

import importlib
import pkgutil

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
