"""A file that appears whole or not at all, and never in the place of another."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from memoturn.base.errors import AlreadyExistsError, InvalidRequestError, UnavailableError


@contextmanager
def new_file(path: str) -> Iterator[BinaryIO]:
    """The file to write; it is at `path`, and on the disk, when the block has ended well.

    Raises `AlreadyExistsError` if there is one, `InvalidRequestError` if its directory is not there, and
    `UnavailableError` if it cannot be written.
    """
    target = Path(path)
    if target.exists():
        raise _taken(path)
    if not target.parent.is_dir():
        raise InvalidRequestError(f"{target.parent} is no directory; create it first")
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            try:
                yield cast("BinaryIO", file)
                file.flush()
                os.fsync(file.fileno())
                # A link, unlike a rename, refuses to take the place of a file that came meanwhile.
                os.chmod(file.name, 0o644)
                os.link(file.name, target)
            finally:
                os.unlink(file.name)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written: {error.strerror}") from error


def _taken(path: str) -> AlreadyExistsError:
    return AlreadyExistsError(f"{path} exists already; choose another file, or remove it first")
