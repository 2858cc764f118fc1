#!/usr/bin/env sh
# Makes the two databases of CIFAR-10 and the mean image of the training set. BACKEND=leveldb makes LevelDB ones; the
# prototxts read LMDB.
set -e
cd "$(dirname "$0")/../.."

if [ -z "$PYTHON" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi

BACKEND=${BACKEND:-lmdb}
EXAMPLE=examples/cifar10

rm -rf "$EXAMPLE/cifar10_train_$BACKEND" "$EXAMPLE/cifar10_test_$BACKEND"
"$PYTHON" -m pycaffe_lite convert_cifar_data data/cifar10 "$EXAMPLE" "$BACKEND"
"$PYTHON" -m pycaffe_lite compute_image_mean --backend="$BACKEND" \
  "$EXAMPLE/cifar10_train_$BACKEND" "$EXAMPLE/mean.binaryproto"
