"""A call: what is sent to a server, and what its answer means. Nothing here sends anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from memoturn.base.errors import InvalidRequestError, MemoturnError, UnavailableError
from memoturn.base.names import Address
from memoturn.faces.wire import answers, headers
from memoturn.faces.wire.errors import error_of
from memoturn.faces.wire.paths import path_of
from memoturn.faces.wire.requests import Body
from memoturn.faces.wire.routes import BY_NAME, JSON, Route

T = TypeVar("T")

Read = Callable[["Reply"], T]
"""What an answer of the server means."""

_encode: Final = msgspec.json.Encoder().encode
_NOT_FOUND: Final = "not_found"


class Reply(NamedTuple):
    """What a server has answered. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Call(Generic[T]):
    """One request, and how its answer is read.

    `keyed` calls are sent with a fresh `Idempotency-Key`, the same at every attempt: so that a server which has
    obeyed a lost one gives its answer again, and does nothing twice. `natural` is whether a second time does no more
    than the first, and answers the same. What is to be sent `once` has a body that is gone when it was sent.
    """

    __slots__ = ("body", "headers", "keyed", "long", "method", "missing", "natural", "once", "read", "target")

    def __init__(
        self,
        route: Route,
        names: Mapping[str, str],
        read: Read[T],
        query: Mapping[str, Any],
        sent: dict[str, str],
        body: bytes | None,
        keyed: bool,
        missing: bool,
        natural: bool,
        once: bool,
    ) -> None:
        self.method = route.method
        self.target = path_of(route, names) + _query(query)
        self.headers = sent
        self.body = body
        self.read = read
        self.keyed = keyed
        self.natural = natural
        self.once = once
        self.long = route.long
        self.missing = missing

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again when nobody knows whether it was obeyed."""
        return (self.keyed or self.natural) and not self.once

    def result(self, reply: Reply) -> T:
        """What the answer means. Raises the error that it stands for, and `UnavailableError` if it makes no sense."""
        if 200 <= reply.status < 300:
            try:
                return self.read(reply)
            except (msgspec.MsgspecError, LookupError, ValueError) as error:
                raise UnavailableError(
                    f"{self.method} {self.target} was answered {reply.status}, and not as Memoturn does: {error}"
                ) from error
        refused = failure(reply)
        if self.missing and refused.code == _NOT_FOUND:
            return None  # type: ignore[return-value]
        raise refused


def call(
    name: str,
    names: Mapping[str, str],
    read: Read[T],
    *,
    at: Address | None = None,
    query: Mapping[str, Any] | None = None,
    body: Body | bytes | None = None,
    sent: dict[str, str] | None = None,
    keyed: bool | None = None,
    missing: bool = False,
    natural: bool | None = None,
    once: bool = False,
) -> Call[T]:
    """A call of a route.

    `at` is told in headers, where the path does not. A call that writes is `keyed` unless it says otherwise, where
    its route takes a key. With `missing` an answer that there is no such thing means None. It is
    `natural` if its route is repeatable, unless it says otherwise.
    """
    route = BY_NAME[name]
    given = {} if sent is None else sent
    if at is not None:
        given |= _place(at)
    if isinstance(body, Struct):
        body, given["content-type"] = _encode(body), JSON
    elif body is not None:
        given.setdefault("content-type", str(route.body))
    if keyed is None:
        keyed = route.need != "read" and headers.IDEMPOTENCY_KEY in route.headers
    if natural is None:
        natural = route.repeatable and not keyed
    return Call(route, names, read, query or {}, given, body, keyed, missing, natural, once)


def data(
    name: str, address: Address, read: Read[T], names: Mapping[str, str] | None = None, **more: Any
) -> Call[T]:
    """A call about what lies in a database; one that writes is refused for a position in the past."""
    route = BY_NAME[name]
    if route.need != "read":
        address = writable(address)
    path = address.database if address.branch is None else f"{address.database}@{address.branch}"
    position = address._replace(branch=None)
    return call(name, {"db": path, **(names or {})}, read, at=position, **more)


def writable(address: Address) -> Address:
    """The address itself, if it can be written to."""
    if address.position is not None:
        raise InvalidRequestError(
            f"{address} is a position in the past, which is read-only; fork a branch from it to write"
        )
    return address


def failure(reply: Reply) -> MemoturnError:
    """The error that an answer stands for."""
    return error_of(reply.status, reply.body)


def as_type(kind: type[T]) -> Read[T]:
    """Reads a result of a kind."""
    shape = answers.SHAPES.get(kind)
    if shape is None:
        decode = msgspec.json.Decoder(kind).decode
        return lambda reply: decode(reply.body)
    shaped, of = msgspec.json.Decoder(shape.wire).decode, shape.of
    return lambda reply: of(shaped(reply.body))


def field(kind: type[Any], name: str) -> Read[Any]:
    """Reads one field of an answer."""
    decode = msgspec.json.Decoder(kind).decode
    return lambda reply: getattr(decode(reply.body), name)


def nothing(reply: Reply) -> None:
    """Reads an answer that says only that it was done."""


def content(reply: Reply) -> bytes:
    """Reads the body as it is."""
    return reply.body


def _place(address: Address) -> dict[str, str]:
    found = {}
    if address.branch is not None:
        found[headers.BRANCH] = address.branch
    if address.position is not None:
        found[headers.AT] = str(address.position)
        if address.exact:
            found[headers.EXACT] = "true"
    return found


def _query(given: Mapping[str, Any]) -> str:
    if not given:
        return ""
    try:
        text = urlencode([(name, _word(value)) for name, value in given.items() if value is not None])
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"what is asked for has to be Unicode text: {error}") from None
    return f"?{text}" if text else ""


def _word(value: Any) -> str:
    if value is True or value is False:
        return "true" if value else "false"
    return str(value)
