"""A view that grew pack by pack is the view that is opened anew."""

from __future__ import annotations

import random

from memoturn import Memoturn
from memoturn.base.txids import PageNo
from memoturn.pages.view import View, open_view
from tests.support import branch_of


def test_a_grown_view_has_the_pages_of_one_that_is_opened() -> None:
    rng = random.Random(7)
    with Memoturn("memory:", durability="durable") as mt:
        mt.databases.create("a")
        db = mt.db("a")
        db.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)")
        for step in range(120):
            if step % 40 == 39:
                db.sql("DELETE FROM t WHERE id % 3 > 0")
                db.sql("VACUUM")
            else:
                db.sql("INSERT INTO t(x) VALUES (randomblob(?))", [rng.randrange(1, 20_000)])
                db.sql("UPDATE t SET x = randomblob(50) WHERE id = ?", [rng.randrange(1, step + 2)])
            if step == 60:
                db.branch.rewind(30)
            assert_as_opened(db)
        branch = branch_of(db)
        shipped = branch._shipped
        assert isinstance(shipped, View)
        assert 0 < len(shipped._recent) < 12, "what has grown is kept in few parts"


def assert_as_opened(db: object) -> None:
    branch = branch_of(db)
    grown = branch.head()
    env = branch._env
    opened = open_view(env.store, branch.db_uuid, branch.manifest(), grown.txid, env.manifest_of)
    assert (grown.page_count, grown.checksum, grown.time) == (opened.page_count, opened.checksum, opened.time)
    for number in range(1, opened.page_count + 3):
        assert grown.page(PageNo(number)) == opened.page(PageNo(number)), f"page {number} at {grown.txid}"


def test_shipping_opens_no_footer_again() -> None:
    with Memoturn("memory:", durability="durable") as mt:
        mt.databases.create("a")
        db = mt.db("a")
        db.sql("CREATE TABLE t(x)")
        for _ in range(50):
            db.sql("INSERT INTO t VALUES (1)")
        store = branch_of(db)._env.store
        store._indexes.clear()
        asked: list[str] = []
        tail = store.bucket.get_tail
        store.bucket.get_tail = lambda key, length: (asked.append(key), tail(key, length))[1]  # type: ignore[method-assign]
        for _ in range(10):
            db.sql("INSERT INTO t VALUES (1)")
        assert asked == []
