"""Hostile statements: each is refused with its reason, or bounded; nothing changes, and other work goes on."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from weakref import WeakSet

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoturn import (
    CorruptError,
    Database,
    InvalidRequestError,
    Memoturn,
    PayloadTooLargeError,
    RequestTimeoutError,
    Settings,
    SqlError,
    SqlSettings,
    UnavailableError,
)
from memoturn.models import budget
from memoturn.models.guard import protect, trusted
from memoturn.models.sql import learn
from tests.support import ManualClock, assert_whole, branch_of, values

RESERVED = "__memoturn_ are reserved"
FILES = "ATTACH and VACUUM INTO reach files"
ALONE = "a statement is a transaction by itself"
TEMPORARY = "temporary tables last only"
SHADOW = "keeps its content"
FUNCTION = r"the function .* is not allowed|no such function"
PRAGMA = "PRAGMA .* is not allowed"
MODULE = "virtual table.* not allowed|no such module|no such table"
SCHEMA = "may not be modified"
READ_ONLY = "read-only"

TO_FILES = {
    "ATTACH '{dir}/x.db' AS x": FILES,
    "ATTACH DATABASE 'file:{dir}/x.db?mode=rwc' AS x": FILES,
    "attach /* a file */ '{dir}/x.db' as x": FILES,
    "ATTACH ':memory:' AS x": FILES,
    "ATTACH '' AS x": FILES,
    "ATTACH (SELECT '{dir}/x.db') AS x": FILES,
    "VACUUM INTO '{dir}/x.db'": f"{FILES}|cannot VACUUM",
    "VACUUM main INTO '{dir}/x.db'": f"{FILES}|cannot VACUUM",
    "vacuum into (select '{dir}/x.db')": f"{FILES}|cannot VACUUM",
    "EXPLAIN VACUUM INTO '{dir}/x.db'": "",
    "DETACH main": "DETACH",
    "SELECT readfile('/etc/passwd')": FUNCTION,
    "SELECT writefile('{dir}/x', 'x')": FUNCTION,
    "SELECT edit('x')": FUNCTION,
    "SELECT load_extension('{dir}/x.so')": FUNCTION,
    "SELECT load_extension('{dir}/x.so', 'init')": FUNCTION,
    "INSERT INTO t SELECT load_extension('{dir}/x.so') RETURNING v": FUNCTION,
    "SELECT fts3_tokenizer('simple')": FUNCTION,
    "SELECT fts3_tokenizer('simple', x'00')": FUNCTION,
    "SELECT sqlite_log(1, 'x')": FUNCTION,
    "SELECT fts5(NULL)": FUNCTION,
    "SELECT fts5_insttoken(1)": FUNCTION,
    "SELECT rtreenode(2, x'00')": FUNCTION,
    "SELECT sqlite_rename_table('a', 'b', 'c', 'd', 'e', 'f', 1)": FUNCTION,
    "SELECT memoturn_anything()": FUNCTION,
    "SELECT * FROM fsdir('/')": MODULE,
    "CREATE VIRTUAL TABLE x USING csv(filename='/etc/passwd')": MODULE,
    "CREATE VIRTUAL TABLE x USING dbstat(main)": MODULE,
    "CREATE VIRTUAL TABLE x USING fts3tokenize('simple')": MODULE,
    "CREATE VIRTUAL TABLE x USING sqlite_dbpage": MODULE,
    "SELECT * FROM dbstat": MODULE,
    "SELECT * FROM dbstat('main')": MODULE,
    "SELECT * FROM main.DBSTAT": MODULE,
    "SELECT * FROM sqlite_dbpage": MODULE,
    "UPDATE sqlite_dbpage SET data = zeroblob(4096) WHERE pgno = 1": MODULE,
    "SELECT * FROM carray(7, 1)": MODULE,
    "SELECT * FROM sqlite_stmt": MODULE,
}

TO_TRANSACTIONS = {
    "BEGIN": ALONE,
    "/**/BEGIN IMMEDIATE": ALONE,
    "COMMIT": ALONE,
    "END TRANSACTION": ALONE,
    "ROLLBACK": ALONE,
    "SAVEPOINT x": ALONE,
    "RELEASE x": ALONE,
    "ROLLBACK TO x": ALONE,
    "CREATE TEMP TABLE x(v)": TEMPORARY,
    "CREATE TABLE temp.x(v)": TEMPORARY,
    "CREATE TEMP VIEW x AS SELECT 1": TEMPORARY,
    "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END": TEMPORARY,
    "CREATE VIRTUAL TABLE temp.x USING fts5(v)": TEMPORARY,
    "INSERT INTO t VALUES (1); DROP TABLE t": "one statement",
    "SELECT 1; ATTACH '{dir}/x.db' AS x": "one statement",
}

TO_PRAGMAS = {
    **{
        f"PRAGMA {name}": PRAGMA
        for name in (
            "writable_schema=ON",
            "writable_schema(1)",
            "main.writable_schema=RESET",
            "journal_mode=DELETE",
            "journal_mode=WAL",
            "locking_mode=NORMAL",
            "synchronous=OFF",
            "query_only=OFF",
            "trusted_schema=ON",
            "temp_store_directory='{dir}'",
            "temp_store=FILE",
            "mmap_size=1",
            "cache_size=1",
            "cache_spill=ON",
            "cell_size_check=ON",
            "page_size=512",
            "schema_version=7",
            "encoding='UTF-16'",
            "auto_vacuum=FULL",
            "max_page_count=1",
            "hard_heap_limit=1",
            "soft_heap_limit=1",
            "threads=8",
            "busy_timeout=1",
            "wal_checkpoint",
            "shrink_memory",
            "secure_delete=ON",
            "recursive_triggers=ON",
            "ignore_check_constraints=ON",
            "legacy_alter_table=ON",
            "case_sensitive_like=ON",
            "reverse_unordered_selects=ON",
            "read_uncommitted=ON",
            "nonesuch=1",
        )
    },
    "/**/PRAGMA foreign_keys=OFF": "first statement says",
    "pragma main . Foreign_Keys(0)": "first statement says",
    "SELECT * FROM pragma_wal_checkpoint": "not allowed|no such table",
    "SELECT * FROM pragma_hard_heap_limit": PRAGMA,
    "SELECT * FROM pragma_writable_schema": "not allowed|no such table",
    "EXPLAIN PRAGMA writable_schema=ON": PRAGMA,
}

TO_RESERVED = dict.fromkeys(
    (
        "SELECT * FROM __memoturn_kv",
        "SELECT count(*) FROM __memoturn_kv",
        "SELECT rowid FROM __MemoTurn_KV",
        'SELECT v FROM "__memoturn_kv"',
        "SELECT v FROM [__memoturn_kv]",
        "SELECT v FROM `__memoturn_kv`",
        "SELECT v FROM '__memoturn_kv'",
        "SELECT v FROM main/**/./**/__memoturn_kv",
        "SELECT x.v FROM t LEFT JOIN __memoturn_kv AS x",
        "SELECT EXISTS (SELECT 1 FROM __memoturn_kv)",
        "SELECT 1 WHERE 'k' IN __memoturn_kv_one",
        "SELECT (SELECT group_concat(v) FROM __memoturn_kv)",
        "WITH c AS (SELECT * FROM __memoturn_kv) SELECT * FROM c",
        "WITH RECURSIVE c(k) AS (SELECT k FROM __memoturn_kv UNION SELECT k FROM c) SELECT * FROM c",
        "WITH c AS (SELECT 1) INSERT INTO t SELECT v FROM __memoturn_kv",
        "SELECT v FROM t UNION ALL SELECT v FROM __memoturn_kv",
        "SELECT first_value(v) OVER (PARTITION BY k) FROM __memoturn_kv",
        "INSERT INTO t SELECT v FROM __memoturn_kv RETURNING v",
        "INSERT INTO t VALUES (1) RETURNING (SELECT v FROM __memoturn_kv)",
        "INSERT INTO __memoturn_kv VALUES (2, 'x')",
        "INSERT INTO __memoturn_kv DEFAULT VALUES",
        "REPLACE INTO __memoturn_kv VALUES ('k', 'x')",
        "INSERT INTO __memoturn_kv VALUES ('k', 'x') ON CONFLICT DO UPDATE SET v = 'x' RETURNING *",
        "UPDATE __memoturn_kv SET v = 'x'",
        "UPDATE t SET v = k.v FROM __memoturn_kv AS k",
        "UPDATE OR IGNORE __memoturn_kv SET v = 'x' RETURNING v",
        "DELETE FROM __memoturn_kv",
        "DELETE FROM t WHERE v IN (SELECT v FROM __memoturn_kv)",
        "DROP TABLE __memoturn_kv",
        "DROP TABLE IF EXISTS main.__memoturn_kv",
        "DROP INDEX __memoturn_kv_v",
        "DROP TRIGGER __memoturn_kv_t",
        "DROP VIEW __memoturn_view",
        "DROP TABLE __memoturn_fts",
        "ALTER TABLE __memoturn_kv RENAME TO stolen",
        "ALTER TABLE t RENAME TO __memoturn_t",
        "ALTER TABLE __memoturn_kv RENAME COLUMN v TO w",
        "ALTER TABLE __memoturn_kv ADD COLUMN w",
        "ALTER TABLE __memoturn_kv DROP COLUMN v",
        "CREATE TABLE __memoturn_x(v)",
        "\ufeff create table if not exists __MEMOTURN_x(v)",
        "; /* ; */ -- \n CREATE TABLE x AS SELECT * FROM __memoturn_kv",
        "CREATE TABLE x(v REFERENCES __memoturn_kv(k) ON DELETE CASCADE)",
        "ALTER TABLE t ADD COLUMN w REFERENCES __memoturn_kv(k)",
        "CREATE INDEX x ON __memoturn_kv(v)",
        "CREATE INDEX __memoturn_x ON t(v)",
        "CREATE VIEW x AS SELECT * FROM __memoturn_kv",
        "CREATE VIEW __memoturn_x AS SELECT 1",
        "CREATE TRIGGER x AFTER INSERT ON __memoturn_kv BEGIN DELETE FROM t; END",
        "CREATE TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM __memoturn_kv; END",
        "CREATE TRIGGER __memoturn_x AFTER INSERT ON t BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE x USING fts5(v, content='__memoturn_kv')",
        "CREATE VIRTUAL TABLE x USING fts5vocab('__memoturn_fts', 'row')",
        "CREATE VIRTUAL TABLE __memoturn_x USING fts5(v)",
        "SELECT * FROM __memoturn_fts",
        "SELECT * FROM __memoturn_fts WHERE __memoturn_fts MATCH 'a'",
        "SELECT * FROM __memoturn_fts('a')",
        "SELECT * FROM __memoturn_fts_data",
        "INSERT INTO __memoturn_fts(__memoturn_fts) VALUES ('optimize')",
        "SELECT * FROM __memoturn_view",
        "SELECT count(*) FROM __memoturn_view",
        "PRAGMA table_info(__memoturn_kv)",
        "PRAGMA table_xinfo('__memoturn_kv')",
        'PRAGMA index_list("__memoturn_kv")',
        "PRAGMA index_info=__memoturn_kv_v",
        "PRAGMA index_xinfo(sqlite_autoindex___memoturn_kv_1)",
        "PRAGMA foreign_key_list(__memoturn_kv)",
        "PRAGMA foreign_key_check(__memoturn_kv)",
        "PRAGMA integrity_check(__memoturn_kv)",
        "PRAGMA quick_check(__memoturn_kv)",
        "SELECT * FROM pragma_table_info('__memoturn_kv')",
        "SELECT * FROM pragma_table_info('__memo' || 'turn_kv')",
        "SELECT x.* FROM sqlite_schema AS s, pragma_table_xinfo(s.name) AS x",
        "SELECT * FROM imported_view",
        "INSERT INTO imported_table VALUES (1)",
        "UPDATE imported_table SET v = 2",
        "SELECT * FROM imported_fts",
        "SELECT * FROM imported_fts('a')",
        "INSERT INTO imported_fts(imported_fts) VALUES ('rebuild')",
        "SELECT * FROM imported_vocabulary",
        "EXPLAIN SELECT * FROM __memoturn_kv",
        "EXPLAIN QUERY PLAN DELETE FROM __memoturn_kv",
    ),
    RESERVED,
)

TO_SHADOWS = {
    "SELECT * FROM f_data": SHADOW,
    "SELECT count(*) FROM f_content": SHADOW,
    "SELECT hex(block) FROM F_DATA": SHADOW,
    "SELECT * FROM f, f_idx": SHADOW,
    "WITH c AS (SELECT * FROM f_docsize) SELECT * FROM c": SHADOW,
    "INSERT INTO t SELECT c0 FROM f_content": SHADOW,
    "SELECT * FROM r_node": SHADOW,
    "SELECT data FROM r_node JOIN r": SHADOW,
    "INSERT INTO f_data VALUES (1, x'00')": "may not be modified|" + SHADOW,
    "UPDATE f_config SET v = 99": "may not be modified|" + SHADOW,
    "DELETE FROM r_rowid": "may not be modified|" + SHADOW,
    "DROP TABLE f_data": "may not be dropped|" + SHADOW,
    "ALTER TABLE f_data RENAME TO x": "may not be altered|" + SHADOW,
    "CREATE TABLE f_stat(v)": "",
}

TO_THE_SCHEMA = {
    "UPDATE sqlite_schema SET sql = 'x'": SCHEMA,
    "DELETE FROM sqlite_master WHERE name = 't'": SCHEMA,
    "INSERT INTO sqlite_schema VALUES ('table', 'x', 'x', 2, 'CREATE TABLE x(v)')": SCHEMA,
    "WITH c AS (SELECT 1) UPDATE sqlite_schema SET rootpage = 3 RETURNING *": SCHEMA,
    "DROP TABLE sqlite_schema": "may not be dropped",
    "ALTER TABLE sqlite_schema ADD COLUMN x": "may not be altered",
    "CREATE TRIGGER x AFTER INSERT ON sqlite_schema BEGIN SELECT 1; END": "system table",
    "CREATE TABLE sqlite_x(v)": "reserved",
    "CREATE TABLE x(a CHECK (json_patch(a, a)))": "json_patch",
    "CREATE TABLE x(a, b AS (jsonb_patch(a, a)))": "json_patch",
    "CREATE INDEX x ON t(json_patch(v, v))": "json_patch",
    "ALTER TABLE t ADD COLUMN x AS (json_patch(v, v))": "json_patch",
}

INJECTED = {
    "SELECT 1 /* */; /* */ DROP TABLE t": "one statement",
    "SELECT '--' ; DROP TABLE t": "one statement",
    "SELECT ''';' FROM __memoturn_kv": RESERVED,
    'SELECT "--" FROM __memoturn_kv -- "': RESERVED,
    "SELECT /*! */ v FROM/**/__memoturn_kv": RESERVED,
    "SELECT 1 AS [; --], v FROM __memoturn_kv": RESERVED,
    "SELECT v FROM t ORDER BY (SELECT v FROM __memoturn_kv)": RESERVED,
    "SELECT CASE WHEN (SELECT v FROM __memoturn_kv) THEN 1 END": RESERVED,
    "SELECT sum(v) FILTER (WHERE v IN (SELECT v FROM __memoturn_kv)) FROM t": RESERVED,
    "SELECT v FROM t LIMIT (SELECT count(*) FROM __memoturn_kv)": RESERVED,
    "VALUES ((SELECT v FROM __memoturn_kv))": RESERVED,
    "INSERT INTO t VALUES (x'00' || (SELECT v FROM __memoturn_kv))": RESERVED,
    "SELECT sum(v) OVER (ORDER BY (SELECT v FROM __memoturn_kv)) FROM t": RESERVED,
    "INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET v = (SELECT v FROM __memoturn_kv)": "ON CONFLICT|"
    + RESERVED,
}

REFUSED = {
    **TO_FILES,
    **TO_TRANSACTIONS,
    **TO_PRAGMAS,
    **TO_RESERVED,
    **TO_SHADOWS,
    **TO_THE_SCHEMA,
    **INJECTED,
}

FOREIGN = [
    "CREATE TABLE __memoturn_kv(k PRIMARY KEY, v)",
    "CREATE INDEX __memoturn_kv_v ON __memoturn_kv(v)",
    "CREATE TABLE __memoturn_kv_one(k)",
    "CREATE TRIGGER __memoturn_kv_t AFTER INSERT ON __memoturn_kv BEGIN SELECT 1; END",
    "INSERT INTO __memoturn_kv VALUES ('k', 'secret')",
    "CREATE VIRTUAL TABLE __memoturn_fts USING fts5(x)",
    "INSERT INTO __memoturn_fts VALUES ('a secret')",
    "CREATE VIEW __memoturn_view AS SELECT * FROM __memoturn_kv",
    "CREATE VIEW imported_view AS SELECT v FROM __memoturn_kv",
    "CREATE TABLE imported_table(v)",
    "INSERT INTO imported_table VALUES (1)",
    "CREATE TRIGGER imported_trigger AFTER INSERT ON imported_table BEGIN UPDATE __memoturn_kv SET v = 'x'; END",
    "CREATE TRIGGER imported_update AFTER UPDATE ON imported_table BEGIN DELETE FROM __memoturn_kv; END",
    "CREATE VIRTUAL TABLE imported_fts USING fts5(v, content='__memoturn_kv')",
    "INSERT INTO imported_fts(imported_fts) VALUES ('rebuild')",
    "INSERT INTO imported_fts(rowid, v) VALUES (9, 'a')",
    "CREATE VIRTUAL TABLE imported_vocabulary USING fts5vocab('__memoturn_fts', 'row')",
    "CREATE TABLE t(v UNIQUE)",
    "CREATE VIRTUAL TABLE f USING fts5(x)",
    "INSERT INTO f VALUES ('a b')",
    "CREATE VIRTUAL TABLE r USING rtree(id, a, b)",
    "INSERT INTO r VALUES (1, 2, 3)",
]
"""As a file may hold it that somebody else wrote: views, triggers and indexes of users on what is reserved."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with that in it. Every test leaves it as it was."""
    with Memoturn("memory:") as mt:
        mt.databases.create("x")
        db = mt.db("x")

        def work(connection: apsw.Connection) -> None:
            with trusted(connection):
                for text in FOREIGN:
                    connection.execute(text)

        branch_of(db).write(work)
        yield db


