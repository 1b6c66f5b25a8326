"""A view: one position of one branch, as an immutable function from page number to page bytes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Final, NamedTuple, Protocol

from memoturn.base.errors import CorruptError, TxidNotRetainedError
from memoturn.base.txids import TXID, Checksum, PageNo, UnixMs
from memoturn.manifest import keys
from memoturn.manifest.coverage import Part, lineage
from memoturn.manifest.model import Manifest, Parent
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import stretch_at
from memoturn.pages.store import SegmentStore, Spot, Version
from memoturn.segments.base import BaseIndex
from memoturn.segments.checksum import CHECKSUM_FLAG
from memoturn.segments.digest import EVERY, next_digest
from memoturn.segments.frame import Frame
from memoturn.segments.pack import Digest, PackIndex

_MEMO_ENTRIES: Final = 65_536
_TOGETHER: Final = EVERY + 1
"""Footers that are fetched at once: one of so many packs has a digest."""

_MOST_TOGETHER: Final = 32

ParentOf = Callable[[Parent, TXID], Manifest]
"""Finds the manifest of a branch's parent that reaches to a txid, under its present or its former key."""


class Source(Protocol):
    """What the VFS and the writer need of a position; `stretch` tells which linear history it lies on.

    That is an incarnation, the txid at which a stretch of its timeline begins, and how often commits that could
    be seen here have been lost since: what follows a loss does not continue what was lost.
    """

    txid: TXID
    page_count: int
    checksum: Checksum
    time: UnixMs | None
    stretch: tuple[str, TXID, int]

    def page(self, page_no: PageNo) -> bytes:
        """The page's bytes; empty beyond the end of the database."""

    def is_in_memory(self, page_no: PageNo) -> bool:
        """Whether `page` answers without asking the store."""


class Trace(NamedTuple):
    """Which version of a page a view has, and the length and CRC-32 of its frame where that is known."""

    version: Version
    frame: tuple[int, int] | None


class Above(NamedTuple):
    """What a view looks through: the key of its base, and the parts above it, by what they are, with their pages."""

    base: str
    parts: dict[Hashable, Callable[[], Iterable[PageNo]]]


class Run(NamedTuple):
    """The segments of one branch that a view looks through, from the newest to the oldest.

    `origin` is what the keys of its incarnation's segments begin with.
    """

    origin: str
    parts: tuple[Part, ...]


class End(NamedTuple):
    """What is known of the newest commit of a view."""

    page_count: int
    checksum: Checksum
    time: UnixMs | None


