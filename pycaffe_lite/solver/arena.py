"""The arena: the parameters of a net, their gradients and a solver's history, each in one piece of memory.

So all gradients are cleared at once, and parameters with equal multipliers, which are adjacent, are updated at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby

import numpy as np

from .. import layer_types
from ..blob import MAX_COUNT, Blob
from ..device import MemoryPart, SyncedMemory, current, host_memory
from ..layer import Layer
from ..net.build import Learnable, Param

ALIGNMENT = 256  # in bytes: every parameter starts at a multiple of this


@dataclass
class Group:
    """Adjacent parameters with equal multipliers, as one flat blob, and their history sets as flat blobs."""

    blob: Blob
    history: list[Blob]
    lr_mult: float
    decay_mult: float


class Arena:
    """Moves the parameters of a net into one memory, and makes `history`: for each set, a blob for each parameter.

    Parameters of users' layers are not moved, because such a layer may keep arrays that it made at set-up. Parameters that
    share memory in other ways than by name are not moved either. `outside` has the indices of both.

    A parameter leaves the arena when it is reshaped or made to share other memory. Then `is_whole` is false, and the
    parameters have to be cleared and updated one by one.
    """

    def __init__(self, learnable: Sequence[Learnable], params: Sequence[Param], history_sets: int):
        self._learnable = learnable
        self._multipliers = [multipliers(param) for param in learnable]
        of_users = {param.learnable for param in params if _is_user_code(param.node.layer)}
        self.outside = sorted(of_users | _tied([param.blob for param in learnable]))
        inside = [i for i in range(len(learnable)) if i not in self.outside]
        self._order = sorted(inside, key=lambda i: self._multipliers[i])
        self.dtype = learnable[0].blob.dtype if learnable else np.dtype(np.float32)
        self._starts, self._size = self._layout()
        self._require_memory(params, 2 + history_sets)
        self._data, self._diff = self._memory(), self._memory()
        self._history = [self._memory() for _ in range(history_sets)]
        self._parts = {i: (self._part(self._data, i), self._part(self._diff, i)) for i in inside}
        for i, (data, diff) in self._parts.items():
            self._take_over(i, data, diff, [param.blob for param in params if param.learnable == i])
        self.history = [self._history_of(memory) for memory in self._history]
        self.groups = list(self._groups())

    def _require_memory(self, params: Sequence[Param], sets: int) -> None:
        if params:
            largest = max(params, key=lambda param: param.blob.count)
            purpose = f"parameters, gradients and history, the largest {largest.blob} of {largest.node.where}"
            host_memory.require(self._size * self.dtype.itemsize * sets, purpose)

    def _layout(self) -> tuple[list[int], int]:
        """The start of each parameter, and the total size."""
        starts, end, step = [0] * len(self._learnable), 0, ALIGNMENT // self.dtype.itemsize
        for i in self._order:
            starts[i] = end
            end += -(-self._learnable[i].blob.count // step) * step
        return starts, end

    def _memory(self) -> SyncedMemory:
        return SyncedMemory(self._size, self.dtype)

    def _part(self, memory: SyncedMemory, index: int) -> MemoryPart:
        return MemoryPart(memory, self._starts[index], self._learnable[index].blob.count)

    def _take_over(self, index: int, data: MemoryPart, diff: MemoryPart, sharers: list[Blob]) -> None:
        blob = self._learnable[index].blob
        data.on_host()[:] = blob.data.reshape(-1)
        for user in (blob, *sharers):
            user.use_memory(data, diff)

    def _history_of(self, memory: SyncedMemory) -> list[Blob]:
        blobs = []
        for i, learnable in enumerate(self._learnable):
            blobs.append(Blob(0, dtype=self.dtype))
            if i in self._parts:
                blobs[-1].use_memory(self._part(memory, i), self._part(memory, i))  # a history has no gradient
            blobs[-1].reshape(learnable.blob.shape)
        return blobs

    def _groups(self) -> Iterator[Group]:
        ends = [*(self._starts[i] for i in self._order[1:]), self._size]
        places = list(zip(self._order, ends))
        for (lr_mult, decay_mult), members in groupby(places, lambda place: self._multipliers[place[0]]):
            for start, end in _ranges([(self._starts[index], end) for index, end in members]):
                history = [self._range(memory, memory, start, end) for memory in self._history]
                yield Group(self._range(self._data, self._diff, start, end), history, lr_mult, decay_mult)

    def _range(self, data: SyncedMemory, diff: SyncedMemory, start: int, end: int) -> Blob:
        blob = Blob(0, dtype=self.dtype)
        blob.use_memory(MemoryPart(data, start, end - start), MemoryPart(diff, start, end - start))
        blob.reshape(end - start)
        return blob

    @property
    def is_whole(self) -> bool:
        """Whether every parameter that was moved here still has its memory here, and its multipliers."""
        return all(
            self._learnable[i].blob.uses_memory(*parts) and multipliers(self._learnable[i]) == self._multipliers[i]
            for i, parts in self._parts.items()
        )

    def clear_gradients(self) -> None:
        """Zeroes the gradients of all parameters, including those that have left the arena."""
        if self.is_whole:
            gradients = self._diff.on(current(), read=False)
            gradients[...] = 0
        for i in self.outside if self.is_whole else range(len(self._learnable)):
            self._learnable[i].blob.diff_out[...] = 0


def _tied(blobs: list[Blob]) -> set[int]:
    """The indices of blobs that share memory. (Parameters that share a name are one blob here.)"""
    pairs = combinations(enumerate(blobs), 2)
    tied = {index for (i, a), (j, b) in pairs if a.shares_memory(b) for index in (i, j)}
    return tied | {i for i, blob in enumerate(blobs) if blob.is_borrowing}


def _ranges(parts: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Joins neighbouring parts into ranges that a blob can hold."""
    start, end = parts[0]
    for _, next_end in parts[1:]:
        if next_end - start > MAX_COUNT:
            yield start, end
            start = end
        end = next_end
    yield start, end


def _is_user_code(layer: Layer) -> bool:
    """Whether a layer runs code from outside of this package."""
    return bool(layer.imported_class(layer.param)) or not type(layer).__module__.startswith(f"{layer_types.__name__}.")


def multipliers(learnable: Learnable) -> tuple[float, float]:
    """The factors on the learning rate and on the weight decay; 1 if no layer set one."""
    lr_mult, decay_mult = learnable.lr_mult, learnable.decay_mult
    return 1.0 if lr_mult is None else lr_mult, 1.0 if decay_mult is None else decay_mult
