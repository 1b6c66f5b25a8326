"""Where a position's content comes from: the pure half of fork, rewind and time travel.

A position is a txid of a branch. It lies on one stretch of the branch's timeline; its content is what that
stretch starts from plus the commits of the stretch up to the txid.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter

from memoturn.base.errors import TxidNotRetainedError
from memoturn.base.txids import EMPTY, TXID
from memoturn.manifest.model import Manifest, Stretch
from memoturn.manifest.segment_name import SegmentName

_from_txid = attrgetter("from_txid")


def stretch_at(manifest: Manifest, txid: TXID) -> Stretch:
    """The stretch that `txid` lies on.

    Below the branch's first stretch lies the history that it inherited: the parent's, under the parent's txids.
    """
    timeline = manifest.timeline
    index = bisect_right(timeline, txid, key=_from_txid)
    if index:
        return timeline[index - 1]
    if manifest.parent is None:
        return Stretch(EMPTY, "empty", EMPTY, manifest.created_at)
    return Stretch(txid, "parent", txid, manifest.created_at)


def first_own(manifest: Manifest) -> TXID:
    """The first position that is the branch's own; those below are inherited from its parent."""
    return EMPTY if manifest.parent is None else manifest.timeline[0].from_txid


def check_position(manifest: Manifest, txid: TXID) -> None:
    """Raise `TxidNotRetainedError` unless `txid` can be named, as far as this manifest tells.

    A position that the branch inherited, one below its first stretch, is the parent's to answer for: `restorable.py`
    asks both.
    """
    if txid > manifest.head_txid:
        raise TxidNotRetainedError(
            f"txid {txid} is ahead of branch {manifest.branch_id!r}, whose head is {manifest.head_txid}",
            nearest=(manifest.head_txid,),
        )
    if txid >= manifest.exact_txid or txid in manifest.checkpoints.values():
        return
    if manifest.floor_txid <= txid < first_own(manifest):
        return
    points = restorable_below_exact(manifest)
    if txid in points:
        return
    place = bisect_right(points, txid)
    nearest = (*points[max(place - 1, 0) : place], *points[place : place + 1])
    if place == len(points):
        nearest = (*nearest, manifest.exact_txid)
    raise TxidNotRetainedError(
        f"txid {txid} of branch {manifest.branch_id!r} is no longer retained; "
        f"the nearest that are: {', '.join(map(str, nearest))}",
        nearest=nearest,
    )


def restorable_below_exact(manifest: Manifest) -> list[TXID]:
    """The positions below the exact window that can be restored, ascending: snapshots and checkpoints."""
    exact, floor = manifest.exact_txid, manifest.floor_txid
    points = {txid for txid in manifest.checkpoints.values() if txid < exact}
    for name in map(SegmentName.parse, manifest.segments):
        if name.is_base and floor <= name.max_txid < exact:
            points.add(name.max_txid)
    return sorted(points)
