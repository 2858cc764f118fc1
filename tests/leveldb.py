"""Skips tests of LevelDB where plyvel is not installed. It does not have wheels for every Python and system."""

from __future__ import annotations

from typing import Any

import pytest

from pycaffe_lite.data.database import default_backend

AVAILABLE = default_backend() == "leveldb"
needs_leveldb = pytest.mark.skipif(not AVAILABLE, reason="plyvel is not installed")
backends = pytest.mark.parametrize("backend", ["lmdb", pytest.param("leveldb", marks=needs_leveldb)])


def with_marks(values: Any, needing: Any) -> list:
    """The values of a parameter, of which those in `needing` need LevelDB."""
    return [pytest.param(value, marks=needs_leveldb) if value in needing else value for value in values]
