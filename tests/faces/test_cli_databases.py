"""`memoturn db`: create, list, show, delete, import, export."""

from __future__ import annotations

import re
from pathlib import Path

import apsw
import pytest

from tests.faces.conftest import Cli

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def sample(path: Path, *pragmas: str, rows: int = 500) -> list[tuple[object, ...]]:
    """A SQLite file with some rows, which are returned."""
    connection = apsw.Connection(str(path))
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE song (id INTEGER PRIMARY KEY, title TEXT, cover BLOB)")
    with connection:
        connection.executemany(
            "INSERT INTO song VALUES (?, ?, ?)",
            ((i, f"song {i}", bytes([i % 251]) * 90) for i in range(rows)),
        )
    return contents(connection)


def contents(connection: apsw.Connection) -> list[tuple[object, ...]]:
    found = list(connection.execute("SELECT * FROM song ORDER BY id"))
    connection.close()
    return found


def test_a_database_is_created_listed_and_shown(cli: Cli) -> None:
    assert cli("db", "create", "agent-42").out == "created database agent-42\n"
    cli("db", "create", "other", "--ttl", "7d")
    listed = cli("db", "list")
    assert [line.split()[:2] for line in listed.out.splitlines()[1:]] == [
        ["agent-42", "main"],
        ["other", "main"],
    ]
    assert "expires         never" in cli("db", "show", "agent-42").out


def test_json_of_a_database_is_stable(cli: Cli) -> None:
    made = cli("db", "create", "agent-42", "--json").json
    assert set(made) == {"name", "db_uuid", "default_branch", "created_at", "ttl_at"}
    assert made["name"] == "agent-42"
    assert TIME.fullmatch(made["created_at"])
    assert made["ttl_at"] is None
    assert cli("db", "show", "agent-42", "--json").json == made
    assert cli("db", "list", "--json").json == [made]


def test_a_deleted_database_comes_back_with_undo(agent: Cli) -> None:
    done = agent("db", "delete", "agent-42")
    agent("sql", "agent-42", "SELECT 1", code=3)
    agent("undo", "agent-42", done.undo)
    assert "likes tea" in agent("sql", "agent-42", "SELECT text FROM fact").out


@pytest.mark.parametrize(
    "pragmas",
    [(), ("page_size = 512",), ("page_size = 65536",), ("journal_mode = WAL",), ("auto_vacuum = FULL",)],
    ids=lambda pragmas: "-".join(pragmas) or "plain",
)
def test_import_takes_what_sqlite_writes_and_export_gives_it_back(
    cli: Cli, tmp_path: Path, pragmas: tuple[str, ...]
) -> None:
    rows = sample(tmp_path / "shop.sqlite", *pragmas)
    before = (tmp_path / "shop.sqlite").read_bytes()
    done = cli("db", "import", "shop", "shop.sqlite", "--json")
    assert set(done.json) == {"name", "txid", "pages", "bytes"}
    assert done.err == "txid: 1\n"
    assert (tmp_path / "shop.sqlite").read_bytes() == before

    cli("db", "export", "shop", "copy.sqlite")
    copy = apsw.Connection(str(tmp_path / "copy.sqlite"))
    assert list(copy.execute("PRAGMA integrity_check")) == [("ok",)]
    assert contents(copy) == rows


def test_import_sees_what_is_still_in_the_write_ahead_log(cli: Cli, tmp_path: Path) -> None:
    writer = apsw.Connection(str(tmp_path / "live.sqlite"))
    for statement in ("PRAGMA journal_mode = WAL", "CREATE TABLE t (n)", "INSERT INTO t VALUES (42)"):
        list(writer.execute(statement))
    assert (tmp_path / "live.sqlite-wal").stat().st_size > 0
    cli("db", "import", "live", "live.sqlite")
    writer.close()
    assert cli("sql", "live", "SELECT n FROM t", "--json").json["rows"] == [{"n": 42}]


def test_an_empty_file_is_an_empty_database(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty.sqlite").touch()
    cli("db", "import", "empty", "empty.sqlite")
    assert cli("sql", "empty", "SELECT count(*) AS n FROM sqlite_schema", "--json").json["rows"] == [{"n": 0}]


@pytest.mark.parametrize("damage", ["cut", "page", "text", "missing"])
def test_a_broken_file_is_refused_and_nothing_is_created(cli: Cli, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "broken.sqlite"
    sample(path)
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "page":
        path.write_bytes(whole[:4096] + b"\xff" * 8192 + whole[3 * 4096 :])
    elif damage == "text":
        path.write_text("this is no database\n" * 100)
    else:
        path.unlink()
    code, name = (3, "not_found") if damage == "missing" else (1, "invalid_request")
    refused = cli("db", "import", "broken", "broken.sqlite", "--json", code=code)
    assert refused.error["code"] == name
    assert "broken.sqlite" in refused.error["error"]
    assert cli("db", "list", "--json").json == []
    objects = [
        p for p in (tmp_path / "data" / "objects").rglob("*") if p.is_file() and ".memoturn" not in p.parts
    ]
    assert objects == []


def test_import_does_not_replace_a_database(agent: Cli, tmp_path: Path) -> None:
    sample(tmp_path / "shop.sqlite")
    agent("db", "import", "agent-42", "shop.sqlite", code=4)
    assert "likes tea" in agent("sql", "agent-42", "SELECT text FROM fact").out


def test_export_writes_the_past_and_replaces_no_file(agent: Cli, tmp_path: Path) -> None:
    agent("sql", "agent-42", "DELETE FROM fact")
    done = agent("db", "export", "agent-42@main:2", "past.sqlite", "--json")
    assert done.json["txid"] == 2
    past = apsw.Connection(str(tmp_path / "past.sqlite"))
    assert list(past.execute("SELECT text FROM fact")) == [("likes tea",)]
    past.close()
    agent("db", "export", "agent-42", "past.sqlite", code=4)
    agent("db", "export", "agent-42", "nowhere/past.sqlite", code=1)


def test_only_creating_makes_a_store(cli: Cli, tmp_path: Path) -> None:
    for words in (["db", "list"], ["sql", "agent-42", "SELECT 1"], ["branch", "list", "agent-42"]):
        assert "there is no store at" in cli(*words, code=3).err
    assert list(tmp_path.iterdir()) == []
