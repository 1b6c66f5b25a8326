"""Databases in and out: any valid SQLite file comes in, and nothing is left of one that is not."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from memoturn import AlreadyExistsError, DatabaseNotFoundError, InvalidRequestError, Memoturn, NotFoundError
from memoturn.base.errors import UnavailableError
from tests.support import assert_whole, branch_of, content_of_file, values

ROWS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) "


def make(path: Path, before: str = "") -> apsw.Connection:
    """A SQLite file with 400 rows and an index, still open."""
    connection = apsw.Connection(str(path))
    connection.execute(before).fetchall()
    connection.execute("CREATE TABLE t(v INTEGER PRIMARY KEY, w TEXT); CREATE INDEX by_w ON t(w)")
    connection.execute(ROWS + "INSERT INTO t SELECT i, hex(zeroblob(i)) FROM n")
    return connection


def made(path: Path, before: str = "") -> Path:
    make(path, before).close()
    return path


def assert_imported(mt: Memoturn, path: Path, source: Path | None = None) -> None:
    """It has the content of the file, is whole, can be written, and comes out as it went in."""
    around = sorted(os.listdir(path.parent))
    bytes_before = path.read_bytes()
    result = mt.databases.import_file("x", path)
    assert path.read_bytes() == bytes_before, "the file is not changed"
    assert sorted(os.listdir(path.parent)) == around, "nothing is left beside it"
    db = mt.db("x")
    assert (result.txid, db.txid) == (1, 1)
    target = path.parent / "exported.sqlite"
    db.export(target)
    assert content_of_file(target) == content_of_file(source or path)
    db.sql("INSERT INTO t VALUES (1000, 'new')")
    assert values(db, "SELECT count(*) FROM t") == [401]
    assert_whole(db, [1, 2])


@pytest.mark.parametrize("page_size", [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_file_of_any_page_size_comes_in(mt: Memoturn, tmp_path: Path, page_size: int, journal: str) -> None:
    path = made(tmp_path / "a.db", f"PRAGMA page_size={page_size}; PRAGMA journal_mode={journal}")
    assert_imported(mt, path)
    assert values(mt.db("x"), "PRAGMA page_size") == [4096]


def test_a_write_ahead_log_that_is_in_use_comes_in_with_the_file(mt: Memoturn, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with_log = make(path, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0")
    assert path.stat().st_size < 8192, "nearly everything is in the log"
    other = tmp_path / "copy"
    other.mkdir()
    try:
        assert_imported(mt, path)
        # And a log whose program has died.
        for name in ("a.db", "a.db-wal"):
            shutil.copyfile(tmp_path / name, other / name)
    finally:
        with_log.close()
    mt.databases.import_file("y", other / "a.db")
    assert values(mt.db("y"), "SELECT count(*) FROM t") == [400]


@pytest.mark.parametrize("page_size", [4096, 1024])
def test_an_interrupted_transaction_is_rolled_back_in_a_copy(
    mt: Memoturn, tmp_path: Path, page_size: int
) -> None:
    connection = make(tmp_path / "running.db", f"PRAGMA page_size={page_size}")
    before = made(tmp_path / "before.db", f"PRAGMA page_size={page_size}")
    connection.execute("PRAGMA cache_size=2; PRAGMA cache_spill=2; BEGIN; UPDATE t SET w = v || 'changed'")
    died = tmp_path / "died"
    died.mkdir()
    for name in ("running.db", "running.db-journal"):
        shutil.copyfile(tmp_path / name, died / name)
    connection.execute("ROLLBACK")
    connection.close()
    journal = (died / "running.db-journal").read_bytes()
    assert_imported(mt, died / "running.db", source=before)
    assert (died / "running.db-journal").read_bytes() == journal


def test_a_header_of_an_old_sqlite_is_not_believed(mt: Memoturn, tmp_path: Path) -> None:
    """Before 3.7.0 nobody kept the size at bytes 28-31, and bytes 92-95 say so."""
    path = made(tmp_path / "a.db")
    data = bytearray(path.read_bytes())
    data[28:32] = (3).to_bytes(4, "big")
    data[92:96] = (123_456).to_bytes(4, "big")
    path.write_bytes(data)
    assert_imported(mt, path)


def test_bytes_behind_the_database_are_left_out(mt: Memoturn, tmp_path: Path) -> None:
    path = made(tmp_path / "a.db")
    pages = path.stat().st_size // 4096
    with path.open("ab") as file:
        file.write(bytes(3 * 4096 + 17))
    mt.databases.import_file("x", path)
    assert branch_of(mt.db("x")).head().page_count == pages
    assert_whole(mt.db("x"))


@pytest.mark.parametrize(("mode", "number"), [("NONE", 0), ("FULL", 1), ("INCREMENTAL", 2)])
@pytest.mark.parametrize("page_size", [4096, 1024])
def test_what_the_header_says_is_kept(
    mt: Memoturn, tmp_path: Path, mode: str, number: int, page_size: int
) -> None:
    settings = f"PRAGMA page_size={page_size}; PRAGMA auto_vacuum={mode}; "
    path = made(tmp_path / "a.db", settings + "PRAGMA application_id=77; PRAGMA user_version=88")
    assert_imported(mt, path)
    db = mt.db("x")
    found = [values(db, f"PRAGMA {name}")[0] for name in ("auto_vacuum", "application_id", "user_version")]
    assert found == [number, 77, 88]


def test_a_file_that_cannot_be_written_comes_in(mt: Memoturn, tmp_path: Path) -> None:
    directory = tmp_path / "closed"
    directory.mkdir()
    path = made(directory / "a.db", "PRAGMA journal_mode=WAL")
    path.chmod(0o444)
    directory.chmod(0o555)
    try:
        mt.databases.import_file("x", path)
    finally:
        directory.chmod(0o755)
    assert values(mt.db("x"), "SELECT count(*) FROM t") == [400]


def test_an_empty_file_and_an_empty_database_come_in(mt: Memoturn, tmp_path: Path) -> None:
    zero = tmp_path / "zero.db"
    zero.touch()
    assert mt.databases.import_file("zero", zero).pages == 0
    mt.db("zero").sql("CREATE TABLE t(v)")
    assert_whole(mt.db("zero"))
    empty = tmp_path / "empty.db"
    connection = apsw.Connection(str(empty))
    connection.execute("PRAGMA user_version=3; VACUUM")
    connection.close()
    assert mt.databases.import_file("empty", empty).pages == 1
    assert values(mt.db("empty"), "PRAGMA user_version") == [3]
    mt.db("empty").sql("CREATE TABLE t(v)")
    assert_whole(mt.db("empty"))


def damaged(path: Path, how: str) -> Path:
    """A file that is no intact database, in one of many ways."""
    data = made(path).read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "directory":
        path.unlink()
        path.mkdir()
    elif how == "garbage":
        path.write_bytes(random.Random(1).randbytes(8192))
    elif how == "text":
        path.write_text("id,name\n1,ada\n")
    elif how == "magic":
        path.write_bytes(data[:16])
    elif how == "header":
        path.write_bytes(data[:100])
    elif how == "half":
        path.write_bytes(data[: len(data) // 2])
    elif how == "cut within a page":
        path.write_bytes(data[:-100])
    elif how == "last page missing":
        path.write_bytes(data[:-4096])
    elif how == "page zeroed":
        path.write_bytes(data[:8192] + bytes(4096) + data[12288:])
    elif how == "pages swapped":
        path.write_bytes(data[:4096] + data[8192:12288] + data[4096:8192] + data[12288:])
    elif how == "page size 3":
        path.write_bytes(data[:16] + b"\0\3" + data[18:])
    elif how == "index disagrees":
        connection = apsw.Connection(str(path))
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'by_w'")
        connection.close()
    return path


WAYS = [
    "missing",
    "directory",
    "garbage",
    "text",
    "magic",
    "header",
    "half",
    "cut within a page",
    "last page missing",
    "page zeroed",
    "pages swapped",
    "page size 3",
    "index disagrees",
]


@pytest.mark.parametrize("how", WAYS)
def test_what_is_no_intact_database_is_refused_before_anything_is_created(
    mt: Memoturn, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    path = damaged(tmp_path / "a.db", how)
    with pytest.raises(NotFoundError if how == "missing" else InvalidRequestError, match=r"a\.db"):
        mt.databases.import_file("x", path)
    assert list(mt._engine.bucket.list("")) == []
    assert list(copies.iterdir()) == []
    with pytest.raises(DatabaseNotFoundError):
        mt.databases.get("x")


def test_a_file_in_use_by_a_writer_that_does_not_end_is_unavailable(
    mt: Memoturn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memoturn.database.sqlite_file._BUSY_MS", 10)
    writer = make(tmp_path / "a.db")
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UnavailableError, match="being written by another program"):
        mt.databases.import_file("x", tmp_path / "a.db")
    writer.execute("ROLLBACK")
    mt.databases.import_file("x", tmp_path / "a.db")
    writer.close()


def test_an_import_does_not_take_a_name_that_is_in_use(mt: Memoturn, tmp_path: Path) -> None:
    mt.databases.create("x")
    with pytest.raises(AlreadyExistsError):
        mt.databases.import_file("x", made(tmp_path / "a.db"))
    mt.databases.delete("x")
    mt.databases.import_file("x", tmp_path / "a.db")
    with pytest.raises(InvalidRequestError):
        mt.databases.import_file("No Name", tmp_path / "a.db")


def test_imports_leave_no_copies_behind(
    mt: Memoturn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    for number, before in enumerate(["", "PRAGMA page_size=512", "PRAGMA journal_mode=WAL"]):
        mt.databases.import_file(f"x{number}", made(tmp_path / f"{number}.db", before))
    assert list(copies.iterdir()) == []


def test_an_imported_database_forks_and_rewinds_like_any_other(mt: Memoturn, tmp_path: Path) -> None:
    mt.databases.import_file("x", made(tmp_path / "a.db"))
    db = mt.db("x")
    fork = db.branch.create("f")
    fork.sql("DELETE FROM t")
    db.sql("DELETE FROM t WHERE v > 10")
    assert values(db, "SELECT count(*) FROM t") == [10]
    assert values(db.at(1), "SELECT count(*) FROM t") == [400]
    db.branch.rewind(1)
    assert values(db, "SELECT count(*) FROM t") == [400]
    assert values(fork, "SELECT count(*) FROM t") == [0]
    assert [entry.kind for entry in db.branch.history()] == ["rewind", "commit", "commit"]
    assert_whole(db)
    assert_whole(fork)


def test_progress_reaches_the_end_and_only_rises(mt: Memoturn, tmp_path: Path) -> None:
    path = made(tmp_path / "a.db")
    told: list[tuple[int, int]] = []
    mt.databases.import_file("x", path, progress=lambda done, total: told.append((done, total)))
    size = path.stat().st_size
    assert told[-1] == (size, size)
    assert told == sorted(told)
    told.clear()
    mt.db("x").export(tmp_path / "b.db", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (size, size)


# Export.


IN_AND_OUT = """
import resource, sys
from memoturn import Memoturn, Settings
from memoturn.base.settings import CacheSettings, MaintenanceSettings
settings = Settings(cache=CacheSettings(page_cache_bytes=1 << 20), maintenance=MaintenanceSettings(on=False))
with Memoturn(sys.argv[1], settings=settings) as mt:
    for name, path in (("small", sys.argv[2]), ("large", sys.argv[3])):
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        print(mt.databases.import_file(name, path).bytes)
        mt.db(name).export(path + ".out")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize(("page_size", "journal"), [(4096, "delete"), (4096, "wal"), (1024, "delete")])
