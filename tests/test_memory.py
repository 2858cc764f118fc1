"""Memory on two sides: when SyncedMemory copies, what a Blob promises, and layers on a device that is not the host."""

from __future__ import annotations

import operator
import threading

import numpy as np
import pytest
from google.protobuf import text_format

from pycaffe_lite.blob import MAX_AXES, Blob
from pycaffe_lite.device import HOST, Head, SyncedMemory, aligned_zeros, array_module, current, kernel, prange, use
from pycaffe_lite.errors import DeviceError, NetError
from pycaffe_lite.net import Net
from pycaffe_lite.proto.caffe_pb2 import TRAIN, NetParameter

from .cases import CASES, Case
from .layer_harness import Rig, parse_layer

# ---- a device of our own ------------------------------------------------------------------------------------------


class FakeArray:
    """An array on the fake device. Like CuPy's it refuses to become, or to meet, an array of the host."""

    __array_ufunc__ = None  # host + device is an error, too

    def __init__(self, values: np.ndarray):
        self.values = values

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit copy from the device")

    def __getattr__(self, name: str):
        found = getattr(self.values, name)
        return on_device(found) if callable(found) else wrap(found)

    def __getitem__(self, key):
        return wrap(self.values[unwrap(key)])

    def __setitem__(self, key, value):
        self.values[unwrap(key)] = unwrap(value)

    # as CuPy's, these three copy one element to the host

    def __bool__(self):
        return bool(self.values)

    def __float__(self):
        return float(self.values)

    def __int__(self):
        return int(self.values)

    def __len__(self):
        return len(self.values)


def wrap(result):
    if isinstance(result, tuple):
        return tuple(map(wrap, result))
    return FakeArray(np.asarray(result)) if isinstance(result, (np.ndarray, np.generic)) else result


def unwrap(value):
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("an array of the host in an operation of the device")
    if isinstance(value, (tuple, list)):
        return type(value)(map(unwrap, value))
    return value.values if isinstance(value, FakeArray) else value


def on_device(function):
    def call(*args, **kwargs):
        return wrap(function(*map(unwrap, args), **{name: unwrap(value) for name, value in kwargs.items()}))

    return call


def in_place(function):
    def call(self, other):
        function(self.values, unwrap(other))
        return self

    return call


for _name in (
    "add",
    "sub",
    "mul",
    "truediv",
    "pow",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
    "neg",
    "and",
    "or",
    "abs",
    "invert",
):
    setattr(FakeArray, f"__{_name}__", on_device(getattr(operator, f"__{_name}__")))


def reflected(function):
    return on_device(lambda a, b: function(b, a))


