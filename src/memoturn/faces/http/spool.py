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
from memoturn.faces.wire import headers

_AT_ONCE: Final = 1 << 20
_PREFIX: Final = "body-"


async def spool(call: Call, pieces: AsyncIterator[bytes], lane: Lane) -> None:
    """Write a body to a file: `call.spooled`, with its `digest` if the call has a key that it is compared for.

    Raises `UnavailableError` if the disk is full.
    """
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
        file = await run(partial(_begin, directory, headers.IDEMPOTENCY_KEY in call.headers))
        waiting: list[bytes] = []
        size = 0
        async for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= _AT_ONCE:
                await run(partial(_write, file, waiting))
                waiting, size = [], 0
        await run(partial(_write, file, waiting))
    except BaseException as error:
        if pending is not None and pending.done():
            await _aside(partial(discard, pending))  # Before the refusal is told.
        elif pending is not None:
            pending.add_done_callback(lambda done: _aside(partial(discard, done)))
        if isinstance(error, OSError):
            raise UnavailableError(f"the body cannot be spooled: {error.strerror}") from error
        raise
    os.close(file.fd)
    call.spooled = file.path
    if file.digest is not None:
        call.digest = file.digest.digest()


class _File(NamedTuple):
    fd: int
    path: Path
    digest: hashlib.blake2b | None


def _begin(directory: Path, is_compared: bool) -> _File:
    directory.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=directory)
    return _File(fd, Path(name), hashlib.blake2b(digest_size=16) if is_compared else None)


def _write(file: _File, pieces: list[bytes]) -> _File:
    data = b"".join(pieces)
    if file.digest is not None:
        file.digest.update(data)
    view = memoryview(data)
    while view:
        view = view[os.write(file.fd, view) :]
    return file


def remove(path: Path) -> asyncio.Future[None]:
    """Remove a spooled body. It is gone when the future is done, also if nobody waits for that."""
    return _aside(partial(path.unlink, missing_ok=True))


def _aside(work: Callable[[], None]) -> asyncio.Future[None]:
    """Done by a thread, whatever becomes of who waits: to remove a gigabyte takes the file system some 50 ms."""
    return asyncio.shield(asyncio.get_running_loop().run_in_executor(None, work))


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
