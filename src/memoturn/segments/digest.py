"""A digest in a pack tells which commits before it wrote which pages, so that a reader need not ask each pack.

It names commits, not places: merging the packs before it makes nothing that it says untrue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

from memoturn.base.txids import EMPTY, TXID, PageNo
from memoturn.segments.pack import Digest, PackIndex

EVERY: Final = 4
"""Packs of level 0 without a digest that a reader may meet before one."""

FAR_EVERY: Final = 14
"""So many packs of level 0 after a far digest there is another one; digests in between reach back to the last."""

_BYTES_OF_ENTRY: Final = 64
"""A far digest has one entry, of 8 bytes, for so many bytes that were packed since the one before."""

_FARTHEST: Final = (1 << 32) - 1


def next_digest(before: Iterable[PackIndex | None], since: TXID) -> Digest | None:
    """What the next pack of level 0 says of those before it; None if it comes too soon after the last digest.

    `before` are the packs of one linear history that reaches back to `since`, from the newest to the oldest, and
    without a gap; None is one that is not at hand, and there the digest ends.
    """
    at_hand = _until_none(before)
    recent: list[PackIndex] = []
    for index in at_hand:
        recent.append(index)
        if index.digest_since is not None:
            break
    plain = sum(index.digest_since is None for index in recent)
    if plain < EVERY:
        return None
    recent += islice(at_hand, FAR_EVERY + EVERY)
    place = _last_far(recent, plain)
    if place >= FAR_EVERY or place == len(recent):
        return digest_of(chain(recent, at_hand), since, sum(map(_weight, recent[:place])))
    return digest_of(recent[:place], max(since, TXID(recent[place].max_txid + 1)))


def _last_far(recent: Sequence[PackIndex], plain: int) -> int:
    """The place of the last far digest: that at `plain`, unless it reaches back only to an earlier one."""
    if plain >= len(recent):
        return len(recent)
    since = recent[plain].digest_since or EMPTY
    for place, index in enumerate(recent):
        if index.max_txid < since:
            return plain if index.digest_since is None else place
    return plain


def digest_of(before: Iterable[PackIndex], since: TXID, weight: int | None = None) -> Digest | None:
    """What there is to say of the packs `before`, as far as it has room beside `weight` bytes, if these are given."""
    room = None if weight is None else weight // _BYTES_OF_ENTRY
    pages: dict[PageNo, TXID] = {}
    reach = end = EMPTY
    for index in before:
        if not end:
            reach = end = TXID(index.max_txid + 1)
        if reach <= since:
            break
        if index.min_txid >= reach:
            continue  # A digest has told of it.
        told = index.digest or Digest(index.min_txid, {})
        found = {page: txid for page, txid in told.pages.items() if txid >= since}
        found |= {page: frame.txid for page, frame in index.pages(TXID(reach - 1), since)}
        found |= pages
        if (room is not None and len(found) > room) or end - told.since > _FARTHEST:
            break
        pages, reach = found, max(since, told.since)
    return Digest(reach, pages) if reach < end else None


def _weight(index: PackIndex) -> int:
    return index.data_length + index.footer_length


def _until_none(indexes: Iterable[PackIndex | None]) -> Iterator[PackIndex]:
    for index in indexes:
        if index is None:
            return
        yield index
