"""How much memory this machine has, so that a size beyond it is an error with a place.

Linux grants more memory than there is, and kills the process that uses it. So large sizes are compared with what there is.
"""

from __future__ import annotations

import os
import sys

from ..errors import NetError

LARGE = 2**28  # bytes; for less, nothing is looked up
_CONTAINER = "/sys/fs/cgroup/memory.max"
_SYSTEM = "/proc/meminfo"


def require(size: int, purpose: str) -> None:
    """Raises `NetError` if the machine, or the limit of this process, is smaller than `size` bytes for `purpose`."""
    if size > LARGE and size > _total():
        raise error(size, purpose)


def require_now(size: int, purpose: str) -> None:
    """Raises `NetError` if `size` bytes for `purpose`, which will be used at once, are not available at present."""
    if size > LARGE and size > min(_total(), _available()):
        raise error(size, purpose)


def error(size: int, purpose: str) -> NetError:
    """The error for `size` bytes for `purpose`."""
    return NetError(f"not enough memory for {purpose} ({size / 2**30:.1f} GiB)")


def _total() -> int:
    """The bytes of the machine, or of its limit for this process."""
    limits = [sys.maxsize]
    if hasattr(os, "sysconf"):  # not on Windows, which refuses what it does not have
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        import resource

        limits.append(resource.getrlimit(resource.RLIMIT_AS)[0])
    limits.append(_number(_CONTAINER))
    return min(limit for limit in limits if limit >= 0)  # no limit is -1


def _available() -> int:
    """The bytes that Linux could give now without ending a process."""
    try:
        with open(_SYSTEM, encoding="ascii") as file:
            fields = {name: int(value.split()[0]) for name, value in (line.split(":") for line in file)}
        return 1024 * (fields["MemAvailable"] + fields.get("SwapFree", 0))
    except (OSError, ValueError, LookupError):  # another system
        return sys.maxsize


def _number(path: str) -> int:
    """The number in a file, or -1 if there is none."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return -1
