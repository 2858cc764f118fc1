"""How kernels are compiled: what is Numba's stays Numba's, nothing is compiled twice, and people are told."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from google.protobuf import text_format
from numba.core.codegen import JITCodeLibrary
from numba.core.registry import CPUDispatcher, cpu_target

import pycaffe_lite
from pycaffe_lite.device import KERNELS, Kernel, ahead, cache, chunk, compiler, function, kernel, kernels, notice, prange
from pycaffe_lite.net import Net
from pycaffe_lite.proto.caffe_pb2 import TRAIN, NetParameter

ROOT = Path(pycaffe_lite.__file__).parents[1]

# ---- what of Numba is private -------------------------------------------------------------------------------------

PRIVATE = [
    (
        "numba.core.codegen:JITCodeLibrary._ensure_finalized",
        "keeps functions that kernels call from being made machine code",
    ),
    ("numba.core.codegen:JITCodeLibrary.finalize", "is where the functions that a kernel calls are linked into it"),
    ("numba.core.codegen:JITCodeLibrary._optimize_final_module", "is where a kernel's functions become its own"),
    ("numba.core.codegen:JITCodeLibrary.get_pointer_to_function", "is where a kernel becomes machine code"),
    ("numba.core.codegen:JITCPUCodegen._library_class", "names the class of all code of a target"),
    ("numba.core.cpu:CPUContext.init", "makes the code generator of a target"),
    (
        "numba.core.cpu:CPUContext.create_cpython_wrapper",
        "makes a function callable from Python, as bodies of loops need not be",
    ),
    ("numba.core.cpu:CPUContext.get_executable", "asks for the machine code of a function"),
    ("numba.core.registry:CPUTarget._toplevel_target_context", "is the context of a target"),
    ("numba.core.registry:CPUDispatcher.add_overload", "hands a compiled function to the dispatcher"),
    ("numba.core.registry:CPUDispatcher.get_call_template", "is where the types of a call inside of a kernel are looked at"),
    ("numba.core.registry:CPUDispatcher._compile_for_args", "is where a call from Python finds no code for its arguments"),
    ("numba.core.registry:CPUDispatcher.targetdescr", "ties a dispatcher to a target"),
    ("numba.core.target_extension:target_registry", "knows targets by name"),
    ("numba.core.target_extension:dispatcher_registry", "knows dispatchers by target"),
    ("numba.core.target_extension:jit_registry", "knows what compiles the functions of NumPy for a target"),
    ("numba.core.target_extension:target_override", "sets the target for the parts of Numba that do not ask a dispatcher"),
    ("numba.core.event:install_listener", "tells when a function is compiled"),
    ("numba.core.caching:FunctionCache.load_overload", "loads a kernel from disk"),
    ("numba.core.caching:FunctionCache.save_overload", "writes a kernel to disk"),
    ("numba.core.caching:FunctionCache._index_key", "is the key of a signature in the cache"),
    ("numba.core.caching:CompileResultCacheImpl.get_filename_base", "names the files of the cache"),
    ("numba.core.caching:IndexDataCacheFile._load_index", "lists what a file of the cache holds"),
    ("numba.core.caching:IndexDataCacheFile._data_path", "names the file of a compiled kernel"),
    ("numba.core.caching:_CacheLocator.get_cache_path", "says where the cache is"),
    ("numba.np.numpy_support:from_dtype", "gives the Numba type of a dtype"),
]


@pytest.mark.parametrize(("place", "purpose"), PRIVATE, ids=[place for place, _ in PRIVATE])
def test_what_kernels_use_of_numba_is_still_there(place, purpose):
    module, _, path = place.partition(":")
    found = importlib.import_module(module)
    for name in path.split("."):
        broken = f"Numba {numba.__version__} has no {place} any more, which {purpose}: see device/compiler.py and cache.py"
        found = getattr(found, name, None)
        assert found is not None, broken


@function
def _twice(x):
    return 2 * x


@kernel
def _double(x, factor):
    for i in prange(x.size):
        x[i] = _twice(x[i]) * factor


@pytest.fixture
def library(monkeypatch, tmp_path):
    """That of a kernel, just compiled."""
    monkeypatch.setattr(cache, "root", lambda: tmp_path)
    double = Kernel(_double.host_body)
    double(np.ones(9000, np.float32), np.float32(1))
    return next(iter(double._parallel.overloads.values())).library


def test_only_kernels_are_machine_code(library):
    """If Numba makes it of all functions again, they are compiled many times over, and the first run is slow."""
    assert type(library) is compiler._Library
    assert {type(result.entry_point) for result in _twice.overloads.values()} == {compiler._NotCallable}
    with pytest.raises(TypeError, match=r"chunk is for kernels to call; from Python, call chunk\.py_func"):
        chunk(0, 1, 2)


def test_the_functions_in_a_kernel_are_its_own(library):
    """Else two kernels share one under a name, and a kernel that was just compiled gives other bits than one from disk."""
    assert library._own
    defined = [function for function in library._final_module.functions if not function.is_declaration]
    assert {function.linkage.name for function in defined if function.name not in library._own} <= {"internal"}


# ---- what is Numba's ----------------------------------------------------------------------------------------------


def _users_function(x):
    return np.zeros(3, x.dtype).sum() + x.mean() + np.concatenate((x, x)).max()


def test_a_users_functions_are_compiled_by_numba_alone():
    for user in (numba.njit(_users_function), numba.njit(_users_function)):
        assert user(np.arange(4.0)) == 4.5
        _double.serial(np.ones(3), 1.0)  # in between, one of ours
        assert type(user) is CPUDispatcher
        assert {type(result.library) for result in user.overloads.values()} == {JITCodeLibrary}
    assert cpu_target.target_context.codegen()._library_class is JITCodeLibrary


def test_a_user_compiles_for_prange_what_a_kernel_does_too():
    x, y = np.ones(9000), np.ones(9000)
    numba.njit(parallel=True)(_own_loop)(x)
    Kernel(_own_loop)(y)
    numba.njit(parallel=True)(_own_loop)(x)
    np.testing.assert_array_equal(x, 4)
    np.testing.assert_array_equal(y, 2)


def _own_loop(x):
    for i in numba.prange(x.size):
        x[i] *= 2


SETTINGS = """
import os, subprocess, sys
import numba
before = dict(os.environ), numba.config.CACHE_DIR
import numpy as np
from pycaffe_lite.layer_types.elementwise.relu import relu
relu(np.ones(9000, np.float32), slope=0, out=np.ones(9000, np.float32))
assert before == (dict(os.environ), numba.config.CACHE_DIR)
child = [sys.executable, "-c", "import os; print('GOMP_SPINCOUNT' in os.environ)"]
print(numba.threading_layer(), subprocess.run(child, capture_output=True, text=True).stdout.strip())
"""


def _run(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYCAFFE_LITE_CACHE_DIR": str(folder)} | variables
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def test_settings_stay_as_they_are_and_waiting_threads_give_the_core_away(tmp_path):
    done = _run(SETTINGS, tmp_path, OMP_DISPLAY_ENV="verbose", NUMBA_NUM_THREADS="2")
    layer, in_child = done.stdout.split()
    assert in_child == "False"
    if layer == "omp" and "GOMP_SPINCOUNT" in done.stderr:  # GNU's OpenMP
        assert "GOMP_SPINCOUNT = '1000'" in done.stderr


def test_a_users_spin_count_stays(tmp_path):
    done = _run(
        "from pycaffe_lite.device import num_threads; num_threads()", tmp_path, OMP_DISPLAY_ENV="verbose", GOMP_SPINCOUNT="7"
    )
    if "GOMP_SPINCOUNT" in done.stderr:
        assert "GOMP_SPINCOUNT = '7'" in done.stderr


def test_kernels_write_nothing_to_a_users_log(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(cache, "root", lambda: tmp_path)
    with caplog.at_level(logging.DEBUG):
        Kernel(_double.host_body).serial(np.ones(3), 1.0)
        assert not [record for record in caplog.records if record.name.startswith("numba")]
        numba.njit(_users_function)(np.ones(3))
        assert [record for record in caplog.records if record.name.startswith("numba")]


@pytest.mark.parametrize("level", [logging.DEBUG, logging.ERROR])
def test_nor_to_logs_with_levels_of_their_own(level, monkeypatch, tmp_path, caplog):
    """A program may set the level of each logger, of the parts of Numba too, or want even less than warnings."""
    monkeypatch.setattr(cache, "root", lambda: tmp_path)
    names = ["numba", *(name for name in logging.root.manager.loggerDict if name.startswith("numba."))]
    assert "numba.core.ssa" in names
    levels_meanwhile = []
    begin = notice.begin
    monkeypatch.setattr(
        notice, "begin", lambda name: (begin(name), levels_meanwhile.extend(logging.getLogger(one).level for one in names))
    )
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(caplog.at_level(level, name))
        Kernel(_double.host_body).serial(np.ones(3), 1.0)
        assert not [record for record in caplog.records if record.name.startswith("numba")]
        assert set(levels_meanwhile) == {max(level, logging.WARNING)}
        assert {logging.getLogger(name).level for name in names} == {level}


def test_the_log_is_as_before_where_a_kernel_cannot_be_compiled(caplog):
    with caplog.at_level(logging.DEBUG, "numba"):
        with pytest.raises(numba.TypingError):
            Kernel(_wrong).serial(np.ones(3))
        assert logging.getLogger("numba").level == logging.DEBUG
        assert gc.isenabled()


def _wrong(x):
    x.no_such_name()


# ---- one signature for each dtype ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [3, np.int64(3), np.int32(3), np.uint8(3)], ids=repr)
@pytest.mark.parametrize("flag", [True, np.True_])
@pytest.mark.parametrize("real", [0.5, np.float32(0.5)], ids=repr)
def test_it_does_not_matter_what_a_number_comes_as(number, flag, real):
    x, y = np.ones(4, np.float32), np.zeros(4, np.float32)
    x.flags.writeable = False
    _mixed.serial(y, x, number, flag, real)
    np.testing.assert_array_equal(y, 4.5)
    assert len(_mixed.serial.signatures) == 1


@kernel
def _mixed(y, x, number, flag, real):
    for i in prange(y.size):
        y[i] = x[i] + number + real if flag else 0


def test_arrays_of_another_layout_are_refused():
    with pytest.raises(TypeError, match=r"_mixed: expected contiguous arrays, received strides \(8,\) for shape \(2,\)"):
        _mixed.serial(np.zeros(4, np.float32)[::2], np.ones(2, np.float32), 1, True, 0.5)


COUNT = """
from pycaffe_lite import glog
glog.set_min_level(1)
import hashlib
import numba, numpy as np
from google.protobuf import text_format
from pycaffe_lite.device import KERNELS
from pycaffe_lite.net import Net
from pycaffe_lite.proto import caffe_pb2

