"""The contract of a layer, and the registry of layer types.

A layer computes its top blobs from its bottom blobs in `forward`, and in `backward` the gradients of its bottoms and of its
own parameters from the gradients of its tops. The net calls `setup` once, and `reshape` before every forward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from . import filler, rng
from .blob import Blob
from .errors import NetError, did_you_mean
from .proto.caffe_pb2 import FillerParameter, LayerParameter

Blobs = Sequence[Blob]


class BlobVec(list[Blob]):
    """The parameters of a layer. `dtype` is the net's."""

    dtype = np.dtype(np.float32)

    def add_blob(self, *shape: int) -> None:
        """Appends a parameter of that shape, zeros. It is how Python layers make theirs."""
        self.append(Blob(*shape, dtype=self.dtype))


class Layer:
    """Base of all layer types.

    The numbers of bottoms and tops that a type takes are class attributes; `None` sets no bound. Instances have
    `param` (the LayerParameter), `phase`, `blobs` (the parameters), `dtype` of the net, and `rng`, a random stream of their
    own.
    """

    exact_bottoms: int | None = None
    min_bottoms: int | None = None
    max_bottoms: int | None = None
    exact_tops: int | None = None
    min_tops: int | None = None
    max_tops: int | None = None
    equal_bottoms_tops = False
    auto_tops = False  # the net adds nameless tops up to the number that the type needs
    is_loss = False  # the first top has a loss weight of 1 unless the prototxt says otherwise
    type = ""  # each instance has its own of these two; pycaffe shows them on the class as well
    blobs = BlobVec()

    def __init__(self, param: LayerParameter):
        self.param = param
        self.type = param.type
        self.phase = param.phase
        self.blobs = BlobVec()
        self.dtype = np.dtype(np.float32)
        self.param_propagate_down: list[bool] = []
        self.loss_weights: list[float] = []

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        """Reads the parameters and creates `blobs`. Runs once, before the first `reshape`."""

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """Shapes the tops (and own buffers) for the present shapes of the bottoms."""
        raise NotImplementedError(f"{type(self).__name__} has no reshape")

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """Computes the tops."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """Overwrites the gradient of each bottom that `propagate_down` asks for, adds to those of the parameters."""
        if any(propagate_down):
            raise NetError("this layer type has no gradient")

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Whether `force_backward` may ask for the gradient of this bottom (labels have none)."""
        return True

    def close(self) -> None:
        """Ends threads and closes files. A closed layer is not used again."""

    # ---- what an exact resume needs ---------------------------------------------------------------------------------

    def save_state(self) -> dict[str, Any]:
        """What the layer carries from one iteration to the next besides `blobs`: here its random stream, if it has one.

        Text, numbers, lists and dicts of them, as JSON holds them, and arrays of floats. Empty: it carries nothing.
        """
        stream = getattr(self, "_rng", None)  # a Python layer may use this name for something else
        if isinstance(stream, np.random.Generator) and isinstance(stream.bit_generator, np.random.PCG64):
            return {"rng": rng.state_of(stream)}
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `save_state` returned, perhaps in another process. The layer is set up already.

        `state` comes from a file: a `ValueError`, `TypeError` or `LookupError` says that it is damaged.
        """
        if "rng" in state:
            self.rng = rng.stream_at(state["rng"])

    # ---- help for layer types -------------------------------------------------------------------------------------

    @property
    def rng(self) -> np.random.Generator:
        """The random stream of this layer, made when it is first used."""
        if not hasattr(self, "_rng"):
            self._rng = rng.stream()
        return self._rng

    @rng.setter
    def rng(self, value: np.random.Generator) -> None:
        self._rng = value

    def new_blob(self, shape: Sequence[int] = ()) -> Blob:
        return Blob(shape, dtype=self.dtype)

    def add_param(self, shape: Sequence[int], param: FillerParameter) -> Blob:
        """Appends a parameter of that shape, filled as `param` says. Its gradient is wanted unless the net says no."""
        blob = self.new_blob(shape)
        filler.fill(param, blob, self.rng)
        self.blobs.append(blob)
        self.param_propagate_down.append(True)
        return blob

    def check_counts(self, bottoms: int, tops: int) -> None:
        """Raises where the type does not take so many bottoms or tops."""
        for kind, count in (("bottom", bottoms), ("top", tops)):
            exact, least, most = (getattr(self, f"{bound}_{kind}s") for bound in ("exact", "min", "max"))
            if exact is not None and count != exact:
                raise NetError(f"expected {_blobs(exact, kind)}, received {count}")
            if least is not None and count < least:
                raise NetError(f"expected at least {_blobs(least, kind)}, received {count}")
            if most is not None and count > most:
                raise NetError(f"expected at most {_blobs(most, kind)}, received {count}")
        if self.equal_bottoms_tops and bottoms != tops:
            raise NetError(f"expected as many tops as bottoms, received {bottoms} bottoms and {tops} tops")


def _blobs(count: int, kind: str) -> str:
    return f"{count or 'no'} {kind}{'s' if count != 1 else ''}"


# ---- registry -----------------------------------------------------------------------------------------------------

_REGISTRY: dict[str, type[Layer]] = {}
L = TypeVar("L", bound=type[Layer])


def register(name: str) -> Callable[[L], L]:
    """Class decorator: makes a layer type known under the name that a prototxt uses."""

    def add(layer: L) -> L:
        if name in _REGISTRY:
            raise ValueError(f"layer type {name} is registered twice")
        _REGISTRY[name] = layer
        return layer

    return add


def registered_types() -> dict[str, type[Layer]]:
    """All layer types by name, sorted."""
    return dict(sorted(_REGISTRY.items()))


def create(param: LayerParameter) -> Layer:
    """The layer that `param` describes, not yet set up."""
    if param.type not in _REGISTRY:
        raise NetError(f'unknown layer type "{param.type}"{did_you_mean(param.type, _REGISTRY)}')
    return _REGISTRY[param.type](param)
