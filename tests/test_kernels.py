"""Kernels: the matrix product, the cutting of work, threads and forks, and the cache of compiled code."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycaffe_lite.device import Kernel, blas, cache, chunk, kernel, kernels, num_threads, prange, serial_blas
from pycaffe_lite.ops import matmul as matmul_module
from pycaffe_lite.ops.convolution import columns
from pycaffe_lite.ops.matmul import matmul
from pycaffe_lite.ops.scratch import scratch


@pytest.fixture(autouse=True)
def _parallel_code(monkeypatch):
    """Arrays as small as these would run on one thread, and the code for several would never be tried."""
    monkeypatch.setattr(kernels, "SMALL", 0)


RTOL = {np.float32: 1e-4, np.float64: 1e-11}
DTYPES = pytest.mark.parametrize("dtype", RTOL)

# ---- gemm ---------------------------------------------------------------------------------------------------------


@kernel
def _gemm(c, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, ldc):
    for _ in prange(1):
        blas.gemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)


def _plain(c, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, ldc):
    blas._plain_gemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)


@DTYPES
@pytest.mark.parametrize("product", [_gemm, _plain], ids=["blas", "loops"])
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (1, 1), (-0.5, 2)])
def test_gemm_inside_larger_matrices(product, dtype, trans_a, trans_b, alpha, beta):
    m, n, k, (lda, ldb, ldc) = 3, 4, 5, (7, 8, 9)
    rng = np.random.default_rng(1)
    a, b, c = (rng.normal(size=(6, width)).astype(dtype) for width in (lda, ldb, ldc))
    op_a = a[:k, :m].T if trans_a else a[:m, :k]
    op_b = b[:n, :k].T if trans_b else b[:k, :n]
    expected = c.copy()
    expected[:m, :n] = alpha * op_a @ op_b + beta * c[:m, :n]
    flat = (array.reshape(-1) for array in (a, b))
    product(c.reshape(-1), trans_a, trans_b, m, n, k, dtype(alpha), next(flat), lda, next(flat), ldb, dtype(beta), ldc)
    np.testing.assert_allclose(c, expected, RTOL[dtype])


@DTYPES
@pytest.mark.parametrize("product", [_gemm, _plain], ids=["blas", "loops"])
def test_gemm_with_beta_0_does_not_read_c(product, dtype):
    a, c = np.ones(4, dtype), np.full(4, np.nan, dtype)
    product(c, False, False, 2, 2, 2, dtype(1), a, 2, a, 2, dtype(0), 2)
    np.testing.assert_array_equal(c, 2)


def test_gemm_is_for_compiled_kernels():
    with pytest.raises(TypeError, match=r"use ops\.matmul"):
        blas.gemm(False, False, 1, 1, 1, 1.0, np.ones(1), 1, np.ones(1), 1, 0.0, np.ones(1), 1)


# ---- matmul -------------------------------------------------------------------------------------------------------

SIZES = st.sampled_from([0, 1, 2, 3, 7, 40])


def check_matmul(sizes, trans_a, trans_b, alpha, beta, threads, dtype):
    m, n, k = sizes
    rng = np.random.default_rng(1)
    a = rng.normal(size=(k, m) if trans_a else (m, k)).astype(dtype)
    b = rng.normal(size=(n, k) if trans_b else (k, n)).astype(dtype)
    out = rng.normal(size=(m, n)).astype(dtype)
    expected = alpha * (a.T if trans_a else a) @ (b.T if trans_b else b) + beta * out
    if beta == 0:
        out[...] = np.nan
    with mock.patch.object(matmul_module, "num_threads", return_value=threads), serial_blas():
        matmul(a, b, out, trans_a, trans_b, alpha, beta)
    np.testing.assert_allclose(out, expected, RTOL[dtype], 10 * RTOL[dtype])


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(SIZES, SIZES, SIZES),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(1, 0), (1, 1), (-0.5, 2)]),
    st.integers(1, 4),
    st.sampled_from([np.float32, np.float64]),
)
def test_matmul(sizes, trans_a, trans_b, factors, threads, dtype):
    check_matmul(sizes, trans_a, trans_b, *factors, threads, dtype)


@pytest.mark.parametrize("sizes", [(41, 30, 40), (30, 41, 40), (1, 41, 1000), (41, 1, 1000), (2, 1, 20000)])
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("trans_b", [False, True])
def test_matmul_large_enough_to_be_cut(sizes, trans_a, trans_b):
    check_matmul(sizes, trans_a, trans_b, 1, 1, 3, np.float64)


@pytest.mark.parametrize("factors", [(1, 0), (0.5, 2)])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, matmul_module.FEW_ROWS, matmul_module.FEW_ROWS + 1])
def test_matmul_of_few_rows(rows, dtype, threads, factors):
    with mock.patch.object(matmul_module, "MANY_ELEMENTS", 0):
        check_matmul((rows, 5, 70), False, True, *factors, threads, dtype)
        check_matmul((rows, 2, 1), False, True, *factors, threads, dtype)


@pytest.mark.parametrize("shape", [(2, 5), (4, 2), (4, 5)])
def test_matmul_of_shapes_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"matmul of \(2, 3\) and"):
        matmul(np.ones((2, 3)), np.ones((3, 4) if shape[0] == 2 else shape), np.ones((2, 5)))


# ---- cutting work -------------------------------------------------------------------------------------------------


@given(st.integers(0, 300), st.integers(1, 40))
def test_chunks_cover_everything_once_and_evenly(n, chunks):
    ranges = [chunk.py_func(i, chunks, n) for i in range(chunks)]
    assert [i for low, high in ranges for i in range(low, high)] == list(range(n))
    sizes = [high - low for low, high in ranges]
    assert max(sizes) - min(sizes) <= 1


@kernel
def _chunk_bounds(bounds, n):
    for i in prange(bounds.shape[0]):
        bounds[i, 0], bounds[i, 1] = chunk(i, bounds.shape[0], n)


def test_chunks_inside_a_kernel():
    bounds = np.zeros((7, 2), np.int64)
    _chunk_bounds(bounds, 2**40 + 3)
    assert [tuple(row) for row in bounds.tolist()] == [chunk.py_func(i, 7, 2**40 + 3) for i in range(7)]


@kernel
def _chunk_sums(x, sums):
    for i in prange(sums.size):
        low, high = chunk(i, sums.size, x.size)
        total = x.dtype.type(0)
        for j in range(low, high):
            total += x[j]
        sums[i] = total


def test_the_bits_of_a_sum_do_not_depend_on_the_number_of_threads():
    x, results = np.random.default_rng(1).normal(size=10001).astype(np.float32), []
    before = num_threads()
    try:
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            sums = np.zeros(5, np.float32)
            _chunk_sums(x, sums)
            results.append(sums.tobytes())
    finally:
        numba.set_num_threads(before)
    assert len(set(results)) == 1
    serial = np.zeros(5, np.float32)
    _chunk_sums.serial(x, serial)  # other code, which may add in another order
    np.testing.assert_allclose(serial, sums, 1e-4)


def test_a_kernel_keeps_name_and_docstring():
    assert (_chunk_sums.__name__, _chunk_sums.__doc__) == ("_chunk_sums", None)
    assert isinstance(_chunk_sums, Kernel)


def test_scratch_is_one_growing_buffer():
    first = scratch((2, 3), np.float64)
    second = scratch((3,), np.float32)
    assert (first.shape, first.dtype, second.dtype) == ((2, 3), np.float64, np.float32)
    assert np.shares_memory(first, second)
    size = 1 + scratch((0,), np.uint8).base.size
    assert scratch((size,), np.uint8).size == size
    assert scratch((0,), np.float32).shape == (0,)


def test_small_work_runs_on_one_thread(monkeypatch):
    double, used = Kernel(_halve), []
    monkeypatch.setattr(kernels, "SMALL", 10)
    double.__dict__.update(serial=lambda *args: used.append("serial"), _parallel=lambda *args: used.append("parallel"))
    for sizes in ((9,), (10,), (5, 4), (5, 5)):
        double(*map(np.zeros, sizes), 3)
    assert used == ["serial", "parallel", "serial", "parallel"]


# ---- threads and forks --------------------------------------------------------------------------------------------

PROGRAM = """
import os, sys, threading
import numpy as np
from pycaffe_lite.layer_types.elementwise.relu import relu

