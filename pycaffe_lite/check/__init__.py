"""The linter: everything that is wrong with a net or a solver, each with its line, without data, weights or foreign code.

`files` checks a file of either kind; `net` walks through the layers of a net, `data_layers` knows shapes of data that are
not read, `text` finds all errors of syntax.
"""

from .files import check
from .text import Findings

__all__ = ["Findings", "check"]
