"""What is sent again and what is not, after which pauses; with servers that refuse, forget and hang up."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given
from hypothesis import strategies as st

from memoturn import (
    AsyncMemoturn,
    ConflictError,
    InternalError,
    InvalidRequestError,
    Memoturn,
    OverloadedError,
    UnauthorizedError,
    UnavailableError,
    UndecidedWriteError,
)
from memoturn.base.clock import SystemClock
from memoturn.base.errors import ClosedError
from memoturn.base.ids import Ids
from memoturn.base.names import parse_address
from memoturn.faces.client.call import Reply
from memoturn.faces.client.calls import branches, data, databases, kv, memories
from memoturn.faces.client.retries import Patience, pause
from tests.faces.client.scripted import answer, half, hang_up, refusal, scripted
from tests.faces.surface.conftest import Awaited

DB = parse_address("a")
GET = kv.get(DB, "n", "k")
PUT = kv.put(DB, "n", "k", b"v", None, None, False, None)
PUT_IF = kv.put(DB, "n", "k", b"v", None, None, True, None)
READ = data.sql(DB, "select 1", None)
WRITE = data.sql(DB, "INSERT INTO t VALUES (1)", None)
REWIND = branches.rewind("a", "main", "c", False)
IMPORT = databases.import_file("a", 1)
LINES = memories.import_(parse_address("a--b"), None)
PLACE = {"txid": 7, "exact": True}
PATIENT = Patience(4, 0.1, 10.0)


class Napping(SystemClock):
    """Notes how long it was to sleep, and does not."""

    def __init__(self) -> None:
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)


@pytest.fixture(params=["http", "async"])
def client(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Opens a client of a URL, of both kinds."""
    with ExitStack() as stack:

        def open_(url: str, **options: Any) -> Any:
            if request.param == "http":
                return stack.enter_context(Memoturn(url, **{"clock": Napping(), **options}))
            portal = stack.enter_context(start_blocking_portal())
            mt = AsyncMemoturn(url, **options)
            stack.callback(portal.call, mt.close)
            return Awaited(portal, mt)

        yield open_


def error(status: int, code: str, retry_after: str | None = None, kind: str = "") -> Reply:
    told = {} if retry_after is None else {"retry-after": retry_after}
    return Reply(status, told, b'{"error":"x","code":"%s","kind":"%s"}' % (code.encode(), kind.encode()))


def test_what_carries_a_key_is_what_twice_would_be_more_than_once() -> None:
    keyed = {WRITE: True, PUT_IF: True, REWIND: True, PUT: False, GET: False, READ: False, LINES: False}
    assert {call: call.keyed for call in keyed} == keyed
    assert [call.repeatable for call in (GET, READ, PUT, WRITE, PUT_IF, REWIND)] == [True] * 6
    assert [call.repeatable for call in (IMPORT, LINES)] == [IMPORT.keyed, False]
    assert data.batch(DB, ["SELECT 1", "DELETE FROM t"]).keyed
    assert data.sql(DB, "WITH a AS (SELECT 1) DELETE FROM t", None).keyed
    assert not data.sql(parse_address("a@main:3"), "DELETE FROM t", None).keyed
    assert not branches.promotion("a", "b").keyed
    assert branches.promotion("a", "b").repeatable


@pytest.mark.parametrize(
    ("call", "met", "again"),
    [
        (IMPORT, "not sent", True), (LINES, "not sent", True), (LINES, "lost", False),
        (GET, "lost", True), (PUT, "lost", True), (WRITE, "lost", True), (REWIND, "lost", True),
        (WRITE, error(429, "overloaded", "1"), True), (LINES, error(429, "overloaded", "1"), False),
        (PUT, error(429, "overloaded"), True),
        (WRITE, error(503, "unavailable", kind="busy"), True),
        (WRITE, error(503, "unavailable"), False), (GET, error(503, "unavailable"), True),
        (WRITE, error(503, "unavailable", "1"), True),
        (WRITE, error(503, "unavailable", "1", "undecided_write"), False),
        (GET, error(503, "unavailable", "3600"), False),
        (GET, error(503, "unconfigured"), False), (GET, error(500, "internal"), False),
        (GET, error(408, "request_timeout"), False), (GET, error(404, "not_found"), False),
        (PUT_IF, error(409, "conflict"), False), (GET, Reply(200, {}, b""), False),
        (GET, Reply(502, {}, b"<html>"), False), (GET, Reply(503, {}, b"<html>"), True),
    ],
)  # fmt: skip
def test_what_is_sent_again(call: Any, met: Any, again: bool) -> None:
    assert (pause(call, met, 1, PATIENT, 0.5) is not None) == again
    assert pause(call, met, 4, PATIENT, 0.5) is None


