"""Filters, sorts and updates mean what a small model in Python says that they mean."""

from __future__ import annotations

from typing import Any

import apsw
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memoturn import InvalidRequestError
from memoturn.models import documents as model
from memoturn.models.filters import compile_filter, compile_sort
from memoturn.models.guard import protect
from memoturn.models.paths import is_position
from memoturn.models.updates import apply, parse_update

MISSING: Any = object()


# The model.


def resolve(document: Any, path: str) -> Any:
    here = document
    for name in path.split("."):
        if isinstance(here, dict) and name in here:
            here = here[name]
        elif isinstance(here, list) and is_position(name) and int(name) < len(here):
            here = here[int(name)]
        else:
            return MISSING
    return here


def kind(value: Any) -> str:
    if value is None or value is MISSING:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return {int: "number", float: "number", str: "text", list: "array", dict: "object"}[type(value)]


def equal(one: Any, two: Any) -> bool:
    if kind(one) != kind(two):
        return False
    if kind(one) == "null":
        return True
    if isinstance(one, list):
        return len(one) == len(two) and all(map(equal, one, two))
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[name], two[name]) for name in one)
    return bool(one == two)


def below(one: Any, two: Any) -> bool:
    if isinstance(one, str):
        return one.encode() < two.encode()
    return bool(one < two)


def holds(value: Any, name: str, of: Any) -> bool:
    if name in ("$gt", "$gte", "$lt", "$lte"):
        if kind(value) != kind(of):
            return False
        one, two = (of, value) if name.startswith("$gt") else (value, of)
        return below(one, two) or (name.endswith("e") and equal(one, two))
    if name == "$exists":
        return (value is not MISSING) == of
    if name in ("$in", "$nin"):
        return any(equal(value, item) for item in of) == (name == "$in")
    if name == "$not":
        return not all(holds(value, inner, of[inner]) for inner in of)
    return equal(value, of) == (name == "$eq")


def fits(document: Any, filter_: dict[str, Any]) -> bool:
    for name, of in filter_.items():
        if name == "$and":
            fit = all(fits(document, item) for item in of)
        elif name == "$or":
            fit = any(fits(document, item) for item in of)
        elif name == "$not":
            fit = not fits(document, of)
        elif isinstance(of, dict) and any(inner.startswith("$") for inner in of):
            fit = all(holds(resolve(document, name), inner, of[inner]) for inner in of)
        else:
            fit = equal(resolve(document, name), of)
        if not fit:
            return False
    return True


def rank(value: Any) -> tuple[Any, ...]:
    if kind(value) == "null":
        return (0,)
    if kind(value) in ("number", "boolean"):
        return (1, value)
    return (2, value.encode() if isinstance(value, str) else msgspec.json.encode(value))


# What is tried.

NAMES = ["a", "b", "0", "1", "é", 'q"\\', "x y", "", "a\x00", "a\x010", "\x00", "\x01"]
PATHS = st.sampled_from(
    [
        "a",
        "b",
        "a.a",
        "a.b",
        "a.0",
        "a.1",
        "b.0.a",
        "a.0.1",
        "0",
        "é",
        'q"\\',
        "x y.a",
        "a\x00",
        "a.a\x00",
        "a\x010",
        "\x00",
        "\x01",
        "_id",
    ]
)
NUMBERS = st.sampled_from(
    [
        0,
        1,
        -1,
        2,
        10,
        2**53,
        2**53 + 1,
        -(2**63),
        2**63 - 1,
        0.0,
        -0.0,
        1.0,
        0.1,
        2.5,
        float(2**53),
        1e300,
        2.0**63,
    ]
)
TEXTS = st.sampled_from(
    ["", "a", "b", "1", "true", "null", "[1]", '{"a":1}', "é", "\x00", "a\x00b", "\uffff", "\U00010000"]
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4)
PLAIN = st.one_of(
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), NUMBERS | TEXTS),
    st.tuples(st.sampled_from(["$eq", "$ne"]), JSON),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(JSON, max_size=4)),
    st.tuples(st.just("$exists"), st.booleans()),
)
OPERATORS = st.recursive(
    st.lists(PLAIN, min_size=1, max_size=2).map(dict),
    lambda inner: inner.map(lambda of: {"$not": of}),
    max_leaves=3,
)
FIELDS = st.dictionaries(PATHS, JSON | OPERATORS, max_size=2)
FILTERS = st.recursive(
    FIELDS,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$not": inner}),
        st.tuples(FIELDS, inner).map(lambda both: {**both[0], **both[1]}),
    ),
    max_leaves=4,
)


