"""Ids of memories: they are those of every release, whatever the order of fields."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoturn.base.errors import InvalidRequestError, PayloadTooLargeError
from memoturn.models.memory_draft import (
    canonical,
    draft_of,
    embedded_text,
    id_bytes,
    id_text,
    indexed_text,
)

FROZEN = [
    (
        {"type": "fact", "topic_key": "user.diet", "summary": "vegetarian since 2024"},
        "mem_76e9ffdedf09074a5dcd20f450bd8627",
    ),
    (
        {"type": "event", "content": {"b": [1, 2.5, None, True], "a": 'naïve \u2028 "x"\n'}},
        "mem_7cd7b1118c5299d7dd39b1e1ce1b6251",
    ),
    (
        {"type": "event", "content": {"a": 1.0, "c": {"y": 1e21, "x": -0.0}}},
        "mem_8c7d05e3b421313170fc72a6343bb77e",
    ),
    ({"type": "task", "summary": "😀 ship it"}, "mem_557dfa6f50a098ef3dc4e14309fe529d"),
    ({"type": "instruction", "topic_key": 'a"b', "content": []}, "mem_93101f8dae5ad2c5ea516e138e13c328"),
]


@pytest.mark.parametrize(("given", "expected"), FROZEN)
def test_ids_are_those_of_every_release(given: dict[str, Any], expected: str) -> None:
    assert id_text(draft_of(given).id) == expected


def test_an_id_is_a_hash_of_type_topic_and_content() -> None:
    text = '["fact","user.diet","vegetarian since 2024"]'
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    assert FROZEN[0][1] == f"mem_{digest}"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def reversed_fields(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reversed_fields(item) for name, item in reversed(value.items())}
    if isinstance(value, list):
        return [reversed_fields(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@given(json_values)
def test_the_order_of_fields_and_the_kind_of_number_do_not_matter(value: Any) -> None:
    assert canonical(value) == canonical(reversed_fields(value))


@given(json_values, json_values)
def test_different_content_has_another_id(one: Any, other: Any) -> None:
    first = {"type": "event", "summary": "s", "content": [one]}
    second = {"type": "event", "summary": "s", "content": [other]}
    assert (draft_of(first).id == draft_of(second).id) == (canonical(one) == canonical(other))


def test_where_it_comes_from_is_no_part_of_the_id() -> None:
    plain = draft_of({"type": "fact", "topic_key": "t", "content": 1, "summary": "one"})
    other = draft_of(
        {
            "type": "fact", "topic_key": "t", "content": 1, "summary": "uno", "keywords": ["k"], "session_id": "s",
            "source": "a", "valid_from": "2026-01-01T00:00:00Z", "embedding": [1, 2],
        }
    )  # fmt: skip
    assert plain.id == other.id
    assert id_bytes(id_text(plain.id)) == plain.id


@pytest.mark.parametrize(
    "text", ["", "mem_", "mem_76", "mem_" + "g" * 32, "fact_" + "0" * 31, "mem_" + " 0" * 16]
)
def test_what_is_no_id_names_nothing(text: str) -> None:
    assert id_bytes(text) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("text", "object with fields"),
        ({"summary": "x"}, "type None is unknown; there are fact"),
        ({"type": "note", "summary": "x"}, "type 'note'"),
        ({"type": "fact", "summary": "x", "topic": "t"}, "no field 'topic'; its fields are type, topic_key"),
        ({"type": "fact"}, "a summary, a content, or both"),
        ({"type": "fact", "summary": "  "}, "says something"),
        ({"type": "fact", "summary": 1}, "summary is text, not int"),
        ({"type": "fact", "summary": "\ud800"}, "Unicode"),
        ({"type": "fact", "summary": "x", "topic_key": ""}, "topic_key is empty"),
        ({"type": "fact", "summary": "x", "topic_key": 7}, "topic_key is text"),
        ({"type": "fact", "content": {"a": {1, 2}}}, "'a' is of type set"),
        ({"type": "fact", "content": float("nan")}, "no such number"),
        ({"type": "fact", "summary": "x", "keywords": "a b"}, "keywords are a list of texts"),
        ({"type": "fact", "summary": "x", "keywords": [1]}, "a keyword is text"),
        ({"type": "fact", "summary": "x", "ttl": 5}, "only a task has a ttl"),
        ({"type": "task", "summary": "x", "ttl": 0}, "ttl of 0"),
        ({"type": "task", "summary": "x", "ttl": True}, "ttl of True"),
        ({"type": "task", "summary": "x", "ttl": float("nan")}, "ttl of nan"),
        ({"type": "fact", "summary": "x", "valid_from": 7}, "valid_from 7 is not a time"),
        ({"type": "fact", "summary": "x", "valid_from": "yesterday"}, "write RFC 3339"),
        ({"type": "fact", "summary": "x", "model": "m"}, "there is none"),
        ({"type": "fact", "summary": "x", "embedding": []}, "1 to 8,192 numbers, not 0"),
        ({"type": "fact", "summary": "x", "embedding": [0.0, 0.0]}, "no direction"),
        ({"type": "fact", "summary": "x", "embedding": [1.0, float("inf")]}, "NaN, infinite"),
        ({"type": "fact", "summary": "x", "embedding": [1e39]}, "infinite"),
        ({"type": "fact", "summary": "x", "embedding": "abc"}, "list of numbers"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        draft_of(given)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        {"type": "fact", "summary": "x" * (256 * 1024 + 1)},
        {"type": "fact", "content": "x" * (1 << 20)},
        {"type": "fact", "summary": "x", "keywords": ["k"] * 257},
        {"type": "fact", "summary": "x", "topic_key": "k" * 513},
    ],
)
def test_what_is_too_large_is_refused(given: Any) -> None:
    with pytest.raises(PayloadTooLargeError, match="is the most"):
        draft_of(given)


def test_the_summary_is_made_from_the_content_and_the_content_from_the_summary() -> None:
    assert draft_of({"type": "fact", "content": "said"}).summary == "said"
    assert draft_of({"type": "fact", "summary": "said"}).content == '"said"'
    made = draft_of({"type": "fact", "content": {"likes": ["tea", 7], "never": None}})
    assert made.summary == "likes tea 7 never"


def test_what_is_indexed_and_embedded_never_changes() -> None:
    words = indexed_text("likes tea", '["drink","hot"]', "user.drink", "planner", 1_683_590_400_000)
    assert words == "likes tea drink hot user.drink planner 9 May 2023"
    assert indexed_text("likes tea", None, None, None, 0) == "likes tea 1 January 1970"
    assert embedded_text("event", "Ann", "likes tea") == "Ann: likes tea"
    assert embedded_text("fact", "planner", "likes tea") == "likes tea"
