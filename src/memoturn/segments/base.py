"""A base is the whole database at one txid: an LTX snapshot, and beside it an index of its frames.

The snapshot is one object and nothing but an LTX file, because the reference tools refuse bytes after its
end; the index is a second object of about 6 bytes a page, with a copy of some pages that most queries begin
with. Layout in docs/format/base.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from memoturn.base.errors import CorruptError
from memoturn.base.txids import EMPTY, TXID, Checksum, PageNo, UnixMs
from memoturn.segments.columns import U16, U32, U64, WIDTH, Code, split_columns
from memoturn.segments.copies import decode_copy, split_copies
from memoturn.segments.frame import Frame, crc32
from memoturn.segments.tail import NeedMore, Trailer

TRAILER: Final = Trailer("base index", b"MTBX", 2, struct.Struct("<QQQQQIIII"))
"""Txid, commit time, post-apply checksum, snapshot's bytes and file checksum, pages, CRC of the directory, bytes
and CRC of the copies."""

TRAILER_1: Final = Trailer("base index", b"MTBX", 1, struct.Struct("<QQQQQII"))
"""That of indexes without copies."""

ANCHOR_PAGES: Final = 64
"""One absolute offset for so many pages; the lengths in between lead to each of them."""

BLOCK_PAGES: Final = 8192
"""Pages a block of the table: each can be fetched and verified by itself."""


class Span(NamedTuple):
    """A range of bytes of an object."""

    offset: int
    length: int


def block_layout(pages: int) -> list[tuple[Code, int]]:
    """The columns of a block: anchor offsets, bytes of each frame (0 for the lock page), CRC-32 of each."""
    return [(U64, -(-pages // ANCHOR_PAGES)), (U16, pages), (U32, pages)]


def block_span(page_count: int, number: int) -> Span:
    """Where a block of the table of a database of `page_count` pages lies in the index object."""
    pages = min(BLOCK_PAGES, page_count - number * BLOCK_PAGES)
    return Span(number * _FULL_BLOCK, sum(WIDTH[code] * count for code, count in block_layout(pages)))


_FULL_BLOCK: Final = sum(WIDTH[code] * count for code, count in block_layout(BLOCK_PAGES))


class NotLoadedError(LookupError):
    """The part of a base's table that was asked for is still to be loaded: `span` of the index object."""

    def __init__(self, span: Span) -> None:
        super().__init__(f"bytes {span.offset} to {span.offset + span.length} of the index are not loaded")
        self.span = span


class _Block(NamedTuple):
    anchors: Sequence[int]
    lengths: Sequence[int]
    crcs: Sequence[int]


