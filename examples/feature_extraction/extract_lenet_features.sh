#!/usr/bin/env sh
# Writes what LeNet makes of the first 1000 test images of MNIST to a database: 500 numbers for each image. The weights are
# those of examples/mnist/train_lenet.sh, or the file that is given.
set -e
cd "$(dirname "$0")/../.."

if [ -z "$PYTHON" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi

WEIGHTS=${1:-examples/mnist/lenet_iter_10000.caffemodel}

mkdir -p examples/_temp
rm -rf examples/_temp/lenet_features
"$PYTHON" -m pycaffe_lite extract_features "$WEIGHTS" examples/feature_extraction/lenet_val.prototxt \
  ip1 examples/_temp/lenet_features 10 lmdb
