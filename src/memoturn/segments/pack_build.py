"""Packs are built from commits, and merged by concatenation: no frame is ever encoded twice.

A footer that leaves here is sorted by page, then transaction, and every txid of its sources survives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from memoturn.base.errors import CorruptError
from memoturn.base.txids import TXID, Checksum, PageNo
from memoturn.segments.columns import pack_column
from memoturn.segments.frame import crc32
from memoturn.segments.ltx import MAX_LENGTH, LtxHeader, PageSpan
from memoturn.segments.pack import (
    DIGEST_COLUMNS,
    DIGEST_TRAILER,
    PAGE_COLUMNS,
    TRAILER,
    TRANSACTION_COLUMNS,
    Digest,
    PackIndex,
)

PAGE: Final = 0
ORDINAL: Final = 1
"""The places of two columns among `PAGE_COLUMNS`."""


class PackedCommit(NamedTuple):
    """One commit to be packed: its LTX file, and of each frame its page, its place, its CRC-32 and its length.

    The file covers one txid, or, as the first on an empty database, all txids up to it.
    """

    header: LtxHeader
    data: bytes
    frames: list[tuple[PageNo, int, int, int]]
    post_checksum: Checksum

    @property
    def txid(self) -> TXID:
        return self.header.max_txid


def pack_commit(
    header: LtxHeader, data: bytes, spans: Iterable[PageSpan], post_checksum: Checksum
) -> PackedCommit:
    """A commit as packs take it, from its file and what `encode_ltx` or `index_ltx` say of that."""
    view = memoryview(data)
    frames = [(pgno, offset, crc32(view[offset : offset + length]), length) for pgno, offset, length in spans]
    return PackedCommit(header, data, frames, post_checksum)


@dataclass(frozen=True, slots=True)
class Pack:
    """A finished pack: its bytes in order, and its index, so that nobody has to read it back."""

    chunks: list[bytes]
    index: PackIndex


@dataclass(frozen=True, slots=True)
class PackMerge:
    """How to merge packs: the first `lengths[i]` bytes of each pack i, in order, then the footer."""

    lengths: list[int]
    footer: bytes
    index: PackIndex


def build_pack(commits: Sequence[PackedCommit], digest: Digest | None = None) -> Pack:
    """Pack commits in ascending order of txid; txids may be missing in between. `digest` is of those before them.

    Raises `CorruptError` if there is no commit, if txids do not ascend, or if a file is not one commit.
    """
    transactions: list[tuple[int, ...]] = []
    versions: list[tuple[int, ...]] = []
    for ordinal, (header, data, frames, post_checksum) in enumerate(commits):
        commit, low, txid, time, _, _ = header
        if low not in (1, txid) or len(data) > MAX_LENGTH:
            raise CorruptError(f"pack: {len(data)} bytes for txids {low} to {txid} are not one commit")
        transactions.append((txid, time, post_checksum, len(data), commit, len(frames)))
        versions += [(pgno, ordinal, offset, crc, length) for pgno, offset, crc, length in frames]
    if len(commits) > 1:
        versions.sort()

    footer, index = _footer(
        list(zip(*transactions, strict=True)) or [()] * len(TRANSACTION_COLUMNS),
        list(zip(*versions, strict=True)) or [()] * len(PAGE_COLUMNS),
        digest,
    )
    return Pack([*(commit.data for commit in commits), footer], index)


def merge_packs(packs: Sequence[PackIndex], digest: Digest | None = None) -> PackMerge:
    """Merge packs in ascending order of txid into one that holds all of their transactions.

    Their digests are dropped; `digest` is of the commits before the first of them.

    Raises `CorruptError` if there is none, or if their txids do not ascend from one to the next.
    """
    transactions: list[list[int]] = [[] for _ in TRANSACTION_COLUMNS]
    versions: list[list[int]] = [[] for _ in PAGE_COLUMNS]
    for pack in packs:
        before = len(transactions[0])
        of_transactions, of_versions = pack.columns()
        for merged, column in zip(transactions, of_transactions, strict=True):
            merged += column
        for merged, column in zip(versions, of_versions, strict=True):
            merged += map(before.__add__, column) if merged is versions[ORDINAL] else column

    # Sources are sorted and come in order of txid, so a stable sort by page is enough, and on runs that are
    # sorted already it only merges.
    order = sorted(range(len(versions[PAGE])), key=versions[PAGE].__getitem__)
    footer, index = _footer(transactions, [[column[i] for i in order] for column in versions], digest)
    return PackMerge([pack.data_length for pack in packs], footer, index)


def _footer(
    transactions: Sequence[Sequence[int]], versions: Sequence[Sequence[int]], digest: Digest | None
) -> tuple[bytes, PackIndex]:
    """The end of a pack, and the index that reading it gives."""
    columns = b"".join(
        pack_column(code, column)
        for code, column in zip(TRANSACTION_COLUMNS + PAGE_COLUMNS, (*transactions, *versions), strict=True)
    )
    counts = len(transactions[0]), len(versions[0])
    if digest is None:
        index = PackIndex(columns, *counts)
        return columns + TRAILER.seal(*counts, index.data_length, crc32(columns)), index
    pages, first = sorted(digest.pages), transactions[0][0] if transactions[0] else 0
    columns += pack_column(DIGEST_COLUMNS[0], pages)
    columns += pack_column(DIGEST_COLUMNS[1], (first - digest.pages[page] for page in pages))
    told = len(pages), int(digest.since)
    index = PackIndex(columns, *counts, told)
    return columns + DIGEST_TRAILER.seal(*counts, index.data_length, crc32(columns), *told), index
