from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoturn.base.errors import CorruptError
from memoturn.base.txids import TXID, PageNo
from memoturn.segments.frame import crc32, decode_frame
from memoturn.segments.ltx import decode_ltx, index_ltx
from memoturn.segments.pack import PackIndex, parse_pack_tail
from memoturn.segments.pack_build import build_pack, merge_packs, pack_commit
from memoturn.segments.tail import NeedMore
from tests.segments.samples import commit_of, text

History = dict[int, dict[int, bytes]]
"""txid -> pages of that commit."""

PAGE_NUMBERS = range(1, 9)

histories = st.dictionaries(
    st.integers(2, 40),
    st.dictionaries(st.sampled_from(PAGE_NUMBERS), st.integers(0, 1 << 20).map(text), max_size=4),
    min_size=1,
    max_size=8,
)


def packed(history: History) -> bytes:
    return b"".join(build_pack([commit_of(txid, history[txid]) for txid in sorted(history)]).chunks)


def opened(data: bytes) -> PackIndex:
    index = parse_pack_tail(data, len(data))
    assert isinstance(index, PackIndex)
    return index


def newest(history: History, pgno: int, until: int, since: int = 0) -> bytes | None:
    versions = [txid for txid in history if since <= txid <= until and pgno in history[txid]]
    return history[max(versions)][pgno] if versions else None


def check_against(history: History, data: bytes, index: PackIndex) -> None:
    """Every question about every page, answered by the index and the bytes as by the history."""
    for until in range(max(history) + 2):
        for since in (0, until // 2, until):
            expected = {}
            for pgno in PAGE_NUMBERS:
                page = newest(history, pgno, until, since)
                frame = index.find(PageNo(pgno), TXID(until), TXID(since))
                assert (frame is None) == (page is None)
                if frame is not None:
                    stored = data[frame.offset : frame.offset + frame.length]
                    assert crc32(stored) == frame.crc32
                    assert decode_frame(stored) == page
                    expected[pgno] = frame
            found = list(index.pages(TXID(until), TXID(since)))
            assert dict(found) == expected
            assert [pgno for pgno, _ in found] == sorted(expected)


@settings(deadline=None)
@given(histories)
def test_every_version_of_every_page_is_found(history: History) -> None:
    data = packed(history)
    check_against(history, data, opened(data))


@settings(deadline=None)
@given(histories, st.lists(st.integers(2, 41), max_size=4))
def test_merging_packs_keeps_every_txid_and_every_byte(history: History, cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), 100]
    parts = [
        {txid: history[txid] for txid in history if low <= txid < high} for low, high in pairwise(bounds)
    ]
    packs = [packed(part) for part in parts if part]
    merge = merge_packs([opened(pack) for pack in packs])
    data = b"".join(pack[:n] for pack, n in zip(packs, merge.lengths, strict=True)) + merge.footer
    assert data == packed(history)
    check_against(history, data, merge.index)


@settings(deadline=None)
@given(histories)
def test_every_transaction_is_a_whole_file(history: History) -> None:
    data = packed(history)
    index = opened(data)
    transactions = list(index.transactions())
    assert [t.txid for t in transactions] == sorted(history)
    assert (index.min_txid, index.max_txid) == (min(history), max(history))
    for transaction in transactions:
        read = decode_ltx(data[transaction.offset : transaction.offset + transaction.length])
        assert dict(read.pages) == history[transaction.txid]
        assert transaction == (
            read.header.max_txid,
            transaction.offset,
            transaction.length,
            read.header.timestamp_ms,
            read.header.commit,
            read.post_checksum,
            len(read.pages),
        )


def test_transactions_are_found_by_txid() -> None:
    index = opened(packed({3: {1: text(1)}, 4: {}, 9: {2: text(2)}}))
    assert [getattr(index.transaction(TXID(n)), "txid", None) for n in (2, 3, 4, 5, 9, 10)] == [
        None, 3, 4, None, 9, None,
    ]  # fmt: skip
    assert [getattr(index.transaction_at_or_before(TXID(n)), "txid", None) for n in (2, 3, 8, 9, 99)] == [
        None, 3, 4, 9, 9,
    ]  # fmt: skip


