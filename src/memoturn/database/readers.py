"""Read-only connections, each on a view, kept open between reads.

A connection stays in a read transaction on its view, so that a read costs no look at the file. When a newer view
is wanted it ends the transaction, is shown that view and begins another; SQLite sees the changed counter in
page 1 and drops the pages that it had kept. It keeps its schema as long as the schema's number is the same, and
that number is only comparable along one linear history: a connection is never moved to another stretch.

Nor is it moved between an empty view and one with pages. SQLite does not read the counter of a file without pages,
but keeps a page 1 of zeroes for it; shown again the view that it had seen before the empty one, it would find the
counter that it remembers and believe in the zeroes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import apsw

from memoturn.base.errors import InvalidRequestError
from memoturn.pages.vfs import ReaderFile, connect
from memoturn.pages.view import Source

_KEPT: Final = 4
_CACHE_KIB: Final = 2048
_LESS_HOPE: Final = 64
"""How many reads of a branch do not look for what is at hand after one for which it was not."""
_COMPARE_SCHEMAS: Final = "SELECT 1 FROM sqlite_schema WHERE 0"


class Reader:
    """One connection on one view."""

    __slots__ = ("_file", "connection", "view")

    def __init__(self, view: Source, prepare: Callable[[apsw.Connection], None]) -> None:
        self.view = view
        self._file = ReaderFile(view)
        self.connection = connect(self._file)
        self.connection.execute(
            f"PRAGMA cache_size=-{_CACHE_KIB}; PRAGMA temp_store=MEMORY; PRAGMA query_only=ON; BEGIN"
        ).fetchall()
        prepare(self.connection)

    def show(self, view: Source) -> None:
        """Move to another view of the same stretch."""
        execute = self.connection.execute
        execute("COMMIT")
        self._file.show(view)
        self.view = view
        execute("BEGIN")
        # SQLite compares schemas when a statement runs. One that it cannot even prepare under the schema that it
        # remembers would be refused, though the new one may well allow it.
        execute(_COMPARE_SCHEMAS)

    def stay_in_memory(self, pages: int | None) -> None:
        """Read no more than so many pages, and none that has to be fetched: it fails instead. None ends that."""
        self._file.stay_in_memory(pages)

    def close(self) -> None:
        """Close the connection, whatever is still open on it."""
        self.connection.close(True)


def _continues(before: Source, after: Source) -> bool:
    """Whether a connection may be moved from one view to the other."""
    return before.stretch == after.stretch and bool(before.page_count) == bool(after.page_count)


class ReaderPool:
    """The readers of one branch. At most four are kept while nobody uses them."""

    def __init__(self, prepare: Callable[[apsw.Connection], None]) -> None:
        self._prepare = prepare
        self._idle: list[Reader] = []
        self._in_vain = 0
        self._lock = threading.Lock()

    def take(self, view: Source) -> Reader:
        """A reader on the view, for the caller alone until it gives it back."""
        idle = self._idle
        while True:
            # A pop is one step, so the common case takes no lock: whoever pops a reader has it for himself.
            try:
                reader = idle.pop()
            except IndexError:
                return Reader(view, self._prepare)
            if reader.view is view:
                return reader
            with self._lock:
                idle.append(reader)
                found = next((r for r in idle if r.view is view), None)
                found = found or next((r for r in idle if _continues(r.view, view)), None)
                if found is None:
                    return Reader(view, self._prepare)
                try:
                    idle.remove(found)
                except ValueError:
                    continue  # Somebody has popped it while we were choosing.
            if found.view is not view:
                found.show(view)
            return found

    def take_at_hand(self, view: Source) -> Reader | None:
        """A reader that is on the view already; None if the next one is not, or if that was in vain a moment ago."""
        if self._in_vain:
            self._in_vain -= 1
            return None
        try:
            reader = self._idle.pop()
        except IndexError:
            return None
        if reader.view is view:
            return reader
        self._idle.append(reader)
        return None

    def was_in_vain(self, reader: Reader) -> None:
        """What was read from it was not at hand."""
        self._in_vain = _LESS_HOPE
        reader.close()

    def give_back(self, reader: Reader) -> None:
        """Keep the reader for the next one who needs it."""
        self._idle.append(reader)
        self._shrink(_KEPT)

    def _shrink(self, kept: int) -> None:
        """Close those that were given back first, one by one: others pop meanwhile."""
        idle = self._idle
        while len(idle) > kept:
            try:
                reader = idle.pop(0)
            except IndexError:
                return
            reader.close()

    @contextmanager
    def on(self, view: Source) -> Iterator[apsw.Connection]:
        """A connection on the view. It is discarded if the block raises more than a complaint about a request."""
        reader = self.take(view)
        try:
            yield reader.connection
        except InvalidRequestError:
            self.give_back(reader)
            raise
        except BaseException:
            reader.close()
            raise
        self.give_back(reader)

    @contextmanager
    def alone(self, view: Source) -> Iterator[apsw.Connection]:
        """A new connection on the view, closed at the end."""
        reader = Reader(view, self._prepare)
        try:
            yield reader.connection
        finally:
            reader.close()

    def close(self) -> None:
        """Close what is idle."""
        self._shrink(0)
