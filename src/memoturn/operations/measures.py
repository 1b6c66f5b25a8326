"""What this process has counted since it opened the store: numbers, and no name of anything that users keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from memoturn.base.spread import SIZES, Spread
from memoturn.node.engine import Engine
from memoturn.node.timetable import Kind


class Measures(NamedTuple):
    """Counts since the start unless it says `now`; times in seconds."""

    hot_databases: int
    """Open now."""
    hot_branches: int
    """Open now."""
    backlog_bytes: int
    """Of commits that wait to be shipped now."""
    commits: Spread
    """Seconds from the call of a write to its acknowledgement."""
    syncs: Spread
    """Seconds of each sync of the commit log."""
    groups: Spread
    """Commits that each sync served."""
    ships: Spread
    """Seconds to put a pack into the bucket and link it."""
    committed_bytes: int
    compacted_bytes: int
    fences: int
    removed_objects: int
    pages_read: int
    pages_missed: int
    """Of those read, what was not in memory."""
    blocks_fetched: int
    """Blocks of remote segments that came from the store."""
    blocks_on_disk: int
    """Blocks of remote segments that this machine's disk had."""
    work: Mapping[tuple[Kind, bool], Spread]
    """Seconds of background work by kind, and whether it went well."""


def measure(engine: Engine) -> Measures:
    """Look at the counters. It reads memory only, and takes no lock that a commit waits for."""
    branches = engine.open_branches()
    env, log, store = engine.env, engine.env.log, engine.env.store
    return Measures(
        len({branch.db_uuid for branch in branches}),
        len(branches),
        sum(branch.backlog for branch in branches),
        env.written.commits,
        Spread() if log is None else log.took,
        Spread(SIZES) if log is None else log.groups,
        env.written.ships,
        env.written.committed,
        env.written.compacted,
        env.written.fences,
        env.written.removed,
        store.reads,
        store.misses,
        store.blocks_fetched,
        store.blocks_on_disk,
        {} if engine.maintenance is None else dict(engine.maintenance.kinds),
    )