def fingerprint(db: Database) -> tuple[int, int]:
    head = branch_of(db).head()
    return head.txid, head.checksum


def expect(reason: str) -> pytest.RaisesExc[InvalidRequestError]:
    return pytest.RaisesExc(InvalidRequestError, match=reason)


@pytest.mark.parametrize("text", [text for text, reason in REFUSED.items() if reason])
def test_it_is_refused_and_nothing_changes(hostile: Database, tmp_path: Path, text: str) -> None:
    reason = REFUSED[text]
    text = text.replace("{dir}", str(tmp_path))
    before = fingerprint(hostile)
    past = hostile.at(hostile.txid)
    attempts: list[Callable[[], object]] = [
        lambda: hostile.sql(text),
        lambda: hostile.batch([text]),
        lambda: hostile.batch(["INSERT INTO t VALUES (7)", text, "INSERT INTO t VALUES (8)"]),
        lambda: hostile.sql(text),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidRequestError, match=reason):
            attempt()
        assert fingerprint(hostile) == before
        assert values(hostile) == [], "other work goes on"
    for attempt in (lambda: past.sql(text), lambda: past.batch(["SELECT 1", text])):
        with pytest.raises(InvalidRequestError, match=f"{reason}|{READ_ONLY}"):
            attempt()
    assert fingerprint(hostile) == before
    assert list(tmp_path.iterdir()) == []


