#!/usr/bin/env sh
# Trains the quick net: 4000 iterations, then 1000 at a tenth of the rate. Flags are handed on to both.
set -e
cd "$(dirname "$0")/../.."

if [ -z "$PYTHON" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi

EXAMPLE=examples/cifar10

"$PYTHON" -m pycaffe_lite train --solver=$EXAMPLE/cifar10_quick_solver.prototxt "$@"
"$PYTHON" -m pycaffe_lite train --solver=$EXAMPLE/cifar10_quick_solver_lr1.prototxt \
  --snapshot=$EXAMPLE/cifar10_quick_iter_4000.solverstate "$@"
