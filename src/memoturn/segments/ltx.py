"""LTX version 3: one transaction, or one whole database, as a file that the reference tools read too.

Layout in docs/format/ltx.md. What is written here always reads back: both directions share one `validate`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from memoturn.base.errors import CorruptError, PayloadTooLargeError
from memoturn.base.txids import LOCK_PAGE, PAGE_SIZE, TXID, Checksum, PageNo, UnixMs
from memoturn.segments.checksum import CHECKSUM_FLAG, combine, crc64, page_checksum
from memoturn.segments.frame import HAS_SIZE, MAX_FRAME, PREFIX, compress, decode_frame

MAGIC: Final = b"LTX1"
HEADER: Final = struct.Struct(">4sIIIQQqQqqIIQ20x")
TRAILER: Final = struct.Struct(">QQ")
MAX_LENGTH: Final = (1 << 32) - 1
"""Bytes of one transaction's file, so that packs can count in 32 bits. A base has no such limit."""

_END_OF_PAGES: Final = bytes(6)
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_END: Final = struct.Struct(">xQQ")
"""The end of the page index, its size, and the checksum of the database."""
_SMALLEST: Final = HEADER.size + len(_END_OF_PAGES) + 1 + _U64.size + TRAILER.size
_NO_CHECKSUM_FLAG: Final = 0x2
_LIMIT: Final = 1 << 63


class LtxHeader(NamedTuple):
    """What a file says about itself.

    `commit` is the size of the database afterwards, in pages. `pre_checksum` is the database's checksum
    before, and 0 on a snapshot, which is any file whose `min_txid` is 1: it holds every page.
    """

    commit: int
    min_txid: TXID
    max_txid: TXID
    timestamp_ms: UnixMs
    pre_checksum: Checksum
    node_id: int = 0

    @property
    def snapshot_pages(self) -> int:
        """How many pages a snapshot holds: all of the database except the lock page."""
        return self.commit - (self.commit >= LOCK_PAGE)

    def validate(self) -> None:
        """Raises `CorruptError` for a header that no file may have."""
        commit, low, high, time, before, node = self
        if not 1 <= low <= high < _LIMIT:
            raise CorruptError(f"LTX header: txids {low} to {high}; they run from 1 to 2^63-1, in order")
        if not (0 <= commit <= 0xFFFF_FFFF and 0 <= time < _LIMIT and 0 <= node < 1 << 64):
            raise CorruptError(f"LTX header: {commit} pages at {time} ms by node {node} is out of range")
        if low == 1:
            if before:
                raise CorruptError(f"LTX header: a snapshot has no pre-apply checksum, found {before:#x}")
        elif before >> 63 != 1:
            raise CorruptError(f"LTX header: pre-apply checksum {before:#x} lacks its top bit")


class PageSpan(NamedTuple):
    """Where the frame of a page lies in its LTX file, in bytes."""

    pgno: PageNo
    offset: int
    length: int


class EncodedLtx(NamedTuple):
    """A finished file and where its frames are."""

    data: bytes
    frames: list[PageSpan]


class LtxIndex(NamedTuple):
    """Everything about a file except its pages."""

    header: LtxHeader
    frames: list[PageSpan]
    post_checksum: Checksum
    file_checksum: Checksum


class Ltx(NamedTuple):
    """A file, read and verified."""

    header: LtxHeader
    pages: list[tuple[PageNo, bytes]]
    frames: list[PageSpan]
    post_checksum: Checksum


def encode_ltx(
    header: LtxHeader, pages: Iterable[tuple[PageNo, bytes]], post_checksum: Checksum
) -> EncodedLtx:
    """Encode one transaction: its pages in ascending order, and the checksum of the database after it.

    Raises `CorruptError` if that makes no file that could be read back, and `PayloadTooLargeError` from
    4 GiB up.
    """
    head = encode_header(header)
    parts = [head]
    crc = crc64(head)
    frames: list[PageSpan] = []
    index = bytearray()
    offset = len(head)
    after = CHECKSUM_FLAG
    is_snapshot = header.min_txid == 1

    for pgno, page, prefix, block in compress_pages(header, pages):
        crc = crc64(page, crc64(prefix, crc))
        length = PREFIX.size + len(block)
        parts += (prefix, block)
        frames.append(PageSpan(pgno, offset, length))
        append_index_entry(index, pgno, offset, length)
        offset += length
        if is_snapshot:
            after = combine(after, page_checksum(pgno, page))

    if is_snapshot and after != post_checksum:
        raise CorruptError(f"snapshot: pages have checksum {after:#x}, the caller says {post_checksum:#x}")
    parts.append(encode_end(header, index, post_checksum, crc))
    data = b"".join(parts)
    if len(data) > MAX_LENGTH:
        raise PayloadTooLargeError(
            f"transaction {header.max_txid} takes {len(data)} bytes; 4 GiB is the most"
        )
    return EncodedLtx(data, frames)


