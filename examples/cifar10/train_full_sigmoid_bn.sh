#!/usr/bin/env sh
# Trains the full net with BatchNorm and sigmoids. Flags such as --snapshot=FILE are handed on.
set -e
cd "$(dirname "$0")/../.."

if [ -z "$PYTHON" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi

exec "$PYTHON" -m pycaffe_lite train --solver=examples/cifar10/cifar10_full_sigmoid_solver_bn.prototxt "$@"