def test_other_work_goes_on_after_all_of_them(hostile: Database) -> None:
    hostile.sql("INSERT INTO t VALUES ('mine')")
    assert values(hostile) == ["mine"]
    assert values(hostile, "SELECT x FROM f('a')") == ["a b"]
    hostile.sql("DELETE FROM t")
    assert_whole(hostile, [hostile.txid])


@pytest.mark.parametrize("text", [text for text, reason in REFUSED.items() if not reason])
def test_what_only_looks_hostile_does_no_harm(mt: Memoturn, db: Database, tmp_path: Path, text: str) -> None:
    db.sql("CREATE VIRTUAL TABLE f USING fts5(x)")
    with contextlib.suppress(InvalidRequestError):
        db.sql(text.replace("{dir}", str(tmp_path)))
    assert list(tmp_path.iterdir()) == []
    assert_whole(db)


WRITES = [
    "INSERT INTO t VALUES (1)",
    "INSERT INTO t VALUES (1) RETURNING v",
    "WITH c AS (SELECT 1 AS a) INSERT INTO t SELECT a FROM c RETURNING v",
    "REPLACE INTO t VALUES (1)",
    "UPDATE imported_table SET v = 9 RETURNING v",
    "DELETE FROM imported_table RETURNING v",
    "CREATE TABLE w(v)",
    "CREATE TABLE w AS SELECT 1",
    "CREATE INDEX w ON t(v)",
    "CREATE VIEW w AS SELECT 1",
    "CREATE TRIGGER w AFTER INSERT ON t BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE w USING fts5(x)",
    "DROP TABLE t",
    "DROP VIEW imported_view",
    "ALTER TABLE t RENAME TO w",
    "ALTER TABLE t ADD COLUMN w",
    "ALTER TABLE t DROP COLUMN v",
    "INSERT INTO f VALUES ('c')",
    "INSERT INTO f(f) VALUES ('optimize')",
    "INSERT INTO f(f) VALUES ('rebuild')",
    "INSERT INTO f(f, rank) VALUES ('pgsz', 64)",
    "DELETE FROM r",
    "ANALYZE",
    "REINDEX",
    "VACUUM",
    "PRAGMA user_version=7",
    "PRAGMA application_id=7",
    "PRAGMA optimize",
    "PRAGMA incremental_vacuum",
    "PRAGMA defer_foreign_keys=ON",
    "SELECT * FROM pragma_user_version(7)",
]


