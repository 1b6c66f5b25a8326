"""Files that survive a power cut: written aside, synced, renamed into place, and the directory synced."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Final

from memoturn.base.errors import InvalidRequestError, UnavailableError, UndecidedWriteError
from memoturn.base.ids import Ids
from memoturn.bucket.disk import Disk

_KNOWN_DIRECTORIES: Final = 10_000
_PIECE: Final = 1 << 16


class DurableFiles:
    """Writes and removes files below `root`; `temporary`, on the same file system, holds unfinished ones."""

    def __init__(self, root: str, temporary: str, ids: Ids, disk: Disk) -> None:
        self._root = root
        self._temporary = temporary
        self._ids = ids
        self._disk = disk
        self._durable: dict[str, int] = {}
        self._lock = threading.Lock()

    def write(self, path: str, chunks: Iterable[bytes]) -> None:
        """Put a file at `path`, in the place of any that is there.

        Raises `UnavailableError` if it could not be written, and then nothing has changed, and
        `UndecidedWriteError` if it is there but may not survive a power cut. An error of `chunks` passes
        through, and then nothing has changed.
        """
        temporary = self._write_aside(chunks)
        self._move(temporary, path)
        try:
            self._sync_parents(path)
        except OSError as error:
            raise UndecidedWriteError(
                f"{self._root}: an object was written but could not be made durable: {error.strerror}"
            ) from error

    def write_again_if_undecided(self, path: str, body: bytes) -> None:
        """`write`, once more if the directory could not be synced; for one who holds the key's lock.

        After a failed sync the kernel may have dropped what it could not write, so that syncing again proves
        nothing. Writing it all again does.
        """
        try:
            self.write(path, (body,))
        except UndecidedWriteError:
            try:
                self.write(path, (body,))
            except UndecidedWriteError:
                raise
            except UnavailableError as error:
                raise UndecidedWriteError(
                    f"{self._root}: an object was written but could not be made durable"
                ) from error

    def remove(self, path: str) -> None:
        """Remove a file, if it is there, and directories that it leaves empty. Raises `UnavailableError`."""
        parent = os.path.dirname(path)
        with reporting(self._root, "deleted from"):
            try:
                self._disk.unlink(path)
                self._disk.sync_directory(parent)
            except (FileNotFoundError, NotADirectoryError):
                return  # Somebody else has removed it, or has found the directory empty and removed that.
        # They would pile up with every branch that ever lived. The first one in use ends this.
        with contextlib.suppress(OSError):
            while parent != self._root:
                self._disk.remove_directory(parent)
                parent = os.path.dirname(parent)

    def _write_aside(self, chunks: Iterable[bytes]) -> str:
        disk = self._disk
        path = os.path.join(self._temporary, self._ids.token() + self._ids.token())
        with reporting(self._root, "written"):
            fd = disk.create(path)
        try:
            try:
                for piece in _in_pieces(chunks):
                    with reporting(self._root, "written"):
                        disk.write(fd, piece)
                with reporting(self._root, "written"):
                    disk.sync(fd)
            finally:
                with reporting(self._root, "written"):
                    disk.close(fd)
        except BaseException:
            self._discard(path)
            raise
        return path

    def _move(self, temporary: str, path: str) -> None:
        try:
            with reporting(self._root, "written"):
                try:
                    self._disk.rename(temporary, path)
                except FileNotFoundError:
                    # The first object here, or somebody deleted the last one and the directory with it.
                    self._make_parents(path)
                    self._disk.rename(temporary, path)
        except BaseException:
            self._discard(temporary)
            raise

    def _discard(self, path: str) -> None:
        with contextlib.suppress(OSError):
            self._disk.unlink(path)

    def _make_parents(self, path: str) -> None:
        parent = os.path.dirname(path)
        missing = []
        while not os.path.isdir(parent):
            missing.append(parent)
            parent = os.path.dirname(parent)
        for directory in reversed(missing):
            self._disk.make_directory(directory)

    def _sync_parents(self, path: str) -> None:
        """Make the entry of `path` durable, and, once for each directory, the entries that lead to it.

        Another process may have made the directory a moment ago and not have synced it; so it counts as
        durable only after this process has synced the whole chain, and only while it is the same directory.
        """
        parent = os.path.dirname(path)
        inode = self._disk.sync_directory(parent)
        if self._durable.get(parent) == inode:
            return
        above = parent
        while above != self._root:
            above = os.path.dirname(above)
            self._disk.sync_directory(above)
        with self._lock:
            if len(self._durable) >= _KNOWN_DIRECTORIES:
                self._durable.clear()
            self._durable[parent] = inode


def _in_pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces: a commit has a chunk of its own, and copying it costs less than a call."""
    piece: list[bytes] = []
    size = 0
    for chunk in chunks:
        piece.append(chunk)
        size += len(chunk)
        if size >= _PIECE:
            yield b"".join(piece)
            piece, size = [], 0
    if piece:
        yield b"".join(piece)


@contextlib.contextmanager
def reporting(root: str, done: str) -> Iterator[None]:
    """Turn an `OSError` into an error that says which store could not be `done`."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InvalidRequestError(f"{root}: a key has a name too long for this file system") from error
        hint = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise UnavailableError(f"{root} could not be {done}: {error.strerror}{hint}") from error
