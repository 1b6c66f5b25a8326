"""Keys, documents, vectors and turns: the same on a store and on a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from memoturn import (
    AlreadyExistsError,
    ConflictError,
    DatabaseNotFoundError,
    InvalidRequestError,
    KvEntry,
    KvPage,
    PayloadTooLargeError,
)

WHEN = datetime(2026, 3, 4, 5, 6, 7, 89_000, UTC)


@pytest.mark.parametrize(
    "key",
    [
        "k",
        "a/b",
        "a//b",
        "/",
        ".",
        "..",
        "../../etc",
        "é 🎷",
        "%2F",
        "a?b#c",
        "a b+c",
        "\0",
        "x" * 1000,
        "~'\"",
    ],
)
def test_any_text_is_a_key(db: Any, key: str) -> None:
    db.kv.put("ns", key, key)
    assert db.kv.get("ns", key) == key.encode()
    assert [one.key for one in db.kv.list("ns").keys] == [key]
    assert db.kv.delete("ns", key).deleted
    assert db.kv.get("ns", key) is None


@pytest.mark.parametrize(
    "value", [b"", b"\0\xff" * 7, "é", bytearray(b"x"), memoryview(b"yz"), b"v" * (5 << 20)]
)
def test_any_bytes_are_a_value(db: Any, value: Any) -> None:
    done = db.kv.put("n", "k", value)
    wanted = value.encode() if isinstance(value, str) else bytes(value)
    assert db.kv.get("n", "k") == wanted
    entry = db.kv.entry("n", "k")
    assert isinstance(entry, KvEntry)
    assert (entry.value, entry.version, entry.txid) == (wanted, done.version, done.txid)
    assert (entry.meta, entry.expires_at) == (None, None)


def test_a_key_has_metadata_and_an_end(db: Any) -> None:
    meta = {"a": [1, 2.5, None, "é\n"], "b": {"c": True}}
    db.kv.put("n", "k", b"v", ttl=3600, meta=meta)
    entry = db.kv.entry("n", "k")
    assert entry.meta == meta
    assert timedelta(minutes=59) < entry.expires_at - datetime.now(UTC) < timedelta(minutes=61)
    db.kv.put("n", "k", b"v", meta={"long": "x" * 20_000})
    assert db.kv.entry("n", "k").meta == {"long": "x" * 20_000}
    for bad in ([], {"a": object()}, {"a": float("nan")}, {1: 2}):
        with pytest.raises(InvalidRequestError):
            db.kv.put("n", "k", b"v", meta=bad)
    for ttl in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InvalidRequestError):
            db.kv.put("n", "k", b"v", ttl=ttl)


def test_agents_agree_on_who_comes_first(db: Any) -> None:
    first = db.kv.put("n", "lock", b"1", if_absent=True)
    with pytest.raises(ConflictError, match="not absent"):
        db.kv.put("n", "lock", b"2", if_absent=True)
    second = db.kv.put("n", "lock", b"2", if_version=first.version)
    with pytest.raises(ConflictError, match="not at version"):
        db.kv.put("n", "lock", b"3", if_version=first.version)
    with pytest.raises(ConflictError):
        db.kv.delete("n", "lock", if_version=first.version)
    assert db.kv.get("n", "lock") == b"2"
    assert db.kv.delete("n", "lock", if_version=second.version).deleted
    assert not db.kv.delete("n", "lock").deleted
    for bad in (-1, "1", 1.0):
        with pytest.raises(InvalidRequestError):
            db.kv.put("n", "lock", b"", if_version=bad)
    with pytest.raises(InvalidRequestError):
        db.kv.put("n", "lock", b"", if_absent=True, if_version=1)


def test_keys_are_listed_page_by_page(db: Any) -> None:
    for number in range(7):
        db.kv.put("n", f"a/{number}", b"x" * number)
    db.kv.put("n", "b", b"")
    page = db.kv.list("n", "a/", limit=3)
    assert isinstance(page, KvPage)
    assert [one.key for one in page.keys] == ["a/0", "a/1", "a/2"]
    assert [one.size for one in page.keys] == [0, 1, 2]
    rest = db.kv.list("n", "a/", cursor=page.cursor)
    assert (len(rest.keys), rest.cursor) == (4, None)
    assert [one.key for one in db.kv.keys("n")] == [*(f"a/{i}" for i in range(7)), "b"]
    assert list(db.kv.keys("none")) == []
    for bad in ({"cursor": "?"}, {"limit": 0}, {"limit": "x"}):
        with pytest.raises(InvalidRequestError):
            db.kv.list("n", **bad)


@pytest.mark.parametrize("bad", [("", "k"), ("n", ""), ("n", 7), ("a b", "k"), ("n", "\ud800")])
def test_names_that_cannot_be_are_refused(db: Any, bad: tuple[Any, Any]) -> None:
    for act in (db.kv.get, db.kv.entry, db.kv.delete):
        with pytest.raises(InvalidRequestError):
            act(*bad)
    with pytest.raises(InvalidRequestError):
        db.kv.put(*bad, b"")


def test_what_is_too_long_is_refused(db: Any) -> None:
    with pytest.raises(PayloadTooLargeError):
        db.kv.put("n", "k", b"v" * (25 << 20))
    with pytest.raises(InvalidRequestError):
        db.kv.put("n", "k", 7)


def test_documents(db: Any) -> None:
    docs = db.docs
    done = docs.insert(
        "people", {"_id": "a", "name": "Ada", "age": 36, "tags": ["x"], "deep": {"b": [1, {}]}}
    )
    assert (done.id, done.ids) == ("a", ["a"])
    assert len(docs.insert("people", [{"name": "Bo", "age": 7}, {"name": "Cy", "age": 50}]).ids) == 2
    assert docs.get("people", "a") == {
        "_id": "a", "name": "Ada", "age": 36, "tags": ["x"], "deep": {"b": [1, {}]},
    }  # fmt: skip
    assert docs.get("people", "none") is None
    assert docs.get("nothing", "a") is None
    found = docs.find("people", {"age": {"$gte": 10}}, sort={"age": -1}, limit=1)
    assert ([one["name"] for one in found], found.more, found.txid) == (["Cy"], True, db.txid)
    assert [one["name"] for one in docs.find("people", sort={"age": 1}, skip=1)] == ["Ada", "Cy"]
    assert (docs.count("people"), docs.count("people", {"name": "Bo"}), docs.count("nothing")) == (3, 1, 0)
    changed = docs.update("people", {"name": "Bo"}, {"$set": {"age": 8}, "$push": {"tags": "y"}})
    assert (changed.matched, changed.modified) == (1, 1)
    assert docs.update("people", None, {"$inc": {"age": 1}}).matched == 3
    index = docs.create_index("people", "age")
    assert (index.path, index.changed, docs.create_index("people", "age").changed) == ("age", True, False)
    assert docs.indexes("people") == ["age"]
    assert docs.explain("people", {"age": 9}).indexes == ["age"]
    assert docs.explain("people", sort={"age": 1}).plan
    assert docs.drop_index("people", "age").changed
    assert not docs.drop_index("people", "age").changed
    assert docs.delete("people", {"name": "Bo"}).deleted == 1
    assert docs.collections() == ["people"]
    with pytest.raises(AlreadyExistsError, match="'a'"):
        docs.insert("people", {"_id": "a"})


@pytest.mark.parametrize(
    "bad",
    [
        7,
        "text",
        [],
        [7],
        {"a": object()},
        {"a": b"bytes"},
        {"a": WHEN},
        {"a": {1, 2}},
        {1: 2},
        {"a": 1 << 70},
    ],
)
def test_what_is_no_document_is_refused(db: Any, bad: Any) -> None:
    with pytest.raises(InvalidRequestError):
        db.docs.insert("c", bad)
    assert db.docs.count("c") == 0


@pytest.mark.parametrize("bad", [{"a": {"$near": 1}}, {"$where": "1"}, {"a": object()}, 7, {"a": {"$in": 7}}])
def test_filters_that_mean_nothing_are_refused(db: Any, bad: Any) -> None:
    db.docs.insert("c", {"a": 1})
    for act in (db.docs.find, db.docs.count, db.docs.delete, db.docs.explain):
        with pytest.raises(InvalidRequestError):
            act("c", bad)
    with pytest.raises(InvalidRequestError):
        db.docs.update("c", bad, {"$set": {"a": 2}})


def test_arguments_of_documents_that_mean_nothing_are_refused(db: Any) -> None:
    for act in (
        lambda: db.docs.find("c", limit=0),
        lambda: db.docs.find("c", limit="x"),
        lambda: db.docs.find("c", skip=-1),
        lambda: db.docs.find("c", sort={"a": 2}),
        lambda: db.docs.update("c", {}, {"$rename": {"a": "b"}}),
        lambda: db.docs.update("c", {}, {}),
        lambda: db.docs.delete("c", None),
        lambda: db.docs.create_index("c", ""),
        lambda: db.docs.find("", {}),
        lambda: db.docs.find("a/../b" * 200, {}),
    ):
        with pytest.raises(InvalidRequestError):
            act()


def test_vectors(db: Any) -> None:
    vectors = db.vectors
    assert vectors.upsert("v", "a", [1, 0], {"kind": "x"}).upserted == 1
    items = [
        {"id": "b/c", "vector": np.array([0, 1], np.float32)},
        {"id": "d", "vector": (1, 1), "meta": {"kind": "y"}},
    ]
    assert vectors.upsert_many("v", items).upserted == 2
    entry = vectors.get("v", "a")
    assert (entry.id, entry.vector, entry.meta) == ("a", [1.0, 0.0], {"kind": "x"})
    assert vectors.get("v", "b/c").vector == [0.0, 1.0]
    assert vectors.get("v", "none") is None
    hits = vectors.search("v", np.array([1.0, 0.1]), k=2)
    assert [hit.id for hit in hits] == ["a", "d"]
    assert hits.txid == db.txid
    assert hits[0].meta == {"kind": "x"}
    assert [hit.id for hit in vectors.search("v", [1, 0], filter={"kind": "y"}, metric="l2")] == ["d"]
    assert [(c.name, c.dimension, c.vectors) for c in vectors.collections()] == [("v", 2, 3)]
    assert vectors.delete("v", "b/c").deleted
    assert not vectors.delete("v", "b/c").deleted
    for bad in ([1, 2, 3], [], [float("nan"), 1], ["a", "b"], "ab", 7, [0, 0]):
        with pytest.raises(InvalidRequestError):
            vectors.upsert("v", "z", bad)
        with pytest.raises(InvalidRequestError):
            vectors.search("v", bad)
    with pytest.raises(InvalidRequestError):
        vectors.search("v", [1, 0], metric="dot")
    with pytest.raises(InvalidRequestError):
        vectors.upsert_many("v", [{"id": "z"}])
    with pytest.raises(InvalidRequestError):
        vectors.upsert_many("v", 7)


def test_turns(db: Any) -> None:
    turns = db.turns
    done = turns.append("s/1", "user", "I like tea", created_at=WHEN)
    assert (done.seq, done.seqs) == (1, [1])
    assert turns.append_many(
        "s/1",
        [{"role": "assistant", "content": "Green or black?"}, {"role": "user", "content": "Oolong tea"}],
    ).seqs == [2, 3]
    window = turns.window("s/1", last=2)
    assert [(one.seq, one.role) for one in window] == [(2, "assistant"), (3, "user")]
    assert window.txid == db.txid
    assert turns.window("s/1")[0].created_at == WHEN
    assert turns.window("none") == []
    found = turns.search("tea")
    assert {one.seq for one in found} == {1, 3}
    assert found[0].score is not None
    assert [one.seq for one in turns.search("oolong", session="s/1", k=1)] == [3]
    turns.append("s2", "user", "with a vector", [1.0, 0.0])
    assert [one.session for one in turns.search(vector=[1, 0.1])] == ["s2"]
    assert [(one.session, one.turns) for one in turns.sessions()] == [("s/1", 3), ("s2", 1)]
    assert [one.session for one in turns.sessions(after="s/1")] == ["s2"]
    assert [one.session for one in turns.sessions(limit=1)] == ["s/1"]
    assert turns.delete("s/1").turns == 3
    assert turns.window("s/1") == []


def test_turns_that_cannot_be_are_refused(db: Any) -> None:
    for act in (
        lambda: db.turns.append("", "user", "x"),
        lambda: db.turns.append("s", "", "x"),
        lambda: db.turns.append("s", "user", 7),
        lambda: db.turns.append("s", "user", "x", [float("nan")]),
        lambda: db.turns.append("s", "user", "x", created_at=datetime(2026, 1, 1)),
        lambda: db.turns.append("s", "user", "x", created_at="2026-01-01T00:00:00Z"),
        lambda: db.turns.append_many("s", [{"role": "user"}]),
        lambda: db.turns.append_many("s", [7]),
        lambda: db.turns.append_many("s", 7),
        lambda: db.turns.append_many("s", []),
        lambda: db.turns.search(),
        lambda: db.turns.search("a", vector=[1.0]),
        lambda: db.turns.window("s", last=0),
        lambda: db.turns.search("a", k=0),
    ):
        with pytest.raises(InvalidRequestError):
            act()
    assert db.turns.sessions() == []


def test_no_model_reads_a_database_that_is_not_there(mt: Any) -> None:
    db = mt.db("nobody")
    for act in (
        lambda: db.kv.get("n", "k"),
        lambda: db.kv.list("n"),
        lambda: db.docs.get("c", "i"),
        lambda: db.docs.find("c"),
        lambda: db.vectors.get("c", "i"),
        lambda: db.vectors.collections(),
        lambda: db.turns.window("s"),
        lambda: db.kv.put("n", "k", b""),
    ):
        with pytest.raises(DatabaseNotFoundError, match="nobody"):
            act()
