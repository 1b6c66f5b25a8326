"""One request as operations need it: what its path names, its query, its headers, its body; and its answer."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl

import msgspec

from memoturn.base.deadline import Deadline
from memoturn.base.embedding import Embedder
from memoturn.base.errors import InvalidRequestError, MemoturnError
from memoturn.base.names import Address, check_name, parse_address, parse_position, profile_address
from memoturn.base.settings import ServerSettings
from memoturn.faces.http.metrics import Metrics, Requests
from memoturn.faces.http.tokens import PLATFORM, Tokens
from memoturn.faces.http.traces import NO_TRACER, Tracer
from memoturn.faces.wire import headers
from memoturn.faces.wire.routes import DEFAULT_BRANCH, Query, Route
from memoturn.node.engine import Engine

T = TypeVar("T", bound=msgspec.Struct)
_TRUE: Final = ("true", "1", "yes", "on", "")
_FALSE: Final = ("false", "0", "no", "off")
_MAX_FIELDS: Final = 100
_KNOWN: Final = {
    name.encode(): name
    for name in (
        headers.AUTHORIZATION,
        headers.BRANCH,
        headers.AT,
        headers.EXACT,
        headers.MIN_TXID,
        headers.CONSISTENCY,
        headers.DURABILITY,
        headers.IDEMPOTENCY_KEY,
        headers.FIRST_TRY,
        headers.IF_MATCH,
        headers.IF_NONE_MATCH,
        headers.META,
        "content-length",
        "content-type",
        "content-encoding",
        "host",
        "origin",
        "sec-fetch-site",
    )
}


@dataclass(frozen=True, slots=True)
class Context:
    """What all calls have in common. Without `tokens` there is no authentication."""

    engine: Engine
    settings: ServerSettings
    spool: Path
    """Where bodies lie that are too large for memory."""
    embedder: Embedder | None = None
    tokens: Tokens | None = None
    requests: Requests = field(default_factory=Requests)
    metrics: Metrics | None = None
    tracer: Tracer = NO_TRACER


class Call:
    """One request. `body` are the bytes that came, or `spooled` the file that holds them."""

    __slots__ = (
        "_fields",
        "address",
        "body",
        "context",
        "deadline",
        "digest",
        "engine",
        "headers",
        "names",
        "pending",
        "query",
        "refusal",
        "request_id",
        "route",
        "spooled",
        "who",
    )

    def __init__(self, context: Context, route: Route, names: dict[str, str], query: bytes) -> None:
        self.context = context
        self.engine = context.engine
        self.route = route
        self.names = names
        self.headers: dict[str, str] = {}
        self.query = query
        self.body: bytes | bytearray = b""
        self.spooled: Path | None = None
        self.digest = b""
        """Of the file's content."""
        self.who = PLATFORM
        self.refusal: MemoturnError | None = None
        """Why the caller may not do this; told once it is known that the credential is valid at all."""
        self.deadline = Deadline()
        self.request_id = ""
        self.pending: Future[Any] | None = None
        """The work for it that a thread has."""
        self._fields: dict[str, str] | None = None
        self.address: Address | None = None

    def locate(self) -> None:
        """Find out which database, branch and position are meant. Raises `InvalidRequestError`."""
        names, given = self.names, self.headers
        about = self.route.about
        if about == "profile":
            self.address = _of_profile(
                names["ns"], names["profile"], given.get(headers.BRANCH), given.get(headers.AT), _exact(given)
            )
        elif about == "database" and self.route.plane == "data":
            self.address = _of_data(
                names["db"], given.get(headers.BRANCH), given.get(headers.AT), _exact(given)
            )
        elif self.route.name == "databases.export":
            branch, at = (
                given.get(headers.BRANCH) or self.ask("branch"),
                given.get(headers.AT) or self.ask("at"),
            )
            self.address = _of_data(names["db"], branch, at, _exact(given) or self.ask("exact"))
        elif about == "database" and "db" in names:
            branch = names.get("branch")
            self.address = Address(
                check_name("database", names["db"]),
                None if branch in (None, DEFAULT_BRANCH) else check_name("branch", branch),
                None,
            )

    @property
    def may_write(self) -> bool:
        """Whether the caller's scope lets it change anything."""
        return self.who.scope != "read"

    @property
    def at(self) -> Address:
        """What the path and the headers address."""
        assert self.address is not None
        return self.address

    @property
    def database(self) -> str:
        """The database that the path names."""
        return self.at.database

    def read(self, kind: type[T]) -> T:
        """The body as JSON of a kind. Raises `InvalidRequestError`."""
        if not self.body:
            if not self.route.optional_body:
                raise InvalidRequestError(f"{self.route.key} takes a body of JSON, and none came")
            return kind()
        return decode(kind, self.body)

    def ask(self, name: str) -> Any:
        """A parameter of the query string, as the route declares it. Raises `InvalidRequestError`."""
        if self._fields is None:
            self._fields = _fields(self.route, self.query)
        query = _declared(self.route)[name]
        text = self._fields.get(name)
        if text is None:
            if query.required:
                raise InvalidRequestError(f"{self.route.key} needs ?{name}=…: {query.says}")
            return query.default
        return _parsed(query, text)

    def progress(self, _done: int, _all: int) -> None:
        """Called by long work from time to time. Raises `RequestTimeoutError` when it is to stop."""
        if self.deadline.is_over(self.engine.clock.monotonic()):
            raise self.deadline.error()

    def limit(self, name: str, given: int | None = None) -> int:
        """A limit of the query string, or the one given, clamped."""
        wanted = self.ask(name) if given is None else given
        return min(wanted, self.context.settings.results) if type(wanted) is int else wanted


