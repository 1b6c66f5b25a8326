"""Copies of pages in a base's index: each compressed by itself, so that one can be taken without the others.

Pages from the inside of a tree, which LZ4 leaves as large as they are, shrink to less than half here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from memoturn.base.errors import CorruptError
from memoturn.base.txids import PAGE_SIZE, PageNo

_PREFIX: Final = struct.Struct("<IH")
"""Page number, bytes of what follows."""


def encode_copy(pgno: PageNo, page: bytes) -> bytes:
    """A page as it is copied into an index."""
    packed = zlib.compress(page)
    return _PREFIX.pack(pgno, len(packed)) + packed


def split_copies(section: bytes) -> Iterator[tuple[PageNo, memoryview]]:
    """The compressed pages that lie back to back in `section`, by number. Raises `CorruptError` for anything else."""
    view, at = memoryview(section), 0
    while at < len(view):
        start = at + _PREFIX.size
        pgno, length = _PREFIX.unpack_from(view, at) if start <= len(view) else (0, 0)
        at = start + length
        if not length or at > len(view):
            raise CorruptError(f"base index: {len(view) - start + _PREFIX.size} bytes of copies are no copy")
        yield PageNo(pgno), view[start:at]


def decode_copy(packed: memoryview) -> bytes:
    """The page, 4,096 bytes. Raises `CorruptError` if that is not what was packed."""
    try:
        inflate = zlib.decompressobj()
        page = inflate.decompress(packed, PAGE_SIZE + 1)
    except zlib.error as error:
        raise CorruptError(f"base index: the copy of a page cannot be inflated: {error}") from None
    if len(page) != PAGE_SIZE or not inflate.eof:
        raise CorruptError(f"base index: the copy of a page has {len(page)} bytes instead of {PAGE_SIZE}")
    return page
