"""Objects as files, with a compare-and-swap of our own that holds among processes and survives a power cut.

    <root>/catalog/a.json        the object catalog/a.json
    <root>/.memoturn/tmp/        files on their way; a crash leaves them here, where no listing looks
    <root>/.memoturn/locks/      64 lock files

A reader sees the file from before a write or the one from after it, and takes no lock. A conditional write
compares and writes under the key's lock.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from urllib.parse import quote

from memoturn.base.clock import Clock
from memoturn.base.errors import AlreadyExistsError
from memoturn.base.ids import Ids
from memoturn.bucket.bucket import (
    Bucket,
    LandedCheck,
    ObjectInfo,
    ObjectNotFound,
    Pieces,
    StaleVersionError,
    Version,
    check_key,
    check_range,
)
from memoturn.bucket.descriptors import DEFAULT_LIMIT, Descriptors, OpenFile
from memoturn.bucket.disk import Disk, read_at, read_whole
from memoturn.bucket.durable import DurableFiles, reporting
from memoturn.bucket.locks import Locks
from memoturn.bucket.walk import walk

RESERVED: Final = ".memoturn"
ABANDONED_AFTER_S: Final = 24 * 3600
"""Age at which a file in `tmp` belongs to no living write; the next opening of the store removes it."""


class FileBucket(Bucket):
    """A bucket in a directory of this machine."""

    is_local = True

    def __init__(
        self,
        root: str,
        *,
        clock: Clock,
        ids: Ids,
        disk: Disk | None = None,
        open_files: int = DEFAULT_LIMIT,
    ) -> None:
        """Open the store at `root`, creating the directory; clean what crashed writes left behind."""
        disk = disk or Disk()
        self._root = os.path.abspath(root)
        self.url = f"file://{quote(self._root)}"
        temporary = os.path.join(self._root, RESERVED, "tmp")
        locks = os.path.join(self._root, RESERVED, "locks")
        with reporting(self._root, "opened"):
            _make_root(self._root, disk)
            os.makedirs(temporary, exist_ok=True)
            os.makedirs(locks, exist_ok=True)
            _clean(temporary)
        self._writer = DurableFiles(self._root, temporary, ids, disk)
        self._files = Descriptors(open_files)
        self._locks = Locks(locks, clock)

    def get(self, key: str) -> tuple[bytes, Version]:
        path = self._path(key)
        with self._reading(key):
            body = read_whole(path)
        return body, _version_of(body)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if start < 0 or length < 0:
            check_range(start, length)
        file = self._files.find(key) or self._open(key)
        try:
            data = os.pread(file.fd, length, start)
        except OSError:
            data = b""
        if len(data) == length:
            return data
        with self._reading(key):
            return read_at(file.fd, start, length)

    def get_tail(self, key: str, length: int) -> tuple[bytes, int]:
        check_range(0, length)
        file = self._files.find(key) or self._open(key)
        with self._reading(key):
            size = os.fstat(file.fd).st_size
            return read_at(file.fd, max(0, size - length), min(length, size)), size

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Pieces:
        return [self.get_range(key, start, length) for start, length in ranges]

    def list(self, prefix: str, after: str | None = None) -> Iterator[ObjectInfo]:
        # A prefix such as db/x/ names a directory: begin there, not at the root.
        directory = prefix[: prefix.rfind("/") + 1]
        if directory:
            check_key(directory[:-1])
        return walk(self._root, directory, prefix, after)

    def put(self, key: str, data: bytes | Iterable[bytes]) -> None:
        path = self._path(key)
        self._writer.write(path, (data,) if isinstance(data, bytes) else data)
        self._files.drop(key)

    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version:
        path = self._path(key)
        with self._locks.hold(key):
            if os.path.lexists(path):
                raise AlreadyExistsError(f"an object {key!r} exists already in {self.url}")
            self._writer.write_again_if_undecided(path, body)
        self._files.drop(key)
        return _version_of(body)

    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        path = self._path(key)
        with self._locks.hold(key):
            with self._reading(key):
                current = read_whole(path)
            if _version_of(current) != version:
                raise StaleVersionError(f"the object {key!r} has been written since it was read")
            self._writer.write_again_if_undecided(path, body)
        self._files.drop(key)
        return _version_of(body)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._locks.hold(key):
            self._writer.remove(path)
        self._files.drop(key)

    def afresh(self) -> FileBucket:
        # An open file outlives its name: what has been removed since would still be read.
        other = copy.copy(self)
        other._files = Descriptors()
        return other

    def close(self) -> None:
        self._files.clear()

    def _path(self, key: str) -> str:
        check_key(key)
        return f"{self._root}/{key}"

    def _open(self, key: str) -> OpenFile:
        path = self._path(key)
        with self._reading(key):
            return self._files.open(key, path)

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        with reporting(self._root, "read"):
            try:
                yield
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise ObjectNotFound(f"no object {key!r} in {self.url}") from None


def _version_of(body: bytes) -> Version:
    # Not the inode and time of the file: an inode is used again at once, within one tick of the clock.
    return Version(hashlib.blake2b(body, digest_size=16).hexdigest(), None)


def _make_root(root: str, disk: Disk) -> None:
    """The directory of the store and those that lead to it; names that were missing are durable."""
    missing = []
    directory = root
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    os.makedirs(root, exist_ok=True)
    for directory in missing:
        disk.sync_directory(os.path.dirname(directory))


def _clean(temporary: str) -> None:
    # Ages are told by the file system's own clock, which need not agree with ours.
    os.utime(temporary)
    now = os.stat(temporary).st_mtime
    with os.scandir(temporary) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if now - entry.stat().st_mtime > ABANDONED_AFTER_S:
                    os.unlink(entry.path)
