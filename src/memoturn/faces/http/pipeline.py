"""One request from its head to the last byte of its answer, on the event loop; what may block is left to threads.

The order in which a request is judged: is there such a route; is there room; who asks; what is meant; may they; is it
too much. Everything after that is work.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import Callable, Coroutine
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from memoturn.base.deadline import Deadline
from memoturn.base.errors import (
    InternalError,
    InvalidRequestError,
    MemoturnError,
    NotFoundError,
    PayloadTooLargeError,
    RequestTimeoutError,
    UnavailableError,
)
from memoturn.faces.http import logs, work
from memoturn.faces.http.access import Target, refusal
from memoturn.faces.http.admission import Admission
from memoturn.faces.http.call import Call, Context, Stream, headers_of
from memoturn.faces.http.idempotency import (
    FirstAnswers,
    Kept,
    fingerprint_of,
    place_of,
    seconds_since,
    too_young,
)
from memoturn.faces.http.lanes import Lane
from memoturn.faces.http.spool import spool
from memoturn.faces.http.startup import browser_refusal
from memoturn.faces.http.traces import NO_TRACER, Span
from memoturn.faces.http.work import Behind, Sent, refused
from memoturn.faces.wire import headers
from memoturn.faces.wire.paths import Found, Missing, Table
from memoturn.faces.wire.routes import LINES, ROUTES, SQLITE, Route

Scope = Any
Receive = Callable[[], Coroutine[Any, Any, Any]]
Send = Callable[[Any], Coroutine[Any, Any, None]]

_TRACE: Final = (b"traceparent",)
_LEFT: Final = 499
"""What is counted for whoever left before the end of the answer."""
_OF_DATABASES: Final = ("/v1/db/", "/v1/databases/", "/v1/memory/")
_TROUBLE: Final = frozenset((401, 403, 408, 429))
"""What is always written into the log, as is every fault."""
_POLL: Final = (0.002, 0.005, 0.01, 0.02, 0.05)
"""Seconds between looks whether a branch has come far enough; the last for all that follow."""
_BUFFERED: Final = 65_536
"""What is shorter goes out without waiting for whoever asked."""
_WATCH_AFTER: Final = 1.0
"""Seconds after which it is watched whether whoever asked is still there."""
_QUICK: Final = frozenset(
    (
        "kv.get",
        "kv.list",
        "docs.get",
        "vectors.get",
        "memory.get",
        "turns.window",
        "db.where",
        "turns.sessions",
    )
)
_FIRST_WORDS: Final = re.compile(rb'"q"\s*:\s*"(?:\s|\\[nrt])*([A-Za-z]*)').findall
_READING: Final = frozenset((b"SELECT", b"WITH", b"VALUES", b"EXPLAIN"))
_REQUEST_ID: Final = headers.REQUEST_ID.encode()


class Lanes(NamedTuple):
    """Where work is done, by how long it may take and what it may wait for."""

    quick: Lane
    """Reads of single things."""
    query: Lane
    """Reads that may look at much, and SQL that is not known yet."""
    write: Lane
    control: Lane
    long: Lane
    """What moves whole databases."""


class Gone(Exception):  # noqa: N818
    """Whoever asked has left."""


class Pipeline:
    """The application: `handle` is called for every request."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._requests = context.requests
        self._tracer = context.tracer
        self._settings = settings = context.settings
        self._monotonic = context.engine.clock.monotonic
        self._began = self._monotonic()
        self._table = Table(ROUTES)
        self.admission = Admission(settings.in_flight, settings.control_per_second, self._monotonic)
        self.first_answers = FirstAnswers(settings.idempotency_keys, settings.idempotency_bytes)
        self.is_closing = False
        self.pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {}
        """What is answered at once, without a database: by the names of the routes."""
        self._prefix = context.engine.ids.token()[:8]
        self._numbers = itertools.count(1)
        self._lanes: Lanes | None = None
        self._watched: dict[Call, tuple[float, Receive]] = {}
        self._watchers: dict[Call, asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None

    # A life.

    def start(self) -> None:
        """Make the lanes; on the event loop that is going to call `handle`."""
        loop, queued, monotonic = asyncio.get_running_loop(), self._settings.queued, self._monotonic
        self._lanes = Lanes(
            Lane("reads", 8, 4, queued, monotonic, loop),
            Lane("queries", 16, 4, queued, monotonic, loop),
            Lane("writes", 64, 1, queued, monotonic, loop),
            Lane("calls", 16, 4, queued, monotonic, loop),
            Lane("long calls", 8, 2, queued, monotonic, loop),
        )
        self._watching = loop.create_task(self._watch())

    async def stop(self) -> None:
        """Finish what was begun."""
        self.is_closing = True
        if self._watching is not None:
            self._watching.cancel()
        for task in self._watchers.values():
            task.cancel()
        if self._lanes is not None:
            for lane in self._lanes:
                await lane.close()

    @property
    def busy(self) -> int:
        """How much work waits for threads, or is being done by them."""
        return sum(lane.busy for lane in self._lanes or ())

    # A request.

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = self._monotonic()
        request_id = f"{self._prefix}-{next(self._numbers):x}"
        self._requests.begin()
        span = None
        if self._tracer is not NO_TRACER:
            span = self._tracer.begin(_trace_of(scope["headers"]))
        route: Route | None = None
        sent: Sent | None = None
        try:
            found = self._find(scope)
            if isinstance(found, Sent):
                sent = found
                left = await self._send(scope, sent, request_id, None, receive, send)
            elif found.route.plane == "open":
                route = found.route
                sent = _page(*self.pages[route.name]())
                left = await self._send(scope, sent, request_id, None, receive, send)
            else:
                route = found.route
                sent, left = await self._serve(scope, found, request_id, began, receive, send)
        except BaseException:
            left = True
            raise
        finally:
            self._tell(scope["method"], route, sent, left, self._monotonic() - began, request_id, span)

    def _find(self, scope: Scope) -> Found | Sent:
        """The route of a request, or the answer that there is none."""
        try:
            method, path = scope["method"], _path_of(scope)
            found = self._table.find("GET" if method == "HEAD" else method, path)
        except MemoturnError as error:
            return refused(error, None)
        return found if isinstance(found, Found) else _no_route(found, method, path)

    async def _serve(
        self, scope: Scope, found: Found, request_id: str, began: float, receive: Receive, send: Send
    ) -> tuple[Sent | None, bool]:
        """Do what is asked and send the answer; returns it, and whether whoever asked has left before its end."""
        route = found.route
        # What speaks of a database tells a txid, even where nobody has looked at it.
        nowhere = None if route.about in (None, "namespace") else 0
        try:
            self.admission.enter()
        except MemoturnError as error:
            sent = refused(error, nowhere)
            return sent, await self._send(scope, sent, request_id, None, receive, send)
        call = Call(self.context, route, found.names, scope["query_string"])
        call.request_id = request_id
        call.deadline = self._deadline(route, began)
        try:
            try:
                sent = await self._answer(call, self._judge(call, scope), _path_of(scope), receive)
            except MemoturnError as error:
                sent = refused(error, nowhere)
            except Gone:
                return None, True
            except Exception as error:
                logs.request_id.set(request_id)
                logs.fault(error)
                sent = refused(InternalError(), nowhere)
            finally:
                if call.spooled is not None:
                    call.spooled.unlink(missing_ok=True)
            return sent, await self._send(scope, sent, request_id, call, receive, send)
        finally:
            self.admission.leave()

    def _tell(
        self,
        method: str,
        route: Route | None,
        sent: Sent | None,
        left: bool,
        seconds: float,
        request_id: str,
        span: Span | None,
    ) -> None:
        """Count what was answered, and write it into the log if that is wanted or it went wrong."""
        status = _LEFT if left or sent is None else sent.status
        code = None if sent is None else sent.code
        name, path = (None, None) if route is None else (route.name, route.path)
        self._requests.end(name, status, seconds)
        if span is not None:
            span.end(method, path, status, code, request_id)
        if self._settings.log_requests or status >= 500 or status in _TROUBLE:
            logs.request_id.set(request_id)
            logs.answered(method, path, status, seconds, code)

    def _deadline(self, route: Route, began: float) -> Deadline:
        secs, setting = self._allowed(route)
        return Deadline(
            began + secs, f"the request was stopped at its deadline of {secs:g} seconds ({setting})"
        )

    def _allowed(self, route: Route) -> tuple[float, str]:
        """How many seconds a request may take, and the setting that says so."""
        if route.long:
            return self._settings.long_request_secs, "MEMOTURN_LONG_REQUEST_SECS"
        return self._settings.request_secs, "MEMOTURN_REQUEST_SECS"

    def _judge(self, call: Call, scope: Scope) -> str:
        """Find out who asks for what, and whether they may; returns what tells callers apart."""
        call.headers = given = headers_of(scope["headers"])
        tokens = self.context.tokens
        client = scope.get("client")
        caller = client[0] if client else ""
        if tokens is None:
            refused_page = _from_page(given.get("host"), given.get("origin"), given.get("sec-fetch-site"))
            if refused_page is not None:
                raise refused_page
            call.locate()
        else:
            call.who = tokens.verify(given.get(headers.AUTHORIZATION))
            caller = call.who.caller
            call.locate()
            call.refusal = refusal(call.route.need, call.who, _target(call))
            if call.refusal is not None and call.who.db is None:
                raise call.refusal
        if "content-encoding" in given and given["content-encoding"] != "identity":
            raise InvalidRequestError("bodies are taken as they are; send them without Content-Encoding")
        if call.route.plane == "control":
            self.admission.control(caller)
        return caller

    async def _answer(self, call: Call, caller: str, path: str, receive: Receive) -> Sent:
        route, deadline = call.route, call.deadline
        if call.refusal is not None:
            return await self._work(call, receive)  # Where it is told, unless the token is void.
        if route.body in (SQLITE, LINES) and call.who.db is not None:
            void: Sent | None = await self._submit(call, partial(work.vouch, call), deadline)
            if void is not None:
                return void
        if route.body is not None:
            await self._take_body(call, receive)
        key = call.headers.get(headers.IDEMPOTENCY_KEY)
        if key is None or headers.IDEMPOTENCY_KEY not in route.headers:
            return await self._work(call, receive)
        place, age = place_of(caller, route.name, key), seconds_since(call.headers.get(headers.FIRST_TRY))
        kept = await self.first_answers.begin(place, fingerprint_of(path, call.query, call.body))
        if kept is not None:
            if call.who.db is not None:
                gone: Sent | None = await self._submit(call, partial(work.vouch, call), deadline)
                if gone is not None:
                    return gone
            if kept.unshipped is not None or call.headers.get(headers.DURABILITY) == "durable":
                job = partial(work.harden, call, kept.unshipped)
                again: Sent | None = await self._submit(call, job, deadline)
                if again is not None:
                    return again
            return Sent(kept.status, [*kept.headers, (headers.REPLAYED.encode(), b"true")], kept.body)
        kept = None
        try:
            if age > self._monotonic() - self._began:
                answer: Sent = await self._submit(call, partial(_unsure, call), deadline)
                return answer
            sent = await self._work(call, receive)
            first = sent.done or sent
            if isinstance(first.body, bytes) and first.status < 500 and first.status not in (408, 429):
                kept = Kept(first.status, first.headers, first.body, sent.unshipped)
            return sent
        finally:
            self.first_answers.end(place, kept)

    async def _work(self, call: Call, receive: Receive) -> Sent:
        self._watched[call] = (self._monotonic() + _WATCH_AFTER, receive)
        began = self._monotonic()
        try:
            for attempt in itertools.count():
                sent: Sent | Behind = await self._submit(call, partial(work.perform, call), call.deadline)
                if not isinstance(sent, Behind):
                    return sent
                waited = self._monotonic() - began
                if (
                    waited >= min(self._settings.min_txid_secs, self._settings.request_secs)
                    or self.is_closing
                ):
                    return refused(sent.error(round(waited, 3)), sent.txid)
                await asyncio.sleep(_POLL[min(attempt, len(_POLL) - 1)])
            raise AssertionError
        except asyncio.CancelledError:
            call.deadline.call_off("the request was given up")
            raise
        finally:
            self._watched.pop(call, None)
            watcher = self._watchers.pop(call, None)
            if watcher is not None:
                watcher.cancel()

    def _submit(self, call: Call, job: Callable[[], Any], deadline: Deadline) -> asyncio.Future[Any]:
        if self._lanes is None:
            raise UnavailableError("the server is not ready yet; try again")
        lane = _lane(self._lanes, call)
        call.pending = lane.submit(_line(call), job, deadline)
        return call.pending

    # Bodies.

    async def _take_body(self, call: Call, receive: Receive) -> None:
        """Read the body, into memory or into a file. Raises `PayloadTooLargeError` and `RequestTimeoutError`."""
        route, settings = call.route, self._settings
        if route.body in (SQLITE, LINES):
            most, name = settings.import_bytes, "MEMOTURN_IMPORT_BYTES"
        elif route.plane == "control":
            most, name = settings.control_body_bytes, "MEMOTURN_CONTROL_BODY_BYTES"
        else:
            most, name = settings.body_bytes, "MEMOTURN_BODY_BYTES"
        too_large = PayloadTooLargeError(f"the body has more than {most} bytes ({name}); send less at a time")
        said = call.headers.get("content-length")
        if said is not None and said.isdigit() and int(said) > most:
            raise too_large
        left = call.deadline.due - self._monotonic()
        try:
            async with asyncio.timeout(max(left, 0.0)):
                if route.body in (SQLITE, LINES):
                    assert self._lanes is not None
                    pieces = _pieces(receive, most, too_large)
                    await spool(call, pieces, self._lanes.long)
                    return
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                body = message.get("body", b"")
                if message.get("more_body"):
                    collected = bytearray(body)
                    async for piece in _pieces(receive, most - len(body), too_large):
                        collected += piece
                    body = collected
                if len(body) > most:
                    raise too_large
                call.body = body
        except TimeoutError:
            secs, setting = self._allowed(route)
            raise RequestTimeoutError(f"the body did not come within {secs:g} seconds ({setting})") from None

    async def _send(
        self, scope: Scope, sent: Sent, request_id: str, call: Call | None, receive: Receive, send: Send
    ) -> bool:
        """Send the answer; returns whether whoever asked has left before its end."""
        found = [*sent.headers, (_REQUEST_ID, request_id.encode())]
        if self.is_closing:
            found.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": sent.status, "headers": found})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return False
        if isinstance(sent.body, Stream):
            assert call is not None
            return await self._send_stream(sent.body, call, receive, send)
        if len(sent.body) < _BUFFERED:
            await send({"type": "http.response.body", "body": sent.body})
            return False
        try:
            async with asyncio.timeout(self._settings.request_secs):
                await send({"type": "http.response.body", "body": sent.body})
        except TimeoutError:
            return True  # Whoever asked does not take the answer; the connection is closed.
        return False

    async def _send_stream(self, stream: Stream, call: Call, receive: Receive, send: Send) -> bool:
        leaving = asyncio.ensure_future(_left(receive))
        pieces = stream.pieces
        try:
            while not leaving.done():
                piece = await self._submit(call, partial(next, pieces, None), call.deadline)
                if piece is None:
                    await send({"type": "http.response.body", "body": b""})
                    return False
                async with asyncio.timeout(max(call.deadline.due - self._monotonic(), 0.0)):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except Exception as error:
            # Its head has gone out already: all that can be told, by closing the connection, is that it ends early.
            logs.request_id.set(call.request_id)
            logs.fault(error)
        finally:
            leaving.cancel()
            close = getattr(pieces, "close", None)
            if close is not None:
                with contextlib.suppress(Exception):
                    await self._submit(call, close, Deadline())
        return True

    # Whoever leaves, and what does not end.

    async def _watch(self) -> None:
        """Call off the work for those who have left, once it takes a while; and answer for work that cannot stop."""
        while True:
            await asyncio.sleep(_WATCH_AFTER / 2)
            now = self._monotonic()
            while self._watched:
                call, (since, receive) = next(iter(self._watched.items()))
                if since > now:
                    break  # Those that follow have come later.
                del self._watched[call]
                self._watchers[call] = asyncio.ensure_future(_call_off(call, receive))
            for call in self._watchers:
                if (
                    now > call.deadline.due + _WATCH_AFTER
                    and call.pending is not None
                    and not call.pending.done()
                ):
                    call.pending.set_exception(call.deadline.error())


def _unsure(call: Call) -> Sent:
    sent = work.failed(call, too_young())
    return sent._replace(headers=[one for one in sent.headers if one[0] != b"retry-after"])


async def _call_off(call: Call, receive: Receive) -> None:
    await _left(receive)
    call.deadline.call_off("whoever asked has left; the work was stopped")


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _pieces(receive: Receive, most: int, too_large: PayloadTooLargeError) -> Any:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        piece = message.get("body", b"")
        most -= len(piece)
        if most < 0:
            raise too_large
        yield piece
        if not message.get("more_body"):
            return


def _line(call: Call) -> str | None:
    """Whose work it is. A refusal is the caller's own: waiting behind others' work would tell that there is some."""
    if call.refusal is not None:
        return call.who.db
    return None if call.address is None else call.address.database


def _lane(lanes: Lanes, call: Call) -> Lane:
    route = call.route
    if route.long:
        return lanes.long
    if route.name in _QUICK:
        return lanes.quick
    if route.plane == "control":
        return lanes.control
    if route.name == "db.sql":
        return lanes.query if _may_only_read(call.body) else lanes.write
    return lanes.query if route.need == "read" else lanes.write


def _may_only_read(body: bytes | bytearray) -> bool:
    """Whether statements look as if they only read; a guess, which decides who waits with whom and nothing else."""
    return all(word.upper() in _READING for word in _FIRST_WORDS(body, 0, 4096))


def _trace_of(given: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in given if name in _TRACE}


@lru_cache(1024)
def _from_page(host: str | None, origin: str | None, site: str | None) -> MemoturnError | None:
    return browser_refusal(host, origin, site)


def _target(call: Call) -> Target:
    if call.address is not None:
        return Target(call.address.database)
    if call.route.about == "namespace":
        return Target(namespace=call.names["ns"])
    return Target()


def _path_of(scope: Scope) -> str:
    raw = scope.get("raw_path")
    if not raw:
        raise InvalidRequestError("the request has no path")
    try:
        return raw.partition(b"?")[0].decode("ascii")  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        raise InvalidRequestError("a path is ASCII; write other characters as %XX") from None


def _no_route(missing: Missing, method: str, path: str) -> Sent:
    txid = 0 if path.startswith(_OF_DATABASES) else None
    if not missing.allowed:
        return refused(NotFoundError(f"there is nothing at {path[:200]!r}; /docs shows what there is"), txid)
    allowed = ", ".join(missing.allowed)
    sent = refused(InvalidRequestError(f"{method[:20]} is not possible here; {allowed} is"), txid)
    return Sent(405, [*sent.headers, (b"allow", allowed.encode())], sent.body, code=sent.code)


def _page(status: int, media: str, page: bytes) -> Sent:
    return Sent(status, [(b"content-type", media.encode()), (b"content-length", b"%d" % len(page))], page)