def test_an_index_made_from_the_bytes_alone_packs_the_same() -> None:
    commit = commit_of(5, {1: text(1), 7: text(7)})
    read = index_ltx(commit.data)
    again = pack_commit(read.header, commit.data, read.frames, read.post_checksum)
    assert build_pack([again]).chunks == build_pack([commit]).chunks


def test_the_index_that_building_gives_is_the_one_that_reading_gives() -> None:
    pack = build_pack([commit_of(5, {1: text(1)}), commit_of(6, {1: text(2), 3: text(3)})])
    data = b"".join(pack.chunks)
    assert opened(data).columns() == pack.index.columns()
    assert opened(data).footer_length == pack.index.footer_length == len(pack.chunks[-1])
    assert pack.index.data_length + pack.index.footer_length == len(data)


@pytest.mark.parametrize("txids", [(), (5, 5), (6, 5)])
def test_txids_that_do_not_ascend_are_refused(txids: tuple[int, ...]) -> None:
    with pytest.raises(CorruptError, match="must ascend"):
        build_pack([commit_of(txid, {}) for txid in txids])
    with pytest.raises(CorruptError, match="must ascend"):
        merge_packs([build_pack([commit_of(txid, {})]).index for txid in txids])


def test_a_file_of_several_txids_is_not_one_commit() -> None:
    commit = commit_of(5, {})
    with pytest.raises(CorruptError, match="txids 4 to 5 are not one commit"):
        build_pack([commit._replace(header=commit.header._replace(min_txid=TXID(4)))])


def test_a_short_tail_says_how_much_it_takes() -> None:
    data = packed({txid: {n: text(n) for n in range(1, 9)} for txid in range(2, 60)})
    footer_length = opened(data).footer_length
    for length in (0, 1, 11):
        assert parse_pack_tail(data[len(data) - length :], len(data)) == NeedMore(44)
    for length in (32, 100, footer_length - 1):
        assert parse_pack_tail(data[-length:], len(data)) == NeedMore(footer_length)
    for length in (footer_length, footer_length + 1, len(data)):
        assert isinstance(parse_pack_tail(memoryview(data)[-length:], len(data)), PackIndex)


def test_a_pack_of_pageless_commits_has_no_page() -> None:
    index = opened(packed({4: {}, 5: {}}))
    assert index.find(PageNo(1), TXID(5)) is None
    assert index.find(PageNo(1), TXID(4)) is None
    assert list(index.pages(TXID(5))) == []


def test_memory_counts_the_footer_and_what_lookups_add() -> None:
    index = opened(packed({4: {n: text(n) for n in range(1, 100)}}))
    before = index.memory_bytes
    assert before == index.footer_length
    found = [index.find(PageNo(n), TXID(4)) for n in range(102) for _ in range(2)]
    assert index.memory_bytes > before + 99 * 50
    assert found == [index.find(PageNo(n), TXID(4)) for n in range(102) for _ in range(2)]
    assert [frame is not None for frame in found] == [0 < n < 100 for n in range(102) for _ in range(2)]


def test_merging_many_packs_keeps_versions_in_order() -> None:
    rng = random.Random(3)
    histories = [
        {
            part * 10 + i: {n: text(rng.randrange(1 << 30)) for n in rng.sample(PAGE_NUMBERS, 3)}
            for i in range(5)
        }
        for part in range(1, 17)
    ]
    packs = [packed(history) for history in histories]
    merge = merge_packs([opened(pack) for pack in packs])
    data = b"".join(pack[:n] for pack, n in zip(packs, merge.lengths, strict=True)) + merge.footer
    check_against(
        {txid: pages for history in histories for txid, pages in history.items()}, data, opened(data)
    )
