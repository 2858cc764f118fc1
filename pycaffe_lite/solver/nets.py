"""The nets of a solver file: one train net and any number of test nets (Solver::InitTrainNet and InitTestNets)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import glog
from ..errors import SolverError
from ..net import Net, weights
from ..proto import Source, read_net
from ..proto.caffe_pb2 import TEST, TRAIN, NetParameter, NetState, Phase, SolverParameter

MakeNet = Callable[[NetParameter, Source], Any]


def train_net(param: SolverParameter, where: str, make_net: MakeNet) -> Any:
    """The net that `param` trains. `where` is the place of the solver file. Raises `SolverError` unless one net is given."""
    fields = [name for name in ("net", "net_param", "train_net", "train_net_param") if param.HasField(name)]
    if len(fields) != 1:
        received = ", ".join(fields) or "none"
        raise SolverError(
            f"expected one of net, net_param, train_net, train_net_param; received {received}", field=next(iter(fields), "")
        )
    return _build(param, where, make_net, getattr(param, fields[0]), TRAIN, param.train_state)


def test_nets(param: SolverParameter, where: str, make_net: MakeNet) -> list[Any]:
    """`test_net_param`s, then `test_net`s; the other `test_iter`s are for `net` or `net_param`."""
    test_only: list[Any] = [*param.test_net_param, *param.test_net]
    generic: Any = param.net_param if param.HasField("net_param") else param.net if param.HasField("net") else None
    needed, count = len(test_only), len(param.test_iter)
    if count < needed or (generic is None and count > needed):
        field = next((name for name in ("test_iter", "test_net", "test_net_param") if getattr(param, name)), "")
        raise SolverError(f"test_iter is given once for each test net: expected {needed}, received {count}", field=field)
    nets = test_only + [generic] * (count - needed)
    states: list[NetState | None] = list(param.test_state) or [None] * len(nets)
    if len(states) != len(nets):
        raise SolverError(
            f"test_state is given once for each test net or not at all: expected {len(nets)}, received {len(states)}",
            field="test_state",
        )
    if nets and param.test_interval <= 0:
        raise SolverError(f"test nets need test_interval > 0, received {param.test_interval}", field="test_interval")
    return [_build(param, where, make_net, net, TEST, state) for net, state in zip(nets, states, strict=True)]


def _build(
    param: SolverParameter, where: str, make_net: MakeNet, origin: str | NetParameter, phase: Phase, state: NetState | None
) -> Any:
    if isinstance(origin, str):
        glog.info(f"Creating {Phase.Name(phase)} net from {origin}")
        net_param, source = read_net(origin)
    else:
        net_param, source = NetParameter(), Source(where)
        net_param.CopyFrom(origin)
    full_state = NetState(phase=phase)
    full_state.MergeFrom(net_param.state)
    if state is not None:
        full_state.MergeFrom(state)
    net_param.state.CopyFrom(full_state)
    net = make_net(net_param, source)
    net.debug_info = phase == TEST and param.debug_info  # the train net logs its changes at each step
    load_weights(net, param.weights, warn=phase == TRAIN)  # a test net misses what the train net does
    return net


def load_weights(net: Net, names: Sequence[str], warn: bool = True) -> None:
    """Copies model files into a net. A name may be a comma-separated list, as on Caffe's command line."""
    paths = [part.strip() for name in names for part in name.split(",") if part.strip()]
    for path in paths:
        glog.info(f"Finetuning from {path}")
    weights.copy_from(net, *paths, warn=warn)
