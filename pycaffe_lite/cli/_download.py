"""Shared by the commands that fetch files: finding a mirror that answers, and downloads that can be continued."""

from __future__ import annotations

import http
import http.client
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from ..errors import DataError

CONTACT_SECONDS = 20.0  # within this time a mirror must answer
PREFER_SECONDS = 3.0  # how long a mirror that has answered waits for a better one
STALL_SECONDS = 10.0  # within this time a mirror must send at least STALL_BYTES
STALL_BYTES = 10_000
CANNOT_FETCH = 3  # exit status
NETWORK_ERRORS = (OSError, http.client.HTTPException, ValueError)
_CHUNK = 1 << 16


class CannotFetch(DataError):
    """No mirror has delivered the right files."""


def write(path: Path, content: bytes) -> None:
    """Writes a file completely or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def answering(mirrors: Sequence[str], name: str) -> list[str]:
    """The mirrors (folder URLs with a slash at the end) that have the file `name`, in the given order.

    All mirrors are asked at once, because a dead one takes long to time out.
    """
    answers: dict[str, bool] = {}
    changed = threading.Condition()

    def ask(mirror: str) -> None:
        try:
            with urllib.request.urlopen(f"{mirror}{name}", timeout=CONTACT_SECONDS) as response:
                good = bool(response.read(1))
        except NETWORK_ERRORS:
            good = False
        with changed:
            answers[mirror] = good
            changed.notify_all()

    for mirror in mirrors:
        threading.Thread(target=ask, args=(mirror,), daemon=True).start()
    with changed:
        changed.wait_for(lambda: any(answers.values()) or len(answers) == len(mirrors), CONTACT_SECONDS)
        if any(answers.values()):
            changed.wait_for(lambda: len(answers) == len(mirrors), PREFER_SECONDS)
        return [mirror for mirror in mirrors if answers.get(mirror)]


def fetch(url: str, part: Path, size: int, take: Callable[[Path], bool]) -> bool:
    """Downloads a file of at most `size` bytes to `part`. Returns whether `take` accepted it and moved it to its place.

    The next download continues what a broken one has left in `part`. The reason for a failure is printed.
    """
    resumed = part.exists()
    try:
        receive(url, part, size)
    except NETWORK_ERRORS as error:
        print(f"{url}: {error}", file=sys.stderr)
        if getattr(error, "code", None) != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return False
    else:
        if take(part):
            return True
        print(f"{url}: is not the file it should be (wrong SHA-256)", file=sys.stderr)
    part.unlink(missing_ok=True)
    return resumed and fetch(url, part, size, take)  # the part that was continued may have been of a wrong file


def receive(url: str, part: Path, limit: int) -> None:
    """Appends the rest of a file to `part`. Raises `OSError` if the download stalls, breaks off or is too long."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=STALL_SECONDS) as response:
        if have and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # this mirror ignores the requested position
        total = have + int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
        label = part.name.removesuffix(".part")
        bar = tqdm(total=total, initial=have, desc=label, unit="B", unit_scale=True, disable=None)
        with open(part, "ab" if have else "wb") as file, bar:
            since, received = time.monotonic(), 0
            while chunk := response.read1(_CHUNK):
                have += len(chunk)
                received += len(chunk)
                if have > limit:
                    raise OSError(f"is too long, expected at most {limit} bytes")
                file.write(chunk)
                bar.update(len(chunk))
                if time.monotonic() - since > STALL_SECONDS:
                    if received < STALL_BYTES:
                        raise OSError(f"stalled, with {have} of {total or 'unknown'} bytes")
                    since, received = time.monotonic(), 0
    if total is not None and have < total:
        raise OSError(f"broke off after {have} of {total} bytes")