@given(st.integers(1, 3), st.floats(0, 1), st.sampled_from(["0", "2.5", "9", "soon", "-1", "nan"]))
def test_pauses_grow_and_are_never_less_than_what_was_asked(
    attempt: int, fraction: float, asked: str
) -> None:
    wait = pause(GET, error(429, "overloaded", asked), attempt, PATIENT, fraction)
    least = float(asked) if asked[0].isdigit() else 0.0
    assert wait is not None
    full = 0.1 * 2 ** (attempt - 1)
    assert wait == max(least, full * (1 - fraction / 2))
    assert full / 2 <= wait or wait == least


def test_a_busy_server_is_asked_again_when_it_said(client: Callable[..., Any]) -> None:
    with scripted(
        refusal(429, "overloaded", retry_after="0.2"),
        refusal(503, "unavailable", retry_after="0"),
        answer(200, PLACE),
    ) as server:
        mt = client(server.url, ids=Ids(random.Random(1)))
        assert mt.db("a").txid == 7
        assert len(server.asked) == 3
        clock = mt._transport._clock
        if isinstance(clock, Napping):
            assert clock.naps[0] >= 0.2
            assert 0.1 <= clock.naps[1] <= 0.2


def test_a_lost_answer_of_a_write_is_asked_for_with_the_same_key(client: Callable[..., Any]) -> None:
    done = {"results": [{"columns": [], "types": [], "rows": []}], "txid": 9}
    with scripted(hang_up, answer(200, done), answer(200, done)) as server:
        db = client(server.url).db("a")
        assert db.sql("INSERT INTO t VALUES (1)").txid == 9
        assert db.sql("INSERT INTO t VALUES (1)").txid == 9
        first, second, third = server.keys
        assert first == second
        assert first is not None
        assert len(first) == 32
        assert third not in (None, first)
        assert server.asked[0].body == server.asked[1].body


def test_a_key_comes_again_with_its_age_where_its_answer_was_lost(client: Callable[..., Any]) -> None:
    done = {"results": [{"columns": [], "types": [], "rows": []}], "txid": 9}
    busy, unsure = refusal(429, "overloaded", retry_after="0"), refusal(503, "unavailable")
    with scripted(busy, hang_up, busy, answer(200, done), hang_up, unsure) as server:
        db = client(server.url).db("a")
        assert db.sql("INSERT INTO t VALUES (1)").txid == 9
        with pytest.raises(UnavailableError, match="it is unavailable"):
            db.sql("INSERT INTO t VALUES (1)")
        ages = [one.headers.get("memoturn-first-try") for one in server.asked]
        assert [age is not None for age in ages] == [False, False, True, True, False, True]
        assert 0.0 <= float(ages[2] or "nan") <= float(ages[3] or "nan")
    with scripted(hang_up, answer(200, PLACE)) as server:
        assert client(server.url).db("a").txid == 7
        assert "memoturn-first-try" not in server.asked[1].headers


def test_what_would_be_done_twice_is_not_sent_twice(client: Callable[..., Any]) -> None:
    lines = [{"role": "user", "content": "x"}]
    with scripted(hang_up, refusal(503, "unavailable", retry_after="0")) as server:
        profile = client(server.url).memory("a", "b")
        with pytest.raises(UnavailableError, match="whether it was obeyed is not known"):
            profile.import_lines(lines)
        with pytest.raises(UnavailableError, match="it is unavailable"):
            profile.import_lines(lines)
        assert [one.body.count(b"content") for one in server.asked] == [1, 1]


def test_it_gives_up_after_so_many_attempts(client: Callable[..., Any]) -> None:
    with scripted() as server:
        with pytest.raises(UnavailableError, match="did not answer GET /v1/db/a"):
            client(server.url, retries=2).db("a").where()
        assert len(server.asked) == 3
        with pytest.raises(UnavailableError):
            client(server.url, retries=0).db("a").where()
        assert len(server.asked) == 4
    with (
        scripted(*[refusal(429, "overloaded", retry_after="0")] * 2) as server,
        pytest.raises(OverloadedError),
    ):
        client(server.url, retries=1).db("a").where()


def test_nobody_there_is_told(client: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UnavailableError, match=f"http://127.0.0.1:{port} cannot be reached"):
        client(f"http://127.0.0.1:{port}", retries=1).db("a").sql("DELETE FROM t")


def test_silence_ends_with_the_timeout(client: Callable[..., Any]) -> None:
    with scripted(lambda _: True) as server, pytest.raises(UnavailableError, match=r"Timeout|timed out"):
        client(server.url, timeout=0.2, retries=0).db("a").where()


