"""Reading along in the commit log of another process, living or dead, from where the last look ended.

A living process goes on writing while it is being read. What was read counts only if the files have kept their
parts meanwhile, which `Synced.cuts` tells: then all but the active one were complete, and the active one was durable
as far as it was read. Else the look begins anew.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator

from memoturn.base.errors import CorruptError
from memoturn.database.logfile import LogDirectory, LogFile
from memoturn.database.published import Synced
from memoturn.database.record import (
    FILE_HEADER_SIZE,
    START,
    LogRecord,
    check_torn,
    check_unused,
    read_file_header,
    read_records,
)

_CHUNK = 1 << 20
_DEAD = -1
"""In the place of `cuts`: the process that wrote the file does so no more."""


class _Followed:
    """One file: its generation, how far it was read, and the records of each branch in it."""

    def __init__(self, file: LogFile) -> None:
        self.file = file
        self.restart(None)

    def restart(self, generation: int | None) -> None:
        self.generation = generation
        self.end = START
        self.complete_at: int | None = None
        self.records: defaultdict[str, list[LogRecord]] = defaultdict(list)


class LogFollower:
    """The records of one log by branch. Not shared between threads: its caller holds a lock.

    `synced()` tells whether the process lives, and what it has published last. Of a dead one only the ends of
    failed files are taken from that: its files say themselves where they end.
    """

    def __init__(self, directory: LogDirectory, synced: Callable[[], tuple[bool, Synced]]) -> None:
        self._directory = directory
        self._synced = synced
        self._files: dict[str, _Followed] = {}

    def look(self) -> None:
        """Read what is new.

        Raises `CorruptError` if a dead process's file is damaged where it had been durable.
        """
        alive, synced = self._synced()
        while True:
            self._look(alive, synced)
            still_alive, now = self._synced()
            if (still_alive, now.cuts, now.failed) == (alive, synced.cuts, synced.failed):
                return
            # A file changed its part while it was read: nothing of this look can be trusted.
            self._restart()
            alive, synced = still_alive, now

    def _look(self, alive: bool, synced: Synced) -> None:
        names = self._directory.names()
        for name in self._files.keys() - set(names):
            self._files.pop(name).file.close()
        for name in names:
            followed = self._files.get(name)
            if followed is None:
                try:
                    followed = self._files[name] = _Followed(self._directory.open(name))
                except FileNotFoundError:
                    continue
            self._read(name, followed, alive, synced)

    def records_of(self, branch: str) -> list[LogRecord]:
        """What has been read of a branch, in no particular order."""
        return [record for followed in self._files.values() for record in followed.records.get(branch, ())]

    def branches(self) -> set[str]:
        """The branches that have records in the log."""
        return {branch for followed in self._files.values() for branch in followed.records}

    def close(self) -> None:
        """Let go of the files."""
        for followed in self._files.values():
            followed.file.close()
        self._files.clear()

    def _restart(self) -> None:
        for followed in self._files.values():
            followed.restart(None)

    def _read(self, name: str, followed: _Followed, alive: bool, synced: Synced) -> None:
        generation = read_file_header(followed.file.read(0, FILE_HEADER_SIZE))
        if generation != followed.generation:
            followed.restart(generation)
        phase = synced.cuts if alive else _DEAD
        if followed.complete_at == phase:
            return
        if generation is None:
            if not alive:
                with _named(name):
                    check_unused(_read_between(followed.file, 0, None))
                followed.complete_at = phase
            return
        start = followed.end
        active = alive and synced.active == name
        limit = synced.end if active else synced.failed.get(name)
        data = _read_between(followed.file, start, limit)
        records, end = read_records(data, 0, generation)
        if not alive:
            with _named(name):
                check_torn(data, end, generation, start)
        for record in records:
            followed.records[record.branch].append(record)
        followed.end = start + end
        followed.complete_at = None if active else phase


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Say in which file the damage is."""
    try:
        yield
    except CorruptError as error:
        raise CorruptError(f"{name}: {error}") from None


def _read_between(file: LogFile, start: int, limit: int | None) -> bytes:
    parts = []
    while limit is None or start < limit:
        part = file.read(start, _CHUNK if limit is None else min(_CHUNK, limit - start))
        if not part:
            break
        parts.append(part)
        start += len(part)
    return b"".join(parts)