ARITHMETIC = {name: getattr(operator, name) for name in ("add", "sub", "mul", "truediv")}
OTHERS = {name: getattr(operator, name) for name in ("pow", "neg", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne")}
for _name, _function in (ARITHMETIC | OTHERS | {"and": operator.and_, "or": operator.or_}).items():
    setattr(FakeArray, f"__{_name}__", on_device(_function))
for _name, _function in ARITHMETIC.items():
    setattr(FakeArray, f"__i{_name}__", in_place(getattr(operator, f"i{_name}")))
    setattr(FakeArray, f"__r{_name}__", reflected(_function))


class FakeModule:
    """NumPy's functions for FakeArrays."""

    def __getattr__(self, name: str):
        found = getattr(np, name)
        return on_device(found) if callable(found) and not isinstance(found, type) else found


class FakeDevice:
    name = "fake"
    xp = FakeModule()

    def __init__(self):
        self.uploads = self.downloads = self.allocations = 0

    def zeros(self, size, dtype):
        self.allocations += 1
        return FakeArray(np.zeros(size, dtype))

    def upload(self, source, target):
        assert isinstance(source, np.ndarray)
        assert isinstance(target, FakeArray)
        self.uploads += 1
        target.values[...] = source

    def download(self, source, target):
        assert isinstance(source, FakeArray)
        assert isinstance(target, np.ndarray)
        self.downloads += 1
        target[...] = source.values

    @property
    def copies(self) -> tuple[int, int]:
        return self.uploads, self.downloads


@pytest.fixture
def device():
    """A fake device, current for the time of the test."""
    made = FakeDevice()
    use(made)
    yield made
    use(HOST)


# ---- SyncedMemory -------------------------------------------------------------------------------------------------


def memory_in(head: Head, device: FakeDevice) -> SyncedMemory:
    """Memory with that head, and 1 in every element unless it is uninitialized; the stale side has zeros."""
    memory = SyncedMemory(3)
    if head is Head.AT_DEVICE:
        memory.on_host()
        memory.on(device)[...] = 1
    elif head is not Head.UNINITIALIZED:
        memory.on(device)
        memory.on_host()[...] = 1
        if head is Head.SYNCED:
            memory.on(device, write=False)
    assert memory.head is head
    device.uploads = device.downloads = 0
    return memory


READ, WRITE, BOTH = {"write": False}, {"read": False}, {}


@pytest.mark.parametrize(
    ("start", "access", "end", "copies"),
    [
        (Head.UNINITIALIZED, READ, Head.AT_HOST, (0, 0)),
        (Head.UNINITIALIZED, WRITE, Head.AT_HOST, (0, 0)),
        (Head.UNINITIALIZED, BOTH, Head.AT_HOST, (0, 0)),
        (Head.AT_HOST, READ, Head.AT_HOST, (0, 0)),
        (Head.AT_HOST, WRITE, Head.AT_HOST, (0, 0)),
        (Head.AT_HOST, BOTH, Head.AT_HOST, (0, 0)),
        (Head.AT_DEVICE, READ, Head.SYNCED, (0, 1)),
        (Head.AT_DEVICE, WRITE, Head.AT_HOST, (0, 0)),
        (Head.AT_DEVICE, BOTH, Head.AT_HOST, (0, 1)),
        (Head.SYNCED, READ, Head.SYNCED, (0, 0)),
        (Head.SYNCED, WRITE, Head.AT_HOST, (0, 0)),
        (Head.SYNCED, BOTH, Head.AT_HOST, (0, 0)),
    ],
)
def test_access_on_the_host(start, access, end, copies):
    device = FakeDevice()
    memory = memory_in(start, device)
    array = memory.on_host(**access)
    assert isinstance(array, np.ndarray)
    assert (memory.head, device.copies) == (end, copies)
    if access is not WRITE:
        np.testing.assert_array_equal(array, 0 if start is Head.UNINITIALIZED else 1)


@pytest.mark.parametrize(
    ("start", "access", "end", "copies"),
    [
        (Head.UNINITIALIZED, READ, Head.AT_DEVICE, (0, 0)),
        (Head.UNINITIALIZED, WRITE, Head.AT_DEVICE, (0, 0)),
        (Head.UNINITIALIZED, BOTH, Head.AT_DEVICE, (0, 0)),
        (Head.AT_HOST, READ, Head.SYNCED, (1, 0)),
        (Head.AT_HOST, WRITE, Head.AT_DEVICE, (0, 0)),
        (Head.AT_HOST, BOTH, Head.AT_DEVICE, (1, 0)),
        (Head.AT_DEVICE, READ, Head.AT_DEVICE, (0, 0)),
        (Head.AT_DEVICE, WRITE, Head.AT_DEVICE, (0, 0)),
        (Head.AT_DEVICE, BOTH, Head.AT_DEVICE, (0, 0)),
        (Head.SYNCED, READ, Head.SYNCED, (0, 0)),
        (Head.SYNCED, WRITE, Head.AT_DEVICE, (0, 0)),
        (Head.SYNCED, BOTH, Head.AT_DEVICE, (0, 0)),
    ],
)
def test_access_on_the_device(start, access, end, copies):
    device = FakeDevice()
    memory = memory_in(start, device)
    array = memory.on(device, **access)
    assert isinstance(array, FakeArray)
    assert (memory.head, device.copies) == (end, copies)
    if access is not WRITE:
        np.testing.assert_array_equal(array.values, 0 if start is Head.UNINITIALIZED else 1)


def test_each_side_is_allocated_once_and_only_when_asked_for():
    device, memory = FakeDevice(), SyncedMemory(3)
    on_host = memory.on_host()
    assert device.allocations == 0
    on_device = memory.on(device)
    assert memory.on(device) is on_device
    assert memory.on_host() is on_host
    assert device.allocations == 1


def test_asking_for_the_host_as_a_device():
    memory = SyncedMemory(2)
    assert memory.on(HOST) is memory.on_host()
    assert memory.head is Head.AT_HOST


@pytest.mark.parametrize("access", [READ, BOTH])
def test_memory_moves_from_one_device_to_another(access):
    first, second = FakeDevice(), FakeDevice()
    memory = memory_in(Head.AT_DEVICE, first)
    np.testing.assert_array_equal(memory.on(second, **access).values, 1)
    assert (first.copies, second.copies) == ((0, 1), (1, 0))
    assert memory.head is (Head.SYNCED if access is READ else Head.AT_DEVICE)
    memory.on(second)[...] = 2
    np.testing.assert_array_equal(memory.on(first).values, 2)


@pytest.mark.parametrize("start", list(Head))
def test_write_only_access_on_another_device_copies_nothing(start):
    first, second = FakeDevice(), FakeDevice()
    memory = memory_in(start, first)
    memory.on(second, read=False)[...] = 5
    assert (first.copies, second.copies) == ((0, 0), (0, 0))
    np.testing.assert_array_equal(memory.on_host(), 5)


def test_a_device_without_room_leaves_the_memory_as_it_was():
    class Full(FakeDevice):
        def zeros(self, size, dtype):
            raise MemoryError

    memory = memory_in(Head.AT_DEVICE, FakeDevice())
    with pytest.raises(MemoryError):
        memory.on(Full())
    np.testing.assert_array_equal(memory.on_host(), 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 1000])
def test_aligned_zeros(size, dtype):
    array = aligned_zeros(size, dtype)
    assert (array.shape, array.dtype) == ((size,), dtype)
    assert size == 0 or array.ctypes.data % 64 == 0
    assert not array.any()
    array[...] = 1


# ---- which device is current --------------------------------------------------------------------------------------


def test_the_current_device_belongs_to_the_thread(device):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(current()))
    thread.start()
    thread.join()
    assert seen == [HOST]
    assert current() is device
    assert array_module(FakeArray(np.zeros(1))) is device.xp
    assert array_module(np.zeros(1)) is np


