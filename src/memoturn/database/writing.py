"""Writing the head of a branch: a transaction is run, made durable, and then made visible.

SQLite hands a transaction over at the last moment at which it can still be rolled back. It is logged when SQLite is
done with it, so that several transactions can share a sync, whoever runs them (`group.py`). Until it is visible, the
connection that wrote it is the only one to see it, and is discarded if it cannot be made durable.

What another thread may run
    Only what is brief, because others wait for it. One that turns out not to be is given up, rolled back, and run
    again by the thread that it belongs to: if it takes too long, changes many pages, or needs a page that has to
    be fetched. Its branch then runs its transactions itself for a while, as it does with the first one of a new
    connection.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import apsw

from memoturn.base import unshipped
from memoturn.base.errors import (
    FencedError,
    InvalidRequestError,
    MemoturnError,
    OverloadedError,
    SegmentGoneError,
    UnavailableError,
)
from memoturn.base.txids import TXID, PageNo
from memoturn.database.commit import build_commit
from memoturn.database.environment import Environment
from memoturn.database.group import Entry, in_main_thread
from memoturn.database.logged import encode_logged
from memoturn.database.ownership import Ownership
from memoturn.database.tail import Commit, Tail, TailView
from memoturn.database.writer import Haste, Writer
from memoturn.manifest import rules
from memoturn.manifest.model import Manifest
from memoturn.manifest.register import Held
from memoturn.pages.view import Source

T = TypeVar("T")
_YIELD: Final = 0.001
_PROBATION: Final = 16
"""How many transactions a branch runs itself after one that was not brief."""


class Writing(Ownership):
    """A branch whose head this process may move."""

    def __init__(self, env: Environment, db_uuid: str, branch_id: str, held: Held[Manifest]) -> None:
        super().__init__(env, db_uuid, branch_id, held)
        self._pending: Commit | None = None
        self._haste: Haste | None = None
        self._probation = 1

    def write(self, work: Callable[[apsw.Connection], T], *, anywhere: bool = False) -> tuple[T, TXID]:
        """Let `work` use the writing connection; returns its result and the txid of the head after it.

        What `work` leaves uncommitted is rolled back. Durable as the settings say, or left to whoever collects what
        this thread commits (`Unshipped`). With `anywhere`, `work` has no effect but on the connection and what it
        returns: it may be run by another thread, and twice if it was rolled back.

        Raises what `work` raises, `BusyError` if a neighbour does not hand the branch over, `FencedError` if another
        node took it over, `OverloadedError` with too much unshipped, and `UnavailableError` if the commit is not
        durable.
        """
        began = self._monotonic()
        try:
            done = self._write(work, anywhere)
        except SegmentGoneError:
            with contextlib.suppress(MemoturnError):
                self.renew()
            raise
        self._env.written.commits.add(self._monotonic() - began)
        return done

    def _write(self, work: Callable[[apsw.Connection], T], anywhere: bool) -> tuple[T, TXID]:
        if self._wanted:
            # Locks are not fair: a writer that never pauses would not let the branch be handed over.
            self._env.clock.sleep(_YIELD)
        with self._writing:
            writer = self._ready()
            try:
                if anywhere and not self._probation and self._env.log is not None and not in_main_thread():
                    results = self._run_by_leader(writer, work)
                    result = results[0] if results else self._run(self._ready(), work)
                else:
                    result = self._run(writer, work)
            except BaseException as error:
                writer_now = self._writer
                failure = None if writer_now is None else writer_now.file.failure
                if failure is None and isinstance(error, InvalidRequestError):
                    raise
                # Something below SQLite has failed, or a signal came: what it thinks of the file may be wrong.
                self._discard_writer()
                if isinstance(failure, MemoturnError):
                    raise failure from error
                raise
            finally:
                self._settle()
            if self._owned and not self.is_current():
                # Somebody has changed the branch meanwhile, and may have taken it over or deleted it.
                self._refresh()
            fences = self._fences
            if not self._owned:
                raise self._fenced or FencedError(
                    f"branch {self.branch_id!r} was taken over during the write"
                )
            txid = TXID(0) if self._head is None else self._head.txid
        later = unshipped.current()
        if later is not None:
            later.add(partial(self.ship, txid, fences))
        elif self._env.settings.durability == "durable":
            with unshipped.telling():
                self.ship(txid, fences)
        return result, txid

    def _run(self, writer: Writer, work: Callable[[apsw.Connection], T]) -> T:
        """Run a transaction here, and log what SQLite has committed, even if `work` fails after that."""
        try:
            return work(writer.connection)
        finally:
            if self._probation:
                self._probation -= 1
            if writer.file.has_committed:
                self._complete()

    def _run_by_leader(self, writer: Writer, work: Callable[[apsw.Connection], T]) -> list[T]:
        """Let the transaction be run by whoever leads the log; its result in a list, which is empty if it was not."""
        results: list[T] = []
        haste = Haste(self._env.clock.monotonic, memory_only=not self._env.bucket.is_local)

        def attempt() -> Entry | None:
            self._haste = haste
            try:
                writer.hurry(haste)
                result = work(writer.connection)
            except Exception:
                # Whoever it belongs to runs it again, and finds out what is wrong.
                return None
            finally:
                self._haste = None
                writer.hurry(None)
                if haste.was_long():
                    self._probation = _PROBATION
            entry = self._entry()
            results.append(result)
            return entry

        log = self._env.log
        assert log is not None
        try:
            durable = log.combine(attempt)
        except BaseException:
            self._must_raise_epoch = True
            self._pending = None
            raise
        if durable and results:
            if writer.file.has_committed:
                self._publish()
            return results
        if self._pending is not None or writer.file.has_committed or writer.file.failure is not None:
            # It was never logged: only its connection knows of it.
            self._pending = None
            self._discard_writer()
        else:
            writer.settle()
        return []

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
        """A signal came before a commit was visible, and perhaps logged: unless it is visible, it never will be."""
        with self._shipping, self._state:
            pending, self._pending = self._pending, None
            if pending is not None and (self._head is None or self._head.txid != pending.txid):
                self._must_raise_epoch = True
                self._tail = Tail(commit for commit in self._tail.commits if commit is not pending)

    def _ready(self) -> Writer:
        """Own the branch, keep the backlog bounded, and have a connection on the head."""
        if not self._owned or self._must_raise_epoch or not self.is_current():
            self._own()
        if self._ttl_at is not None:
            rules.check_living(self._held.record, self._env.clock.now_ms())
        if self._tail.bytes * 2 > self._env.settings.backlog_bytes:
            self._hold_back()
        head = self._head if self._head is not None else self._refresh()
        writer = self._writer
        if writer is not None and writer.file.view.txid != head.txid:
            # What SQLite has cached is of another position.
            self._discard_writer()
            writer = None
        if writer is None:
            writer = self._writer = Writer(head, self._accept, self._next, self._env.prepare)
            self._probation = max(self._probation, 1)
        elif writer.file.view is not head:
            writer.file.show(head)
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

    def _accept(self, pages: dict[PageNo, bytes], page_count: int) -> None:
        """Take a transaction from SQLite; called at the last moment at which it can still fail."""
        head = self._head
        if head is None or not self._owned:
            raise self._fenced or FencedError(f"branch {self.branch_id!r} is no longer ours to write")
        if self._haste is not None:
            self._haste.check_pages(len(pages))
        # No commit precedes the rewind or the fork that its stretch began with, whatever the clock does.
        now, began = self._env.clock.now_ms(), self._held.record.timeline[-1].at
        self._pending = build_commit(head, pages, page_count, now if now > began else began)

    def _next(self) -> Source:
        """Another transaction follows in the same block of work: it stands on the one before."""
        if self._haste is not None:
            self._haste.give_up("a second transaction")
        return self._complete()

    def _complete(self) -> Source:
        """Make the accepted transaction durable and visible."""
        log = self._env.log
        entry = None if log is None else self._entry()
        if log is not None and entry is not None:
            try:
                log.commit(*entry)
            except BaseException:
                self._must_raise_epoch = True
                self._pending = None
                raise
        return self._publish()

    def _entry(self) -> Entry | None:
        """What the log takes of the accepted transaction; None if nothing has changed."""
        commit = self._pending
        if commit is None:
            return None
        logged = encode_logged(commit.header, commit.pages, commit.post_checksum)
        return self._ref, self._epoch, commit.txid, logged

    def _publish(self) -> Source:
        """Make the logged transaction visible."""
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
        if self._writer is not None:
            self._writer.file.show(head)
        return head
