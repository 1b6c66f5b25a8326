# Made from ../aio/maintenance.py by tools/generate_sync.py; change that, and `make client`.

"""`mt.maintenance`: what keeps the history of a store small and true, by hand."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from datetime import datetime

from memoturn.faces.client.calls import maintenance as calls
from memoturn.faces.client.sync.transport import Transport
from memoturn.faces.wire import CompactResult, GcResult, MaintenanceStatus, Retained, RetainedBranch, Verified

Progress = Callable[[int, int], None]


class Maintenance:
    """What runs in the background of its own accord, and can be run by hand.

    The server answers when all is done: `progress` is taken as embedded, and not called.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def compact(self, address: str, progress: Progress | None = None) -> CompactResult:
        """Merge the packs of `db@branch`, or of all branches of `db`, write bases, and shorten deep chains.

        Every position that can be restored stays so, with the same bytes. Safe from any process, while others
        commit and read.
        """
        return self._transport.send(calls.compact(address))

    def retain(self, database: str, progress: Progress | None = None) -> builtins.list[RetainedBranch]:
        """Let go of what is older than the server keeps; returns the branches on which that changed anything.

        Snapshots take the place of single txids first, and garbage collections then remove what no position needs.
        """
        return self._transport.send(calls.retain(database))

    def gc(
        self, database: str | None = None, *, dry_run: bool = False, progress: Progress | None = None
    ) -> GcResult:
        """Remove what no branch of a database, or of any, has needed for a grace period; what is dead now is counted.

        So a second call, a grace period later, removes what the first has counted. Expired branches leave tombstones;
        deleted branches and databases go with all that they alone needed. With `dry_run` nothing changes.
        """
        return self._transport.send(calls.gc(database, dry_run))

    def why_retained(self, object_key: str) -> Retained:
        """Who holds an object of the store, such as `db/d_…/b_…/ltx/0/1-5-1.ltx`. Raises `NotFoundError`."""
        return self._transport.send(calls.why_retained(object_key))

    def status(self, database: str | None = None) -> MaintenanceStatus:
        """What background work has done and what is due, of a database or of all. Raises `DatabaseNotFoundError`."""
        return self._transport.send(calls.status(database))

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
        return self._transport.send(calls.verify(address, at, points))
