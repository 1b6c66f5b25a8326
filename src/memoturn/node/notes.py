"""What background work has done to each database, and where it failed: for whoever asks, and for the neighbours.

A file for each database in the node directory, which the processes of a machine share. It is replaced whole, and the
last one to write it wins: losing a note costs a pass that was not needed, no more.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Collection
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from memoturn.base.txids import UnixMs


class Note(Struct, frozen=True, omit_defaults=True):
    """The last time that a kind of work was done on a branch, or on the database where `branch` is empty."""

    kind: str
    branch: str
    at: UnixMs
    took: float
    """Seconds."""
    what: str = ""
    error: str | None = None
    failures: int = 0
    """In a row."""
    txid: int | None = None
    """The position that a drill has restored."""


class DatabaseNotes(Struct, frozen=True, omit_defaults=True):
    """All that is noted of a database: bytes that were shipped and that compaction has written since it began."""

    notes: dict[str, Note] = {}
    shipped: int = 0
    written: int = 0

    def last(self, kind: str, branch: str = "") -> Note | None:
        """The note of one kind of work."""
        return self.notes.get(f"{kind} {branch}")


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(DatabaseNotes).decode
_NOTHING = DatabaseNotes()


class Notes:
    """In `directory`, or in memory if there is none."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._memory: dict[str, DatabaseNotes] = {}
        self._lock = threading.Lock()

    def read(self, db_uuid: str) -> DatabaseNotes:
        """What is noted of a database."""
        if self._directory is None:
            return self._memory.get(db_uuid, _NOTHING)
        try:
            return _decode(self._path(db_uuid).read_bytes())
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return _NOTHING

    def add(self, db_uuid: str, *notes: Note, shipped: int = 0, written: int = 0) -> None:
        """Note something. What cannot be written is not noted."""
        with self._lock:
            old = self.read(db_uuid)
            new = {**old.notes, **{f"{note.kind} {note.branch}": note for note in notes}}
            self._write(db_uuid, DatabaseNotes(new, old.shipped + shipped, old.written + written))

    def drop(self, db_uuid: str, kind: str, branch: str = "") -> None:
        """Forget one kind of work on a branch."""
        with self._lock:
            old = self.read(db_uuid)
            if old.last(kind, branch) is not None:
                kept = {name: note for name, note in old.notes.items() if name != f"{kind} {branch}"}
                self._write(db_uuid, replace(old, notes=kept))

    def keep(self, db_uuid: str, branches: Collection[str]) -> None:
        """Forget what was done on other branches than these: they are gone, and burners would add up."""
        with self._lock:
            old = self.read(db_uuid)
            kept = {
                name: note for name, note in old.notes.items() if not note.branch or note.branch in branches
            }
            if len(kept) < len(old.notes):
                self._write(db_uuid, replace(old, notes=kept))

    def forget(self, db_uuid: str) -> None:
        """Nothing is left of the database."""
        self._memory.pop(db_uuid, None)
        if self._directory is not None:
            with contextlib.suppress(OSError):
                self._path(db_uuid).unlink()

    def _write(self, db_uuid: str, notes: DatabaseNotes) -> None:
        if self._directory is None:
            self._memory[db_uuid] = notes
            return
        temporary = self._directory / f".{db_uuid}-{os.getpid()}"
        with contextlib.suppress(OSError):
            self._directory.mkdir(exist_ok=True)
            temporary.write_bytes(_encode(notes))
            temporary.replace(self._path(db_uuid))

    def _path(self, db_uuid: str) -> Path:
        return (self._directory or Path()) / f"{db_uuid}.json"
