"""A SQLite file to be sent: one file, with what its log or its journal holds, whatever lies beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from memoturn.base.errors import InvalidRequestError, NotFoundError, UnavailableError

_BESIDE = ("-wal", "-journal")


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """The file, open; or, if SQLite has kept a part of its content beside it, a copy that has all of it.

    Neither the file nor what lies beside it is changed. Raises `NotFoundError` if it is not there,
    `InvalidRequestError` if it cannot be read, and `UnavailableError` if another program is writing it.
    """
    with contextlib.ExitStack() as stack:
        try:
            if any(_size(f"{path}{ending}") for ending in _BESIDE):
                path = _copy(
                    path, stack.enter_context(tempfile.TemporaryDirectory(prefix="memoturn-import-"))
                )
            file = stack.enter_context(Path(path).open("rb"))
        except FileNotFoundError:
            raise NotFoundError(f"there is no file {path}") from None
        except OSError as error:
            raise InvalidRequestError(f"{path} cannot be read: {error.strerror}") from None
        yield file


def _copy(path: str, directory: str) -> str:
    import sqlite3

    target = os.path.join(directory, "copy.sqlite")
    before = _state(path)
    for ending in ("", *_BESIDE):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(f"{path}{ending}", f"{target}{ending}")
    if _state(path) != before:
        raise UnavailableError(f"{path} is being written by another program; try again")
    try:
        with contextlib.closing(sqlite3.connect(target)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    except sqlite3.Error as error:
        raise InvalidRequestError(f"{path} is no intact SQLite database: {error}") from None
    return target


def _state(path: str) -> list[tuple[int, int] | None]:
    found: list[tuple[int, int] | None] = []
    for ending in ("", *_BESIDE):
        try:
            there = os.stat(f"{path}{ending}")
            found.append((there.st_mtime_ns, there.st_size))
        except FileNotFoundError:
            found.append(None)
    return found


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
