"""What SQLite does to the file under it, and what must come of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from memoturn import Database, InvalidRequestError, Memoturn, SqlError
from memoturn.base.txids import LOCK_PAGE, PAGE_SIZE, TXID, PageNo, UnixMs
from memoturn.pages.vfs import ReaderFile, WriterFile, connect, size_in_header
from memoturn.segments.checksum import CHECKSUM_FLAG
from tests.support import (
    assert_view_is_whole,
    assert_whole,
    branch_of,
    content_of_file,
    plain_connection,
    plain_content,
    values,
)

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) "
FILL = NUMBERS + "INSERT INTO t SELECT hex(randomblob(400)) FROM n"


def fill(db: Database, rows: int) -> None:
    db.sql(FILL.format(rows))


@contextmanager
def unguarded(connection: apsw.Connection) -> Iterator[None]:
    """SQLite by itself, whatever its users may do."""
    guard, connection.authorizer = connection.authorizer, None
    try:
        yield
    finally:
        connection.authorizer = guard


# Vacuum.


def test_a_vacuum_is_a_commit_and_shrinks_the_file(db: Database) -> None:
    fill(db, 1000)
    db.sql("DELETE FROM t WHERE rowid % 3")
    before = branch_of(db).head()
    assert db.sql("VACUUM").txid == before.txid + 1
    after = branch_of(db).head()
    assert after.page_count < before.page_count / 2
    db.sql("INSERT INTO t VALUES ('later')")
    assert db.sql("SELECT count(*) AS n FROM t") == [{"n": 334}]
    assert_whole(db)


def test_a_vacuum_whose_commit_is_not_durable_changes_nothing(db: Database) -> None:
    fill(db, 300)
    db.sql("DELETE FROM t WHERE rowid % 3")
    branch = branch_of(db)
    txid, count = db.txid, branch.head().page_count

    def vacuum_and_fail(connection: apsw.Connection) -> None:
        real = branch._accept
        branch._writer.file._on_commit = fail  # type: ignore[union-attr]
        try:
            with unguarded(connection):
                connection.execute("VACUUM")
        finally:
            branch._writer.file._on_commit = real  # type: ignore[union-attr]

    def fail(_pages: object, _count: int) -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        branch.write(vacuum_and_fail)
    assert (db.txid, branch.head().page_count) == (txid, count)
    assert db.sql("VACUUM").txid == txid + 1
    assert values(db, "SELECT count(*) FROM t") == [100]
    assert_whole(db)


def test_an_interrupted_vacuum_changes_nothing(db: Database) -> None:
    fill(db, 3000)
    db.sql("DELETE FROM t WHERE rowid % 3")
    txid = db.txid

    def interrupted(connection: apsw.Connection) -> None:
        steps = iter(range(20))
        connection.set_progress_handler(lambda: next(steps, None) is None, 10)
        try:
            with unguarded(connection):
                connection.execute("VACUUM")
        finally:
            connection.set_progress_handler(None)

    with pytest.raises(apsw.InterruptError):
        branch_of(db).write(interrupted)
    assert db.txid == txid
    db.sql("INSERT INTO t VALUES ('later')")
    assert values(db, "SELECT count(*) FROM t") == [1001]
    assert_whole(db)


def auto_vacuum_file(path: Path, mode: str) -> Path:
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA auto_vacuum={mode}; CREATE TABLE t(v)")
    connection.execute(FILL.format(500))
    connection.close()
    return path


def test_a_database_with_auto_vacuum_shrinks_at_each_delete(mt: Memoturn, tmp_path: Path) -> None:
    mt.databases.import_file("x", auto_vacuum_file(tmp_path / "a.db", "FULL"))
    db = mt.db("x")
    assert values(db, "PRAGMA auto_vacuum") == [1]
    pages = [branch_of(db).head().page_count]
    for rest in (300, 100, 0):
        db.sql("DELETE FROM t WHERE rowid > ?", [rest])
        pages.append(branch_of(db).head().page_count)
    assert pages == sorted(pages, reverse=True)
    assert pages[-1] < pages[0] / 10
    fill(db, 200)
    assert_whole(db)


def test_an_incremental_vacuum_gives_back_as_many_pages_as_it_was_asked_for(
    mt: Memoturn, tmp_path: Path
) -> None:
    mt.databases.import_file("x", auto_vacuum_file(tmp_path / "a.db", "INCREMENTAL"))
    db = mt.db("x")
    db.sql("DELETE FROM t")
    before = branch_of(db).head().page_count
    db.sql("PRAGMA incremental_vacuum(10)")
    assert branch_of(db).head().page_count == before - 10
    db.sql("PRAGMA incremental_vacuum")
    assert branch_of(db).head().page_count <= 4
    fill(db, 300)
    assert_whole(db)


@pytest.mark.parametrize("shipped_between", [False, True])
def test_a_file_that_shrinks_and_grows_again_has_its_own_pages(db: Database, shipped_between: bool) -> None:
    """The old versions of its pages are still below; a new one that equals an old one is no old page."""
    branch = branch_of(db)
    db.batch([("INSERT INTO t VALUES (zeroblob(?))", [30_000])])
    db.sync()
    grown = branch.head().page_count
    for _ in range(3):
        db.sql("DELETE FROM t")
        db.sql("VACUUM")
        if shipped_between:
            db.sync()
        db.sql("INSERT INTO t VALUES (zeroblob(30000))")
        assert branch.head().page_count == grown
        if shipped_between:
            db.sync()
    assert_whole(db)


def test_pages_that_sqlite_never_wrote_are_stored_as_zeroes(db: Database) -> None:
    """What a transaction takes and gives back goes to the free list without having been written."""
    branch = branch_of(db)
    before = branch.head().page_count
    skipped: list[int] = []

    def work(connection: apsw.Connection) -> None:
        connection.execute("BEGIN; INSERT INTO t VALUES (zeroblob(200000)); DELETE FROM t")
        connection.execute("INSERT INTO t VALUES ('kept')")
        file = branch._writer.file  # type: ignore[union-attr]
        real = file._hand_over

        def hand_over() -> None:
            pages = size_in_header(file.overlay[PageNo(1)])
            skipped.extend(n for n in range(before + 1, pages + 1) if PageNo(n) not in file.overlay)
            real()

        file._hand_over = hand_over  # type: ignore[method-assign]
        connection.execute("COMMIT")
        del file._hand_over

    branch.write(work)
    assert len(skipped) > 40, "else this test shows nothing"
    assert values(db) == ["kept"]
    assert {branch.head().page(PageNo(n)) for n in skipped} == {bytes(4096)}
    assert_whole(db)
    fill(db, 100)
    assert_whole(db)


# Rollback and spill.


def test_a_failed_statement_leaves_nothing(db: Database) -> None:
    db.sql("CREATE UNIQUE INDEX i ON t(v)")
    db.sql("INSERT INTO t VALUES (1)")
    txid = db.txid
    with pytest.raises(SqlError, match="UNIQUE"):
        db.sql("INSERT INTO t VALUES (2), (3), (1)")
    assert db.txid == txid
    assert values(db) == [1]
    assert db.sql("INSERT INTO t VALUES (2)").txid == txid + 1
    assert_whole(db)


def spilling(connection: apsw.Connection) -> None:
    """Make SQLite write pages to the file long before it commits."""
    connection.authorizer = None
    connection.execute("PRAGMA cache_spill=ON; PRAGMA cache_size=5; PRAGMA cache_spill=5").fetchall()


def test_pages_that_spill_are_seen_by_nobody_until_they_are_committed(db: Database) -> None:
    branch = branch_of(db)
    fill(db, 50)
    seen = []

    def work(connection: apsw.Connection) -> None:
        spilling(connection)
        connection.execute("BEGIN")
        connection.execute(FILL.format(2000))
        assert len(branch._writer.file.overlay) > 100  # type: ignore[union-attr]
        seen.append(values(db, "SELECT count(*) FROM t"))
        assert connection.execute("SELECT count(*) FROM t").fetchall() == [(2050,)]
        connection.execute("COMMIT")

    branch.write(work)
    assert seen == [[50]]
    assert values(db, "SELECT count(*) FROM t") == [2050]
    assert_whole(db)


def test_pages_that_spilled_are_gone_after_a_rollback(db: Database) -> None:
    branch = branch_of(db)
    fill(db, 50)
    txid = db.txid

    def work(connection: apsw.Connection) -> None:
        spilling(connection)
        connection.execute("BEGIN")
        connection.execute(FILL.format(2000))
        connection.execute("ROLLBACK")
        assert connection.execute("SELECT count(*) FROM t").fetchall() == [(50,)]
        connection.execute("INSERT INTO t VALUES ('after the rollback')")

    branch.write(work)
    assert db.txid == txid + 1
    assert values(db, "SELECT count(*) FROM t") == [51]
    assert_whole(db)


def test_what_a_block_of_work_leaves_open_is_rolled_back(db: Database) -> None:
    branch = branch_of(db)
    txid = db.txid

    def work(connection: apsw.Connection) -> None:
        connection.execute("BEGIN")
        connection.execute(FILL.format(100))

    branch.write(work)
    assert db.txid == txid
    assert values(db) == []
    db.sql("INSERT INTO t VALUES (1)")
    assert values(db) == [1]
    assert_whole(db)


def test_savepoints_roll_back_to_where_they_were_set(db: Database) -> None:
    def work(connection: apsw.Connection) -> None:
        spilling(connection)
        connection.execute("BEGIN; INSERT INTO t VALUES ('kept'); SAVEPOINT s")
        connection.execute(FILL.format(2000))
        connection.execute("ROLLBACK TO s; INSERT INTO t VALUES ('kept too'); COMMIT")

    branch_of(db).write(work)
    assert values(db) == ["kept", "kept too"]
    assert_whole(db)


def test_an_interrupt_ends_the_transaction_and_nothing_else(db: Database) -> None:
    branch = branch_of(db)
    db.sql("INSERT INTO t VALUES (1)")
    txid = db.txid
    inside = threading.Event()

    def work(connection: apsw.Connection) -> None:
        def interrupt() -> None:
            inside.wait()
            connection.interrupt()

        other = threading.Thread(target=interrupt)
        other.start()
        try:
            connection.create_scalar_function("now_inside", lambda: inside.set())
            connection.execute("BEGIN; INSERT INTO t VALUES (2)")
            with unguarded(connection):
                connection.execute(NUMBERS.format(1 << 40) + "INSERT INTO t SELECT now_inside() FROM n")
        finally:
            inside.set()
            other.join()

    with pytest.raises(apsw.InterruptError):
        branch.write(work)
    assert db.txid == txid
    assert values(db) == [1]
    assert db.sql("INSERT INTO t VALUES (3)").txid == txid + 1
    assert values(db) == [1, 3]
    assert_whole(db)


# Readers.


def test_a_reader_never_sees_later_commits(db: Database) -> None:
    fill(db, 500)
    view = branch_of(db).head()
    with plain_connection(view) as connection:
        connection.execute("PRAGMA cache_size=5")
        cursor = connection.execute("SELECT rowid, length(v) FROM t ORDER BY rowid")
        first = [next(cursor) for _ in range(10)]
        for _ in range(20):
            db.sql("UPDATE t SET v = 'x'")
            db.sql("DELETE FROM t WHERE rowid > 100")
            fill(db, 400)
            db.sync()
        rest = cursor.fetchall()
        assert first + rest == [(i, 800) for i in range(1, 501)]
    assert_view_is_whole(view)


def test_a_reader_that_is_used_again_sees_new_rows(db: Database) -> None:
    for i in range(200):
        db.sql("INSERT INTO t VALUES (?)", [i])
        assert values(db, "SELECT max(v) FROM t") == [i]
        assert values(db, "SELECT count(*) FROM t") == [i + 1]
        if i % 7 == 0:
            db.sync()
    assert len(branch_of(db).readers._idle) <= 2


def test_a_reader_that_is_used_again_sees_a_new_schema(db: Database) -> None:
    db.sql("INSERT INTO t VALUES (1)")
    for i in range(30):
        db.sql("SELECT * FROM t")
        db.sql(f"ALTER TABLE t ADD COLUMN c{i} DEFAULT {i}")
        rows = db.sql("SELECT * FROM t")
        assert rows.columns[-1] == f"c{i}"
        assert rows[0][f"c{i}"] == i
    db.sql("DROP TABLE t")
    with pytest.raises(SqlError, match="no such table"):
        db.sql("SELECT * FROM t")


def test_a_rewind_to_another_schema_with_the_same_cookie_is_noticed(db: Database) -> None:
    """Both schemas carry the same number, because both were the next change after the same one."""
    start = db.txid
    db.sql("CREATE TABLE one(a)")
    db.sql("INSERT INTO one VALUES (1)")
    assert db.sql("SELECT * FROM one") == [{"a": 1}]
    db.branch.rewind(start)
    db.sql("CREATE TABLE two(b, c)")
    db.sql("INSERT INTO two VALUES (1, 2)")
    assert db.sql("SELECT * FROM two") == [{"b": 1, "c": 2}]
    with pytest.raises(SqlError, match="no such table: one"):
        db.sql("SELECT * FROM one")
    assert db.at(start + 2).sql("SELECT * FROM one") == [{"a": 1}]
    assert db.sql("SELECT * FROM two") == [{"b": 1, "c": 2}]
    db.branch.rewind(start + 2)
    assert db.sql("SELECT * FROM one") == [{"a": 1}]
    db.sql("INSERT INTO one VALUES (2)")
    assert values(db, "SELECT a FROM one") == [1, 2]
    assert_whole(db)


def test_statements_are_prepared_again_when_the_schema_has_changed(db: Database) -> None:
    text = "SELECT * FROM t"
    db.sql("INSERT INTO t VALUES (1)")
    assert db.sql(text).columns == ("v",)
    db.sql("ALTER TABLE t RENAME COLUMN v TO w")
    assert db.sql(text) == [{"w": 1}]
    db.batch(["DROP TABLE t", "CREATE TABLE t(x, y)", "INSERT INTO t VALUES (1, 2)"])
    assert db.sql(text) == [{"x": 1, "y": 2}]
    insert = "INSERT INTO t VALUES (3, 4)"
    db.sql(insert)
    db.batch(["DROP TABLE t", "CREATE TABLE t(z)"])
    with pytest.raises(SqlError, match="1 columns but 2 values"):
        db.sql(insert)


def test_a_read_only_file_refuses_to_be_written(db: Database) -> None:
    file = ReaderFile(branch_of(db).head())
    connection = connect(file)
    with pytest.raises(apsw.ReadOnlyError):
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    with pytest.raises(apsw.ReadOnlyError):
        file.xWrite(b"x", 0)
    with pytest.raises(apsw.ReadOnlyError):
        file.xTruncate(0)


# What SQLite can keep.

SURFACE = [
    "CREATE TABLE parent(id INTEGER PRIMARY KEY, name TEXT NOT NULL)",
    "CREATE TABLE child(id INTEGER PRIMARY KEY, parent REFERENCES parent, n INT, twice INT AS (n * 2) STORED, "
    "half REAL AS (n / 2.0))",
    "CREATE TABLE log(what TEXT, id INT)",
    "CREATE TRIGGER noted AFTER INSERT ON child BEGIN INSERT INTO log VALUES ('child', new.id); END",
    "CREATE VIEW both AS SELECT name, n FROM parent JOIN child ON parent.id = child.parent",
    "CREATE TRIGGER through INSTEAD OF INSERT ON both BEGIN INSERT INTO parent(name) VALUES (new.name); END",
    "CREATE TABLE keyed(k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID",
    "CREATE TABLE strict(i INTEGER, a ANY) STRICT",
    "CREATE INDEX partial ON child(n) WHERE n > 10",
    "CREATE INDEX computed ON parent(upper(name))",
    "CREATE VIRTUAL TABLE words USING fts5(body)",
    "CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1)",
    "INSERT INTO parent(name) VALUES ('ada'), ('grace')",
    "INSERT INTO child(parent, n) SELECT id, id * 10 FROM parent",
    "INSERT INTO both(name) VALUES ('edsger')",
    NUMBERS.format(500) + "INSERT INTO keyed SELECT 'k' || i, zeroblob(i) FROM n",
    "INSERT INTO strict VALUES (1, 'x'), (2, x'00ff')",
    NUMBERS.format(200) + "INSERT INTO words SELECT 'agent ' || i || ' remembers ' || (i * 7) FROM n",
    "DELETE FROM words WHERE rowid % 2",
    "INSERT INTO words(words) VALUES ('optimize')",
    "INSERT INTO boxes VALUES (1, 0, 1), (2, 0.5, 2)",
    "CREATE TABLE big(b BLOB)",
    "INSERT INTO big VALUES (zeroblob(3000000)), (CAST(printf('%.*c', 1500000, 'x') AS BLOB))",
    "UPDATE big SET b = x'01' || b WHERE rowid = 1",
    "ALTER TABLE parent ADD COLUMN born INT DEFAULT 1900",
    "DROP INDEX partial",
    "REINDEX",
    "ANALYZE",
    "VACUUM",
    "PRAGMA user_version=7",
    "PRAGMA application_id=99",
    "INSERT INTO parent(id, name) VALUES (1, 'x') ON CONFLICT(id) DO UPDATE SET name = excluded.name",
]


def test_all_kinds_of_sql_give_what_plain_sqlite_gives(mt: Memoturn, tmp_path: Path) -> None:
    mt.databases.create("x")
    db = mt.db("x")
    for statement in SURFACE:
        db.sql(statement)
    target = tmp_path / "copy.sqlite"
    db.export(target)
    assert content_of_file(target) == plain_content(SURFACE)
    assert db.sql("SELECT rowid FROM words WHERE words MATCH 'remembers' ORDER BY rank LIMIT 1")
    assert db.sql("PRAGMA user_version") == [{"user_version": 7}]
    assert_whole(db)


def test_returning_gives_rows_and_is_a_commit(db: Database) -> None:
    txid = db.txid
    rows = db.sql("INSERT INTO t VALUES (?), (?) RETURNING rowid, v", ["a", "b"])
    assert rows == [{"rowid": 1, "v": "a"}, {"rowid": 2, "v": "b"}]
    assert (rows.columns, rows.txid) == (("rowid", "v"), txid + 1)
    assert db.sql("DELETE FROM t RETURNING v") == [{"v": "a"}, {"v": "b"}]
    assert db.sql("DELETE FROM t RETURNING v").columns == ("v",)
    assert db.txid == txid + 2


def test_a_utf16_database_stays_one(mt: Memoturn, tmp_path: Path) -> None:
    source = tmp_path / "utf16.db"
    connection = apsw.Connection(str(source))
    connection.execute("PRAGMA encoding='UTF-16le'; CREATE TABLE t(v); INSERT INTO t VALUES ('ünïcödé 🦊')")
    connection.close()
    mt.databases.import_file("x", source)
    db = mt.db("x")
    assert values(db, "PRAGMA encoding") == ["UTF-16le"]
    db.sql("INSERT INTO t VALUES (?)", ["mehr 🦉"])
    assert values(db) == ["ünïcödé 🦊", "mehr 🦉"]
    assert values(db, "SELECT hex(CAST(v AS BLOB)) FROM t LIMIT 1")[0].startswith("FC00")
    assert_whole(db)


@pytest.mark.parametrize(
    "pragma",
    [
        "page_size=512",
        "journal_mode=DELETE",
        "journal_mode=WAL",
        "main.journal_mode=OFF",
        "locking_mode=NORMAL",
        "synchronous=OFF",
        "cache_spill=ON",
        "cache_size=1",
        "mmap_size=1000000",
        "temp_store=FILE",
        "temp_store_directory='/tmp'",
        "writable_schema=ON",
        "query_only=OFF",
        "auto_vacuum=FULL",
        "encoding='UTF-16'",
        "wal_checkpoint",
        "max_page_count=1",
        "schema_version=1",
        "trusted_schema=ON",
        "recursive_triggers=ON",
        "ignore_check_constraints=ON",
        "hard_heap_limit=1",
        "soft_heap_limit=1",
        "secure_delete=ON",
        "data_store_directory='/tmp'",
        "no_such_pragma",
    ],
)
def test_pragmas_that_change_how_pages_are_kept_are_refused(db: Database, pragma: str) -> None:
    for handle in (db, db.at(1)):
        with pytest.raises(InvalidRequestError, match="PRAGMA"):
            handle.sql(f"PRAGMA {pragma}")
        with pytest.raises(InvalidRequestError, match="PRAGMA"):
            handle.batch([f"PRAGMA {pragma}"])
    assert db.txid == 1


# The lock page.


def test_a_database_beyond_one_gibibyte_has_no_lock_page(
    open_store: Callable[..., Memoturn], file_url: str
) -> None:
    """Its pages are zeroes, so that the test costs little; they are pages all the same."""
    mt = open_store(file_url)
    mt.databases.create("x")
    db = mt.db("x")
    db.sql("CREATE TABLE t(v)")
    # A view of a database whose file already ends just before the lock page: the pages up to there are free.
    branch = branch_of(db)
    chunk = 30 << 20
    for _ in range(34):
        db.sql("INSERT INTO t VALUES (zeroblob(?))", [chunk])
    assert branch.head().page_count < LOCK_PAGE
    db.sync()
    db.sql("INSERT INTO t VALUES (zeroblob(?))", [chunk])
    head = branch.head()
    assert head.page_count > LOCK_PAGE
    assert head.page(LOCK_PAGE) == b""
    db.sql("INSERT INTO t VALUES ('beyond')")
    assert values(db, "SELECT v FROM t WHERE rowid = 36") == ["beyond"]
    db.sync()
    branch.forget()
    assert_view_is_whole(branch.head())


class Cold:
    """A view of three pages, of which one has to be fetched."""

    def __init__(self) -> None:
        self.txid = TXID(1)
        self.page_count = 3
        self.checksum = CHECKSUM_FLAG
        self.time: UnixMs | None = None
        self.stretch = ("b", TXID(0), 0)

    def page(self, page_no: PageNo) -> bytes:
        return bytes([page_no]) * PAGE_SIZE

    def is_in_memory(self, page_no: PageNo) -> bool:
        return page_no != 3


@pytest.mark.parametrize("file", [ReaderFile(Cold()), WriterFile(Cold(), lambda *_: None, Cold)])
def test_a_file_that_is_to_stay_in_memory_fetches_nothing_and_a_writer_notes_it(file: ReaderFile) -> None:
    file.stay_in_memory(2)
    assert file.xRead(PAGE_SIZE, PAGE_SIZE) == bytes([2]) * PAGE_SIZE
    with pytest.raises(apsw.BusyError, match="page 3"):
        file.xRead(PAGE_SIZE, 2 * PAGE_SIZE)
    file.stay_in_memory(1)
    assert file.xRead(PAGE_SIZE, PAGE_SIZE) == bytes([2]) * PAGE_SIZE
    with pytest.raises(apsw.BusyError, match="page 2"):
        file.xRead(PAGE_SIZE, PAGE_SIZE)
    if isinstance(file, WriterFile):
        assert isinstance(file.failure, apsw.BusyError)
    file.stay_in_memory(None)
    assert file.xRead(PAGE_SIZE, 2 * PAGE_SIZE) == bytes([3]) * PAGE_SIZE
