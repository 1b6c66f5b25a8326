from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoturn.base.errors import CorruptError, PayloadTooLargeError
from memoturn.base.txids import LOCK_PAGE, PAGE_SIZE, TXID, Checksum, PageNo, UnixMs
from memoturn.segments.checksum import CHECKSUM_FLAG, combine, page_checksum, replacement
from memoturn.segments.frame import decode_frame
from memoturn.segments.ltx import LtxHeader, decode_header, decode_ltx, encode_ltx, index_ltx
from tests.segments.samples import any_page, database_checksum, formula_page, noise, text

HEADER = LtxHeader(1000, TXID(7), TXID(7), UnixMs(1_760_000_000_000), Checksum(CHECKSUM_FLAG | 5))
AFTER = Checksum(CHECKSUM_FLAG | 6)


def snapshot_header(commit: int, txid: int = 1) -> LtxHeader:
    return LtxHeader(commit, TXID(1), TXID(txid), UnixMs(0), Checksum(0))


@settings(deadline=None)
@given(
    pages=st.dictionaries(
        st.integers(1, 0xFFFF_FFFF).filter(lambda n: n != LOCK_PAGE), any_page(), max_size=6
    ),
    txids=st.tuples(st.integers(2, (1 << 63) - 1), st.integers(2, (1 << 63) - 1)),
    time=st.integers(0, (1 << 63) - 1),
    before=st.integers(1 << 63, (1 << 64) - 1),
    after=st.integers(1 << 63, (1 << 64) - 1),
    node=st.integers(0, (1 << 64) - 1),
)
def test_a_transaction_round_trips(
    pages: dict[int, bytes], txids: tuple[int, int], time: int, before: int, after: int, node: int
) -> None:
    header = LtxHeader(0xFFFF_FFFF, TXID(min(txids)), TXID(max(txids)), UnixMs(time), Checksum(before), node)
    ascending = [(PageNo(n), pages[n]) for n in sorted(pages)]
    encoded = encode_ltx(header, ascending, Checksum(after))
    read = decode_ltx(encoded.data)
    assert read == (header, ascending, encoded.frames, after)
    assert index_ltx(memoryview(encoded.data))[:3] == (header, encoded.frames, after)
    for (_, offset, length), (_, page) in zip(encoded.frames, ascending, strict=True):
        assert decode_frame(encoded.data[offset : offset + length]) == page
        assert decode_frame(memoryview(encoded.data)[offset : offset + length]) == page


@settings(deadline=None)
@given(st.lists(any_page(), max_size=6), st.integers(1, 99))
def test_a_snapshot_round_trips_at_any_txid(pages: list[bytes], txid: int) -> None:
    numbered = [(PageNo(n), page) for n, page in enumerate(pages, 1)]
    checksum = database_checksum(numbered)
    header = snapshot_header(len(pages), txid)
    read = decode_ltx(encode_ltx(header, numbered, checksum).data)
    assert (read.header, read.pages, read.post_checksum) == (header, numbered, checksum)


def test_changing_a_page_and_changing_it_back_restores_the_checksum() -> None:
    pages = {PageNo(1): text(1), PageNo(2): text(2)}
    checksum = database_checksum(pages)
    changed = combine(combine(checksum, page_checksum(PageNo(2), text(2))), page_checksum(PageNo(2), text(3)))
    assert changed == database_checksum({**pages, PageNo(2): text(3)}) != checksum
    assert combine(checksum, page_checksum(PageNo(2), text(2))) == database_checksum({PageNo(1): text(1)})
    assert CHECKSUM_FLAG | (checksum ^ replacement(PageNo(2), text(2), text(3))) == changed
    assert CHECKSUM_FLAG | (checksum ^ replacement(PageNo(3), b"", text(3))) == database_checksum(
        {**pages, PageNo(3): text(3)}
    )


def test_a_page_counts_under_its_own_number_only() -> None:
    assert page_checksum(PageNo(1), text(1)) != page_checksum(PageNo(2), text(1))


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        ([(2, text(0)), (2, text(0))], "page 2 comes after page 2"),
        ([(3, text(0)), (2, text(0))], "page 2 comes after page 3"),
        ([(0, text(0))], "page 0 comes after page 0"),
        ([(1001, text(0))], "beyond the 1000 pages"),
        ([(1, text(0)[:-1])], "has 4095 bytes instead of 4096"),
        ([(1, b"")], "has 0 bytes"),
    ],
)
def test_pages_that_make_no_file_are_refused(pages: list[tuple[PageNo, bytes]], reason: str) -> None:
    with pytest.raises(CorruptError, match=reason):
        encode_ltx(HEADER, pages, AFTER)


