"""The bucket: bytes under keys, with compare-and-swap. Nothing here knows what the objects mean.

Two kinds of object never mix under one key. *Immutable* ones are written by `put` and read by range: their
key determines their content, so writing one twice is harmless. *Mutable* ones are written by `create` and
`replace` and read whole by `get`: each write names the version it follows, and no body is written twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Final, NamedTuple

from memoturn.base.errors import ConflictError, InvalidRequestError, NotFoundError
from memoturn.base.txids import UnixMs


class Version(NamedTuple):
    """Which write an object holds. Opaque: take it from a read or a write, hand it to `replace`."""

    e_tag: str | None
    version: str | None


NO_VERSION: Final = Version(None, None)
"""The version of nothing: `replace` refuses it everywhere.

A conditional write returns it when it is certain to have landed and to have been overwritten since, so that
the caller must read again before it writes again.
"""


class ObjectInfo(NamedTuple):
    """What a listing tells of an object: its size in bytes, and when the store says it was written."""

    key: str
    size: int
    modified_ms: UnixMs


class Landed(Enum):
    """Whether a write whose answer was lost is part of the history of the object that is there now."""

    OURS = "ours"
    NOT_OURS = "not ours"
    UNKNOWN = "unknown"


LandedCheck = Callable[[bytes], Landed]
"""Looks at the body that is there now, which is not the one that was sent.

Without one, every other body counts as `NOT_OURS`; that is exact unless somebody else may have overwritten
ours before we could look. Bodies that others replace should carry what it takes to tell.
"""


Pieces = list[bytes]
Tails = list[tuple[bytes, int]]
"""The answers to several ranges, and to several tails. (Within `Bucket`, `list` is the listing.)"""


class ObjectNotFound(NotFoundError):  # noqa: N818 - the name that the interface promised
    """No object has that key."""


class StaleVersionError(ConflictError):
    """Somebody else has written the object since the version was read; this write changed nothing."""


class Bucket(ABC):
    """Objects under `/`-separated keys, shared by threads, and by processes except for `memory:`.

    Every method may raise `UnavailableError` when the store does not answer, `UnconfiguredError` when it
    cannot be used as it is set up, and `InvalidRequestError` for a key that no store could hold.
    """

    url: str
    """The root, in one spelling, without credentials."""

    is_local: bool
    """Whether the objects are on this machine, so that a read costs microseconds and no request."""

    @abstractmethod
    def get(self, key: str) -> tuple[bytes, Version]:
        """The whole object, never torn, and its version. Raises `ObjectNotFound`."""

    @abstractmethod
    def get_range(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes from `start` of an immutable object; fewer only where the object ends.

        Raises `ObjectNotFound`.
        """

    @abstractmethod
    def get_tail(self, key: str, length: int) -> tuple[bytes, int]:
        """The last `length` bytes of an immutable object, or all it has, and its size in bytes.

        One request, except on Azure, which cannot be asked for a tail and takes two. Raises `ObjectNotFound`.
        """

    def get_tails(self, wanted: Sequence[tuple[str, int]]) -> Tails:
        """`get_tail` for every (key, length), in their order; in parallel where remote."""
        return [self.get_tail(key, length) for key, length in wanted]

    @abstractmethod
    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Pieces:
        """`get_range` for every (start, length) of one object, in their order; in parallel where remote."""

    @abstractmethod
    def list(self, prefix: str, after: str | None = None) -> Iterator[ObjectInfo]:
        """Every object whose key begins with `prefix` and sorts after `after`, in order of code points.

        Streams: it holds one page of a remote listing, or the names of one directory, at a time. An object
        written or deleted meanwhile may be in it or not.
        """

    @abstractmethod
    def put(self, key: str, data: bytes | Iterable[bytes]) -> None:
        """Write an immutable object; it appears whole, and durable, or not at all.

        An iterable is streamed, and held in memory only by `memory:`; if it raises, nothing appears.
        """

    @abstractmethod
    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version:
        """Write an object that must not exist yet; returns its version.

        Raises `AlreadyExistsError` if it does, `UndecidedWriteError` if that could not be learned in time.
        """

    @abstractmethod
    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        """Write an object over the version that was read; returns its new version.

        `NO_VERSION` comes back when the write landed and has been overwritten since. Raises
        `StaleVersionError` if another version is there, `ObjectNotFound` if none is, `UndecidedWriteError` if
        that could not be learned in time.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine."""

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove objects, in as few requests as the store allows; if it raises, some may be gone."""
        for key in keys:
            self.delete(key)

    def delete_once(self, key: str) -> None:
        """Remove an object with one request that is never repeated; if it raises, it may yet be carried out."""
        self.delete(key)

    def afresh(self) -> Bucket:
        """The same objects for somebody who relies on nothing that was opened before; not to be closed."""
        return self

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections. No other call may follow."""


def check_key(key: str) -> None:
    """Refuse a key that could climb out of a directory or that some store could not hold.

    A key is one or more names joined by `/`; a name is not empty and does not begin with a dot. Raises
    `InvalidRequestError`.
    """
    if not key or "/." in key or "//" in key or key[0] in "./" or key[-1] == "/" or "\0" in key:
        raise InvalidRequestError(
            f"{key!r} cannot be a key: join names with single '/', none empty or beginning with '.'"
        )


def check_range(start: int, length: int) -> None:
    """Refuse a range that begins before the object or has a negative length."""
    if start < 0 or length < 0:
        raise InvalidRequestError(f"bytes {start}+{length} are no range: both count up from 0")