def encode_header(header: LtxHeader) -> bytes:
    """The first 100 bytes."""
    header.validate()
    commit, low, high, time, before, node = header
    return HEADER.pack(MAGIC, 0, PAGE_SIZE, commit, low, high, time, before, 0, 0, 0, 0, node)


def compress_pages(
    header: LtxHeader, pages: Iterable[tuple[PageNo, bytes]]
) -> Iterator[tuple[PageNo, bytes, bytes, bytes]]:
    """Each page with its frame: number, page, frame prefix, compressed page.

    Raises `CorruptError` unless pages ascend, lie within the database, skip the lock page, have 4,096 bytes
    and, in a snapshot, are all there.
    """
    commit = header.commit
    last = count = 0
    for pgno, page in pages:
        if not last < pgno <= commit or pgno == LOCK_PAGE or len(page) != PAGE_SIZE:
            raise CorruptError(_wrong_page(pgno, len(page), last, commit))
        last = pgno
        count += 1
        block = compress(page, store_size=False)
        yield pgno, page, PREFIX.pack(pgno, HAS_SIZE, len(block)), block
    if header.min_txid == 1 and count != header.snapshot_pages:
        raise CorruptError(f"snapshot: {count} pages instead of {header.snapshot_pages}")


def append_index_entry(index: bytearray, pgno: PageNo, offset: int, length: int) -> None:
    """Add a page to a page index: three unsigned varints."""
    for number in (pgno, offset, length):
        while number > 0x7F:
            index.append(number & 0x7F | 0x80)
            number >>= 7
        index.append(number)


def encode_end(header: LtxHeader, index: bytearray, post_checksum: Checksum, crc: int) -> bytes:
    """What follows the last frame; `crc` is the file's CRC-64 up to there."""
    _check_post(header, post_checksum)
    end = b"".join((_END_OF_PAGES, index, _END.pack(len(index) + 1, post_checksum)))
    return end + _U64.pack(crc64(end, crc) | CHECKSUM_FLAG)


def decode_ltx(data: bytes | memoryview) -> Ltx:
    """Read one whole file and verify all of it: structure, page index, every page, every checksum.

    Raises `CorruptError`. Memory stays proportional to the number of frames that are really there.
    """
    view = memoryview(data)
    header, frames, post_checksum, file_checksum = index_ltx(view)

    crc = crc64(view[: HEADER.size])
    pages: list[tuple[PageNo, bytes]] = []
    after = CHECKSUM_FLAG
    end_of_pages = HEADER.size
    for pgno, offset, length in frames:
        end_of_pages = offset + length
        stored = view[offset:end_of_pages]
        (number,) = _U32.unpack_from(stored)
        if number != pgno:
            raise CorruptError(
                f"LTX file: the frame at byte {offset} is of page {number}, its index says {pgno}"
            )
        page = decode_frame(stored)
        pages.append((pgno, page))
        crc = crc64(page, crc64(stored[: PREFIX.size], crc))
        if header.min_txid == 1:
            after = combine(after, page_checksum(pgno, page))

    found = crc64(view[end_of_pages : -_U64.size], crc) | CHECKSUM_FLAG
    if found != file_checksum:
        raise CorruptError(
            f"LTX file checksum: contents give {found:#x}, the trailer says {file_checksum:#x}"
        )
    if header.min_txid == 1 and after != post_checksum:
        raise CorruptError(f"snapshot: pages have checksum {after:#x}, the trailer says {post_checksum:#x}")
    return Ltx(header, pages, frames, post_checksum)


