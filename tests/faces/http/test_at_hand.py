"""What is answered on the event loop: only what lies in memory, and only what a thread would answer too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memoturn import Memoturn
from memoturn.base.settings import CacheSettings, CommitSettings, MaintenanceSettings, Settings
from memoturn.faces.http import dispatch
from memoturn.faces.http.call import Call, Context
from memoturn.faces.http.tokens import Credential
from memoturn.faces.http.work import Sent, at_hand, perform
from memoturn.faces.wire.routes import BY_NAME
from tests.faces.http.running import FREE, Running
from tests.support import ManualClock

OFF = MaintenanceSettings(on=False)
QUIET = Settings(commit=CommitSettings(ship_interval_ms=60_000), maintenance=OFF)
"""Nothing is shipped meanwhile: readers would have to move to another view."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def mt(tmp_path: Path, clock: ManualClock) -> Iterator[Memoturn]:
    with Memoturn(f"file:{tmp_path / 'store'}", clock=clock, settings=QUIET) as mt:
        mt.databases.create("a")
        mt.db("a").kv.put("n", "k", b"value", meta={"of": "k"})
        yield mt


def get(mt: Memoturn, key: str = "k", db: str = "a", query: bytes = b"", **headers: str) -> Call:
    """A call for a key."""
    call = Call(
        Context(mt._engine, FREE, Path("unused")), BY_NAME["kv.get"], {"db": db, "ns": "n", "key": key}, query
    )
    call.headers = {name.replace("_", "-"): value for name, value in headers.items()}
    call.locate()
    return call


def answered(call: Call) -> Sent:
    sent = perform(call)
    assert isinstance(sent, Sent)
    return sent


@pytest.mark.parametrize(
    ("query", "headers"), [(b"", {}), (b"entry=true", {}), (b"", {"if_none_match": "*"})]
)
def test_what_is_at_hand_is_answered_as_a_thread_would(
    mt: Memoturn, query: bytes, headers: dict[str, str]
) -> None:
    assert at_hand(get(mt, query=query, **headers)) is None  # There is no reader yet.
    expected = answered(get(mt, query=query, **headers))
    assert at_hand(get(mt, query=query, **headers)) == expected
    assert at_hand(get(mt, query=query, **headers)) == expected


@pytest.mark.parametrize(
    "call",
    [
        {"key": "absent"},
        {"db": "a@main:1"},
        {"db": "a@gone"},
        {"db": "nobody"},
        {"query": b"unknown=1"},
        {"memoturn_min_txid": "1"},
        {"memoturn_consistency": "primary"},
        {"memoturn_durability": "durable"},
    ],
)
def test_whatever_else_there_is_to_say_is_left_to_a_thread(mt: Memoturn, call: dict[str, Any]) -> None:
    answered(get(mt))
    assert at_hand(get(mt)) is not None
    assert at_hand(get(mt, **call)) is None
    assert at_hand(get(mt)) is not None


def test_a_write_and_a_rewind_are_seen_at_once(mt: Memoturn) -> None:
    db = mt.db("a")
    db.branch.checkpoint("before")
    for change, value in (
        (lambda: db.kv.put("n", "k", b"new"), b"new"),
        (lambda: db.branch.rewind("before"), b"value"),
    ):
        answered(get(mt))
        assert at_hand(get(mt)) is not None
        change()
        assert at_hand(get(mt)) is None
        assert answered(get(mt)).body == value
        now = at_hand(get(mt))
        assert now is not None
        assert now.body == value


def test_what_a_neighbour_has_written_is_seen_at_once(mt: Memoturn, tmp_path: Path) -> None:
    with Memoturn(f"file:{tmp_path / 'store'}", settings=QUIET) as other:
        for number in range(5):
            answered(get(mt))
            assert at_hand(get(mt)) is not None
            other.db("a").kv.put("n", "k", b"%d" % number)
            assert at_hand(get(mt)) is None
            assert answered(get(mt)).body == b"%d" % number


def test_what_has_expired_or_was_deleted_is_not_at_hand(mt: Memoturn, clock: ManualClock) -> None:
    mt.db("a").kv.put("n", "brief", b"value", ttl=10)
    mt.db("a").branch.create("burner", ttl=20).kv.put("n", "k", b"burning")
    calls = [{"key": "brief"}, {"db": "a@burner"}, {}]
    for call in calls:
        answered(get(mt, **call))
    assert all(at_hand(get(mt, **call)) for call in calls)
    clock.advance(11)
    assert [at_hand(get(mt, **call)) is None for call in calls] == [True, False, False]
    clock.advance(10)
    assert [at_hand(get(mt, **call)) is None for call in calls] == [True, True, False]
    mt.databases.delete("a")
    assert [at_hand(get(mt, **call)) is None for call in calls] == [True, True, True]
    assert answered(get(mt)).status == 404


def test_a_token_of_an_earlier_life_gets_nothing(mt: Memoturn) -> None:
    answered(get(mt))
    call = get(mt)
    call.who = Credential(caller="t", scope="read", db="a", life="another life")
    assert at_hand(call) is None
    assert answered(call).status == 401
    call.who = Credential(caller="t", scope="read", db="a", life=mt._engine.entry("a").life)
    assert at_hand(call) is not None


def test_no_page_is_fetched_and_a_reader_that_missed_one_is_no_trouble(tmp_path: Path) -> None:
    url = f"file:{tmp_path / 'store'}"
    with Memoturn(url) as mt:
        mt.databases.create("a")
        for number in range(300):
            mt.db("a").kv.put("n", f"{number:03}", b"%03d" % number * 400)
    cold = Settings(cache=CacheSettings(page_cache_bytes=1), maintenance=OFF)
    with Memoturn(url, settings=cold) as mt:
        assert answered(get(mt, "000")).status == 200
        store = mt._engine.env.store
        misses = store.misses
        assert at_hand(get(mt, "299")) is None
        assert store.misses == misses
        assert at_hand(get(mt, "000")) is None  # It would be in vain once more, most likely.
        assert answered(get(mt, "299")).body == b"299" * 400
        for _ in range(64):
            at_hand(get(mt, "299"))
        found = at_hand(get(mt, "299"))
        assert found is not None
        assert found.body == b"299" * 400


def test_a_large_value_is_left_to_a_thread(mt: Memoturn) -> None:
    large = bytes(8 << 20)
    mt.db("a").kv.put("n", "large", large)
    mt.db("a").sync()
    assert answered(get(mt, "large")).body == large
    reads = mt._engine.env.store.reads
    assert at_hand(get(mt, "large")) is None
    assert mt._engine.env.store.reads - reads < 100
    assert answered(get(mt, "large")).body == large


def test_a_server_asks_no_thread_for_what_is_at_hand(
    server: Running, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/db/{name}/kv/n/k"
    server.http.put(path, content=b"value").raise_for_status()
    server.http.post(f"/v1/db/{name}/sync").raise_for_status()
    first = server.http.get(path)
    asked: list[str] = []
    submit = dispatch.Dispatch.submit
    monkeypatch.setattr(
        dispatch.Dispatch,
        "submit",
        lambda self, call, *rest: asked.append(call.route.name) or submit(self, call, *rest),
    )
    again = server.http.get(path)
    assert (again.status_code, again.content, again.headers["etag"]) == (200, b"value", first.headers["etag"])
    assert again.headers["memoturn-txid"] == first.headers["memoturn-txid"]
    assert asked == []
    assert server.http.get(f"{path}2").status_code == 404
    assert asked == ["kv.get"]
