"""Solvers: `solver` (step, test, snapshot), `policies` (learning rates), `rules` (updates), `snapshots` (state files)."""

from .rules import SGDSolver
from .solver import Action, Solver, create

__all__ = ["Action", "SGDSolver", "Solver", "create"]
