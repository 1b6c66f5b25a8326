"""The file-system calls by which an object becomes durable, one method each, so that a test can fail each."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

# On macOS fsync leaves the data in the drive's cache; this is the call that empties it.
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)


class Disk:
    """Thin calls that raise `OSError`. A descriptor that one returns is the caller's to close."""

    def create(self, path: str) -> int:
        """A new file, open for writing; it must not exist yet."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def write(self, fd: int, data: bytes) -> None:
        """All of `data`."""
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def sync(self, fd: int) -> None:
        """Return once the file, or the directory, is on the medium."""
        if _FULL_SYNC is None:
            os.fsync(fd)
        else:
            fcntl.fcntl(fd, _FULL_SYNC)

    def close(self, fd: int) -> None:
        """Close a file that was written: some file systems report a failed write only here."""
        os.close(fd)

    def rename(self, source: str, target: str) -> None:
        """Put `source` in the place of `target`, atomically."""
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def make_directory(self, path: str) -> None:
        """A directory, or nothing if it is there."""
        try:
            os.mkdir(path)
        except FileExistsError:
            if not Path(path).is_dir():
                raise

    def remove_directory(self, path: str) -> None:
        os.rmdir(path)

    def sync_directory(self, path: str) -> int:
        """Return once the directory's entries are on the medium; the directory's inode number."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sync(fd)
            return os.fstat(fd).st_ino
        finally:
            os.close(fd)


def read_whole(path: str) -> bytes:
    """The file's bytes, from one descriptor, so that a rename cannot tear them."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_at(fd, 0, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def read_at(fd: int, start: int, length: int) -> bytes:
    """`length` bytes from `start`, fewer only where the file ends."""
    data = os.pread(fd, length, start)
    if len(data) == length or not data:
        return data
    # The kernel may stop early, at 2 GiB at the latest.
    pieces, have = [data], len(data)
    while have < length:
        data = os.pread(fd, length - have, start + have)
        if not data:
            break
        pieces.append(data)
        have += len(data)
    return b"".join(pieces)
