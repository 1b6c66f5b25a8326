"""How far the log of a living process is durable: a page of shared memory, for those who read along.

    0      number of the newest state; it is in the first of two slots if even, in the second if odd
    64     a slot: cuts, active file, its end, count of failed files, then a file and its end for each
    2080   the other slot

A state is written into the slot that is not the newest, then its number is put in place: one store, so that a
process that is stopped at any moment leaves a whole state to read. Numbers are 64 bits wide, in the machine's order.

`cuts` counts how often a file began to be written from its start. While it stays the same, only the active file
grows; a file that is not active and was read to its end has been read for good.

A failed file is one whose sync has failed. What lies beyond its end never counts, and as long as this page
can be read nobody has to guess.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from memoturn.database.record import START

PAGE_BYTES: Final = 4096
_SLOT_BYTES: Final = (PAGE_BYTES - 64) // 2
_SLOTS: Final = (64, 64 + _SLOT_BYTES)
_WORD: Final = struct.Struct("=Q")
_FIXED: Final = struct.Struct("=QQQQ")
_PAIR: Final = struct.Struct("=QQ")
_MOST_FAILED: Final = (_SLOT_BYTES - _FIXED.size) // _PAIR.size


class Synced(NamedTuple):
    """One state. `active` is None before the first commit; `failed` has the end of each failed file."""

    cuts: int
    active: str | None
    end: int
    failed: dict[str, int]


class Published:
    """The writing side; its caller lets one thread at a time use it."""

    def __init__(self, page: memoryview) -> None:
        self._page = page
        self._words = page.cast("Q")
        self._number = 0
        self._cuts = 0
        self._active = 0
        self._active_name = ""
        self._end = 0
        self._failed: dict[int, int] = {}

    def synced(self, file_name: str, end: int) -> None:
        """The active file is durable up to `end`."""
        self._end = end
        if file_name != self._active_name:
            self._active, self._active_name = _number_of(file_name), file_name
        if end == START:
            self._cuts += 1
            self._put_all()
            return
        number = self._number = self._number + 1
        words, at = self._words, _SLOTS[number & 1] >> 3
        words[at + 1] = self._active
        words[at + 2] = end
        words[0] = number

    def failed(self, file_name: str, end: int) -> None:
        """A sync of the file has failed: only what lies before `end` counts."""
        number = _number_of(file_name)
        self._failed[number] = end
        while len(self._failed) > _MOST_FAILED:
            self._failed.pop(next(iter(self._failed)))
        if self._active == number:
            self._active, self._active_name = 0, ""
        self._put_all()

    def _put_all(self) -> None:
        slot = _FIXED.pack(self._cuts, self._active, self._end, len(self._failed))
        slot += b"".join(_PAIR.pack(*pair) for pair in self._failed.items())
        for _ in _SLOTS:
            number = self._number = self._number + 1
            at = _SLOTS[number & 1]
            self._page[at : at + len(slot)] = slot
            self._words[0] = number

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._page.release()


def newest(page: bytes) -> int:
    """The number of the newest state: if it has changed, a page that was read before may hold parts of two."""
    return int(_WORD.unpack_from(page)[0]) if len(page) >= _WORD.size else 0


def read_state(page: bytes) -> Synced:
    """The newest state on a page; an empty one if nothing was published."""
    if len(page) < PAGE_BYTES:
        return Synced(0, None, START, {})
    at = _SLOTS[newest(page) & 1]
    cuts, active, end, count = _FIXED.unpack_from(page, at)
    pairs = at + _FIXED.size
    failed = dict(_PAIR.iter_unpack(page[pairs : pairs + min(count, _MOST_FAILED) * _PAIR.size]))
    return Synced(
        cuts, _name_of(active) if active else None, end, {_name_of(n): e for n, e in failed.items()}
    )


def _number_of(file_name: str) -> int:
    return int(file_name.partition(".")[0])


def _name_of(number: int) -> str:
    return f"{number:06d}.log"
