"""Errors: how they read, which name they suggest, and who fills in the place."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycaffe_lite import errors
from pycaffe_lite.errors import CaffeError, DataError, NetError, Place, SolverError, did_you_mean, located

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CaffeError)]


def test_there_are_kinds_of_errors():
    names = {
        "CaffeError",
        "DataError",
        "DataMissing",
        "DeviceError",
        "ModelFileError",
        "NetError",
        "PrototxtError",
        "SolverError",
    }
    assert {kind.__name__ for kind in KINDS} == names


@pytest.mark.parametrize("kind", KINDS)
def test_old_scripts_catch_runtime_errors(kind):
    with pytest.raises(RuntimeError, match=r"^net\.prototxt:3: no such thing$"):
        raise kind("no such thing", where="net.prototxt:3")


def test_an_error_reads_with_and_without_its_place():
    assert str(NetError("no such thing")) == "no such thing"
    error = NetError("no such thing", "here")
    assert (str(error), error.message, error.where) == ("here: no such thing", "no such thing", "here")
    assert str(copy.copy(error)) == "here: no such thing"


def test_a_place_is_a_text_with_parts():
    place = Place("net.prototxt", 41, 'layer "ip2" (InnerProduct)')
    assert place == 'net.prototxt:41: layer "ip2" (InnerProduct)'
    assert (place.file, place.line, place.layer) == ("net.prototxt", 41, 'layer "ip2" (InnerProduct)')
    assert [Place("f"), Place("f", 3), Place("", 3), Place(layer="l"), Place("f", 0, "l"), Place()] == [
        "f", "f:3", "line 3", "l", "f: l", "",
    ]  # fmt: skip
    for again in (copy.deepcopy(place), pickle.loads(pickle.dumps(place)), Place.of(place)):
        assert (again, again.line) == (place, 41)
    assert (Place.of("here").file, Place.of("here").line) == ("here", 0)


def test_an_error_knows_the_parts_of_its_place_and_its_field():
    with pytest.raises(SolverError) as caught, located(Place("solver.prototxt", 3)):
        raise SolverError("base_lr is too small", field="base_lr")
    assert (str(caught.value), caught.value.field) == ("solver.prototxt:3: base_lr is too small", "base_lr")
    assert Place.of(caught.value.where).line == 3
    assert NetError("old", "net.prototxt").where.file == "net.prototxt"


# ---- did_you_mean -------------------------------------------------------------------------------------------------

NAMES = ["conv1", "conv2", "ip1", "Convolution", "ReLU", "SoftmaxWithLoss"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("con1", "conv1"),
        ("ip2", "ip1"),
        ("Convolutoin", "Convolution"),
        ("SoftMaxWithLoss", "SoftmaxWithLoss"),
        ("relu", "ReLU"),  # only the case differs: no letter but one in common
        ("RELU", "ReLU"),
    ],
)
def test_the_nearest_name(name, nearest):
    assert did_you_mean(name, NAMES) == f' (did you mean "{nearest}"?)'


@pytest.mark.parametrize("name", ["", "data", "zzz", "x" * 1000])
def test_no_name_is_near(name):
    assert did_you_mean(name, NAMES) == ""
    assert did_you_mean(name, []) == ""


def test_candidates_may_be_any_iterable():
    assert "ip1" in did_you_mean("ip", iter(NAMES))
    assert "ip1" in did_you_mean("ip", dict.fromkeys(NAMES))


@given(st.text(), st.lists(st.text()))
def test_a_suggestion_is_one_of_the_candidates(name, candidates):
    said = did_you_mean(name, candidates)
    assert said == "" or any(said == f' (did you mean "{candidate}"?)' for candidate in candidates)


# ---- located ------------------------------------------------------------------------------------------------------


def test_who_knows_the_place_fills_it_in():
    place = 'net.prototxt:41: layer "ip2" (InnerProduct)'
    with pytest.raises(NetError, match=rf"^{re.escape(place)}: too many$") as raised, located(place):
        raise NetError("too many")
    assert raised.value.message == "too many"


def test_the_innermost_place_stays():
    with pytest.raises(DataError, match=r"^inner: gone$"), located("outer"), located("inner"):
        raise DataError("gone")
    with pytest.raises(DataError, match=r"^own: gone$"), located("outer"):
        raise DataError("gone", where="own")


def test_other_errors_pass_unchanged():
    error = KeyError("x")
    with pytest.raises(KeyError) as raised, located("here"):
        raise error
    assert raised.value is error


def test_no_error_no_change():
    with located("here"):
        value = 1
    assert value == 1


def test_too_little_memory_has_a_place():
    with pytest.raises(CaffeError, match=r"^here: there is not enough memory \(8 GiB\)$"), located("here"):
        raise MemoryError("8 GiB")
