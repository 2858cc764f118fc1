"""Coordinates of one blob in terms of another's, checked against where layers put a single lit pixel."""

from __future__ import annotations

import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import coord_map as cm
from pycaffe_lite import layers as L


def upsampled(ks=3, stride=1, pad=0, pool=2, dstride=2, dpad=0):
    """Convolution, pooling, and a deconvolution that undoes the pooling."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [2, 1, 100, 100]})
    n.conv = L.Convolution(n.data, num_output=10, kernel_size=ks, stride=stride, pad=pad)
    n.pool = L.Pooling(n.conv, kernel_size=pool, stride=pool)
    n.up = L.Deconvolution(n.pool, num_output=10, kernel_size=2 * dstride, stride=dstride, pad=dpad)
    return n


def same(got, want):
    assert got[0] == want[0]
    for one, other in zip(got[1:], want[1:], strict=True):
        assert np.atleast_1d(one).tolist() == np.atleast_1d(other).tolist()


@pytest.mark.parametrize(
    ("options", "shift"),
    [({}, 0), ({"pool": 4, "dstride": 4}, -1), ({"pad": 7}, -7), ({"dpad": 7}, 7), ({"pad": 3, "dpad": 3}, 0)],
)
def test_through_convolution_pooling_and_deconvolution(options, shift):
    n = upsampled(**options)
    same(cm.coord_map_from_to(n.up, n.data), (1, 1, shift))


def test_axes_of_their_own():
    thin, wide, both = (upsampled(*size) for size in ((3, 1, 0), (5, 2, 10), ([3, 5], [1, 2], [0, 10])))
    maps = [cm.coord_map_from_to(n.up, n.data) for n in (thin, wide, both)]
    same(maps[2], (1, np.concatenate([maps[0][1], maps[1][1]]), np.concatenate([maps[0][2], maps[1][2]])))


def test_dilation_and_parameters_in_their_message():
    data = L.Input()
    direct = L.Convolution(data, kernel_size=3, dilation=4, num_output=1)
    inside = L.Convolution(data, convolution_param={"kernel_size": 3, "dilation": 4, "num_output": 1})
    same(cm.coord_map(direct.fn), (1, 1, -4))
    same(cm.coord_map(inside.fn), (1, 1, -4))


def test_both_ways_meet_at_a_common_blob():
    data = L.Input()
    left = L.ReLU(L.Convolution(data, kernel_size=5, num_output=1))
    right = L.Dropout(L.Convolution(data, kernel_size=3, num_output=1))
    same(cm.coord_map_from_to(left, right), (1, 1, 1))
    same(cm.coord_map_from_to(right, left), (1, 1, -1))
    same(cm.coord_map_from_to(data, data), (None, 1, 0))


def test_a_crop_shifts_and_only_its_first_bottom_counts():
    n = upsampled()
    n.crop = L.Crop(n.up, L.InnerProduct(n.data, num_output=1), axis=2, offset=3)
    same(cm.coord_map_from_to(n.crop, n.data), (1, 1, 3))
    assert cm.crop_params(L.Crop(n.up, n.data, crop_param={"offset": [1, 2]}).fn)[1].tolist() == [1, 2]


def test_compose_and_inverse():
    there = (1, np.array([2.0]), np.array([3.0]))
    same(cm.compose(there, cm.inverse(there)), (1, 1, 0))
    same(cm.compose((None, 2, 1), (3, 5, 7)), (3, 10, 15))
    with pytest.raises(cm.AxisMismatchException, match="axis 1, the other along axis 2"):
        cm.compose((1, 1, 0), (2, 1, 0))


def test_crop_lays_one_map_over_the_other(tmp_path):
    """The lit pixel of an image is lit at the same place of what is cropped from the upsampled map."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 20, 20]})
    ones = {"type": "constant", "value": 1}
    n.pool = L.Convolution(n.data, num_output=1, kernel_size=4, stride=4, pad=8, weight_filler=ones)
    n.up = L.Deconvolution(n.pool, num_output=1, kernel_size=8, stride=4, weight_filler=ones)
    n.crop = cm.crop(n.up, n.data)
    crop = n.to_proto().layer[-1].crop_param
    assert (crop.axis, crop.offset) == (2, [10])
    (tmp_path / "net.prototxt").write_text(str(n.to_proto()))
    net = caffe.Net(tmp_path / "net.prototxt", caffe.TEST)
    image = np.zeros((1, 1, 20, 20))
    image[..., 8:12, 12:16] = 1  # one whole window
    lit = np.argwhere(net.forward(data=image)["crop"][0, 0] > 0)
    assert lit.mean(axis=0).tolist() == [9.5, 13.5]


@pytest.mark.parametrize(
    ("options", "text"),
    [({"pool": 3}, "same scale"), ({"dpad": 10}, "not negative"), ({"ks": 4}, "whole")],
)
def test_an_impossible_crop(options, text):
    n = upsampled(**options)
    for kind in (caffe.CaffeError, AssertionError):  # the second is pycaffe's
        with pytest.raises(kind, match=text):
            cm.crop(n.up, n.data)


def test_tops_that_are_not_joined():
    n = upsampled()
    n.ip = L.InnerProduct(n.up, num_output=10)
    n.all = L.Pooling(n.conv, global_pooling=True)
    for top in (n.ip, n.all):
        with pytest.raises(RuntimeError, match="not joined"):
            cm.coord_map_from_to(top, n.data)
    with pytest.raises(cm.UndefinedMapException, match="InnerProduct"):
        cm.coord_map(n.ip.fn)
    with pytest.raises(cm.UndefinedMapException, match="without kernel_size"):
        cm.conv_params(n.all.fn)


def test_a_kernel_of_height_and_width():
    """pycaffe refuses these fields here."""
    fn = L.Convolution(L.Input(), kernel_h=3, kernel_w=5, stride_h=1, stride_w=2, num_output=1).fn
    same(cm.coord_map(fn), (1, [1, 0.5], [-1, -1]))
    assert cm.conv_params(fn)[2].tolist() == [3, 5]


def test_a_script_may_let_a_type_pass_coordinates_through(monkeypatch):
    fn = L.Foreign(L.Input(), strength=3).fn
    with pytest.raises(cm.UndefinedMapException, match="Foreign"):
        cm.coord_map(fn)
    monkeypatch.setattr(cm, "PASS_THROUGH_LAYERS", [*cm.PASS_THROUGH_LAYERS, "Foreign"])
    same(cm.coord_map(fn), (None, 1, 0))
