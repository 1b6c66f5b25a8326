"""Restore drills: a little is restored from the bucket all the time, so that damage is found before it is needed.

A small database is restored whole, with SQLite's integrity check; of a large one the checksum of all pages is
recomputed in pieces, with pauses between them. Where a drill has found damage, the next one on the branch looks at
the same position again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from memoturn.base.errors import (
    BranchNotFoundError,
    CorruptError,
    MemoturnError,
    NotFoundError,
    SegmentGoneError,
    TxidNotRetainedError,
)
from memoturn.base.txids import PAGE_SIZE, TXID
from memoturn.history.budget import Budget
from memoturn.history.verification import Moved, Restored, Restoring
from memoturn.node.notes import Note, Notes

if TYPE_CHECKING:
    from memoturn.database.branch import Branch
    from memoturn.node.engine import Engine

_log: Final = logging.getLogger("memoturn")
WHOLE: Final = 32 << 20
"""Bytes of a database up to which it is restored at one go."""


class _Running(NamedTuple):
    """A large database halfway through."""

    db_uuid: str
    branch_id: str
    restoring: Restoring
    txid: TXID
    pages: int
    pieces: Iterator[int]


class Drills:
    """One drill after the other."""

    def __init__(self, engine: Engine, notes: Notes, bytes_per_minute: int) -> None:
        self._bucket, self._ids, self._clock = engine.bucket, engine.ids, engine.clock
        self._notes = notes
        self._rate = bytes_per_minute / 60
        self._running: _Running | None = None

    def step(self, branches: list[Branch], budget: Budget) -> float | None:
        """Restore a piece of any of these branches; returns for how many seconds that is enough, None if of none.

        Raises `UnavailableError`.
        """
        before = budget.bytes
        if self._running is None:
            if not branches:
                return None
            self._begin(branches[self._ids.number(32) % len(branches)], budget)
        else:
            self._go_on(self._running, budget)
        return (budget.bytes - before) / self._rate

    def _begin(self, branch: Branch, budget: Budget) -> None:
        damaged = self._notes.read(branch.db_uuid).last("damage", branch.branch_id)
        txid = None if damaged is None or damaged.txid is None else TXID(damaged.txid)
        began = self._clock.monotonic()
        restoring: Restoring | None = None
        try:
            restoring = Restoring(self._bucket, self._ids, branch.db_uuid, branch.branch_id)
            if (
                restoring.manifest.incarnation != branch.incarnation
                or restoring.manifest.deleted_at is not None
            ):
                return
            if txid is not None and not restoring.declares(txid):
                # It has gone out of retention, or was another branch's that had the name before.
                self._notes.drop(branch.db_uuid, "damage", branch.branch_id)
                txid = None
            if txid is None:
                drawn = [] if self._ids.number(2) == 0 else restoring.points(1)
                txid = drawn[0] if drawn else restoring.manifest.head_txid
            view = restoring.open(txid)
        except BranchNotFoundError:
            return
        except (CorruptError, NotFoundError, SegmentGoneError, TxidNotRetainedError) as error:
            with contextlib.suppress(Moved):
                problem = str(error) if restoring is None else restoring.problem_in(error)
                self._report(branch.db_uuid, branch.branch_id, Restored(txid or TXID(0), 0, problem), began)
            return
        if view.page_count * PAGE_SIZE > WHOLE:
            self._running = _Running(
                branch.db_uuid, branch.branch_id, restoring, txid, view.page_count, restoring.compare(view)
            )
            return
        with contextlib.suppress(Moved):
            self._report(branch.db_uuid, branch.branch_id, restoring.verify(txid, budget), began)

    def _go_on(self, running: _Running, budget: Budget) -> None:
        budget.begin()
        left, began = self._rate * 60, self._clock.monotonic()
        failed: MemoturnError | None = None
        try:
            for piece in running.pieces:
                budget.spend(piece)
                left -= piece
                if left <= 0:
                    return
        except (CorruptError, NotFoundError, SegmentGoneError) as error:
            failed = error
        self._running = None
        with contextlib.suppress(Moved):
            problem = None if failed is None else running.restoring.problem_in(failed)
            found = Restored(running.txid, running.pages, problem)
            self._report(running.db_uuid, running.branch_id, found, began)

    def _report(self, db_uuid: str, branch_id: str, found: Restored, began: float) -> None:
        now, took = self._clock.now_ms(), self._clock.monotonic() - began
        what = f"restored txid {found.txid}, {found.pages} pages"
        note = Note("drill", branch_id, now, took, what, found.problem, txid=found.txid)
        if found.problem is None:
            self._notes.add(db_uuid, note)
            self._notes.drop(db_uuid, "damage", branch_id)
            return
        damage = Note("damage", branch_id, now, took, what, found.problem, txid=found.txid)
        self._notes.add(db_uuid, note, damage)
        _log.error(
            "txid %d of branch %s cannot be restored as it was: %s; `memoturn verify` tells more",
            found.txid,
            branch_id,
            found.problem,
        )
