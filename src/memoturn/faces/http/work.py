"""What is done for a call on a thread: the credential is looked at again, the work is done, the answer is written."""

from __future__ import annotations

from typing import Final, NamedTuple

from memoturn.base.errors import (
    DatabaseNotFoundError,
    InternalError,
    InvalidRequestError,
    MemoturnError,
    UnavailableError,
    UndecidedWriteError,
)
from memoturn.base.txids import TXID
from memoturn.base.unshipped import Unshipped, telling
from memoturn.faces.http import logs
from memoturn.faces.http.access import check_life
from memoturn.faces.http.call import Answer, Call, Stream
from memoturn.faces.http.handlers import AT_HAND, HANDLERS
from memoturn.faces.wire import answers, headers
from memoturn.faces.wire.errors import body_of
from memoturn.faces.wire.routes import JSON
from memoturn.operations import positions, transfer

_JSON: Final = (b"content-type", JSON.encode())
_TXID: Final = headers.TXID.encode()
_CONSISTENCIES: Final = ("primary", "cached")
_DURABILITIES: Final = ("standard", "durable")
_NOT_AT_HAND: Final = frozenset((headers.CONSISTENCY, headers.DURABILITY, headers.MIN_TXID))


class Sent(NamedTuple):
    """An answer as it goes out.

    `done` is what would have been answered if what was done had also become durable; `unshipped` is that.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes | Stream
    done: Sent | None = None
    unshipped: Unshipped | None = None
    code: str | None = None
    """That of the error, if it is one."""


class Behind(NamedTuple):
    """The branch has not come as far as the caller wants."""

    txid: int
    wanted: int

    def error(self, waited: float) -> MemoturnError:
        """What is answered when waiting has not helped."""
        error = UnavailableError(
            f"the branch is at txid {self.txid} after {waited:g} seconds, and {self.wanted} was asked for "
            f"(Memoturn-Min-Txid); try again"
        )
        error.txid = self.txid  # type: ignore[attr-defined]
        return error


def perform(call: Call) -> Sent | Behind:
    """Do what is asked. Never raises."""
    try:
        if call.who.db is not None:
            check_life(call.engine, call.who)
        if call.refusal is not None:
            raise call.refusal
        behind = _prepare(call) if call.headers else None
        if behind is not None:
            return behind
        handler = HANDLERS[call.route.name]
        if not _is_to_be_durable(call):
            return _encoded(call, handler(call))
        with Unshipped() as unshipped:
            answer = handler(call)
        return _durable(call, answer, unshipped)
    except MemoturnError as error:
        return failed(call, error)
    except BaseException as error:
        if call.deadline.is_over(call.engine.clock.monotonic()):
            # What is stopped within the engine may surface as anything.
            return failed(call, call.deadline.error())
        return failed(call, _unforeseen(error))


def at_hand(call: Call) -> Sent | None:
    """The answer, if a few pages in memory tell it: that takes less time than handing the call to a thread.

    Whatever else there is to say is left to `perform`.
    """
    handler = AT_HAND.get(call.route.name)
    if handler is None or call.refusal is not None or not _NOT_AT_HAND.isdisjoint(call.headers):
        return None
    try:
        address = call.at
        seen = None if address.position else call.engine.at_hand(address.database, address.branch)
        if seen is None or (call.who.db is not None and call.who.life != seen.entry.life):
            return None
        answer = handler(call, seen)
        return None if answer is None else _encoded(call, answer)
    except Exception:
        return None


def vouch(call: Call) -> Sent | None:
    """The answer to a token that is void by now; None if it is good."""
    try:
        check_life(call.engine, call.who)
    except MemoturnError as error:
        return failed(call, error)
    return None


def _prepare(call: Call) -> Behind | None:
    """Do what the headers ask for before the work begins."""
    given = call.headers
    durability = given.get(headers.DURABILITY)
    if durability is not None and durability not in _DURABILITIES:
        raise InvalidRequestError(f"Memoturn-Durability {durability!r} is unknown; it is standard or durable")
    if call.address is None:
        return None
    consistency = given.get(headers.CONSISTENCY)
    if consistency is not None:
        if consistency not in _CONSISTENCIES:
            raise InvalidRequestError(
                f"Memoturn-Consistency {consistency!r} is unknown; it is primary or cached"
            )
        if consistency == "primary":
            positions.look_again(call.engine, call.address)
    text = given.get(headers.MIN_TXID)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise InvalidRequestError(f"Memoturn-Min-Txid {text!r} is no txid; give a whole number")
    wanted, head = int(text), _head_to_wait_for(call)
    return Behind(head, wanted) if head < wanted else None


def _head_to_wait_for(call: Call) -> TXID:
    """The head of the branch; 0 for a profile that is not there, which is an empty one.

    Raises what reading it would raise: nobody waits for what is not there.
    """
    try:
        return transfer.txid(call.engine, call.at._replace(position=None))
    except DatabaseNotFoundError:
        if call.route.about == "profile":
            return TXID(0)
        raise


def _is_to_be_durable(call: Call) -> bool:
    return (
        call.headers.get(headers.DURABILITY) == "durable"
        or call.engine.settings.commit.durability == "durable"
    )


def _durable(call: Call, answer: Answer, unshipped: Unshipped) -> Sent:
    """The answer in bytes, after what was done has been made durable."""
    sent = _encoded(call, answer)
    try:
        unshipped.ship()
    except UnavailableError as error:
        failure = failed(call, error)
        if headers.IDEMPOTENCY_KEY not in call.headers:
            # Nobody should be told to try again what would then be done twice.
            failure = failure._replace(headers=[one for one in failure.headers if one[0] != b"retry-after"])
        return failure._replace(done=sent, unshipped=unshipped)
    return sent


def harden(call: Call, unshipped: Unshipped | None) -> Sent | None:
    """Bring to the store what was done for an earlier call like this one; the answer if that fails."""
    try:
        if unshipped is not None:
            unshipped.ship()
        if call.headers.get(headers.DURABILITY) == "durable" and call.address is not None:
            with telling():
                transfer.sync(call.engine, call.at._replace(position=None))
    except MemoturnError as error:
        return failed(call, error)
    return None


def _encoded(call: Call, answer: Answer) -> Sent:
    status, result = answer.status or call.route.status, answer.result
    body: bytes | Stream
    if answer.media is not None:
        body, kind = result, (b"content-type", answer.media.encode())
    elif result is None:
        body, kind = b"", None
        status = 204 if status == 200 else status
    else:
        body, kind = answers.encode(result), _JSON
    found = [] if kind is None else [kind]
    txid = answer.txid
    if txid is None and call.address is not None:
        txid = head_of(call)
    if txid is not None:
        found.append((_TXID, b"%d" % txid))
    found += [(name.encode(), value.encode("latin-1")) for name, value in answer.headers]
    if isinstance(body, Stream):
        if body.length is not None:
            found.append((b"content-length", b"%d" % body.length))
    elif status != 204 and status != 304:
        found.append((b"content-length", b"%d" % len(body)))
    return Sent(status, found, body)


def failed(call: Call, error: MemoturnError) -> Sent:
    """The answer to what went wrong, with the head of the branch if there is one."""
    if error.status == 500:
        logs.request_id.set(call.request_id)
        logs.fault(error)
    txid = None if call.address is None else _head_or_zero(call, error)
    return refused(error, txid)


def refused(error: MemoturnError, txid: int | None) -> Sent:
    """An error as an answer."""
    said = body_of(error)
    body = answers.encode(said)
    found = [_JSON, (b"content-length", b"%d" % len(body))]
    if txid is not None:
        found.append((_TXID, b"%d" % txid))
    if said.retry_after is not None:
        found.append((b"retry-after", b"%d" % max(1, -int(-said.retry_after // 1))))
    elif error.code == UnavailableError.code and not isinstance(error, UndecidedWriteError):
        # What may yet take effect is nothing to be told to do again.
        found.append((b"retry-after", b"1"))
    if error.status == 401:
        found.append((b"www-authenticate", b"Bearer"))
    return Sent(error.status, found, body, code=error.code)


def head_of(call: Call) -> TXID:
    """The head of the branch that is addressed, or of the database's default branch; 0 where there is none."""
    return _head_or_zero(call, None)


def _head_or_zero(call: Call, error: MemoturnError | None) -> TXID:
    if error is not None and error.status in (401, 403):
        return TXID(0)
    if call.refusal is not None:
        return TXID(0)
    try:
        return transfer.txid(call.engine, call.at._replace(position=None))
    except MemoturnError:
        return TXID(0)


def _unforeseen(error: BaseException) -> InternalError:
    internal = InternalError(type(error).__name__)
    internal.__cause__ = error
    return internal