@pytest.mark.parametrize("text", WRITES)
def test_a_position_in_the_past_cannot_be_written(hostile: Database, text: str) -> None:
    before = fingerprint(hostile)
    past = hostile.at(hostile.txid)
    for attempt in (lambda: past.sql(text), lambda: past.batch(["SELECT 1", text])):
        with contextlib.suppress(InvalidRequestError):
            attempt()
        assert fingerprint(hostile) == before
        assert past.sql("SELECT count(*) AS n FROM imported_table") == [{"n": 1}]
        assert past.sql("PRAGMA user_version") == [{"user_version": 0}]


# In any spelling.

_BLANKS = st.sampled_from([" ", "\n", "\t", "/**/", " /* ' */ ", ' -- "\n', "\f ", "/* ; */"])
_QUOTES = st.sampled_from(["{}", '"{}"', "[{}]", "`{}`", "main.{}", 'main."{}"', "main . [{}]"])
_TEMPLATES = st.sampled_from(
    [
        "SELECT * FROM @",
        "SELECT 1 FROM t , @",
        "WITH c AS ( SELECT * FROM @ ) SELECT * FROM c",
        "INSERT INTO t SELECT * FROM @",
        "DELETE FROM @",
        "UPDATE @ SET k = 1",
        "DROP TABLE @",
        "CREATE VIEW x AS SELECT * FROM @",
        "CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT * FROM @ ; END",
        "SELECT * FROM t WHERE v IN ( SELECT k FROM @ )",
        "SELECT 1 UNION SELECT k FROM @",
        "INSERT INTO t VALUES ( 1 ) RETURNING ( SELECT k FROM @ )",
        "ALTER TABLE @ ADD COLUMN w",
        "CREATE INDEX i ON @ ( k )",
        "EXPLAIN SELECT * FROM @",
    ]
)


