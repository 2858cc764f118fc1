"""Tests during training: the mean outputs of the test nets with the weights of the training net (Solver::TestAll)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .. import glog
from ..net import Net, states, weights

if TYPE_CHECKING:
    from .solver import Solver


def test_all(solver: Solver) -> None:
    """Tests every test net; stops between two batches if a signal asks for it.

    The resumed run repeats a stopped test from its start, so the data layers are put back to where they were.
    """
    solver.states_before_test = [states.layer_states(net) for net in solver.test_nets]
    for i in range(len(solver.test_nets)):
        solver.test(i)
        if solver.stopped_early:
            for net, before in zip(solver.test_nets, solver.states_before_test, strict=True):
                states.restore(net, before)
            break
    solver.states_before_test = None


def share_parameters(solver: Solver) -> None:
    """Makes every test net use the parameters of the training net."""
    for net in solver.test_nets:
        weights.share_with(net, solver.net, log=lambda line: None)  # each test logs it


def test(solver: Solver, index: int) -> list[float]:
    """Runs test net `index` for its `test_iter` batches and logs the mean outputs.

    Returns them, one number per element of each output; nothing if a signal stopped the test or there are no batches.
    """
    glog.info(f"Iteration {solver.iter}, Testing net (#{index})")
    net, batches = solver.test_nets[index], solver.param.test_iter[index]
    weights.share_with(net, solver.net)  # again: since the last time a program may have given parameters other memory
    losses, outputs = [], []
    for _ in range(batches):
        if solver.stop_requested_while_testing():
            glog.info("Test interrupted.")
            return []
        losses.append(net.forward_layers())
        outputs.append(output_values(net))
    if not batches:
        return []
    if solver.param.test_compute_loss:
        glog.info(f"Test loss: {sum(losses) / batches:g}")
    scores = np.mean(outputs, axis=0)
    log_outputs("Test", net, scores)
    for watch in solver.test_watchers:
        watch(solver, index, scores.tolist())
    return scores.tolist()


def log_outputs(kind: str, net: Net, scores: np.ndarray) -> None:
    """`    Train net output #0: loss = 0.03 (* 1 = 0.03 loss)`: one line for each element of each output."""
    for i, (name, score) in enumerate(zip(output_elements(net), scores, strict=True)):
        weight = net.blob_loss_weights[name]
        loss = f" (* {weight:g} = {weight * score:g} loss)" if weight else ""
        glog.info(f"    {kind} net output #{i}: {name} = {score:g}{loss}")


def output_values(net: Net) -> np.ndarray:
    """All elements of all outputs in one array."""
    values = [np.ravel(net.blobs[name].data).astype(np.float64) for name in net.outputs]
    return np.concatenate(values) if values else np.zeros(0)


def output_elements(net: Net) -> Iterator[str]:
    """For each element of each output, the name of the output."""
    return (name for name in net.outputs for _ in range(net.blobs[name].count))
