"""`mt.maintenance`: what keeps the history of a store small and true, by hand."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from datetime import datetime

from memoturn.base.errors import InvalidRequestError
from memoturn.base.names import check_name, parse_address, parse_position
from memoturn.faces.wire import CompactResult, GcResult, MaintenanceStatus, Retained, RetainedBranch, Verified
from memoturn.node.engine import Engine
from memoturn.operations import maintenance, status

Progress = Callable[[int, int], None]


class Maintenance:
    """What runs in the background of its own accord, and can be run by hand."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def compact(self, address: str, progress: Progress | None = None) -> CompactResult:
        """Merge the packs of `db@branch`, or of all branches of `db`, write bases, and shorten deep chains.

        Every position that can be restored stays so, with the same bytes. Safe from any process, while others
        commit and read.
        """
        where = parse_address(address)
        if where.position is not None:
            raise InvalidRequestError(f"{address!r} names a position; give a database, or a branch of one")
        return maintenance.compact(self._engine, where.database, where.branch, progress)

    def retain(self, database: str, progress: Progress | None = None) -> builtins.list[RetainedBranch]:
        """Let go of what is older than `settings.history` keeps; returns the branches on which that changed anything.

        Snapshots take the place of single txids first, and garbage collections then remove what no position needs.
        """
        return maintenance.retain(self._engine, check_name("database", database), progress)

    def gc(
        self, database: str | None = None, *, dry_run: bool = False, progress: Progress | None = None
    ) -> GcResult:
        """Remove what no branch of a database, or of any, has needed for a grace period; what is dead now is counted.

        So a second call, `settings.history.gc_grace_secs` later, removes what the first has counted. Expired branches
        leave tombstones; deleted branches and databases go with all that they alone needed. With `dry_run` nothing
        changes. `progress` is called with how many objects were looked at, and how many of them are removed.
        """
        return maintenance.gc(self._engine, database, dry_run, progress)

    def why_retained(self, object_key: str) -> Retained:
        """Who holds an object of the store, such as `db/d_…/b_…/ltx/0/1-5-1.ltx`. Raises `NotFoundError`."""
        return maintenance.why_retained(self._engine, object_key)

    def status(self, database: str | None = None) -> MaintenanceStatus:
        """What background work has done and what is due, of a database or of all.

        What is in the store and what the processes of this machine have noted is told whoever has done it; what
        runs now and what is due next, of this process only. Raises `DatabaseNotFoundError`.
        """
        return status.status(self._engine, None if database is None else check_name("database", database))

    def verify(
        self,
        address: str | None = None,
        *,
        at: str | int | datetime | None = None,
        points: int = 2,
        progress: Progress | None = None,
    ) -> builtins.list[Verified]:
        """Restore positions from the store alone, and compare them with what was recorded when they were committed.

        `address` is `db`, for all of its branches, or `db@branch`; without one, everything is looked at. Of each
        branch that is the head, and `at`, or else `points` random positions that can be restored. What is wrong
        is told, not raised.
        """
        return builtins.list(
            maintenance.verify(
                self._engine,
                None if address is None else parse_address(address),
                None if at is None else parse_position(at),
                points,
                progress,
            )
        )
