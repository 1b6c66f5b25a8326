"""Keys and values: what is put comes back, in order, until its time; and of two who compare and set, one does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from memoturn import ConflictError, Database, InvalidRequestError, KvKey, Memoturn, MemoturnError
from memoturn.base.settings import CommitSettings, Settings
from memoturn.models import kv as model
from memoturn.models.guard import protect
from memoturn.models.sweeping import sweep
from tests.database.programs import Program
from tests.models.branching import Branching
from tests.support import ManualClock, assert_whole, branch_of, engine_of, plain_connection

Opener = Callable[..., Memoturn]
MIB = 1 << 20


def listed(db: Database, prefix: str = "", ns: str = "n") -> list[str]:
    return [one.key for one in db.kv.keys(ns, prefix)]


def tables(db: Database) -> list[str]:
    with plain_connection(branch_of(db).head()) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")]


# Values and keys.


def test_what_is_put_comes_back(db: Database) -> None:
    first = db.kv.put("scratch", "plan", b"a\x00b\xff")
    assert db.kv.get("scratch", "plan") == b"a\x00b\xff"
    assert first.txid == db.txid == 2
    db.kv.put("scratch", "plan", "naïve")
    assert db.kv.get("scratch", "plan") == "naïve".encode()
    assert db.kv.get("scratch", "Plan") is None
    assert db.kv.get("other", "plan") is None
    db.kv.put("scratch", "empty", b"")
    assert db.kv.get("scratch", "empty") == b""
    db.kv.put("scratch", "buffer", memoryview(bytearray(b"abcdef"))[::1])
    assert db.kv.get("scratch", "buffer") == b"abcdef"


def test_an_entry_tells_all_that_is_kept(db: Database, clock: ManualClock) -> None:
    put = db.kv.put("n", "k", b"v", ttl=1.5, meta={"type": "text/plain", "n": 2**53 + 1})
    entry = db.kv.entry("n", "k")
    assert entry is not None
    assert (entry.value, entry.version, entry.txid) == (b"v", put.version, put.txid)
    assert entry.meta == {"type": "text/plain", "n": 2**53 + 1}
    assert entry.expires_at is not None
    assert entry.expires_at.timestamp() * 1000 == clock.ms + 1500
    db.kv.put("n", "k", b"w")
    entry = db.kv.entry("n", "k")
    assert entry is not None
    assert (entry.meta, entry.expires_at) == (None, None)
    assert db.kv.entry("n", "other") is None


def test_sixteen_mebibytes_round_trip(db: Database) -> None:
    value = bytes(range(256)) * (16 * MIB // 256)
    db.kv.put("n", "large", value)
    assert db.kv.get("n", "large") == value
    key = "k" * (16 * MIB)
    db.kv.put("n", key, b"v")
    assert db.kv.get("n", key) == b"v"
    assert [len(k) for k in listed(db)] == [16 * MIB, 5]
    assert_whole(db, [db.txid])


def test_what_is_read_before_anything_was_put_is_empty_and_makes_nothing(db: Database) -> None:
    assert db.kv.get("n", "k") is None
    assert db.kv.entry("n", "k") is None
    assert listed(db) == []
    assert not db.kv.delete("n", "k").deleted
    with pytest.raises(ConflictError, match="it is absent"):
        db.kv.put("n", "k", b"v", if_version=1)
    with pytest.raises(ConflictError, match="it is absent"):
        db.kv.delete("n", "k", if_version=1)
    assert sweep(branch_of(db), engine_of_db(db).clock.now_ms()) == 0
    assert db.txid == 1
    assert tables(db) == ["t"]


def test_the_first_put_makes_the_table_in_its_own_transaction(db: Database) -> None:
    assert db.kv.put("n", "k", b"v").txid == 2
    assert db.at(1).kv.get("n", "k") is None
    assert listed(db.at(1)) == []
    assert db.at(2).kv.get("n", "k") == b"v"
    with pytest.raises(InvalidRequestError, match="read-only"):
        db.at(2).kv.put("n", "k", b"w")
    with pytest.raises(InvalidRequestError, match="read-only"):
        db.at(2).kv.delete("n", "k")


def test_a_put_that_is_refused_leaves_nothing(db: Database) -> None:
    db.kv.put("n", "k", b"v")
    before = db.txid
    with pytest.raises(ConflictError):
        db.kv.put("n", "k", b"w", if_absent=True)
    assert not db.kv.delete("n", "other").deleted
    assert db.txid == before


@pytest.mark.parametrize("ns", ["", " ", "a b", "a/b", "é", "-a", ".a", "a" * 129, None, 7, b"n"])
def test_a_namespace_that_cannot_be_is_refused(db: Database, ns: Any) -> None:
    for call in (
        lambda: db.kv.put(ns, "k", b"v"),
        lambda: db.kv.get(ns, "k"),
        lambda: db.kv.entry(ns, "k"),
        lambda: db.kv.delete(ns, "k"),
        lambda: db.kv.list(ns),
    ):
        with pytest.raises(InvalidRequestError, match="namespace"):
            call()


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("", "invalid_request"),
        (None, "invalid_request"),
        (b"k", "invalid_request"),
        ("\ud800", "invalid_request"),
        ("k" * (16 * MIB + 1), "payload_too_large"),
        ("é" * (8 * MIB) + "k", "payload_too_large"),
    ],
    ids=["empty", "none", "bytes", "surrogate", "long", "long in bytes"],
)
def test_a_key_that_cannot_be_is_refused(db: Database, key: Any, code: str) -> None:
    for call in (
        lambda: db.kv.put("n", key, b"v"),
        lambda: db.kv.get("n", key),
        lambda: db.kv.delete("n", key),
    ):
        with pytest.raises(MemoturnError) as refused:
            call()
        assert refused.value.code == code
    assert db.txid == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": None},
        {"value": 7},
        {"value": {"a": 1}},
        {"value": "\ud800"},
        {"value": bytes(24 * MIB + 1)},
        {"value": memoryview(bytes(24 * MIB + 4)).cast("I")},
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": float("nan")},
        {"ttl": float("inf")},
        {"ttl": "3600"},
        {"ttl": True},
        {"ttl": 1e12},
        {"meta": [1]},
        {"meta": {"a": float("nan")}},
        {"meta": {"a": object()}},
        {"meta": {1: 2}},
        {"meta": {"a": "x" * 70_000}},
        {"if_version": 1.0},
        {"if_version": -1},
        {"if_version": True},
        {"if_version": 1 << 53},
        {"if_version": 1, "if_absent": True},
    ],
)
def test_a_put_that_cannot_be_is_refused(db: Database, wrong: dict[str, Any]) -> None:
    with pytest.raises(MemoturnError) as refused:
        db.kv.put("n", "k", **{"value": b"v", **wrong})
    assert refused.value.status in (400, 413)
    assert db.txid == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": -1},
        {"limit": "5"},
        {"limit": True},
        {"cursor": "?"},
        {"cursor": 7},
        {"prefix": None},
    ],
    ids=repr,
)
def test_a_list_that_cannot_be_is_refused(db: Database, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        db.kv.list("n", **wrong)


# Lists.


def test_a_list_is_in_the_order_of_bytes(db: Database) -> None:
    keys = [
        "a",
        "a\x00",
        "a\x00b",
        "a/b",
        "aa",
        "b",
        "é",
        "\uffff",
        "\U00010000",
        "\U0010ffff",
        "\U0010ffffz",
    ]
    for key in reversed(keys):
        db.kv.put("n", key, key)
        db.kv.put("m", key, b"other")
    assert sorted(keys, key=str.encode) == keys
    assert listed(db) == keys
    page = db.kv.list("n", "a", limit=2)
    assert [one.key for one in page.keys] == ["a", "a\x00"]
    page = db.kv.list("n", "a", limit=3, cursor=page.cursor)
    assert ([one.key for one in page.keys], page.cursor) == (["a\x00b", "a/b", "aa"], None)
    assert listed(db, "\U0010ffff") == ["\U0010ffff", "\U0010ffffz"]
    one = db.kv.list("n", "é").keys[0]
    assert isinstance(one, KvKey)
    assert (one.size, one.meta, one.expires_at) == (2, None, None)


def test_a_limit_is_at_most_a_thousand(db: Database) -> None:
    for number in range(1002):
        db.kv.put("n", f"{number:04}", b"")
    page = db.kv.list("n", limit=5000)
    assert (len(page.keys), page.keys[-1].key) == (1000, "0999")
    assert len(listed(db)) == 1002


TEXT = st.text(
    st.sampled_from("a\x00b\x7f\u0080\ud7ff\ue000\uffff\U00010000\U0010ffff"), min_size=1, max_size=4
)


@settings(max_examples=150)
@given(st.sets(TEXT, max_size=12), st.just("") | TEXT, st.integers(1, 5))
@example({"\U0010ffff", "a"}, "\U0010ffff", 1)
def test_a_prefix_finds_what_begins_with_it(keys: set[str], prefix: str, limit: int) -> None:
    connection = apsw.Connection(":memory:")
    protect(connection)
    for key in keys:
        model.put(connection, ("n", key.encode(), b"", None, None, 1))
    expected = sorted(key.encode() for key in keys if key.startswith(prefix))
    found: list[bytes] = []
    while True:
        page = model.list_(connection, "n", prefix.encode(), found[-1] if found else b"", limit, 0)
        found += [one.k for one in page]
        if len(page) < limit:
            break
    assert found == expected


@given(st.binary(max_size=4), st.binary(max_size=6))
@example(b"a", b"a\xff\xff")
@example(b"a\xff", b"b")
@example(b"\xff", b"\xff\xff")
def test_what_comes_after_a_prefix_is_no_more_and_no_less(prefix: bytes, key: bytes) -> None:
    after = model.after_prefix(prefix)
    assert key.startswith(prefix) == (key >= prefix and (after is None or key < after))


def test_a_list_walks_the_table_in_its_order(db: Database) -> None:
    db.kv.put("n", "k", b"v")
    with plain_connection(branch_of(db).head()) as connection:
        for statement in (model._LIST_ALL, model._LIST_BELOW, model._GET, model._ENTRY, model._SWEEP):
            count = len(set(re.findall(r"\?\d", statement))) or statement.count("?")
            plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement, (None,) * count)]
            assert not any(line.startswith("SCAN") or "TEMP B-TREE" in line for line in plan), plan


# Time.


def test_a_key_is_absent_once_its_time_has_come(db: Database, clock: ManualClock) -> None:
    db.kv.put("n", "k", b"v", ttl=10)
    db.kv.put("n", "l", b"v")
    clock.advance(9.999)
    assert db.kv.get("n", "k") == b"v"
    with pytest.raises(ConflictError):
        db.kv.put("n", "k", b"w", if_absent=True)
    clock.advance(0.001)
    version = db.at(2).kv.entry("n", "k")
    assert version is None
    assert db.kv.get("n", "k") is None
    assert db.kv.entry("n", "k") is None
    assert listed(db) == ["l"]
    assert not db.kv.delete("n", "k").deleted
    db.kv.put("n", "k", b"again", if_absent=True)
    assert db.kv.get("n", "k") == b"again"


def test_an_expired_key_has_no_version(db: Database, clock: ManualClock) -> None:
    put = db.kv.put("n", "k", b"v", ttl=10)
    clock.advance(10)
    with pytest.raises(ConflictError, match="it is absent"):
        db.kv.put("n", "k", b"w", if_version=put.version)
    with pytest.raises(ConflictError, match="it is absent"):
        db.kv.delete("n", "k", if_version=put.version)


def test_a_sweep_removes_some_of_what_has_expired_and_nothing_else(db: Database, clock: ManualClock) -> None:
    for number in range(10):
        db.kv.put("n", f"short{number}", b"v", ttl=1 + number)
        db.kv.put("n", f"long{number}", b"v", ttl=100)
        db.kv.put("n", f"ever{number}", b"v")
    clock.advance(8)
    engine, branch = engine_of_db(db), branch_of(db)
    before = db.txid
    assert [sweep(branch, engine.clock.now_ms(), limit=3) for _ in range(4)] == [3, 3, 2, 0]
    assert db.txid == before + 3
    with plain_connection(branch.head()) as connection:
        left = [k.decode() for (k,) in connection.execute("SELECT k FROM __memoturn_kv ORDER BY k")]
    assert left == sorted(
        [f"{kind}{n}" for kind in ("ever", "long") for n in range(10)] + ["short8", "short9"]
    )
    assert_whole(db, [db.txid])


# Compare and set.


def test_only_the_version_that_is_there_can_be_replaced(db: Database) -> None:
    first = db.kv.put("n", "k", b"1", if_absent=True)
    second = db.kv.put("n", "k", b"2", if_version=first.version)
    with pytest.raises(ConflictError, match=str(second.version)):
        db.kv.put("n", "k", b"3", if_version=first.version)
    with pytest.raises(ConflictError):
        db.kv.delete("n", "k", if_version=first.version)
    assert db.kv.get("n", "k") == b"2"
    assert db.kv.delete("n", "k", if_version=second.version).deleted
    with pytest.raises(ConflictError):
        db.kv.put("n", "k", b"3", if_version=second.version)


def test_the_same_value_again_is_another_version(db: Database) -> None:
    versions = {db.kv.put("n", "k", b"same").version for _ in range(50)}
    assert len(versions) == 50
    assert all(0 <= version < 1 << 53 for version in versions)


def test_a_rewind_brings_the_version_back_and_none_comes_twice(db: Database) -> None:
    one = db.kv.put("n", "k", b"1")
    two = db.kv.put("n", "k", b"2")
    db.branch.rewind(one.txid)
    with pytest.raises(ConflictError):
        db.kv.put("n", "k", b"3", if_version=two.version)
    three = db.kv.put("n", "k", b"3", if_version=one.version)
    assert three.version not in (one.version, two.version)


def test_a_reset_cannot_make_a_version_mean_another_value(db: Database) -> None:
    """Parent and child count the same txids; what they put under one of them must still be told apart."""
    db.kv.put("n", "k", b"0")
    child = db.branch.create("child")
    of_child = child.kv.put("n", "k", b"child")
    of_parent = db.kv.put("n", "k", b"parent")
    assert of_child.txid == of_parent.txid
    child.branch.reset()
    assert child.kv.get("n", "k") == b"parent"
    with pytest.raises(ConflictError):
        child.kv.put("n", "k", b"lost", if_version=of_child.version)
    child.kv.put("n", "k", b"kept", if_version=of_parent.version)


def test_counters_of_several_processes_lose_nothing(open_store: Opener, file_url: str) -> None:
    patient = Settings(commit=CommitSettings(busy_timeout=20.0))
    mt = open_store(file_url, settings=patient, clock=None)
    mt.databases.create("x")
    with Program(file_url) as one, Program(file_url) as two, Program(file_url) as three:
        for program in (one, two, three):
            program.start("count", "x", "n", "counter", 8)
        for _ in range(8):
            while True:
                there = mt.db("x").kv.entry("n", "counter")
                if there is None:
                    continue
                try:
                    mt.db("x").kv.put(
                        "n", "counter", b"%d" % (int(there.value) + 1), if_version=there.version
                    )
                    break
                except ConflictError:
                    pass
        for program in (one, two, three):
            assert program.finish() == 8
    assert mt.db("x").kv.get("n", "counter") == b"32"


# Against a model.


class Keys(Branching):
    """A few keys on a branch and a fork of it, put, deleted, expired, swept, rewound, against dictionaries."""

    @initialize()
    def create(self) -> None:
        self.clock = ManualClock()
        self.begin({}, self.clock)
        self.versions: set[int] = set()

    def living(self, name: str) -> dict[str, tuple[bytes, int | None, int]]:
        return {
            key: kept for key, kept in self.now[name].items() if kept[1] is None or kept[1] > self.clock.ms
        }

    @rule(
        which=st.integers(0, 1),
        key=st.sampled_from(["a", "ab", "b", "\U0010ffff"]),
        value=st.binary(max_size=3) | st.just(bytes(5000)),
        ttl=st.none() | st.integers(1, 20),
        how=st.sampled_from(["put", "absent", "version", "stale"]),
    )
    def put(self, which: int, key: str, value: bytes, ttl: int | None, how: str) -> None:
        name = self.branch(which)
        there = self.living(name).get(key)
        given: dict[str, Any] = {}
        fits = True
        if how == "absent":
            given, fits = {"if_absent": True}, there is None
        elif how == "version":
            given, fits = {"if_version": 0 if there is None else there[2]}, there is not None
        elif how == "stale":
            old = sorted(self.versions - ({there[2]} if there else set()))
            given, fits = {"if_version": old[0] if old else 0}, False
        if not fits:
            with pytest.raises(ConflictError):
                self.db(name).kv.put("n", key, value, ttl=ttl, **given)
            return
        done = self.db(name).kv.put("n", key, value, ttl=ttl, **given)
        assert done.version not in self.versions
        self.versions.add(done.version)
        self.now[name][key] = (value, None if ttl is None else self.clock.ms + ttl * 1000, done.version)
        self.kept(name, done.txid)

    @rule(which=st.integers(0, 1), key=st.sampled_from(["a", "ab", "b", "\U0010ffff"]))
    def delete(self, which: int, key: str) -> None:
        name = self.branch(which)
        there = key in self.living(name)
        done = self.db(name).kv.delete("n", key)
        assert done.deleted == there
        if there:
            del self.now[name][key]
            self.kept(name, done.txid)

    @rule(which=st.integers(0, 1), limit=st.integers(1, 3))
    def sweep(self, which: int, limit: int) -> None:
        name = self.branch(which)
        dead = self.now[name].keys() - self.living(name).keys()
        branch = branch_of(self.db(name))
        assert sweep(branch, engine_of(self.mt).clock.now_ms(), limit) == min(limit, len(dead))
        with plain_connection(branch.head()) as connection:
            here = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = '__memoturn_kv'").fetchall()
            left = (
                {k.decode() for (k,) in connection.execute("SELECT k FROM __memoturn_kv")} if here else set()
            )
        self.now[name] = {key: kept for key, kept in self.now[name].items() if key in left}
        assert self.now[name].keys() >= self.living(name).keys()
        self.kept(name, branch.head().txid)

    @rule(seconds=st.integers(1, 15))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(which=st.integers(0, 1), back=st.integers(0, 10))
    def read_the_past(self, which: int, back: int) -> None:
        name = self.branch(which)
        positions = sorted(self.then[name])
        txid = positions[-1 - back % len(positions)]
        at = self.db(name).at(txid)
        living = {
            k: v for k, (v, end, _) in self.then[name][txid].items() if end is None or end > self.clock.ms
        }
        assert {key: at.kv.get("n", key) for key in ("a", "ab", "b", "\U0010ffff")} == {
            key: living.get(key) for key in ("a", "ab", "b", "\U0010ffff")
        }
        assert set(listed(at)) == living.keys()

    @invariant()
    def every_branch_is_what_the_model_says(self) -> None:
        if not hasattr(self, "now"):
            return
        for name in self.now:
            living, db = self.living(name), self.db(name)
            assert listed(db) == sorted(living, key=str.encode)
            assert listed(db, "a") == sorted(key for key in living if key.startswith("a"))
            for key, (value, _, version) in living.items():
                entry = db.kv.entry("n", key)
                assert entry is not None
                assert (db.kv.get("n", key), entry.value, entry.version) == (value, value, version)


TestKeys = Keys.TestCase
TestKeys.settings = settings(max_examples=80, stateful_step_count=30)


def test_keys_are_there_in_an_exported_file(db: Database, tmp_path: Path) -> None:
    db.kv.put("n", "k", b"v")
    db.export(tmp_path / "copy.sqlite")
    connection = apsw.Connection(str(tmp_path / "copy.sqlite"))
    assert connection.execute("SELECT ns, k, v FROM __memoturn_kv").fetchall() == [("n", b"k", b"v")]
    connection.close()


def engine_of_db(db: Database) -> Any:
    return db._engine
