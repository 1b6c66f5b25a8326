"""Reading along in the commit log of another process, living or dead, from where the last look ended."""

from __future__ import annotations

from collections import defaultdict

from memoturn.base.errors import CorruptError
from memoturn.database.logfile import LogDirectory, LogFile
from memoturn.database.record import START, LogRecord, check_torn, read_file_header, read_records

_HEADER_BYTES = 64
_CHUNK = 1 << 20


class _Followed:
    """One file: its generation, how far it was read, and the records of each branch in it."""

    def __init__(self, file: LogFile) -> None:
        self.file = file
        self.generation: int | None = None
        self.restart(None)

    def restart(self, generation: int | None) -> None:
        self.generation = generation
        self.end = START
        self.complete = False
        self.records: defaultdict[str, list[LogRecord]] = defaultdict(list)


class LogFollower:
    """The records of one log by branch. Not shared between threads: its caller holds a lock."""

    def __init__(self, directory: LogDirectory) -> None:
        self._directory = directory
        self._files: dict[str, _Followed] = {}

    def look(self, synced: tuple[str, int] | None) -> None:
        """Read what is new. `synced` is the file that a living process writes and how far that is durable.

        Raises `CorruptError` if a dead process's file is damaged where it had been durable.
        """
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
            self._read(name, followed, synced)

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

    def _read(self, name: str, followed: _Followed, synced: tuple[str, int] | None) -> None:
        generation = read_file_header(followed.file.read(0, _HEADER_BYTES))
        if generation != followed.generation:
            followed.restart(generation)
        if generation is None or followed.complete:
            return
        start = followed.end
        active = synced is not None and synced[0] == name
        limit = synced[1] if synced is not None and active else None
        data = _read_between(followed.file, start, limit)
        records, end = read_records(data, 0, generation)
        if synced is None:
            try:
                check_torn(data, end, generation, start)
            except CorruptError as error:
                raise CorruptError(f"{name}: {error}") from None
        for record in records:
            followed.records[record.branch].append(record)
        followed.end = start + end
        followed.complete = not active


def _read_between(file: LogFile, start: int, limit: int | None) -> bytes:
    parts = []
    while limit is None or start < limit:
        part = file.read(start, _CHUNK if limit is None else min(_CHUNK, limit - start))
        if not part:
            break
        parts.append(part)
        start += len(part)
    return b"".join(parts)
