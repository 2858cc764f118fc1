#!/usr/bin/env sh
# Goes on with the newest snapshot of CaffeNet; with --snapshot=FILE, with that one.
set -e
cd "$(dirname "$0")/../.."

if [ -z "$PYTHON" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi

exec "$PYTHON" -m pycaffe_lite train --solver=examples/models/bvlc_reference_caffenet/solver.prototxt \
  --snapshot=latest "$@"
