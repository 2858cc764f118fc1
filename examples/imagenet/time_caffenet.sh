#!/usr/bin/env sh
# Measures each layer of CaffeNet, forward and backward, on ten images. Needs no data. --iterations=N: how often.
set -e
cd "$(dirname "$0")/../.."

if [ -z "$PYTHON" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi

exec "$PYTHON" -m pycaffe_lite time --model=examples/models/bvlc_reference_caffenet/deploy.prototxt "$@"
