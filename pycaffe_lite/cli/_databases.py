"""Creates several new databases at once, for commands that write more than one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ..data.database_writer import Writer, create_database
from ..errors import DataError


@contextmanager
def new_databases(paths: Sequence[str], backend: str) -> Iterator[list[Writer]]:
    """Writers for new databases. If one of the paths exists already, no database is created."""
    if len(set(paths)) < len(paths):
        raise DataError(f"expected a path of its own for each database, received {', '.join(paths)}")
    for path in paths:
        if os.path.lexists(path):
            raise DataError(f"{path}: already exists; remove it first, or give another path")
    with ExitStack() as stack:
        yield [stack.enter_context(create_database(path, backend)) for path in paths]
