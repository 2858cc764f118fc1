"""The contract of a layer, and the registry of layer types.

A layer computes its top blobs from its bottom blobs in `forward`, and in `backward` the gradients of its bottoms and of its
own parameters from the gradients of its tops. The net calls `setup` once, and `reshape` before every forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from . import filler, rng
from .blob import Blob
from .errors import NetError
from .proto import forks, prototxt
from .proto.caffe_pb2 import FillerParameter, LayerParameter
from .proto.fields import own_field
from .user_code.registry import Registry

Blobs = Sequence[Blob]
CoordinateMap = tuple[int | None, Any, Any]  # axis, scale and shift: see `coord_map`


class BlobVec(list[Blob]):
    """The parameters of a layer. `dtype` is the net's."""

    dtype = np.dtype(np.float32)

    def add_blob(self, *shape: int) -> None:
        """Appends a parameter of that shape, filled with zeros. Python layers create their parameters with it."""
        self.append(Blob(*shape, dtype=self.dtype))


class WindowSizes(NamedTuple):
    """The sizes of the window that a layer moves over an image. Each has one value for all spatial axes, or one per axis.

    `kernel` is empty if the window is as large as the image. The spatial axes follow `axis`.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...] = (1,)
    pad: tuple[int, ...] = (0,)
    dilation: tuple[int, ...] = (1,)
    axis: int = 1

    def extent(self) -> np.ndarray:
        """How many pixels a kernel spans along each axis, including the gaps that dilation leaves."""
        return (np.array(self.kernel) - 1) * self.dilation + 1

    def coordinate_map(self, transposed: bool = False) -> CoordinateMap | None:
        """Maps points of the image to windows, or if `transposed` windows to points of the image.

        None if the size of the kernel is not known.
        """
        if not self.kernel or 0 in self.kernel:
            return None
        stride, shift = np.array(self.stride), np.array(self.pad) - (self.extent() - 1) / 2
        return (self.axis, stride, -shift) if transposed else (self.axis, 1 / stride, shift / stride)


def sides_text(sides: tuple[int, ...]) -> str:
    """The sizes of a window as text: `3`, or `3x5` if the axes differ."""
    return str(sides[0]) if len(set(sides)) == 1 else "x".join(map(str, sides))


class Layer:
    """Base of all layer types.

    Class attributes give the numbers of bottoms and tops that a type takes; `None` sets no bound. Instances have `param`
    (the LayerParameter), `phase`, `blobs` (the parameters), `dtype` of the net, and `rng`, a random stream of their own.
    `param_str` is the text in `python_param`, for types that have no message in the schema.

    Documentation, NetSpec, tables, pictures, `check` and `coord_map` ask the class what they need to know about a type: its
    attributes from `family` on, and the methods under "what a type says of itself".
    """

    exact_bottoms: int | None = None
    min_bottoms: int | None = None
    max_bottoms: int | None = None
    exact_tops: int | None = None
    min_tops: int | None = None
    max_tops: int | None = None
    equal_bottoms_tops = False
    auto_tops = False  # the net adds unnamed tops up to the number that the type needs
    is_loss = False  # the first top has a loss weight of 1 unless the prototxt says otherwise
    family = ""  # the row of README's table; by default `register` takes the folder in layer_types/
    param_field = ""  # the type's own message in LayerParameter; by default `register` looks for `<Type>Parameter`
    is_input = False  # the caller fills the tops: they are the inputs of the net
    is_result = False  # the tops are final results: no other layer has to read them
    writes_files = False  # `forward` writes a file
    weights_and_bias = False  # `blobs` are weights and optionally a bias
    keeps_coordinates = False  # each point of a top corresponds to the same point of the bottoms
    mapped_bottoms: int | None = None  # `coordinate_map` is for this many bottoms, from the first on; None: for all
    # What the net must know where a top is a bottom: see net/in_place.py.
    can_overwrite = False  # forward and backward are right if a top is a bottom whose values `backward` does not need
    keeps_signs = False  # where forward changes the sign of a value, backward passes no gradient
    reads_only_signs = False  # of the tops, `backward` needs only which values are above 0
    stays_in_place = False  # in place it works on the bottom itself, although `backward` would need the old values
    is_view = False  # the tops use the memory of the bottom
    needs_backward = True  # whether `backward` may run; without it, forward need not keep anything for it
    type = ""  # set on each instance, like `blobs`; pycaffe has both on the class as well
    blobs = BlobVec()

    def __init__(self, param: LayerParameter):
        self.param = param
        self.type = param.type
        self.param_str = param.python_param.param_str
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
        """Overwrites the gradient of each bottom for which `propagate_down` is true; adds to those of the parameters."""
        if any(propagate_down):
            raise NetError("this layer type has no gradient")

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Whether `force_backward` may ask for the gradient of this bottom (labels have none)."""
        return True

    def close(self) -> None:
        """Ends threads and closes files. A closed layer is not used again."""

    # ---- what a type says of itself -----------------------------------------------------------------------------------

    @classmethod
    def own_value(cls, param: LayerParameter, field: str) -> int:
        """A number in the type's own message, such as `num_output` or `batch_size`; 0 if it has no such field."""
        return getattr(getattr(param, cls.param_field), field, 0) if cls.param_field else 0

    @classmethod
    def variant(cls, param: LayerParameter) -> str:
        """Which of its methods the layer uses (such as `MAX` in Pooling), for its label in a picture."""
        return ""

    @classmethod
    def window_of(cls, param: LayerParameter) -> WindowSizes | None:
        """The window that the layer moves over an image."""
        return None

    @classmethod
    def coordinate_map(cls, param: LayerParameter) -> CoordinateMap | None:
        """Maps points of a bottom to points of the tops. None if there is no such map, as in InnerProduct."""
        if cls.keeps_coordinates:
            return None, 1, 0
        window = cls.window_of(param)
        return window.coordinate_map() if window else None

    @classmethod
    def imported_class(cls, param: LayerParameter) -> str:
        """`module.Class` of user code that the layer imports and runs, as Python layers do."""
        return ""

    @classmethod
    def files_for_setup(cls, param: LayerParameter) -> Iterable[tuple[str, str]]:
        """Files without which `setup` fails, so that `check` skips it: the field that names the file, and its path."""
        return ()

    def multiply_adds(self, bottom: Blobs, top: Blobs) -> int:
        """The number of multiply-adds in a forward pass: an input times a weight, added to a sum."""
        return 0

    @property
    def reads_bottoms(self) -> bool:
        """Whether `backward` needs the values of the bottoms as `forward` read them. A type without it sets it to False."""
        return True

    @property
    def reads_tops(self) -> bool:
        """Whether `backward` needs the values of the tops as `forward` wrote them. A type without it sets it to False."""
        return True

    # ---- what an exact resume needs ---------------------------------------------------------------------------------

    def save_state(self) -> dict[str, Any]:
        """What the layer carries from one iteration to the next besides `blobs`: here its random stream, if it has one.

        The dict holds text, numbers, lists and dicts, as JSON does, and arrays of floats. It is empty if there is no state.
        """
        stream = getattr(self, "_rng", None)  # a Python layer may use this name for something else
        if isinstance(stream, np.random.Generator) and isinstance(stream.bit_generator, np.random.PCG64):
            return {"rng": rng.state_of(stream)}
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues from what `save_state` returned, perhaps in another process. `setup` has run already.

        `state` comes from a file. Raise `ValueError`, `TypeError` or `LookupError` if it is damaged.
        """
        if "rng" in state:
            self.rng = rng.stream_at(state["rng"])

    # ---- help for layer types -------------------------------------------------------------------------------------

    @property
    def rng(self) -> np.random.Generator:
        """The random stream of this layer, created when it is first used."""
        if not hasattr(self, "_rng"):
            self._rng = rng.stream()
        return self._rng

    @rng.setter
    def rng(self, value: np.random.Generator) -> None:
        self._rng = value

    def new_blob(self, shape: Sequence[int] = ()) -> Blob:
        return Blob(shape, dtype=self.dtype)

    def fill(self, blob: Blob, param: FillerParameter) -> None:
        """Fills a blob as `param` says. `check` replaces this method, because it needs no values."""
        filler.fill(param, blob, self.rng)

    def add_param(self, shape: Sequence[int], param: FillerParameter) -> Blob:
        """Appends a parameter of that shape, filled as `param` says. It gets a gradient unless the net turns that off."""
        blob = self.new_blob(shape)
        self.fill(blob, param)
        self.blobs.append(blob)
        self.param_propagate_down.append(True)
        return blob

    def check_counts(self, bottoms: int, tops: int) -> None:
        """Raises `NetError` if the type does not take these numbers of bottoms and tops."""
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

OTHER_FAMILY = "your own"  # the family of layer types outside of layer_types/

_REGISTRY: Registry[type[Layer]] = Registry("layer", "pycaffe_lite.layers", NetError, lambda: Layer, forks.of_type)
prototxt.why_no_layer_type = _REGISTRY.problem
L = TypeVar("L", bound=type[Layer])


def register(name: str) -> Callable[[L], L]:
    """Class decorator: registers a layer type under its name in a prototxt."""
    add = _REGISTRY.register(name)

    def add_and_describe(layer: L) -> L:
        add(layer)
        if "family" not in vars(layer):
            layer.family = _family(layer.__module__)
        if "param_field" not in vars(layer):
            layer.param_field = own_field(name) or layer.param_field  # else inherited
        return layer

    return add_and_describe


def _family(module: str) -> str:
    """The folder of layer_types/ that holds a module, else `OTHER_FAMILY`."""
    _, _, inside = module.partition(f"{__package__}.layer_types.")
    return inside.split(".")[0] if "." in inside else OTHER_FAMILY


def class_of(name: str) -> type[Layer]:
    """The class of a layer type; for an unknown type `Layer`, which has the defaults."""
    if name not in _REGISTRY:
        _REGISTRY.load_installed()
    return _REGISTRY.get(name, Layer)


def registered_types(installed: bool = False) -> dict[str, type[Layer]]:
    """All layer types by name, sorted; with `installed`, those of installed packages are loaded first."""
    if installed:
        _REGISTRY.load_installed()
    return dict(sorted(_REGISTRY.items()))


def check_type(name: str) -> None:
    """Raises `NetError` if there is no layer type of that name."""
    _REGISTRY.find(name)


def create(param: LayerParameter) -> Layer:
    """The layer that `param` describes, not yet set up."""
    return _REGISTRY.find(param.type)(param)
