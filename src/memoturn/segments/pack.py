"""A pack keeps every transaction of a range: their LTX files back to back, then a footer that finds any page.

Layout in docs/format/pack.md. An index answers from its footer alone; whatever it answers lies inside the
LTX file of the transaction that it names. A footer may also carry a digest of the commits before the pack.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from operator import lt
from typing import Final, NamedTuple

from memoturn.base.errors import CorruptError
from memoturn.base.txids import EMPTY, TXID, Checksum, PageNo, UnixMs
from memoturn.segments.columns import U16, U32, U64, WIDTH, Code, split_columns
from memoturn.segments.frame import Frame, crc32
from memoturn.segments.tail import NeedMore, Trailer

TRAILER: Final = Trailer("pack", b"MTPK", 1, struct.Struct("<IIQI"))
"""Transactions, page versions, bytes of LTX files, CRC-32 of the columns."""

DIGEST_TRAILER: Final = Trailer("pack", b"MTPK", 2, struct.Struct("<IIQIIQ"))
"""That of a pack with a digest: entries of the digest, and the first txid that it covers, are two more fields."""

TRANSACTION_COLUMNS: Final = (U64, U64, U64, U32, U32, U32)
"""Txid, commit time, post-apply checksum, bytes of the LTX file, pages of the database, page versions."""

PAGE_COLUMNS: Final = (U32, U32, U32, U32, U16)
"""Page number, transaction's ordinal, offset in its LTX file, CRC-32 of the frame, bytes of the frame."""

DIGEST_COLUMNS: Final = (U32, U32)
"""Page number, and by how much its txid is below the first of the pack."""

_DIGEST_WIDTH: Final = sum(WIDTH[code] for code in DIGEST_COLUMNS)
_TRANSACTION_WIDTH: Final = sum(WIDTH[code] for code in TRANSACTION_COLUMNS)
_PAGE_WIDTH: Final = sum(WIDTH[code] for code in PAGE_COLUMNS)
_LIMIT: Final = 1 << 63
_ASKED_SHARE: Final = 32
"""A dictionary of the newest versions is made at one question for so many versions."""

_ENTRY_MEMORY: Final = 150
"""Bytes that a page takes in a dictionary of numbers."""


class Transaction(NamedTuple):
    """One transaction of a pack: where its LTX file lies, and the database after it."""

    txid: TXID
    offset: int
    length: int
    time: UnixMs
    page_count: int
    checksum: Checksum
    page_versions: int


class Digest(NamedTuple):
    """The pages that the commits from `since` to before a pack wrote, each with the txid of its newest version."""

    since: TXID
    pages: dict[PageNo, TXID]


