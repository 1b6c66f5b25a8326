"""`memoturn docs`: documents as JSON in and out, and indexes that are used."""

from __future__ import annotations

import json

import pytest

from tests.faces.conftest import Cli


@pytest.fixture
def people(agent: Cli) -> Cli:
    """The same store with three people, at txid 3."""
    agent(
        "docs", "insert", "agent-42", "people",
        '[{"_id": "a", "age": 40}, {"_id": "b", "age": 7, "name": "Bo"}, {"_id": "c"}]',
    )  # fmt: skip
    return agent


def test_documents_go_in_and_come_out(agent: Cli) -> None:
    done = agent("docs", "insert", "agent-42", "people", '{"name": "Zoë", "n": 9007199254740993}')
    id_ = done.out.strip()
    assert (len(id_), done.err) == (26, "txid: 3\n")
    found = agent("docs", "find", "agent-42", "people", '{"name": "Zoë"}')
    assert json.loads(found.out) == {"_id": id_, "name": "Zoë", "n": 9007199254740993}
    assert found.err == "txid: 3\n"


def test_stdin_holds_one_document_a_list_or_lines(agent: Cli) -> None:
    for stdin, ids in (
        ('{"_id": "a"}', "a"),
        ('[{"_id": "b"}, {"_id": "c"}]', "b c"),
        ('{"_id": "d"}\n{"_id": "e"}\n', "d e"),
    ):
        assert agent("docs", "insert", "agent-42", "x", stdin=stdin).out.split() == ids.split()
    assert agent("docs", "find", "agent-42", "x", "--count").out == "5\n"


def test_find_sorts_and_pages(people: Cli) -> None:
    first = people("docs", "find", "agent-42", "people", "--sort", '{"age": -1}', "--limit", "1")
    assert json.loads(first.out)["_id"] == "a"
    assert first.err == "more: --skip 1\ntxid: 3\n"
    rest = people("docs", "find", "agent-42", "people", "--sort", '{"age": -1}', "--skip", "1", "--json")
    assert [d["_id"] for d in rest.json["documents"]] == ["b", "c"]
    assert rest.json["more"] is False


def test_updates_and_deletions_say_how_many(people: Cli) -> None:
    done = people("docs", "update", "agent-42", "people", '{"age": {"$gt": 5}}', '{"$inc": {"age": 1}}')
    assert (done.out, done.err) == ("2 matched, 2 changed\n", "txid: 4\n")
    assert people("docs", "delete", "agent-42", "people", '{"age": 8}').out == "1 deleted\n"
    assert people("docs", "delete", "agent-42", "people", "{}", "--json").json == {"deleted": 2, "txid": 6}
    people("docs", "delete", "agent-42", "people", code=2)
    at = people("docs", "find", "agent-42@main:3", "people", "--count", "--json")
    assert at.json == {"count": 3}


def test_an_index_is_made_used_and_dropped(people: Cli) -> None:
    words = ("docs", "find", "agent-42", "people", '{"age": 7}', "--explain")
    assert people(*words).out.startswith("indexes: none\n")
    assert people("docs", "indexes", "create", "agent-42", "people", "age").out == "age is indexed\n"
    assert people(*words, "--json").json["indexes"] == ["age"]
    assert people("docs", "indexes", "list", "agent-42", "people").out == "age\n"
    assert people("docs", "indexes", "drop", "agent-42", "people", "age").out == "age is no longer indexed\n"
    assert people("docs", "collections", "agent-42").out == "people\n"


def test_what_cannot_be_is_refused(people: Cli) -> None:
    people("docs", "insert", "agent-42", "people", '{"_id": "a"}', code=4)
    people("docs", "insert", "agent-42@main:2", "people", "{}", code=1)
    people("docs", "insert", "agent-42", "people", "[1]", code=1)
    people("docs", "insert", "agent-42", "people", "{", code=2)
    people("docs", "find", "agent-42", "people", "[]", code=2)
    people("docs", "find", "agent-42", "people", "--limit", "x", code=2)
    unknown = people("docs", "find", "agent-42", "people", '{"a": {"$near": 1}}', "--json", code=1)
    assert unknown.error["code"] == "invalid_request"
    assert "$near" in unknown.error["error"]
