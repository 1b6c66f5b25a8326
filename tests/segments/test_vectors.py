"""Files of the reference implementation and of earlier releases stay readable; see vectors/README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from memoturn.base.errors import CorruptError
from memoturn.base.txids import PAGE_SIZE, TXID, Checksum, PageNo
from memoturn.segments.base import BaseIndex, parse_base_tail
from memoturn.segments.checksum import CHECKSUM_FLAG
from memoturn.segments.frame import crc32, decode_frame
from memoturn.segments.ltx import decode_ltx, encode_ltx
from memoturn.segments.pack import Digest, PackIndex, parse_pack_tail
from tests.segments.samples import database_checksum, formula_page

VECTORS = Path(__file__).parent / "vectors"


def vector(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


def test_a_snapshot_of_the_reference_is_the_database() -> None:
    read = decode_ltx(vector("snapshot.ltx"))
    assert b"".join(page for _, page in read.pages) == vector("snapshot.db")
    assert read.header.min_txid == 1
    # What `ltx checksum snapshot.db` prints.
    assert read.post_checksum == database_checksum(read.pages) == 0x8D3341664BBFF4ED


def test_an_increment_of_the_reference_is_read_whole() -> None:
    data = vector("increment.ltx")
    read = decode_ltx(data)
    assert read.header == (300_000, 7, 9, 1_760_000_000_123, CHECKSUM_FLAG | 0x1234, 0xFEED)
    assert read.post_checksum == CHECKSUM_FLAG | 0x5678
    assert read.pages == [(n, formula_page(n)) for n in (2, 128, 262_144, 262_146, 300_000)]
    for (pgno, offset, length), (_, page) in zip(read.frames, read.pages, strict=True):
        assert decode_frame(data[offset : offset + length]) == page
        assert data[offset : offset + 4] == pgno.to_bytes(4, "big")


def test_an_emptied_database_of_the_reference_is_what_we_write() -> None:
    read = decode_ltx(vector("emptied.ltx"))
    assert read.pages == []
    assert encode_ltx(read.header, [], read.post_checksum).data == vector("emptied.ltx")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no-checksums.ltx", "without database checksums"), ("wide-pages.ltx", "page size 8192")],
)
def test_what_memoturn_does_not_store_is_refused(name: str, reason: str) -> None:
    with pytest.raises(CorruptError, match=reason):
        decode_ltx(vector(name))


@pytest.mark.parametrize("version", [1, 2])
def test_a_pack_of_every_format_version_is_readable(version: int) -> None:
    data = vector(f"pack-{version}.ltx")
    index = parse_pack_tail(data, len(data))
    assert isinstance(index, PackIndex)
    assert [t.txid for t in index.transactions()] == [3, 4, 6]
    assert [t.time for t in index.transactions()] == [1_760_000_000_003, 1_760_000_000_004, 1_760_000_000_006]
    assert index.digest == (
        None if version == 1 else Digest(TXID(1), {PageNo(1): TXID(2), PageNo(9): TXID(1)})
    )
    newest = {1: 6, 2: 4, 3: 3, 4: 6, 5: 4}
    for pgno, frame in index.pages(TXID(6)):
        stored = data[frame.offset : frame.offset + frame.length]
        assert crc32(stored) == frame.crc32
        # A page of a vector carries its txid: page n of txid t is page n + 100 t of the formula.
        assert decode_frame(stored) == formula_page(pgno + 100 * newest.pop(pgno))
    assert newest == {}
    for transaction in index.transactions():
        part = data[transaction.offset : transaction.offset + transaction.length]
        assert decode_ltx(part).post_checksum == transaction.checksum == CHECKSUM_FLAG | transaction.txid


@pytest.mark.parametrize("version", [1, 2])
def test_a_base_of_every_format_version_is_readable(version: int) -> None:
    snapshot, data = vector("base-1.ltx"), vector(f"base-{version}.idx")
    index = parse_base_tail(data, len(data))
    assert isinstance(index, BaseIndex)
    assert (index.txid, index.time, index.page_count) == (9, 1_760_000_000_009, 70)
    assert index.snapshot_length == len(snapshot)
    assert index.file_checksum == Checksum(int.from_bytes(snapshot[-8:], "big"))
    for pgno in range(1, 71):
        frame = index.find(PageNo(pgno))
        assert frame is not None
        stored = snapshot[frame.offset : frame.offset + frame.length]
        assert crc32(stored) == frame.crc32
        assert decode_frame(stored) == formula_page(pgno)
        copy = index.copy(PageNo(pgno))
        assert copy == (formula_page(pgno) if version == 2 and pgno in (1, 7) else None)
    assert decode_ltx(snapshot).post_checksum == index.checksum
    assert all(len(page) == PAGE_SIZE for _, page in decode_ltx(snapshot).pages)