def holding(documents: list[dict[str, Any]], indexed: list[str]) -> tuple[apsw.Connection, model.Table]:
    connection = apsw.Connection(":memory:")
    protect(connection)
    table = model.table_of("Things")
    for path in indexed:
        model.create_index(connection, table, path)
    if documents:
        model.insert(
            connection, table, [model.encode(document, f"{n:02}") for n, document in enumerate(documents)]
        )
    return connection, table


@settings(max_examples=600, deadline=None)
@given(
    st.lists(DOCUMENTS, min_size=1, max_size=8),
    FILTERS,
    st.lists(st.sampled_from(["a", "b", "a.0", "a.b", 'q"\\']), max_size=2, unique=True),
)
@example([{"a": 1}, {"a": True}, {"a": "1"}, {"a": [1]}, {"a": None}, {}], {"a": 1}, ["a"])
@example([{"a": 2**53}, {"a": 2**53 + 1}, {"a": 2.0**53}], {"a": {"$gt": 2.0**53}}, ["a"])
@example([{"a": "[1]"}, {"a": [1]}, {"a": [1.0]}], {"a": [1]}, ["a"])
@example([{"a": "[1]"}, {"a": [1]}], {"a": "[1]"}, ["a"])
@example([{"a": "[1]"}, {"a": [1]}], {"a": {"$in": ["[1]"]}}, ["a"])
@example([{"a": "[1]"}, {"a": [1]}], {"a": {"$gt": "["}}, ["a"])
@example([{"a": 1}, {"a": True}], {"a": {"$lte": 1}}, ["a"])
@example([{"a": {"0": 1}}, {"a": [1]}, {"a": [0, 1]}], {"a.0": 1}, ["a.0"])
@example([{"a": {"b": None}}, {"a": {"a": None}}], {"a": {"b": None}}, [])
@example([{"a": 5}, {"b": 5}], {"a": {"$not": {"$gt": 3}}}, ["a"])
def test_a_filter_finds_what_the_model_finds(
    documents: list[dict[str, Any]], filter_: dict[str, Any], indexed: list[str]
) -> None:
    connection, table = holding(documents, indexed)
    whole = [{"_id": f"{n:02}", **document} for n, document in enumerate(documents)]
    expected = [document for document in whole if fits(document, filter_)]
    where = compile_filter(filter_)
    assert model.find(connection, table, where, compile_sort(None), 1000, 0) == expected
    assert model.count(connection, table, where) == len(expected)
    assert model.delete(connection, table, where) == len(expected)
    assert model.find(connection, table, compile_filter({}), "id", 1000, 0) == [
        d for d in whole if d not in expected
    ]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(DOCUMENTS, min_size=1, max_size=8),
    st.dictionaries(PATHS, st.sampled_from([1, -1]), max_size=2),
    st.lists(st.sampled_from(["a", "b", "a.0"]), max_size=2, unique=True),
    st.integers(0, 3),
    st.integers(1, 4),
)
@example([{"a": 1}, {"a": 1.5}, {"a": True}, {"a": "x"}, {"a": None}, {}], {"a": -1}, ["a"], 0, 9)
def test_a_sort_is_that_of_the_model(
    documents: list[dict[str, Any]], sort: dict[str, int], indexed: list[str], skip: int, limit: int
) -> None:
    connection, table = holding(documents, indexed)
    expected = [{"_id": f"{n:02}", **document} for n, document in enumerate(documents)]
    keys = [*sort.items()]
    for path, direction in reversed([*keys, ("_id", keys[-1][1] if keys else 1)]):
        expected.sort(key=lambda document: rank(resolve(document, path)), reverse=direction < 0)
    found = model.find(connection, table, compile_filter({}), compile_sort(sort), limit, skip)
    assert found == expected[skip : skip + limit]


# What is refused.


def nested(levels: int) -> dict[str, Any]:
    filter_: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        filter_ = {"$not": filter_}
    return filter_


