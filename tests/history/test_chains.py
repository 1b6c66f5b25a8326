"""Deep chains of parents and of pasts stay correct, and one pass makes them shallow."""

from __future__ import annotations

from memoturn.base.txids import TXID
from memoturn.faces.embedded.client import Database, Memoturn
from memoturn.history.compaction import StoredFacts
from memoturn.history.planning import WriteBase
from memoturn.manifest.coverage import lineage
from tests.history.histories import compact, digest, forget
from tests.support import assert_view_is_whole, branch_of, engine_of, values

DEPTH = 1024


def hops(db: Database) -> int:
    """Hops behind the head, to parents and to earlier selves."""
    branch = branch_of(db)
    manifest = branch.look_again()
    facts = StoredFacts(branch._env, branch.db_uuid, manifest)
    return len(lineage(manifest, manifest.head_txid).stretches) - 1 + facts.inherited_hops(10_000)


def test_1024_forks_of_forks(mt: Memoturn, db: Database) -> None:
    db.sql("INSERT INTO t VALUES ('root')")
    at, family = db, [db]
    for number in range(DEPTH):
        at = at.branch.create(f"f{number}")
        if number % 3:
            at.sql("INSERT INTO t VALUES (?)", [number])
            at.sync()
        family.append(at)
    expected = ["root", *(n for n in range(DEPTH) if n % 3)]
    assert hops(at) == DEPTH
    branch_of(at).forget()
    assert values(at) == expected
    digests = [digest(branch_of(each).head()) for each in family[::50]]
    steps = [done.step for each in family for done in compact(branch_of(each))]
    assert len(steps) <= DEPTH // 8
    assert {step.why for step in steps if isinstance(step, WriteBase)} == {"depth"}
    forget(mt)
    assert values(at) == expected
    assert max(hops(each) for each in family) <= 8
    assert [digest(branch_of(each).head()) for each in family[::50]] == digests
    at.sql("INSERT INTO t VALUES ('more')")
    assert values(at) == [*expected, "more"]


def test_1024_rewinds_into_rewound_pasts(mt: Memoturn, db: Database) -> None:
    expected = []
    for number in range(DEPTH):
        db.sql("INSERT INTO t VALUES (?)", [number])
        there = db.txid
        expected.append(number)
        db.branch.rewind(there)
    branch = branch_of(db)
    assert hops(db) == DEPTH
    branch.forget()
    assert values(db) == expected
    some = range(1, branch.head().txid, 97)
    digests = [digest(branch.view_at(TXID(txid))) for txid in some]
    steps = [done.step for done in compact(branch)]
    assert [step.why for step in steps if isinstance(step, WriteBase)] == ["depth"]
    forget(mt)
    assert hops(db) == 0
    assert values(db) == expected
    assert [digest(branch.view_at(TXID(txid))) for txid in some] == digests
    assert_view_is_whole(branch.head())


def test_the_limit_is_a_setting_and_each_kind_of_hop_counts(mt: Memoturn, db: Database) -> None:
    child = db.branch.create("child")
    child.sql("INSERT INTO t VALUES (1)")
    child.branch.rewind(1)
    child.sql("INSERT INTO t VALUES (2)")
    child.branch.reset()
    child.sync()
    branch = branch_of(child)
    assert hops(child) == 1, "a reset to the parent leaves the branch's own past behind"
    child.branch.rewind(3)
    child.sync()
    assert hops(child) == 3, "to txid 3, to the inherited txid 1, and to the parent"
    assert compact(branch, max_depth=3) == []
    assert [done.step.why for done in compact(branch, max_depth=2)] == ["depth"]  # type: ignore[union-attr]
    assert hops(child) == 0


def test_a_chain_of_empty_databases_needs_no_base(mt: Memoturn) -> None:
    mt.databases.create("e")
    at = mt.db("e")
    for number in range(12):
        at = at.branch.create(f"e{number}")
    assert mt.maintenance.compact("e").bytes_written == 0
    at.sql("CREATE TABLE t(v)")
    assert values(at, "SELECT count(*) FROM t") == [0]


def test_a_base_below_the_first_commit_of_a_fork_serves_what_comes_after(mt: Memoturn, db: Database) -> None:
    at = db
    for number in range(10):
        at = at.branch.create(f"f{number}")
    branch = branch_of(at)
    assert [done.step.why for done in compact(branch)] == ["depth"]  # type: ignore[union-attr]
    at.sql("INSERT INTO t VALUES (1)")
    at.sync()
    assert hops(at) == 0
    assert compact(branch) == []
    assert engine_of(mt).env.written.compacted > 0
    forget(mt)
    assert values(at) == [1]
