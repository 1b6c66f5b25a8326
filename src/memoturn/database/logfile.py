"""The files under the commit log, behind an interface small enough for a test to play a failing disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Protocol

_ZEROES: Final = bytes(1 << 20)


class LogFile(Protocol):
    """One preallocated file, written at offsets and synced."""

    def write(self, data: bytes, offset: int) -> None:
        """Write all of `data`. Raises `OSError`."""

    def sync(self) -> None:
        """Return when everything written is durable. Raises `OSError`."""

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer at the end of the file."""

    def close(self) -> None:
        """Let go of the file."""


class LogDirectory(Protocol):
    """Where one process keeps its log files."""

    def names(self) -> list[str]:
        """The files that are there, in the order of their names."""

    def create(self, name: str, size: int) -> LogFile:
        """A new file of zeroes, durable under its name. Raises `OSError` and leaves nothing."""

    def open(self, name: str) -> LogFile:
        """An existing file. Raises `FileNotFoundError`."""

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""


class DiskFile:
    """A log file on a real disk. A write waits for the sync that must follow: on Linux both are one call."""

    __slots__ = ("_fd", "_waiting")

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._waiting: list[tuple[bytes, int]] = []

    def write(self, data: bytes, offset: int) -> None:
        self._waiting.append((data, offset))

    def sync(self) -> None:
        waiting, self._waiting = self._waiting, []
        for data, offset in waiting:
            written = _write(self._fd, data, offset)
            while written < len(data):
                written += _write(self._fd, data[written:], offset + written)
        if not _WRITE_SYNCS:
            _sync(self._fd)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, length, offset)

    def close(self) -> None:
        os.close(self._fd)


_WRITE_SYNCS: Final = hasattr(os, "RWF_DSYNC")


def _write(fd: int, data: bytes, offset: int) -> int:
    return os.pwritev(fd, (data,), offset, os.RWF_DSYNC) if _WRITE_SYNCS else os.pwrite(fd, data, offset)


def _sync(fd: int) -> None:
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        import fcntl

        # Elsewhere than on Linux fsync may stop at the drive's cache.
        fcntl.fcntl(fd, getattr(fcntl, "F_FULLFSYNC", 51))


class DiskDirectory:
    """Log files in a directory of a real disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._path) if name.endswith(".log"))
        except FileNotFoundError:
            return []

    def create(self, name: str, size: int) -> LogFile:
        # Zeroes are written, not only reserved: a sync of a reserved block would have to write metadata too.
        make_directories(self._path)
        path = self._path / name
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                written = 0
                while written < size:
                    written += os.write(fd, _ZEROES[: min(len(_ZEROES), size - written)])
                os.fsync(fd)
            finally:
                os.close(fd)
            sync_directory(self._path)
            return DiskFile(path)
        except BaseException:
            # Nobody would use the file, nor remove it.
            path.unlink(missing_ok=True)
            raise

    def open(self, name: str) -> LogFile:
        return DiskFile(self._path / name)

    def remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)


def make_directories(path: Path) -> None:
    """Make a directory and those that lead to it, each durable under its name."""
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in missing:
        sync_directory(directory.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
