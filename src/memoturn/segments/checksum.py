"""Database checksums: the XOR of all page checksums, so that a commit updates them from its own pages alone.

CRC-64/GO-ISO with the top bit set, as LTX version 3 defines it (docs/format/ltx.md).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from fastcrc.crc64 import go_iso

from memoturn.base.txids import Checksum, PageNo

CHECKSUM_FLAG: Final = Checksum(1 << 63)
"""Set in every checksum, so that none is zero; alone, it is the checksum of the empty database."""

crc64: Final[Callable[..., int]] = go_iso
"""`crc64(data, crc_so_far)`: feeding parts one after the other gives the CRC of the whole."""

_pgno: Final = struct.Struct(">I").pack


def page_checksum(pgno: PageNo, page: bytes) -> Checksum:
    """The checksum of one page: CRC-64 of its number (4 bytes, big-endian) and its bytes."""
    return Checksum(crc64(page, crc64(_pgno(pgno))) | CHECKSUM_FLAG)


def replacement(pgno: PageNo, old: bytes, new: bytes) -> int:
    """What takes a page out of a database checksum and its successor in; there may have been none before.

    XOR it with the checksum, and set the top bit again.
    """
    number = crc64(_pgno(pgno))
    return crc64(new, number) ^ crc64(old, number) if old else crc64(new, number)


def combine(checksum: Checksum, page: Checksum) -> Checksum:
    """A database checksum after a page was added, or, because XOR undoes itself, taken away.

    A page that changed is combined twice: with its old checksum and with its new one. The lock page is
    never part of it.
    """
    return Checksum(CHECKSUM_FLAG | (checksum ^ page))
