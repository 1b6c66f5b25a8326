"""One open branch: reads at any position, writes at the head, and the branch's own changes of its manifest.

Three states follow each other on the way of a commit: *logged* (durable on this machine), *visible* (readers see it),
*shipped* (in the bucket, linked by the manifest). Reading is in `standing.py`, shipping and owning in `ownership.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final, TypeVar

import apsw

from memoturn.base.errors import (
    BranchNotFoundError,
    ConflictError,
    FencedError,
    InvalidRequestError,
    MemoturnError,
    NotFoundError,
    OverloadedError,
    SegmentGoneError,
    TxidNotRetainedError,
    UnavailableError,
)
from memoturn.base.txids import TXID, PageNo
from memoturn.database.commit import build_commit
from memoturn.database.environment import Environment
from memoturn.database.ownership import HeadWish, Ownership, Wish
from memoturn.database.tail import Commit, Tail, TailView
from memoturn.database.writer import Writer
from memoturn.manifest import rules
from memoturn.manifest.model import Manifest
from memoturn.manifest.register import OUTDATED, Held
from memoturn.pages.view import Source

T = TypeVar("T")
_YIELD: Final = 0.001


class Branch(Ownership):
    """A branch that is open in this process. Threads may share it."""

    def __init__(self, env: Environment, db_uuid: str, branch_id: str, held: Held[Manifest]) -> None:
        super().__init__(env, db_uuid, branch_id, held)
        self._pending: Commit | None = None

    # Writing.

    def write(self, work: Callable[[apsw.Connection], T]) -> tuple[T, TXID]:
        """Let `work` use the writing connection; returns its result and the txid of the head after it.

        What `work` leaves uncommitted is rolled back. Durable as the settings say. Raises what `work` raises,
        `BusyError` if a neighbour does not hand the branch over, `FencedError` if another node took it over,
        `OverloadedError` with too much unshipped, and `UnavailableError` if the commit is not durable.
        """
        try:
            return self._write(work)
        except SegmentGoneError:
            with contextlib.suppress(MemoturnError):
                self.renew()
            raise

    def _write(self, work: Callable[[apsw.Connection], T]) -> tuple[T, TXID]:
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

    def _ship(self, commits: list[Commit]) -> None:
        super()._ship(commits)
        self._env.on_shipped(self, sum(len(commit.packed.data) for commit in commits))

    def _take(self, then: HeadWish | None) -> None:
        super()._take(then)
        self._env.on_owned(self)

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
        # No commit precedes the rewind or the fork that its stretch began with, whatever the clock does.
        now = max(self._env.clock.now_ms(), self._held.record.timeline[-1].at)
        commit = build_commit(head, pages, page_count, now)
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

    # Branch operations: the manifest's rules, applied with everything shipped.

    def change(self, wish: Wish) -> Manifest:
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
            return held.record

    def settle_head(self) -> TXID:
        """Ship what is visible, whoever on this machine wrote it; returns the head."""
        with self._writing:
            head = self.head().txid
            if head > self._held.record.head_txid and not self._owned:
                self._own()
            self.ship()
            return self._held.record.head_txid

    def move_head(self, wish: HeadWish) -> Manifest:
        """Change the manifest so that the head moves, or so that the branch ends. Only an owner may.

        A neighbour hands the branch over first: what it acknowledged is shipped, and it acknowledges nothing more.
        """
        with self._writing:
            applied = self._own(wish)
            if not applied:
                self.ship()
                with self._shipping:
                    try:
                        held = self._update(
                            lambda m: wish(_still_ours(m, self._epoch), self._last_time(m, []))
                        )
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
            if self._held.record.deleted_at is not None:
                # Whoever waits to write next must find that there is nothing to own any more.
                self._give_up()
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


def _still_ours(manifest: Manifest, epoch: int) -> Manifest:
    rules.check_epoch(manifest, epoch)
    return manifest
