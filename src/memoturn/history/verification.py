"""A position restored from the bucket alone, page by page, and held against what was recorded when it was committed.

Nothing that this process remembers takes part: manifests, indexes and pages are read from the bucket anew. What comes
out is compared with the rolling checksum of the txid, in every segment that records it, and SQLite looks through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Final, NamedTuple

import apsw

from memoturn.base.errors import (
    BranchNotFoundError,
    CorruptError,
    NotFoundError,
    SegmentGoneError,
    TxidNotRetainedError,
    UnavailableError,
)
from memoturn.base.ids import Ids
from memoturn.base.settings import MIB, CacheSettings
from memoturn.base.txids import LOCK_PAGE, PAGE_SIZE, TXID, Checksum, PageNo
from memoturn.bucket import Bucket, ObjectNotFound
from memoturn.database.environment import manifest_of
from memoturn.history.budget import Budget
from memoturn.manifest import keys
from memoturn.manifest.coverage import lineage
from memoturn.manifest.invariants import check_manifest
from memoturn.manifest.model import Manifest, Parent
from memoturn.manifest.register import Register
from memoturn.manifest.restorable import restorable
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.watch import AloneWatch
from memoturn.pages.store import SegmentStore
from memoturn.pages.vfs import ReaderFile, connect
from memoturn.pages.view import Source, View, open_view
from memoturn.segments.checksum import CHECKSUM_FLAG, combine, page_checksum

_CACHE: Final = CacheSettings(page_cache_bytes=16 * MIB, disk_cache_bytes=0)
_INDEXES: Final = 256 * MIB
"""The indexes of all that a position is made of are needed at once: a page is looked for in each of them."""
_PIECE: Final = 2 * PAGE_SIZE
"""Bytes after which the work may pause: a commit that wants the interpreter waits for the end of a piece."""
_TOLD: Final = 3
"""Complaints of SQLite that are passed on."""


class Restored(NamedTuple):
    """What came out of restoring a position: its size, and what is wrong with it, None if nothing is."""

    txid: TXID
    pages: int
    problem: str | None


class Moved(UnavailableError):  # noqa: N818 - no error of anybody's: somebody else was at work
    """The branch, or one that it was forked from, was rewritten while a position of it was being restored."""


class Restoring:
    """A branch as the bucket has it now, in the hands of somebody who remembers nothing else."""

    def __init__(self, bucket: Bucket, ids: Ids, db_uuid: str, branch_id: str) -> None:
        bucket = bucket.afresh()
        self._manifests = Register(Manifest, check_manifest, bucket, AloneWatch(), ids, cached=1000)
        self._store = SegmentStore(bucket, _CACHE, index_bytes=_INDEXES, trust_copies=False)
        self._ids = ids
        self._db_uuid = db_uuid
        self._key = keys.manifest_key(db_uuid, branch_id)
        self._parents: dict[tuple[Parent, TXID], Manifest] = {}
        try:
            self.manifest: Final = self._manifests.read(self._key).record
        except ObjectNotFound:
            raise BranchNotFoundError(f"the database has no branch {branch_id!r}") from None

    def points(self, count: int) -> list[TXID]:
        """`count` of the positions that the branch declares to be restorable, at random, ascending; without the head.

        Raises `CorruptError`.
        """
        head = self.manifest.head_txid
        runs = [
            (run.first, min(run.last, head - 1)) for run in restorable(self.manifest, self._manifest_of).runs
        ]
        runs = [(first, last) for first, last in runs if first <= last]
        total = sum(last - first + 1 for first, last in runs)
        numbers = set(range(total)) if total <= count else set[int]()
        while len(numbers) < min(count, total):
            numbers.add(self._ids.number(64) % total)
        return sorted(_nth(runs, number) for number in numbers)

    def declares(self, txid: TXID) -> bool:
        """Whether the branch declares a position to be restorable. Raises `CorruptError`."""
        return restorable(self.manifest, self._manifest_of).has(txid)

    def verify(self, txid: TXID, budget: Budget) -> Restored:
        """Restore all of a position. Raises `Moved`, and `UnavailableError` where the store does not answer."""
        view: View | None = None
        budget.begin()
        try:
            view = self.open(txid)
            budget.expect(2 * view.page_count * PAGE_SIZE)
            problem = None
            for piece in self.compare(view):
                budget.spend(piece)
            problem = _complaints_of_sqlite(view, budget)
        except (CorruptError, NotFoundError, SegmentGoneError, TxidNotRetainedError, apsw.Error) as error:
            problem = self.problem_in(error)
        return Restored(txid, 0 if view is None else view.page_count, problem)

    def open(self, txid: TXID) -> View:
        """The view of a position."""
        return open_view(self._store, self._db_uuid, self.manifest, txid, self._manifest_of)

    def compare(self, view: View) -> Iterator[int]:
        """Hold the checksum of all pages against the one that was recorded; yields the bytes of each piece.

        Raises `CorruptError` that names what does not fit.
        """
        checksum, piece = CHECKSUM_FLAG, 0
        for page_no in map(PageNo, range(1, view.page_count + 1)):
            if page_no != LOCK_PAGE:
                page = view.page(page_no)
                if len(page) != PAGE_SIZE:
                    raise CorruptError(f"page {page_no} of {view.page_count} is missing from every segment")
                checksum = combine(checksum, page_checksum(page_no, page))
                piece += PAGE_SIZE
            if piece >= _PIECE:
                yield piece
                piece = 0
        yield piece
        wrong = [(key, there) for key, there in self._recorded(view.txid) if there != checksum]
        if wrong:
            raise CorruptError(
                f"the pages at txid {view.txid} have checksum {checksum:#x}, but "
                + ", ".join(f"{key} says {there:#x}" for key, there in wrong)
            )

    def _recorded(self, txid: TXID) -> Iterator[tuple[str, Checksum]]:
        """The objects that record the checksum of a position, and what each says."""
        manifest, db_uuid, at = self.manifest, self._db_uuid, txid
        while True:
            found = lineage(manifest, at)
            for segment, since, until in found.parts:
                key = keys.segment_key(db_uuid, manifest.incarnation, str(segment))
                if segment.is_base:
                    if segment.max_txid == at:
                        yield keys.base_index_key(key), self._store.base(key).checksum
                        yield from self._recorded_in_packs(db_uuid, manifest, at)
                    return
                last = self._store.pack(key).transaction_at_or_before(until)
                if last is not None and last.txid >= since:
                    yield key, last.checksum
                    return
            if found.inherited is None or manifest.parent is None:
                return
            parent, at = manifest.parent, found.inherited
            manifest, db_uuid = self._manifest_of(parent, at), parent.db_uuid

    def _recorded_in_packs(
        self, db_uuid: str, manifest: Manifest, txid: TXID
    ) -> Iterator[tuple[str, Checksum]]:
        for segment in map(SegmentName.parse, manifest.segments):
            if not segment.is_base and segment.min_txid <= txid <= segment.max_txid:
                key = keys.segment_key(db_uuid, manifest.incarnation, str(segment))
                there = self._store.pack(key).transaction(txid)
                if there is not None:
                    yield key, there.checksum

    def _manifest_of(self, parent: Parent, at: TXID) -> Manifest:
        manifest = self._parents[parent, at] = manifest_of(self._manifests, parent, at)
        return manifest

    def problem_in(self, error: Exception) -> str:
        """What an error says of the position that was being restored. Raises `Moved` if it says nothing."""
        self._check_whether_moved()
        return str(error.as_damage() if isinstance(error, SegmentGoneError) else error)

    def _check_whether_moved(self) -> None:
        """Raise `Moved` if a branch that takes part was written since we looked: it may have let go of segments."""
        try:
            moved = _differ(self._manifests.read(self._key).record, self.manifest)
            for (parent, at), manifest in self._parents.items():
                self._manifests.read(keys.manifest_key(parent.db_uuid, parent.branch_id))
                moved = moved or _differ(manifest_of(self._manifests, parent, at), manifest)
        except NotFoundError:
            moved = True
        if moved:
            raise Moved("the history of the branch was rewritten while it was being restored; try again")


def _nth(runs: list[tuple[TXID, int]], number: int) -> TXID:
    for first, last in runs:
        if number <= last - first:
            return TXID(first + number)
        number -= last - first + 1
    raise IndexError(number)


def _differ(now: Manifest, then: Manifest) -> bool:
    return (now.incarnation, now.segments, now.timeline) != (then.incarnation, then.segments, then.timeline)


def _complaints_of_sqlite(view: View, budget: Budget) -> str | None:
    with closing(connect(ReaderFile(_Paced(view, budget)))) as connection:
        rows = connection.execute("PRAGMA temp_store=MEMORY; PRAGMA integrity_check").fetchall()
    complaints = [str(row[0]) for row in rows if row[0] != "ok"]
    if not complaints:
        return None
    more = f", and {len(complaints) - _TOLD} more" if len(complaints) > _TOLD else ""
    return f"SQLite's integrity check at txid {view.txid}: {'; '.join(complaints[:_TOLD])}{more}"


class _Paced:
    """A view whose reader keeps to a budget."""

    def __init__(self, view: Source, budget: Budget) -> None:
        self.txid, self.page_count, self.checksum = view.txid, view.page_count, view.checksum
        self.time, self.stretch = view.time, view.stretch
        self._page = view.page
        self.is_in_memory = view.is_in_memory
        self._budget = budget
        self._read = 0

    def page(self, page_no: PageNo) -> bytes:
        self._read += PAGE_SIZE
        if self._read >= _PIECE:
            self._budget.spend(self._read)
            self._read = 0
        return self._page(page_no)
