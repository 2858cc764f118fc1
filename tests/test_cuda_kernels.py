"""The bodies for CUDA, without a GPU: every kernel runs in the simulator on small cases, and is compiled for real cards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pycaffe_lite.device import CUDA_KERNELS, HOST, OPERATIONS, Elementwise, use
from pycaffe_lite.device.cuda_kernels import SIMULATED, CudaKernel

from .layer_harness import Rig, parse_layer
from .strict_cupy import StrictArray, StrictDevice, unwrap
from .test_devices import RUNNABLE, run_case

numba_cuda = pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

CARDS = ((7, 5), (8, 0), (9, 0))  # compute capabilities: Turing, Ampere, Hopper


@pytest.mark.skipif(SIMULATED, reason="runs in the process that simulates")
def test_kernels_in_the_simulator():
    """The last test of this file, in a process of its own that simulates a GPU."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-k",
        "gives_in_the_simulator",
        __file__,
    ]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    root = Path(__file__).parent.parent
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert f"{len(RUNNABLE)} passed" in done.stdout


def test_every_operation_has_a_body_for_cuda():
    assert not [
        name
        for name, one in OPERATIONS.items()
        if not isinstance(one, Elementwise) and not {"cuda", "any"} & one.bodies.keys()
    ]


# ---- compiled -----------------------------------------------------------------------------------------------------


class CompilingCuda(StrictDevice):
    """A device named cuda that compiles the kernels which it is to launch, and runs none.

    Each kernel is compiled for all cards, and for one card with all types of arguments.
    """

    name = "cuda"

    def __init__(self) -> None:
        super().__init__()
        self.types: dict[CudaKernel, set[tuple]] = {}

    def launch(self, kernel: CudaKernel, blocks: int, *args: Any) -> None:
        import numba

        types, seen = tuple(numba.typeof(unwrap(value)) for value in args), self.types.setdefault(kernel, set())
        if types not in seen:
            for card in CARDS[:1] if seen else CARDS:
                self.compile(kernel, types, card)
            seen.add(types)

    def compile(self, kernel: CudaKernel, types: tuple, card: tuple[int, int]) -> None:
        from numba import cuda

        self.card = card
        ptx, _ = cuda.compile_ptx(kernel.for_device(), types, cc=card)
        assert f".target sm_{card[0]}{card[1]}" in ptx, kernel.__name__

    def matmul(self, *arrays: Any, **more: Any) -> None:
        """Does nothing."""

    def elementwise(self, operation: Any) -> Any:
        body = super().elementwise(operation)

        def compiled(arrays: list, numbers: list, outputs: list) -> None:
            operation.cuda_loop(len(outputs)).of_items(outputs[0].size, *arrays, *numbers, *outputs)
            body(arrays, numbers, outputs)

        return compiled


@pytest.fixture
def compiling(monkeypatch):
    """The device, with operations that compile their kernels and then compute on the host."""
    dispatcher = pytest.importorskip("numba.cuda.dispatcher")
    device = CompilingCuda()
    for one in OPERATIONS.values():
        if isinstance(one, Elementwise):
            monkeypatch.setattr(one, "_device_bodies", {})
        elif "cuda" in one.bodies:
            monkeypatch.setitem(one.bodies, "cuda", _both(one.bodies["cuda"], one.bodies["cpu"]))
    # functions that kernels call are compiled for the card of the process
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=device.card))
    yield device
    use(HOST)


def _both(cuda_body: Any, host_body: Any) -> Any:
    def body(*args: Any, **kwargs: Any) -> Any:
        cuda_body(*args, **kwargs)
        found = host_body(*map(unwrap, args), **{key: unwrap(value) for key, value in kwargs.items()})
        return tuple(map(StrictArray, found)) if isinstance(found, tuple) else found

    return body


@pytest.mark.skipif(SIMULATED, reason="the simulator compiles nothing")
def test_kernels_compile_for_cards(compiling):
    for case in RUNNABLE:
        rng = np.random.default_rng(1)
        use(compiling)
        rig = Rig(parse_layer(f'type: "{case.type}" {case.text}', case.phase), case.bottoms(rng, 3), case.tops, np.float32)
        with np.errstate(all="ignore"):  # what no kernel has written holds anything
            tops = rig.forward()
            if case.gradients is not None:
                rig.backward(tops, [i in case.gradients for i in range(len(rig.bottom))])
    left = {kernel.__name__ for kernel in CUDA_KERNELS if kernel not in compiling.types}
    assert not left


# ---- simulated ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SIMULATED, reason="needs NUMBA_ENABLE_CUDASIM=1, which test_kernels_in_the_simulator sets")
@pytest.mark.filterwarnings("ignore:.*overflow encountered in scalar")  # as on a GPU, integers wrap around
@pytest.mark.parametrize("case", RUNNABLE, ids=lambda case: case.id)
def test_a_layer_gives_in_the_simulator_what_it_gives_on_the_host(case):
    from .simulated_cuda import SimulatedCuda

    for host, there in zip(run_case(case, HOST), run_case(case, SimulatedCuda()), strict=True):
        np.testing.assert_allclose(there, host, 1e-9, 1e-11)
    use(HOST)
