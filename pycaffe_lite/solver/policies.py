"""Learning-rate policies: the rate of an iteration (Caffe's SGDSolver::GetLearningRate)."""

from __future__ import annotations

import math

from ..errors import SolverError, did_you_mean
from ..proto.caffe_pb2 import SolverParameter

POLICIES = ("fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid")
_NEED_GAMMA = ("step", "exp", "inv", "multistep", "sigmoid")
_NEED_STEPSIZE = ("step", "sigmoid")


def check(param: SolverParameter) -> None:
    """Raises `SolverError` if the policy is unknown or a field that it needs is wrong."""
    policy = param.lr_policy
    if policy not in POLICIES:
        problem = f'unknown lr_policy "{policy}"{did_you_mean(policy, POLICIES)}' if policy else "lr_policy is not set"
        raise SolverError(f"{problem}; there are {', '.join(POLICIES)}", field="lr_policy")
    if policy in _NEED_GAMMA and param.gamma < 0:
        raise SolverError(f'lr_policy "{policy}" needs gamma >= 0, received {param.gamma:g}', field="lr_policy")
    if policy in _NEED_STEPSIZE and param.stepsize <= 0:
        raise SolverError(f'lr_policy "{policy}" needs stepsize > 0, received {param.stepsize}', field="lr_policy")
    if policy == "poly" and param.max_iter <= 0:
        raise SolverError('lr_policy "poly" needs max_iter > 0', field="lr_policy")


def learning_rate(param: SolverParameter, iteration: int, current_step: int) -> tuple[float, int]:
    """The rate of `iteration`, and the number of steps so far, which `step` and `multistep` count.

    fixed: base_lr. step: base_lr gamma^floor(i / stepsize). exp: base_lr gamma^i. inv: base_lr (1 + gamma i)^-power.
    multistep: base_lr gamma^(number of stepvalues passed). poly: base_lr (1 - i / max_iter)^power.
    sigmoid: base_lr / (1 + e^(-gamma (i - stepsize))).
    Raises `SolverError` if the rate is too large for a float.
    """
    try:
        return _learning_rate(param, iteration, current_step)
    except (OverflowError, ZeroDivisionError):
        raise SolverError(
            f'the learning rate of iteration {iteration} is infinite: lr_policy "{param.lr_policy}", '
            f"base_lr {param.base_lr:g}, gamma {param.gamma:g}, power {param.power:g}",
            field="lr_policy",
        ) from None


def _learning_rate(param: SolverParameter, iteration: int, current_step: int) -> tuple[float, int]:
    policy, base, gamma = param.lr_policy, param.base_lr, param.gamma
    if policy == "step":
        current_step = iteration // param.stepsize
    elif policy == "multistep" and current_step < len(param.stepvalue) and iteration >= param.stepvalue[current_step]:
        current_step += 1
    if policy in ("step", "multistep"):
        return base * gamma**current_step, current_step
    if policy == "exp":
        return base * gamma**iteration, current_step
    if policy == "inv":
        return base * (1 + gamma * iteration) ** -param.power, current_step
    if policy == "poly":
        # Caffe computes NaN beyond max_iter; here the rate stays 0
        return base * max(0.0, 1 - iteration / param.max_iter) ** param.power, current_step
    if policy == "sigmoid":
        return base * _sigmoid(gamma * (iteration - param.stepsize)), current_step
    return base, current_step


def _sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(0.5 * x))
