"""A frame is one page version as stored. Reading one verifies it, or says what is wrong with it.

LTX has no checksum for a single frame, so a pack's footer and a base's index carry a CRC-32 of each frame's
stored bytes: any page can be read alone and still never be wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

import lz4.block
from fastcrc.crc32 import iso_hdlc

from memoturn.base.errors import CorruptError
from memoturn.base.txids import EMPTY, PAGE_SIZE, TXID

PREFIX: Final = struct.Struct(">IHI")
"""Page number, flags, compressed size: what stands before the compressed page."""

HAS_SIZE: Final = 0x0001
"""The flag of a frame that carries its compressed size; frames without it are of an older encoding."""

MAX_FRAME: Final = PREFIX.size + PAGE_SIZE + PAGE_SIZE // 255 + 16
"""LZ4 cannot make a page larger than this."""

crc32: Final[Callable[..., int]] = iso_hdlc
compress: Final[Callable[..., bytes]] = lz4.block.compress
_decompress: Final[Callable[..., bytes]] = lz4.block.decompress
_LZ4_ERRORS: Final[tuple[type[Exception], ...]] = (lz4.block.LZ4BlockError, ValueError)


class Frame(NamedTuple):
    """Where a page version lies in its object, the CRC-32 of those bytes, and the commit that wrote it.

    A base does not know which commit that was.
    """

    offset: int
    length: int
    crc32: int
    txid: TXID = EMPTY


def decode_frame(stored: bytes | memoryview) -> bytes:
    """The page in a stored frame, 4,096 bytes. The caller compares the CRC-32 first, where there is one.

    Raises `CorruptError` if the bytes are not exactly one frame.
    """
    if len(stored) < PREFIX.size:
        raise CorruptError(f"a frame of {len(stored)} bytes is too short")
    pgno, flags, size = PREFIX.unpack_from(stored)
    if flags != HAS_SIZE or size != len(stored) - PREFIX.size:
        raise CorruptError(_wrong_prefix(pgno, flags, size, len(stored)))
    try:
        page = _decompress(stored[PREFIX.size :], uncompressed_size=PAGE_SIZE)
    except _LZ4_ERRORS as error:
        raise CorruptError(f"page {pgno} in a frame of {len(stored)} bytes: {error}") from None
    if len(page) != PAGE_SIZE:
        raise CorruptError(f"page {pgno} decompresses to {len(page)} bytes instead of {PAGE_SIZE}")
    return page


def _wrong_prefix(pgno: int, flags: int, size: int, length: int) -> str:
    if flags == 0:
        return f"page {pgno} is a legacy frame without a size; only frames with flag 0x0001 can be read"
    if flags != HAS_SIZE:
        return f"page {pgno} has unknown frame flags {flags:#06x}"
    return f"page {pgno} in a frame of {length} bytes says that it has {size} of data"
