"""Group commit: one thread leads, and what it does serves everybody who was waiting by then.

Leader and followers
    The first to arrive leads: it closes its group, runs the transactions that were left to it, and makes all commits
    of the group durable by one write and one sync. Those who arrive meanwhile form the next group, and one of them
    is woken to lead it. A lone writer hands nothing to another thread.
    Rejected: a thread of its own for syncing, which costs every lone commit two switches.

Who runs a transaction
    SQLite calls into the VFS several times in a transaction, and each call takes the interpreter's lock: threads that
    run their transactions side by side spend most of their time handing that lock from core to core. So a follower
    leaves its transaction to the leader, who runs one after the other while the others sleep. What is left to a
    leader must be brief; the caller sees to that (`Writing`).
    The main thread runs its own transactions and no others: only there can a signal's handler raise, and it
    should hit whom it was meant for.

Waiting for more
    A leader first waits for as many as were there last time, as long as they keep coming: half a sync without
    anybody ends it. Those whom the last group woke would otherwise always come a moment too late.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from memoturn.base.errors import UnavailableError
from memoturn.base.txids import TXID

Entry = tuple[bytes, int, TXID, bytes]
"""A commit to be logged: its branch, epoch and txid, and what is kept of it."""

Work = Callable[[], Entry | None]
"""A transaction to be run by the leader; gives the commit, or None if there is nothing to log."""

_SHORTEST_PAUSE: Final = 0.00005
"""Seconds within which the next of many threads comes that have just been woken."""


def in_main_thread() -> bool:
    """Whether a signal's handler may raise here."""
    return threading.get_ident() == _main[0]


def _find_main() -> None:
    _main[0] = threading.main_thread().ident or 0


_main: Final = [0]
_find_main()
os.register_at_fork(after_in_child=_find_main)  # There it is the thread that has forked.


class LogFailedError(UnavailableError):
    """The log could not make a commit durable; the commit does not count."""


class _Group:
    """Commits that one sync will serve; `successor` leads the next group, once that is settled.

    A `plain` group takes no transactions to run, because the main thread leads it.
    """

    __slots__ = ("commits", "error", "passed_on", "plain", "settled", "successor", "waiters", "works")

    def __init__(self) -> None:
        self.commits: list[Entry] = []
        self.works: list[Work] = []
        self.waiters: list[_Waiter] = []
        self.error: BaseException | None = None
        self.plain = self.settled = self.passed_on = False
        self.successor: _Waiter | None = None


class _Waiter:
    """A commit that waits for its group, or to lead it."""

    __slots__ = ("_asleep", "_woken", "after", "is_main", "leads")

    def __init__(self, is_main: bool) -> None:
        self.is_main = is_main
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


class GroupCommit(ABC):
    """Forms the groups; what is made of one is up to `_write`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._group = _Group()
        self._leading = False
        self._committers = 0
        self._gathering: threading.Lock | None = None
        self._sync_seconds = 0.0

    @abstractmethod
    def _write(self, commits: list[Entry]) -> None:
        """Make the commits durable, or raise."""

    def commit(self, branch: bytes, epoch: int, txid: TXID, commit: bytes) -> None:
        """Return when the commit is durable. Raises `LogFailedError` if it is not.

        A signal's handler may raise anywhere in here; the lead is passed on all the same. Whether the commit is
        durable is then not known, as after any other error.
        """
        self._join((branch, epoch, txid, commit), None, in_main_thread())

    def combine(self, work: Work) -> bool:
        """Have a transaction run by whoever leads; True when that was done and what it gave is durable.

        False if the caller has to run it: nothing has happened then. Not for the main thread. Raises like `commit`.
        """
        return self._join(None, work, False)

    def _join(self, entry: Entry | None, work: Work | None, is_main: bool) -> bool:
        group = waiter = failure = None
        leads = False
        try:
            with self._lock:
                group = self._group
                if entry is not None:
                    group.commits.append(entry)
                elif group.plain or work is None:
                    return False
                else:
                    group.works.append(work)
                if self._leading:
                    waiter = _Waiter(is_main)
                    group.waiters.append(waiter)
                    if self._gathering is not None and len(group.waiters) + 1 >= self._committers:
                        self._gathering.release()
                        self._gathering = None
                else:
                    self._leading = leads = True
                    group.plain = is_main
                    if self._committers <= 1:
                        self._group = _Group()
            if waiter is not None:
                failure = waiter.wait()
                leads = waiter.leads
            if leads:
                if self._group is group:
                    self._gather(group)
                for run in group.works:
                    commit = run()
                    if commit is not None:
                        group.commits.append(commit)
                if group.commits:
                    self._write(group.commits)
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
        return True

    def _gather(self, group: _Group) -> None:
        """Close the group; before that wait for as many as were there last time, as long as they keep coming."""
        gathering = None
        with self._lock:
            if len(group.waiters) + 1 < self._committers:
                gathering = self._gathering = threading.Lock()
                gathering.acquire()
            else:
                self._group = _Group()
        if gathering is not None:
            there = -1
            while there < len(group.waiters):
                there = len(group.waiters)
                if gathering.acquire(timeout=max(self._sync_seconds / 2, _SHORTEST_PAUSE)):
                    break
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
                coming = following.waiters
                first = 0
                if following.works:
                    first = [waiter.is_main for waiter in coming].index(False)
                self._committers = len(group.waiters) + 1 + len(coming)
                self._group = following
                if coming:
                    successor = group.successor = coming[first]
                    successor.leads = True
                    following.plain = successor.is_main
                    del coming[first]
                else:
                    self._leading = False
                group.settled = True
        if group.successor is not None:
            group.successor.wake()
        if group.waiters:
            for waiter, after in pairwise(group.waiters):
                waiter.after = after
            group.waiters[0].wake()
        group.passed_on = True
