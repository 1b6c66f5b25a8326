"""Bodies that are too large for memory lie in files while they are worked on, and are gone when the request is."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from memoturn.base.errors import UnavailableError
from memoturn.faces.http.call import Call
from memoturn.faces.http.lanes import Lane

_AT_ONCE: Final = 1 << 20
_PREFIX: Final = "body-"


async def spool(call: Call, pieces: AsyncIterator[bytes], lane: Lane) -> None:
    """Write a body to a file: `call.spooled`, with its `digest`. Raises `UnavailableError` if the disk is full."""
    key = None if call.address is None else call.address.database
    directory = call.context.spool
    pending: asyncio.Future[_File] | None = None

    async def run(work: Callable[[], _File]) -> _File:
        # A thread may have the file in hand when the request is given up: then it is closed when that is done.
        nonlocal pending
        pending = lane.submit(key, work, call.deadline)
        return await asyncio.shield(pending)

    def discard(done: asyncio.Future[_File]) -> None:
        if file is not None:
            _remove(file)
        elif not done.cancelled() and done.exception() is None:
            _remove(done.result())

    file: _File | None = None
    try:
        file = await run(partial(_begin, directory))
        waiting = bytearray()
        async for piece in pieces:
            waiting += piece
            if len(waiting) >= _AT_ONCE:
                await run(partial(_write, file, bytes(waiting)))
                waiting.clear()
        await run(partial(_write, file, bytes(waiting)))
    except BaseException as error:
        if pending is not None and pending.done():
            discard(pending)  # Before the refusal is told.
        elif pending is not None:
            pending.add_done_callback(discard)
        if isinstance(error, OSError):
            raise UnavailableError(f"the body cannot be spooled: {error.strerror}") from error
        raise
    os.close(file.fd)
    call.spooled, call.digest = file.path, file.digest.digest()


class _File(NamedTuple):
    fd: int
    path: Path
    digest: hashlib.blake2b


def _begin(directory: Path) -> _File:
    directory.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=directory)
    return _File(fd, Path(name), hashlib.blake2b(digest_size=16))


def _write(file: _File, data: bytes) -> _File:
    file.digest.update(data)
    view = memoryview(data)
    while view:
        view = view[os.write(file.fd, view) :]
    return file


def _remove(file: _File) -> None:
    os.close(file.fd)
    file.path.unlink(missing_ok=True)


def sweep(directory: Path) -> None:
    """Remove what servers have left behind that were killed."""
    for path in directory.glob(f"{_PREFIX}*"):
        pid = path.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not _lives(int(pid)):
            with contextlib.suppress(OSError):
                path.unlink()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()
