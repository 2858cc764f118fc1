#!/usr/bin/env sh
# Fetches CIFAR-10 into this folder. Takes the flags of `pycaffe_lite get_cifar10`, such as --from and --or-synthetic.
set -e
ROOT=$(cd "$(dirname "$0")/../.." && pwd)

if [ -z "$PYTHON" ]; then
  PYTHON=python3
  if [ -x "$ROOT/.venv/bin/python" ]; then PYTHON=$ROOT/.venv/bin/python; fi
fi

exec "$PYTHON" -m pycaffe_lite get_cifar10 --to "$ROOT/data/cifar10" "$@"
