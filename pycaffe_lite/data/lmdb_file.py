"""The records of an LMDB file, in key order, read page by page.

The library maps the file into memory, so a page that is damaged, or cut off during a run, ends the process. Here each page
is read from the file and checked before it is used, and a fault in it is an error.

A file is a tree of pages of equal size. Each of the first two pages holds a header; the later header is valid. Formats are
those of `mdb.c` of LMDB 0.9 on 64 bits, little endian. Byte offsets:

    page      0 its own number, 8 bytes   10 flags, 2   12 end of the list of nodes, 2   16 the offset of each node, 2 each
              overflow: 16 the bytes of one large value, which continue on the next pages
    node      0 size of the value, 4   4 flags, 2   6 size of the key, 2   8 key, then value
              of a branch: 0 number of the page with the keys from this key on, 6
    header    16 magic number, 4   40 page size, 4   92 flags, 2   94 depth of the tree, 2   120 records, 8   128 root, 8
              136 last page, 8   144 transaction, 8
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

MAGIC = b"\xde\xc0\xef\xbe"

_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4  # flags of pages
_IN_OVERFLOW = 1  # flag of a node: its value is the number of an overflow page, which holds the real value
_HEADER_BYTES, _PAGE_HEADER = 152, 16
_NO_PAGE = 2**64 - 1  # the root of an empty tree
_MAX_DEPTH = 32
_READ_AHEAD = 1 << 16  # bytes

_PAGE, _NODE, _NUMBER = struct.Struct("<QHHH"), struct.Struct("<IHH"), struct.Struct("<Q")
_SIZE = struct.Struct("<I")


class LmdbError(Exception):
    """A file that is not an LMDB database, is damaged, or was cut off."""


class LmdbFile:
    """An open LMDB file, for reading by one thread at a time. Raises `LmdbError` or `OSError`."""

    def __init__(self, path: str | os.PathLike):
        self.version = 0  # counts the states of the file so far
        self._headers: tuple[bytes, bytes] | None = None
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise

    def refresh(self) -> None:
        """Switches to the latest state of the file, and increments `version` if the state has changed.

        A writer does not change the pages of the latest state. So if the version is the same before and after reading, all
        that was read belongs to one state.
        """
        headers = self._read_headers()
        if headers != self._headers:
            self._buffer, self._buffer_start = b"", 0  # the bytes of the last read, and their offset
            self._use(max(headers, key=lambda header: _NUMBER.unpack_from(header, 144)))
            self._headers = headers
            self.version += 1

    def _read_headers(self) -> tuple[bytes, bytes]:
        self._file.seek(0)
        first = self._file.read(_HEADER_BYTES)
        page_size = _SIZE.unpack_from(first, 40)[0] if len(first) == _HEADER_BYTES else 0
        if page_size not in (1 << bits for bits in range(9, 17)):
            raise LmdbError("the header of the LMDB database is damaged")
        self._file.seek(page_size)
        second = self._file.read(_HEADER_BYTES)
        if len(second) < _HEADER_BYTES or not first[16:20] == second[16:20] == MAGIC or first[40:44] != second[40:44]:
            raise LmdbError("the header of the LMDB database is damaged")
        return first, second

    def _use(self, header: bytes) -> None:
        (self._page_size,) = _SIZE.unpack_from(header, 40)
        flags, self._depth = struct.unpack_from("<2H", header, 92)
        self.entries, self._root, self._last_page = struct.unpack_from("<3Q", header, 120)
        if flags or self._depth > _MAX_DEPTH:
            raise LmdbError("the LMDB database is of a kind that Caffe does not write, or its header is damaged")
        expected, received = (self._last_page + 1) * self._page_size, os.fstat(self._file.fileno()).st_size
        if received < expected:
            raise LmdbError(f"the LMDB database is cut off: expected {expected} bytes, received {received}")

    def close(self) -> None:
        self._file.close()

    def records(self, start_key: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in key order, from the first key that is not below `start_key`."""
        return iter(()) if self._root == _NO_PAGE else self._records(self._root, 1, start_key)

    def last_key(self) -> bytes:
        """The largest key. The database must not be empty."""
        number = self._root
        for depth in range(1, self._depth):
            page, nodes = self._page(number, depth)
            number = self._child(page, nodes[-1])
        page, nodes = self._page(number, self._depth)
        return self._key(page, nodes[-1])

    def _records(self, number: int, depth: int, start_key: bytes) -> Iterator[tuple[bytes, bytes]]:
        page, nodes = self._page(number, depth)
        if depth == self._depth:
            for node in nodes:
                size, flags, key_size = _NODE.unpack_from(page, node)
                start = node + _NODE.size + key_size
                end = start + (_NUMBER.size if flags else size)
                if flags & ~_IN_OVERFLOW or end > len(page):
                    raise _damaged(number)
                key, value = page[node + _NODE.size : start], page[start:end]
                if key >= start_key:
                    yield key, self._overflow(_NUMBER.unpack(value)[0], size) if flags else value
            return
        first = 0  # its own key is not used: it holds all keys below the second
        while first + 1 < len(nodes) and self._key(page, nodes[first + 1]) <= start_key:
            first += 1
        for node in nodes[first:]:
            yield from self._records(self._child(page, node), depth + 1, start_key)

    def _page(self, number: int, depth: int) -> tuple[bytes, tuple[int, ...]]:
        """A page of the tree, and the offsets of its nodes."""
        page = self._read(number, self._page_size)
        own_number, _, flags, end = _PAGE.unpack_from(page)
        count, remainder = divmod(end - _PAGE_HEADER, 2)
        kind = _LEAF if depth == self._depth else _BRANCH
        if own_number != number or not flags & kind or remainder or not 0 < count <= (self._page_size - _PAGE_HEADER) // 2:
            raise _damaged(number)
        nodes = struct.unpack_from(f"<{count}H", page, _PAGE_HEADER)
        if min(nodes) < end or max(nodes) > self._page_size - _NODE.size:
            raise _damaged(number)
        return page, nodes

    def _key(self, page: bytes, node: int) -> bytes:
        size = _NODE.unpack_from(page, node)[2]
        start = node + _NODE.size
        if start + size > len(page):
            raise _damaged(_PAGE.unpack_from(page)[0])
        return page[start : start + size]

    def _child(self, page: bytes, node: int) -> int:
        low, high, _ = _NODE.unpack_from(page, node)
        return low | high << 32

    def _overflow(self, number: int, size: int) -> bytes:
        pages = self._read(number, _PAGE_HEADER + size)
        own_number, _, flags, _ = _PAGE.unpack_from(pages)
        if own_number != number or not flags & _OVERFLOW:
            raise _damaged(number)
        return pages[_PAGE_HEADER:]

    def _read(self, number: int, size: int) -> bytes:
        """Bytes from page `number` on. If pages are read in order, the following ones are read with them."""
        start = number * self._page_size
        if number < 2 or start + size > (self._last_page + 1) * self._page_size:
            raise _damaged(number)
        buffer_end = self._buffer_start + len(self._buffer)
        if start < self._buffer_start or start + size > buffer_end:
            self._file.seek(start)
            self._buffer, self._buffer_start = self._file.read(max(size, _READ_AHEAD if start == buffer_end else 0)), start
        first = start - self._buffer_start
        data = self._buffer[first : first + size]
        if len(data) < size:
            raise LmdbError(f"the LMDB database was cut off: page {number} is missing")
        return data


def _damaged(page: int) -> LmdbError:
    return LmdbError(f"page {page} of the LMDB database is damaged, or was overwritten")