TEXT = '''force_backward: true
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: {n} dim: {c} dim: {s} dim: {s} }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{ num_output: 8 kernel_size: 5 }} }}
layer {{ name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "lrn" type: "LRN" bottom: "pool" top: "lrn" }}
layer {{ name: "bn" type: "BatchNorm" bottom: "lrn" top: "bn" }}
layer {{ name: "scale" type: "Scale" bottom: "bn" top: "bn" scale_param {{ bias_term: true }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "bn" top: "ip" inner_product_param {{ num_output: 10 }} }}
layer {{ name: "relu" type: "ReLU" bottom: "ip" top: "ip" relu_param {{ negative_slope: 0.1 }} }}
layer {{ name: "prob" type: "Softmax" bottom: "ip" top: "prob" }}'''
draws, bits = np.random.default_rng(1), hashlib.md5()
for threads in (2, 1):
    numba.set_num_threads(threads)
    for n, c, s in ((1, 1, 12), (1, 3, 40), (2, 3, 40), (16, 3, 33), (5, 2, 28)):
        param = text_format.Parse(TEXT.format(n=n, c=c, s=s), caffe_pb2.NetParameter())
        for param.state.phase in (caffe_pb2.TEST, caffe_pb2.TRAIN):
            net = Net(param)
            for blob in (net.blobs["data"], *(learnable.blob for learnable in net.learnable)):
                blob.data[...] = draws.normal(size=blob.shape)
            net.forward_layers()
            net.blobs["prob"].diff[...] = draws.normal(size=net.blobs["prob"].shape)
            net.backward_layers()
            for blob in (*net.blobs.values(), *(learnable.blob for learnable in net.learnable)):
                bits.update(blob.data.tobytes() + blob.diff.tobytes())
