"""Verifying restores from the bucket alone, and names whatever has come to harm there."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from memoturn import Memoturn, TxidNotRetainedError, Verified
from memoturn.base.errors import CheckpointNotFoundError, InvalidRequestError
from memoturn.base.ids import Ids
from memoturn.base.txids import TXID, PageNo, UnixMs
from memoturn.faces.embedded.client import Database
from memoturn.history.budget import Budget, Stopped
from memoturn.history.verification import Restoring
from memoturn.manifest import keys, rules
from memoturn.manifest.segment_name import SegmentName
from memoturn.pages.upper import UpperPages
from memoturn.segments.base_write import BaseWriter, Copies
from memoturn.segments.copies import encode_copy
from memoturn.segments.frame import crc32
from memoturn.segments.pack import TRAILER, TRANSACTION_COLUMNS, parse_pack_tail
from memoturn.segments.tail import NeedMore
from tests.conftest import Opener
from tests.support import branch_of, engine_of


@pytest.fixture
def mt(open_store: Opener, file_url: str) -> Memoturn:
    return open_store(file_url)


def fill(db: Database, commits: int, size: int = 2000) -> None:
    """A pack for every commit."""
    for number in range(commits):
        db.sql("INSERT INTO t VALUES (?)", [bytes([number % 251]) * size])
        db.sync()


def objects(mt: Memoturn, kind: str) -> list[Path]:
    """The files of all packs (`ltx`) or bases (`base`), the oldest first."""
    root = Path(mt.url.removeprefix("file:")) / "objects"
    return sorted(
        (p for p in root.rglob("*.ltx") if f"/{kind}/" in str(p)), key=lambda p: p.stat().st_mtime_ns
    )


def one(mt: Memoturn, address: str = "x", **how: object) -> Verified:
    found = mt.maintenance.verify(address, **how)  # type: ignore[arg-type]
    assert len(found) == 1
    return found[0]


def write_base(
    db: Database,
    txid: int,
    change: Callable[[int, bytes], bytes] = lambda _, page: page,
    copies: Copies | None = None,
) -> None:
    """Give the branch a base at a position, of what `change` makes of its pages."""
    engine, branch = db._engine, branch_of(db)
    view = branch.view_at(TXID(txid))
    name = SegmentName.base(TXID(txid), branch.manifest().epoch)
    key = keys.segment_key(branch.db_uuid, branch.incarnation, str(name))
    numbers = range(1, view.page_count + 1)
    pages = [(number, change(number, view.page(number))) for number in numbers]  # type: ignore[arg-type]
    writer = BaseWriter(TXID(txid), view.page_count, UnixMs(0), pages, copies=copies)  # type: ignore[arg-type]
    engine.bucket.put(key, list(writer))
    engine.bucket.put(keys.base_index_key(key), writer.index_object)
    engine.manifests.update(branch.key, lambda m: rules.add_base(m, name))


def test_the_head_and_random_points_are_restored(mt: Memoturn, db: Database) -> None:
    fill(db, 6)
    found = mt.maintenance.verify("x", points=3)
    assert len(found) == 4
    assert all(one.ok and one.problem is None and one.bytes == one.pages * 4096 for one in found)
    txids = [one.txid for one in found]
    assert txids == sorted(set(txids))
    assert txids[-1] == 7 == db.branch.get().head_txid
    assert [one.txid for one in mt.maintenance.verify("x", points=100)] == list(range(8))


def test_what_was_committed_here_is_shipped_and_then_read_from_the_bucket(mt: Memoturn, db: Database) -> None:
    db.sql("INSERT INTO t VALUES (1)")
    assert one(mt, points=0).txid == 2


def test_a_memory_store_an_empty_branch_and_a_fork_are_restored(open_store: Opener) -> None:
    mt = open_store()
    mt.databases.create("x")
    assert one(mt) == Verified("x", "main", 0, 0, 0, True, None)
    db = mt.db("x")
    db.sql("CREATE TABLE t(v)")
    fill(db, 3)
    fork = db.branch.create("f", txid=2)
    assert one(mt, "x@f", points=0).txid == 2
    fork.sql("INSERT INTO t VALUES ('only here')")
    db.branch.rewind(1)
    found = mt.maintenance.verify(points=50)
    assert [(v.database, v.branch, v.txid) for v in found] == [
        *(("x", "f", txid) for txid in range(4)), *(("x", "main", txid) for txid in range(6))
    ]  # fmt: skip
    assert all(v.ok for v in found)


def test_a_position_can_be_chosen(mt: Memoturn, db: Database) -> None:
    fill(db, 4)
    db.branch.checkpoint("tea")
    fill(db, 1)
    assert [v.txid for v in mt.maintenance.verify("x", at="tea")] == [5, 6]
    assert [v.txid for v in mt.maintenance.verify("x@main:2")] == [2, 6]
    assert [v.txid for v in mt.maintenance.verify("x", at=0)] == [0, 6]
    with pytest.raises(TxidNotRetainedError):
        mt.maintenance.verify("x", at=7)
    with pytest.raises(CheckpointNotFoundError):
        mt.maintenance.verify("x", at="coffee")
    with pytest.raises(InvalidRequestError, match="name the database"):
        mt.maintenance.verify(at=3)
    with pytest.raises(InvalidRequestError, match="-1 is no number"):
        mt.maintenance.verify(points=-1)


def test_points_are_those_that_the_manifest_declares(mt: Memoturn, db: Database) -> None:
    fill(db, 9)
    for txid in (3, 5):
        write_base(db, txid)
    branch = branch_of(db)
    engine_of(mt).manifests.update(branch.key, lambda m: rules.raise_exact(m, TXID(5)))
    engine_of(mt).manifests.update(branch.key, lambda m: rules.raise_floor(m, TXID(3)))
    restoring = Restoring(engine_of(mt).bucket, Ids(), branch.db_uuid, "main")
    seen: set[int] = set()
    for _ in range(100):
        drawn = restoring.points(2)
        assert len(drawn) == 2
        seen.update(drawn)
    assert seen == {3, 5, 6, 7, 8, 9}
    assert restoring.points(10) == [3, 5, 6, 7, 8, 9]
    assert [v.txid for v in mt.maintenance.verify("x", points=10)] == [3, 5, 6, 7, 8, 9, 10]


def test_a_flipped_bit_is_told_with_the_object_that_has_it(mt: Memoturn, db: Database) -> None:
    fill(db, 3)
    assert one(mt, points=0).ok
    pack = objects(mt, "ltx")[-1]
    data = bytearray(pack.read_bytes())
    data[150] ^= 4
    pack.write_bytes(data)
    assert db.sql("SELECT count(*) AS n FROM t") == [{"n": 3}], "what this process remembers is whole"
    found = {v.txid: v for v in mt.maintenance.verify("x", points=100)}
    assert not found[4].ok
    assert pack.name in str(found[4].problem)
    assert "do not match their checksum" in str(found[4].problem)
    assert all(found[txid].ok for txid in range(4)), "positions that do not need the object are whole"


def test_a_missing_object_is_named(mt: Memoturn, db: Database) -> None:
    fill(db, 3)
    pack = objects(mt, "ltx")[1]
    pack.unlink()
    found = {v.txid: v for v in mt.maintenance.verify("x", points=100)}
    assert [txid for txid, v in found.items() if not v.ok] == [3], "txid 4 wrote the same page again"
    assert f"{pack.name} is missing, though it is still needed" in str(found[3].problem)


def test_a_missing_base_and_a_missing_index_are_named(mt: Memoturn, db: Database) -> None:
    fill(db, 3)
    write_base(db, 3)
    db.branch.rewind(3)
    (base,) = objects(mt, "base")
    for path in (base, base.with_suffix(".idx")):
        body = path.read_bytes()
        path.unlink()
        found = mt.maintenance.verify("x", at=3)[0]
        assert found.txid == 3
        assert f"{path.name} is missing, though it is still needed" in str(found.problem)
        path.write_bytes(body)
    assert all(v.ok for v in mt.maintenance.verify("x", at=3))


def test_a_footer_that_records_another_checksum_is_named(mt: Memoturn, db: Database) -> None:
    fill(db, 2)
    pack = objects(mt, "ltx")[-1]
    body = pack.read_bytes()
    index = parse_pack_tail(body, len(body))
    assert not isinstance(index, NeedMore)
    columns = bytearray(body[index.data_length : -TRAILER.size])
    (transaction,) = index.transactions()
    assert TRANSACTION_COLUMNS[:3] == ("Q", "Q", "Q")
    assert struct.unpack_from("<Q", columns, 16) == (transaction.checksum,)
    struct.pack_into("<Q", columns, 16, transaction.checksum ^ 1)
    trailer = TRAILER.seal(1, transaction.page_versions, index.data_length, crc32(bytes(columns)))
    pack.write_bytes(body[: index.data_length] + bytes(columns) + trailer)
    found = one(mt, points=0)
    assert not found.ok
    assert pack.name in str(found.problem)
    assert f"says {transaction.checksum ^ 1:#x}" in str(found.problem)


def test_a_base_that_is_not_what_was_committed_is_found_by_the_pack_that_still_records_it(
    mt: Memoturn, db: Database
) -> None:
    fill(db, 2)
    write_base(db, 3, lambda number, page: page if number == 1 else page[:-1] + bytes([page[-1] ^ 1]))
    found = one(mt, points=0)
    assert not found.ok
    assert objects(mt, "ltx")[-1].name in str(found.problem)


def test_a_copy_in_an_index_that_differs_from_its_page_is_found(mt: Memoturn, db: Database) -> None:
    class Wrong:
        def offer(self, pgno: PageNo, page: bytes) -> None:
            pass

        def chosen(self) -> list[bytes]:
            return [encode_copy(PageNo(2), bytes(4096))]

    fill(db, 3)
    write_base(db, 4, copies=UpperPages())
    assert mt.maintenance.verify("x", at=4)[0].ok
    fill(db, 1)
    write_base(db, 5, copies=Wrong())
    found = mt.maintenance.verify("x", at=5)[0]
    assert found.problem is not None
    assert "base/5-1.idx has a copy of page 2 that differs" in found.problem


def test_pages_that_are_as_recorded_but_no_database_are_found_by_sqlite(mt: Memoturn, db: Database) -> None:
    fill(db, 40)
    write_base(db, 41, lambda number, page: page if number < 3 else bytes(4096))
    for pack in objects(mt, "ltx"):
        pack.unlink()
    branch = branch_of(db)
    engine_of(mt).manifests.update(branch.key, lambda m: rules.raise_exact(m, TXID(41)))
    engine_of(mt).manifests.update(branch.key, lambda m: rules.raise_floor(m, TXID(41)))
    engine_of(mt).manifests.update(branch.key, lambda m: rules.cut(m, TXID(41), TXID(41), ()))
    found = one(mt, points=0)
    assert "SQLite" in str(found.problem) or "malformed" in str(found.problem)


@pytest.mark.parametrize("damage", [b"{", b'{"branch_id":"\xff"}'])
def test_a_record_that_cannot_be_read_hides_no_other(mt: Memoturn, db: Database, damage: bytes) -> None:
    db.sync()
    db.branch.create("f")
    objects = Path(mt.url.removeprefix("file:"), "objects")
    manifest = objects / branch_of(mt.db("x@f")).key
    assert manifest.is_file()
    manifest.write_bytes(damage)
    mt.databases.create("a")
    (objects / keys.catalog_key("a")).write_bytes(damage)
    found = mt.maintenance.verify(points=0)
    assert [(v.database, v.branch, v.ok) for v in found] == [
        ("a", "", False),
        ("x", "f", False),
        ("x", "main", True),
    ]
    assert "catalog/a.json" in str(found[0].problem)
    assert "branches/f.json" in str(found[1].problem)


def test_progress_is_reported_and_memory_stays_small(mt: Memoturn, db: Database) -> None:
    db.sql("INSERT INTO t SELECT randomblob(3 << 20)")
    seen: list[tuple[int, int]] = []
    assert one(mt, points=0, progress=lambda done, total: seen.append((done, total))).ok
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] >= 2 * (3 << 20)
    assert len(seen) >= 6, "one for each piece"


def test_it_stops_when_it_is_told_to(mt: Memoturn, db: Database) -> None:
    db.sql("INSERT INTO t SELECT randomblob(6 << 20)")
    db.sync()
    branch = branch_of(db)
    for allowed in (1, 3, 8, 10):
        asked = [0]

        def stopped(asked: list[int] = asked, allowed: int = allowed) -> bool:
            asked[0] += 1
            return asked[0] > allowed

        restoring = Restoring(engine_of(mt).bucket, Ids(), branch.db_uuid, "main")
        with pytest.raises(Stopped):
            restoring.verify(branch.head().txid, Budget(engine_of(mt).clock, stopped=stopped))


def test_a_branch_that_is_rewritten_meanwhile_is_looked_at_again(open_store: Opener) -> None:
    mt = open_store()
    mt.databases.create("x")
    db = mt.db("x")
    db.batch(["CREATE TABLE t(v)", "INSERT INTO t SELECT randomblob(3 << 20)"])
    fill(db, 3)
    engine, branch = engine_of(mt), branch_of(db)
    meddled: list[int] = []

    def meddle(done: int, _total: int) -> None:
        if meddled:
            return
        meddled.append(done)
        write_base(db, 4)
        for info in list(engine.bucket.list("db/")):
            if "/ltx/" in info.key:
                engine.bucket.delete(info.key)
        for change in (rules.raise_exact, rules.raise_floor):
            engine.manifests.update(branch.key, lambda m, change=change: change(m, TXID(4)))
        engine.manifests.update(branch.key, lambda m: rules.cut(m, TXID(4), TXID(4), ()))

    with pytest.raises(TxidNotRetainedError):
        mt.maintenance.verify("x", at=1, progress=meddle)
    assert meddled
    assert one(mt, points=5).ok