class Stream(NamedTuple):
    """A body that comes piece by piece, each made on a thread; `length` is that of all of them, if it is known."""

    pieces: Iterator[bytes]
    length: int | None = None


class Answer(NamedTuple):
    """What a call is answered: a result to be encoded, or bytes, or None for no content.

    `txid` is the position that was read or the head after a write; None if it is to be looked up.
    """

    result: Any
    txid: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    status: int | None = None
    media: str | None = None


def headers_of(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that mean something here. Raises `InvalidRequestError` if one comes twice and differs."""
    found: dict[str, str] = {}
    for name, value in raw:
        known = _KNOWN.get(name)
        if known is not None:
            text = value.decode("latin-1")
            if found.setdefault(known, text) != text:
                raise InvalidRequestError(f"the header {known} came twice, with two values")
    return found


def decode(kind: type[T], body: bytes | bytearray) -> T:
    """JSON of a kind. Raises `InvalidRequestError`, which says where it is something else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"the body is not what {kind.__name__} takes: {error}") from None
    except RecursionError:
        raise InvalidRequestError("the body is nested too deeply") from None


@lru_cache(4096)
def _of_data(text: str, branch: str | None, at: str | None, exact: bool) -> Address:
    return _merged(parse_address(text), text, branch, at, exact)


@lru_cache(4096)
def _of_profile(ns: str, text: str, branch: str | None, at: str | None, exact: bool) -> Address:
    profile, sign, rest = text.partition("@")
    address = profile_address(ns, profile)
    if sign:
        address = parse_address(f"{address.database}@{rest}")
    return _merged(address, text, branch, at, exact)


def _merged(address: Address, text: str, branch: str | None, at: str | None, exact: bool) -> Address:
    """The address of the path with what the headers add to it; they may repeat it, and not contradict it."""
    if branch is not None:
        check_name("branch", branch)
        if address.branch not in (None, branch):
            raise InvalidRequestError(
                f"the path names {text!r} and Memoturn-Branch {branch!r}; name one branch"
            )
    position = None if at is None else parse_position(at)
    if position is not None and address.position not in (None, position):
        raise InvalidRequestError(f"the path names {text!r} and Memoturn-At {at!r}; name one position")
    return Address(address.database, address.branch or branch, address.position or position, exact)


def _exact(given: Mapping[str, str]) -> bool:
    text = given.get(headers.EXACT)
    return False if text is None else _boolean(f"the header {headers.EXACT}", text)


def _boolean(what: str, text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise InvalidRequestError(f"{what} is true or false, not {text!r}")


@lru_cache
def _declared(route: Route) -> dict[str, Query]:
    return {query.name: query for query in route.query}


def _fields(route: Route, query: bytes) -> dict[str, str]:
    """The parameters of a query string. Raises `InvalidRequestError` for what the route does not know."""
    if not query:
        return {}
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except ValueError as error:
        raise InvalidRequestError(f"the query string cannot be read: {error}") from None
    declared, found = _declared(route), dict[str, str]()
    for name, value in pairs:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise InvalidRequestError(f"{route.key} knows no parameter {name!r}; it knows {known}")
        if found.setdefault(name, value) != value:
            raise InvalidRequestError(f"the parameter {name} came twice, with two values")
    return found


def _parsed(query: Query, text: str) -> str | int | float | bool:
    if query.kind is bool:
        return _boolean(f"?{query.name}=", text)
    if query.kind is str:
        return text
    try:
        if not text.isascii() or len(text) > 40 or "_" in text:
            raise ValueError
        number = query.kind(text)
    except ValueError:
        raise InvalidRequestError(f"?{query.name}={text} is no {query.kind.__name__}: {query.says}") from None
    return number