@pytest.mark.parametrize(
    ("filter_", "says"),
    [
        ([], "is a JSON object"),
        ("a", "is a JSON object"),
        ({"$where": "1"}, "is no operator around conditions"),
        ({"$gt": 5}, "is no operator around conditions"),
        ({"a": {"$regex": "x"}}, "is no operator; there are"),
        ({"a": {"$gt": 5, "b": 1}}, "stands among operators"),
        ({"a": {"$gt": None}}, "number or a text"),
        ({"a": {"$lt": True}}, "number or a text"),
        ({"a": {"$gte": [1]}}, "number or a text"),
        ({"a": {"$gt": float("nan")}}, "no such number"),
        ({"a": float("nan")}, "no such number"),
        ({"a": float("inf")}, "no such number"),
        ({"a": 2**63}, "64 bits"),
        ({"a": 10**5000}, "64 bits"),
        ({"a": {"$gt": [10**5000]}}, "number or a text"),
        ({"a": {"$in": [2**70]}}, "64 bits"),
        ({"a": "\ud800"}, "not Unicode"),
        ({"a\ud800": 1}, "not Unicode"),
        ({"a": object()}, "no JSON value"),
        ({"a": b"x"}, "no JSON value"),
        ({"a": {1: 2}}, "names of fields are texts"),
        ({1: 2}, "a path is text"),
        ({"": 1}, "a path has"),
        ({"a..b": 1}, "not empty"),
        ({".a": 1}, "not empty"),
        ({"a.$b": 1}, "do not begin"),
        ({"a" * 513: 1}, "a path has"),
        ({".".join("a" * 33): 1}, "a path has"),
        ({"a.1.1.1.1.1": 1}, "names of digits"),
        ({"a": {"$in": 5}}, "takes a list"),
        ({"a": {"$in": list(range(1001))}}, "takes a list of 0 to 1,000"),
        ({"a": {"$nin": list(range(1001))}}, "takes a list of 0 to 1,000"),
        ({"a": list(range(1001))}, "1,000 items"),
        ({"$or": []}, "takes a list of 1 to 1,000"),
        ({"$and": {"a": 1}}, "takes a list"),
        ({"$or": [{"a": 1}] * 1001}, "takes a list of 1 to 1,000"),
        ({f"a{n}": 1 for n in range(1001)}, "1,000 items"),
        ({"$or": [{"a": [1, 2, 3, 4]}] * 1000}, "4,000 conditions"),
        ({"$not": [{"a": 1}]}, "is a JSON object"),
        ({"a": {"$not": 5}}, "$not takes operators"),
        ({"a": {"$not": {"b": 5}}}, "$not takes operators"),
        ({"a": {"$exists": 1}}, "true or false"),
        (nested(32), "32 levels"),
        ({"a": msgspec.json.decode("[" * 40 + "]" * 40)}, "32 levels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_filter_that_cannot_be_is_refused(filter_: Any, says: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        compile_filter(filter_)
    assert says in str(refused.value)
    assert len(str(refused.value)) < 700


@pytest.mark.parametrize(
    "filter_",
    [
        nested(30),
        {"$or": [{"a": n} for n in range(1000)]},
        {"$and": [{"b": {"$ne": n}} for n in range(1000)]},
        {"a": {"$in": [*range(500), *map(str, range(500))]}},
        {f"a{n}": None for n in range(1000)},
        {"$or": [{"a": n, "b": "x", "c": True} for n in range(1000)]},
        {"b": {"$ne": [n % 7 for n in range(900)]}},
        {".".join("a" * 32): None},
        {"a.1.1.1.1": None},
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_large_filter_works(filter_: dict[str, Any]) -> None:
    connection, table = holding([{"a": 1}, {"b": "x", "c": True, "a": 7}], [])
    found = model.find(connection, table, compile_filter(filter_), "id", 10, 0)
    expected = [{"_id": "00", "a": 1}, {"_id": "01", "b": "x", "c": True, "a": 7}]
    assert found == [document for document in expected if fits(document, filter_)]


@pytest.mark.parametrize(
    "sort", ["a", [("a", 1)], {"a": 0}, {"a": True}, {"a": "asc"}, {"": 1}, {"a": 1.0}], ids=repr
)
def test_a_sort_that_cannot_be_is_refused(sort: Any) -> None:
    with pytest.raises(InvalidRequestError):
        compile_sort(sort)


# Updates.


@pytest.mark.parametrize(
    ("before", "update", "after"),
    [
        ({}, {"$set": {"a": 1, "b.c": [2]}}, {"a": 1, "b": {"c": [2]}}),
        ({"a": {"b": 1}}, {"$set": {"a.c": None}}, {"a": {"b": 1, "c": None}}),
        ({"a": [1, 2]}, {"$set": {"a.0": 9, "a.2": 3}}, {"a": [9, 2, 3]}),
        ({"a": [{"b": 1}]}, {"$set": {"a.0.b": 2}}, {"a": [{"b": 2}]}),
        ({"a": {"0": 1}}, {"$set": {"a.0": 2}}, {"a": {"0": 2}}),
        ({"a": 1, "b": {"c": 2}}, {"$unset": {"a": "", "b.c": 1, "x.y": 1}}, {"b": {}}),
        ({"a": [1, 2]}, {"$unset": {"a.0": "", "a.7": ""}}, {"a": [None, 2]}),
        ({"a": 5}, {"$unset": {"a.b": ""}}, {"a": 5}),
        ({"n": 1}, {"$inc": {"n": 2, "m": -1, "x.y": 0.5}}, {"n": 3, "m": -1, "x": {"y": 0.5}}),
        ({"a": [1]}, {"$inc": {"a.0": 1}}, {"a": [2]}),
        ({"t": [1]}, {"$push": {"t": [2], "u": "x"}}, {"t": [1, [2]], "u": ["x"]}),
        ({"n": 1}, {"$set": {"a": 1}, "$inc": {"n": 1}, "$push": {"t": 1}}, {"n": 2, "a": 1, "t": [1]}),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_an_update_does_what_it_says(before: Any, update: Any, after: Any) -> None:
    apply(before, parse_update(update))
    assert before == after


@pytest.mark.parametrize(
    ("before", "update", "says"),
    [
        ({"a": 5}, {"$set": {"a.b": 1}}, "has no fields"),
        ({"a": [1]}, {"$set": {"a.2": 1}}, "0 to 1 are"),
        ({"a": [1]}, {"$set": {"a.b": 1}}, "is no place in an array"),
        ({"a": "x"}, {"$inc": {"a": 1}}, "is no number"),
        ({"a": True}, {"$inc": {"a": 1}}, "is no number"),
        ({"a": None}, {"$inc": {"a": 1}}, "is no number"),
        ({"a": 2**63 - 1}, {"$inc": {"a": 1}}, "beyond what a number can hold"),
        ({"a": 1e308}, {"$inc": {"a": 1e308}}, "beyond what a number can hold"),
        ({"a": 5}, {"$push": {"a": 1}}, "is no array"),
    ],
    ids=repr,
)
def test_an_update_that_does_not_fit_the_document_is_refused(before: Any, update: Any, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        apply(before, parse_update(update))


@pytest.mark.parametrize(
    ("update", "says"),
    [
        (None, "is an object of operators"),
        ({}, "is an object of operators"),
        ({"a": 1}, "is no operator of an update"),
        ({"$rename": {"a": "b"}}, "is no operator of an update"),
        ({"$set": [1]}, "takes an object of paths"),
        ({"$set": {"a": float("nan")}}, "no such number"),
        ({"$set": {"a": object()}}, "of type object"),
        ({"$set": {"_id": "x"}}, "does not change"),
        ({"$unset": {"_id": ""}}, "does not change"),
        ({"$inc": {"a": "1"}}, "takes a number"),
        ({"$inc": {"a": True}}, "takes a number"),
        ({"$inc": {"a": float("inf")}}, "no such number"),
        ({"$set": {"": 1}}, "a path has"),
        ({"$set": {"a": 1}, "$inc": {"a": 1}}, "inside of the other"),
        ({"$set": {"a": 1, "a.b": 1}}, "inside of the other"),
        ({"$set": {"a.b.c": 1, "b": 1}, "$unset": {"a.b": 1}}, "inside of the other"),
        ({"$set": {f"a{n}": n for n in range(1001)}}, "1,000 changes"),
    ],
)
def test_an_update_that_cannot_be_is_refused(update: Any, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        parse_update(update)
