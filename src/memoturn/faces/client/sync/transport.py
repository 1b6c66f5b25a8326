# Made from ../aio/transport.py by tools/generate_sync.py; change that, and `make client`.

"""Sends calls over pooled connections, and again where that is right; streams what is too large to hold."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

import certifi
import httpcore

from memoturn.base.clock import Clock, SystemClock
from memoturn.base.errors import ClosedError, InvalidRequestError, UnavailableError
from memoturn.base.ids import Ids
from memoturn.base.settings import Durability
from memoturn.faces.client.call import Call, Reply
from memoturn.faces.client.retries import Patience, Trouble, pause
from memoturn.faces.wire import headers

T = TypeVar("T")
Chunks = Callable[[], Iterable[bytes]]
Progress = Callable[[int, int], None]

_CONNECT: Final = 5.0
_LONG: Final = 3600.0
"""Seconds without a byte that work which may take minutes is given."""
_CONNECTIONS: Final = 100
_FRACTION_BITS: Final = 20
_NOT_SENT: Final = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout)
_TROUBLE: Final = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


class Transport:
    """One server, and the connections to it."""

    def __init__(
        self,
        url: str,
        token: str | None,
        durability: Durability | None,
        timeout: float,
        retries: int,
        clock: Clock | None,
        ids: Ids | None,
    ) -> None:
        base = urlsplit(_checked(url))
        if not 0 < timeout < 1e6:
            raise InvalidRequestError(f"a timeout of {timeout!r} is not possible; give seconds, more than 0")
        if type(retries) is not int or not 0 <= retries <= 100:
            raise InvalidRequestError(f"retries {retries!r} are not possible; give a whole number from 0 up")
        self._scheme, self._host, self._port = base.scheme.encode(), _host(base.hostname), base.port
        self._path = base.path.rstrip("/")
        self._where = f"{base.scheme}://{base.netloc}{self._path}"
        self._patience = Patience(1 + retries)
        self._clock = clock or SystemClock()
        self._ids = ids or Ids()
        self._common = {"host": base.netloc, "user-agent": "memoturn-python", "accept": "*/*"}
        if token is not None:
            self._common[headers.AUTHORIZATION] = f"Bearer {_secret(token)}"
        if durability == "durable":
            self._common[headers.DURABILITY] = durability
        elif durability not in (None, "standard"):
            raise InvalidRequestError(f"durability {durability!r} is unknown; use 'standard' or 'durable'")
        self._timeout = _timeouts(timeout)
        self._long = _timeouts(max(timeout, _LONG))
        self._closed = False
        # Proxies of the environment are not looked at: its variables are for programs and not for libraries to read.
        self._http = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(cafile=certifi.where())
            if base.scheme == "https"
            else None,
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_CONNECTIONS,
        )

    def send(self, call: Call[T], chunks: Chunks | None = None) -> T:
        """Do it; `chunks` makes a body that is too large to hold, anew for each attempt.

        Raises what the server answers, and `UnavailableError` if it cannot be reached or its answer was lost.
        """
        sent = self._headers(call)
        began = self._clock.monotonic()
        attempt, lost = 0, False
        while True:
            attempt += 1
            met: Reply | Trouble
            if lost and call.keyed:
                # A server that was started since does not know the key, and must not obey a second time.
                sent = {**sent, headers.FIRST_TRY: f"{self._clock.monotonic() - began:.3f}"}
            try:
                reply = self._attempt(call, sent, chunks)
                if 200 <= reply.status < 300:
                    return call.result(reply)
                met = reply
            except _TROUBLE as error:
                met = "not sent" if isinstance(error, _NOT_SENT) else "lost"
                lost = lost or met == "lost"
                wait = self._pause(call, met, attempt)
                if wait is None:
                    self._give_up(call, met, error)
            else:
                wait = self._pause(call, met, attempt)
                if wait is None:
                    return call.result(reply)
            self._clock.sleep(wait)

    @contextmanager
    def stream(self, call: Call[None]) -> Iterator[Streamed]:
        """The answer as it comes. Attempts are made until the first byte of it."""
        sent = self._headers(call)
        attempt = 0
        while True:
            attempt += 1
            wait: float | None
            try:
                response = self._http.handle_request(self._request(call, sent, None))
            except _TROUBLE as error:
                met: Trouble = "not sent" if isinstance(error, _NOT_SENT) else "lost"
                wait = self._pause(call, met, attempt)
                if wait is None:
                    self._give_up(call, met, error)
            else:
                try:
                    if response.status == 200:
                        yield Streamed(response)
                        return
                    reply = _whole(response)
                except _TROUBLE as error:
                    self._give_up(call, "lost", error)
                finally:
                    response.close()
                wait = self._pause(call, reply, attempt)
                if wait is None:
                    call.result(reply)
                    raise UnavailableError(
                        f"{self._where} answered {reply.status} where a stream was asked for"
                    )
            self._clock.sleep(wait)

    def close(self) -> None:
        """Let go of all connections."""
        self._closed = True
        self._http.close()

    def _attempt(self, call: Call[Any], sent: dict[str, str], chunks: Chunks | None) -> Reply:
        response = self._http.handle_request(self._request(call, sent, chunks))
        try:
            return _whole(response)
        finally:
            response.close()

    def _request(self, call: Call[Any], sent: dict[str, str], chunks: Chunks | None) -> httpcore.Request:
        if self._closed:
            raise ClosedError("the client was closed before the call")
        content: Any = call.body
        if chunks is not None:
            content = _each(chunks())
            if "content-length" not in sent:
                sent = {**sent, "transfer-encoding": "chunked"}
        elif content is not None:
            sent = {**sent, "content-length": str(len(content))}
        elif call.method != "GET":
            sent = {**sent, "content-length": "0"}
        return httpcore.Request(
            call.method,
            httpcore.URL(
                scheme=self._scheme,
                host=self._host,
                port=self._port,
                target=(self._path + call.target).encode(),
            ),
            headers=[(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
            content=content,
            extensions=self._long if call.long else self._timeout,
        )

    def _headers(self, call: Call[Any]) -> dict[str, str]:
        sent = {**self._common, **call.headers}
        if call.keyed:
            sent[headers.IDEMPOTENCY_KEY] = self._ids.token() + self._ids.token()
        return sent

    def _pause(self, call: Call[Any], met: Reply | Trouble, attempt: int) -> float | None:
        fraction = self._ids.number(_FRACTION_BITS) / (1 << _FRACTION_BITS)
        return pause(call, met, attempt, self._patience, fraction)

    def _give_up(self, call: Call[Any], met: Trouble, error: Exception) -> NoReturn:
        if self._closed:
            raise ClosedError("the client was closed during the call") from error
        what = str(error) or type(error).__name__
        if met == "not sent":
            raise UnavailableError(f"{self._where} cannot be reached: {what}") from error
        also = "" if call.repeatable else "; whether it was obeyed is not known"
        raise UnavailableError(
            f"{self._where} did not answer {call.method} {call.target.partition('?')[0]}: {what}{also}"
        ) from error


class Streamed:
    """An answer as it comes."""

    def __init__(self, response: httpcore.Response) -> None:
        self.headers = _told(response)
        self._response = response

    def pieces(self) -> Iterator[bytes]:
        """Its body, piece by piece."""
        for piece in self._response.iter_stream():
            yield piece


def _whole(response: httpcore.Response) -> Reply:
    body = response.read()
    return Reply(response.status, _told(response), body)


def _told(response: httpcore.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


def _each(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk


def pieces(file: BinaryIO, size: int, progress: Progress | None) -> Iterable[bytes]:
    """A file from its beginning, piece by piece."""
    file.seek(0)
    done = 0
    while piece := file.read(1 << 18):
        yield piece
        done += len(piece)
        if progress is not None:
            progress(done, max(size, done))


def _timeouts(seconds: float) -> dict[str, dict[str, float]]:
    return {
        "timeout": {"connect": min(_CONNECT, seconds), "read": seconds, "write": seconds, "pool": seconds}
    }


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018
    except (ValueError, AttributeError):
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequestError(f"{url!r} is no server; write 'http://127.0.0.1:8080' or 'https://host'")
    if parts.username is not None or parts.query or parts.fragment:
        raise InvalidRequestError("the URL of a server has no user, no query and no fragment; pass token=…")
    return url


def _host(name: str | None) -> bytes:
    try:
        return (name or "").encode("ascii")
    except UnicodeEncodeError:
        return (name or "").encode("idna")


def _secret(token: str) -> str:
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token.strip():
        raise InvalidRequestError("token is not possible; give the text that `memoturn token create` printed")
    return token
