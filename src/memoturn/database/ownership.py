"""Owning a branch: taking it over, shipping what was committed, handing it over, and being fenced.

Whoever writes must own: hold the machine's lock for the branch, and be the owner that the manifest names, under its
epoch. Taking it over raises the epoch, and links in the same write whatever a dead predecessor had acknowledged and
not shipped. A writer that finds a higher epoch is fenced: its unshipped commits are set aside, and the next write
takes the branch over like anybody else's. The argument why this is safe: docs/fencing.md.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Final

from msgspec.structs import replace

from memoturn.base.errors import (
    BranchExpiredError,
    BranchNotFoundError,
    BusyError,
    ConflictError,
    CorruptError,
    FencedError,
    MemoturnError,
    NotFoundError,
    SegmentGoneError,
    UnavailableError,
    UndecidedWriteError,
)
from memoturn.base.txids import PAGE_SIZE, TXID, PageNo, UnixMs
from memoturn.bucket import NO_VERSION
from memoturn.database import recovery
from memoturn.database.environment import Environment
from memoturn.database.publish import new_mark
from memoturn.database.standing import Standing
from memoturn.database.tail import Commit, Tail
from memoturn.database.writer import Writer
from memoturn.manifest import keys, rules
from memoturn.manifest.model import Manifest
from memoturn.manifest.register import Held
from memoturn.manifest.segment_name import SegmentName
from memoturn.segments.pack_build import build_pack

_KEEP_BYTES: Final = 8 << 20
_COURTESY: Final = 0.02
"""Seconds for which a branch that was handed over is left to whoever asked for it."""
_PIECE: Final = 4
"""Pages that are compressed at a time: some two hundred microseconds."""

Wish = Callable[[Manifest], Manifest]
HeadWish = Callable[[Manifest, UnixMs], Manifest]
"""A wish that moves the head; it is told when the last commit was made."""


class Ownership(Standing):
    """A branch that this process may own. Locks are taken in this order: `_writing`, `_shipping`, `_state`."""

    def __init__(self, env: Environment, db_uuid: str, branch_id: str, held: Held[Manifest]) -> None:
        super().__init__(env, db_uuid, branch_id, held)
        self._writing = threading.RLock()
        self._writer: Writer | None = None
        self._epoch = 0
        self._must_raise_epoch = False
        self._locked = False
        self._wanted = False
        self._asked_back_at = 0.0
        self._fenced: FencedError | None = None
        self._fences = 0
        self._tried = False
        """Whether the next pack may have been put before: the try that did it was not known to have linked it."""

    # Shipping.

    @property
    def backlog(self) -> int:
        """Bytes of commits that this process has to ship."""
        return self._tail.bytes if self._owned else 0

    def prepare(self) -> Iterator[None]:
        """Make LTX files of what is to be shipped, some pages at a time. Raises as `Commit.packed` does."""
        pages = 0
        for commit in list(self._tail.commits):
            if not commit.is_packed:
                _ = commit.packed
                pages += len(commit.pages)
                if pages >= _PIECE:
                    pages = 0
                    yield

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
        epoch, began = self._epoch, self._env.clock.monotonic()
        again, self._tried = self._tried, True
        name, segment = self._put_pack(commits, epoch, again)
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
        self._tried = False
        self._env.written.ships.add(self._env.clock.monotonic() - began)
        self._grow(held, name, segment)
        self._adopt(held, held.token)
        self._keep_pages(segment, commits)
        if self._env.log is not None:
            self._env.log.shipped(self._ref, held.record.head_txid)

    def _put_pack(self, commits: list[Commit], epoch: int, again: bool) -> tuple[SegmentName, str]:
        """Put commits into the bucket as a pack; returns its name and its key.

        `again` says that it may have been put before, by this process or another.
        """
        env = self._env
        shipped = self._shipped
        continues = not again and shipped is not None and shipped.txid == commits[0].txid - 1
        digest = shipped.digest() if shipped is not None and continues else None
        pack = build_pack([commit.packed for commit in commits], digest)
        mark = new_mark(env.ids) if again else ""
        name = SegmentName.pack(0, commits[0].txid, commits[-1].txid, epoch, mark)
        key = keys.segment_key(self.db_uuid, self.incarnation, str(name))
        env.bucket.put(key, pack.chunks)
        env.store.keep_index(key, pack.index)
        env.written.committed += pack.index.data_length + pack.index.footer_length
        return name, key

    def _grow(self, held: Held[Manifest], name: SegmentName, segment: str) -> None:
        """Put the new pack on top of the shipped view, where it is all that has come: nothing is opened again."""
        old, new, shipped = self._held.record, held.record, self._shipped
        if (
            shipped is not None
            and new.timeline == old.timeline
            and new.segments == (*old.segments, str(name))
            and shipped.txid == old.head_txid == name.min_txid - 1
        ):
            grown = shipped.grown(segment, self._env.store.pack(segment))
            with self._state:
                self._held, self._shipped = held, grown

    def _keep_pages(self, segment: str, commits: list[Commit]) -> None:
        """Shipped pages are likely to be read again: keep the newest of each where reads look for them."""
        shipped = self._shipped
        newest: dict[PageNo, bytes] = {}
        for commit in commits:
            newest.update(commit.pages)
        if shipped is not None and len(newest) * PAGE_SIZE <= _KEEP_BYTES:
            for page_no, page in newest.items():
                spot = shipped.spot(page_no)
                if spot is not None and spot.key == segment:
                    self._env.store.keep(spot.version, page)

    def _update(self, wish: Wish) -> Held[Manifest]:
        def checked(manifest: Manifest) -> Manifest:
            rules.check_incarnation(manifest, self.incarnation)
            return wish(manifest)

        asked_at = self._env.clock.monotonic()
        try:
            held = self._env.manifests.update(self.key, checked, self._held)
        except UndecidedWriteError:
            # Sent again over the same version it would be as undecidable: what is there must be read first.
            self._held = replace(self._held, version=NO_VERSION)
            raise
        self._heard_at = asked_at
        return held

    # Owning.

    def _own(self, then: HeadWish | None = None) -> bool:
        """Become the owner, if this is not so already; True if `then` was applied in the same write."""
        if self._owned and not self._must_raise_epoch:
            with self._shipping:
                if not self.is_current():
                    self._refresh()
                if self._owned:
                    return False
        if self._fenced is not None:
            raise self._take_fenced()
        try:
            self._lock()
            with self._shipping:
                self._take(then)
        finally:
            if not self._owned:
                self._unlock()
        return True

    def _take(self, then: HeadWish | None) -> None:
        self._discard_writer()
        asked_at = self._env.clock.monotonic()
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
            # Named after the epoch under which they were written: under the next one another taker, who wins the
            # race, could put other commits.
            segment, _ = self._put_pack(commits, old.epoch, again=True)
        now = self._env.clock.now_ms()

        def wish(manifest: Manifest) -> Manifest:
            rules.check_incarnation(manifest, self.incarnation)
            rules.check_epoch(manifest, old.epoch)
            taken = rules.take(manifest, self._env.owner, segment, now)
            return taken if then is None else then(taken, self._last_time(manifest, commits))

        held = self._env.manifests.update(self.key, wish, found)
        with self._state:
            self._owned = False
            self._tail = Tail()
            self._head = self._shipped = None
        self._adopt(held, held.token)
        self._heard_at = asked_at
        self._epoch = held.record.epoch
        self._owned = True
        self._must_raise_epoch = self._tried = False
        if self._env.log is not None:
            self._env.log.shipped(self._ref, held.record.head_txid)

    def _last_time(self, manifest: Manifest, commits: list[Commit]) -> UnixMs:
        """When the last commit was made: of those that follow the manifest's head, or else the head."""
        if commits:
            return commits[-1].header.timestamp_ms
        newest = manifest.timeline[-1]
        if newest.from_txid >= manifest.head_txid:
            return newest.at  # Nothing was committed since the branch was made, rewound or reset.
        shipped = self._shipped
        if shipped is None or shipped.txid != manifest.head_txid:
            try:
                shipped = self._open_view(manifest, manifest.head_txid)
            except (CorruptError, SegmentGoneError):
                return UnixMs(0)  # A head that is damaged can be rewound past.
        return shipped.time or UnixMs(0)

    def _noticed(self, manifest: Manifest) -> None:
        if self._owned and self._overtaken(manifest):
            self._fence(manifest)

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
        # Even if we do not know of a lock: a signal may have come right after it was taken.
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
        self._env.written.fences += 1
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

    def _discard_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