def _cased(draw: st.DrawFn, word: str) -> str:
    upper = draw(st.integers(0, 2 ** len(word) - 1))
    return "".join(c.upper() if upper >> i & 1 else c.lower() for i, c in enumerate(word))


@st.composite
def _spelled(draw: st.DrawFn) -> str:
    words = draw(_TEMPLATES).split(" ")
    parts = [draw(st.sampled_from(["", ";", "\ufeff", " ", "/**/"]))]
    for word in words:
        if word == "@":
            parts.append(draw(_QUOTES).format(_cased(draw, "__memoturn_kv")))
        else:
            parts.append(_cased(draw, word) if word.isupper() else word)
        parts.append(draw(_BLANKS))
    return "".join(parts)


@given(_spelled())
def test_reserved_tables_are_out_of_reach_in_any_spelling(text: str) -> None:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE t(v); CREATE TABLE __memoturn_kv(k, v)")
    protect(connection)
    # CREATE INDEX main.x ON main.t is no SQL: then SQLite says so.
    with pytest.raises(InvalidRequestError, match=f"{RESERVED}|syntax error"):
        learn(connection, text)
    connection.close()


# Bombs.

_ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)"
BOMBS = [
    f"{_ENDLESS} SELECT count(*) FROM c",
    f"{_ENDLESS} SELECT n FROM c WHERE n < 0",
    f"{_ENDLESS} INSERT INTO t SELECT n FROM c WHERE n < 0",
    f"{_ENDLESS} SELECT sum(length(hex(zeroblob(100000)))) FROM c",
    f"{_ENDLESS} SELECT sum(instr(printf('%.1000c', 'a'), 'b')) FROM c",
    f"{_ENDLESS} DELETE FROM many WHERE n = (SELECT max(n) FROM c) RETURNING n",
    f"SELECT (SELECT count(*) FROM ({_ENDLESS} SELECT * FROM c))",
    "SELECT count(*) FROM many a, many b, many c, many d, many e",
    "UPDATE many SET n = (SELECT count(*) FROM many a, many b, many c, many d)",
    "SELECT * FROM many WHERE n GLOB (SELECT max(a.n || b.n) FROM many a, many b, many c, many d)",
    "CREATE TABLE x AS SELECT count(*) FROM many a, many b, many c, many d, many e",
    "SELECT sum(a.n) OVER (ORDER BY b.n) FROM many a, many b, many c, many d LIMIT 1",
]


