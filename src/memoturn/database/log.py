"""The commit log: one for all databases of a process, so that one sync serves every commit waiting at that moment.

How commits become groups is in `group.py`; here is what becomes of a group.

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
from typing import Final

from memoturn.base.clock import Clock
from memoturn.base.errors import ClosedError
from memoturn.base.spread import SIZES, Spread
from memoturn.base.txids import TXID
from memoturn.database.group import Entry, GroupCommit
from memoturn.database.logfile import LogDirectory, LogFile
from memoturn.database.record import START, file_header, pack_records

FIRST_FILE_BYTES: Final = 1 << 20
FILE_BYTES: Final = 16 << 20


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


class CommitLog(GroupCommit):
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
        super().__init__()
        self._directory = directory
        self._now = clock.monotonic
        self._on_synced = on_synced
        self._on_failed = on_failed
        self._closed = False
        self._io = threading.Lock()
        self._active: _File | None = None
        self._retired: list[_File] = []
        self._created = 0
        self.syncs = 0
        self.commits = 0
        self.took = Spread()
        """Seconds to sync a group."""
        self.groups = Spread(SIZES)
        """Commits that one sync served."""

    def _write(self, commits: list[Entry]) -> None:
        with self._io:
            if self._closed:
                raise ClosedError("the commit log was closed; nothing was committed")
            file = self._active
            data = b"" if file is None else pack_records(commits, file.generation, file.end)
            if file is None or (file.end > START and file.end + len(data) > file.size):
                file = self._rotate()
                data = pack_records(commits, file.generation, file.end)
            try:
                file.file.write(data, file.end)
                began = self._now()
                file.file.sync()
                self._sync_seconds = self._now() - began
            except BaseException:
                self._abandon(file)
                raise
            file.end += len(data)
            if file.end > file.size:
                file.size = file.end
            for branch, _, txid, _ in commits:
                file.pending[branch] = txid
            self.syncs += 1
            self.commits += len(commits)
            self.took.add(self._sync_seconds)
            self.groups.add(len(commits))
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
