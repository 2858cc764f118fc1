"""Solvers: `solver` (step, test, snapshot), `policies` (learning rates), `rules` (updates), `snapshots` (state files)."""

from . import rules  # noqa: F401  registers the types
from .solver import Action, Solver, create, output_elements, output_values

__all__ = ["Action", "Solver", "create", "output_elements", "output_values"]
