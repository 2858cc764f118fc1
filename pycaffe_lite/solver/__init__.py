"""Solvers: `solver` (the loop), `nets`, `policies` (learning rates), `rules` (updates), `testing`, `snapshotting`.

`snapshots` reads and writes the files of states, `finite` says where a NaN came from.
"""

from . import rules  # noqa: F401  registers the types
from .solver import Action, Solver, create, find, register
from .testing import output_elements, output_values

__all__ = ["Action", "Solver", "create", "find", "output_elements", "output_values", "register"]
