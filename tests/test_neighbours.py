"""What this package leaves as it found it: the settings of the process, which belong to the program that imports it.

A fresh process notes all settings, imports the package, trains, draws, and runs commands, and notes them again.
`compat.run` and `install_as_caffe` are not here: to change the process is what they are for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pycaffe_lite as caffe

# What is to be compared. A name here is one of `settings` below.
SETTINGS = [
    "blas threads",
    "cwd",
    "decimal",
    "environment",
    "excepthooks",
    "faulthandler",
    "float printing",
    "garbage collection",
    "locale",
    "logging",
    "matplotlib",
    "multiprocessing",
    "numba",
    "numpy errors",
    "random",
    "recursion limit",
    "resources",
    "signals",
    "streams",
    "switch interval",
    "sys.argv",
    "sys.meta_path",
    "sys.path",
    "threads",
    "umask",
    "warnings",
]
PROGRAM = '''
import decimal, faulthandler, gc, hashlib, json, locale, logging, multiprocessing, os, random, resource, signal, sys
import threading, warnings

# Libraries that set something of their own when they are imported: what they do is not this package's doing.
import h5py, lmdb, llvmlite.binding, matplotlib, matplotlib.figure, matplotlib.backends.backend_agg, numba, numpy as np
import google.protobuf.message, PIL.Image, scipy.linalg.cython_blas, scipy.ndimage, scipy.optimize, scipy.spatial, tqdm
from numba.core.registry import cpu_target
from threadpoolctl import threadpool_info


def digest(value):
    return hashlib.sha256(repr(value).encode()).hexdigest()


def mask():
    now = os.umask(0)
    os.umask(now)
    return now


def loggers():
    """The root logger, and those of other packages: level, handlers, propagation."""
    names = {name for name in logging.root.manager.loggerDict if not name.startswith("pycaffe_lite")}
    known = [logging.root, *(logging.getLogger(name) for name in sorted(names & KNOWN_LOGGERS))]
    return [[one.name, one.level, repr(one.handlers), one.propagate, one.disabled, repr(one.filters)] for one in known]


LIMITS = (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE, resource.RLIMIT_STACK)
KNOWN_LOGGERS = set(logging.root.manager.loggerDict)


def settings():
    return {
        "blas threads": [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"],
        "cwd": os.getcwd(),
        "decimal": repr(decimal.getcontext()),
        "environment": dict(os.environ),
        "excepthooks": [repr(sys.excepthook), repr(threading.excepthook), repr(sys.unraisablehook), repr(sys.displayhook)],
        "faulthandler": faulthandler.is_enabled(),
        "float printing": repr(np.get_printoptions()),
        "garbage collection": [gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.callbacks)],
        "locale": [locale.setlocale(locale.LC_ALL)],
        "logging": [loggers(), logging.raiseExceptions, repr(logging.getLoggerClass()), logging.root.manager.disable],
        "matplotlib": digest(dict.items(matplotlib.rcParams)),
        "multiprocessing": multiprocessing.get_start_method(allow_none=True),
        "numba": [repr(cpu_target.target_context.codegen()._library_class), numba.config.CACHE_DIR],
        "numpy errors": [np.geterr(), repr(np.geterrcall())],
        "random": [digest(random.getstate()), digest(np.random.get_state()[1].tolist())],
        "recursion limit": sys.getrecursionlimit(),
        "resources": [resource.getrlimit(kind) for kind in LIMITS],
        "signals": [repr(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "streams": [repr(one) for one in (sys.stdin, sys.stdout, sys.stderr)],
        "switch interval": sys.getswitchinterval(),
        "sys.argv": list(sys.argv),
        "sys.meta_path": [repr(type(one)) for one in sys.meta_path],
        "sys.path": list(sys.path),
        "threads": sorted(one.name for one in threading.enumerate()),
        "umask": mask(),
        "warnings": repr(warnings.filters),
    }


signal.signal(signal.SIGTERM, signal.default_int_handler)  # handlers of the program's own
signal.signal(signal.SIGHUP, signal.SIG_IGN)
logging.root.addHandler(logging.NullHandler())
before = settings()
changed = {}


def compare(when):
    after = settings()
    for name in before:
        if after[name] != before[name]:
            changed.setdefault(name, [when, *difference(before[name], after[name])])


def difference(before, after):
    if isinstance(before, dict):
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        before, after = ({name: one.get(name) for name in names} for one in (before, after))
    return repr(before), repr(after)


import pycaffe_lite as caffe

compare("imported")
solver = caffe.get_solver("solver.prototxt")
compare("solver made")
solver.step(3)
compare("trained")
solver.net.summary()
solver.net._repr_svg_()
caffe.draw.draw_net_to_file(caffe.proto.caffe_pb2.NetParameter(name="empty"), "empty.png")
solver.snapshot()
solver.restore(solver.last_snapshot)
compare("drawn, saved and restored")

from pycaffe_lite import cli

WEIGHTS = "s_iter_3.caffemodel"
for command in (
    ["train", "--solver", "solver.prototxt", "-minloglevel", "1"],
    ["train", "--solver", "solver.prototxt", "--snapshot", "latest", "--log_dir", "logs"],
    ["time", "--model", "net.prototxt", "--iterations", "1"],
    ["test", "--model", "net.prototxt", "--weights", WEIGHTS, "--iterations", "1"],
    ["summary", "net.prototxt"],
    ["check", "solver.prototxt"],
    ["draw_net", "net.prototxt", "net.png"],
    ["plot_training_log", "6", "loss.png", "train.log"],
    ["train", "--solver", "missing.prototxt"],
):
    status = cli.main(command)
    assert (status == 0) == (command[-1] != "missing.prototxt"), command
    compare(" ".join(command))
solver.close()
compare("closed")
json.dump([changed, sorted(before)], open("result.json", "w"))
'''
NET = """
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 8 dim: 1 dim: 12 dim: 12 }
  data_filler { type: "gaussian" } } }
