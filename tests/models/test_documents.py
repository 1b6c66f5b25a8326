"""Documents come back field for field, indexes are used, and collections fork and rewind with everything else."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from memoturn import AlreadyExistsError, Database, InvalidRequestError, MemoturnError
from tests.models.branching import Branching
from tests.models.test_filters import fits
from tests.support import assert_whole, branch_of, plain_connection

MIB = 1 << 20


def exactly(value: Any) -> Any:
    """A value whose comparison tells 1 from 1.0 and from true, and 0.0 from -0.0."""
    if isinstance(value, dict):
        return {name: exactly(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [exactly(item) for item in value]
    return type(value), repr(value)


def names(db: Database) -> set[str]:
    with plain_connection(branch_of(db).head()) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}


# Documents.


def test_a_document_is_given_an_id_and_comes_back(db: Database) -> None:
    done = db.docs.insert("notes", {"text": "tea", "tags": ["a", {"b": None}]})
    assert (len(done.id), done.ids, done.txid) == (26, [done.id], 2)
    expected = {"_id": done.id, "text": "tea", "tags": ["a", {"b": None}]}
    assert db.docs.get("notes", done.id) == expected
    found = db.docs.find("notes", {"text": "tea"})
    assert (list(found), found.more, found.txid) == ([expected], False, 2)
    assert next(iter(found[0])) == "_id"


def test_ids_may_be_given_and_are_taken_once(db: Database) -> None:
    db.docs.insert("notes", {"_id": "one", "n": 1})
    db.docs.insert("other", {"_id": "one", "n": 2})
    for again in ({"_id": "one"}, [{"_id": "two"}, {"_id": "one"}], [{"_id": "three"}, {"_id": "three"}]):
        with pytest.raises(AlreadyExistsError, match="nothing was inserted"):
            db.docs.insert("notes", again)
    assert db.docs.find("notes") == [{"_id": "one", "n": 1}]
    assert db.txid == 3


def test_many_documents_are_one_transaction(db: Database) -> None:
    done = db.docs.insert("notes", [{"n": n} for n in range(1500)])
    assert (len(set(done.ids)), done.txid) == (1500, 2)
    found = db.docs.find("notes", sort={"n": 1}, limit=5000, skip=300)
    assert (len(found), found.more, found[0]["n"]) == (1000, True, 300)
    assert db.docs.count("notes", {"n": {"$lt": 7}}) == 7


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300)
@given(document=st.dictionaries(ANY_TEXT.filter(lambda name: name != "_id"), ANY_JSON, max_size=5))
def test_any_json_object_comes_back_field_for_field(db: Database, document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    id_ = db.docs.insert("any", document).id
    assert exactly(document) == exactly(before)
    found = db.docs.get("any", id_)
    assert exactly(found) == exactly({"_id": id_, **document})
    assert list(found or {}) == ["_id", *document]
    conditions = [{name: {"$eq": value}} for name, value in document.items() if ok(name, value)]
    assert db.docs.count("any", {"$and": [{"_id": id_}, *conditions]}) == 1


def ok(name: str, value: Any) -> bool:
    return bool(name) and "." not in name and name[0] != "$" and len(repr(value)) < 100


def test_sixteen_mebibytes_round_trip(db: Database) -> None:
    document = {"text": "é\x00" * (8 * MIB // 3), "numbers": [0.1] * 1000, "rest": "x" * (2 * MIB)}
    id_ = db.docs.insert("large", document).id
    assert db.docs.get("large", id_) == {"_id": id_, **document}
    text = {"_id": "plain", "text": "x" * (16 * MIB)}
    db.docs.insert("large", text)
    assert db.docs.find("large", {"_id": "plain"}) == [text]
    assert_whole(db, [db.txid])


def test_what_is_no_json_object_is_refused(db: Database) -> None:
    deep: Any = 1
    for _ in range(101):
        deep = [deep]
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    for wrong in (
        None, "text", 7, [], [1], [[{}]], ({"a": 1}, 2), {"a": float("nan")}, {"a": [float("-inf")]}, {1: 2},
        {"a": {None: 1}}, {"a": b"x"}, {"a": object()}, {"a": {1, 2}}, {"a": 2**63}, {"a": 10**5000}, 10**5000,
        {"a": -(2**63) - 1},
        {"a": "\ud800"}, {"\udfff": 1}, {"a": deep}, cycle, {"_id": 7}, {"_id": ""}, {"_id": None},
        {"_id": "x" * 513}, {"_id": "\ud800"}, [{}] * 10_001, iter([{}]),
    ):  # fmt: skip
        with pytest.raises(InvalidRequestError) as refused:
            db.docs.insert("notes", wrong)  # type: ignore[arg-type]
        assert len(str(refused.value)) < 400
    with pytest.raises(MemoturnError) as too_large:
        db.docs.insert("notes", {"a": "x" * (24 * MIB)})
    assert too_large.value.code == "payload_too_large"
    assert db.txid == 1


def test_an_error_says_where_it_lies(db: Database) -> None:
    with pytest.raises(InvalidRequestError, match=r"at 'a\.1\.b' is nan"):
        db.docs.insert("notes", {"a": [1, {"b": float("nan")}]})


@pytest.mark.parametrize("name", ["", "a b", "a/b", 'a"b', "é", ".a", "-a", "a" * 129, None, 7])
def test_a_collection_that_cannot_be_is_refused(db: Database, name: Any) -> None:
    for call in (
        lambda: db.docs.insert(name, {}),
        lambda: db.docs.find(name),
        lambda: db.docs.get(name, "x"),
        lambda: db.docs.count(name),
        lambda: db.docs.update(name, {}, {"$set": {"a": 1}}),
        lambda: db.docs.delete(name, {}),
        lambda: db.docs.create_index(name, "a"),
        lambda: db.docs.indexes(name),
        lambda: db.docs.explain(name),
    ):
        with pytest.raises(InvalidRequestError, match="collection"):
            call()


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"limit": "5"}, {"limit": True}, {"skip": -1}, {"skip": 1.0}], ids=repr
)
def test_a_page_that_cannot_be_is_refused(db: Database, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        db.docs.find("notes", **wrong)


def test_collections_are_told_apart_by_capitals(db: Database) -> None:
    for name in ("notes", "Notes", "nOTES", "n_otes", "a.b-c"):
        db.docs.insert(name, {"in": name})
        db.docs.create_index(name, "in")
        db.docs.create_index(name, "In")
    assert sorted(db.docs.collections()) == sorted(["notes", "Notes", "nOTES", "n_otes", "a.b-c"])
    for name in ("notes", "Notes", "nOTES", "n_otes", "a.b-c"):
        assert [d["in"] for d in db.docs.find(name)] == [name]
        assert sorted(db.docs.indexes(name)) == ["In", "in"]
        assert db.docs.explain(name, {"In": 1}).indexes == ["In"]


def test_what_is_read_before_anything_was_inserted_is_empty_and_makes_nothing(db: Database) -> None:
    assert db.docs.get("notes", "x") is None
    assert db.docs.find("notes", {"a": 1}) == []
    assert db.docs.count("notes") == 0
    assert db.docs.indexes("notes") == []
    assert db.docs.explain("notes").plan == []
    assert db.docs.collections() == []
    assert db.docs.update("notes", {}, {"$set": {"a": 1}}).matched == 0
    assert db.docs.delete("notes", {}).deleted == 0
    assert not db.docs.drop_index("notes", "a").changed
    assert db.txid == 1
    assert names(db) == {"t"}


def test_the_past_is_read_and_not_written(db: Database) -> None:
    db.docs.insert("notes", {"_id": "x", "n": 1})
    db.docs.update("notes", {}, {"$set": {"n": 2}})
    assert db.at(1).docs.find("notes") == []
    assert db.at(2).docs.find("notes") == [{"_id": "x", "n": 1}]
    for call in (
        lambda: db.at(2).docs.insert("notes", {}),
        lambda: db.at(2).docs.update("notes", {}, {"$set": {"n": 3}}),
        lambda: db.at(2).docs.delete("notes", {}),
        lambda: db.at(2).docs.create_index("notes", "n"),
        lambda: db.at(2).docs.drop_index("notes", "n"),
    ):
        with pytest.raises(InvalidRequestError, match="read-only"):
            call()


# Updates and deletions.


def test_an_update_changes_all_that_fits_or_nothing(db: Database) -> None:
    db.docs.insert("n", [{"_id": "a", "n": 1}, {"_id": "b", "n": 2}, {"_id": "c", "n": "x"}])
    before = db.txid
    with pytest.raises(InvalidRequestError, match=r"document 'c'.*nothing was changed"):
        db.docs.update("n", {}, {"$inc": {"n": 1}})
    assert db.txid == before
    done = db.docs.update("n", {"n": {"$gte": 1}}, {"$inc": {"n": 1}})
    assert (done.matched, done.modified, done.txid) == (2, 2, before + 1)
    assert [d["n"] for d in db.docs.find("n")] == [2, 3, "x"]
    same = db.docs.update("n", {}, {"$unset": {"nothing": ""}})
    assert (same.matched, same.modified, same.txid) == (3, 0, before + 1)
    with pytest.raises(MemoturnError) as too_large:
        db.docs.update("n", {"_id": "a"}, {"$set": {"a": "x" * (20 * MIB), "b": "x" * (20 * MIB)}})
    assert too_large.value.code == "payload_too_large"
    db.docs.insert("n", {"_id": "d"})
    assert_whole(db)


def test_a_deletion_says_what_it_deletes(db: Database) -> None:
    db.docs.insert("n", [{"n": n} for n in range(5)])
    assert db.docs.delete("n", {"n": {"$in": [1, 3, 9]}}).deleted == 2
    with pytest.raises(InvalidRequestError, match="fits all"):
        db.docs.delete("n", None)  # type: ignore[arg-type]
    assert db.docs.delete("n", {}).deleted == 3
    assert db.docs.collections() == ["n"]


# Indexes.


@pytest.mark.parametrize(
    ("filter_", "sort", "used"),
    [
        ({"age": 7}, None, ["age"]),
        ({"age": {"$gt": 7, "$lte": 9}}, None, ["age"]),
        ({"age": {"$gt": 7}}, None, ["age"]),
        ({"age": {"$lte": 7}}, None, ["age"]),
        ({"home.city": {"$lt": "c2"}}, {"other": 1}, ["home.city"]),
        ({"age": None}, None, ["age"]),
        ({"age": {"$in": [1, "x"]}}, None, ["age"]),
        ({"home.city": "Bern"}, None, ["home.city"]),
        ({"home.city": "Bern", "other": 1}, None, ["home.city"]),
        ({"$and": [{"home.city": {"$gte": "B"}}, {"other": 1}]}, None, ["home.city"]),
        ({"$or": [{"age": 1}, {"home.city": "x"}]}, None, ["age", "home.city"]),
        ({"tags.0": "x"}, None, ["tags.0"]),
        ({'od"d^ Path/é': 1}, None, ['od"d^ Path/é']),
        ({"_id": "x"}, None, ["_id"]),
        ({}, {"age": 1}, ["age"]),
        ({}, {"age": -1}, ["age"]),
        ({"other": 1}, None, []),
        ({"age": {"$ne": 7}}, None, []),
    ],
    ids=repr,
)
def test_explain_shows_the_index_that_is_used(
    db: Database, filter_: dict[str, Any], sort: dict[str, int] | None, used: list[str]
) -> None:
    db.docs.insert("p", [{"age": n, "home": {"city": f"c{n}"}, "tags": [f"t{n}"]} for n in range(50)])
    assert db.docs.explain("p", filter_, sort=sort).indexes == (["_id"] if used == ["_id"] else [])
    before = db.docs.find("p", filter_, sort=sort)
    for path in ("age", "home.city", "tags.0", 'od"d^ Path/é'):
        assert db.docs.create_index("p", path).changed
    explained = db.docs.explain("p", filter_, sort=sort)
    assert explained.indexes == used
    if sort and used == [*sort]:
        assert not any("TEMP B-TREE" in line for line in explained.plan)
    assert db.docs.find("p", filter_, sort=sort) == before


def test_indexes_come_and_go(db: Database) -> None:
    first = db.docs.create_index("p", "a.b")
    assert (first.path, first.changed, first.txid) == ("a.b", True, 2)
    again = db.docs.create_index("p", "a.b")
    assert (again.changed, again.txid) == (False, 2)
    assert db.docs.indexes("p") == ["a.b"]
    assert db.docs.collections() == ["p"]
    assert db.docs.drop_index("p", "a.b").changed
    assert not db.docs.drop_index("p", "a.b").changed
    assert db.docs.indexes("p") == []
    assert db.at(2).docs.indexes("p") == ["a.b"]
    for n in range(64):
        db.docs.create_index("p", f"f{n}")
    with pytest.raises(InvalidRequestError, match="64 indexes"):
        db.docs.create_index("p", "one_more")
    for path in ("_id", "", "$x", "a..b", None):
        with pytest.raises(InvalidRequestError):
            db.docs.create_index("p", path)  # type: ignore[arg-type]
    db.docs.insert("p", {"f7": 3, "a": 1})
    assert db.docs.find("p", {"f7": 3})[0]["a"] == 1
    assert_whole(db, [db.txid])


# Against a model.


class Collections(Branching):
    """Documents on a branch and a fork of it, changed and rewound, against dictionaries."""

    @initialize()
    def create(self) -> None:
        self.begin({})

    @rule(
        which=st.integers(0, 1),
        ids=st.lists(st.sampled_from("abcd"), min_size=1, max_size=2),
        n=st.integers(0, 3),
    )
    def insert(self, which: int, ids: list[str], n: int) -> None:
        name = self.branch(which)
        documents = [{"_id": id_, "n": n, "t": [n]} for id_ in ids]
        if len(set(ids)) < len(ids) or set(ids) & self.now[name].keys():
            with pytest.raises(AlreadyExistsError):
                self.db(name).docs.insert("c", documents)
            return
        txid = self.db(name).docs.insert("c", documents).txid
        self.now[name].update({document["_id"]: document for document in copy.deepcopy(documents)})
        self.kept(name, txid)

    @rule(which=st.integers(0, 1), n=st.integers(0, 3), by=st.integers(-1, 1))
    def increase(self, which: int, n: int, by: int) -> None:
        name = self.branch(which)
        done = self.db(name).docs.update("c", {"n": {"$gte": n}}, {"$inc": {"n": by}, "$set": {"m.n": by}})
        chosen = [document for document in self.now[name].values() if document["n"] >= n]
        changed = [document for document in chosen if by or document.get("m") != {"n": by}]
        for document in chosen:
            document["n"] += by
            document["m"] = {"n": by}
        assert (done.matched, done.modified) == (len(chosen), len(changed))
        if changed:
            self.kept(name, done.txid)

    @rule(which=st.integers(0, 1), n=st.integers(0, 3))
    def delete(self, which: int, n: int) -> None:
        name = self.branch(which)
        chosen = [id_ for id_, document in self.now[name].items() if document["n"] == n]
        done = self.db(name).docs.delete("c", {"n": n})
        assert done.deleted == len(chosen)
        for id_ in chosen:
            del self.now[name][id_]
        if chosen:
            self.kept(name, done.txid)

    @rule(which=st.integers(0, 1), drop=st.booleans())
    def index(self, which: int, drop: bool) -> None:
        name = self.branch(which)
        docs = self.db(name).docs
        done = docs.drop_index("c", "n") if drop else docs.create_index("c", "n")
        if done.changed:
            self.kept(name, done.txid)

    @rule(which=st.integers(0, 1), back=st.integers(0, 10))
    def read_the_past(self, which: int, back: int) -> None:
        name = self.branch(which)
        positions = sorted(self.then[name])
        txid = positions[-1 - back % len(positions)]
        assert by_id(self.db(name).at(txid).docs.find("c")) == self.then[name][txid]

    @invariant()
    def every_branch_is_what_the_model_says(self) -> None:
        for name in getattr(self, "now", ()):
            assert by_id(self.db(name).docs.find("c")) == self.now[name]
            for filter_ in ({"n": 1}, {"n": {"$lt": 2}}, {"m.n": None}, {"t": {"$ne": [1]}}):
                found = by_id(self.db(name).docs.find("c", filter_))
                assert found == {i: d for i, d in self.now[name].items() if fits(d, filter_)}


def by_id(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {document["_id"]: document for document in found}


TestCollections = Collections.TestCase
TestCollections.settings = settings(max_examples=60, stateful_step_count=25)
