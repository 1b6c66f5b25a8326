"""`memoturn vectors`: vectors in, the nearest out."""

from __future__ import annotations

import pytest

from tests.faces.conftest import Cli


@pytest.fixture
def places(agent: Cli) -> Cli:
    """The same store with three vectors, at txid 3."""
    lines = (
        '{"id": "a", "vector": [1, 0], "meta": {"n": 1}}\n{"id": "b", "vector": [0, 1]}\n'
        '{"id": "c", "vector": [1, 1]}\n'
    )
    done = agent("vectors", "upsert", "agent-42", "places", stdin=lines)
    assert (done.out, done.err) == ("kept 3 in places\n", "txid: 3\n")
    return agent


def test_the_nearest_are_listed(places: Cli) -> None:
    found = places("vectors", "search", "agent-42", "places", "[2, 0.1]", "-k", "2")
    assert found.out.splitlines() == [
        "id  distance  meta",
        'a   0.001248  {"n":1}',
        "c   0.258464  -",
    ]
    assert found.err == "txid: 3\n"
    by_length = places("vectors", "search", "agent-42", "places", "[1, 1]", "--metric", "l2", "--json").json
    assert [(hit["id"], hit["distance"]) for hit in by_length] == [("c", 0.0), ("a", 1.0), ("b", 1.0)]
    filtered = places(
        "vectors", "search", "agent-42", "places", "[0, 1]", "--filter", '{"n": 1}', "--json"
    ).json
    assert [hit["id"] for hit in filtered] == ["a"]
    assert places("vectors", "search", "agent-42@main:2", "places", "[0, 1]", "--json").json == []


def test_one_is_kept_shown_and_deleted(places: Cli) -> None:
    places("vectors", "upsert", "agent-42", "places", "d", "[0.5, -1]", "--meta", '{"x": "y"}')
    assert places("vectors", "get", "agent-42", "places", "d", "--json").json == {
        "id": "d",
        "vector": [0.5, -1.0],
        "meta": {"x": "y"},
    }
    assert "[0.5,-1.0]" in places("vectors", "get", "agent-42", "places", "d").out
    assert places("vectors", "delete", "agent-42", "places", "d").out == "deleted d\n"
    places("vectors", "delete", "agent-42", "places", "d", code=3)
    places("vectors", "get", "agent-42", "places", "d", code=3)
    listed = places("vectors", "collections", "agent-42", "--json").json
    assert listed == [{"name": "places", "dimension": 2, "vectors": 3}]


def test_what_cannot_be_is_refused(places: Cli) -> None:
    wrong = places("vectors", "upsert", "agent-42", "places", "d", "[1, 2, 3]", "--json", code=1)
    assert "have 2" in wrong.error["error"]
    places("vectors", "search", "agent-42", "places", "[0, 0]", code=1)
    places("vectors", "search", "agent-42", "places", "[1, 0]", "--metric", "dot", code=1)
    places("vectors", "search", "agent-42", "places", "1, 0", code=2)
    places("vectors", "search", "agent-42", "places", "[1, 0]", "-k", "few", code=2)
    places("vectors", "upsert", "agent-42", "places", "d", code=2)
    places("vectors", "upsert", "agent-42", "places", stdin="[1", code=2)