class View:
    """The database as it was at `txid`. Opening one reads the newest footer; others when a page is looked for.

    A page is looked for in what came on top since the view was opened (`grown`), then in the packs that were there
    when it was, then in the base. `_recent` holds the first of these as dictionaries from newer to older, each more
    than twice as large as the one before, so that growing costs little and a look-up meets only a few of them.
    """

    __slots__ = (
        "_above", "_base", "_base_key", "_beyond", "_cached", "_memo", "_opened_at", "_packs", "_plain", "_recent",
        "_runs", "_store",
        "checksum", "page_count", "stretch", "time", "txid",
    )  # fmt: skip

    def __init__(
        self, store: SegmentStore, txid: TXID, stretch: tuple[str, TXID, int], runs: Sequence[Run]
    ) -> None:
        self.txid = txid
        self.stretch = stretch
        self._store = store
        self._cached = store.cached
        self._packs: list[Part] = []
        self._runs: list[tuple[int, str]] = []
        """The place behind the last pack of each incarnation, and what the keys of its packs begin with."""
        self._base: BaseIndex | None = None
        self._base_key = ""
        for origin, parts in runs:
            self._packs += parts
            if parts and parts[-1].segment.is_base:
                self._base_key = keys.segment_below(origin, str(self._packs.pop().segment))
            self._runs.append((len(self._packs), origin))
        if self._packs and self._base_key:
            store.open_together([self._key(0)], self._base_key)
        if self._base_key:
            self._base = store.base(self._base_key)
        self.page_count, self.checksum, self.time = self._end()
        self._above: tuple[str, ...] = ()
        self._opened_at = txid
        self._plain = EVERY
        """Packs since the last digest; as many as make one due, where that is not known."""
        self._beyond: dict[int, int] = {}
        self._memo: dict[PageNo, Spot | None] = {}
        self._recent: tuple[dict[PageNo, Spot], ...] = ()

    def remember(self, before: View) -> None:
        """Take over what a view of the same position knows, as far as the segments are still the same.

        Packs may have been merged and a base may have been written since; the content has not changed.
        """
        if (before.txid, before.stretch) != (self.txid, self.stretch):
            return
        here = set(map(self._key, range(len(self._packs))))
        nowhere = before._base_key == self._base_key
        memo = self._memo
        known_to_it: list[Mapping[PageNo, Spot | None]] = [before._memo, *reversed(before._recent)]
        for known in known_to_it:
            if len(memo) + len(known) > _MEMO_ENTRIES:
                return
            # A copy, because readers of that view go on remembering.
            for page_no, spot in dict(known).items():
                if nowhere if spot is None else spot.key in here:
                    memo[page_no] = spot
                elif spot is not None:
                    memo.pop(page_no, None)

    def grown(self, key: str, pack: PackIndex) -> View:
        """The view after the commits of a pack that directly follow this one on its stretch."""
        last = pack.transaction_at_or_before(pack.max_txid)
        if last is None or pack.min_txid != self.txid + 1:
            raise CorruptError(f"{key} begins at txid {pack.min_txid} and cannot follow {self.txid}")
        view = object.__new__(View)
        view.txid, view.stretch = last.txid, self.stretch
        view.page_count, view.checksum, view.time = last.page_count, last.checksum, last.time
        view._store, view._cached = self._store, self._cached
        # What was there before does not change, and neither does what is remembered of it.
        view._packs, view._runs, view._beyond, view._memo = self._packs, self._runs, self._beyond, self._memo
        view._plain = self._plain + 1 if pack.digest_since is None else 0
        view._above, view._opened_at = (key, *self._above), self._opened_at
        view._base, view._base_key = self._base, self._base_key
        origin = keys.incarnation_of(key)
        newest = {page_no: _spot(origin, key, page_no, frame) for page_no, frame in pack.pages(pack.max_txid)}
        older = list(self._recent)
        while older and len(older[0]) <= 2 * len(newest):
            newest = {**older.pop(0), **newest}
        view._recent = (newest, *older)
        return view

    def page(self, page_no: PageNo) -> bytes:
        """The page's bytes; empty beyond the end of the database.

        Raises `CorruptError` if what is stored does not match its checksum.
        """
        if not 0 < page_no <= self.page_count:
            return b""
        self._store.reads += 1
        if self._packs or self._recent:
            spot = self.spot(page_no)
            if spot is not None:
                return self._cached(spot[0]) or self._store.page(spot)
        page = self._cached((self._base_key, None, page_no))
        if page is not None:
            return page
        return b"" if self._base is None else self._store.base_page(self._base_key, self._base, page_no)

    def version(self, page_no: PageNo) -> Version:
        """Which version of the page this is, as the store knows it."""
        spot = self.spot(page_no)
        return (self._base_key, None, page_no) if spot is None else spot.version

    def is_in_memory(self, page_no: PageNo) -> bool:
        """Whether `page` answers without asking the store."""
        if not 0 < page_no <= self.page_count:
            return True
        for recent in self._recent:
            if page_no in recent:
                return self._cached(recent[page_no].version) is not None
        if self._packs:
            if page_no not in self._memo:
                return False
            spot = self._memo.get(page_no)
            if spot is not None:
                return self._cached(spot.version) is not None
        return self._base is None or self._cached((self._base_key, None, page_no)) is not None

    def trace(self, page_no: PageNo) -> Trace:
        """Which version of the page this is, and what is known of its frame."""
        spot = self.spot(page_no)
        if spot is not None:
            return Trace(spot.version, (spot.length, spot.crc32))
        frame = None if self._base is None else self._store.base_frame(self._base_key, self._base, page_no)
        return Trace((self._base_key, None, page_no), frame and (frame.length, frame.crc32))

    def above(self) -> Above:
        """The base, and the packs above it with their pages."""
        parts: dict[Hashable, Callable[[], Iterable[PageNo]]] = {}
        for place, (_, since, until) in enumerate(self._packs):
            key = self._key(place)
            parts[key, since, until] = partial(_pages_of, self._store, key, since, until)
        for recent in self._recent:
            parts[id(recent)] = recent.keys  # Whoever compares holds on to both views.
        return Above(self._base_key, parts)

    def spot(self, page_no: PageNo) -> Spot | None:
        """Where the page lies in a pack, which always holds the same bytes there; None if it is in none."""
        for recent in self._recent:
            spot = recent.get(page_no)
            if spot is not None:
                return spot
        try:
            return self._memo[page_no]
        except KeyError:
            return self._find_in_packs(page_no)

    def _find_in_packs(self, page_no: PageNo) -> Spot | None:
        """The newest version of the page above the base. The answer is remembered: it never changes."""
        if len(self._memo) >= _MEMO_ENTRIES:
            self._memo.clear()
        spot = self._memo[page_no] = self._look_for(page_no)
        return spot

    def _look_for(self, page_no: PageNo) -> Spot | None:
        packs, store, place = self._packs, self._store, 0
        together = _TOGETHER
        while place < len(packs):
            _, since, until = packs[place]
            key = self._key(place)
            if store.is_remote and store.pack_at_hand(key) is None:
                store.open_together(list(map(self._key, range(len(packs))[place : place + together])))
                together = min(2 * together, _MOST_TOGETHER)
            pack = store.pack(key)
            frame = pack.find(page_no, until, since)
            if frame is not None:
                return _spot(self._origin(place), key, page_no, frame)
            if pack.digest_since is None:
                place += 1
                continue
            txid = pack.told(page_no)
            if txid >= since:
                return self._find_told(txid, page_no, place)
            beyond = self._beyond.get(place)
            if beyond is None:
                beyond = self._beyond[place] = self._first_not_told(place, pack.digest_since)
            place, together = beyond, 1
        return None

    def _find_told(self, txid: TXID, page_no: PageNo, told: int) -> Spot:
        """The version of a page by the commit that the digest of the pack at the place `told` names."""
        place = self._first_behind(told, lambda segment: segment.min_txid <= txid)
        if place < len(self._packs) and self._continues(place, told):
            key = self._key(place)
            frame = self._store.pack(key).find(page_no, txid, txid)
            if frame is not None:
                return _spot(self._origin(place), key, page_no, frame)
        raise CorruptError(
            f"{self._key(told)} says that txid {txid} wrote page {page_no}, but no pack has that"
        )

    def _first_not_told(self, place: int, since: TXID) -> int:
        """Behind a pack whose digest reaches back to `since`, the first of which it does not tell everything."""
        oldest = self._packs[place].since
        return self._first_behind(place, lambda segment: max(segment.min_txid, oldest) < since)

    def _first_behind(self, place: int, is_it: Callable[[SegmentName], bool]) -> int:
        """The first behind a place that is it, as all behind it are, or that does not continue it."""
        packs = self._packs
        since, end = packs[place].since, self._run_of(place)[0]
        behind = range(place + 1, end)
        return (
            place
            + 1
            + bisect_left(behind, True, key=lambda n: packs[n].since != since or is_it(packs[n].segment))
        )

    def _continues(self, place: int, other: int) -> bool:
        """Whether two packs are of the same stretch, above the same base."""
        return self._packs[place].since == self._packs[other].since and self._run_of(place) == self._run_of(
            other
        )

    def _key(self, place: int) -> str:
        return keys.segment_below(self._origin(place), str(self._packs[place].segment))

    def _origin(self, place: int) -> str:
        return self._run_of(place)[1]

    def _run_of(self, place: int) -> tuple[int, str]:
        for run in self._runs:
            if place < run[0]:
                return run
        raise IndexError(place)

    def _end(self) -> End:
        """What the newest commit left."""
        for place, (_, since, until) in enumerate(self._packs):
            last = self._store.pack(self._key(place)).transaction_at_or_before(until)
            if last is not None and last.txid >= since:
                return End(last.page_count, last.checksum, last.time)
        base = self._base
        return End(0, CHECKSUM_FLAG, None) if base is None else End(base.page_count, base.checksum, base.time)

    def digest(self) -> Digest | None:
        """What a pack that follows this position says of those before it, as far as their footers are at hand."""
        if self._plain < EVERY:
            return None
        packs = self._packs
        since, older = TXID(self._opened_at + 1), 0
        if self._runs[0][0] and packs[0].until == self._opened_at:
            since = packs[0].since
            older = self._first_behind(0, lambda _: False)
        return next_digest(
            map(self._store.pack_at_hand, chain(self._above, map(self._key, range(older)))), since
        )


