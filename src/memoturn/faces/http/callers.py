"""Whether whoever asked is still there, and what becomes of work for those who are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from memoturn.faces.http.call import Call

Receive = Callable[[], Coroutine[Any, Any, Any]]

_WATCH_AFTER: Final = 1.0
"""Seconds after which it is watched whether whoever asked is still there."""


class Gone(Exception):  # noqa: N818
    """Whoever asked has left."""


class Watch:
    """Looks after calls that take a while. For the event loop's thread only."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._since: dict[Call, tuple[float, Receive]] = {}
        self._watchers: dict[Call, asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From now on."""
        self._watching = asyncio.get_running_loop().create_task(self._look())

    def stop(self) -> None:
        """No more."""
        if self._watching is not None:
            self._watching.cancel()
        for task in self._watchers.values():
            task.cancel()

    def begin(self, call: Call, receive: Receive) -> None:
        """Work for a call begins; every one that begins has to end."""
        self._since[call] = (self._monotonic() + _WATCH_AFTER, receive)

    def end(self, call: Call) -> None:
        """It has ended."""
        self._since.pop(call, None)
        watcher = self._watchers.pop(call, None)
        if watcher is not None:
            watcher.cancel()

    async def _look(self) -> None:
        """Call off the work for those who have left, once it takes a while; and answer for work that cannot stop."""
        while True:
            await asyncio.sleep(_WATCH_AFTER / 2)
            now = self._monotonic()
            while self._since:
                call, (since, receive) = next(iter(self._since.items()))
                if since > now:
                    break  # Those that follow have come later.
                del self._since[call]
                self._watchers[call] = asyncio.ensure_future(_call_off(call, receive))
            for call in self._watchers:
                if (
                    now > call.deadline.due + _WATCH_AFTER
                    and call.pending is not None
                    and not call.pending.done()
                ):
                    call.pending.set_exception(call.deadline.error())


async def _call_off(call: Call, receive: Receive) -> None:
    await left(receive)
    call.deadline.call_off("whoever asked has left; the work was stopped")


async def left(receive: Receive) -> None:
    """Returns when whoever asked has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