# ---- Blob ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["data", "diff"])
def test_blob_access_says_what_it_will_do(kind, device):
    blob = Blob(2, 3)
    getattr(blob, kind)[...] = 4
    assert getattr(blob, f"{kind}_in").shape == (2, 3)
    np.testing.assert_array_equal(getattr(blob, kind), 4)
    assert device.copies == (1, 0)
    getattr(blob, f"{kind}_out")[...] = 5
    np.testing.assert_array_equal(getattr(blob, kind), 5)
    assert device.copies == (1, 1)
    getattr(blob, f"{kind}_inout")[0] += 1
    np.testing.assert_array_equal(getattr(blob, kind), [[6] * 3, [5] * 3])
    assert device.copies == (2, 2)
    getattr(blob, kind)[...] = 0
    getattr(blob, f"{kind}_out")
    assert device.copies == (2, 2)


def test_data_and_diff_are_apart(device):
    blob = Blob(2)
    blob.data_out[...] = 1
    blob.diff[...] = 2
    np.testing.assert_array_equal(blob.data, 1)
    np.testing.assert_array_equal(blob.diff, 2)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (2, 0, 3), (1,) * MAX_AXES])
def test_every_view_has_the_blobs_shape(shape):
    blob = Blob(shape, dtype=np.float64)
    for name in ("data", "diff"):
        for view in (name, f"{name}_in", f"{name}_out", f"{name}_inout"):
            array = getattr(blob, view)
            assert (array.shape, array.dtype) == (shape, np.float64)
            assert array.flags.c_contiguous
    assert (blob.shape, blob.count, blob.num_axes) == (shape, int(np.prod(shape)), len(shape))


def test_shapes_are_given_as_numbers_or_as_one_sequence():
    for blob in (Blob(2, 3), Blob((2, 3)), Blob([2, 3]), Blob(np.array([2, 3])), Blob(np.int64(2), 3)):
        assert blob.shape == (2, 3)
        assert all(type(dim) is int for dim in blob.shape)
    assert Blob(4).shape == (4,)
    assert Blob().shape == Blob(()).shape == ()
    assert Blob().data.dtype == np.float32


