"""Reading a model's tables at an address: whatever reads there gets a connection on the view, and tells the txid."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from memoturn.base.errors import InvalidRequestError, SegmentGoneError
from memoturn.base.names import Address
from memoturn.base.txids import TXID
from memoturn.models.reserved import Connection
from memoturn.node.engine import Engine
from memoturn.operations.positions import view_of

T = TypeVar("T")
STAMP_BITS: Final = 63

MAX_LIMIT: Final = 1000


def again(engine: Engine, address: Address, work: Callable[[], T]) -> T:
    """Do what only reads; once more, on views opened anew, if a segment was removed under it.

    Raises `CorruptError` if one is missing that is still needed.
    """
    return again_at(engine, (address,), work)


def again_at(engine: Engine, addresses: Iterable[Address], work: Callable[[], T]) -> T:
    """The same for what reads at several addresses."""
    try:
        return work()
    except SegmentGoneError:
        looked_at = engine.clock.monotonic()
        try:
            for address in addresses:
                engine.branch(address.database, address.branch).renew()
            return work()
        except SegmentGoneError as error:
            grace = engine.settings.history.gc_grace_secs
            raise error.after_looking(engine.clock.monotonic() - looked_at, grace) from error


def read(engine: Engine, address: Address, work: Callable[[Connection], T]) -> tuple[T, TXID]:
    """What `work` makes of a connection on the view that the address stands for, and the view's txid.

    `work` may be called twice. Raises what it and finding the view raise.
    """
    try:
        return _read(engine, address, work)
    except SegmentGoneError:
        return again(engine, address, lambda: _read(engine, address, work))


def _read(engine: Engine, address: Address, work: Callable[[Connection], T]) -> tuple[T, TXID]:
    if address.position is None:
        branch, view = engine.at_head(address.database, address.branch)
    else:
        branch, view = view_of(engine, address)
    readers = branch.readers
    reader = readers.take(view)
    try:
        result = work(reader.connection)
    except InvalidRequestError:
        readers.give_back(reader)
        raise
    except BaseException:
        reader.close()
        raise
    readers.give_back(reader)
    return result, view.txid


def clamped(what: str, limit: int) -> int:
    """A limit as it is kept to: at most a thousand. Raises `InvalidRequestError` for what is no limit."""
    if type(limit) is not int or limit < 1:
        raise InvalidRequestError(f"{what} {limit!r} is not possible; give 1 to {MAX_LIMIT:,}")
    return min(limit, MAX_LIMIT)


def stamps_of(engine: Engine) -> Callable[[], int]:
    """What draws stamps for the blocks of memories and turns."""
    return lambda: engine.ids.number(STAMP_BITS)
