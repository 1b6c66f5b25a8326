"""One request from its head to the last byte of its answer, on the event loop; what may block is left to threads.

The order in which a request is judged: is there such a route; is there room; who asks; what is meant; may they; is it
too much. Everything after that is work.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final

from memoturn.base.deadline import Deadline
from memoturn.base.errors import (
    InternalError,
    InvalidRequestError,
    MemoturnError,
    NotFoundError,
)
from memoturn.faces.http import logs, work
from memoturn.faces.http.access import Target, refusal
from memoturn.faces.http.admission import Admission
from memoturn.faces.http.bodies import allowed, take_body
from memoturn.faces.http.call import Call, Context, headers_of
from memoturn.faces.http.callers import Gone, Receive, Watch
from memoturn.faces.http.dispatch import Dispatch
from memoturn.faces.http.idempotency import (
    FirstAnswers,
    Kept,
    fingerprint_of,
    place_of,
    seconds_since,
    too_young,
)
from memoturn.faces.http.sending import Send, Sender
from memoturn.faces.http.spool import remove
from memoturn.faces.http.startup import browser_refusal
from memoturn.faces.http.traces import NO_TRACER, Span
from memoturn.faces.http.work import Behind, Sent, refused
from memoturn.faces.wire import headers
from memoturn.faces.wire.paths import Found, Missing, Table
from memoturn.faces.wire.routes import LINES, ROUTES, SQLITE, Route

Scope = Any

_TRACE: Final = (b"traceparent",)
_LEFT: Final = 499
"""What is counted for whoever left before the end of the answer."""
_OF_DATABASES: Final = ("/v1/db/", "/v1/databases/", "/v1/memory/")
_TROUBLE: Final = frozenset((401, 403, 408, 429))
"""What is always written into the log, as is every fault."""
_POLL: Final = (0.002, 0.005, 0.01, 0.02, 0.05)
"""Seconds between looks whether a branch has come far enough; the last for all that follow."""
_REQUEST_ID: Final = headers.REQUEST_ID.encode()


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
        self._dispatch = Dispatch(settings.queued, self._monotonic)
        self._watch = Watch(self._monotonic)
        self._sender = Sender(self._dispatch, settings.request_secs, self._monotonic)

    # A life.

    def start(self) -> None:
        """Start threads; on the event loop that is going to call `handle`."""
        self._dispatch.start()
        self._watch.start()

    async def stop(self) -> None:
        """Finish what was begun."""
        self.is_closing = True
        self._watch.stop()
        await self._dispatch.close()

    @property
    def busy(self) -> int:
        """How much work waits for threads, or is being done by them."""
        return self._dispatch.busy

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
                    await remove(call.spooled)
            return sent, await self._send(scope, sent, request_id, call, receive, send)
        finally:
            self.admission.leave()

    async def _send(
        self, scope: Scope, sent: Sent, request_id: str, call: Call | None, receive: Receive, send: Send
    ) -> bool:
        """Send the answer; returns whether whoever asked has left before its end."""
        more = [(_REQUEST_ID, request_id.encode())]
        if self.is_closing:
            more.append((b"connection", b"close"))
        return await self._sender.send(sent, more, scope["method"] == "HEAD", call, receive, send)

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
        secs, setting = allowed(route, self._settings)
        return Deadline(
            began + secs, f"the request was stopped at its deadline of {secs:g} seconds ({setting})"
        )

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
            void: Sent | None = await self._dispatch.submit(call, partial(work.vouch, call), deadline)
            if void is not None:
                return void
        if route.body is not None:
            await take_body(call, receive, self._dispatch.long)
        key = call.headers.get(headers.IDEMPOTENCY_KEY)
        if key is None or headers.IDEMPOTENCY_KEY not in route.headers:
            return await self._work(call, receive)
        place, age = place_of(caller, route.name, key), seconds_since(call.headers.get(headers.FIRST_TRY))
        kept = await self.first_answers.begin(
            place, fingerprint_of(path, call.query, call.digest or call.body)
        )
        if kept is not None:
            if call.who.db is not None:
                gone: Sent | None = await self._dispatch.submit(call, partial(work.vouch, call), deadline)
                if gone is not None:
                    return gone
            if kept.unshipped is not None or call.headers.get(headers.DURABILITY) == "durable":
                job = partial(work.harden, call, kept.unshipped)
                again: Sent | None = await self._dispatch.submit(call, job, deadline)
                if again is not None:
                    return again
            return Sent(kept.status, [*kept.headers, (headers.REPLAYED.encode(), b"true")], kept.body)
        kept = None
        try:
            if age > self._monotonic() - self._began:
                answer: Sent = await self._dispatch.submit(call, partial(_unsure, call), deadline)
                return answer
            sent = await self._work(call, receive)
            first = sent.done or sent
            if isinstance(first.body, bytes) and first.status < 500 and first.status not in (408, 429):
                kept = Kept(first.status, first.headers, first.body, sent.unshipped)
            return sent
        finally:
            self.first_answers.end(place, kept)

    async def _work(self, call: Call, receive: Receive) -> Sent:
        at_hand = work.at_hand(call)
        if at_hand is not None:
            return at_hand
        self._watch.begin(call, receive)
        began = self._monotonic()
        try:
            for attempt in itertools.count():
                sent: Sent | Behind = await self._dispatch.submit(
                    call, partial(work.perform, call), call.deadline
                )
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
            self._watch.end(call)


def _unsure(call: Call) -> Sent:
    sent = work.failed(call, too_young())
    return sent._replace(headers=[one for one in sent.headers if one[0] != b"retry-after"])


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
