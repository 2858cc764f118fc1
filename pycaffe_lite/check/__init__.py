"""The linter: reports all errors of a net or a solver, each with its line, without data, weights or user code.

`files` checks a file of either kind, `net_file` and `solver_file` check one kind each. `net` walks through the layers of a
net, `data_layers` gives the shapes of data that are not read, `text` finds all syntax errors, `findings` collects errors.
"""

from .files import check
from .findings import Findings

__all__ = ["Findings", "check"]