def test_what_is_held_of_a_file_does_not_grow_with_it(
    file_url: str, tmp_path: Path, page_size: int, journal: str
) -> None:
    before = f"PRAGMA page_size={page_size}; PRAGMA journal_mode={journal}"
    small, large = made(tmp_path / "small.db", before), make(tmp_path / "large.db", before)
    large.execute("CREATE TABLE u(v); INSERT INTO u SELECT zeroblob(1 << 18) FROM t LIMIT 400")
    large.close()
    done = subprocess.run(
        [sys.executable, "-c", IN_AND_OUT, file_url, str(small), str(tmp_path / "large.db")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    _, _, kib_before, size, kib_after = map(int, done.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024
    assert size > 100 << 20
    assert (kib_after - kib_before) * unit < size / 4
    assert (tmp_path / "large.db.out").stat().st_size == size


def test_an_export_takes_no_place_that_is_taken(mt: Memoturn, tmp_path: Path) -> None:
    mt.databases.import_file("x", made(tmp_path / "a.db"))
    db = mt.db("x")
    before = (tmp_path / "a.db").read_bytes()
    with pytest.raises(AlreadyExistsError, match=r"a\.db"):
        db.export(tmp_path / "a.db")
    assert (tmp_path / "a.db").read_bytes() == before
    with pytest.raises(InvalidRequestError, match="no directory"):
        db.export(tmp_path / "nowhere" / "b.db")
    assert sorted(os.listdir(tmp_path)) == ["a.db"]


def test_an_export_that_fails_leaves_nothing(mt: Memoturn, tmp_path: Path) -> None:
    mt.databases.import_file("x", made(tmp_path / "a.db"))

    def fail(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mt.db("x").export(tmp_path / "b.db", progress=fail)
    assert sorted(os.listdir(tmp_path)) == ["a.db"]


@pytest.mark.parametrize("position", ["txid", "checkpoint", "fork", "head"])
def test_an_export_is_of_the_position_that_the_handle_names(
    mt: Memoturn, tmp_path: Path, position: str
) -> None:
    mt.databases.import_file("x", made(tmp_path / "a.db"))
    db = mt.db("x")
    db.sql("DELETE FROM t WHERE v > 100")
    db.branch.checkpoint("c")
    fork = db.branch.create("f")
    fork.sql("DELETE FROM t WHERE v > 50")
    db.sql("DELETE FROM t")
    handle, rows = {
        "txid": (mt.db("x@main:1"), 400),
        "checkpoint": (db.at("c"), 100),
        "fork": (fork, 50),
        "head": (db, 0),
    }[position]
    result = handle.export(tmp_path / "out.db")
    assert len(content_of_file(tmp_path / "out.db")["t"]) == rows
    assert result.txid == handle.txid
    assert result.bytes == (tmp_path / "out.db").stat().st_size == result.pages * 4096


def test_an_empty_database_exports_to_an_empty_file(mt: Memoturn, tmp_path: Path) -> None:
    mt.databases.create("x")
    assert mt.db("x").export(tmp_path / "out.db").pages == 0
    assert content_of_file(tmp_path / "out.db") == {"": []}


def test_an_export_and_its_import_are_the_same_bytes(
    open_store: Callable[..., Memoturn], tmp_path: Path
) -> None:
    mt = open_store()
    mt.databases.import_file("x", made(tmp_path / "a.db"))
    db = mt.db("x")
    db.sql("DELETE FROM t WHERE v % 2")
    db.sql("VACUUM")
    db.export(tmp_path / "one.db")
    mt.databases.import_file("y", tmp_path / "one.db")
    mt.db("y").export(tmp_path / "two.db")
    assert (tmp_path / "one.db").read_bytes() == (tmp_path / "two.db").read_bytes()
    assert branch_of(mt.db("y")).head().checksum == branch_of(db).head().checksum
