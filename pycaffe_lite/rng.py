"""Seeded random streams. Each layer, filler and transformer draws from a stream of its own.

Streams are children of one seed, in the order in which they are asked for: the same program with the same seed draws the
same numbers on every run, and no layer's draws depend on how many another one made.
"""

from __future__ import annotations

import threading

import numpy as np

_lock = threading.Lock()
_root = np.random.SeedSequence()


def set_seed(seed: int) -> None:
    """Restarts all streams from `seed`; a negative one takes entropy from the system, as Caffe's `random_seed: -1`."""
    global _root
    with _lock:
        _root = np.random.SeedSequence(seed if seed >= 0 else None)


def stream() -> np.random.Generator:
    """The next independent stream."""
    with _lock:
        (child,) = _root.spawn(1)
    return np.random.Generator(np.random.PCG64(child))
