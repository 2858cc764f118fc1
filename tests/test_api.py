"""Every name of pycaffe with its arguments, one by one: `pycaffe_api.json` lists them.

The list is what is needed of the conformance kit's file of the same name, as `condensed` makes it; where the kit is there,
the two are compared. A fact is

- "(self, blobs=None, **kwargs)": the signature of a method or function in Python,
- [0, 1]: the numbers of arguments (without self) that one of C++ takes,
- "class Net Solver": a class and its bases; "property"; "int 1" or "Layers": a constant and its value, if that is fixed.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

import pycaffe_lite as caffe
from pycaffe_lite.layer import BlobVec

FACTS: dict[str, Any] = json.loads(Path(__file__).with_name("pycaffe_api.json").read_text())

# Where pycaffe takes fewer arguments than make sense.
BY_ACCIDENT = {
    "after_backward": 0,  # would call None
    "add_callback": 0,  # what is left of `add_callback(nccl)` without NCCL
}
# The types of objects that pycaffe hands out, and what is handed out here. Vectors of all kinds are lists.
EXTENSION = {
    "Blob": caffe.Blob,
    "BlobVec": BlobVec,
    "LayerParameter": caffe.proto.caffe_pb2.LayerParameter,
    "NCCL": caffe.NCCL,
    "SGDSolver": caffe.SGDSolver,
    "Solver": caffe.SGDSolver,
    "SolverParameter": caffe.proto.caffe_pb2.SolverParameter,
    "Timer": caffe.Timer,
}


# ---- the list -----------------------------------------------------------------------------------------------------


def condensed(api: dict[str, Any]) -> dict[str, Any]:
    """The facts of the kit's file: what is pycaffe's own, members of a class where they do not come with a base."""
    facts: dict[str, Any] = {}
    classes = {**api["extension_classes"], **{n: e for n, e in api["modules"]["caffe"].items() if e["kind"] == "class"}}
    spaces = {**api["modules"], "extension": {n: {**e, "own": True} for n, e in api["extension_classes"].items()}}
    for space, entries in spaces.items():
        for name, entry in entries.items():
            if not entry.get("own"):
                continue
            facts[f"{space}.{name}"] = fact(entry)
            inherited = [classes[base]["members"] for base in entry.get("bases", ()) if base in classes]
            for member, description in entry.get("members", {}).items():
                builtin = entry.get("bases", ())[-1:] == ["BaseException"]
                if not builtin and not any(members.get(member) == description for members in inherited):
                    facts[f"{space}.{name}.{member}"] = fact(description)
    return facts


def fact(entry: dict[str, Any]) -> Any:
    if entry["kind"] == "class":
        return " ".join(["class", *entry.get("bases", ())])
    if entry["kind"] == "constant":
        return f"{entry['type']} {entry['value']}" if entry["type"] == "int" else entry["type"]
    if "boost_signatures" in entry:
        return sorted({count for text in entry["boost_signatures"] for count in counts(text)})
    return entry.get("signature", entry["kind"])


def counts(text: str) -> range:
    """`step( (Solver)arg1, (int)arg2 [, (str)arg3]) -> None` takes 1 or 2 arguments; the first one is self in a method."""
    given, _, optional = re.sub(r"\[(?!,)|\]", "", text.split(" -> ")[0]).partition("[")
    is_method = bool(re.search(r"\( ?\((object|Net|Solver|Layer|Timer|\w*Vec)\)arg1", text))
    least = len(re.findall(r"\(\w+\)\w+", given)) - is_method
    return range(least, least + len(re.findall(r"\(\w+\)\w+", optional)) + 1)


def test_the_list_is_the_kits():
    kit = os.environ.get("PYCAFFE_LITE_CONFORMANCE")
    if not kit:
        pytest.skip("PYCAFFE_LITE_CONFORMANCE is not set")
    assert condensed(json.loads((Path(kit) / "pycaffe_api.json").read_text())) == FACTS


# ---- the walk -----------------------------------------------------------------------------------------------------


def found(name: str) -> Any:
    """What is here under the name of pycaffe's."""
    space, *rest = name.split(".")
    if space == "extension":
        owner: Any = EXTENSION.get(rest[0], list)
        rest = rest[1:]
        owner = owner() if rest and issubclass(owner, Message) else owner  # its class does not show the fields
    else:
        owner = caffe
        if rest[0] in ("classifier", "coord_map", "detector", "draw", "io", "net_spec"):
            owner, rest = importlib.import_module(f"pycaffe_lite.{rest[0]}"), rest[1:]
    for part in rest:
        owner = owner if part == "__init__" else getattr(owner, part)
    return owner


def parameters(text: str) -> list[tuple[str, str]]:
    """`(self, a, b=1, **kwargs)` -> names, with their stars, and defaults."""
    return [(p.partition("=")[0], p.partition("=")[2]) for p in text.strip("()").split(", ") if p and p != "/"]


def own_parameters(function: Any) -> list[tuple[str, str]]:
    """The same of what is here. What can only be given by name is an addition."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [
        (stars.get(p.kind, "") + p.name, "" if p.default is p.empty else repr(p.default))
        for p in inspect.signature(function).parameters.values()
        if p.kind is not p.KEYWORD_ONLY
    ]


@pytest.mark.parametrize("name", FACTS)
def test_walk(name):
    expected, here, member = FACTS[name], found(name), name.rpartition(".")[2]
    if isinstance(expected, list):
        if inspect.ismethoddescriptor(here):
            return  # of Python's own list
        is_method = inspect.isfunction(here) and name.split(".")[1][0].isupper()
        for count in set(expected) - {BY_ACCIDENT.get(member)}:
            inspect.signature(here).bind(*[None] * (count + is_method))
    elif expected.startswith("("):
        wanted = parameters(expected)
        assert own_parameters(here) == (wanted[1:] if member == "__init__" else wanted)
    elif expected.startswith("class"):
        bases = [base.__name__ for base in here.__mro__]
        assert set(expected.split()[1:]) <= set(bases)
    elif expected.startswith("int "):
        assert here == int(expected[4:])
    elif expected == "str":
        assert isinstance(here, str)
    elif expected in ("Layers", "Parameters"):
        assert type(here).__name__ == expected
    else:
        assert expected in ("property", "method")


def test_the_two_constructors_take_their_names(tmp_path):
    file, model = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    file.write_text("""layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 } } }
      layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } }
      include { stage: "a" min_level: 1 } }""")
    caffe.Net(file, 0).save(model)
    net = caffe.Net(network_file=str(file), phase=caffe.TEST, level=1, stages=["a"], weights=str(model))
    assert (net.phase, net.inputs) == (caffe.TEST, ["x"])
    assert caffe.Net(str(file), str(model), caffe.TRAIN).inputs == []


# ---- layer types --------------------------------------------------------------------------------------------------


def test_layer_types():
    kit = os.environ.get("PYCAFFE_LITE_CONFORMANCE")
    if not kit:
        pytest.skip("PYCAFFE_LITE_CONFORMANCE is not set")
    assert set(json.loads((Path(kit) / "pycaffe_api.json").read_text())["layer_types"]) <= set(caffe.layer_type_list())


# ---- the guide ----------------------------------------------------------------------------------------------------


def test_the_code_of_the_guide(capsys):
    text = (Path(__file__).parents[1] / "docs/python.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    exec("\n".join(blocks), {})
    assert "InnerProduct" in capsys.readouterr().out
