"""The commit log: one for all databases of a process, so that one sync serves every commit waiting at that moment.

Group commit by leader and followers
    The first commit to arrive writes and syncs for all that are queued by then; those that arrive meanwhile form
    the next group, and the first of them is woken to lead it. A lone writer hands nothing to another thread.
    Where a sync is slow, a leader first waits, half a sync at most, until as many have come as were there last
    time: without that, those whom the last group woke would always come a moment too late.
    Rejected: a thread of its own for syncing, which costs every lone commit two switches.

Cutting
    Records are needed until their branch has shipped them. A file whose records have all shipped is cut by
    raising the generation in its header, and used again: its blocks stay allocated, so that a sync writes no
    metadata. The header is synced before anything is written behind it; only then can old records in the file
    not be mistaken for new ones.

A failed sync
    What reached the disk is unknown, and a second sync would lie about it. Nothing of that group is
    acknowledged, the file is never written again, and each branch concerned is told by `LogFailedError` to
    raise its epoch, which makes the records of that group void.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from memoturn.base.clock import Clock
from memoturn.base.errors import ClosedError, UnavailableError
from memoturn.base.txids import TXID
from memoturn.database.logfile import LogDirectory, LogFile
from memoturn.database.record import START, file_header, pack_record

FIRST_FILE_BYTES: Final = 1 << 20
FILE_BYTES: Final = 16 << 20
_SLOW_SYNC: Final = 0.0005
"""Seconds of a sync from which on it pays to wait for more commits."""


class LogFailedError(UnavailableError):
    """The log could not make a commit durable; the commit does not count."""


class _File:
    """A file of the log, and the newest record of each branch in it that has not shipped."""

    __slots__ = ("end", "file", "generation", "name", "pending", "size")

    def __init__(self, name: str, file: LogFile, size: int) -> None:
        self.name = name
        self.file = file
        self.size = size
        self.generation = 0
        self.end = START
        self.pending: dict[bytes, TXID] = {}


class _Group:
    """Commits that one sync will serve; `successor` leads the next group, once that is settled."""

    __slots__ = ("commits", "error", "passed_on", "settled", "successor", "waiters")

    def __init__(self) -> None:
        self.commits: list[tuple[bytes, int, TXID, bytes]] = []
        self.waiters: list[_Waiter] = []
        self.error: BaseException | None = None
        self.settled = False
        self.successor: _Waiter | None = None
        self.passed_on = False


class _Waiter:
    """A commit that waits for its group, or to lead it."""

    __slots__ = ("_asleep", "_woken", "after", "leads")

    def __init__(self) -> None:
        self.after: _Waiter | None = None
        self.leads = False
        self._woken = False
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def wait(self) -> BaseException | None:
        """Wait to be woken, whatever signals come: a leader that left would leave everybody waiting.

        Returns what a signal has raised meanwhile.
        """
        interruption = None
        while True:
            try:
                while not self._woken:
                    self._asleep.acquire()
                if self.after is not None:
                    self.after.wake()
                return interruption
            except BaseException as error:
                interruption = error

    def wake(self) -> None:
        """End the wait; once more does no harm."""
        self._woken = True
        if self._asleep.locked():
            self._asleep.release()


class CommitLog:
    """Appends commits durably.

    `on_synced(file name, end)` tells how far a live reader may read the file that is being written, beginning
    anew each time that it is written from its start; `on_failed` tells it of a file that ends there for good.
    """

    def __init__(
        self,
        directory: LogDirectory,
        clock: Clock,
        on_synced: Callable[[str, int], None] = lambda _name, _end: None,
        on_failed: Callable[[str, int], None] = lambda _name, _end: None,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._on_synced = on_synced
        self._on_failed = on_failed
        self._closed = False
        self._lock = threading.Lock()
        self._io = threading.Lock()
        self._group = _Group()
        self._leading = False
        self._committers = 0
        self._gathering: threading.Lock | None = None
        self._sync_seconds = 0.0
        self._active: _File | None = None
        self._retired: list[_File] = []
        self._created = 0
        self.syncs = 0
        self.commits = 0

    def commit(self, branch: bytes, epoch: int, txid: TXID, ltx: bytes) -> None:
        """Return when the commit is durable. Raises `LogFailedError` if it is not.

        A signal's handler may raise anywhere in here; the lead is passed on all the same. Whether the commit is
        durable is then not known, as after any other error.
        """
        group = waiter = failure = None
        leads = False
        try:
            with self._lock:
                group = self._group
                group.commits.append((branch, epoch, txid, ltx))
                if self._leading:
                    waiter = _Waiter()
                    group.waiters.append(waiter)
                    if self._gathering is not None and len(group.commits) >= self._committers:
                        self._gathering.release()
                        self._gathering = None
                else:
                    self._leading = leads = True
            if waiter is not None:
                failure = waiter.wait()
                leads = waiter.leads
            if leads:
                self._gather(group)
                self._write(group)
        except BaseException as error:
            failure = error
            if leads or (waiter is not None and waiter.leads):
                leads = True
                assert group is not None
                group.error = error
        if leads and group is not None:
            while not group.passed_on:
                try:
                    self._pass_on(group)
                except BaseException as error:
                    failure = failure or error
        elif group is not None and failure is None and group.error is not None:
            raise LogFailedError(f"the commit log cannot be written: {group.error}") from group.error
        if isinstance(failure, OSError):
            raise LogFailedError(f"the commit log cannot be written: {failure}") from failure
        if failure is not None:
            raise failure

    def _gather(self, group: _Group) -> None:
        """Close the group; before that, where a sync is slow, wait a little for those who committed last time."""
        gathering = None
        with self._lock:
            if self._sync_seconds >= _SLOW_SYNC and len(group.commits) < self._committers:
                gathering = self._gathering = threading.Lock()
                gathering.acquire()
            else:
                self._group = _Group()
        if gathering is not None:
            gathering.acquire(timeout=self._sync_seconds / 2)
            with self._lock:
                self._gathering = None
                self._group = _Group()

    def _pass_on(self, group: _Group) -> None:
        """Wake the leader of the next group first, so that the disk is busy again, then the group's own.

        Each of these wakes the next: woken all at once they would only queue up for the interpreter.
        Done again from the start if a signal interrupts it; what decides contains no call, so nothing can.
        """
        with self._lock:
            if not group.settled:
                following = _Group() if self._group is group else self._group
                self._committers = len(group.commits) + len(following.commits)
                self._group = following
                if following.waiters:
                    successor = group.successor = following.waiters[0]
                    successor.leads = True
                    del following.waiters[0]
                else:
                    self._leading = False
                group.settled = True
        if group.successor is not None:
            group.successor.wake()
        for waiter, after in pairwise(group.waiters):
            waiter.after = after
        if group.waiters:
            group.waiters[0].wake()
        group.passed_on = True

    def _write(self, group: _Group) -> None:
        with self._io:
            if self._closed:
                raise ClosedError("the commit log was closed; nothing was committed")
            file = self._active
            generation, end = (file.generation, file.end) if file else (0, START)
            records = [pack_record(*commit, generation, end) for commit in group.commits]
            length = sum(map(len, records))
            if file is None or (file.end > START and file.end + length > file.size):
                file = self._rotate()
                records = [pack_record(*commit, file.generation, file.end) for commit in group.commits]
            try:
                file.file.write(records[0] if len(records) == 1 else b"".join(records), file.end)
                began = self._clock.monotonic()
                file.file.sync()
                self._sync_seconds = self._clock.monotonic() - began
            except BaseException:
                self._abandon(file)
                raise
            file.end += length
            file.size = max(file.size, file.end)
            for branch, _, txid, _ in group.commits:
                file.pending[branch] = txid
            self.syncs += 1
            self.commits += len(records)
            self._on_synced(file.name, file.end)

    def _rotate(self) -> _File:
        """Another file to write to: one that has been cut, or a new one."""
        old = self._active
        candidate = next((file for file in self._retired if not file.pending and file.generation >= 0), None)
        if candidate is None:
            self._created += 1
            name = f"{self._created:06d}.log"
            size = FIRST_FILE_BYTES if self._created == 1 else FILE_BYTES
            candidate = _File(name, self._directory.create(name, size), size)
            self._retired.append(candidate)
        self._cut(candidate)
        self._active = candidate
        self._retired = [file for file in (*self._retired, old) if file is not None and file is not candidate]
        return candidate

    def _cut(self, file: _File) -> None:
        """Void what is in the file. Its header is durable before anything is written behind it."""
        try:
            file.file.write(file_header(file.generation + 1), 0)
            file.file.sync()
        except BaseException:
            self._abandon(file)
            raise
        file.generation += 1
        file.end = START
        self._on_synced(file.name, file.end)

    def _abandon(self, file: _File) -> None:
        """Never write to a file again whose sync has failed; what is pending in it can still be read."""
        file.generation = -1
        if self._active is file:
            self._active = None
        if file not in self._retired:
            self._retired.append(file)
        self._on_failed(file.name, file.end)

    def shipped(self, branch: bytes, txid: TXID) -> None:
        """The branch's commits up to `txid` are in the bucket, or void: the log need not keep them."""
        with self._io:
            active = self._active
            for file in [*self._retired, *([active] if active else [])]:
                if file.pending.get(branch, txid + 1) <= txid:
                    del file.pending[branch]
            for file in [f for f in self._retired if not f.pending and f.generation < 0]:
                self._retired.remove(file)
                self._remove(file)
            if active is not None and not active.pending and active.end > active.size // 2:
                # It was abandoned if that fails; the next commit goes to another file.
                with contextlib.suppress(OSError):
                    self._cut(active)

    def is_empty(self) -> bool:
        """Whether everything in the log has shipped."""
        with self._io:
            files = [*self._retired, *([self._active] if self._active else [])]
            return not any(file.pending for file in files)

    def close(self) -> None:
        """Let go of the files; those that hold nothing unshipped are removed. No commit is taken after this."""
        with self._io:
            self._closed = True
            for file in [*self._retired, *([self._active] if self._active else [])]:
                if file.pending:
                    file.file.close()
                else:
                    self._remove(file)
            self._retired.clear()
            self._active = None

    def _remove(self, file: _File) -> None:
        """A file that nobody needs; one that the disk will not part with does no harm."""
        with contextlib.suppress(OSError):
            file.file.close()
        with contextlib.suppress(OSError):
            self._directory.remove(file.name)
