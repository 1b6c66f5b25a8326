"""A damaged footer is noticed when it is read; a hostile one, whose checksums are right, at the latest when used."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoturn.base.errors import CorruptError
from memoturn.base.txids import TXID, PageNo
from memoturn.segments.columns import WIDTH, pack_column
from memoturn.segments.frame import Frame, crc32
from memoturn.segments.pack import PAGE_COLUMNS, TRAILER, TRANSACTION_COLUMNS, PackIndex, parse_pack_tail
from memoturn.segments.pack_build import build_pack
from memoturn.segments.tail import NeedMore
from tests.segments.samples import commit_of, text

PACK = b"".join(
    build_pack([commit_of(3, {1: text(1), 2: text(2)}), commit_of(5, {1: text(3), 8: text(4)})]).chunks
)
FOOTER = 2 * 36 + 4 * 18 + TRAILER.size


def test_every_flipped_bit_of_the_footer_is_noticed() -> None:
    for at in range(len(PACK) - FOOTER, len(PACK)):
        for bit in range(8):
            bad = bytearray(PACK)
            bad[at] ^= 1 << bit
            with pytest.raises(CorruptError):
                parse_pack_tail(bytes(bad), len(bad))


def test_every_flipped_bit_of_a_frame_is_noticed() -> None:
    index = parse_pack_tail(PACK, len(PACK))
    assert isinstance(index, PackIndex)
    frame = index.find(PageNo(8), TXID(5))
    assert frame is not None
    stored = PACK[frame.offset : frame.offset + frame.length]
    for at in range(len(stored)):
        for bit in range(8):
            bad = bytearray(stored)
            bad[at] ^= 1 << bit
            assert crc32(bytes(bad)) != frame.crc32


def test_every_truncation_is_noticed() -> None:
    for length in range(len(PACK)):
        with pytest.raises(CorruptError):
            parse_pack_tail(PACK[:length], length)


@pytest.mark.parametrize("size", [0, 31, 32, FOOTER, len(PACK) - 1, len(PACK) + 1, 1 << 62])
def test_an_object_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(CorruptError):
        parse_pack_tail(PACK, size)
    with pytest.raises(CorruptError):
        parse_pack_tail(PACK[-32:], size)


@given(st.binary(max_size=400))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError):
        parse_pack_tail(data, len(data))


def forge(transactions: list[tuple[int, ...]], versions: list[tuple[int, ...]], data_length: int) -> bytes:
    """A footer with correct checksums, whatever it says."""
    columns = _columns(TRANSACTION_COLUMNS, transactions) + _columns(PAGE_COLUMNS, versions)
    return columns + TRAILER.seal(len(transactions), len(versions), data_length, crc32(columns))


def _columns(layout: Iterable[str], rows: list[tuple[int, ...]]) -> bytes:
    return b"".join(pack_column(code, [row[i] for row in rows]) for i, code in enumerate(layout))  # type: ignore[arg-type]


def numbers(code: str) -> st.SearchStrategy[int]:
    most = (1 << 8 * WIDTH[code]) - 1  # type: ignore[index]
    return st.integers(0, 9) | st.integers(0, most) | st.just(most)


rows = st.tuples(
    st.lists(st.tuples(*map(numbers, TRANSACTION_COLUMNS)), max_size=3),
    st.lists(st.tuples(*map(numbers, PAGE_COLUMNS)), max_size=4),
)


@settings(deadline=None, max_examples=300)
@given(rows, st.booleans(), st.booleans())
def test_a_hostile_footer_never_points_outside_of_its_pack(
    content: tuple[list[tuple[int, ...]], list[tuple[int, ...]]], ascend: bool, count: bool
) -> None:
    transactions, versions = content
    if ascend:
        transactions = [(n, *row[1:]) for n, row in enumerate(transactions, 1)]
    if count and transactions:
        transactions = [(*row[:5], 0) for row in transactions]
        transactions[0] = (*transactions[0][:5], len(versions))
    data_length = sum(row[3] for row in transactions)
    footer = forge(transactions, versions, data_length)
    try:
        index = parse_pack_tail(footer, data_length + len(footer))
    except CorruptError:
        return
    assert isinstance(index, PackIndex)
    for row in [*versions, (1,)]:
        for until in (0, 1, 2, index.max_txid):
            try:
                found = [index.find(PageNo(row[0]), TXID(until))]
                found += [frame for _, frame in index.pages(TXID(until))]
            except CorruptError:
                continue
            assert all(_inside(frame, data_length) for frame in found)
    assert all(0 <= t.offset <= t.offset + t.length <= data_length for t in index.transactions())


def _inside(frame: Frame | None, data_length: int) -> bool:
    return frame is None or 0 <= frame.offset <= frame.offset + frame.length <= data_length


@pytest.mark.parametrize(
    ("transactions", "versions", "reason"),
    [
        ([], [], "there must be one"),
        ([(0, 0, 0, 10, 0, 0)], [], "txids must ascend"),
        ([(1 << 63, 0, 0, 10, 0, 0)], [], "txids must ascend"),
        ([(2, 0, 0, 10, 0, 0), (2, 0, 0, 10, 0, 0)], [], "txids must ascend"),
        ([(2, 0, 0, 10, 0, 1)], [], "transactions count otherwise"),
    ],
)
def test_a_footer_that_contradicts_itself_is_refused(
    transactions: list[tuple[int, ...]], versions: list[tuple[int, ...]], reason: str
) -> None:
    data_length = 10 * len(transactions)
    footer = forge(transactions, versions, data_length)
    with pytest.raises(CorruptError, match=reason):
        parse_pack_tail(footer, data_length + len(footer))


def test_transactions_that_do_not_fill_the_pack_are_refused() -> None:
    footer = forge([(2, 0, 0, 10, 0, 0)], [], 11)
    with pytest.raises(CorruptError, match="add up to 10 bytes, not 11"):
        parse_pack_tail(footer, 11 + len(footer))


@pytest.mark.parametrize("version", [(1, 1, 5, 0, 6), (1, 0, 11, 0, 1), (1, 0, 0xFFFF_FFFF, 0, 0xFFFF)])
def test_a_page_outside_of_its_transaction_is_refused(version: tuple[int, ...]) -> None:
    footer = forge([(2, 0, 0, 10, 0, 1)], [version], 10)
    index = parse_pack_tail(footer, 10 + len(footer))
    assert isinstance(index, PackIndex)
    with pytest.raises(CorruptError, match="does not reach that far"):
        index.find(PageNo(1), TXID(2))


@given(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1), st.data())
def test_no_trailer_asks_for_more_than_the_object_has(
    transactions: int, versions: int, data_length: int, data: st.DataObject
) -> None:
    trailer = TRAILER.seal(transactions, versions, data_length, 0)
    exact = data_length + transactions * 36 + versions * 18 + len(trailer)
    size = data.draw(st.sampled_from([exact, exact - 1, len(trailer), 1 << 40]))
    tracemalloc.start()
    try:
        more = parse_pack_tail(trailer, size)
    except CorruptError:
        return
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * 1024
    assert isinstance(more, NeedMore)
    assert len(trailer) < more.length <= size


@pytest.mark.parametrize(
    ("at", "value", "reason"), [(-12, 2, "CRC-32"), (-1, ord("X"), r"ends with b'MTPX' instead of b'MTPK'")]
)
def test_a_trailer_says_what_is_wrong_with_it(at: int, value: int, reason: str) -> None:
    bad = bytearray(PACK)
    bad[at] = value
    with pytest.raises(CorruptError, match=reason):
        parse_pack_tail(bytes(bad), len(bad))


def test_a_later_version_is_refused_by_name() -> None:
    trailer = TRAILER._replace(version=2).seal(1, 0, 0, 0)
    with pytest.raises(CorruptError, match="pack: version 2; this release reads version 1"):
        parse_pack_tail(trailer, len(trailer))