def test_views_alias_the_memory_also_after_a_reshape_that_fits():
    blob = Blob(2, 3)
    before, gradient = blob.data, blob.diff
    before[...] = np.arange(6).reshape(2, 3)
    blob.reshape(3, 2)
    np.testing.assert_array_equal(blob.data, [[0, 1], [2, 3], [4, 5]])
    blob.reshape(4)
    np.testing.assert_array_equal(blob.data, [0, 1, 2, 3])
    blob.data[0] = 9
    blob.diff[1] = 8
    assert before[0, 0] == 9
    assert gradient[0, 1] == 8
    blob.reshape(0)
    blob.reshape(6)
    np.testing.assert_array_equal(blob.data, [9, 1, 2, 3, 4, 5])


def test_a_reshape_that_does_not_fit_gets_new_zeros():
    blob = Blob(2)
    before = blob.data
    before[...] = 1
    blob.diff[...] = 1
    blob.reshape(3)
    assert not np.shares_memory(before, blob.data)
    np.testing.assert_array_equal(blob.data, 0)
    np.testing.assert_array_equal(blob.diff, 0)


def test_reshape_like():
    blob = Blob(2)
    blob.reshape_like(Blob(3, 4))
    assert blob.shape == (3, 4)


def test_a_smaller_reshape_keeps_the_values_on_the_device(device):
    blob = Blob(2, 3)
    blob.data_out[...] = 3
    blob.reshape(2, 2)
    assert blob.data_in.shape == (2, 2)
    assert device.copies == (0, 0)
    np.testing.assert_array_equal(blob.data, 3)


def test_shared_memory_is_one_memory_in_two_shapes(device):
    owner, sharer = Blob(2, 3), Blob(6)
    sharer.share_data(owner)
    owner.data[...] = 1
    sharer.data_inout[5] = 7
    assert owner.data[1, 2] == 7
    assert owner.data_in.values.base is sharer.data_in.values.base
    sharer.diff[...] = 2
    assert not owner.diff.any()
    sharer.share_diff(owner)
    sharer.diff[0] = 3
    assert owner.diff[0, 0] == 3


def test_a_sharer_that_grows_leaves_the_owner_alone():
    owner, sharer = Blob(2), Blob(2)
    sharer.share_data(owner)
    owner.data[...] = 1
    sharer.reshape(3)
    sharer.data[...] = 2
    np.testing.assert_array_equal(owner.data, [1, 1])


def test_memory_of_another_count_is_not_shared():
    for share in (Blob(2, 3).share_data, Blob(2, 3).share_diff):
        with pytest.raises(NetError, match=r"equal counts, not by 2 x 3 \(6\) and 7 \(7\)"):
            share(Blob(7))


def test_legacy_accessors():
    blob = Blob(2, 3, 4, 5)
    assert (blob.num, blob.channels, blob.height, blob.width) == (2, 3, 4, 5)
    blob = Blob(2, 3)
    assert (blob.num, blob.channels, blob.height, blob.width) == (2, 3, 1, 1)
    assert Blob().num == 1
    with pytest.raises(NetError, match="at most 4 axes"):
        _ = Blob(1, 1, 1, 1, 1).num


def test_axes_and_counts():
    blob = Blob(2, 3, 4)
    assert [blob.axis(i) for i in (0, 2, -1, -3)] == [0, 2, 2, 0]
    assert (blob.count_from(1), blob.count_from(0, 1), blob.count_from(3), blob.count_from(1, 1)) == (12, 2, 1, 1)
    for index in (3, -4):
        with pytest.raises(NetError, match=rf"slice_dim {index} is out of range .* 2 x 3 x 4 \(24\)"):
            blob.axis(index, "slice_dim")
    with pytest.raises(NetError, match="out of range"):
        Blob().axis(0)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1,) * 33, "at most 32 axes, received 33"),
        ((2, -1), "not negative, received 2 x -1"),
        ((-1, -1), "not negative"),
        ((2**31,), "at most 2147483647 elements"),
        ((2**16, 2**16), r"received 65536 x 65536 \(4294967296\)"),
        ((2**63 - 1,) * 32, "at most 2147483647 elements"),
        ((0, 2**62, 2**62), "at most 2147483647 elements"),
        ((2**62, 0), "at most 2147483647 elements"),
    ],
)
def test_impossible_shapes(shape, message):
    blob = Blob(2, 3)
    blob.data[...] = 1
    with pytest.raises(NetError, match=message):
        blob.reshape(shape)
    assert blob.shape == (2, 3)
    np.testing.assert_array_equal(blob.data, 1)


