from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from memoturn.base.txids import PAGE_SIZE, TXID, PageNo, UnixMs
from memoturn.segments.base import BaseIndex, parse_base_tail
from memoturn.segments.base_write import BaseWriter
from memoturn.segments.frame import Frame, decode_frame
from memoturn.segments.merge import merge_newest
from memoturn.segments.pack_build import build_pack
from tests.segments.samples import commit_of, database_checksum, noise, text

sources = st.lists(st.dictionaries(st.integers(1, 30), st.integers()), max_size=6)


@given(sources, st.integers(0, 31))
def test_the_newest_version_of_each_page_within_the_database_comes_in_order(
    versions: list[dict[int, int]], commit: int
) -> None:
    model: dict[int, int] = {}
    for source in reversed(versions):
        model.update(source)
    ascending = [sorted(source.items()) for source in versions]
    merged = list(merge_newest(ascending, commit))  # type: ignore[arg-type]
    assert merged == [(pgno, model[pgno]) for pgno in sorted(model) if pgno <= commit]


def test_what_comes_with_a_page_is_never_compared() -> None:
    anything = [(PageNo(1), object()), (PageNo(2), object())]
    assert list(merge_newest([anything, list(anything)], 2)) == anything


def test_one_entry_of_each_source_is_held() -> None:
    page = noise(1)

    def pages() -> Iterator[tuple[PageNo, bytes]]:
        for n in range(1, 2001):
            yield PageNo(n), bytes(page)[:-1] + b"."

    tracemalloc.start()
    count = sum(1 for _ in merge_newest([pages(), pages(), pages()], 2000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2000
    assert peak < 20 * PAGE_SIZE


def test_a_base_and_packs_fold_into_the_next_base() -> None:
    writer = BaseWriter(TXID(5), 4, UnixMs(0), [(PageNo(n), text(n)) for n in range(1, 5)])
    base = b"".join(writer)
    index = parse_base_tail(writer.index_object, len(writer.index_object))
    assert isinstance(index, BaseIndex)
    first = build_pack([commit_of(6, {2: text(62)}), commit_of(7, {1: text(71), 2: text(72)})])
    second = build_pack([commit_of(8, {1: text(81), 5: text(85), 6: text(86)}), commit_of(9, {3: text(93)})])

    def read(data: bytes, found: Iterator[tuple[PageNo, Frame]]) -> Iterator[tuple[PageNo, bytes]]:
        for pgno, frame in found:
            yield pgno, decode_frame(data[frame.offset : frame.offset + frame.length])

    newest_first = [
        read(b"".join(second.chunks), second.index.pages(TXID(8))),
        read(b"".join(first.chunks), first.index.pages(TXID(8))),
        read(base, index.pages()),
    ]
    expected = {1: text(81), 2: text(72), 3: text(3), 4: text(4), 5: text(85)}
    folded = dict(merge_newest(newest_first, 5))
    assert folded == expected
    again = BaseWriter(TXID(8), 5, UnixMs(0), folded.items(), database_checksum(folded))
    assert sum(map(len, again)) == again.snapshot_length
