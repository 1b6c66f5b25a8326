"""A conditional write is decided by what is in the store, never by what an error said.

The answer to a write can be lost after the write has landed. Who then sends it again blindly is refused by
his own write and takes it for somebody else's; who gives up tells his caller that nothing happened. So after
every error the object is read back, and only these end the matter:

    the write was answered with a version                      it landed
    the body there is ours, or was written after ours          it landed
    another version is there, and ours is not part of it       it is refused
    replace: the store refused it and nothing is there         the object is gone

Anything else is sent again, with the same body and the same version, which is safe: whichever copy lands
first makes every later one fail its condition. In particular, *nothing there* never ends a create: the write
may still be on its way. What is not decided by the deadline is reported as undecided.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple, Protocol

from memoturn.base.clock import Clock
from memoturn.base.errors import (
    AlreadyExistsError,
    MemoturnError,
    UnavailableError,
    UnconfiguredError,
    UndecidedWriteError,
    UnsuitableStoreError,
)
from memoturn.base.ids import Ids
from memoturn.bucket.bucket import (
    NO_VERSION,
    Landed,
    LandedCheck,
    ObjectNotFound,
    StaleVersionError,
    Version,
)
from memoturn.bucket.settings import BucketSettings


class ConditionalStore(Protocol):
    """What the loop needs of a store: one read, and one attempt that is never repeated underneath."""

    def get(self, key: str) -> tuple[bytes, Version]:
        """The object. Raises `ObjectNotFound`, or another error if that could not be learned."""

    def attempt(self, key: str, body: bytes, expected: Version | None) -> Version:
        """Write once if the object has the expected version, or, for `None`, if there is none.

        `AlreadyExistsError` and `StaleVersionError` say that the store refused, `ObjectNotFound` that it
        found no object; `UnavailableError` and `UnconfiguredError` say that the outcome is unknown.
        """


class Answer(Enum):
    """What an attempt that was not answered with a version was answered with."""

    REFUSED = "refused"
    GONE = "gone"
    UNKNOWN = "unknown"


class Unread(Enum):
    """Why a read-back has no object to show."""

    MISSING = "missing"
    FAILED = "failed"


class Seen(NamedTuple):
    """The object that a read-back found."""

    body: bytes
    version: Version


class Outcome(Enum):
    """What an attempt and the read-back after it amount to."""

    LANDED = "landed"
    LANDED_AND_OVERWRITTEN = "landed and overwritten"
    REFUSED = "refused"
    GONE = "gone"
    SEND_AGAIN = "send again"
    UNDECIDABLE = "undecidable"


def decide(
    body: bytes, expected: Version | None, answer: Answer, seen: Seen | Unread, landed: LandedCheck | None
) -> Outcome:
    """Judge one failed attempt by the read-back that followed it."""
    if seen is Unread.FAILED:
        return Outcome.SEND_AGAIN
    if isinstance(seen, Unread):
        # A store that has looked at the condition and found no object, and still shows none, has none: only a
        # create could bring one, and keys are not created again.
        final = expected is not None and answer is not Answer.UNKNOWN
        return Outcome.GONE if final else Outcome.SEND_AGAIN

    if seen.body == body:
        return Outcome.LANDED
    if expected is not None and seen.version == expected:
        return Outcome.SEND_AGAIN

    whose = landed(seen.body) if landed is not None else Landed.NOT_OURS
    if whose is Landed.OURS:
        return Outcome.LANDED_AND_OVERWRITTEN
    return Outcome.REFUSED if whose is Landed.NOT_OURS else Outcome.UNDECIDABLE


class ConditionalWriter:
    """`create` and `replace` over a store whose answers may be lost, late or wrong."""

    def __init__(
        self, store: ConditionalStore, *, clock: Clock, ids: Ids, settings: BucketSettings | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._settings = settings or BucketSettings()

    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version:
        """See `Bucket.create`."""
        return self._write(
            key, body, None, landed, lambda: AlreadyExistsError(f"an object {key!r} exists already")
        )

    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        """See `Bucket.replace`."""
        return self._write(
            key,
            body,
            version,
            landed,
            lambda: StaleVersionError(f"the object {key!r} has been written since it was read"),
        )

    def _write(
        self,
        key: str,
        body: bytes,
        expected: Version | None,
        landed: LandedCheck | None,
        refusal: Callable[[], MemoturnError],
    ) -> Version:
        if expected == NO_VERSION:
            # A store would take a condition without a version for none at all.
            self._store.get(key)
            raise refusal()

        deadline = self._clock.monotonic() + self._settings.decide_s
        attempts = 0
        while True:
            try:
                version = self._store.attempt(key, body, expected)
                if version != NO_VERSION:
                    return version
                answer, reason = Answer.UNKNOWN, "the store gave no version"
            except (AlreadyExistsError, StaleVersionError) as error:
                answer, reason = Answer.REFUSED, str(error)
            except ObjectNotFound as error:
                answer, reason = Answer.GONE, str(error)
            except UnsuitableStoreError:
                # The client library cannot even say it: nothing was sent.
                raise
            except (UnavailableError, UnconfiguredError) as error:
                answer, reason = Answer.UNKNOWN, str(error)

            seen = self._read_back(key)
            outcome = decide(body, expected, answer, seen, landed)
            if outcome is Outcome.LANDED and isinstance(seen, Seen):
                return seen.version
            if outcome is Outcome.LANDED_AND_OVERWRITTEN:
                return NO_VERSION
            if outcome is Outcome.REFUSED:
                raise refusal()
            if outcome is Outcome.GONE:
                raise ObjectNotFound(f"the object {key!r} is gone")

            pause = self._pause(attempts)
            attempts += 1
            if outcome is Outcome.UNDECIDABLE or self._clock.monotonic() + pause > deadline:
                raise UndecidedWriteError(
                    f"the outcome of a write of {key!r} could not be learned after {attempts} attempts; "
                    f"it may yet take effect: {reason}"
                )
            self._clock.sleep(pause)

    def _read_back(self, key: str) -> Seen | Unread:
        try:
            return Seen(*self._store.get(key))
        except ObjectNotFound:
            return Unread.MISSING
        except (UnavailableError, UnconfiguredError):
            return Unread.FAILED

    def _pause(self, attempts: int) -> float:
        """Exponential, and half of it random, so that writers that met do not meet again."""
        longest = min(self._settings.first_pause_s * 2.0 ** min(attempts, 30), self._settings.longest_pause_s)
        return longest * (0.5 + self._ids.number(16) / 0x20000)
