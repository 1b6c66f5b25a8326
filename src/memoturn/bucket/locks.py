"""One writer at a time for a key, among threads and processes, with a fixed number of lock files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import zlib
from collections.abc import Iterator
from typing import Final

from memoturn.base.clock import Clock
from memoturn.base.errors import UnavailableError
from memoturn.bucket.durable import reporting

STRIPES: Final = 64
"""Lock files a store has, whatever the number of its keys; two keys that share one wait for each other."""

_PATIENCE_S: Final = 30.0
_FIRST_PAUSE_S: Final = 0.0002
_LONGEST_PAUSE_S: Final = 0.005


class Locks:
    """Advisory locks in a directory that every process of the store uses.

    The file is opened anew each time: a lock belongs to an open file, and a kept one would be shared with a
    forked child, who would then hold it too; a child that is forked in between holds it until we unlock it.
    The kernel drops the lock of a process that dies. Threads of one process queue on an ordinary lock first, so
    that only other processes are polled for.
    """

    def __init__(self, directory: str, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._threads = tuple(threading.Lock() for _ in range(STRIPES))

    @contextlib.contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Exclude every other holder of the key. Raises `UnavailableError`, after 30 s of waiting for one."""
        stripe = zlib.crc32(key.encode()) % STRIPES
        path = os.path.join(self._directory, f"{stripe:02d}")
        deadline = self._clock.monotonic() + _PATIENCE_S
        if not self._threads[stripe].acquire(timeout=_PATIENCE_S):
            raise _waited_in_vain(path, "another thread")
        try:
            with reporting(path, "locked"):
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                with reporting(path, "locked"):
                    self._acquire(fd, path, deadline)
                yield
            finally:
                # Closing alone frees nothing while a child that was forked meanwhile has the file open.
                try:
                    fcntl.flock(fd, fcntl.LOCK_UN)
                finally:
                    os.close(fd)
        finally:
            self._threads[stripe].release()

    def _acquire(self, fd: int, path: str, deadline: float) -> None:
        # Blocking in the kernel would wait for ever behind a process that was stopped inside.
        pause = _FIRST_PAUSE_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if self._clock.monotonic() >= deadline:
                    raise _waited_in_vain(path, "another process") from None
            self._clock.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def _waited_in_vain(path: str, holder: str) -> UnavailableError:
    return UnavailableError(f"{holder} has held {path} for {_PATIENCE_S:g} s; nothing was written")
