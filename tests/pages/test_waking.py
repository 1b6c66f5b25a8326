"""Waking a branch from a store of which each request costs takes few of them."""

from __future__ import annotations

import pytest
from bench.history import Counted, _engine, compact
from bench.samples import SCHEMA, text

from memoturn.base.names import Address
from memoturn.operations import databases, sql

WHERE = Address("a", None, None)


def woken(bucket: Counted, query: str) -> list[str]:
    """The requests from an open engine to the first row."""
    engine = _engine(bucket)
    bucket.requests.clear()
    bucket.in_parallel = 0
    assert sql.sql(engine, WHERE, query, None)
    found = list(bucket.requests)
    engine.close()
    return found


@pytest.mark.parametrize("commits", [1, 300])
def test_an_idle_branch_is_awake_after_four_requests_whatever_its_age(commits: int) -> None:
    bucket = Counted()
    engine = _engine(bucket)
    databases.create(engine, "a", None)
    branch = engine.branch("a")
    sql.sql(engine, WHERE, SCHEMA, None)
    for number in range(commits):
        sql.sql(engine, WHERE, "INSERT INTO t VALUES (?, ?)", [number, text(number)])
        branch.ship()
    before = len(woken(bucket, "SELECT x FROM t LIMIT 1"))
    compact(engine, branch, idle=True)
    engine.close()
    after = woken(bucket, "SELECT x FROM t LIMIT 1")
    assert [request.split()[0] for request in after] == ["get", "get", "tail", "ranges"], after
    if commits > 1:
        assert before > 4


def test_a_deep_tree_costs_no_request_for_each_of_its_levels() -> None:
    bucket = Counted()
    engine = _engine(bucket)
    databases.create(engine, "a", None)
    branch = engine.branch("a")
    sql.sql(engine, WHERE, "CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)", None)
    sql.sql(
        engine,
        WHERE,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
        "INSERT INTO t SELECT i, randomblob(3000) FROM n",
        None,
    )
    branch.ship()
    compact(engine, branch, idle=True)
    sql.sql(engine, WHERE, "UPDATE t SET x = 'new' WHERE id % 500 = 1", None)
    branch.ship()
    compact(engine, branch, idle=True)
    engine.close()
    for wanted in (2, 999, 1998):
        asked = woken(bucket, f"SELECT x FROM t WHERE id = {wanted}")
        assert sorted(request.split()[0] for request in asked) == ["get", "get", "ranges", "tail", "tail"]
        assert bucket.in_parallel == 1, "both indexes are fetched at once"


def test_a_small_pack_is_read_in_one_request() -> None:
    bucket = Counted()
    engine = _engine(bucket)
    databases.create(engine, "a", None)
    sql.sql(engine, WHERE, SCHEMA, None)
    engine.close()
    assert [request.split()[0] for request in woken(bucket, "SELECT count(*) FROM t")] == [
        "get",
        "get",
        "tail",
    ]
