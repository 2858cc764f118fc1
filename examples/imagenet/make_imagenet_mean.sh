#!/usr/bin/env sh
# Computes the mean image of the training database, which the data layers subtract.
set -e
cd "$(dirname "$0")/../.."

if [ -z "$PYTHON" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi

DATA=data/ilsvrc12
EXAMPLE=examples/imagenet

mkdir -p "$DATA"
exec "$PYTHON" -m pycaffe_lite compute_image_mean "$EXAMPLE/ilsvrc12_train_lmdb" "$DATA/imagenet_mean.binaryproto"