def open_view(
    store: SegmentStore, db_uuid: str, manifest: Manifest, txid: TXID, parent_of: ParentOf, losses: int = 0
) -> View:
    """The view of a branch at `txid`; `losses` is the last part of its `stretch`.

    Raises `TxidNotRetainedError` if a part of what it is made of has been removed.
    """
    runs: list[Run] = []
    history = (manifest.incarnation, stretch_at(manifest, txid).from_txid, losses)
    at = txid
    while True:
        found = lineage(manifest, at)
        if found.gap is not None:
            raise TxidNotRetainedError(
                f"txid {at} of branch {manifest.branch_id!r} is no longer retained: commit {found.gap}, which it "
                "stands on, was removed"
            )
        origin = keys.incarnation_prefix(db_uuid, manifest.incarnation)
        runs.append(Run(origin, found.parts))
        parent = manifest.parent
        if found.inherited is None:
            return View(store, txid, history, runs)
        if parent is None:
            raise CorruptError(f"branch {manifest.branch_id!r} continues a parent that its manifest lacks")
        at = found.inherited
        manifest, db_uuid = parent_of(parent, at), parent.db_uuid


def _pages_of(store: SegmentStore, key: str, since: TXID, until: TXID) -> Iterable[PageNo]:
    return (page_no for page_no, _ in store.pack(key).pages(until, since))


def _spot(origin: str, key: str, page_no: PageNo, frame: Frame) -> Spot:
    offset, length, crc, txid = frame
    return Spot((origin, txid, page_no), key, offset, length, crc)
