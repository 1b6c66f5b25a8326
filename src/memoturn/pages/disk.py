"""Blocks of remote segments on local disk, within a budget; losing any of it costs a request, no more.

A block is one file, named after its segment and number. Blocks are not verified here: every page is, above.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path


class DiskTier:
    """A directory that several processes may share: files appear by rename and vanish whole."""

    def __init__(self, path: Path, budget: int) -> None:
        self._path = path
        self._budget = budget
        self._lock = threading.Lock()
        path.mkdir(parents=True, exist_ok=True)
        self._bytes = sum(entry.stat().st_size for entry in os.scandir(path) if entry.is_file())
        self._written = 0

    def get(self, key: str, number: int) -> bytes | None:
        """The block, if it is here."""
        try:
            return self._file(key, number).read_bytes()
        except OSError:
            return None

    def put(self, key: str, number: int, block: bytes) -> None:
        """Keep a block. A full or failing disk only means that it is not kept."""
        target = self._file(key, number)
        with self._lock:
            self._written += 1
            temporary = self._path / f".{os.getpid()}-{self._written}"
        try:
            temporary.write_bytes(block)
            os.replace(temporary, target)
        except OSError:
            temporary.unlink(missing_ok=True)
            return
        with self._lock:
            self._bytes += len(block)
            if self._bytes > self._budget:
                self._shrink()

    def discard(self, key: str, numbers: Iterable[int]) -> None:
        """Forget blocks of a segment."""
        for number in numbers:
            self._file(key, number).unlink(missing_ok=True)

    def _file(self, key: str, number: int) -> Path:
        return self._path / f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}-{number}"

    def _shrink(self) -> None:
        """Remove what was read longest ago, until a fifth of the budget is free."""
        files = []
        for entry in os.scandir(self._path):
            try:
                stat = entry.stat()
            except FileNotFoundError:
                continue
            files.append((max(stat.st_atime_ns, stat.st_mtime_ns), stat.st_size, entry.path))
        self._bytes = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if self._bytes <= self._budget * 4 // 5:
                break
            Path(path).unlink(missing_ok=True)
            self._bytes -= size
