"""The history of a branch, told from the footers of its packs: as much of it as can be restored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from memoturn.base.txids import TXID, UnixMs
from memoturn.database.environment import Environment
from memoturn.database.tail import Commit
from memoturn.manifest import keys
from memoturn.manifest.model import Manifest
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import first_own, restorable_below_exact

Kind = Literal["commit", "rewind", "reset", "fork", "snapshot"]


class Event(NamedTuple):
    """One txid of a branch's own history.

    A `commit` has the number of `pages` and `bytes` that it wrote. A `snapshot` is all that is left of a commit: it
    has those of the whole database. A `rewind`, `reset` or `fork` has the txid that it took the content of in
    `base_txid`.
    """

    txid: TXID
    kind: Kind
    time: UnixMs
    pages: int
    bytes: int
    base_txid: TXID | None
    checkpoints: tuple[str, ...]


def events(env: Environment, db_uuid: str, manifest: Manifest, tail: list[Commit]) -> Iterator[Event]:
    """The branch's own history that can be restored, newest first, and the fork that it began with."""
    names: dict[TXID, tuple[str, ...]] = {}
    for checkpoint, txid in sorted(manifest.checkpoints.items()):
        names[txid] = (*names.get(txid, ()), checkpoint)
    points = set(restorable_below_exact(manifest))

    for unshipped in reversed(tail):
        if unshipped.txid <= manifest.head_txid:
            break  # It has shipped meanwhile.
        header, data, frames, _ = unshipped.packed
        txid = header.max_txid
        yield Event(txid, "commit", header.timestamp_ms, len(frames), len(data), None, names.get(txid, ()))
    own = first_own(manifest)
    for event in _stored(env, db_uuid, manifest):
        txid = event.txid
        if event.kind == "fork" or (txid >= own and (txid >= manifest.exact_txid or txid in points)):
            yield event._replace(checkpoints=names.get(txid, ()))


def _stored(env: Environment, db_uuid: str, manifest: Manifest) -> Iterator[Event]:
    """Whatever the manifest has, newest first, without the names."""
    stretches = list(manifest.timeline)

    def began_after(txid: int) -> Iterator[Event]:
        while stretches and stretches[-1].from_txid > txid:
            stretch = stretches.pop()
            if stretches:
                kind: Kind = "rewind" if stretch.base == "self" else "reset"
                yield Event(stretch.from_txid, kind, stretch.at, 0, 0, stretch.base_txid, ())
            elif stretch.base == "parent":
                yield Event(stretch.base_txid, "fork", stretch.at, 0, 0, stretch.base_txid, ())

    told = TXID(manifest.head_txid + 1)
    segments = [SegmentName.parse(text) for text in manifest.segments]
    for name in sorted(segments, key=lambda s: (s.max_txid, not s.is_base), reverse=True):
        key = keys.segment_key(db_uuid, manifest.incarnation, str(name))
        if not name.is_base:
            for commit in reversed(list(env.store.pack(key).transactions())):
                yield from began_after(commit.txid)
                told = commit.txid
                yield Event(told, "commit", commit.time, commit.page_versions, commit.length, None, ())
        elif name.max_txid < told:
            yield from began_after(name.max_txid)
            if name.max_txid in (stretch.from_txid for stretch in manifest.timeline[1:]):
                continue  # It is told as the rewind that it is.
            base = env.store.base(key)
            told = name.max_txid
            # What was imported is a base from the start.
            kept: Kind = "snapshot" if manifest.exact_txid else "commit"
            yield Event(told, kept, base.time, base.page_count, base.snapshot_length, None, ())
    yield from began_after(-1)
