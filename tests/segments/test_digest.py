"""A digest tells of every page which of the commits before a pack wrote it last, and no more than it has room for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoturn.base.errors import CorruptError
from memoturn.base.txids import TXID, PageNo
from memoturn.segments.columns import pack_column
from memoturn.segments.digest import EVERY, FAR_EVERY, digest_of, next_digest
from memoturn.segments.frame import crc32
from memoturn.segments.pack import DIGEST_TRAILER, Digest, PackIndex, parse_pack_tail
from memoturn.segments.pack_build import build_pack, merge_packs
from tests.segments.samples import commit_of, noise, text

History = dict[int, list[int]]
"""Which pages each commit wrote."""


def packs_of(history: History, cuts: list[int], since: int = 1) -> list[PackIndex]:
    """A pack for the commits up to each cut, ascending, each with the digest that it gets."""
    found: list[PackIndex] = []
    txids = sorted(history)
    for low, high in zip([0, *cuts], [*cuts, len(txids)], strict=True):
        some = [commit_of(txid, {n: noise(n) for n in history[txid]}) for txid in txids[low:high]]
        if some:
            found.append(build_pack(some, next_digest(reversed(found), TXID(since))).index)
    return found


def newest(history: History, since: int, until: int) -> dict[int, int]:
    return {page: txid for txid in sorted(history) if since <= txid < until for page in history[txid]}


histories = st.lists(st.lists(st.integers(1, 30), unique=True, max_size=4), min_size=1, max_size=60).map(
    lambda pages: dict(enumerate(pages, 2))
)


@settings(deadline=None, max_examples=60)
@given(histories, st.lists(st.integers(0, 60), unique=True, max_size=40), st.integers(1, 40))
def test_a_digest_tells_the_newest_version_of_each_page_as_far_as_it_reaches(
    history: History, cuts: list[int], since: int
) -> None:
    history = {txid: pages for txid, pages in history.items() if txid >= since}
    cuts = sorted(cut for cut in cuts if cut < len(history))
    plain = 0
    for pack in packs_of(history, cuts, since):
        digest = pack.digest
        if digest is None:
            plain += 1
            continue
        plain = 0
        assert since <= digest.since < pack.min_txid
        assert digest.pages == newest(history, digest.since, pack.min_txid)
        for page in range(32):
            assert pack.told(PageNo(page)) == digest.pages.get(PageNo(page), 0)
    assert plain <= EVERY


def test_every_fifth_small_pack_has_a_digest_and_every_third_of_these_reaches_back_to_the_beginning() -> None:
    rng = random.Random(1)
    history = {txid: [rng.randrange(1, 40)] for txid in range(2, 80)}
    packs = packs_of(history, list(range(1, 78)), since=2)
    with_digest = [pack.min_txid for pack in packs if pack.digest is not None]
    assert with_digest == list(range(2 + EVERY, 80, EVERY + 1))
    far = with_digest[:: (FAR_EVERY + 1) // (EVERY + 1)]
    for pack in packs:
        if pack.digest is not None:
            last_far = max((txid for txid in far if txid < pack.min_txid), default=0)
            assert pack.digest_since == (2 if pack.min_txid in far else last_far + 1)


def test_a_digest_ends_where_an_index_is_not_at_hand_or_where_its_room_ends() -> None:
    history = range(2, 60)
    packs = [build_pack([commit_of(txid, {txid: noise(txid)})]).index for txid in history]
    before: list[PackIndex | None] = [*reversed(packs[20:27]), None, *reversed(packs[:19])]
    assert next_digest(before, TXID(2)) == Digest(
        TXID(22), {PageNo(txid): TXID(txid) for txid in range(22, 29)}
    )
    assert next_digest([None, *packs], TXID(2)) is next_digest([], TXID(2)) is digest_of([], TXID(2)) is None

    many = build_pack([commit_of(2, {n: noise(n) for n in range(1, 900)})]).index
    following = [build_pack([commit_of(txid, {7: text(7)})]).index for txid in range(9, 2, -1)]
    assert digest_of([*following, many], TXID(2), 4000) == Digest(TXID(3), {PageNo(7): TXID(9)})
    assert digest_of([*following, many], TXID(2), 1 << 20) == Digest(
        TXID(2), {PageNo(n): TXID(2 if n != 7 else 9) for n in range(1, 900)}
    )


def test_commits_before_the_history_are_left_out_even_where_a_pack_or_a_digest_has_them() -> None:
    history = {txid: [txid % 7 + 1] for txid in range(2, 40)}
    packs = packs_of(history, list(range(3, 38, 3)), since=2)
    for since in range(3, 38):
        before = [pack for pack in reversed(packs) if pack.max_txid >= since]
        digest = digest_of(before, TXID(since))
        assert digest == Digest(TXID(since), newest(history, since, 40))  # type: ignore[arg-type]


def with_digest() -> bytes:
    digest = Digest(TXID(2), {PageNo(3): TXID(2), PageNo(9): TXID(4)})
    return b"".join(build_pack([commit_of(5, {1: text(1)}), commit_of(6, {3: text(2)})], digest).chunks)


def read(data: bytes) -> PackIndex:
    index = parse_pack_tail(data, len(data))
    assert isinstance(index, PackIndex)
    return index


def test_reading_gives_the_digest_that_was_written_and_merging_drops_it() -> None:
    data = with_digest()
    index = read(data)
    assert index.digest == Digest(TXID(2), {PageNo(3): TXID(2), PageNo(9): TXID(4)})
    assert index.data_length + index.footer_length == len(data)
    assert [index.told(PageNo(n)) for n in (1, 3, 4, 9, 10)] == [0, 2, 0, 4, 0]
    assert merge_packs([index]).index.digest is None
    again = merge_packs([index], Digest(TXID(4), {PageNo(9): TXID(4)}))
    assert again.index.digest == Digest(TXID(4), {PageNo(9): TXID(4)})


def test_every_flipped_bit_of_a_footer_with_a_digest_is_noticed() -> None:
    data = with_digest()
    index = read(data)
    for at in range(len(data) - index.footer_length, len(data)):
        for bit in range(8):
            bad = bytearray(data)
            bad[at] ^= 1 << bit
            with pytest.raises(CorruptError):
                parse_pack_tail(bytes(bad), len(bad))
    for length in range(len(data)):
        with pytest.raises(CorruptError):
            parse_pack_tail(data[:length], length)


@pytest.mark.parametrize(("since", "back"), [(0, 1), (5, 1), (9, 1), (2, 0), (2, 4), (2, 1 << 31)])
def test_a_digest_that_names_what_it_cannot_cover_is_refused(since: int, back: int) -> None:
    pack = build_pack([commit_of(5, {1: text(1)})])
    columns = pack.chunks[-1][:-32] + pack_column("I", [3]) + pack_column("I", [back])
    trailer = DIGEST_TRAILER.seal(1, 1, pack.index.data_length, crc32(columns), 1, since)
    data = b"".join(pack.chunks[:-1]) + columns + trailer
    with pytest.raises(CorruptError, match="a digest from txid"):
        read(data).told(PageNo(3))