class BaseIndex:
    """Where each page of a base lies. Made by `parse_base_tail`; safe to share once loaded.

    `page_count` is the size of the database, `checksum` its checksum, `snapshot_length` the size of the LTX
    object in bytes, and `file_checksum` the one in that object's trailer.
    """

    __slots__ = (
        "_blocks", "_copied", "_copies", "_directory", "checksum", "file_checksum", "page_count",
        "snapshot_length", "time", "txid",
    )  # fmt: skip

    def __init__(
        self,
        txid: TXID,
        time: UnixMs,
        checksum: Checksum,
        snapshot_length: int,
        file_checksum: Checksum,
        page_count: int,
        directory: bytes | memoryview,
    ) -> None:
        self.txid: Final = txid
        self.time: Final = time
        self.checksum: Final = checksum
        self.snapshot_length: Final = snapshot_length
        self.file_checksum: Final = file_checksum
        self.page_count: Final = page_count
        (self._directory,) = split_columns(memoryview(directory), [(U32, len(directory) // WIDTH[U32])])
        self._blocks: list[_Block | None] = [None] * len(self._directory)
        self._copies: bytes | None = None
        self._copied: dict[int, memoryview] | None = None

    def find(self, pgno: PageNo, until: TXID = EMPTY, since: TXID = EMPTY) -> Frame | None:
        """The frame of a page, or None for the lock page and pages beyond the database.

        `until` and `since` are there so that packs and bases answer the same call; a base has one version.
        Raises `NotLoadedError` if that part of the table has to be loaded first.
        """
        if not 0 < pgno <= self.page_count:
            return None
        number, entry = divmod(pgno - 1, BLOCK_PAGES)
        block = self._blocks[number]
        if block is None:
            raise NotLoadedError(block_span(self.page_count, number))
        anchors, lengths, crcs = block
        length = lengths[entry]
        if not length:
            return None
        anchor, rest = divmod(entry, ANCHOR_PAGES)
        offset = anchors[anchor]
        if rest:
            offset += sum(lengths[entry - rest : entry])
        if offset + length > self.snapshot_length:
            raise CorruptError(
                f"base index: page {pgno} at byte {offset} with {length} bytes, "
                f"but the snapshot has {self.snapshot_length}"
            )
        return Frame(offset, length, crcs[entry])

    def copy(self, pgno: PageNo) -> bytes | None:
        """The page, if the index has a copy of it and that is loaded. Raises `CorruptError` if it is none."""
        copied = self._copied
        if copied is None:
            if self._copies is None:
                return None
            copied = self._copied = dict(split_copies(self._copies))
        packed = copied.get(pgno)
        return None if packed is None else decode_copy(packed)

    @property
    def has_copies(self) -> bool:
        """Whether copies of pages are loaded."""
        return bool(self._copies)

    def keep_copies(self, section: bytes | memoryview) -> None:
        """Take in the copies, whose CRC was verified."""
        self._copies, self._copied = bytes(section), None

    def pages(self) -> Iterator[tuple[PageNo, Frame]]:
        """Every page of the database, ascending. Raises `NotLoadedError` at the first that is not loaded."""
        for pgno in map(PageNo, range(1, self.page_count + 1)):
            if (frame := self.find(pgno)) is not None:
                yield pgno, frame

    @property
    def memory_bytes(self) -> int:
        """About how much memory the index takes."""
        loaded = len(self._blocks) - self._blocks.count(None)
        return (
            loaded * min(_FULL_BLOCK, self.page_count * 8) + len(self._blocks) * 64 + len(self._copies or b"")
        )

    @property
    def missing(self) -> Span | None:
        """The part of the index object that is still to be loaded for every page to be found at once."""
        wanted = [number for number, block in enumerate(self._blocks) if block is None]
        if not wanted:
            return None
        first, last = block_span(self.page_count, wanted[0]), block_span(self.page_count, wanted[-1])
        return Span(first.offset, last.offset + last.length - first.offset)

    def load(self, offset: int, data: bytes | memoryview) -> None:
        """Take in bytes of the index object that begin at `offset`: every block that they wholly contain.

        Raises `CorruptError` if a block does not match its CRC.
        """
        view = memoryview(data)
        for number in range(len(self._blocks)):
            start, length = block_span(self.page_count, number)
            if start < offset or self._blocks[number] is not None:
                continue
            if start + length > offset + len(view):
                break
            part = bytes(view[start - offset : start - offset + length])
            if crc32(part) != self._directory[number]:
                raise CorruptError(
                    f"base index: block {number} gives CRC-32 {crc32(part):08x}, "
                    f"the directory says {self._directory[number]:08x}"
                )
            pages = min(BLOCK_PAGES, self.page_count - number * BLOCK_PAGES)
            self._blocks[number] = _Block(*split_columns(memoryview(part), block_layout(pages)))


def parse_base_tail(tail: bytes | memoryview, object_size: int) -> BaseIndex | NeedMore:
    """Read a base's index from the last bytes of its index object, with all of the table that they contain.

    `NeedMore` says how many are needed when `tail` has too few to begin; what of the table is missing
    afterwards, `BaseIndex.missing` tells. Copies are there if `tail` holds them all. Raises
    `CorruptError` if the index is damaged.
    """
    view = memoryview(tail)
    values = TRAILER.open(view, object_size, TRAILER_1)
    if isinstance(values, NeedMore):
        return values
    txid, time, checksum, snapshot_length, file_checksum, page_count, directory_crc, *copied = values
    copies_length, copies_crc = copied or (0, None)
    trailer_size = TRAILER.size if copied else TRAILER_1.size
    blocks = -(-page_count // BLOCK_PAGES)
    end_length = blocks * WIDTH[U32] + trailer_size
    table_length = sum(block_span(page_count, blocks - 1)) if blocks else 0
    if table_length + copies_length + end_length != object_size:
        raise CorruptError(
            f"base index: {page_count} pages take {table_length + copies_length + end_length} bytes, "
            f"but the object has {object_size}"
        )
    if len(view) < end_length:
        return NeedMore(end_length)
    directory = bytes(view[-end_length:-trailer_size])
    if crc32(directory) != directory_crc:
        raise CorruptError(
            f"base index: directory gives CRC-32 {crc32(directory):08x}, the trailer says {directory_crc:08x}"
        )
    index = BaseIndex(txid, time, checksum, snapshot_length, file_checksum, page_count, directory)
    index.load(object_size - len(view), view)
    copies_start = len(view) - end_length - copies_length
    if copies_crc is not None and copies_start >= 0:
        copies = view[copies_start : copies_start + copies_length]
        if crc32(copies) != copies_crc:
            raise CorruptError(
                f"base index: copies give CRC-32 {crc32(copies):08x}, the trailer says {copies_crc:08x}"
            )
        index.keep_copies(copies)
    return index
