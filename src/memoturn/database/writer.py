"""The one connection that writes a branch, and what a failed transaction leaves of it: nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import apsw

from memoturn.base.txids import PageNo
from memoturn.pages.vfs import WriterFile, connect
from memoturn.pages.view import Source

_CACHE_KIB: Final = 2048

_BRIEF: Final = 0.001
_LONG: Final = 0.05
_STEPS: Final = 1000
_FEW_PAGES: Final = 64

_SETTINGS: Final = (
    "PRAGMA page_size=4096",
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA journal_mode=MEMORY",
    "PRAGMA cache_spill=OFF",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA mmap_size=0",
    "PRAGMA synchronous=OFF",
    f"PRAGMA cache_size=-{_CACHE_KIB}",
)


class GivenUpError(Exception):
    """A transaction that another thread ran was not brief enough."""


class Haste:
    """Bounds a transaction that another thread runs; `now` is a clock. SQLite asks it every so many steps.

    With `memory_only` it may not read a page that has to be fetched.
    """

    __slots__ = ("_began", "_gave_up", "_now", "memory_only")

    def __init__(self, now: Callable[[], float], memory_only: bool) -> None:
        self.memory_only = memory_only
        self._now = now
        self._began = now()
        self._gave_up = False

    def begin(self) -> None:
        """The time runs from now on."""
        self._began = self._now()

    def is_over(self) -> bool:
        """Whether SQLite should interrupt the transaction."""
        self._gave_up = self._gave_up or self._now() > self._began + _BRIEF
        return self._gave_up

    def was_long(self) -> bool:
        """Whether it was given up, or done in steps too large to interrupt it; asked when it has just ended.

        A thread may wait long for the interpreter, so that what is only slow is no reason.
        """
        return self._gave_up or self._now() > self._began + _LONG

    def check_pages(self, count: int) -> None:
        """Give up a transaction that has written many pages."""
        if count > _FEW_PAGES:
            self.give_up(f"{count} pages")

    def give_up(self, why: str) -> None:
        """Raises `GivenUpError`."""
        self._gave_up = True
        raise GivenUpError(why)


class Writer:
    """A connection on the head of a branch, in SQLite's exclusive locking mode.

    `on_commit` and `on_next` are those of `WriterFile`.
    """

    __slots__ = ("connection", "file")

    def __init__(
        self,
        view: Source,
        on_commit: Callable[[dict[PageNo, bytes], int], None],
        on_next: Callable[[], Source],
        prepare: Callable[[apsw.Connection], None],
    ) -> None:
        self.file = WriterFile(view, on_commit, on_next)
        self.connection = connect(self.file)
        self.connection.execute(";".join(_SETTINGS)).fetchall()
        self.connection.set_commit_hook(self.file.arm)
        prepare(self.connection)

    def hurry(self, haste: Haste | None) -> None:
        """Bound what the connection does from now on; None ends that."""
        if haste is not None:
            haste.begin()
            self.connection.set_progress_handler(haste.is_over, _STEPS, id=Haste)
            self.file.stay_in_memory(math.inf if haste.memory_only else None)
        else:
            self.file.stay_in_memory(None)
            self.connection.set_progress_handler(None, id=Haste)

    def settle(self) -> None:
        """End whatever a block of work has left open, so that the next one begins clean."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        self.file.settle()

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        self.connection.close(True)
