"""What servers and clients share: values, errors and paths arrive as they were sent."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import memoturn
from memoturn.base import errors as base_errors
from memoturn.base.errors import InvalidRequestError, MemoturnError
from memoturn.faces import wire
from memoturn.faces.wire import answers, errors, paths, routes, values

TABLE = paths.Table(routes.ROUTES)
SQL_VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "$base64", "c:1"]), SQL_VALUES, max_size=3)))
def test_rows_come_back_as_they_were(rows):
    found = memoturn.Rows(rows, ("a", "b", "$base64", "c:1"), 7, ("TEXT", "INT", None, None))
    found.exact = False
    done = wire.BatchResult([found], 7, False)
    back = answers.decode(wire.BatchResult, answers.encode(done))
    assert back == done
    assert (back.results[0].columns, back.results[0].types) == (found.columns, found.types)
    assert (back.results[0].txid, back.results[0].exact) == (7, False)
    assert [[type(value) for value in row.values()] for row in back.results[0]] == [
        [type(value) for value in row.values()] for row in rows
    ]


@given(st.one_of(st.lists(SQL_VALUES), st.dictionaries(st.text("abc"), SQL_VALUES), st.none()))
def test_parameters_come_back_as_they_were(params):
    assert values.params_from_json(values.params_to_json(params)) == params


@pytest.mark.parametrize(
    "value", [{}, {"$base64": "é"}, {"$float": "nan"}, {"$base64": "AA==", "x": 1}, {"a": 1}]
)
def test_an_object_that_is_no_value_is_refused(value):
    with pytest.raises(InvalidRequestError, match="base64"):
        values.from_json(value)


def test_infinities_are_told_apart():
    assert values.from_json(values.to_json(-math.inf)) == -math.inf
    assert values.row_to_json({"a": 1.5, "b": math.inf}) == {"a": 1.5, "b": {"$float": "inf"}}


def test_a_diff_comes_back_with_its_values():
    row = wire.RowChange("changed", {"id": 1}, {"id": 1, "b": b"\x00"}, {"id": 1, "b": math.inf})
    side = wire.DiffSide("shop", "main", 3, datetime(2026, 1, 2, tzinfo=UTC), True)
    diff = wire.Diff(side, side, 1, [], [wire.TableDiff("t", 0, 0, 1, [row])], [], [], [], None, [])
    assert answers.decode(wire.Diff, answers.encode(diff)) == diff
    would = wire.Promotion("main", "other", diff)
    assert answers.decode(wire.Promotion, answers.encode(would)) == would


def test_lists_come_back_with_what_they_tell():
    hits = answers.decode(wire.Hits, answers.encode(wire.Hits([], 4, "no embedder")))
    assert (hits, hits.txid, hits.degraded) == ([], 4, "no embedder")
    found = answers.decode(wire.Documents, answers.encode(wire.Documents([{"_id": "1"}], True, 9)))
    assert (found, found.more, found.txid) == ([{"_id": "1"}], True, 9)


def _kinds(root: type[MemoturnError]) -> list[type[MemoturnError]]:
    found = [kind for kind in root.__subclasses__() if kind.__module__ == base_errors.__name__]
    return found + [below for kind in found for below in _kinds(kind)]


@pytest.mark.parametrize("kind", _kinds(MemoturnError))
def test_every_error_comes_back_as_what_it_was(kind):
    error = kind("it failed")
    body = answers.encode(errors.body_of(error))
    back = errors.error_of(error.status, body)
    if kind is base_errors.SegmentGoneError:
        kind = base_errors.UnavailableError  # Its message is made from a key, which nobody else needs.
    assert type(back) is kind
    assert (back.code, back.status) == (error.code, error.status)
    if error.status != 500:
        assert str(back) == str(error)


def test_what_an_error_tells_besides_comes_along():
    gone = base_errors.TxidNotRetainedError("too old", [3, 9])
    assert errors.error_of(410, answers.encode(errors.body_of(gone))).nearest == (3, 9)
    busy = base_errors.OverloadedError("wait", 2.5)
    assert errors.error_of(429, answers.encode(errors.body_of(busy))).retry_after == 2.5


def test_the_answer_of_a_proxy_is_an_error_of_its_status():
    assert type(errors.error_of(503, b"<html>down</html>")) is base_errors.UnavailableError
    assert type(errors.error_of(502, b"")) is base_errors.InternalError
    assert type(errors.error_of(418, b"")) is InvalidRequestError


def test_a_fault_does_not_tell_what_is_inside():
    assert b"secret" not in answers.encode(errors.body_of(base_errors.CorruptError("secret")))


@given(st.data())
def test_every_path_leads_back_to_its_route(data):
    route = data.draw(st.sampled_from(routes.ROUTES))
    text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
    names = {
        part[1:-1].removesuffix("..."): data.draw(
            text | st.sampled_from([".", "..", "/", "search", "%2F", "a//b/"])
        )
        for part in route.path.split("/")
        if part.startswith("{")
    }
    assert TABLE.find(route.method, paths.path_of(route, names)) == paths.Found(route, names)


def test_no_two_routes_are_one():
    assert len({route.key for route in routes.ROUTES}) == len({route.name for route in routes.ROUTES})
    assert len(routes.BY_NAME) == len(routes.ROUTES)


def test_a_path_without_the_method_says_which_there_are():
    assert TABLE.find("PUT", "/v1/databases") == paths.Missing(("POST", "GET"))
    assert TABLE.find("GET", "/v1/nothing") == paths.Missing(())
    assert TABLE.find("GET", "v1/databases") == paths.Missing(())
    assert TABLE.find("GET", "/v1/db//sql") == paths.Missing(())
    with pytest.raises(InvalidRequestError, match="UTF-8"):
        TABLE.find("GET", "/v1/databases/%FF")


def test_what_clients_need_does_not_load_the_engine():
    program = (
        "import sys; from memoturn.faces.wire import answers, errors, paths, requests, routes\n"
        "loaded = {name.split('.')[1] for name in sys.modules if name.startswith('memoturn.')}\n"
        "assert loaded == {'base', 'faces'} and 'apsw' not in sys.modules, loaded"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
