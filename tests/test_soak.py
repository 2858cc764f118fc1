"""Benchmarks/soak.py for a while: memory, open files and threads of a long run stay what they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pycaffe_lite

SOAK = Path(__file__).parents[1] / "benchmarks" / "soak.py"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("backend", "seconds"),
    [("lmdb", 20), pytest.param("lmdb", 60, marks=pytest.mark.slow), pytest.param("leveldb", 60, marks=pytest.mark.slow)],
)
def test_a_while_is_flat(backend, seconds):
    environment = {**os.environ, "PYTHONPATH": str(Path(pycaffe_lite.__file__).parents[1])}
    command = [sys.executable, str(SOAK), f"--seconds={seconds}", f"--backend={backend}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
