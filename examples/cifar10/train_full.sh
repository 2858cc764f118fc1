#!/usr/bin/env sh
# Trains the full net: 60,000 iterations, then twice 5000, each time at a tenth of the rate. Flags are handed on to all three.
set -e
cd "$(dirname "$0")/../.."

if [ -z "$PYTHON" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi

EXAMPLE=examples/cifar10

"$PYTHON" -m pycaffe_lite train --solver=$EXAMPLE/cifar10_full_solver.prototxt "$@"
"$PYTHON" -m pycaffe_lite train --solver=$EXAMPLE/cifar10_full_solver_lr1.prototxt \
  --snapshot=$EXAMPLE/cifar10_full_iter_60000.solverstate.h5 "$@"
"$PYTHON" -m pycaffe_lite train --solver=$EXAMPLE/cifar10_full_solver_lr2.prototxt \
  --snapshot=$EXAMPLE/cifar10_full_iter_65000.solverstate.h5 "$@"
