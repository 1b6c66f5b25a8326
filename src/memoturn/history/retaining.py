"""Retention, done: the boundaries of a database's branches rise to where the plan has them, bases written first.

Any node may do it at any time. A node whose clock is ahead must not end what others still count on: before a boundary
rises, the store is asked what time it is, and the earlier of both times counts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

from memoturn.base.errors import BranchNotFoundError, MemoturnError, UnavailableError
from memoturn.base.settings import HistorySettings
from memoturn.base.txids import EMPTY, PAGE_SIZE, TXID, UnixMs
from memoturn.bucket import ObjectNotFound
from memoturn.database.environment import Environment
from memoturn.database.times import time_of
from memoturn.history.bases import write_base
from memoturn.history.budget import Budget, Stopped
from memoturn.history.census import store_now
from memoturn.history.collection import read_records
from memoturn.history.reach import NO_PINS, pins_of
from memoturn.history.retention import DAY_MS, Moment, Plan, Windows, apply, plan
from memoturn.manifest import keys, rules
from memoturn.manifest.coverage import lineage
from memoturn.manifest.model import Manifest
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import first_own
from memoturn.pages.view import open_view


class Raised(NamedTuple):
    """What retention did with a branch: boundaries before and after, and the bases that it wrote."""

    branch_id: str
    exact: tuple[TXID, TXID]
    floor: tuple[TXID, TXID]
    bases: tuple[TXID, ...]
    bytes: int


def retain(env: Environment, db_uuid: str, settings: HistorySettings, budget: Budget) -> Iterator[Raised]:
    """Bring every living branch of a database to what its windows ask for; tells of those that this has changed.

    Raises `Stopped`, `UnavailableError` and `CorruptError`; what was done stands. A branch that cannot be brought
    there, because something of it is damaged, keeps no other from it: that is raised in the end.
    """
    records = read_records(env, db_uuid)
    pins = pins_of({incarnation: record.manifest for incarnation, record in records.items()})
    earlier: UnixMs | None = None
    failed: MemoturnError | None = None

    def now() -> UnixMs:
        nonlocal earlier
        if earlier is None:
            earlier = min(env.clock.now_ms(), store_now(env.bucket, env.ids))
        return earlier

    for incarnation, record in records.items():
        if record.manifest.deleted_at is None:
            branch = _Branch(env, db_uuid, record.manifest, pins.get(incarnation, NO_PINS), settings)
            try:
                done = branch.retain(now, budget)
            except (Stopped, UnavailableError):
                raise
            except BranchNotFoundError:
                continue  # Its name was given away.
            except MemoturnError as error:
                failed = failed or error
                continue
            if done is not None:
                yield done
    if failed is not None:
        raise failed


class _Branch:
    """One branch, as its manifest was read."""

    def __init__(
        self,
        env: Environment,
        db_uuid: str,
        manifest: Manifest,
        pins: frozenset[TXID],
        settings: HistorySettings,
    ) -> None:
        self._env = env
        self._db_uuid = db_uuid
        self._manifest = manifest
        self._pins = pins
        self._settings = settings

    def retain(self, now: Callable[[], UnixMs], budget: Budget) -> Raised | None:
        """Plan by this node's clock, which costs no request; if there is anything to do, by the store's as well."""
        budget.begin()
        old = self._manifest
        if self._changes_nothing(self._plan(self._env.clock.now_ms())):
            return None
        done = self._plan(now())
        if self._changes_nothing(done):
            return None
        written = 0
        manifest = old
        for txid in done.bases:
            manifest, size = write_base(self._env, self._db_uuid, manifest, txid, budget)
            written += size

        def wish(current: Manifest) -> Manifest:
            rules.check_incarnation(current, old.incarnation)
            return apply(current, done)

        try:
            manifest = self._env.manifests.update(
                keys.manifest_key(self._db_uuid, old.branch_id), wish
            ).record
        except ObjectNotFound:
            return None
        exact, floor = (old.exact_txid, manifest.exact_txid), (old.floor_txid, manifest.floor_txid)
        return Raised(old.branch_id, exact, floor, done.bases, written)

    def _plan(self, now: UnixMs) -> Plan:
        windows = Windows(
            UnixMs(now - self._settings.pitr_retention_secs * 1000),
            UnixMs(now - self._settings.pitr_snapshot_retention_secs * 1000),
            now,
        )
        below = list(self._snapshots(windows.snapshots))
        above = sorted(self._moments(windows.fine))
        return plan(self._manifest, [*below, *above], windows, self._pins, self)

    def _changes_nothing(self, done: Plan) -> bool:
        old = self._manifest
        return not done.bases and (done.exact, done.floor) == (old.exact_txid, old.floor_txid)

    # What the plan asks.

    def has_pages(self, txid: TXID) -> bool:
        """Whether a position is more than an empty database: what it inherits may be that too, after a rewind."""
        found = lineage(self._manifest, txid)
        if found.parts or found.inherited in (None, EMPTY):
            return bool(found.parts)
        view = open_view(self._env.store.aside(), self._db_uuid, self._manifest, txid, self._env.manifest_of)
        return view.time is not None

    def pack(self, pack: SegmentName) -> int:
        """Bytes of a pack."""
        index = self._env.store.pack(self._key(pack))
        return index.data_length + index.footer_length

    def base(self, manifest: Manifest, txid: TXID) -> int:
        """About the bytes of a base: pages shrink as they did in the one before, or to a half."""
        view = open_view(self._env.store.aside(), self._db_uuid, self._manifest, txid, self._env.manifest_of)
        last = lineage(self._manifest, txid).parts[-1:]
        if last and last[0].segment.is_base:
            base = self._env.store.base(self._key(last[0].segment))
            return base.snapshot_length * view.page_count // max(base.page_count, 1)
        return view.page_count * PAGE_SIZE // 2

    # When there was what.

    def _snapshots(self, until: UnixMs) -> Iterator[Moment]:
        """The bases from the floor up to the exact window, until one that is not old enough to be given up."""
        old = self._manifest
        names = (s for s in map(SegmentName.parse, old.segments) if s.is_base)
        own = first_own(old)
        for txid in sorted({s.max_txid for s in names if own <= s.max_txid < old.exact_txid}):
            if txid >= old.floor_txid:
                time = time_of(self._env, self._db_uuid, old, txid)
                yield Moment(txid, time)
                if time > until:
                    return

    def _moments(self, fine: UnixMs) -> set[Moment]:
        """Of the positions from the exact window on: the last of each day, those that have a base, rewinds.

        And the last one that is older than the fine window, and the first that is not, where it ends.
        """
        old = self._manifest
        start = max(old.exact_txid, first_own(old))
        found: set[Moment] = set()
        names = [SegmentName.parse(text) for text in old.segments]
        packs = sorted((s for s in names if not s.is_base and s.max_txid >= start), key=lambda s: s.max_txid)
        last: Moment | None = None
        for pack in packs:
            index = self._env.store.pack(self._key(pack))
            (txids, times, *_), _ = index.columns()
            place, end = bisect_left(txids, start), bisect_right(times, fine)
            while place < min(end, len(times)):
                place = min(bisect_left(times, (times[place] // DAY_MS + 1) * DAY_MS, place), end)
                last = Moment(TXID(txids[place - 1]), UnixMs(times[place - 1]))
                found.add(last)
            if end < len(times):
                first = max(end, bisect_left(txids, start))
                if first < len(times):
                    last = Moment(TXID(txids[first]), UnixMs(times[first]))
                    found.add(last)
                    break
        for stretch in old.timeline[1:]:
            if stretch.from_txid >= start and self.has_pages(stretch.from_txid):
                found.add(Moment(stretch.from_txid, stretch.at))
        until = last.txid if last is not None else old.head_txid
        for base in names:
            if base.is_base and start <= base.max_txid <= until:
                found.add(Moment(base.max_txid, time_of(self._env, self._db_uuid, old, base.max_txid)))
        return found

    def _key(self, segment: SegmentName) -> str:
        return keys.segment_key(self._db_uuid, self._manifest.incarnation, str(segment))