class PackIndex:
    """What a footer knows. Made by `parse_pack_tail` or `build_pack`; safe to share between threads."""

    __slots__ = (
        "_asked", "_before", "_checksums", "_crcs", "_lengths", "_newest", "_offsets", "_ordinals",
        "_page_counts", "_pages", "_sizes", "_starts", "_times", "_txids", "_version_counts",
        "data_length", "digest_since", "footer_length", "max_txid", "min_txid",
    )  # fmt: skip

    def __init__(
        self,
        columns: bytes | memoryview,
        transactions: int,
        page_versions: int,
        digest: tuple[int, int] | None = None,
    ) -> None:
        """Read the columns of a footer whose CRC was verified; raises `CorruptError`.

        `digest` is the number of its entries and its first txid, None if there is none.
        """
        told = -1 if digest is None else digest[0]
        (
            self._txids, self._times, self._checksums, self._sizes, self._page_counts,
            self._version_counts, self._pages, self._ordinals, self._offsets, self._crcs,
            self._lengths, *before,
        ) = split_columns(memoryview(columns), _layout(transactions, page_versions, told))  # fmt: skip
        self.footer_length: Final = len(columns) + (DIGEST_TRAILER if digest else TRAILER).size
        # Lists, because iterating a cast of memory takes three times as long.
        txids, sizes = list(self._txids), list(self._sizes)
        self._starts: Final = [0, *accumulate(sizes)]
        self.data_length: Final = self._starts[-1]
        self._newest: dict[int, int] | None = None
        self._asked = 0

        ascend = transactions == 1 or all(map(lt, txids, txids[1:]))
        if not transactions or txids[0] < 1 or txids[-1] >= _LIMIT or not ascend:
            raise CorruptError("pack footer: txids must ascend, from 1 to 2^63-1, and there must be one")
        if sum(list(self._version_counts)) != page_versions:
            raise CorruptError(
                f"pack footer: {page_versions} page versions, but transactions count otherwise"
            )
        self.min_txid: Final = TXID(txids[0])
        self.max_txid: Final = TXID(txids[-1])
        self.digest_since: Final = None if digest is None else TXID(digest[1])
        self._before: Final = before
        if digest is not None and not 1 <= digest[1] < self.min_txid:
            raise CorruptError(f"pack footer: a digest from txid {digest[1]} before {self.min_txid}")

    @property
    def memory_bytes(self) -> int:
        """About how much memory the index takes."""
        return self.footer_length + len(self._newest or ()) * _ENTRY_MEMORY

    def find(self, pgno: PageNo, until: TXID, since: TXID = EMPTY) -> Frame | None:
        """The newest version of a page that was committed from `since` to `until`, or None."""
        if until >= self.max_txid:
            newest = self._newest
            if newest is None:
                self._asked += 1
                if self._asked * _ASKED_SHARE >= len(self._pages):
                    newest = self._remember_newest()
            if newest is not None:
                entry = newest.get(pgno, -1)
            else:
                entry = bisect_right(self._pages, pgno) - 1
                if entry >= 0 and self._pages[entry] != pgno:
                    return None
        else:
            first = bisect_left(self._pages, pgno)
            last = bisect_right(self._pages, pgno, first)
            entry = bisect_right(self._ordinals, bisect_right(self._txids, until) - 1, first, last) - 1
            if entry < first:
                return None
        if entry < 0 or (since > self.min_txid and self._ordinals[entry] < bisect_left(self._txids, since)):
            return None
        return self._frame(entry)

    def pages(self, until: TXID, since: TXID = EMPTY) -> Iterator[tuple[PageNo, Frame]]:
        """Every page that was committed from `since` to `until`, in its newest version there, ascending."""
        if since <= self.min_txid and until >= self.max_txid:
            newest = self._newest or self._remember_newest()
        else:
            first = bisect_left(self._txids, since)
            last = bisect_right(self._txids, until) - 1
            newest = {
                pgno: entry
                for entry, (pgno, ordinal) in enumerate(zip(self._pages, self._ordinals, strict=True))
                if first <= ordinal <= last
            }
        for pgno, entry in newest.items():
            yield PageNo(pgno), self._frame(entry)

    def told(self, pgno: PageNo) -> TXID:
        """The commit that wrote the newest version of a page, by the digest; 0 if it knows of none."""
        if not self._before:
            return EMPTY
        pages, backs = self._before
        entry = bisect_left(pages, pgno)
        if entry == len(pages) or pages[entry] != pgno:
            return EMPTY
        return self._told(backs[entry])

    @property
    def digest(self) -> Digest | None:
        """All that the digest tells; None if there is none."""
        if self.digest_since is None:
            return None
        pages, backs = self._before
        return Digest(self.digest_since, dict(zip(map(PageNo, pages), map(self._told, backs), strict=True)))

    def _told(self, back: int) -> TXID:
        txid = self.min_txid - back
        if back < 1 or self.digest_since is None or txid < self.digest_since:
            raise CorruptError(f"pack footer: a digest from txid {self.digest_since} names {txid}")
        return TXID(txid)

    def transactions(self) -> Iterator[Transaction]:
        """All of them, ascending."""
        return map(self._transaction, range(len(self._txids)))

    def transaction(self, txid: TXID) -> Transaction | None:
        """The transaction with exactly this txid."""
        found = self.transaction_at_or_before(txid)
        return found if found is not None and found.txid == txid else None

    def transaction_at_or_before(self, txid: TXID) -> Transaction | None:
        """The last transaction whose txid is at most `txid`."""
        ordinal = bisect_right(self._txids, txid) - 1
        return None if ordinal < 0 else self._transaction(ordinal)

    def length_between(self, since: TXID, until: TXID) -> int:
        """Bytes of the LTX files of the transactions from `since` to `until`."""
        first, end = bisect_left(self._txids, since), bisect_right(self._txids, until)
        return self._starts[end] - self._starts[first] if first < end else 0

    def frames(self) -> Iterator[Frame]:
        """Every frame, in the order in which they lie in the object."""
        starts, ordinals, offsets = self._starts, self._ordinals, self._offsets
        places = [starts[o] + offset for o, offset in zip(ordinals, offsets, strict=True)]
        return map(self._frame, sorted(range(len(places)), key=places.__getitem__))

    def columns(self) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
        """The columns of the transactions and of the page versions, in the order of the footer."""
        return (
            [
                self._txids, self._times, self._checksums, self._sizes, self._page_counts,
                self._version_counts,
            ],
            [self._pages, self._ordinals, self._offsets, self._crcs, self._lengths],
        )  # fmt: skip

    def _remember_newest(self) -> dict[int, int]:
        # Sorted by page, then transaction: of each page, the last entry wins.
        self._newest = dict(zip(self._pages, range(len(self._pages)), strict=True))
        return self._newest

    def _frame(self, entry: int) -> Frame:
        ordinal = self._ordinals[entry]
        offset = self._offsets[entry]
        length = self._lengths[entry]
        if ordinal >= len(self._sizes) or offset + length > self._sizes[ordinal]:
            raise CorruptError(
                f"pack footer: page {self._pages[entry]} at byte {offset} of transaction {ordinal}, "
                "which does not reach that far"
            )
        return Frame(self._starts[ordinal] + offset, length, self._crcs[entry], TXID(self._txids[ordinal]))

    def _transaction(self, ordinal: int) -> Transaction:
        return Transaction(
            TXID(self._txids[ordinal]),
            self._starts[ordinal],
            self._sizes[ordinal],
            UnixMs(self._times[ordinal]),
            self._page_counts[ordinal],
            Checksum(self._checksums[ordinal]),
            self._version_counts[ordinal],
        )


