"""Removing what has expired, a little at a time. What has expired is absent for everybody before it is removed."""

from __future__ import annotations

from typing import Final

from memoturn.base.txids import UnixMs
from memoturn.database.branch import Branch
from memoturn.models import kv

AT_ONCE: Final = 250


def sweep(branch: Branch, now: UnixMs, limit: int = AT_ONCE) -> int:
    """Remove at most `limit` expired keys of an open branch in one transaction; returns how many.

    Where nothing has expired, nothing is written and no other process is asked for the branch.
    """
    with branch.readers.on(branch.head()) as connection:
        if not kv.has_expired(connection, now):
            return 0
    return branch.write(lambda connection: kv.sweep(connection, now, limit))[0]
