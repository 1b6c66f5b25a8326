"""What a thread has committed for a request and is yet to be made durable: collected first, then shipped together.

Whoever asks for durability afterwards has to name the very commit: a branch may have been taken over meanwhile, and a
txid alone does not tell whose it is. So each commit leaves what ships it, and raises if it was lost.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final

from memoturn.base.errors import UnavailableError


class Unshipped:
    """Collects as a context manager, for the thread that entered it."""

    __slots__ = ("_ships",)

    def __init__(self) -> None:
        self._ships: list[Callable[[], None]] = []

    def add(self, ship: Callable[[], None]) -> None:
        """Another commit; `ship` returns when it is durable, and raises if it is not."""
        self._ships.append(ship)

    def ship(self) -> None:
        """Make all of it durable. May be called again if it raised. Raises `UnavailableError` and `FencedError`."""
        with telling():
            while self._ships:
                self._ships[0]()
                del self._ships[0]

    def __enter__(self) -> Unshipped:
        _of_thread.unshipped = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _of_thread.unshipped = None


class _OfThread(threading.local):
    unshipped: Unshipped | None = None


_of_thread: Final = _OfThread()


def current() -> Unshipped | None:
    """Where this thread is to leave what it commits, if somebody collects it."""
    return _of_thread.unshipped


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """An error of what makes something durable says that it was done."""
    try:
        yield
    except UnavailableError as error:
        error.args = (f"the work was done, and is not in the object store yet: {error}",)
        raise
