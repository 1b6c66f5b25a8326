"""Processes that share a data directory: who is alive, who may write which branch, and how to ask for it.

    nodes/{node_id}/alive     locked for as long as the process lives; published.py tells what is in it
    nodes/{node_id}/bell      a pipe: a line with an incarnation asks for that branch
    nodes/{node_id}/*.log     the process's commit log
    locks/{incarnation}       locked by the process that may write the branch; names it

A node appears under its name only when its `alive` is locked, and vanishes whole; while it is being made or removed
its name begins with a dot. So whoever finds one that is not locked knows that its process has died.

The operating system frees the locks of a process that dies, whatever the way. A lock file is removed by its
holder while it holds it, so whoever has locked a file looks again whether it is still the one under that name.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from memoturn.base.errors import CorruptError
from memoturn.base.shared import map_shared
from memoturn.bucket.durable import reporting
from memoturn.database.follow import LogFollower
from memoturn.database.logfile import DiskDirectory, make_directories, sync_directory
from memoturn.database.published import PAGE_BYTES, Published, Synced, newest, read_state
from memoturn.database.record import LogRecord

_log: Final = logging.getLogger("memoturn")
_FOLLOWED: Final = 16
"""Logs of others that are kept open at most."""
_FORGOTTEN_AFTER_S: Final = 24 * 3600
"""Age at which a node that was never finished, or never wholly removed, is nobody's work any more."""


class Holder(NamedTuple):
    """The process that may write a branch now."""

    node_id: str
    pid: int
    program: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.program}, node {self.node_id})"


class Neighbours(Protocol):
    """What a branch asks of the machine that it is opened on."""

    def try_lock(self, incarnation: str) -> bool:
        """Whether this process may now write the branch. Raises `UnavailableError` if that cannot be told."""

    def unlock(self, incarnation: str) -> None:
        """Let others write the branch."""

    def ask(self, incarnation: str) -> Holder | None:
        """Ask whoever may write the branch to hand it over; returns who that is."""

    def records_of(self, node_id: str, branch: str) -> list[LogRecord]:
        """What the log of another node on this machine holds of a branch, as far as it is durable."""

    def branches_of(self, node_id: str) -> set[str]:
        """The branches that have records in the log of a node: `db_uuid/branch_id/incarnation`."""

    def dead(self) -> list[str]:
        """The nodes that have left something here and do not run any more."""

    def bury(self, node_id: str) -> None:
        """Remove what a dead node has left; its log must have been shipped."""


class NoNeighbours:
    """For a bucket in memory: no other process can reach it."""

    def try_lock(self, incarnation: str) -> bool:
        return True

    def unlock(self, incarnation: str) -> None:
        return None

    def ask(self, incarnation: str) -> Holder | None:
        return None

    def records_of(self, node_id: str, branch: str) -> list[LogRecord]:
        return []

    def branches_of(self, node_id: str) -> set[str]:
        return set()

    def dead(self) -> list[str]:
        return []

    def bury(self, node_id: str) -> None:
        return None


