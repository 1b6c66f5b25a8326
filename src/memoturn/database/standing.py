"""What a process knows of a branch: the newest manifest, and the view of its head.

`head()` is the last visible commit; the manifest's head is the last one that is in the bucket; what lies between is
the tail, in the log of this process or of a neighbour. Reads take no lock: they follow references to immutable views.
"""

from __future__ import annotations

import contextlib
import math
import threading
from typing import Final

from memoturn.base.cache import GenerationalCache
from memoturn.base.errors import BranchNotFoundError, SegmentGoneError
from memoturn.base.txids import TXID
from memoturn.bucket import ObjectNotFound
from memoturn.database import recovery
from memoturn.database.environment import Environment
from memoturn.database.readers import ReaderPool
from memoturn.database.tail import Commit, Tail, TailView
from memoturn.manifest import keys, rules
from memoturn.manifest.model import Manifest
from memoturn.manifest.register import Held
from memoturn.manifest.timeline import check_position
from memoturn.pages.view import Source, View, open_view

_LOOKS_PER_GRACE: Final = 4


class Standing:
    """Where a branch stands, as far as this process knows; it looks again when something may have changed.

    `_shipping` is held by whoever changes where the branch stands, `_state` for the moment in which it changes.
    """

    def __init__(self, env: Environment, db_uuid: str, branch_id: str, held: Held[Manifest]) -> None:
        self.db_uuid = db_uuid
        self.branch_id = branch_id
        self.incarnation = held.record.incarnation
        self.key = keys.manifest_key(db_uuid, branch_id)
        self.readers = ReaderPool(env.prepare)
        self.asked_for = 0
        """A number that is higher the later it was asked for."""
        self._env = env
        self._watch = env.watch
        self._monotonic = env.clock.monotonic
        self._ref = f"{db_uuid}/{branch_id}/{self.incarnation}".encode()
        self._shipping = threading.RLock()
        self._state = threading.Lock()
        self._owned = False
        self._held = held
        self._shipped: View | None = None
        self._tail = Tail()
        self._head: Source | None = None
        self._seen = held.token
        self._ttl_at = held.record.ttl_at
        self._past: GenerationalCache[TXID, View] = GenerationalCache(32)
        self._losses = 0
        # Segments that a view reads, its ancestors' too, may be replaced by others, and some time later be deleted.
        # Not every watch tells of that, and none tells of an ancestor's.
        self._look_by = math.inf
        self._heard_at = env.clock.monotonic()

    def head(self) -> Source:
        """The view of the last visible commit, of this process or of a neighbour.

        Raises `BranchNotFoundError` or `BranchExpiredError` if the branch is no more.
        """
        view = self._head
        if view is None or not self.is_current():
            view = self._refresh()
        if self._ttl_at is not None:
            rules.check_living(self._held.record, self._env.clock.now_ms())
        return view

    def current_head(self) -> Source | None:
        """`head()`, or None if this process has to look again first."""
        if not self.is_current():
            return None
        if self._ttl_at is not None:
            rules.check_living(self._held.record, self._env.clock.now_ms())
        return self._head

    def manifest(self) -> Manifest:
        """The newest manifest that this process knows, which its neighbours may have changed last."""
        if not self.is_current():
            self._refresh()
        return self._held.record

    def newest(self) -> Manifest:
        """`manifest()`, after another look if this process has read or written a newer one, as maintenance does.

        An owner who was overtaken learns of it here: what the newer one names must not be shown as ours.
        """
        mine = self.manifest()
        there = self._env.manifests.current(self.key).record
        return self.look_again() if there.incarnation == self.incarnation and there.seq > mine.seq else mine

    def newest_with_tail(self) -> tuple[Manifest, list[Commit]]:
        """`newest()`, and the commits beyond its head that are visible here, oldest first."""
        self.newest()
        self.head()
        with self._state:
            return self._held.record, list(self._tail.commits)

    def look_again(self) -> Manifest:
        """The manifest as the bucket has it now. A writer that was overtaken without knowing is fenced by this."""
        with self._shipping:
            if not self._asks_anyway:
                self._env.manifests.read(self.key)
            self._refresh()
            return self._held.record

    def view_at(self, txid: TXID) -> Source:
        """The view of any retained position. Raises `TxidNotRetainedError`."""
        head = self.head()
        if txid == head.txid:
            return head
        with self._state:
            manifest, tail, shipped = self._held.record, self._tail, self._shipped
        if txid > manifest.head_txid and shipped is not None:
            for commit in tail.commits:
                if commit.txid == txid:
                    return TailView(shipped, tail, commit)
        check_position(manifest, txid)
        view = self._past.get(txid)
        if view is None:
            view = self._open_view(manifest, txid)
            self._past.put(txid, view)
        return view

    def renew(self) -> None:
        """Open views anew: a segment of one of them was removed, because it was looked at for too long.

        Raises `CorruptError` if one is missing that the head needs, `SegmentGoneError` if it took too long to tell.
        """
        with self._shipping:
            looked_at = self._env.clock.monotonic()
            self._past.clear()
            self._look_by = -math.inf
            above = self._held.record.parent
            while above is not None:
                with contextlib.suppress(ObjectNotFound):
                    self._env.manifests.read(keys.manifest_key(above.db_uuid, above.branch_id))
                above = self._env.manifest_of(above, above.fork_txid).parent
            try:
                self.look_again()
            except SegmentGoneError as error:
                raise error.after_looking(self._env.clock.monotonic() - looked_at, self._env.grace) from error

    def unshipped(self) -> list[Commit]:
        """The commits that are visible here and not in the bucket, oldest first."""
        self.head()
        return list(self._tail.commits)

    def is_current(self) -> bool:
        """Whether nothing has changed since this process last looked."""
        now = self._monotonic()
        if self._look_by <= now:
            return False
        if self._owned and not self._watch.tells_owner:
            return now - self._heard_at <= self._watch.owner_age
        return self._seen == self._watch.token(self.key)

    def _refresh(self) -> Source:
        """Look again at the manifest, and at the log of a neighbour that owns the branch."""
        with self._shipping:
            while True:
                token = self._watch.token(self.key)
                asked_at = self._env.clock.monotonic()
                held = self._read_manifest()
                self._heard_at = asked_at
                foreign = None if self._owned else self._read_along(held.record)
                if token == self._watch.token(self.key) or self._owned:
                    return self._adopt(held, token, foreign)
                # A neighbour that commits all the time rings all the time. What was read fits together unless it
                # has shipped in between: then the log may have been cut, and the manifest does not say so yet.
                if self._read_manifest().version == held.version:
                    return self._adopt(held, token, foreign)

    @property
    def _asks_anyway(self) -> bool:
        """Whether refreshing asks the bucket: an owner who is not told does, as what he has in memory is too old."""
        return self._owned and not self._watch.tells_owner

    def _read_manifest(self) -> Held[Manifest]:
        manifests = self._env.manifests
        try:
            held = (manifests.read if self._asks_anyway else manifests.current)(self.key)
        except ObjectNotFound:
            raise BranchNotFoundError(f"branch {self.branch_id!r} is gone") from None
        self._noticed(held.record)
        rules.check_incarnation(held.record, self.incarnation)
        rules.check_living(held.record, self._env.clock.now_ms())
        return held

    def _read_along(self, manifest: Manifest) -> list[Commit]:
        """What the log of the branch's owner holds beyond the manifest's head, as far as it is durable."""
        owner = manifest.owner
        if owner is None or owner == self._env.owner:
            return []
        records = self._env.neighbours.records_of(owner.node_id, self._ref.decode())
        known = {c.txid: c for c in self._tail.commits} if manifest.epoch == self._held.record.epoch else {}
        return recovery.surviving(records, manifest.epoch, manifest.head_txid, known)

    def _adopt(self, held: Held[Manifest], token: int, foreign: list[Commit] | None = None) -> Source:
        """Make `held` what this branch stands on, with the tail above it: a neighbour's, or our own."""
        manifest = held.record
        if foreign is not None and manifest.epoch != self._held.record.epoch:
            self._lose_tail()
        shipped = self._shipped
        old_segments = self._held.record.segments
        overdue = self._look_by <= self._env.clock.monotonic()
        if overdue or manifest.segments[: len(old_segments)] != old_segments:
            self._past.clear()
        if (
            shipped is None
            or shipped.txid != manifest.head_txid
            or old_segments != manifest.segments
            or overdue
        ):
            reopened = self._open_view(manifest, manifest.head_txid)
            if shipped is not None:
                reopened.remember(shipped)
            shipped = reopened
            self._look_by = self._env.clock.monotonic() + self._env.grace / _LOOKS_PER_GRACE
        with self._state:
            if foreign is None:
                tail = self._tail if not self._tail.commits else self._tail.after(manifest.head_txid)
            else:
                tail = Tail(foreign)
            self._held, self._shipped, self._tail, self._seen = held, shipped, tail, token
            self._ttl_at = manifest.ttl_at
            self._head = TailView(shipped, tail, tail.commits[-1]) if tail.commits else shipped
            return self._head

    def _open_view(self, manifest: Manifest, txid: TXID) -> View:
        env = self._env
        return open_view(env.store, self.db_uuid, manifest, txid, env.manifest_of, self._losses)

    def _lose_tail(self) -> None:
        """Readers may have seen commits that never made it to the bucket, whose txids stand for others from now on.

        A connection tells by the txid whether its pages are current, so none may go on from there.
        """
        with self._state:
            if self._tail.commits:
                self._tail = Tail()
                self._head = self._shipped = None
                self._losses += 1

    def _noticed(self, manifest: Manifest) -> None:
        """Called with every manifest that was read; an owner finds out here that it was overtaken."""
