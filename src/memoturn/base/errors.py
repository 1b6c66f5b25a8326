"""Every error that a caller can meet, grouped by what the caller does next.

`.code` is stable and enough to act on; `.status` is its HTTP status; the message says what was wrong, with
the value, and what would work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class MemoturnError(Exception):
    """Base of all errors raised by Memoturn."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500


# The request has to change.


class InvalidRequestError(MemoturnError):
    """The request is malformed, or asks for something that is never allowed."""

    code = "invalid_request"
    status = 400


class SqlError(InvalidRequestError):
    """SQLite refused the statement; it has changed nothing, unless the message says that rows were kept."""


class PayloadTooLargeError(MemoturnError):
    """The request, its answer, or the memory that it takes is larger than a limit allows."""

    code = "payload_too_large"
    status = 413


class UnauthorizedError(MemoturnError):
    """No valid credential came with the request."""

    code = "unauthorized"
    status = 401


class ForbiddenError(MemoturnError):
    """The credential does not reach that far."""

    code = "forbidden"
    status = 403


# The thing is not there.


class NotFoundError(MemoturnError):
    """Something that was named does not exist."""

    code = "not_found"
    status = 404


class DatabaseNotFoundError(NotFoundError):
    """No database has that name."""

    code = "database_not_found"


class BranchNotFoundError(NotFoundError):
    """The database has no branch of that name."""

    code = "branch_not_found"


class CheckpointNotFoundError(NotFoundError):
    """The branch has no checkpoint of that name."""

    code = "checkpoint_not_found"


class BranchExpiredError(MemoturnError):
    """The branch had a time to live, and it has passed."""

    code = "branch_expired"
    status = 410


class TxidNotRetainedError(MemoturnError):
    """The position is outside the retained history; `nearest` holds the txids that would work."""

    code = "txid_not_retained"
    status = 410

    def __init__(self, message: str, nearest: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.nearest = tuple(nearest)


# Somebody else was there first: look again, then decide.


class AlreadyExistsError(MemoturnError):
    """The name is taken."""

    code = "already_exists"
    status = 409


class ConflictError(MemoturnError):
    """The state of the thing does not allow the request."""

    code = "conflict"
    status = 409


class NameBeingFreedError(ConflictError):
    """The name belongs to a deleted branch whose last trace is just being removed; it can be taken right after."""


class FencedError(ConflictError):
    """Another writer has taken the branch over; nothing more was acknowledged here."""


# The same request may work later.


class OverloadedError(MemoturnError):
    """Too much work is waiting; `retry_after` seconds is a good time to try again."""

    code = "overloaded"
    status = 429

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestTimeoutError(MemoturnError):
    """The work took longer than the request allows; it was stopped and has changed nothing."""

    code = "request_timeout"
    status = 408


class UnavailableError(MemoturnError):
    """A store, a disk or another process did not answer as it should; try again."""

    code = "unavailable"
    status = 503


class SegmentGoneError(UnavailableError):
    """What was being read was removed meanwhile, for nothing retained needs it; a new look finds its successor."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"{key} is gone: it was merged, cut or deleted longer than a grace period ago; try again"
        )
        self.key = key

    def after_looking(self, seconds: float, grace: float) -> MemoturnError:
        """What it is after a new look, so many seconds ago, has found no successor: damage.

        Unless the look was so long ago that what it found may have been removed since.
        """
        return self if seconds >= grace else self.as_damage()

    def as_damage(self) -> CorruptError:
        """What it is if there is no successor."""
        return CorruptError(
            f"{self.key} is missing, though it is still needed; bring it back from a replica or an earlier version "
            "of the bucket"
        )


class BusyError(UnavailableError):
    """Another process is writing the branch and did not hand it over in time."""


class UndecidedWriteError(UnavailableError):
    """A conditional write was sent and its outcome could not be learned; it may yet take effect."""


# The installation has to change.


class UnconfiguredError(MemoturnError):
    """A feature was asked for whose settings are missing or unsafe."""

    code = "unconfigured"
    status = 503


class UnsuitableStoreError(UnconfiguredError):
    """The object store breaks a rule that Memoturn's safety stands on."""


# Something is broken, and it is not the caller's fault.


class InternalError(MemoturnError):
    """A fault in Memoturn."""


class CorruptError(InternalError):
    """Stored bytes do not match their checksum or their format; nothing was guessed."""


class ClosedError(MemoturnError):
    """The client, database or view was closed before the call."""

    code = "invalid_request"
    status = 400
