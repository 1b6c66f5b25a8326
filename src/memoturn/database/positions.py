"""From a checkpoint, a time or a txid to a position that can be restored: the very one, or the nearest before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from memoturn.base.clock import format_time
from memoturn.base.errors import TxidNotRetainedError
from memoturn.base.names import AtCheckpoint, AtTime, AtTxid, Position
from memoturn.base.txids import EMPTY, TXID
from memoturn.database.environment import Environment
from memoturn.database.tail import Commit
from memoturn.database.times import last_by, time_of
from memoturn.manifest.model import Manifest
from memoturn.manifest.restorable import Restorable, is_exact, restorable
from memoturn.manifest.rules import checkpoint_txid


class Named(NamedTuple):
    """What a position stands for; `exact` is whether that is the very one which was asked for."""

    txid: TXID
    exact: bool


def resolve(
    env: Environment,
    db_uuid: str,
    manifest: Manifest,
    tail: Sequence[Commit],
    position: Position,
    exact: bool = False,
) -> Named:
    """The txid of a position on the branch; `tail` holds its commits beyond the manifest's head.

    One of which only snapshots are left goes to the nearest that can be restored at or below it, or is refused if
    there is none or `exact` is set. Raises `CheckpointNotFoundError` or `TxidNotRetainedError`.
    """
    if isinstance(position, AtCheckpoint):
        return Named(checkpoint_txid(manifest, position.name), True)
    if isinstance(position, AtTxid):
        return _at_txid(env, manifest, tail, position.txid, exact)
    for commit in reversed(tail):
        if commit.header.timestamp_ms <= position.ms:
            return Named(commit.txid, True)
    return _at_time(env, db_uuid, manifest, position, exact)


def _at_txid(env: Environment, manifest: Manifest, tail: Sequence[Commit], txid: TXID, exact: bool) -> Named:
    head = tail[-1].txid if tail else manifest.head_txid
    if txid > head:
        raise TxidNotRetainedError(
            f"txid {txid} is ahead of branch {manifest.branch_id!r}, whose head is {head}", nearest=(head,)
        )
    if txid > manifest.head_txid or is_exact(manifest, txid, env.manifest_of):
        return Named(txid, True)
    points = restorable(manifest, env.manifest_of)
    found = points.at_or_below(txid)
    if found is not None and txid <= found.last:
        return Named(txid, True)
    if found is None or exact:
        _refuse(manifest, f"txid {txid}", points.nearest(txid))
    return Named(found.last, False)


def _at_time(env: Environment, db_uuid: str, manifest: Manifest, position: AtTime, exact: bool) -> Named:
    """The last position at or before a time. It is the very one if what follows it can be restored as well."""
    runs = restorable(manifest, env.manifest_of).runs
    following: TXID | None = None
    for run in reversed(runs):
        if time_of(env, db_uuid, run.holder, run.first) <= position.ms:
            found = last_by(env, db_uuid, run, position.ms)
            if found < run.last or following is None or following == run.last + 1:
                return Named(found, True)
            if exact:
                _refuse(manifest, f"the last commit at {position}", (run.last, following))
            return Named(found, False)
        following = run.first
    oldest, holder = runs[0].first, runs[0].holder
    since = format_time(time_of(env, db_uuid, holder, oldest))
    what = (
        f"branch {holder.branch_id!r} was created at" if oldest == EMPTY else f"the oldest, {oldest}, is of"
    )
    raise TxidNotRetainedError(
        f"branch {manifest.branch_id!r} has nothing left from {position}: {what} {since}", nearest=(oldest,)
    )


def still_restorable(points: Restorable, manifest: Manifest, txid: TXID) -> None:
    """Raise `TxidNotRetainedError` if a position that was named a moment ago cannot be named any more."""
    if not points.has(txid):
        _refuse(manifest, f"txid {txid}", points.nearest(txid))


def _refuse(manifest: Manifest, what: str, nearest: tuple[TXID, ...]) -> NoReturn:
    near = ", ".join(map(str, nearest))
    raise TxidNotRetainedError(
        f"{what} of branch {manifest.branch_id!r} is no longer retained; the nearest that can be restored: {near}",
        nearest=nearest,
    )