def run():
    x = np.arange(-5000, 5000).astype(np.float32)
    y = np.empty_like(x)
    for _ in range(200):
        relu(x, slope=0, out=y)
    return bool((y == np.maximum(x, 0)).all())

results = [run()]
threads = [threading.Thread(target=lambda: results.append(run())) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("threads", results, flush=True)
if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        os._exit(0 if run() else 1)
    print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_kernels_run_in_several_threads_and_in_a_forked_child(layer):
    variables = {**os.environ, "NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=variables, capture_output=True, text=True, timeout=120)
    expected = ["threads [True, True, True, True]"] + ["child 0"] * hasattr(os, "fork")
    assert done.stdout.splitlines() == expected, done.stderr


# ---- the cache of compiled code -----------------------------------------------------------------------------------


def test_the_caches_key_changes_with_every_function_that_a_kernel_calls(tmp_path, monkeypatch):
    files = {
        "inner": "from pycaffe_lite.device import function\n@function\ndef one(x): return x + 1\n",
        "outer": "from inner import function, one\n@function\ndef two(x): return one(one(x))\n",
        "body": "from outer import two\ndef add(x):\n    for i in prange(x.size): x[i] = two(x[i])\n",
        "other": "def add(x): pass\n",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    add = importlib.import_module("body").add
    first = cache.digest(add)
    for name in ("inner", "outer", "body"):
        (tmp_path / f"{name}.py").write_text(files[name] + "#")
        assert cache.digest(add) != first, name
        (tmp_path / f"{name}.py").write_text(files[name])
    (tmp_path / "other.py").write_text("#")
    assert cache.digest(add) == first


def test_the_key_of_a_convolution_covers_the_columns_and_the_matrix_product(monkeypatch):
    read = []
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or b"")
    cache.digest(columns.to_windows.host_body)
    assert read == ["blas.py", "compiler.py", "expressions.py", "kernels.py", "columns.py", "im2col.py"]


BITS = """
import hashlib
import numpy as np
from pycaffe_lite.ops.normalization import plane_gradient, plane_statistics
draws = np.random.default_rng(1)
x, dy, dx = (draws.normal(size=(300, 20)).astype(np.float32) for _ in range(3))
columns = [draws.normal(size=300).astype(np.float32) for _ in range(4)]
mean, variance = np.empty(300), np.empty(300)
plane_statistics(x, mean, variance)
plane_gradient(dy, x, *columns, dx)
print(*(hashlib.md5(array.tobytes()).hexdigest() for array in (mean, variance, dx)))
"""


def test_code_just_compiled_and_code_from_the_cache_give_the_same_bits(tmp_path):
    """An exact resume depends on it: the process that was killed may have compiled what the next one loads."""
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path)}
    bits = [
        subprocess.run([sys.executable, "-c", BITS], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert list(tmp_path.rglob("*.nbc"))  # there was something to load
    assert bits[0] == bits[1]


def test_where_the_cache_is(monkeypatch, tmp_path):
    for name in (*cache.VARIABLES, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if os.name == "posix":
        assert cache.root() == tmp_path / ".cache" / "pycaffe_lite" / "kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.root() == tmp_path / "xdg" / "pycaffe_lite" / "kernels"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    assert cache.root() == tmp_path / "numba" / "kernels"
    monkeypatch.setenv("PYCAFFE_LITE_CACHE_DIR", str(tmp_path / "own"))
    assert cache.root() == tmp_path / "own" / "kernels"


def _halve(x):
    for i in prange(x.size):
        x[i] /= 2


def test_parallel_and_serial_code_are_kept_apart(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "root", lambda: tmp_path)
    for body in (Kernel(_halve), Kernel(_halve).serial):
        x = np.full(3, 8.0)
        body(x)
        np.testing.assert_array_equal(x, 4)
    assert list((tmp_path / "parallel").rglob("*.nbc"))
    assert list((tmp_path / "serial").rglob("*.nbc"))


def test_kernels_run_where_no_folder_can_be_made(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(cache, "root", lambda: tmp_path / "file" / "folder")
    x = np.full(3, 8.0)
    Kernel(_halve).serial(x)
    np.testing.assert_array_equal(x, 4)


def test_kernels_run_where_the_disk_is_full(monkeypatch, tmp_path):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "root", lambda: tmp_path)
    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._open_for_write", full)
    x = np.full(3, 8.0)
    Kernel(_halve).serial(x)
    np.testing.assert_array_equal(x, 4)


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_a_file_that_is_damaged_is_compiled_anew(monkeypatch, tmp_path, ending):
    monkeypatch.setattr(cache, "root", lambda: tmp_path)
    Kernel(_halve).serial(np.ones(3))
    (file,) = tmp_path.rglob(f"*.{ending}")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    for misses in (1, 0):  # the second time, all is well again
        x, body = np.full(3, 8.0), Kernel(_halve)
        body.serial(x)
        np.testing.assert_array_equal(x, 4)
        assert sum(body.serial.stats.cache_misses.values()) == misses
