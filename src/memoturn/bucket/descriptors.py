"""Open files of immutable objects: bounded in number, and never closed or renumbered under a reader."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Final

DEFAULT_LIMIT: Final = 128
"""Open files a store keeps; small against the usual limit of 1024 a process."""


class OpenFile:
    """A descriptor that closes when the last reader lets go of it.

    Closing it at eviction would be a race: the number may already mean another file when a reader that still
    holds it comes to use it. So nobody closes it; the cache and the readers hold references, and the last one
    out shuts the door. `pread` keeps no position, so threads and forked children may share it.
    """

    __slots__ = ("fd", "recently_used")

    def __init__(self, path: str) -> None:
        self.fd = -1
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.recently_used = False

    def __del__(self) -> None:
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self.fd)


class Descriptors:
    """At most `limit` open files by key, the ones used lately kept ("clock" eviction).

    A hit takes no lock: one dictionary look-up and one flag.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._files: dict[str, OpenFile] = {}
        self._lock = threading.Lock()

    def find(self, key: str) -> OpenFile | None:
        """The open file of an object, if it is kept."""
        file = self._files.get(key)
        if file is not None:
            file.recently_used = True
        return file

    def open(self, key: str, path: str) -> OpenFile:
        """Open the file and keep it. Raises `OSError`."""
        file = OpenFile(path)
        with self._lock:
            if len(self._files) >= self._limit:
                self._evict_one()
            self._files[key] = file
        return file

    def drop(self, key: str) -> None:
        """Forget the object's file; readers in the middle of it finish undisturbed."""
        if key in self._files:
            with self._lock:
                self._files.pop(key, None)

    def clear(self) -> None:
        """Forget all files."""
        with self._lock:
            self._files = {}

    def __len__(self) -> int:
        return len(self._files)

    def _evict_one(self) -> None:
        # The dictionary's order is the clock's hand: a file used since it last passed goes round once more.
        for _ in range(len(self._files)):
            key = next(iter(self._files))
            file = self._files.pop(key)
            if not file.recently_used:
                return
            file.recently_used = False
            self._files[key] = file
        self._files.pop(next(iter(self._files)))