def test_the_lock_page_is_refused_and_its_neighbours_are_not() -> None:
    header = HEADER._replace(commit=LOCK_PAGE + 1)
    around = [(PageNo(LOCK_PAGE - 1), text(0)), (PageNo(LOCK_PAGE + 1), text(1))]
    assert decode_ltx(encode_ltx(header, around, AFTER).data).pages == around
    assert LOCK_PAGE == 262_145
    with pytest.raises(CorruptError, match="262145 is the lock page"):
        encode_ltx(header, [(LOCK_PAGE, text(0))], AFTER)


@pytest.mark.parametrize("commit", [0, 1, LOCK_PAGE - 1])
def test_a_snapshot_has_every_page(commit: int) -> None:
    assert snapshot_header(commit).snapshot_pages == commit


@pytest.mark.parametrize("commit", [LOCK_PAGE, LOCK_PAGE + 1, 0xFFFF_FFFF])
def test_a_snapshot_has_every_page_but_the_lock_page(commit: int) -> None:
    assert snapshot_header(commit).snapshot_pages == commit - 1


@pytest.mark.parametrize("present", [[], [1], [2], [2, 3], [1, 3], [1, 2]])
def test_a_snapshot_with_a_page_missing_is_refused(present: list[int]) -> None:
    pages = [(PageNo(n), text(n)) for n in present]
    with pytest.raises(CorruptError, match=r"snapshot: \d pages instead of 3"):
        encode_ltx(snapshot_header(3), pages, database_checksum(pages))


def test_a_snapshot_with_another_checksum_is_refused() -> None:
    with pytest.raises(CorruptError, match="the caller says 0x8000000000000006"):
        encode_ltx(snapshot_header(1), [(PageNo(1), text(1))], AFTER)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"min_txid": 0}, "txids 0 to 7"),
        ({"min_txid": 8}, "txids 8 to 7"),
        ({"max_txid": 1 << 63}, "in order"),
        ({"commit": -1}, "out of range"),
        ({"commit": 1 << 32}, "out of range"),
        ({"timestamp_ms": -1}, "out of range"),
        ({"timestamp_ms": 1 << 63}, "out of range"),
        ({"node_id": -1}, "out of range"),
        ({"node_id": 1 << 64}, "out of range"),
        ({"min_txid": 1}, "a snapshot has no pre-apply checksum"),
        ({"pre_checksum": 0}, "lacks its top bit"),
        ({"pre_checksum": 5}, "lacks its top bit"),
        ({"pre_checksum": 1 << 64}, "lacks its top bit"),
    ],
)
def test_headers_that_no_file_may_have_are_refused(change: dict[str, int], reason: str) -> None:
    with pytest.raises(CorruptError, match=reason):
        encode_ltx(HEADER._replace(**change), [], AFTER)


@pytest.mark.parametrize("after", [0, 6, 1 << 64])
def test_a_post_apply_checksum_without_its_top_bit_is_refused(after: int) -> None:
    with pytest.raises(CorruptError, match="post-apply checksum"):
        encode_ltx(HEADER, [], Checksum(after))


def test_an_emptied_database_has_the_empty_checksum() -> None:
    encoded = encode_ltx(HEADER._replace(commit=0), [], CHECKSUM_FLAG)
    assert decode_ltx(encoded.data).pages == []
    with pytest.raises(CorruptError, match="an empty database cannot have checksum"):
        encode_ltx(HEADER._replace(commit=0), [], AFTER)


def test_a_file_without_pages_may_shrink_the_database() -> None:
    assert decode_ltx(encode_ltx(HEADER, [], AFTER).data) == (HEADER, [], [], AFTER)


def test_the_smallest_file_has_131_bytes() -> None:
    assert len(encode_ltx(HEADER, [], AFTER).data) == 131


def test_a_transaction_that_packs_could_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memoturn.segments.ltx.MAX_LENGTH", 131)
    encode_ltx(HEADER, [], AFTER)
    with pytest.raises(PayloadTooLargeError, match="transaction 7 takes"):
        encode_ltx(HEADER, [(PageNo(1), text(1))], AFTER)


def test_a_header_can_be_read_alone() -> None:
    assert decode_header(encode_ltx(HEADER, [], AFTER).data[:100]) == HEADER
    with pytest.raises(CorruptError, match="99 bytes instead of 100"):
        decode_header(bytes(99))


def test_an_incompressible_page_grows_by_few_bytes() -> None:
    (frame,) = encode_ltx(HEADER, [(PageNo(1), noise(1))], AFTER).frames
    assert PAGE_SIZE < frame.length < PAGE_SIZE + 40


def test_a_page_of_the_vectors_is_what_their_description_says() -> None:
    assert formula_page(2)[:3] == bytes([62, 63, 66])
