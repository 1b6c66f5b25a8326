"""A view: one position of one branch, as an immutable function from page number to page bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from memoturn.base.errors import CorruptError
from memoturn.base.txids import EMPTY, TXID, Checksum, PageNo, UnixMs
from memoturn.manifest import keys
from memoturn.manifest.model import Manifest, Parent
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import stretch_at
from memoturn.pages.store import SegmentStore, Spot
from memoturn.segments.base import BaseIndex
from memoturn.segments.checksum import CHECKSUM_FLAG
from memoturn.segments.pack import PackIndex

_MEMO_ENTRIES: Final = 65_536

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


class Layer(NamedTuple):
    """The part of one segment that a view looks through: the commits from `since` to `until`."""

    key: str
    segment: PackIndex | BaseIndex
    since: TXID
    until: TXID


class End(NamedTuple):
    """What is known of the newest commit of a view."""

    page_count: int
    checksum: Checksum
    time: UnixMs | None


class View:
    """The database as it was at `txid`. Opening one reads footers, never pages."""

    __slots__ = (
        "_base", "_base_key", "_cached", "_memo", "_packs", "_store",
        "checksum", "page_count", "stretch", "time", "txid",
    )  # fmt: skip

    def __init__(
        self, store: SegmentStore, txid: TXID, stretch: tuple[str, TXID, int], layers: Sequence[Layer]
    ) -> None:
        self.txid = txid
        self.stretch = stretch
        self.page_count, self.checksum, self.time = _end_of(layers)
        self._store = store
        self._cached = store.cached
        self._packs = [(layer.key, layer.segment, layer.since, layer.until) for layer in layers]
        self._base: BaseIndex | None = None
        self._base_key = ""
        if layers and isinstance(layers[-1].segment, BaseIndex):
            self._base_key, self._base = layers[-1].key, layers[-1].segment
            del self._packs[-1]
        self._memo: dict[PageNo, Spot | None] = {}

    def page(self, page_no: PageNo) -> bytes:
        """The page's bytes; empty beyond the end of the database.

        Raises `CorruptError` if what is stored does not match its checksum.
        """
        if self._packs:
            try:
                spot = self._memo[page_no]
            except KeyError:
                spot = self._find_in_packs(page_no)
            if spot is not None:
                return self._cached(spot) or self._store.page(spot)
        page = self._cached((self._base_key, page_no))
        if page is not None and page_no <= self.page_count:
            return page
        if self._base is None or not 0 < page_no <= self.page_count:
            return b""
        return self._store.base_page(self._base_key, self._base, page_no)

    def spot(self, page_no: PageNo) -> Spot | None:
        """Where the page lies in a pack, which always holds the same bytes there; None if it is in none."""
        return self._find_in_packs(page_no) if page_no <= self.page_count else None

    def _find_in_packs(self, page_no: PageNo) -> Spot | None:
        """The newest version of the page above the base. The answer is remembered: it never changes."""
        if len(self._memo) >= _MEMO_ENTRIES:
            self._memo.clear()
        spot = None
        if 0 < page_no <= self.page_count:
            for key, index, since, until in self._packs:
                frame = index.find(page_no, until, since)
                if frame is not None:
                    spot = Spot(key, *frame)
                    break
        self._memo[page_no] = spot
        return spot


def open_view(
    store: SegmentStore, db_uuid: str, manifest: Manifest, txid: TXID, parent_of: ParentOf, losses: int = 0
) -> View:
    """The view of a branch at `txid`, which must be retained; `losses` is the last part of its `stretch`."""
    layers: list[Layer] = []
    at = txid
    history = (manifest.incarnation, stretch_at(manifest, at).from_txid, losses)
    while True:
        stretch = stretch_at(manifest, at)
        if _collect(layers, store, db_uuid, manifest, stretch.from_txid, at) or stretch.base == "empty":
            return View(store, txid, history, layers)
        if stretch.base == "parent":
            parent = manifest.parent
            if parent is None:
                raise CorruptError(
                    f"branch {manifest.branch_id!r} continues a parent that its manifest lacks"
                )
            manifest, db_uuid = parent_of(parent, stretch.base_txid), parent.db_uuid
        at = stretch.base_txid


def _collect(
    layers: list[Layer], store: SegmentStore, db_uuid: str, manifest: Manifest, since: TXID, until: TXID
) -> bool:
    """Add the segments that hold commits from `since` to `until`, newest first; True if a base ends the search."""
    chosen = [
        s for s in map(SegmentName.parse, manifest.segments) if since <= s.max_txid and s.min_txid <= until
    ]
    bases = [s for s in chosen if s.is_base and since <= s.max_txid <= until]
    base = max(bases, key=lambda s: s.max_txid, default=None)
    oldest = since if base is None else TXID(base.max_txid + 1)
    packs = [s for s in chosen if not s.is_base and s.max_txid >= oldest]
    packs.sort(key=lambda s: s.max_txid, reverse=True)
    for pack in packs:
        key = keys.segment_key(db_uuid, manifest.incarnation, str(pack))
        layers.append(Layer(key, store.pack(key), oldest, until))
    if base is None:
        return False
    key = keys.segment_key(db_uuid, manifest.incarnation, str(base))
    layers.append(Layer(key, store.base(key), EMPTY, base.max_txid))
    return True


def _end_of(layers: Sequence[Layer]) -> End:
    for layer in layers:
        index = layer.segment
        if isinstance(index, BaseIndex):
            return End(index.page_count, index.checksum, index.time)
        last = index.transaction_at_or_before(layer.until)
        if last is not None and last.txid >= layer.since:
            return End(last.page_count, last.checksum, last.time)
    return End(0, CHECKSUM_FLAG, None)