class Hurrying(ManualClock):
    """A clock on which every look at the time takes a second, so that deadlines come early."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds


class Held(ManualClock):
    """A clock that stands still, and counts who looks at it."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.looks: Counter[int | None] = Counter()

    def monotonic(self) -> float:
        self.looks[threading.get_ident()] += 1
        return self.seconds

    def asked_by(self, thread: threading.Thread, times: int) -> None:
        """Wait until a thread has looked so often."""
        while self.looks[thread.ident] < times:
            threading.Event().wait(0.001)


@pytest.fixture
def hurried(open_store: Callable[..., Memoturn]) -> Database:
    """A database whose statements are stopped at the thirtieth check."""
    mt = open_store(clock=Hurrying())
    mt.databases.create("x")
    db = mt.db("x")
    db.sql("CREATE TABLE t(v)")
    db.sql("CREATE TABLE many(n)")
    db.sql(
        "INSERT INTO many SELECT value FROM json_each('[' || substr(hex(zeroblob(300)), 2, 0) || '1"
        + ",2" * 299
        + "]')"
    )
    return db


@pytest.mark.parametrize("text", BOMBS)
def test_a_bomb_ends_at_the_deadline_and_changes_nothing(hurried: Database, text: str) -> None:
    before = fingerprint(hurried)
    for attempt in (
        lambda: hurried.sql(text),
        lambda: hurried.batch(["INSERT INTO t VALUES (1)", text]),
        lambda: hurried.batch(["SELECT 1", text]),
    ):
        with pytest.raises(
            RequestTimeoutError, match=r"of 30 seconds \(sql.deadline, MEMOTURN_SQL_DEADLINE_SECS\)"
        ):
            attempt()
        assert fingerprint(hurried) == before
        assert values(hurried) == [], "other work goes on"
    hurried.sql("INSERT INTO t VALUES (2)")
    assert values(hurried) == [2]
    assert_whole(hurried)


