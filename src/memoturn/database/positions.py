"""From a checkpoint, a time or a txid to a position; and the history of a branch, told from its footers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Literal, NamedTuple

from memoturn.base.clock import format_time
from memoturn.base.errors import TxidNotRetainedError
from memoturn.base.names import AtCheckpoint, AtTime
from memoturn.base.txids import EMPTY, TXID, UnixMs
from memoturn.database.environment import Environment
from memoturn.database.tail import Commit
from memoturn.manifest import keys
from memoturn.manifest.model import Manifest
from memoturn.manifest.rules import checkpoint_txid
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import last_began_by
from memoturn.segments.pack import Transaction

Kind = Literal["commit", "rewind", "reset", "fork"]


class Event(NamedTuple):
    """One txid of a branch's own history.

    `kind` is `commit`, `rewind`, `reset` or `fork`. A commit has the number of `pages` and `bytes` that it
    wrote; the others have the txid that they took the content of in `base_txid`.
    """

    txid: TXID
    kind: Kind
    time: UnixMs
    pages: int
    bytes: int
    base_txid: TXID | None
    checkpoints: tuple[str, ...]


def resolve(
    env: Environment, db_uuid: str, manifest: Manifest, tail: list[Commit], position: AtCheckpoint | AtTime
) -> TXID:
    """The txid of a checkpoint or a time on the branch; `tail` holds its commits beyond the manifest's head.

    Raises `CheckpointNotFoundError` or `TxidNotRetainedError`.
    """
    if isinstance(position, AtCheckpoint):
        return checkpoint_txid(manifest, position.name)
    for commit in reversed(tail):
        if commit.packed.header.timestamp_ms <= position.ms:
            return commit.txid
    return _at_time(env, db_uuid, manifest, position.ms)


def _at_time(env: Environment, db_uuid: str, manifest: Manifest, ms: UnixMs) -> TXID:
    began = last_began_by(manifest, ms)
    if began == 0:
        parent = manifest.parent
        if parent is None:
            raise TxidNotRetainedError(
                f"branch {manifest.branch_id!r} was created at {format_time(manifest.created_at)}; "
                f"it has nothing from {format_time(ms)}",
                nearest=(EMPTY,),
            )
        inherited = _at_time(env, parent.db_uuid, env.manifest_of(parent, parent.fork_txid), ms)
        return min(inherited, parent.fork_txid)
    stretch = manifest.timeline[began - 1]
    last = manifest.timeline[began].from_txid - 1 if began < len(manifest.timeline) else manifest.head_txid

    def committed(pack: SegmentName) -> list[Transaction]:
        """The pack's commits from the stretch on. Times ascend along a branch, whatever clocks do."""
        index = env.store.pack(keys.segment_key(db_uuid, manifest.incarnation, str(pack)))
        return [t for t in index.transactions() if t.txid >= stretch.from_txid]

    packs = [p for p in _packs(manifest) if p.max_txid >= stretch.from_txid and p.min_txid <= last]
    packs.sort(key=lambda name: name.max_txid)
    number = bisect_right(packs, ms, key=lambda pack: committed(pack)[0].time)
    if number:
        return max(t.txid for t in committed(packs[number - 1]) if t.time <= ms and t.txid <= last)
    for base in _bases(manifest):
        if stretch.from_txid <= base.max_txid <= last:
            index_of_base = env.store.base(keys.segment_key(db_uuid, manifest.incarnation, str(base)))
            if index_of_base.time <= ms:
                return base.max_txid
    # Nothing was committed on the stretch by then: it shows what it began with.
    return stretch.base_txid if began == 1 else stretch.from_txid


def _packs(manifest: Manifest) -> list[SegmentName]:
    return [name for name in map(SegmentName.parse, manifest.segments) if not name.is_base]


def _bases(manifest: Manifest) -> list[SegmentName]:
    names = [name for name in map(SegmentName.parse, manifest.segments) if name.is_base]
    return sorted(names, key=lambda name: name.max_txid, reverse=True)


def events(env: Environment, db_uuid: str, manifest: Manifest, tail: list[Commit]) -> Iterator[Event]:
    """The branch's own history, newest first: commits, rewinds, resets, and the fork that it began with."""
    names: dict[TXID, tuple[str, ...]] = {}
    for checkpoint, txid in sorted(manifest.checkpoints.items()):
        names[txid] = (*names.get(txid, ()), checkpoint)

    def commit(txid: TXID, time: UnixMs, pages: int, length: int) -> Event:
        return Event(txid, "commit", time, pages, length, None, names.get(txid, ()))

    for unshipped in reversed(tail):
        header, data, frames, _ = unshipped.packed
        yield commit(header.max_txid, header.timestamp_ms, len(frames), len(data))
    stretches = list(manifest.timeline)

    def began_after(txid: int) -> Iterator[Event]:
        while stretches and stretches[-1].from_txid > txid:
            stretch = stretches.pop()
            if not stretches:
                if stretch.base == "parent":
                    at = stretch.base_txid
                    yield Event(at, "fork", stretch.at, 0, 0, at, names.get(at, ()))
                return
            kind: Kind = "rewind" if stretch.base == "self" else "reset"
            at = stretch.from_txid
            yield Event(at, kind, stretch.at, 0, 0, stretch.base_txid, names.get(at, ()))

    in_packs = {txid for name in _packs(manifest) for txid in (name.min_txid, name.max_txid)}
    oldest_packed = min(in_packs, default=manifest.head_txid + 1)
    for pack in sorted(_packs(manifest), key=lambda name: name.max_txid, reverse=True):
        index = env.store.pack(keys.segment_key(db_uuid, manifest.incarnation, str(pack)))
        for transaction in reversed(list(index.transactions())):
            yield from began_after(transaction.txid)
            yield commit(transaction.txid, transaction.time, transaction.page_versions, transaction.length)
    for base in _bases(manifest):
        if base.max_txid < oldest_packed:
            index_of_base = env.store.base(keys.segment_key(db_uuid, manifest.incarnation, str(base)))
            yield from began_after(base.max_txid)
            yield commit(
                base.max_txid, index_of_base.time, index_of_base.page_count, index_of_base.snapshot_length
            )
    yield from began_after(-1)
