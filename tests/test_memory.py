"""Memory on two sides: when SyncedMemory copies, what a Blob promises, and layers on a device that is not the host."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pycaffe_lite.blob import MAX_AXES, Blob
from pycaffe_lite.device import HOST, Head, SyncedMemory, aligned_zeros, array_module, current
from pycaffe_lite.errors import NetError

from .strict_cupy import StrictArray, StrictDevice

# ---- SyncedMemory -------------------------------------------------------------------------------------------------


def memory_in(head: Head, device: StrictDevice) -> SyncedMemory:
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
    device = StrictDevice()
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
    device = StrictDevice()
    memory = memory_in(start, device)
    array = memory.on(device, **access)
    assert isinstance(array, StrictArray)
    assert (memory.head, device.copies) == (end, copies)
    if access is not WRITE:
        np.testing.assert_array_equal(array.values, 0 if start is Head.UNINITIALIZED else 1)


def test_each_side_is_allocated_once_and_only_when_asked_for():
    device, memory = StrictDevice(), SyncedMemory(3)
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
    first, second = StrictDevice(), StrictDevice()
    memory = memory_in(Head.AT_DEVICE, first)
    np.testing.assert_array_equal(memory.on(second, **access).values, 1)
    assert (first.copies, second.copies) == ((0, 1), (1, 0))
    assert memory.head is (Head.SYNCED if access is READ else Head.AT_DEVICE)
    memory.on(second)[...] = 2
    np.testing.assert_array_equal(memory.on(first).values, 2)


@pytest.mark.parametrize("start", list(Head))
def test_write_only_access_on_another_device_copies_nothing(start):
    first, second = StrictDevice(), StrictDevice()
    memory = memory_in(start, first)
    memory.on(second, read=False)[...] = 5
    assert (first.copies, second.copies) == ((0, 0), (0, 0))
    np.testing.assert_array_equal(memory.on_host(), 5)


def test_a_device_without_room_leaves_the_memory_as_it_was():
    class Full(StrictDevice):
        def empty(self, size, dtype):
            raise MemoryError

    memory = memory_in(Head.AT_DEVICE, StrictDevice())
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
    assert array_module(StrictArray(np.zeros(1))) is device.xp
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