def index_ltx(data: bytes | memoryview) -> LtxIndex:
    """Where the pages of one whole file lie, without decompressing them or verifying its checksum.

    Raises `CorruptError` if header, page index and trailer do not fit together.
    """
    view = memoryview(data)
    if len(view) < _SMALLEST:
        raise CorruptError(f"LTX file: {len(view)} bytes are too few; the smallest has {_SMALLEST}")
    header = decode_header(view)
    post_checksum, file_checksum = TRAILER.unpack_from(view, len(view) - TRAILER.size)
    _check_post(header, post_checksum)
    if file_checksum < CHECKSUM_FLAG:
        raise CorruptError(f"LTX trailer: file checksum {file_checksum:#x} lacks its top bit")

    stop = len(view) - TRAILER.size - _U64.size
    (size,) = _U64.unpack_from(view, stop)
    start = stop - size
    if start < HEADER.size + len(_END_OF_PAGES):
        raise CorruptError(f"LTX page index: {size} bytes do not fit a file of {len(view)}")
    frames, end_of_pages = _decode_index(bytes(view[start:stop]), header, start - len(_END_OF_PAGES))
    if view[end_of_pages:start] != _END_OF_PAGES:
        raise CorruptError(f"LTX file: no end of pages at byte {end_of_pages}, where the page index says")
    if header.min_txid == 1 and len(frames) != header.snapshot_pages:
        raise CorruptError(f"snapshot: {len(frames)} pages instead of {header.snapshot_pages}")
    return LtxIndex(header, frames, Checksum(post_checksum), Checksum(file_checksum))


def decode_header(data: bytes | memoryview) -> LtxHeader:
    """The header of a file whose first 100 bytes are given; raises `CorruptError`."""
    if len(data) < HEADER.size:
        raise CorruptError(f"LTX header: {len(data)} bytes instead of {HEADER.size}")
    magic, flags, page_size, commit, low, high, time, before, _, _, _, _, node = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise CorruptError(f"not an LTX file: begins with {magic!r} instead of {MAGIC!r}")
    if flags & _NO_CHECKSUM_FLAG:
        raise CorruptError("LTX header: the file was written without database checksums, which are required")
    if flags:
        raise CorruptError(f"LTX header: unknown flags {flags:#010x}")
    if page_size != PAGE_SIZE:
        raise CorruptError(f"LTX header: page size {page_size}; only {PAGE_SIZE} is supported")
    header = LtxHeader(commit, low, high, time, before, node)
    header.validate()
    return header


def _decode_index(index: bytes, header: LtxHeader, limit: int) -> tuple[list[PageSpan], int]:
    """The frames that a page index lists, one right after the other, and where the last one ends."""
    frames: list[PageSpan] = []
    last = at = 0
    expected = HEADER.size
    while True:
        pgno, at = _uvarint(index, at)
        if pgno == 0:
            break
        offset, at = _uvarint(index, at)
        length, at = _uvarint(index, at)
        if not last < pgno <= header.commit or pgno == LOCK_PAGE:
            raise CorruptError("LTX page index: " + _wrong_page(pgno, PAGE_SIZE, last, header.commit))
        if offset != expected or not PREFIX.size < length <= MAX_FRAME or offset + length > limit:
            raise CorruptError(
                f"LTX page index: page {pgno} at byte {offset} with {length} bytes, expected at {expected} "
                f"and ending by {limit}"
            )
        last = pgno
        expected += length
        frames.append(PageSpan(PageNo(pgno), offset, length))
    if at != len(index):
        raise CorruptError(f"LTX page index: ends after {at} of {len(index)} bytes")
    return frames, expected


def _uvarint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for byte in data[at : at + 10]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise CorruptError(f"LTX page index: a number that does not end by byte {at} of {len(data)}")


def _check_post(header: LtxHeader, post_checksum: int) -> None:
    if post_checksum >> 63 != 1:
        raise CorruptError(f"LTX trailer: post-apply checksum {post_checksum:#x} lacks its top bit")
    if header.commit == 0 and post_checksum != CHECKSUM_FLAG:
        raise CorruptError(f"LTX trailer: an empty database cannot have checksum {post_checksum:#x}")


def _wrong_page(pgno: int, size: int, last: int, commit: int) -> str:
    if pgno == LOCK_PAGE:
        return f"page {pgno} is the lock page, which is never stored"
    if pgno > commit:
        return f"page {pgno} is beyond the {commit} pages of the database"
    if pgno <= last:
        return f"page {pgno} comes after page {last}; pages must ascend from 1"
    return f"page {pgno} has {size} bytes instead of {PAGE_SIZE}"
