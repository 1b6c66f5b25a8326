"""Which records of a log count, which are set aside, and what a set-aside file is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoturn.base.errors import CorruptError
from memoturn.base.txids import TXID, Checksum, PageNo, UnixMs
from memoturn.database.commit import build_commit
from memoturn.database.logged import decode_logged, encode_logged
from memoturn.database.record import LogRecord
from memoturn.database.recovery import commit_of, set_aside, surviving
from memoturn.database.tail import Commit
from memoturn.segments.checksum import CHECKSUM_FLAG
from memoturn.segments.ltx import LtxHeader, decode_ltx
from memoturn.segments.pack import PackIndex, parse_pack_tail

BRANCH = "d_1/main/b_1"


class _Position:
    """A position of which only what a commit needs is known."""

    def __init__(self, txid: int, page: bytes) -> None:
        self.txid = TXID(txid)
        self.page_count = 1
        self.checksum = Checksum(CHECKSUM_FLAG | txid)
        self.time: UnixMs | None = UnixMs(1)
        self.stretch = ("b_1", TXID(1))
        self._page = page

    def page(self, page_no: PageNo) -> bytes:
        return self._page


def commit(txid: int, fill: int = 1) -> Commit:
    built = build_commit(_Position(txid - 1, bytes(4096)), {PageNo(1): bytes([fill]) * 4096}, 1, UnixMs(txid))
    assert built is not None
    return built


def record(epoch: int, txid: int, fill: int = 1) -> LogRecord:
    return LogRecord(BRANCH, epoch, TXID(txid), logged(commit(txid, fill)))


def logged(commit: Commit) -> bytes:
    return encode_logged(commit.header, commit.pages, commit.post_checksum)


@given(
    st.sets(st.tuples(st.integers(1, 3), st.integers(2, 12))),
    st.integers(1, 3),
    st.integers(1, 12),
    st.randoms(),
)
def test_survivors_continue_the_head_under_its_epoch_without_a_gap(
    present: set[tuple[int, int]], epoch: int, head: int, rng: object
) -> None:
    records = [record(e, t) for e, t in sorted(present, key=lambda _item: rng.random())]  # type: ignore[attr-defined]
    found = [survivor.txid for survivor in surviving(records, epoch, TXID(head))]
    expected = []
    while (epoch, head + 1) in present:
        head += 1
        expected.append(head)
    assert found == expected


def test_known_commits_are_not_decoded_again() -> None:
    known = commit(2)
    broken = LogRecord(
        BRANCH, 1, TXID(2), b"not a commit, though it is as long as one might be, more or less"
    )
    assert surviving([broken], 1, TXID(1), {TXID(2): known}) == [known]
    with pytest.raises(CorruptError):
        surviving([broken], 1, TXID(1))


def test_record_whose_file_is_of_another_txid_is_refused() -> None:
    with pytest.raises(CorruptError, match="txid 3"):
        commit_of(LogRecord(BRANCH, 1, TXID(3), logged(commit(2))))


def test_commit_comes_back_as_it_was_logged() -> None:
    made = commit(5, 7)
    found = commit_of(record(1, 5, 7))
    assert (found.header, found.pages, found.post_checksum) == (made.header, made.pages, made.post_checksum)
    assert found.packed == made.packed


@given(st.dictionaries(st.integers(1, 2**32 - 1).map(PageNo), st.integers(0, 255), max_size=20))
def test_pages_come_back_as_they_were_logged(fills: dict[PageNo, int]) -> None:
    header = LtxHeader(2**32 - 1, TXID(8), TXID(8), UnixMs(2**40), Checksum(CHECKSUM_FLAG | 3))
    pages = {number: bytes([fill]) * 4096 for number, fill in fills.items()}
    after = Checksum(CHECKSUM_FLAG | 4)
    assert decode_logged(encode_logged(header, pages, after)) == (header, pages, after)


def test_a_logged_commit_with_any_flipped_bit_or_another_length_is_refused() -> None:
    data = logged(commit(5, 7))
    for at in (*range(100), *range(100, len(data), 97), *range(len(data) - 12, len(data))):
        for bit in (1, 128):
            with pytest.raises(CorruptError):
                decode_logged(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
    for broken in (b"", data[:-1], data + b"\0", data[:-4096], data[4096:]):
        with pytest.raises(CorruptError):
            decode_logged(broken)


def test_what_is_set_aside_is_a_pack_of_readable_ltx_files(tmp_path: Path) -> None:
    commits = [commit(4, 1), commit(5, 2)]
    path = set_aside(tmp_path / "aside", BRANCH, 3, commits)
    assert path is not None
    assert path.name == "d_1_main_b_1-4-5-3.ltx"
    content = path.read_bytes()
    index = parse_pack_tail(content, len(content))
    assert isinstance(index, PackIndex)
    files = [decode_ltx(content[t.offset : t.offset + t.length]) for t in index.transactions()]
    assert [file.header.max_txid for file in files] == [4, 5]
    assert [dict(file.pages) for file in files] == [commit.pages for commit in commits]
    assert set_aside(None, BRANCH, 3, commits) is None
