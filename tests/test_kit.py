"""Replays the conformance kit: what this package computes is what Caffe computed, within the kit's tolerances.

`PYCAFFE_LITE_CONFORMANCE` is the folder of the kit and `PYCAFFE_LITE_REPLAY` the path of `replay_conformance.py`. Where they
are not set the tests are skipped, or fail with `PYCAFFE_LITE_REQUIRE_KIT`, which CI sets.

A case may fail for one reason only: it needs one of Caffe's layer or solver types that is not written yet. What is
registered counts as written, so the list of such cases shrinks by itself.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

import pycaffe_lite as caffe

KIT, SCRIPT = (Path(os.environ.get(f"PYCAFFE_LITE_{name}") or "nowhere") for name in ("CONFORMANCE", "REPLAY"))
REQUIRED = bool(os.environ.get("PYCAFFE_LITE_REQUIRE_KIT"))

PARTS = 8  # of the category `errors`, where each case is a process: parts can run beside each other

SOLVER_TYPES = {"SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"}

# What Caffe refuses and this package does on purpose. Stochastic pooling: Caffe has it on the GPU only.
ACCEPTED_ON_PURPOSE = {"pool_stochastic"}


@pytest.fixture(scope="module", autouse=True)
def kit_is_there():
    if not (KIT.is_dir() and SCRIPT.is_file()):
        message = "PYCAFFE_LITE_CONFORMANCE and PYCAFFE_LITE_REPLAY are to name the kit and the script that replays it"
        pytest.fail(message) if REQUIRED else pytest.skip(message)


def is_not_written_yet(message: str) -> bool:
    """Whether an error is about a type that Caffe has, and this package lacks so far."""
    found = re.search(r'unknown (layer|solver) type "(\w+)"', message)
    if not found:
        return False
    kind, name = found.groups()
    if kind == "solver":
        return name in SOLVER_TYPES
    wanted = json.loads((KIT / "pycaffe_api.json").read_text())["layer_types"]
    return name in set(wanted) - set(caffe.layer_type_list())


@pytest.fixture
def judge(capsys):
    """Prints one line about a category, and fails with its failures."""

    def judge(category: str, total: int, missing: set[str], failed: dict[str, str]) -> None:
        passed = total - len(missing) - len(failed)
        with capsys.disabled():
            print(f"\n{category}: {passed} of {total} pass, {len(missing)} need a type that is not written yet", end=" ")
        assert passed > 0, f"no case of {category} passes"
        assert not failed, "\n".join(f"{case}: {why}" for case, why in failed.items())

    return judge


@pytest.fixture
def environment(monkeypatch):
    """The environment of the script: it imports the package that is tested here."""
    package = str(Path(caffe.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])))


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("category", ["schema", "fillers", "layers", "nets", "data", "upgrade", "solvers", "siamese", "api"])
def test_replay(category, judge, tmp_path):
    report = tmp_path / "report.json"
    options = ["--module", "pycaffe_lite", "--only", category, "--json", report]
    run = subprocess.run([sys.executable, SCRIPT, KIT, *options], capture_output=True, text=True, check=False)
    assert report.is_file(), run.stdout + run.stderr
    result = json.loads(report.read_text())
    reasons = result["failed"].get(category, {})
    missing = {case for case, why in reasons.items() if is_not_written_yet(why[0])}
    failed = {case: "; ".join(why) for case, why in reasons.items() if case not in missing}
    judge(category, result["total"], missing, failed)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("part", range(PARTS))
def test_errors(judge, part):
    """Where Caffe aborts there is an exception, never a crash or a hang; and what Caffe accepts is accepted."""
    script = load(SCRIPT)
    cases = json.loads((KIT / "errors" / "manifest.json").read_text())["cases"][part::PARTS]
    with ThreadPoolExecutor(1 if "PYTEST_XDIST_WORKER" in os.environ else 2) as threads:
        observe = partial(script.observe_error, "pycaffe_lite", str(KIT / "errors"))
        outcomes = list(threads.map(observe, [case["steps"] for case in cases]))
    missing: set[str] = set()
    failed: dict[str, str] = {}
    for case, (outcome, stderr) in zip(cases, outcomes, strict=True):
        name = case["id"]
        wanted = "accepts" if name in ACCEPTED_ON_PURPOSE else case["verdict"]
        if outcome == "exception" and is_not_written_yet(stderr):
            missing.add(name)
        elif not script.judge_error(wanted, outcome, False):
            failed[name] = f"{outcome}, expected {wanted}: {stderr.strip().rpartition(chr(10))[2]}"
    judge("errors", len(cases), missing, failed)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("replay_conformance", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