class Machine:
    """This process among the others that use the data directory at `root`.

    `on_ask(incarnation)` is called, on a thread of its own, when another process wants to write that branch.
    Raises `UnavailableError` if the disk does not take what is needed.
    """

    def __init__(self, root: Path, node_id: str, on_ask: Callable[[str], None]) -> None:
        self._nodes = root / "nodes"
        self._locks = root / "locks"
        self.home = self._nodes / node_id
        self._held: dict[str, int] = {}
        self._mutex = threading.Lock()
        self._followed: dict[str, LogFollower] = {}
        self._following = threading.Lock()
        self._name = f"{node_id}\n{os.getpid()}\n{_program()}\n".encode()
        self._alive = self._bell = -1
        with reporting(str(root), "opened"):
            make_directories(self._locks)
            make_directories(self._nodes)
            try:
                self._appear()
            except BaseException:
                self._vanish()
                raise
        self._published = Published(memoryview(self._map))
        self.publish = self._published.synced
        self.publish_failed = self._published.failed
        self._closing = False
        self._listener = threading.Thread(
            target=self._listen, args=(on_ask,), name="memoturn-bell", daemon=True
        )
        self._listener.start()

    def _appear(self) -> None:
        unfinished = self._nodes / f".{self.home.name}"
        unfinished.mkdir()
        self._alive = os.open(unfinished / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        # Opened once more: a mapping keeps its file open, and in a forked child it would keep the lock.
        page = os.open(unfinished / "alive", os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = map_shared(page, PAGE_BYTES)
        finally:
            os.close(page)
        fcntl.flock(self._alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.mkfifo(unfinished / "bell")
        # Opened for writing too, so that reading waits instead of ending when no one else has it open.
        self._bell = os.open(unfinished / "bell", os.O_RDWR | os.O_CLOEXEC)
        unfinished.rename(self.home)
        # What the log will hold must be found after a power cut. Another process may have made the directories
        # above a moment ago and not have synced them.
        for directory in (self._nodes, *self._nodes.parents[:2]):
            sync_directory(directory)

    def _vanish(self) -> None:
        self._remove(self.home.name)
        shutil.rmtree(self._nodes / f".{self.home.name}", ignore_errors=True)
        for fd in (self._alive, self._bell):
            if fd >= 0:
                os.close(fd)

    # Who may write.

    def try_lock(self, incarnation: str) -> bool:
        with self._mutex:
            if incarnation in self._held:
                return True
            path = self._locks / incarnation
            with reporting(str(path), "locked"):
                while (locked := self._lock(incarnation, path)) is None:
                    pass
            return locked

    def _lock(self, incarnation: str, path: Path) -> bool | None:
        """Whether the file is locked now; None if its holder has removed it meanwhile."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        keep = False
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if not _is_at(fd, path):
                return None
            self._held[incarnation] = fd
            os.ftruncate(fd, 0)
            os.pwrite(fd, self._name, 0)
            keep = True
            return True
        finally:
            # Whatever was raised, by a signal's handler too: a lock that nobody knows of would shut out all others.
            if not keep:
                self._held.pop(incarnation, None)
                _free(fd, path)

    def unlock(self, incarnation: str) -> None:
        with self._mutex:
            fd = self._held.get(incarnation)
            if fd is not None:
                try:
                    del self._held[incarnation]
                finally:
                    _free(fd, self._locks / incarnation)

    def ask(self, incarnation: str) -> Holder | None:
        try:
            text = (self._locks / incarnation).read_text()
            node_id, pid, program = text.split("\n")[:3]
            holder = Holder(node_id, int(pid), program)
        except (OSError, ValueError):
            return None
        try:
            fd = os.open(self._nodes / node_id / "bell", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return holder
        try:
            with contextlib.suppress(OSError):  # The pipe may be full of questions already.
                os.write(fd, f"{incarnation}\n".encode())
        finally:
            os.close(fd)
        return holder

    def _listen(self, on_ask: Callable[[str], None]) -> None:
        rest = b""
        while not self._closing:
            try:
                heard = os.read(self._bell, 4096)
            except BlockingIOError:
                return  # It is being closed.
            *lines, rest = (rest + heard).split(b"\n")
            for line in dict.fromkeys(lines):
                if line and not self._closing:
                    try:
                        on_ask(line.decode())
                    except Exception:
                        # Whoever asks asks again; without this thread it would do so in vain.
                        _log.exception("a neighbour that asks for %r was not heard", line)

    # Who is alive, and what the dead have left.

    def _synced_of(self, node_id: str) -> tuple[bool, Synced]:
        """Whether a node lives, and what it has published of its log."""
        # In this order: what a process has published before it died does not change any more.
        alive = self.is_alive(node_id)
        try:
            fd = os.open(self._nodes / node_id / "alive", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False, read_state(b"")
        try:
            while True:
                page = os.pread(fd, PAGE_BYTES, 0)
                if newest(os.pread(fd, 8, 0)) == newest(page):
                    return alive, read_state(page)
        finally:
            os.close(fd)

    def is_alive(self, node_id: str) -> bool:
        """Whether the process of that node still runs on this machine."""
        if node_id == self.home.name:
            return True
        try:
            fd = os.open(self._nodes / node_id / "alive", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            fcntl.flock(fd, fcntl.LOCK_UN)
            return False
        finally:
            os.close(fd)

    def records_of(self, node_id: str, branch: str) -> list[LogRecord]:
        with self._following:
            return self._follow(node_id).records_of(branch)

    def branches_of(self, node_id: str) -> set[str]:
        """The branches that have records in the log of a node: `db_uuid/branch_id/incarnation`."""
        with self._following:
            return self._follow(node_id).branches()

    def _follow(self, node_id: str) -> LogFollower:
        """The log of a node, read up to now; keeps open those that were asked for last."""
        follower = self._followed.pop(node_id, None)
        if follower is None:
            for gone in [name for name in self._followed if not (self._nodes / name).exists()]:
                self._followed.pop(gone).close()
            while len(self._followed) >= _FOLLOWED:
                self._followed.pop(next(iter(self._followed))).close()
            follower = LogFollower(DiskDirectory(self._nodes / node_id), lambda: self._synced_of(node_id))
        self._followed[node_id] = follower
        try:
            follower.look()
        except CorruptError as error:
            raise CorruptError(f"{self._nodes / node_id}/{error}") from None
        return follower

    def dead(self) -> list[str]:
        """The nodes that have left something here and do not run any more."""
        # Ages are told by the file system's own clock, which need not agree with ours.
        os.utime(self.home)
        now = self.home.stat().st_mtime
        names = []
        for name in sorted(os.listdir(self._nodes)):
            if not name.startswith("."):
                if not self.is_alive(name):
                    names.append(name)
                continue
            with contextlib.suppress(FileNotFoundError):
                if now - (self._nodes / name).stat().st_mtime > _FORGOTTEN_AFTER_S:
                    shutil.rmtree(self._nodes / name, ignore_errors=True)
        return names

    def bury(self, node_id: str) -> None:
        """Remove what a dead node has left; its log must have been shipped."""
        with self._following:
            follower = self._followed.pop(node_id, None)
            if follower is not None:
                follower.close()
        self._remove(node_id)

    def _remove(self, node_id: str) -> None:
        removed = self._nodes / f".{node_id}"
        with contextlib.suppress(OSError):
            (self._nodes / node_id).rename(removed)
            shutil.rmtree(removed, ignore_errors=True)

    def close(self, keep_log: bool) -> None:
        """Stop listening, free all locks, and leave nothing behind but a log that has not shipped."""
        self._closing = True
        # A full pipe would never take another line, as nobody reads it any more; then the listener need not be woken.
        os.set_blocking(self._bell, False)
        with contextlib.suppress(BlockingIOError):
            os.write(self._bell, b"\n")
        if self._listener is not threading.current_thread():
            self._listener.join()
        for incarnation in list(self._held):
            self.unlock(incarnation)
        for follower in self._followed.values():
            follower.close()
        os.close(self._bell)
        self._published.close()
        self._map.close()
        if not keep_log:
            self._remove(self.home.name)
        os.close(self._alive)

    def abandon_after_fork(self) -> None:
        """In a forked child: let go of the parent's files without freeing what the parent holds."""
        for fd in [*self._held.values(), self._bell, self._alive]:
            os.close(fd)
        self._held.clear()


def _free(fd: int, path: Path) -> None:
    """Close a lock file and, if it is locked by us, remove it.

    It is unlocked first: closing alone frees nothing while a child that was forked meanwhile has it open.
    """
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(fd, path):
                path.unlink(missing_ok=True)
    finally:
        try:
            fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _program() -> str:
    return os.path.basename(sys.argv[0] if sys.argv and sys.argv[0] else sys.executable) or "python"
