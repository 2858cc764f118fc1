"""The working memory of kernels is given back when no net is left that could use it."""

from __future__ import annotations

import gc
import threading
import tracemalloc

import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite.ops import scratch as memory
from pycaffe_lite.ops.scratch import scratch

# The columns of such a convolution of VGG are tens of megabytes.
NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 32 dim: 112 dim: 112 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 8 kernel_size: 5 pad: 2 weight_filler { type: "xavier" } } }
"""


@pytest.fixture(autouse=True)
def no_other_net():
    """The nets of other tests are gone."""
    gc.collect()
    for net in list(memory._open_nets):
        memory._close(net)
    yield
    gc.collect()


def size() -> int:
    """Bytes of all threads."""
    with memory._lock:
        return sum(buffer.bytes.size for reference in memory._buffers if (buffer := reference()))


def used_net() -> caffe.Net:
    net = caffe.Net(NET, caffe.TEST)
    net.forward()
    return net


def test_the_last_net_takes_it_along():
    assert not size()
    first = used_net()
    held = size()
    assert held > 1 << 20
    second = used_net()
    del first
    gc.collect()
    assert size() == held
    del second
    gc.collect()
    assert not size()


def test_memory_is_really_free():
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        net = used_net()
        held = tracemalloc.get_traced_memory()[0] - before
        assert held > size() > 1 << 20
        del net
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 1 << 18
    finally:
        tracemalloc.stop()


def test_closing_is_enough_and_a_closed_net_still_runs():
    net = used_net()
    out = net.blobs["conv"].data.copy()
    net.close()
    assert not size()
    np.testing.assert_array_equal(net.forward()["conv"], out)
    assert size()
    del net
    gc.collect()
    assert not size()


def test_a_net_that_cannot_be_built_holds_nothing():
    with pytest.raises(caffe.CaffeError):
        caffe.Net(NET.replace("Convolution", "Convulsion"), caffe.TEST)
    gc.collect()
    assert not memory._open_nets


def test_other_threads_give_theirs_back_too():
    taken, end = threading.Event(), threading.Event()

    def run():
        used_net().close()
        scratch((1000,), np.float32)
        taken.set()
        end.wait(60)

    net = used_net()
    thread = threading.Thread(target=run)
    thread.start()
    assert taken.wait(60)
    assert len([reference for reference in memory._buffers if reference()]) >= 2
    del net
    gc.collect()
    assert not size()
    end.set()
    thread.join()


def test_an_array_that_is_in_use_stays_valid():
    array = scratch((1000,), np.float32)
    array[...] = 7
    caffe.Net(NET, caffe.TEST).close()
    assert (array == 7).all()