def test_a_large_blob_takes_no_memory_before_it_is_used():
    blob = Blob(2**31 - 1)
    blob.reshape(2)
    assert blob.shape == (2,)
    assert blob._data.head is Head.UNINITIALIZED


def test_blobs_tell_their_shape():
    assert (str(Blob(2, 3)), repr(Blob(2, 3)), str(Blob())) == ("2 x 3 (6)", "<Blob 2 x 3 (6)>", "scalar (1)")


# ---- layers on the device -----------------------------------------------------------------------------------------

# What may be the memory of its bottom or blob, and compute nothing.
SHARES = ("Concat", "Flatten", "Parameter", "Reshape", "Slice")
GENERIC = {"Silence", "Slice", "Split"}  # some layers whose bodies run on every device
RUNNABLE = [case for case in CASES if not case.needs_database and case.bottoms(np.random.default_rng(0), 1)]


def run_case(case: Case, where) -> list[np.ndarray]:
    """Tops and gradients of a case on one device; equal on each call."""
    rng = np.random.default_rng(1)
    use(where)
    try:
        rig = Rig(parse_layer(f'type: "{case.type}" {case.text}', case.phase), case.bottoms(rng, 3), case.tops)
        for blob in rig.layer.blobs:
            blob.data[...] = rng.normal(size=blob.shape)
        tops = rig.forward()
        if case.gradients is None:
            return tops
        wanted = [i in case.gradients for i in range(len(rig.bottom))]
        gradients = rig.backward([rng.normal(size=top.shape) for top in tops], wanted)
        return [*tops, *gradients, *(blob.diff.copy() for blob in rig.layer.blobs)]
    finally:
        use(HOST)


@pytest.mark.parametrize("case", RUNNABLE, ids=lambda case: case.id)
def test_a_layer_gives_on_the_device_what_it_gives_on_the_host_or_says_that_it_cannot(case):
    device = FakeDevice()
    try:
        results = run_case(case, device)
    except DeviceError:
        assert case.type not in GENERIC
        return
    assert device.allocations or case.type in SHARES
    for host, fake in zip(run_case(case, HOST), results, strict=True):
        np.testing.assert_allclose(fake, host, 1e-12)


@kernel
def _double(x):
    for i in prange(x.size):
        x[i] *= 2


def test_a_kernel_has_no_body_for_another_device(device):
    with pytest.raises(DeviceError, match=r"^the kernel _double has no body for the device fake$"):
        _double(FakeArray(np.ones(3)))


def test_the_array_picks_the_body_of_a_kernel(device):
    @kernel
    def halve(x):
        for i in prange(x.size):
            x[i] /= 2

    @halve.body("fake")
    def halve_there(x):
        calls.append(x)

    calls: list = []
    array = FakeArray(np.ones(3))
    halve(array)
    assert calls == [array]


def test_bodies_of_a_kernel_take_the_same_parameters():
    with pytest.raises(TypeError, match=r"the body of _double for fake takes \(x, y\), the host's takes \(x\)"):

        @_double.body("fake")
        def double(x, y): ...


NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "soft" type: "Softmax" bottom: "x" top: "y" }
layer { name: "steps" type: "ReLU" bottom: "y" top: "z" relu_param { negative_slope: 0.5 } loss_weight: 1 }
force_backward: true
"""


def net() -> Net:
    param = text_format.Parse(NET, NetParameter())
    param.state.phase = TRAIN
    return Net(param)


def test_a_net_names_the_layer_and_the_kernel_that_cannot_run(device):
    made = net()
    with pytest.raises(DeviceError, match=r'layer "steps" \(ReLU\): the kernel relu_forward has no body'):
        made.forward_layers()
    use(HOST)
    made.forward_layers()
    use(device)
    with pytest.raises(DeviceError, match=r'layer "steps" \(ReLU\): the kernel relu_backward has no body'):
        made.backward_layers()


def test_a_net_stays_on_the_device_between_layers(device):
    made = net()
    made.blobs["x"].data[...] = [[1, 2, 3], [3, 2, 1]]
    made.forward_layers(0, 1)
    assert device.copies == (1, 0)  # the input went up
    np.testing.assert_allclose(made.blobs["y"].data.sum(axis=1), 1, 1e-6)
    assert device.copies == (1, 1)
