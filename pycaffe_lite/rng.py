"""Seeded random streams. Each layer, filler and transformer draws from a stream of its own.

Streams are children of one seed, in the order of request. So a program with the same seed draws the same numbers on every
run, and the draws of one layer do not depend on how many numbers another layer draws.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

_lock = threading.Lock()
_root = np.random.SeedSequence()


def set_seed(seed: int) -> None:
    """Restarts all streams from `seed`; a negative one is replaced by entropy from the system, as in Caffe."""
    global _root
    with _lock:
        _root = np.random.SeedSequence(seed if seed >= 0 else None)


def stream() -> np.random.Generator:
    """The next independent stream."""
    with _lock:
        (child,) = _root.spawn(1)
    return np.random.Generator(np.random.PCG64(child))


def state_of(generator: np.random.Generator) -> dict[str, int]:
    """The position of a stream as integers, which JSON can hold."""
    state: Any = generator.bit_generator.state
    return {**state["state"], "has_uint32": state["has_uint32"], "uinteger": state["uinteger"]}


def stream_at(state: dict[str, Any]) -> np.random.Generator:
    """A stream that continues at the position from `state_of`. Raises `ValueError` for anything else."""
    limits = {"state": 2**128, "inc": 2**128, "has_uint32": 2, "uinteger": 2**32}
    if not isinstance(state, dict) or state.keys() != limits.keys():
        raise ValueError(f"the state of a random stream has {', '.join(limits)}")
    if not all(type(state[name]) is int and 0 <= state[name] < limit for name, limit in limits.items()):
        raise ValueError("the state of a random stream is out of range")
    generator = np.random.PCG64()
    generator_state = {name: state[name] for name in ("state", "inc")}
    buffered = {name: state[name] for name in ("has_uint32", "uinteger")}
    generator.state = {"bit_generator": "PCG64", "state": generator_state, **buffered}  # type: ignore[typeddict-item]
    return np.random.Generator(generator)
