from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoturn.base.errors import CorruptError
from memoturn.base.txids import LOCK_PAGE, PAGE_SIZE, TXID, Checksum, PageNo, UnixMs
from memoturn.segments.base import BLOCK_PAGES, TRAILER, BaseIndex, NotLoadedError, Span, parse_base_tail
from memoturn.segments.base_write import BaseWriter
from memoturn.segments.checksum import CHECKSUM_FLAG
from memoturn.segments.columns import U16, U32, U64, pack_column
from memoturn.segments.copies import decode_copy, encode_copy, split_copies
from memoturn.segments.frame import crc32, decode_frame
from memoturn.segments.ltx import decode_ltx
from memoturn.segments.tail import NeedMore
from tests.segments.samples import any_page, database_checksum, noise, text

EMPTY_PAGE = bytes(PAGE_SIZE)


def write(pages: list[bytes], txid: int = 9, expected: Checksum | None = None) -> tuple[bytes, bytes]:
    numbered = [(PageNo(n), page) for n, page in enumerate(pages, 1)]
    writer = BaseWriter(TXID(txid), len(pages), UnixMs(1234), numbered, expected)
    snapshot = b"".join(writer)
    assert writer.snapshot_length == len(snapshot)
    return snapshot, writer.index_object


class Some:
    """Copies the pages of these numbers."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers
        self.copies: list[bytes] = []

    def offer(self, pgno: PageNo, page: bytes) -> None:
        if pgno in self.numbers:
            self.copies.append(encode_copy(pgno, page))

    def chosen(self) -> list[bytes]:
        return self.copies


def opened(data: bytes) -> BaseIndex:
    index = parse_base_tail(data, len(data))
    assert isinstance(index, BaseIndex)
    return index


def many_pages(count: int) -> Iterator[tuple[PageNo, bytes]]:
    for n in range(1, count + 1):
        if n != LOCK_PAGE:
            yield PageNo(n), n.to_bytes(4, "big") + EMPTY_PAGE[4:]


@settings(deadline=None)
@given(st.lists(any_page(), max_size=70), st.integers(1, (1 << 63) - 1))
def test_every_page_is_found(pages: list[bytes], txid: int) -> None:
    snapshot, data = write(pages, txid)
    index = opened(data)
    numbered = dict(enumerate(pages, 1))
    assert (index.txid, index.time, index.page_count) == (txid, 1234, len(pages))
    assert index.checksum == database_checksum({PageNo(n): page for n, page in numbered.items()})
    assert index.snapshot_length == len(snapshot)
    assert index.file_checksum == int.from_bytes(snapshot[-8:], "big")
    assert index.missing is None
    for pgno, page in numbered.items():
        frame = index.find(PageNo(pgno))
        assert frame is not None
        stored = snapshot[frame.offset : frame.offset + frame.length]
        assert crc32(stored) == frame.crc32
        assert decode_frame(stored) == page
    assert index.find(PageNo(0)) is index.find(PageNo(len(pages) + 1)) is None
    assert [pgno for pgno, _ in index.pages()] == list(numbered)


@settings(deadline=None)
@given(st.lists(any_page(), max_size=10), st.integers(1, 99))
def test_the_snapshot_is_an_ltx_file_of_the_whole_database(pages: list[bytes], txid: int) -> None:
    read = decode_ltx(write(pages, txid)[0])
    assert [page for _, page in read.pages] == pages
    assert (read.header.min_txid, read.header.max_txid, read.header.commit) == (1, txid, len(pages))


def test_pages_that_do_not_add_up_to_the_expected_checksum_end_the_writing() -> None:
    right = database_checksum({PageNo(1): text(1), PageNo(2): text(2)})
    write([text(1), text(2)], expected=right)
    changed = [(PageNo(1), text(1)), (PageNo(2), text(3))]
    taken: list[bytes] = []
    with pytest.raises(CorruptError, match="base 9: pages have checksum"):
        taken.extend(BaseWriter(TXID(9), 2, UnixMs(0), changed, expected=right))
    assert taken == []


@pytest.mark.parametrize("present", [[], [1], [2], [1, 3], [1, 2, 4], [2, 1], [1, 1, 2]])
def test_a_base_with_a_page_missing_or_out_of_order_is_refused(present: list[int]) -> None:
    writer = BaseWriter(TXID(9), 3, UnixMs(0), [(PageNo(n), text(n)) for n in present])
    with pytest.raises(CorruptError):
        list(writer)
    with pytest.raises(ValueError, match="take all chunks"):
        _ = writer.index_object


def test_a_short_tail_loads_what_it_holds_and_the_rest_on_demand() -> None:
    count = 2 * BLOCK_PAGES + 100
    writer = BaseWriter(TXID(9), count, UnixMs(0), many_pages(count))
    snapshot = b"".join(writer)
    data = writer.index_object
    assert len(data) < count * 6.2 + 100

    index = parse_base_tail(data[-4000:], len(data))
    assert isinstance(index, BaseIndex)
    frame = index.find(PageNo(count))
    assert frame is not None
    assert decode_frame(snapshot[frame.offset : frame.offset + frame.length])[:4] == count.to_bytes(4, "big")
    full = 128 * 8 + BLOCK_PAGES * 6
    assert index.missing == Span(0, 2 * full)
    before = index.memory_bytes

    for pgno in (BLOCK_PAGES + 1, 1, 2 * BLOCK_PAGES, BLOCK_PAGES):
        with pytest.raises(NotLoadedError) as caught:
            index.find(PageNo(pgno))
        assert caught.value.span == Span((pgno - 1) // BLOCK_PAGES * full, full)
    index.load(full, data[full : 2 * full])
    assert index.missing == Span(0, full)
    assert index.find(PageNo(BLOCK_PAGES + 1)) is not None
    with pytest.raises(NotLoadedError):
        list(index.pages())

    index.load(0, data[:full])
    assert index.missing is None
    assert dict(index.pages()) == dict(opened(data).pages())
    assert index.memory_bytes == opened(data).memory_bytes > before


def test_bytes_that_hold_no_whole_block_load_nothing() -> None:
    writer = BaseWriter(TXID(9), 2 * BLOCK_PAGES, UnixMs(0), many_pages(2 * BLOCK_PAGES))
    list(writer)
    data = writer.index_object
    index = parse_base_tail(data[-1000:], len(data))
    assert isinstance(index, BaseIndex)
    everything = index.missing
    full = len(data) // 2
    for offset, part in ((0, data[: full - 100]), (1, data[1:full]), (full, b""), (len(data), b"")):
        index.load(offset, part)
        assert index.missing == everything


def test_a_tail_without_the_directory_says_how_much_it_takes() -> None:
    writer = BaseWriter(TXID(9), BLOCK_PAGES + 1, UnixMs(0), many_pages(BLOCK_PAGES + 1))
    list(writer)
    data = writer.index_object
    assert parse_base_tail(b"", len(data)) == NeedMore(68)
    assert parse_base_tail(data[-67:], len(data)) == NeedMore(68)
    assert parse_base_tail(data[-68:], len(data)) == NeedMore(76)
    assert parse_base_tail(data[-75:], len(data)) == NeedMore(76)
    assert isinstance(parse_base_tail(data[-76:], len(data)), BaseIndex)


def test_an_empty_database_has_a_base() -> None:
    snapshot, data = write([])
    index = opened(data)
    assert (index.page_count, index.checksum, index.missing) == (0, CHECKSUM_FLAG, None)
    assert index.find(PageNo(1)) is None
    assert list(index.pages()) == []
    assert decode_ltx(snapshot).pages == []


@pytest.mark.parametrize("beyond", [0, 1, 2])
def test_the_lock_page_is_skipped_and_its_neighbours_are_found(beyond: int) -> None:
    count = LOCK_PAGE + beyond
    writer = BaseWriter(TXID(9), count, UnixMs(0), many_pages(count))
    found = {}
    position = 0
    chunks = []
    for chunk in writer:
        chunks.append((position, chunk))
        position += len(chunk)
    index = opened(writer.index_object)
    assert index.find(LOCK_PAGE) is None
    for pgno in range(LOCK_PAGE - 1, count + 1):
        frame = index.find(PageNo(pgno))
        if frame is None:
            continue
        start, chunk = next((s, c) for s, c in chunks if s <= frame.offset < s + len(c))
        found[pgno] = decode_frame(chunk[frame.offset - start :][: frame.length])[:4]
    assert found == {n: n.to_bytes(4, "big") for n in range(LOCK_PAGE - 1, count + 1) if n != LOCK_PAGE}


def test_writing_takes_memory_for_the_index_and_not_for_the_pages() -> None:
    count = 6000
    page = noise(1)
    writer = BaseWriter(TXID(9), count, UnixMs(0), ((PageNo(n), page) for n in range(1, count + 1)))
    tracemalloc.start()
    total = sum(map(len, writer))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > count * PAGE_SIZE
    assert peak < 4 << 20


def with_copies(count: int, *numbers: int) -> bytes:
    pages = many_pages(count)
    writer = BaseWriter(TXID(9), count, UnixMs(0), pages, copies=Some(*numbers))
    list(writer)
    return writer.index_object


def test_copies_are_the_pages_and_come_with_a_tail_that_holds_them_all() -> None:
    pages = [text(n) for n in range(1, 71)]
    writer = BaseWriter(
        TXID(9), 70, UnixMs(0), [(PageNo(n), page) for n, page in enumerate(pages, 1)], copies=Some(1, 40, 70)
    )
    list(writer)
    data = writer.index_object
    index = opened(data)
    assert index.has_copies
    assert index.memory_bytes > opened(write(pages)[1]).memory_bytes
    for pgno in range(73):
        assert index.copy(PageNo(pgno)) == (pages[pgno - 1] if pgno in (1, 40, 70) else None)

    length = len(data) - len(write(pages)[1])
    end = len(TRAILER.seal(*[0] * 9)) + 4
    for tail, expected in ((end + length, True), (end + length - 1, False), (end, False)):
        short = parse_base_tail(data[-tail:], len(data))
        assert isinstance(short, BaseIndex)
        assert short.has_copies is expected
        assert short.missing is not None
        missing = short.missing
        short.load(missing.offset, data[missing.offset : missing.offset + missing.length])
        assert dict(short.pages()) == dict(index.pages())


@pytest.mark.parametrize(
    "section",
    [
        b"\0",
        encode_copy(PageNo(1), text(1))[:-1],
        encode_copy(PageNo(1), text(1)) + b"\1",
        encode_copy(PageNo(1), text(1)[:-1]),
        encode_copy(PageNo(1), text(1) + b"\0"),
        encode_copy(PageNo(1), text(1))[:6] + b"\0" * 100,
        (1).to_bytes(4, "little") + b"\0\0",
    ],
)
def test_what_is_no_copy_is_refused(section: bytes) -> None:
    wrong = Some()
    wrong.copies.append(section)
    writer = BaseWriter(TXID(9), 2, UnixMs(0), many_pages(2), copies=wrong)
    list(writer)
    with pytest.raises(CorruptError):
        opened(writer.index_object).copy(PageNo(1))


@given(st.binary(max_size=300))
def test_noise_is_no_copy(data: bytes) -> None:
    with pytest.raises(CorruptError):
        list(map(decode_copy, dict(split_copies(data or b"\0")).values()))


SMALL = with_copies(70, 1, 2, 70)


def test_every_flipped_bit_of_the_index_is_noticed() -> None:
    for at in range(len(SMALL)):
        for bit in range(8):
            bad = bytearray(SMALL)
            bad[at] ^= 1 << bit
            with pytest.raises(CorruptError):
                parse_base_tail(bytes(bad), len(bad))


def test_every_truncation_of_the_index_is_noticed() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(CorruptError):
            parse_base_tail(SMALL[:length], length)


@pytest.mark.parametrize("size", [0, 59, 60, 67, 68, len(SMALL) - 1, len(SMALL) + 1, 1 << 62])
def test_an_index_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(CorruptError):
        parse_base_tail(SMALL, size)
    with pytest.raises(CorruptError):
        parse_base_tail(SMALL[-68:], size)


@given(st.binary(max_size=400))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError):
        parse_base_tail(data, len(data))


def test_a_block_loaded_later_is_verified() -> None:
    writer = BaseWriter(TXID(9), BLOCK_PAGES + 1, UnixMs(0), many_pages(BLOCK_PAGES + 1))
    list(writer)
    data = writer.index_object
    index = parse_base_tail(data[-100:], len(data))
    assert isinstance(index, BaseIndex)
    span = index.missing
    assert span is not None
    with pytest.raises(CorruptError, match="block 0 gives CRC-32"):
        index.load(0, bytes(span.length))
    assert index.missing == span


def test_a_damaged_directory_is_noticed_before_any_block_is_loaded() -> None:
    writer = BaseWriter(TXID(9), BLOCK_PAGES + 1, UnixMs(0), many_pages(BLOCK_PAGES + 1))
    list(writer)
    data = writer.index_object
    for at in range(8):
        tail = bytearray(data[-76:])
        tail[at] ^= 1
        with pytest.raises(CorruptError, match="directory gives CRC-32"):
            parse_base_tail(tail, len(data))


def forge(page_count: int, anchors: list[int], lengths: list[int], crcs: list[int], length: int) -> bytes:
    """An index with correct checksums, whatever it says."""
    block = pack_column(U64, anchors) + pack_column(U16, lengths) + pack_column(U32, crcs)
    directory = pack_column(U32, [crc32(block)])
    return (
        block
        + directory
        + TRAILER.seal(9, 0, CHECKSUM_FLAG, length, CHECKSUM_FLAG, page_count, crc32(directory), 0, 0)
    )


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 200).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(st.integers(0, (1 << 64) - 1), min_size=-(-n // 64), max_size=-(-n // 64)),
            st.lists(st.integers(0, (1 << 16) - 1), min_size=n, max_size=n),
            st.lists(st.integers(0, (1 << 32) - 1), min_size=n, max_size=n),
            st.integers(0, 1 << 20),
        )
    )
)
def test_a_hostile_index_never_points_outside_of_the_snapshot(
    content: tuple[int, list[int], list[int], list[int], int],
) -> None:
    index = opened(forge(*content))
    for pgno in range(content[0] + 2):
        try:
            frame = index.find(PageNo(pgno))
        except CorruptError:
            continue
        assert frame is None or frame.offset + frame.length <= content[4]


@pytest.mark.parametrize("page_count", [71, (1 << 32) - 1])
def test_no_trailer_makes_a_reader_allocate_what_is_not_there(page_count: int) -> None:
    trailer = TRAILER.seal(9, 0, CHECKSUM_FLAG, 0, CHECKSUM_FLAG, page_count, 0, 0, 0)
    tracemalloc.start()
    with pytest.raises(CorruptError, match="but the object has"):
        parse_base_tail(trailer, 10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024
