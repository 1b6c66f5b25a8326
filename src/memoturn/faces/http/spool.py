"""Bodies that are too large for memory lie in files while they are worked on, and are gone when the request is."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final

from memoturn.base.errors import UnavailableError
from memoturn.faces.http.call import Call
from memoturn.faces.http.lanes import Lane

_AT_ONCE: Final = 1 << 20
_PREFIX: Final = "body-"


async def spool(call: Call, pieces: AsyncIterator[bytes], lane: Lane) -> None:
    """Write a body to a file, which becomes `call.spooled`. Raises `UnavailableError` if the disk is full."""
    key = None if call.address is None else call.address.database

    def begin() -> int:
        call.context.spool.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=call.context.spool)
        call.spooled = Path(name)
        return fd

    fd = -1
    try:
        fd = await lane.submit(key, begin, call.deadline)
        waiting = bytearray()
        async for piece in pieces:
            waiting += piece
            if len(waiting) >= _AT_ONCE:
                await lane.submit(key, partial(_write, fd, bytes(waiting)), call.deadline)
                waiting.clear()
        await lane.submit(key, partial(_write, fd, bytes(waiting)), call.deadline)
    except OSError as error:
        raise UnavailableError(f"the body cannot be spooled: {error.strerror}") from error
    finally:
        if fd >= 0:
            os.close(fd)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


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
