"""Writing a base streams: memory holds the index of the pages, never the pages."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from memoturn.base.errors import CorruptError
from memoturn.base.txids import LOCK_PAGE, TXID, Checksum, PageNo, UnixMs
from memoturn.segments.base import ANCHOR_PAGES, BLOCK_PAGES, TRAILER
from memoturn.segments.checksum import CHECKSUM_FLAG, combine, crc64, page_checksum
from memoturn.segments.columns import U16, U32, U64, pack_column
from memoturn.segments.frame import PREFIX, crc32
from memoturn.segments.ltx import (
    LtxHeader,
    append_index_entry,
    compress_pages,
    encode_end,
    encode_header,
)

_CHUNK: Final = 1 << 16


class Copies(Protocol):
    """Chooses the pages of which the index gets a copy, so that whoever opens it need not fetch them."""

    def offer(self, pgno: PageNo, page: bytes) -> None:
        """Look at a page. They come in order, each once."""

    def chosen(self) -> Iterable[bytes]:
        """What `encode_copy` made of those to be copied, when every page has been offered; less than 4 GiB."""


class BaseWriter:
    """The snapshot of a database, as chunks of some 64 KiB to be iterated once; then `index_object`.

    `pages` are all pages of the database in order, without the lock page; `expected` is the checksum that
    the database must turn out to have. Iterating raises `CorruptError`, before the last chunk, if either
    does not hold.
    """

    def __init__(
        self,
        txid: TXID,
        page_count: int,
        time: UnixMs,
        pages: Iterable[tuple[PageNo, bytes]],
        expected: Checksum | None = None,
        copies: Copies | None = None,
    ) -> None:
        self._header: Final = LtxHeader(page_count, TXID(1), txid, time, Checksum(0))
        self._pages: Final = pages
        self._expected: Final = expected
        self._copies: Final = copies
        self._anchors: Final = array(U64)
        self._lengths: Final = array(U16)
        self._crcs: Final = array(U32)
        self._end: tuple[Checksum, int, Checksum] | None = None

    def __iter__(self) -> Iterator[bytes]:
        header = self._header
        head = encode_header(header)
        chunk, chunk_length = [head], len(head)
        crc = crc64(head)
        offset = len(head)
        checksum = CHECKSUM_FLAG
        ltx_index = bytearray()

        for pgno, page, prefix, block in compress_pages(header, self._pages):
            crc = crc64(page, crc64(prefix, crc))
            checksum = combine(checksum, page_checksum(pgno, page))
            length = PREFIX.size + len(block)
            append_index_entry(ltx_index, pgno, offset, length)
            if pgno == LOCK_PAGE + 1:
                self._add(LOCK_PAGE, offset, 0, 0)
            self._add(pgno, offset, length, crc32(block, crc32(prefix)))
            offset += length
            if self._copies is not None:
                self._copies.offer(pgno, page)

            chunk += (prefix, block)
            chunk_length += length
            if chunk_length >= _CHUNK:
                yield b"".join(chunk)
                chunk, chunk_length = [], 0

        if header.commit == LOCK_PAGE:
            self._add(LOCK_PAGE, offset, 0, 0)
        if self._expected is not None and checksum != self._expected:
            raise CorruptError(
                f"base {header.max_txid}: pages have checksum {checksum:#x}, "
                f"but the database at that txid has {self._expected:#x}"
            )
        end = encode_end(header, ltx_index, checksum, crc)
        self._end = checksum, offset + len(end), Checksum(int.from_bytes(end[-8:], "big"))
        yield b"".join(chunk) + end

    def _add(self, pgno: PageNo, offset: int, length: int, crc: int) -> None:
        if (pgno - 1) % ANCHOR_PAGES == 0:
            self._anchors.append(offset)
        self._lengths.append(length)
        self._crcs.append(crc)

    @property
    def checksum(self) -> Checksum:
        """The checksum of the database, known once all chunks were taken."""
        return self._finished()[0]

    @property
    def snapshot_length(self) -> int:
        """Bytes of all chunks together."""
        return self._finished()[1]

    @property
    def index_object(self) -> bytes:
        """The contents of the index object that belongs beside the snapshot."""
        checksum, snapshot_length, file_checksum = self._finished()
        commit = self._header.commit
        blocks = []
        for first in range(0, commit, BLOCK_PAGES):
            anchors = slice(first // ANCHOR_PAGES, (first + BLOCK_PAGES) // ANCHOR_PAGES)
            pages = slice(first, first + BLOCK_PAGES)
            blocks.append(
                pack_column(U64, self._anchors[anchors])
                + pack_column(U16, self._lengths[pages])
                + pack_column(U32, self._crcs[pages])
            )
        directory = pack_column(U32, map(crc32, blocks))
        copies = b"" if self._copies is None else b"".join(self._copies.chosen())
        trailer = TRAILER.seal(
            self._header.max_txid,
            self._header.timestamp_ms,
            checksum,
            snapshot_length,
            file_checksum,
            commit,
            crc32(directory),
            len(copies),
            crc32(copies),
        )
        return b"".join((*blocks, copies, directory, trailer))

    def _finished(self) -> tuple[Checksum, int, Checksum]:
        if self._end is None:
            raise ValueError("take all chunks of the snapshot first")
        return self._end
