"""Seeded random streams. Each layer, filler and transformer draws from a stream of its own.

Streams are children of one seed, in the order in which they are asked for: the same program with the same seed draws the
same numbers on every run, and no layer's draws depend on how many another one made.
"""

from __future__ import annotations

import threading
from typing import Any

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


def state_of(generator: np.random.Generator) -> dict[str, int]:
    """Where a stream stands, in integers, which JSON can hold."""
    state: Any = generator.bit_generator.state
    return {**state["state"], "has_uint32": state["has_uint32"], "uinteger": state["uinteger"]}


def stream_at(state: dict[str, Any]) -> np.random.Generator:
    """A stream that goes on where `state_of` found one. Raises `ValueError` for anything else."""
    limits = {"state": 2**128, "inc": 2**128, "has_uint32": 2, "uinteger": 2**32}
    if not isinstance(state, dict) or state.keys() != limits.keys():
        raise ValueError(f"the state of a random stream has {', '.join(limits)}")
    if not all(type(state[name]) is int and 0 <= state[name] < limit for name, limit in limits.items()):
        raise ValueError("the state of a random stream is out of range")
    generator = np.random.PCG64()
    inner = {name: state[name] for name in ("state", "inc")}
    rest = {name: state[name] for name in ("has_uint32", "uinteger")}
    generator.state = {"bit_generator": "PCG64", "state": inner, **rest}  # type: ignore[typeddict-item]
    return np.random.Generator(generator)