@lru_cache(maxsize=256)
def _layout(transactions: int, page_versions: int, told: int) -> tuple[tuple[Code, int], ...]:
    """The columns of a footer; `told` is -1 without a digest."""
    counts = ((TRANSACTION_COLUMNS, transactions), (PAGE_COLUMNS, page_versions), (DIGEST_COLUMNS, told))
    return tuple((code, count) for columns, count in counts if count >= 0 for code in columns)


def parse_pack_tail(tail: bytes | memoryview, object_size: int) -> PackIndex | NeedMore:
    """Read a pack's footer from the last bytes of the object.

    `NeedMore` says how many are needed when `tail` has too few. Raises `CorruptError` if the footer is
    damaged or does not account for every byte of the object.
    """
    view = memoryview(tail)
    values = DIGEST_TRAILER.open(view, object_size, TRAILER)
    if isinstance(values, NeedMore):
        return values
    transactions, page_versions, data_length, crc, *rest = values
    digest = (rest[0], rest[1]) if rest else None
    trailer_size = DIGEST_TRAILER.size if digest else TRAILER.size
    footer_length = transactions * _TRANSACTION_WIDTH + page_versions * _PAGE_WIDTH + trailer_size
    if digest:
        footer_length += digest[0] * _DIGEST_WIDTH
    if data_length + footer_length != object_size:
        raise CorruptError(
            f"pack: {data_length} bytes of transactions and {footer_length} of footer, "
            f"but the object has {object_size}"
        )
    if len(view) < footer_length:
        return NeedMore(footer_length)
    columns = bytes(view[-footer_length:-trailer_size])
    if crc32(columns) != crc:
        raise CorruptError(f"pack footer: contents give CRC-32 {crc32(columns):08x}, not {crc:08x}")
    index = PackIndex(columns, transactions, page_versions, digest)
    if index.data_length != data_length:
        raise CorruptError(
            f"pack footer: transactions add up to {index.data_length} bytes, not {data_length}"
        )
    return index