def test_the_deadline_is_of_the_batch_and_not_of_each_statement(hurried: Database) -> None:
    text = "SELECT count(*) AS n FROM many a, (SELECT 1 FROM many LIMIT 10) b"
    assert hurried.sql(text) == [{"n": 3_000}]
    with pytest.raises(RequestTimeoutError, match=r"statement .* of 40"):
        hurried.batch([text] * 40)
    with pytest.raises(RequestTimeoutError):
        hurried.batch(["INSERT INTO t VALUES (1)", *[text] * 40])
    for _ in range(40):
        hurried.sql(text)
    assert values(hurried) == []


def test_a_trigger_bomb_ends_at_the_deadline(hurried: Database) -> None:
    for i in range(7):
        hurried.sql(f"CREATE TABLE b{i}(v)")
    for i in range(6):
        add = f"INSERT INTO b{i + 1} SELECT n FROM many LIMIT 20;"
        hurried.sql(f"CREATE TRIGGER g{i} AFTER INSERT ON b{i} BEGIN {add} END")
    before = fingerprint(hurried)
    with pytest.raises(RequestTimeoutError):
        hurried.sql("INSERT INTO b0 VALUES (1)")
    assert fingerprint(hurried) == before
    assert values(hurried, "SELECT count(*) FROM b6") == [0]


@pytest.fixture
def poor(open_store: Callable[..., Memoturn]) -> Database:
    """A database whose statements may have little."""
    mib = 1 << 20
    settings = SqlSettings(value_bytes=2 * mib, statement_bytes=16 * mib, result_bytes=4 * mib, sql_bytes=mib)
    mt = open_store(settings=Settings(sql=settings))
    mt.databases.create("x")
    db = mt.db("x")
    db.sql("CREATE TABLE t(v)")
    return db


_TOO_LARGE = {
    f"{_ENDLESS} SELECT n FROM c ORDER BY n": "sql.statement_bytes",
    f"{_ENDLESS} SELECT DISTINCT randomblob(100) FROM c ORDER BY 1": "sql.statement_bytes",
    f"{_ENDLESS} INSERT INTO t SELECT randomblob(1000) FROM c": "sql.statement_bytes",
    f"{_ENDLESS} SELECT n FROM c": "sql.result_bytes",
    f"{_ENDLESS} INSERT INTO t SELECT n FROM c RETURNING v": "sql.*bytes",
    f"{_ENDLESS} SELECT zeroblob(1000000) FROM c": r"sql.result_bytes, MEMOTURN_SQL_RESULT_BYTES\); ask .* LIMIT",
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 400000) SELECT group_concat(n) FROM c": (
        "sql.value_bytes"
    ),
    f"{_ENDLESS} SELECT json_group_array(n) FROM c": "sql.*bytes",
    "SELECT zeroblob(3000000)": "sql.value_bytes",
    "SELECT randomblob(3000000)": "sql.value_bytes",
    "SELECT hex(zeroblob(1500000))": "sql.value_bytes",
    "SELECT printf('%.3000000c', 'a')": "sql.value_bytes",
    "SELECT format('%*s', 2000000000, 'a')": "sql.value_bytes",
    "SELECT replace(hex(zeroblob(500000)), '0', 'aaaa')": "sql.value_bytes",
    "SELECT replace(hex(zeroblob(500000)), '0', hex(zeroblob(500000)))": "sql.value_bytes",
    "SELECT quote(zeroblob(1900000)) || quote(zeroblob(1900000))": "sql.value_bytes",
    "INSERT INTO t VALUES (zeroblob(3000000))": "sql.value_bytes",
    "SELECT length('" + "a" * (1 << 20) + "')": "sql.sql_bytes, MEMOTURN_SQL_BYTES",
    "SELECT json_patch(hex(zeroblob(200000)), '{}')": r"sql.costly_value_bytes",
}


@pytest.mark.parametrize("text", _TOO_LARGE, ids=lambda text: text[:90])
def test_what_takes_too_much_memory_is_stopped_and_changes_nothing(poor: Database, text: str) -> None:
    before = fingerprint(poor)
    for attempt in (lambda: poor.sql(text), lambda: poor.batch(["INSERT INTO t VALUES (1)", text])):
        with pytest.raises(PayloadTooLargeError, match=_TOO_LARGE[text]):
            attempt()
        assert fingerprint(poor) == before
        assert values(poor) == [], "other work goes on"
    poor.sql("INSERT INTO t VALUES (2)")
    assert_whole(poor)


def test_the_results_of_a_batch_are_counted_together(poor: Database) -> None:
    text = "SELECT zeroblob(1000000) AS b"
    assert len(poor.sql(text)[0]["b"]) == 1_000_000
    with pytest.raises(PayloadTooLargeError, match="statement 5 of 9"):
        poor.batch([text] * 9)
    poor.batch([text] * 4)


