"""When a position of a branch came to be. Times ascend with txids along a branch, whatever clocks do.

A commit's time is in its pack's footer or its base's index, a rewind's in the timeline.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import chain

from memoturn.base.txids import TXID, UnixMs
from memoturn.database.environment import Environment
from memoturn.manifest import keys
from memoturn.manifest.model import Manifest
from memoturn.manifest.restorable import Run
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import first_own, stretch_at
from memoturn.segments.pack import Transaction


def time_of(env: Environment, db_uuid: str, manifest: Manifest, txid: TXID) -> UnixMs:
    """When a position that can be restored came to be."""
    while True:
        found = _own_time(env, db_uuid, manifest, txid)
        if found is not None:
            return found
        if manifest.parent is None or txid >= first_own(manifest):
            return stretch_at(manifest, txid).at
        manifest = env.manifest_of(manifest.parent, manifest.parent.fork_txid)


def _own_time(env: Environment, db_uuid: str, manifest: Manifest, txid: TXID) -> UnixMs | None:
    """When a position came to be, if a rewind, a pack or a base of the branch itself tells."""
    stretch = stretch_at(manifest, txid)
    if stretch in manifest.timeline[1:] and stretch.from_txid == txid:
        return stretch.at
    base = None
    for name in map(SegmentName.parse, manifest.segments):
        if name.min_txid <= txid <= name.max_txid and not name.is_base:
            found = transaction_in(env, db_uuid, manifest, name, txid)
            if found is not None:
                return found.time
        elif name.is_base and name.max_txid == txid:
            base = name
    if base is not None:
        return env.store.base(keys.segment_key(db_uuid, manifest.incarnation, str(base))).time
    return None


def last_by(env: Environment, db_uuid: str, run: Run, ms: UnixMs) -> TXID:
    """The last position of a run at `ms`; its first one must have been there by then."""
    manifest = run.holder
    if run.first == run.last:
        return run.first
    began = [
        stretch for stretch in manifest.timeline[1:] if stretch.at <= ms and stretch.from_txid <= run.last
    ]
    ended = [stretch.from_txid for stretch in manifest.timeline[1:] if stretch.at > ms]
    first = max([run.first, *(stretch.from_txid for stretch in began)])
    last = min([run.last, *(TXID(txid - 1) for txid in ended)])
    packs = [name for name in _names(manifest, first, last) if not name.is_base]

    def first_time(pack: SegmentName) -> UnixMs:
        index = env.store.pack(keys.segment_key(db_uuid, manifest.incarnation, str(pack)))
        return next(t.time for t in index.transactions() if t.txid >= first)

    place = bisect_right(packs, ms, key=first_time)
    found = first
    if place:
        index = env.store.pack(keys.segment_key(db_uuid, manifest.incarnation, str(packs[place - 1])))
        # A pack may lie over the first position, a rewind, and have only what came before and after the run.
        found = max(
            (t.txid for t in index.transactions() if t.time <= ms and first <= t.txid <= last), default=first
        )
    # A base may be all that is left of a commit, or all there ever was of one that was imported.
    for base in _names(manifest, TXID(found + 1), last):
        if base.is_base and not any(pack.min_txid <= base.max_txid <= pack.max_txid for pack in packs):
            if env.store.base(keys.segment_key(db_uuid, manifest.incarnation, str(base))).time > ms:
                break
            found = base.max_txid
    return found


def transaction_in(
    env: Environment, db_uuid: str, manifest: Manifest, pack: SegmentName, txid: TXID
) -> Transaction | None:
    """The commit of this txid in a pack of the branch."""
    return env.store.pack(keys.segment_key(db_uuid, manifest.incarnation, str(pack))).transaction(txid)


def _names(manifest: Manifest, first: TXID, last: TXID) -> list[SegmentName]:
    """The packs that have commits of a range, and the bases that stand in it, ascending by their last txid."""
    names = [SegmentName.parse(text) for text in manifest.segments]
    packs = (s for s in names if not s.is_base and s.max_txid >= first and s.min_txid <= last)
    bases = (s for s in names if s.is_base and first <= s.max_txid <= last)
    return sorted(chain(packs, bases), key=lambda s: s.max_txid)
