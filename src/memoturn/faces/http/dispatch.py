"""Which threads the work of a call goes to: by how long it may take, and by what it may have to wait for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from memoturn.base.deadline import Deadline
from memoturn.base.errors import UnavailableError
from memoturn.faces.http.call import Call
from memoturn.faces.http.lanes import Lane

_QUICK: Final = frozenset(
    (
        "kv.get",
        "kv.list",
        "docs.get",
        "vectors.get",
        "memory.get",
        "turns.window",
        "db.where",
        "turns.sessions",
    )
)
_FIRST_WORDS: Final = re.compile(rb'"q"\s*:\s*"(?:\s|\\[nrt])*([A-Za-z]*)').findall
_READING: Final = frozenset((b"SELECT", b"WITH", b"VALUES", b"EXPLAIN"))


class Lanes(NamedTuple):
    """Where work is done, by how long it may take and what it may wait for."""

    quick: Lane
    """Reads of single things."""
    query: Lane
    """Reads that may look at much, and SQL that is not known yet."""
    write: Lane
    control: Lane
    long: Lane
    """What moves whole databases."""


class Dispatch:
    """All lanes of a server. For the event loop's thread only."""

    def __init__(self, queued: int, monotonic: Callable[[], float]) -> None:
        self._queued = queued
        self._monotonic = monotonic
        self._lanes: Lanes | None = None

    def start(self) -> None:
        """Make the lanes; on the event loop that is going to use them."""
        loop, queued, monotonic = asyncio.get_running_loop(), self._queued, self._monotonic
        self._lanes = Lanes(
            Lane("reads", 8, 4, queued, monotonic, loop),
            Lane("queries", 16, 4, queued, monotonic, loop),
            Lane("writes", 64, 1, queued, monotonic, loop),
            Lane("calls", 16, 4, queued, monotonic, loop),
            Lane("long calls", 8, 2, queued, monotonic, loop),
        )

    async def close(self) -> None:
        """Wait for what was begun, and let the threads go."""
        for lane in self._lanes or ():
            await lane.close()

    @property
    def busy(self) -> int:
        """How much work waits for threads, or is being done by them."""
        return sum(lane.busy for lane in self._lanes or ())

    @property
    def long(self) -> Lane:
        """Where whole bodies are written down."""
        return self._started.long

    def submit(self, call: Call, job: Callable[[], Any], deadline: Deadline) -> asyncio.Future[Any]:
        """Have work for a call done by a thread. Raises `OverloadedError`."""
        call.pending = lane_of(self._started, call).submit(line_of(call), job, deadline)
        return call.pending

    @property
    def _started(self) -> Lanes:
        if self._lanes is None:
            raise UnavailableError("the server is not ready yet; try again")
        return self._lanes


def line_of(call: Call) -> str | None:
    """Whose work it is. A refusal is the caller's own: waiting behind others' work would tell that there is some."""
    if call.refusal is not None:
        return call.who.db
    return None if call.address is None else call.address.database


def lane_of(lanes: Lanes, call: Call) -> Lane:
    route = call.route
    if route.long:
        return lanes.long
    if route.name in _QUICK:
        return lanes.quick
    if route.plane == "control":
        return lanes.control
    if route.name == "db.sql":
        return lanes.query if _may_only_read(call.body) else lanes.write
    return lanes.query if route.need == "read" else lanes.write


def _may_only_read(body: bytes | bytearray) -> bool:
    """Whether statements look as if they only read; a guess, which decides who waits with whom and nothing else."""
    return all(word.upper() in _READING for word in _FIRST_WORDS(body, 0, 4096))
