#!/usr/bin/env sh
# Makes the two databases of image pairs. Where LevelDB cannot be written they are LMDB, under the same names: what
# reads them looks at the files and not at the name.
set -e
cd "$(dirname "$0")/../.."

if [ -z "$PYTHON" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi

DATA=data/mnist
EXAMPLE=examples/siamese

for split in train test; do
  case $split in
    train) files=train ;;
    test) files=t10k ;;
  esac
  rm -rf "$EXAMPLE/mnist_siamese_${split}_leveldb"
  "$PYTHON" -m pycaffe_lite convert_mnist_siamese_data \
    "$DATA/$files-images-idx3-ubyte" "$DATA/$files-labels-idx1-ubyte" \
    "$EXAMPLE/mnist_siamese_${split}_leveldb" "$@"
done
