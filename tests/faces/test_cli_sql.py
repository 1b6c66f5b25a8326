"""`memoturn sql`: parameters, pipes, scripts, the past, and how values look."""

from __future__ import annotations

import pytest

from memoturn.base.results.rows import Value
from memoturn.faces.cli.sql import _split
from memoturn.faces.cli.values import parse_parameter
from tests.faces.conftest import Cli


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1", 1),
        ("-5", -5),
        ("-0.5", -0.5),
        ("1e3", 1000.0),
        ("null", None),
        ('"1"', "1"),
        ("plain text", "plain text"),
        ("007", "007"),
        ("true", "true"),
        ("[1, 2]", "[1, 2]"),
        ('{"a": 1}', '{"a": 1}'),
        ("", ""),
        ("9223372036854775807", 9223372036854775807),
        ("9223372036854775808", "9223372036854775808"),
    ],
)
def test_a_parameter_is_what_it_looks_like(word: str, value: Value) -> None:
    parsed = parse_parameter(word)
    assert (parsed, type(parsed)) == (value, type(value))


def test_parameters_reach_the_statement(agent: Cli) -> None:
    asked = agent(
        "sql",
        "agent-42",
        "SELECT typeof(?) AS a, typeof(?) AS b, typeof(?) AS c",
        "-5",
        "x",
        "null",
        "--json",
    )
    assert asked.json["rows"] == [{"a": "integer", "b": "text", "c": "null"}]
    dashed = agent("sql", "agent-42", "SELECT ? AS a", "--", "--not-an-option")
    assert dashed.out == "a\n--not-an-option\n"
    agent("sql", "agent-42", "SELECT ?", "--jsno", code=2)
    agent("sql", "agent-42", "SELECT ?, ?", "1", code=1)


def test_answers_have_one_shape(agent: Cli) -> None:
    asked = agent("sql", "agent-42", "SELECT id, text FROM fact", "--json")
    assert asked.json == {
        "columns": ["id", "text"],
        "types": ["INTEGER", None],
        "rows": [{"id": 1, "text": "likes tea"}],
        "txid": 2,
        "exact": True,
    }
    assert asked.err == "txid: 2\n"
    none = agent("sql", "agent-42", "SELECT id FROM fact WHERE id < 0", "--json")
    assert none.json == {"columns": ["id"], "types": ["INTEGER"], "rows": [], "txid": 2, "exact": True}
    written = agent("sql", "agent-42", "DELETE FROM fact", "--json")
    assert written.json == {"columns": [], "types": [], "rows": [], "txid": 3, "exact": True}


def test_tables_are_aligned_and_hold_no_control_characters(agent: Cli) -> None:
    shown = agent(
        "sql",
        "agent-42",
        "SELECT 'a\nb\x1b[31m' AS t, 7 AS n, NULL AS x, x'00ff' AS b UNION ALL SELECT 'c', 10, 1, 2",
    )
    assert shown.out.splitlines() == [
        "t              n  x     b",
        "a\\nb\\x1b[31m   7  NULL  x'00ff'",
        "c             10  1     2",
    ]


def test_a_statement_that_writes_prints_its_txid_only(agent: Cli) -> None:
    done = agent("sql", "agent-42", "INSERT INTO fact (text) VALUES ('x')")
    assert (done.out, done.err) == ("", "txid: 3\n")


@pytest.mark.parametrize("words", [("agent-42",), ("agent-42", "-")])
def test_statements_come_from_a_pipe(agent: Cli, words: tuple[str, ...]) -> None:
    assert agent("sql", *words, stdin="SELECT text FROM fact\n").out == "text\nlikes tea\n"


def test_parameters_go_with_a_piped_statement(agent: Cli) -> None:
    assert agent("sql", "agent-42", "-", "41", stdin="SELECT ? + 1 AS n;").out == " n\n42\n"


def test_a_script_is_one_transaction(agent: Cli) -> None:
    script = """
        CREATE TABLE note (text);              -- a comment; with a semicolon
        INSERT INTO note VALUES ('a;b');
        CREATE TRIGGER t AFTER INSERT ON note BEGIN DELETE FROM fact; SELECT 1; END;
        INSERT INTO note VALUES ('c');
        SELECT text FROM note
    """
    done = agent("sql", "agent-42", stdin=script)
    assert done.out == "text\na;b\nc\n"
    assert done.err == "txid: 3\n"
    assert agent("sql", "agent-42", "SELECT count(*) AS n FROM fact").out == "n\n0\n"
    both = agent("sql", "agent-42", "SELECT 1 AS a; SELECT 2 AS b", "--json").json
    assert both == {
        "results": [
            {"columns": ["a"], "types": [None], "rows": [{"a": 1}]},
            {"columns": ["b"], "types": [None], "rows": [{"b": 2}]},
        ],
        "txid": 3,
        "exact": True,
    }


def test_a_script_that_fails_leaves_nothing(agent: Cli) -> None:
    failed = agent("sql", "agent-42", stdin="DELETE FROM fact; INSERT INTO nowhere VALUES (1);", code=1)
    assert "statement 2 of 2" in failed.err
    assert agent("sql", "agent-42", "SELECT count(*) AS n FROM fact").out == "n\n1\n"
    agent("sql", "agent-42", "SELECT 1; SELECT ?", "7", code=2)


def test_statements_are_told_apart_by_sqlite() -> None:
    assert _split("SELECT ';'; ; SELECT 2 /* ; */") == ["SELECT ';';", ";", "SELECT 2 /* ; */"]
    assert _split("") == []


def test_the_past_is_read_only(agent: Cli) -> None:
    agent("branch", "checkpoint", "agent-42", "before-task")
    agent("sql", "agent-42", "DELETE FROM fact")
    for position in ("before-task", "2"):
        asked = agent("sql", f"agent-42@main:{position}", "SELECT text FROM fact")
        assert (asked.out, asked.err) == ("text\nlikes tea\n", "txid: 2\n")
    refused = agent("sql", "agent-42@main:2", "DELETE FROM fact", code=1)
    assert "read-only" in refused.err


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH 'x.db' AS x",
        "BEGIN",
        "PRAGMA journal_mode = WAL",
        "SELECT load_extension('x')",
        "VACUUM INTO 'x'",
    ],
)
def test_sql_stays_in_its_database(agent: Cli, statement: str) -> None:
    assert agent("sql", "agent-42", statement, "--json", code=1).error["code"] == "invalid_request"


def test_stdin_that_is_no_text_is_a_usage_error(agent: Cli) -> None:
    assert "UTF-8" in agent("sql", "agent-42", "-", stdin=b"\xff\xfe", code=2).err
