"""Solvers: `solver` (step, test, snapshot), `policies` (learning rates), `rules` (updates), `snapshots` (state files)."""

from .rules import SGDSolver
from .solver import Action, Solver, create, output_elements, output_values

__all__ = ["Action", "SGDSolver", "Solver", "create", "output_elements", "output_values"]
