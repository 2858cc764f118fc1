"""The linter: everything that is wrong with a net or a solver, each with its line, without data, weights or foreign code.

`files` checks a file of either kind, `net_file` and `solver_file` one of theirs. `net` walks through the layers of a net,
`data_layers` knows shapes of data that are not read, `text` finds all errors of syntax, `findings` collects what is found.
"""

from .files import check
from .findings import Findings

__all__ = ["Findings", "check"]