layer { name: "t" type: "DummyData" top: "t" dummy_data_param { shape { dim: 8 } data_filler { value: 1 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "t" top: "loss" }
"""
SOLVER = (
    'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 3 snapshot: 3 display: 1 random_seed: 1 '
    'test_iter: 1 test_interval: 2 snapshot_prefix: "s"'
)
LOG = """I0101 00:00:00.000001  1 solver.cpp:1] Solving net
I0101 00:00:01.000001  1 solver.cpp:1] Iteration 0, loss = 2
I0101 00:00:01.000001  1 solver.cpp:1]     Train net output #0: loss = 2 (* 1 = 2 loss)
I0101 00:00:01.000001  1 sgd_solver.cpp:1] Iteration 0, lr = 0.01
I0101 00:00:02.000001  1 solver.cpp:1] Iteration 100, loss = 1
I0101 00:00:02.000001  1 solver.cpp:1]     Train net output #0: loss = 1 (* 1 = 1 loss)
I0101 00:00:02.000001  1 sgd_solver.cpp:1] Iteration 100, lr = 0.01
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> tuple[dict[str, list[str]], list[str]]:
    """The settings that changed, when first, from what and to what; and all that were compared."""
    folder: Path = tmp_path_factory.mktemp("neighbours")
    files = {"net.prototxt": NET, "solver.prototxt": SOLVER, "program.py": PROGRAM, "train.log": LOG}
    for name, text in files.items():
        (folder / name).write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "NUMBA_CACHE"))}
    environment["PYTHONPATH"] = str(Path(caffe.__file__).parents[1])
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return tuple(json.loads((folder / "result.json").read_text()))


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals and resources")


def test_the_list_names_all_settings(result):
    assert result[1] == SETTINGS


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_as_before(result, name):
    assert name not in result[0], f"{name} changed: {result[0][name]}"
