"""Processes that share a data directory: who is alive, who may write which branch, and how to ask for it.

    nodes/{node_id}/alive     locked for as long as the process lives; then two numbers, see `publish`
    nodes/{node_id}/bell      a pipe: a line with an incarnation asks for that branch
    nodes/{node_id}/*.log     the process's commit log
    locks/{incarnation}       locked by the process that may write the branch; names it

The operating system frees the locks of a process that dies, whatever the way. A lock file is removed by its
holder while it holds it, so whoever has locked a file looks again whether it is still the one under that name.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from memoturn.database.follow import LogFollower
from memoturn.database.logfile import DiskDirectory
from memoturn.database.record import LogRecord

_ALIVE_BYTES: Final = 4096


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
        """Whether this process may now write the branch."""

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
    """

    def __init__(self, root: Path, node_id: str, on_ask: Callable[[str], None]) -> None:
        self._nodes = root / "nodes"
        self._locks = root / "locks"
        self._locks.mkdir(parents=True, exist_ok=True)
        self.home = self._nodes / node_id
        self.home.mkdir(parents=True, exist_ok=True)
        self._held: dict[str, int] = {}
        self._mutex = threading.Lock()
        self._followed: dict[str, LogFollower] = {}
        self._following = threading.Lock()
        self._name = f"{node_id}\n{os.getpid()}\n{_program()}\n".encode()
        self._alive = self._open_alive(self.home / "alive")
        fcntl.flock(self._alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._map = mmap.mmap(self._alive, _ALIVE_BYTES)
        self._published = memoryview(self._map).cast("Q")
        bell = self.home / "bell"
        if not bell.exists():
            os.mkfifo(bell)
        # Opened for writing too, so that reading waits instead of ending when no one else has it open.
        self._bell = os.open(bell, os.O_RDWR | os.O_CLOEXEC)
        self._closing = False
        self._listener = threading.Thread(
            target=self._listen, args=(on_ask,), name="memoturn-bell", daemon=True
        )
        self._listener.start()

    # Who may write.

    def try_lock(self, incarnation: str) -> bool:
        with self._mutex:
            if incarnation in self._held:
                return True
            path = self._locks / incarnation
            while True:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(fd)
                    return False
                if _is_at(fd, path):
                    break
                os.close(fd)
            os.ftruncate(fd, 0)
            os.pwrite(fd, self._name, 0)
            self._held[incarnation] = fd
            return True

    def unlock(self, incarnation: str) -> None:
        with self._mutex:
            fd = self._held.pop(incarnation, None)
            if fd is not None:
                (self._locks / incarnation).unlink(missing_ok=True)
                os.close(fd)

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
            os.write(fd, f"{incarnation}\n".encode())
        except OSError:
            pass  # The pipe is full of questions already.
        finally:
            os.close(fd)
        return holder

    def _listen(self, on_ask: Callable[[str], None]) -> None:
        rest = b""
        while not self._closing:
            *lines, rest = (rest + os.read(self._bell, 4096)).split(b"\n")
            for incarnation in dict.fromkeys(lines):
                if incarnation and not self._closing:
                    on_ask(incarnation.decode())

    # Who is alive, and what the dead have left.

    def publish(self, file_name: str, end: int) -> None:
        """Say how far this process's log is durable, for those who read along."""
        self._published[0] = 0
        self._published[1] = end
        self._published[0] = int(file_name.partition(".")[0])

    def _synced_of(self, node_id: str) -> tuple[str, int] | None:
        """How far the log of a living node is durable: the file it writes and the end in it; None if dead."""
        path = self._nodes / node_id / "alive"
        if not self.is_alive(node_id):
            return None
        with path.open("rb") as file:
            data = file.read(16)
        number = int.from_bytes(data[:8], _ORDER)
        return f"{number:06d}.log", int.from_bytes(data[8:16], _ORDER)

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
            return False
        finally:
            os.close(fd)

    def records_of(self, node_id: str, branch: str) -> list[LogRecord]:
        with self._following:
            follower = self._followed.get(node_id)
            if follower is None:
                follower = self._followed[node_id] = LogFollower(DiskDirectory(self._nodes / node_id))
            follower.look(self._synced_of(node_id))
            return follower.records_of(branch)

    def branches_of(self, node_id: str) -> set[str]:
        """The branches that have records in the log of a node: `db_uuid/branch_id/incarnation`."""
        self.records_of(node_id, "")
        return self._followed[node_id].branches()

    def dead(self) -> list[str]:
        """The nodes that have left something here and do not run any more."""
        return [name for name in sorted(os.listdir(self._nodes)) if not self.is_alive(name)]

    def bury(self, node_id: str) -> None:
        """Remove what a dead node has left; its log must have been shipped."""
        with self._following:
            follower = self._followed.pop(node_id, None)
            if follower is not None:
                follower.close()
        shutil.rmtree(self._nodes / node_id, ignore_errors=True)

    def close(self, keep_log: bool) -> None:
        """Stop listening, free all locks, and leave nothing behind but a log that has not shipped."""
        self._closing = True
        os.write(self._bell, b"\n")
        if self._listener is not threading.current_thread():
            self._listener.join()
        for incarnation in list(self._held):
            self.unlock(incarnation)
        for follower in self._followed.values():
            follower.close()
        os.close(self._bell)
        self._published.release()
        self._map.close()
        if not keep_log:
            shutil.rmtree(self.home, ignore_errors=True)
        os.close(self._alive)

    def abandon_after_fork(self) -> None:
        """In a forked child: let go of the parent's files without freeing what the parent holds."""
        for fd in [*self._held.values(), self._bell, self._alive]:
            os.close(fd)
        self._held.clear()

    @staticmethod
    def _open_alive(path: Path) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.ftruncate(fd, _ALIVE_BYTES)
        return fd


_ORDER: Final = sys.byteorder


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _program() -> str:
    return os.path.basename(sys.argv[0] if sys.argv and sys.argv[0] else sys.executable) or "python"
