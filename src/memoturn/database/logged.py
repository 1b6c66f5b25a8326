"""A commit as the log keeps it: its pages as they are. Making an LTX file of it waits until it is shipped.

A caller waits for the log, and nobody waits for the shipper. Byte layout: docs/format/log.md.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from memoturn.base.errors import CorruptError
from memoturn.base.txids import PAGE_SIZE, Checksum, PageNo
from memoturn.segments.checksum import crc64
from memoturn.segments.ltx import LtxHeader

_HEAD: Final = struct.Struct("<IQQqQQI")
_CRC: Final = struct.Struct("<Q")
_NUMBERS: Final = [struct.Struct(f"<{count}I") for count in range(16)]


def encode_logged(header: LtxHeader, pages: Mapping[PageNo, bytes], post_checksum: Checksum) -> bytes:
    """The bytes of a commit."""
    count = len(pages)
    commit, low, high, time, before, _ = header
    numbers = _NUMBERS[count] if count < len(_NUMBERS) else struct.Struct(f"<{count}I")
    head = _HEAD.pack(commit, low, high, time, before, post_checksum, count) + numbers.pack(*pages)
    crc = crc64(head)
    for page in pages.values():
        crc = crc64(page, crc)
    return b"".join((head, *pages.values(), _CRC.pack(crc)))


def decode_logged(data: bytes) -> tuple[LtxHeader, dict[PageNo, bytes], Checksum]:
    """What `encode_logged` was given. Raises `CorruptError`."""
    end = len(data) - _CRC.size
    if end < _HEAD.size or _CRC.unpack_from(data, end)[0] != crc64(data[:end]):
        raise CorruptError(f"a commit of {len(data)} bytes in the log does not match its checksum")
    commit, low, high, time, before, after, count = _HEAD.unpack_from(data)
    start = _HEAD.size + 4 * count
    if end != start + count * PAGE_SIZE:
        raise CorruptError(f"a commit of {len(data)} bytes in the log says that it has {count} pages")
    header = LtxHeader(commit, low, high, time, before)
    header.validate()
    numbers = struct.unpack_from(f"<{count}I", data, _HEAD.size)
    pages = {
        PageNo(number): data[at : at + PAGE_SIZE]
        for number, at in zip(numbers, range(start, end, PAGE_SIZE), strict=True)
    }
    return header, pages, Checksum(after)
