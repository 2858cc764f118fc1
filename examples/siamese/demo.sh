#!/usr/bin/env sh
# The whole tutorial in one go, on a short schedule: fetches MNIST, writes the databases of pairs, trains, and draws.
# Run from anywhere; everything lands in data/mnist and examples/siamese.
set -e
cd "$(dirname "$0")/../.."

if [ -z "$PYTHON" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=$PWD/.venv/bin/python; fi
fi
export PYTHON

DATA=data/mnist
EXAMPLE=examples/siamese
caffe() { "$PYTHON" -m pycaffe_lite "$@"; }

echo "== 1. MNIST"
data/mnist/get_mnist.sh --or-synthetic

NOTE=""
if [ -e "$DATA/SYNTHETIC" ]; then NOTE="synthetic digits"; fi

echo "== 2. Pairs of images, in databases"
examples/siamese/create_mnist_siamese.sh

echo "== 3. The nets, drawn"
caffe draw_net $EXAMPLE/mnist_siamese_train_test.prototxt $EXAMPLE/mnist_siamese_train_test.png --rankdir TB --phase TRAIN
caffe draw_net $EXAMPLE/mnist_siamese.prototxt $EXAMPLE/mnist_siamese.png --rankdir TB

echo "== 4. Training"
rm -rf $EXAMPLE/logs
caffe train --solver=$EXAMPLE/mnist_siamese_quick_solver.prototxt --log_dir=$EXAMPLE/logs "$@"

echo "== 5. The losses and the embedding, plotted"
caffe plot_training_log losses $EXAMPLE/losses.png $EXAMPLE/logs/pycaffe_lite.INFO --title "Siamese MNIST" --note "$NOTE"
caffe plot_embedding --model $EXAMPLE/mnist_siamese.prototxt \
  --weights $EXAMPLE/mnist_siamese_quick_iter_5000.caffemodel \
  --images $DATA/t10k-images-idx3-ubyte --labels $DATA/t10k-labels-idx1-ubyte \
  --train-images $DATA/train-images-idx3-ubyte --train-labels $DATA/train-labels-idx1-ubyte \
  --out $EXAMPLE/embedding.png

echo "== Done. Look at $EXAMPLE/mnist_siamese_train_test.png, mnist_siamese.png, losses.png and embedding.png."
echo "   The full schedule: examples/siamese/train_mnist_siamese.sh"
