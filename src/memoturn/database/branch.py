"""One open branch: reads at any position, writes at the head, and the branch's own changes of its manifest.

Three states follow each other on the way of a commit: *logged* (durable on this machine), *visible* (readers
see it), *shipped* (in the bucket, linked by the manifest). `head()` is the last visible commit; the manifest's
head is the last shipped one; what lies between is the tail.

Locks, always taken in this order
    `_writing`   one thread at a time writes, ships on behalf of a branch operation, or changes ownership
    `_shipping`  one thread at a time puts packs and changes the manifest
Reads take neither: they follow references to immutable views.

Owning a branch
    Whoever writes must own: hold the machine's lock for the branch, and be the owner that the manifest names,
    under its epoch. Taking it over raises the epoch, and links in the same write whatever a dead predecessor
    had acknowledged and not shipped. A writer that finds a higher epoch is fenced: its unshipped commits are
    set aside, and the next write takes the branch over like anybody else's.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Final, TypeVar

import apsw

from memoturn.base.cache import GenerationalCache
from memoturn.base.errors import (
    BranchExpiredError,
    BranchNotFoundError,
    BusyError,
    ConflictError,
    FencedError,
    InvalidRequestError,
    MemoturnError,
    NotFoundError,
    OverloadedError,
    TxidNotRetainedError,
    UnavailableError,
    UndecidedWriteError,
)
from memoturn.base.txids import TXID, PageNo
from memoturn.bucket import NO_VERSION, ObjectNotFound
from memoturn.database import recovery
from memoturn.database.commit import build_commit
from memoturn.database.environment import Environment
from memoturn.database.readers import ReaderPool
from memoturn.database.tail import Commit, Tail, TailView
from memoturn.database.writer import Writer
from memoturn.manifest import keys, rules
from memoturn.manifest.model import Manifest
from memoturn.manifest.register import OUTDATED, Held
from memoturn.manifest.segment_name import SegmentName
from memoturn.manifest.timeline import check_position
from memoturn.pages.view import Source, View, open_view
from memoturn.segments.pack_build import build_pack

T = TypeVar("T")
_KEEP_BYTES: Final = 8 << 20
_YIELD: Final = 0.001
_COURTESY: Final = 0.02
"""Seconds for which a branch that was handed over is left to whoever asked for it."""

_Wish = Callable[[Manifest], Manifest]


class Branch:
    """A branch that is open in this process. Threads may share it."""

    def __init__(self, env: Environment, db_uuid: str, branch_id: str, held: Held[Manifest]) -> None:
        self.db_uuid = db_uuid
        self.branch_id = branch_id
        self.incarnation = held.record.incarnation
        self.key = keys.manifest_key(db_uuid, branch_id)
        self._env = env
        self._watch = env.watch
        self._ref = f"{db_uuid}/{branch_id}/{self.incarnation}".encode()
        self._writing = threading.RLock()
        self._shipping = threading.RLock()
        self._state = threading.Lock()
        self._held = held
        self._shipped: View | None = None
        self._tail = Tail()
        self._head: Source | None = None
        self._seen = held.token
        self._ttl_at = held.record.ttl_at
        self._past: GenerationalCache[TXID, View] = GenerationalCache(32)
        self.readers = ReaderPool(env.prepare)
        self._owned = False
        self._epoch = 0
        self._locked = False
        self._must_raise_epoch = False
        self._fenced: FencedError | None = None
        self._writer: Writer | None = None
        self._pending: Commit | None = None
        self._losses = 0
        self._fences = 0
        self._asked_back_at = 0.0
        self._wanted = False

    # Reading.

    def head(self) -> Source:
        """The view of the last visible commit, of this process or of a neighbour.

        Raises `BranchNotFoundError` or `BranchExpiredError` if the branch is no more.
        """
        view = self._head
        if view is None or not self._is_current():
            view = self._refresh()
        if self._ttl_at is not None:
            rules.check_living(self._held.record, self._env.clock.now_ms())
        return view

    def manifest(self) -> Manifest:
        """The newest manifest that this process knows, which its neighbours may have changed last."""
        if not self._is_current():
            self._refresh()
        return self._held.record

    def look_again(self) -> Manifest:
        """The manifest as the bucket has it now. A writer that was overtaken without knowing is fenced by this."""
        with self._shipping:
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

    def unshipped(self) -> list[Commit]:
        """The commits that are visible here and not in the bucket, oldest first."""
        self.head()
        return list(self._tail.commits)

    def _is_current(self) -> bool:
        if self._owned and not self._watch.tells_owner:
            return True
        return self._seen == self._watch.token(self.key)

    def _refresh(self) -> Source:
        """Look again at the manifest, and at the log of a neighbour that owns the branch."""
        with self._shipping:
            while True:
                token = self._watch.token(self.key)
                held = self._read_manifest()
                foreign = None if self._owned else self._read_along(held.record)
                if token == self._watch.token(self.key) or self._owned:
                    return self._adopt(held, token, foreign)
                # A neighbour that commits all the time rings all the time. What was read fits together unless it
                # has shipped in between: then the log may have been cut, and the manifest does not say so yet.
                if self._read_manifest().version == held.version:
                    return self._adopt(held, token, foreign)

    def _read_manifest(self) -> Held[Manifest]:
        try:
            held = self._env.manifests.current(self.key)
        except ObjectNotFound:
            raise BranchNotFoundError(f"branch {self.branch_id!r} is gone") from None
        if self._owned and self._overtaken(held.record):
            self._fence(held.record)
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
        if (
            shipped is None
            or shipped.txid != manifest.head_txid
            or self._held.record.segments != manifest.segments
        ):
            shipped = self._open_view(manifest, manifest.head_txid)
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

    # Writing.

    def write(self, work: Callable[[apsw.Connection], T]) -> tuple[T, TXID]:
        """Let `work` use the writing connection; returns its result and the txid of the head after it.

        What `work` leaves uncommitted is rolled back. Durable as the settings say. Raises what `work` raises,
        `BusyError` if a neighbour does not hand the branch over, `FencedError` if another node took it over,
        `OverloadedError` with too much unshipped, and `UnavailableError` if the commit is not durable.
        """
        if self._wanted:
            # Locks are not fair: a writer that never pauses would not let the branch be handed over.
            self._env.clock.sleep(_YIELD)
        with self._writing:
            writer = self._ready()
            try:
                result = work(writer.connection)
            except BaseException as error:
                failure = writer.failure
                if failure is None and isinstance(error, InvalidRequestError):
                    raise
                # Something below SQLite has failed, or a signal came: what it thinks of the file may be wrong.
                self._discard_writer()
                if isinstance(failure, MemoturnError):
                    raise failure from error
                raise
            finally:
                self._settle()
            if self._owned and not self._is_current():
                # Somebody has changed the branch meanwhile, and may have taken it over or deleted it.
                self._refresh()
            fences = self._fences
            if not self._owned:
                raise self._fenced or FencedError(
                    f"branch {self.branch_id!r} was taken over during the write"
                )
            txid = TXID(0) if self._head is None else self._head.txid
        if self._env.settings.durability == "durable":
            self.ship(txid, fences)
        return result, txid

    def _settle(self) -> None:
        """Leave the connection clean for the next write, or leave none."""
        if self._pending is not None:
            self._discard_writer()
            self._void_pending()
        if self._writer is not None:
            try:
                self._writer.settle()
            except BaseException:
                self._discard_writer()
                raise
        if self._owned and self._must_raise_epoch:
            # At once, because neighbours who read along would take what is void for a commit.
            try:
                self._own()
            except FencedError as error:
                self._fenced = error
            except MemoturnError:
                pass  # The next write tries again.

    def _void_pending(self) -> None:
        """A signal came between logging a commit and making it visible: unless it is visible, it never will be."""
        with self._shipping, self._state:
            pending, self._pending = self._pending, None
            if pending is not None and (self._head is None or self._head.txid != pending.txid):
                self._must_raise_epoch = True
                self._tail = Tail(commit for commit in self._tail.commits if commit is not pending)

    def _ready(self) -> Writer:
        """Own the branch, keep the backlog bounded, and have a connection on the head."""
        if not self._owned or self._must_raise_epoch or not self._is_current():
            self._own()
        if self._ttl_at is not None:
            rules.check_living(self._held.record, self._env.clock.now_ms())
        if self._tail.bytes * 2 > self._env.settings.backlog_bytes:
            self._hold_back()
        head = self._head if self._head is not None else self._refresh()
        writer = self._writer
        if writer is not None and writer.view.txid != head.txid:
            # What SQLite has cached is of another position.
            self._discard_writer()
            writer = None
        if writer is None:
            writer = self._writer = Writer(head, self._log_commit, self._publish, self._env.prepare)
        elif writer.view is not head:
            writer.show(head)
        return writer

    def _hold_back(self) -> None:
        settings = self._env.settings
        self._env.on_unshipped(self)
        if self._tail.bytes < settings.backlog_bytes:
            self._env.clock.sleep(0.001)
            return
        try:
            self.ship()
        except UnavailableError as error:
            raise OverloadedError(
                f"branch {self.branch_id!r} has {self._tail.bytes} bytes that the store has not taken: {error}"
            ) from error

    def _log_commit(self, pages: dict[PageNo, bytes], page_count: int) -> None:
        """Make the transaction durable; called by SQLite at the last moment at which it can still fail."""
        head = self._head
        if head is None or not self._owned:
            raise self._fenced or FencedError(f"branch {self.branch_id!r} is no longer ours to write")
        commit = build_commit(head, pages, page_count, self._env.clock.now_ms())
        self._pending = commit
        if commit is not None and self._env.log is not None:
            try:
                self._env.log.commit(self._ref, self._epoch, commit.txid, commit.packed.data)
            except BaseException:
                self._must_raise_epoch = True
                self._pending = None
                raise

    def _publish(self) -> Source:
        """Make the logged transaction visible; nothing may fail here."""
        commit = self._pending
        with self._state:
            if commit is not None and self._owned and self._shipped is not None:
                self._tail.append(commit)
                self._head = TailView(self._shipped, self._tail, commit)
            head = self._head
            if self._seen == self._watch.token(self.key):
                self._seen = self._watch.ring(self.key)
            else:
                self._watch.ring(self.key)
        self._pending = None
        self._env.on_unshipped(self)
        if head is None:
            raise self._fenced or FencedError(f"branch {self.branch_id!r} is no longer ours to write")
        return head

    def _discard_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    # Shipping.

    @property
    def backlog(self) -> int:
        """Bytes of commits that this process has to ship."""
        return self._tail.bytes if self._owned else 0

    def ship(self, through: TXID | None = None, fences: int | None = None) -> None:
        """Return when the commits visible now, or those up to `through`, are in the bucket and linked.

        `fences` is how often this writer had been fenced when `through` was committed: a txid alone does not tell
        whose commit it is. Raises `UnavailableError` if the store cannot take them now, `FencedError` if it is
        too late.
        """
        with self._shipping:
            if fences is not None and fences != self._fences:
                raise self._fenced or FencedError(
                    f"branch {self.branch_id!r} was taken over before txid {through} was known to have shipped"
                )
            if through is None:
                if not self._owned or not self._tail.commits:
                    return
                through = self._tail.commits[-1].txid
            while self._held.record.head_txid < through:
                if not self._owned:
                    raise self._fenced or FencedError(
                        f"txid {through} of branch {self.branch_id!r} was not shipped before it was taken over"
                    )
                try:
                    self._ship(list(self._tail.commits))
                except FencedError:
                    raise
                except ConflictError as error:
                    found = self._env.manifests.read(self.key)
                    if self._overtaken(found.record):
                        self._fence(found.record)
                        raise self._fenced or error from error
                    # An earlier try, given up as undecided, has landed after all: go on behind it.
                    self._adopt(found, self._seen)

    def _ship(self, commits: list[Commit]) -> None:
        epoch = self._epoch
        name = SegmentName.pack(0, commits[0].txid, commits[-1].txid, epoch)
        self._put_pack(name, commits)
        try:
            held = self._update(lambda manifest: rules.append(manifest, epoch, name))
        except (FencedError, BranchNotFoundError) as error:
            found = self._env.manifests.read(self.key)
            if isinstance(error, BranchNotFoundError) or self._overtaken(found.record):
                self._fence(found.record)
                raise self._fenced or error from error
            # We hold the next epoch already, by a try that was given up as undecided; it has linked them.
            self._adopt(found, found.token)
            return
        self._adopt(held, held.token)
        self._keep_pages(keys.segment_key(self.db_uuid, self.incarnation, str(name)), commits)
        if self._env.log is not None:
            self._env.log.shipped(self._ref, held.record.head_txid)

    def _put_pack(self, name: SegmentName, commits: list[Commit]) -> None:
        pack = build_pack([commit.packed for commit in commits])
        key = keys.segment_key(self.db_uuid, self.incarnation, str(name))
        self._env.bucket.put(key, pack.chunks)
        self._env.store.keep_index(key, pack.index)

    def _keep_pages(self, segment: str, commits: list[Commit]) -> None:
        """Shipped pages are likely to be read again: keep the newest of each where reads look for them."""
        shipped = self._shipped
        newest: dict[PageNo, bytes] = {}
        for commit in commits:
            newest.update(commit.pages)
        if shipped is not None and len(newest) * 4096 <= _KEEP_BYTES:
            for page_no, page in newest.items():
                spot = shipped.spot(page_no)
                if spot is not None and spot.key == segment:
                    self._env.store.keep(spot, page)

    def _update(self, wish: _Wish) -> Held[Manifest]:
        def checked(manifest: Manifest) -> Manifest:
            rules.check_incarnation(manifest, self.incarnation)
            return wish(manifest)

        try:
            return self._env.manifests.update(self.key, checked, self._held)
        except UndecidedWriteError:
            # Sent again over the same version it would be as undecidable: what is there must be read first.
            self._held = self._held._replace(version=NO_VERSION)
            raise

    # Owning.

    def _own(self, then: _Wish | None = None) -> bool:
        """Become the owner, if this is not so already; True if `then` was applied in the same write."""
        if self._owned and not self._must_raise_epoch:
            with self._shipping:
                if not self._is_current():
                    self._refresh()
                if self._owned:
                    return False
        if self._fenced is not None:
            raise self._take_fenced()
        self._lock()
        try:
            with self._shipping:
                self._take(then)
        finally:
            if not self._owned:
                self._unlock()
        return True

    def _take(self, then: _Wish | None) -> None:
        self._discard_writer()
        found = self._env.manifests.read(self.key)
        old = found.record
        if self._owned and self._overtaken(old):
            self._fence(old)
            raise self._take_fenced()
        rules.check_incarnation(old, self.incarnation)
        rules.check_living(old, self._env.clock.now_ms())
        if self._owned:
            # An earlier try to take it, given up as undecided, may have linked them.
            self._epoch = old.epoch
            commits = self._tail.after(old.head_txid).commits
        else:
            if old.epoch != self._held.record.epoch:
                self._lose_tail()
            commits = self._read_along(old)
        segment = None
        if commits:
            # Named after the epoch under which they were written: only one writer can ever make that object.
            # Under the next epoch another taker, who wins the race, could put other commits in its place.
            segment = SegmentName.pack(0, commits[0].txid, commits[-1].txid, old.epoch)
            self._put_pack(segment, commits)
        now = self._env.clock.now_ms()

        def wish(manifest: Manifest) -> Manifest:
            rules.check_incarnation(manifest, self.incarnation)
            rules.check_epoch(manifest, old.epoch)
            taken = rules.take(manifest, self._env.owner, segment, now)
            return taken if then is None else then(taken)

        held = self._env.manifests.update(self.key, wish, found)
        with self._state:
            self._owned = False
            self._tail = Tail()
            self._head = self._shipped = None
        self._adopt(held, held.token)
        self._epoch = held.record.epoch
        self._owned = True
        self._must_raise_epoch = False
        self._env.on_owned(self)
        if self._env.log is not None:
            self._env.log.shipped(self._ref, held.record.head_txid)

    def _overtaken(self, manifest: Manifest) -> bool:
        """Whether the branch was replaced, or somebody else holds a later epoch.

        The next epoch may be ours, by a try given up as undecided.
        """
        if manifest.incarnation != self.incarnation:
            return True
        if manifest.epoch == self._epoch + 1 and manifest.owner == self._env.owner and self._must_raise_epoch:
            return False
        return manifest.epoch != self._epoch

    def _lock(self) -> None:
        """Take the machine's lock for the branch, asking whoever holds it."""
        if self._locked:
            return
        clock, neighbours = self._env.clock, self._env.neighbours
        give_up = clock.monotonic() + self._env.settings.busy_timeout
        if clock.monotonic() < self._asked_back_at:
            clock.sleep(_COURTESY)
        wait = 0.001
        while not neighbours.try_lock(self.incarnation):
            holder = neighbours.ask(self.incarnation)
            if clock.monotonic() > give_up:
                raise BusyError(
                    f"branch {self.branch_id!r} is being written by {holder or 'another process'}, which did not "
                    f"hand it over within {self._env.settings.busy_timeout:g} s; try again, or stop that process"
                )
            clock.sleep(wait)
            wait = min(wait * 2, 0.05)
        self._locked = True

    def _unlock(self) -> None:
        if self._locked:
            self._locked = False
            self._env.neighbours.unlock(self.incarnation)

    def hand_over(self) -> None:
        """Let a neighbour write the branch: ship, and give up owning it. Keeps it if the store is away."""
        self._wanted = True
        with self._writing:
            self._wanted = False
            if not self._locked:
                return
            try:
                self._finish()
            except UnavailableError:
                return
            self._give_up()
            self._asked_back_at = self._env.clock.monotonic() + _COURTESY

    def _finish(self) -> None:
        """Leave nothing in the log that the next owner could take for a commit of ours, or miss."""
        # Fenced or deleted: there is nothing to hand over but the lock.
        with contextlib.suppress(ConflictError, NotFoundError, BranchExpiredError):
            self.ship()
            if self._owned and self._must_raise_epoch:
                self._own()

    def _give_up(self) -> None:
        self._discard_writer()
        self._owned = False
        self._unlock()

    def _fence(self, manifest: Manifest) -> None:
        """Another writer has overtaken this one: acknowledge nothing more, and keep what was not shipped."""
        commits = self._tail.commits
        self._lose_tail()
        with self._state:
            self._fences += 1
            self._owned = False
            self._head = self._shipped = None
        owner = manifest.owner.node_id if manifest.owner else "nobody"
        what = (
            f"was deleted and created again as {manifest.incarnation}"
            if manifest.incarnation != self.incarnation
            else "was deleted"
            if manifest.deleted_at is not None
            else f"was taken over by {owner} under epoch {manifest.epoch}"
        )
        message = f"branch {self.branch_id!r} {what}; nothing more was acknowledged here"
        self._fenced = FencedError(message)
        if commits:
            try:
                path = recovery.set_aside(self._env.set_aside, self._ref.decode(), self._epoch, commits)
            except OSError as error:
                # The log keeps them, and whoever finds it after this process has ended tries again.
                where = f"could not be set aside: {error}"
            else:
                where = (
                    "are gone, as nothing is kept outside memory"
                    if path is None
                    else f"are set aside in {path}"
                )
                if self._env.log is not None:
                    self._env.log.shipped(self._ref, commits[-1].txid)
            self._fenced = FencedError(f"{message}; {len(commits)} commits that had not shipped {where}")

    def _explained(self, error: MemoturnError) -> MemoturnError:
        """What a change was refused with; the fence, if that is why. Else it would stay overtaken for good."""
        found = self._env.manifests.read(self.key).record
        if not self._owned or not self._overtaken(found):
            return error
        self._fence(found)
        return self._take_fenced()

    def _take_fenced(self) -> FencedError:
        """What the fence has to say, which is said once."""
        error, self._fenced = self._fenced, None
        return error or FencedError(f"branch {self.branch_id!r} was taken over")

    # Branch operations: the manifest's rules, applied with everything shipped.

    def change(self, wish: _Wish) -> Manifest:
        """Change the manifest without moving the head. A commit of this machine that is visible is shipped first."""
        with self._writing:
            self.settle_head()
            with self._shipping:
                try:
                    held = self._update(wish)
                except BranchNotFoundError as error:
                    raise self._explained(error) from error
                if self._owned and self._overtaken(held.record):
                    # The change is made, but what is written from now on would be under an epoch that has passed.
                    self._fence(held.record)
                if self._owned:
                    self._adopt(held, held.token)
                else:
                    # A neighbour may have committed since we looked: look again before the next read.
                    self._adopt(held, OUTDATED, [])
            if held.record.deleted_at is not None:
                # Whoever waits to write next must find that there is nothing to own any more.
                self._give_up()
            return held.record

    def settle_head(self) -> TXID:
        """Ship what is visible, whoever on this machine wrote it; returns the head."""
        with self._writing:
            head = self.head().txid
            if head > self._held.record.head_txid and not self._owned:
                self._own()
            self.ship()
            return self._held.record.head_txid

    def move_head(self, wish: _Wish) -> Manifest:
        """Change the manifest so that the head moves: a rewind or a reset. Only an owner may."""
        with self._writing:
            applied = self._own(wish)
            if not applied:
                self.ship()
                with self._shipping:
                    try:
                        held = self._update(lambda m: wish(_still_ours(m, self._epoch)))
                    except (FencedError, BranchNotFoundError) as error:
                        raise self._explained(error) from error
                    except (ConflictError, NotFoundError, TxidNotRetainedError):
                        raise
                    except BaseException:
                        # The head may have moved, or may yet: only under the next epoch can we know.
                        self._must_raise_epoch = True
                        raise
                    self._held, self._seen, self._ttl_at = held, held.token, held.record.ttl_at
            self._discard_writer()
            with self._state:
                self._head = self._shipped = None
            return self._held.record

    def rest(self) -> None:
        """Ship if the store takes it, and let go of everything; the next call begins anew.

        What cannot be shipped stays in the log, and stays ours.
        """
        with self._writing:
            self._finish()
            self._give_up()
            self.forget()

    def retire(self) -> None:
        """Let go of a branch that was deleted or replaced; what cannot be shipped goes with it."""
        with self._writing:
            with contextlib.suppress(MemoturnError):
                self._finish()
            self._give_up()
            self.forget()

    def forget(self) -> None:
        """Drop connections and views; what was not shipped is left to the log."""
        self._discard_writer()
        self.readers.close()
        self._past.clear()
        with self._state:
            self._head = self._shipped = None
            self._seen = OUTDATED

    def is_current(self) -> bool:
        """Whether nothing has changed since this process last looked."""
        return self._is_current()


def _still_ours(manifest: Manifest, epoch: int) -> Manifest:
    rules.check_epoch(manifest, epoch)
    return manifest