def test_sqlite_has_a_limit_for_the_process_that_one_row_cannot_pass(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each connection that other tests have left open would have its share of the limit.
    monkeypatch.setattr(budget, "_limited", WeakSet())
    db.at(0).sql("SELECT 1")
    row = ", ".join(["randomblob(33000000)"] * 100)
    with pytest.raises((PayloadTooLargeError, UnavailableError), match=r"sql\.(heap|statement)_bytes"):
        db.sql(f"SELECT {row}")
    assert db.sql("SELECT 1 AS n") == [{"n": 1}]
    db.sql("INSERT INTO t VALUES (1)")
    assert values(db) == [1]


def test_one_call_of_a_function_takes_no_time_without_end(db: Database) -> None:
    """SQLite's own instr, replace and trim would take hours for each of these."""
    long, half = "a" * 4_000_000, "a" * 2_000_000 + "b"
    assert values(db, f"SELECT instr('{long[:9]}', 'b')") == [0]
    for text in ("instr(?1, ?2)", "length(replace(?1, ?2, ''))", "length(replace(?2, ?1, ''))"):
        db.sql(f"SELECT {text}", [long, half])
    many = "".join(map(chr, range(0x4E00, 0x9000))) * 50 + "a"
    for name in ("trim", "ltrim", "rtrim", "unhex"):
        db.sql(f"SELECT length({name}(?1, ?2))", [long, many])
    with pytest.raises(SqlError, match="pattern too complex"):
        db.sql("SELECT ? LIKE ?", [long, "%" + "a" * 1000 + "b"])
    with pytest.raises(PayloadTooLargeError, match="costly"):
        db.sql("SELECT json_patch(?, '{}')", ["{" + ",".join(f'"{i}":1' for i in range(99_999)) + "}"])
    db.sql("CREATE VIRTUAL TABLE f USING fts5(x)")
    long = "a " * 200_000
    db.sql("INSERT INTO f VALUES (?)", [long])
    for text in ("SELECT x FROM f(?)", "SELECT x FROM f WHERE x MATCH ?", "SELECT x FROM f WHERE f = ?"):
        with pytest.raises(PayloadTooLargeError, match="costly"):
            db.sql(text, [long])
    with pytest.raises(PayloadTooLargeError, match="costly"):
        db.sql("SELECT snippet(f, 0, '', '', '', 9) FROM f('a')")
    assert len(values(db, "SELECT x FROM f")[0]) == len(long)


def test_views_upon_views_are_bounded(hurried: Database) -> None:
    hurried.sql("CREATE VIEW v0 AS SELECT v FROM t")
    for i in range(1, 40):
        hurried.sql(f"CREATE VIEW v{i} AS SELECT v FROM v{i - 1} UNION ALL SELECT v FROM v{i - 1}")
    with pytest.raises((SqlError, RequestTimeoutError, PayloadTooLargeError, UnavailableError)):
        hurried.sql("SELECT count(*) FROM v39")
    assert values(hurried) == []


def test_others_go_on_while_a_bomb_burns(open_store: Callable[..., Memoturn]) -> None:
    clock = Held()
    mt = open_store(clock=clock)
    mt.databases.create("x")
    db = mt.db("x")
    db.sql("CREATE TABLE t(v)")
    outcomes: list[type[BaseException]] = []

    def burn() -> None:
        try:
            db.sql(BOMBS[0])
        except RequestTimeoutError as error:
            outcomes.append(type(error))

    bombs = [threading.Thread(target=burn) for _ in range(3)]
    for thread in bombs:
        thread.start()
    for thread in bombs:
        clock.asked_by(thread, times=3)
    for done in range(1, 6):
        db.sql("INSERT INTO t VALUES (1)")
        assert values(db, "SELECT count(*) FROM t") == [done]
    assert all(thread.is_alive() for thread in bombs)
    clock.seconds += 31
    for thread in bombs:
        thread.join()
    assert outcomes == [RequestTimeoutError] * 3


# What others have written.


def test_a_damaged_schema_is_an_error_and_nothing_else(mt: Memoturn, tmp_path: Path) -> None:
    for number, (name, sql) in enumerate(
        [("x", "CREATE TABLE x(v"), ("x", "CREATE VIEW x AS SELECT load_extension('x')"), ("t", "garbage")]
    ):
        path = tmp_path / f"{number}.db"
        connection = apsw.Connection(str(path))
        connection.execute("CREATE TABLE t(v); CREATE TABLE x(v)")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, name))
        connection.close()
        try:
            mt.databases.import_file(f"d{number}", path)
        except InvalidRequestError:
            continue
        with pytest.raises((InvalidRequestError, CorruptError)):
            mt.db(f"d{number}").sql("SELECT * FROM x")
