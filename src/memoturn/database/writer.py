"""The one connection that writes a branch, and what a failed transaction leaves of it: nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import apsw

from memoturn.base.txids import PageNo
from memoturn.pages.vfs import WriterFile, connect
from memoturn.pages.view import Source

_CACHE_KIB: Final = 2048

_SETTINGS: Final = (
    "PRAGMA page_size=4096",
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA journal_mode=MEMORY",
    "PRAGMA cache_spill=OFF",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA mmap_size=0",
    "PRAGMA synchronous=NORMAL",
    f"PRAGMA cache_size=-{_CACHE_KIB}",
)


class Writer:
    """A connection on the head of a branch, in SQLite's exclusive locking mode.

    `on_commit` and `on_visible` are those of `WriterFile`.
    """

    __slots__ = ("_file", "connection")

    def __init__(
        self,
        view: Source,
        on_commit: Callable[[dict[PageNo, bytes], int], None],
        on_visible: Callable[[], Source],
        prepare: Callable[[apsw.Connection], None],
    ) -> None:
        self._file = WriterFile(view, on_commit, on_visible)
        self.connection = connect(self._file)
        self.connection.execute(";".join(_SETTINGS)).fetchall()
        self.connection.set_commit_hook(self._file.arm)
        prepare(self.connection)

    @property
    def view(self) -> Source:
        """The view under the connection."""
        return self._file.view

    @property
    def failure(self) -> BaseException | None:
        """What kept a commit from becoming durable; the writer must then be discarded."""
        return self._file.failure

    def show(self, view: Source) -> None:
        """Read through another view of the same position, such as one whose commits have shipped."""
        self._file.show(view)

    def settle(self) -> None:
        """End whatever a block of work has left open, so that the next one begins clean."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        self._file.settle()

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        self.connection.close(True)