@pytest.mark.parametrize(
    ("step", "kind", "said"),
    [
        (refusal(401, "unauthorized"), UnauthorizedError, "it is unauthorized"),
        (refusal(409, "conflict"), ConflictError, "it is conflict"),
        (refusal(503, "unavailable", "undecided_write"), UndecidedWriteError, "it is unavailable"),
        (refusal(418, "teapot"), InternalError, "it is teapot"),
        (answer(500, b"<html>"), InternalError, "500"),
        (answer(200, b"<html>"), UnavailableError, "not as Memoturn does"),
        (answer(200, {"nothing": 1}), UnavailableError, "not as Memoturn does"),
        (answer(302, b"", location="http://elsewhere/"), InvalidRequestError, "302"),
    ],
)
def test_what_is_answered_otherwise_is_an_error(
    client: Callable[..., Any], step: Any, kind: Any, said: str
) -> None:
    with scripted(step) as server, pytest.raises(kind, match=said):
        client(server.url, retries=0).db("a").batch(["DELETE FROM t"])


def test_an_export_that_breaks_off_leaves_nothing(client: Callable[..., Any], tmp_path: Path) -> None:
    with scripted(refusal(503, "unavailable"), half(b"x" * 4096, 8192)) as server:
        with pytest.raises(UnavailableError):
            client(server.url).db("a").export(tmp_path / "copy")
        assert len(server.asked) == 2
    assert list(tmp_path.iterdir()) == []


def test_an_export_of_lines_that_breaks_off_is_told(client: Callable[..., Any]) -> None:
    with scripted(half(b'{"a":1}\n{"b":', 100)) as server:
        lines = client(server.url).memory("a", "b").export_lines()
        assert next(lines) == {"a": 1}
        with pytest.raises(UnavailableError):
            next(lines)


def test_a_file_is_sent_anew_from_its_beginning(client: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    done = {"name": "a", "txid": 1, "pages": 1, "bytes": 4096}
    told: list[tuple[int, int]] = []
    with scripted(refusal(429, "overloaded", retry_after="0"), answer(201, done)) as server:
        client(server.url).databases.import_file("a", tmp_path / "f", lambda *steps: told.append(steps))
        assert [one.body for one in server.asked] == [b"0123456789"] * 2
        assert server.asked[0].headers["content-length"] == "10"
    assert told == [(10, 10), (10, 10)]


def test_an_error_of_the_lines_is_the_callers_own(client: Callable[..., Any]) -> None:
    def lines() -> Iterator[Any]:
        yield {"role": "user", "content": "x"}
        raise KeyError("mine")

    with scripted() as server, pytest.raises(KeyError, match="mine"):
        client(server.url).memory("a", "b").import_lines(lines())


def test_every_call_shows_the_token_and_the_prefix(client: Callable[..., Any]) -> None:
    with scripted(answer(200, PLACE), answer(200, PLACE)) as server:
        mt = client(f"{server.url}/prefix/", token="t0k", durability="durable")
        assert (mt.db("a@b:c").txid, mt.db("a@b").at("c", exact=True).txid) == (7, 7)
        asked = server.asked[0]
        assert asked.target == "/prefix/v1/db/a@b"
        assert asked.headers["authorization"] == "Bearer t0k"
        assert asked.headers["memoturn-durability"] == "durable"
        assert asked.headers["memoturn-at"] == "c"
        assert [one.headers.get("memoturn-exact") for one in server.asked] == [None, "true"]


def test_a_client_that_was_closed_says_so(client: Callable[..., Any]) -> None:
    with scripted(answer(200, PLACE)) as server:
        mt = client(server.url)
        assert mt.db("a").txid == 7
        mt.close()
        mt.close()
        with pytest.raises(ClosedError):
            mt.db("a").where()


def test_connections_are_kept(client: Callable[..., Any]) -> None:
    from_where = []

    def note(connection: socket.socket) -> bool:
        from_where.append(connection.getpeername())
        return answer(200, PLACE)(connection)

    with scripted(*[note] * 5) as server:
        db = client(server.url).db("a")
        for _ in range(5):
            assert db.txid == 7
    assert len(set(from_where)) == 1


def test_answers_are_cut_into_lines_wherever_they_come_apart() -> None:
    text = b'{"a":1}\n\n{"b":"\xe2\x80\xa8"}\n{"c":3}'
    for cut in range(len(text)):
        lines = memories.Lines()
        assert [*lines.feed(text[:cut]), *lines.feed(text[cut:]), *lines.end()] == [
            {"a": 1},
            {"b": "\u2028"},
            {"c": 3},
        ]
    with pytest.raises(UnavailableError, match="no JSON"):
        memories.Lines().feed(b"nonsense\n")