dispatchers = [kernel.__dict__[kind] for kernel in KERNELS for kind in ("_parallel", "serial") if kind in kernel.__dict__]
assert len(dispatchers) > 15
for dispatcher in dispatchers:
    assert len(dispatcher.signatures) <= 1, (dispatcher.__name__, dispatcher.signatures)
print(sum(sum(dispatcher.stats.cache_misses.values()) for dispatcher in dispatchers), bits.hexdigest())
"""


def test_no_shape_phase_or_number_of_threads_compiles_anything_again(tmp_path):
    (first, bits), (second, same) = (_run(COUNT, tmp_path, NUMBA_NUM_THREADS="2").stdout.split() for _ in range(2))
    assert int(first) > 15
    assert int(second) == 0
    assert bits == same  # what is loaded computes what was computed when it was compiled


# ---- what is told -------------------------------------------------------------------------------------------------

RELU = """
import numpy as np
from pycaffe_lite.device import KERNELS
from pycaffe_lite.layer_types.elementwise.relu import relu, relu_gradient
x = np.ones(9000, np.float32)
relu(x, slope=0, out=x.copy())
relu_gradient(x, x, slope=0, out=x.copy())
"""


def test_one_line_says_that_kernels_are_compiled_and_none_where_they_are_there(tmp_path):
    (line,) = _run(RELU, tmp_path).stderr.splitlines()
    end = f"Compiling kernels. This happens once on this machine; they are kept in {tmp_path / 'kernels'}"
    assert line.startswith("I")
    assert line.endswith(end)
    assert _run(RELU, tmp_path).stderr == ""


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").touch()
    line = _run(RELU, tmp_path / "file").stderr
    assert "This happens in every process, as they cannot be kept in" in line
    assert "set PYCAFFE_LITE_CACHE_DIR to a folder that can be written to" in line


def test_a_terminal_shows_what_is_compiled(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(notice, "_count", 1)
    notice.begin("relu")
    notice.end()
    assert "compiling kernel 2: relu" in capsys.readouterr().err


# ---- ahead --------------------------------------------------------------------------------------------------------

NET = """
force_backward: true
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 40 dim: 40 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "pool" top: "pool" }
"""


def test_needed_kernels_are_noted_and_do_not_run():
    param = text_format.Parse(NET, NetParameter())
    param.state.phase = TRAIN
    net = Net(param)
    net.blobs["data"].data[...] = 1
    with ahead.needed() as wanted:
        net.forward_backward()
        net.forward_backward()
    assert [need.kernel.__name__ for need in wanted] == ["max_forward", "relu", "relu_gradient", "max_backward"]
    assert not net.blobs["pool"].data.any()
    net.forward_layers()
    assert net.blobs["pool"].data.all()


RUN = """
from pycaffe_lite import glog
glog.set_min_level(1)
from pycaffe_lite.device import KERNELS
from pycaffe_lite.net import Net
from pycaffe_lite.proto import read_net, caffe_pb2
param, source = read_net("net.prototxt")
param.state.phase = caffe_pb2.TRAIN
Net(param, source).forward_backward()
print(sum(sum(k._parallel.stats.cache_misses.values()) for k in KERNELS if "_parallel" in k.__dict__))
"""


def _warmup(*words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "pycaffe_lite", "warmup", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_warmup_compiles_all_that_a_net_needs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    done = _warmup("net.prototxt", "--cache-dir", "folder", "--forward-only")
    assert done.stdout.startswith("compiled 2 of 2 kernels in "), done.stderr
    done = _warmup("net.prototxt", "--cache-dir", "folder")
    assert done.stdout.startswith("compiled 2 of 4 kernels in "), done.stderr
    assert done.stdout.endswith(f"they are kept in {tmp_path / 'folder' / 'kernels'}\n")
    assert _warmup("net.prototxt", "--cache-dir", "folder").stdout.startswith("compiled 0 of 4 kernels")
    for path in (tmp_path / "folder").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)  # as in an image of a container
    assert _run(RUN, tmp_path / "folder").stdout == "0\n"


def test_warmup_writes_no_results(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("results.h5").write_text("of an earlier run")
    hdf5 = 'hdf5_output_param { file_name: "results.h5" }'
    output = f'layer {{ name: "output" type: "HDF5Output" bottom: "pool" bottom: "pool" {hdf5} }}'
    Path("net.prototxt").write_text(NET + output)
    done = _warmup("net.prototxt", "--cache-dir", "folder", "--forward-only")
    assert done.stdout.startswith("compiled 2 of 2 kernels in "), done.stderr
    assert Path("results.h5").read_text() == "of an earlier run"


def test_warmup_ends_in_one_line_where_there_is_no_net_or_no_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    for words in (["no.prototxt"], ["net.prototxt", "--cache-dir", "net.prototxt/folder"]):
        done = _warmup(*words)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


def test_every_kernel_can_be_found_by_its_name():
    names = [
        (each.host_body.__module__, each.__name__, each.made_by)
        for each in KERNELS
        if each.host_body.__module__.startswith("pycaffe_lite")
    ]
    assert len(set(names)) == len(names)
    assert kernels._needed is None
