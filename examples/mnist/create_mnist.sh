#!/usr/bin/env sh
# Makes the two databases of MNIST. BACKEND=leveldb makes LevelDB ones; lenet_train_test.prototxt reads LMDB.
set -e
cd "$(dirname "$0")/../.."

if [ -z "$PYTHON" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi

BACKEND=${BACKEND:-lmdb}
DATA=data/mnist
EXAMPLE=examples/mnist

for split in train test; do
  case $split in
    train) files=train ;;
    test) files=t10k ;;
  esac
  rm -rf "$EXAMPLE/mnist_${split}_$BACKEND"
  "$PYTHON" -m pycaffe_lite convert_mnist_data --backend="$BACKEND" \
    "$DATA/$files-images-idx3-ubyte" "$DATA/$files-labels-idx1-ubyte" "$EXAMPLE/mnist_${split}_$BACKEND"
done
