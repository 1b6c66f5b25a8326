"""The command line on a server: what it prints and how it ends is what it would be on the store itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memoturn.faces.http.keys import new_platform_key, new_signing_key
from tests.faces.conftest import Cli

MEMOTURN = [sys.executable, "-m", "memoturn.faces.cli"]


def environment(**more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("MEMOTURN_")}
    return own | {"MEMOTURN_LISTEN": "127.0.0.1:0", "MEMOTURN_CONTROL_PER_SECOND": "0"} | more


@contextmanager
def served(directory: Path, **more: str) -> Iterator[str]:
    """The URL of a server process on a store of files; it ends well when the block does."""
    command = [*MEMOTURN, "serve", "--url", f"file:{directory / 'served'}", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(**more), text=True
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            yield json.loads(line)["url"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) in (0, -signal.SIGTERM)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server without authentication."""
    with served(tmp_path_factory.mktemp("cli")) as found:
        yield found


DIET = '{"type": "fact", "topic_key": "user.diet", "summary": "vegetarian"}'
STORIES: dict[str, list[tuple[str, ...]]] = {
    "db": [
        ("db", "create", "{db}"),
        ("db", "create", "{db}"),
        ("db", "create", "Bad Name"),
        ("db", "show", "{db}"),
        ("sql", "{db}", "CREATE TABLE t (v)"),
        ("db", "export", "{db}", "{db}.sqlite"),
        ("db", "export", "{db}", "{db}.sqlite"),
        ("db", "import", "{db}-copy", "{db}.sqlite"),
        ("db", "import", "{db}-copy", "{db}.sqlite"),
        ("db", "import", "other", "nowhere.sqlite"),
        ("db", "delete", "{db}-copy"),
        ("db", "show", "{db}-copy"),
        ("db", "show", "{db}", "--json"),
    ],
    "sql": [
        ("db", "create", "{db}"),
        ("sql", "{db}", "CREATE TABLE t (id INTEGER PRIMARY KEY, v)"),
        ("sql", "{db}", "INSERT INTO t (v) VALUES (?)", "tea"),
        ("sql", "{db}", "SELECT * FROM t"),
        ("sql", "{db}", "SELECT * FROM t", "--json"),
        ("sql", "{db}@main:1", "SELECT count(*) AS n FROM t", "--json"),
        ("sql", "{db}", "SELECT x'00ff' AS b, 9e999 AS f"),
        ("sql", "{db}", "SELEC"),
        ("sql", "{db}", "SELEC", "--json"),
        ("sql", "{db}", "ATTACH 'x' AS y"),
        ("sql", "nobody", "SELECT 1"),
        ("sql", "{db}@nowhere", "SELECT 1"),
        ("sql", "{db}@main:99", "SELECT 1"),
        ("sql", "{db}@main:never", "SELECT 1"),
        ("sql", "{db}@main:1", "DELETE FROM t"),
    ],
    "branch": [
        ("db", "create", "{db}"),
        ("sql", "{db}", "CREATE TABLE t (v)"),
        ("branch", "checkpoint", "{db}", "before"),
        ("sql", "{db}", "INSERT INTO t VALUES (1)"),
        ("branch", "checkpoint", "{db}", "main", "after"),
        ("branch", "checkpoint", "{db}", "before"),
        ("branch", "checkpoints", "list", "{db}"),
        ("branch", "create", "{db}", "try", "--ttl", "1h"),
        ("branch", "create", "{db}", "old", "--checkpoint", "before"),
        ("branch", "create", "{db}", "old", "--txid", "1"),
        ("branch", "list", "{db}"),
        ("branch", "show", "{db}", "try"),
        ("branch", "extend", "{db}@try", "--ttl", "2h"),
        ("branch", "rewind", "{db}", "before"),
        ("branch", "rewind", "{db}", "main", "2"),
        ("branch", "rewind", "{db}", "never"),
        ("branch", "history", "{db}"),
        ("branch", "restore-points", "{db}"),
        ("sql", "{db}@try", "DELETE FROM t"),
        ("diff", "{db}@main", "{db}@try"),
        ("diff", "{db}@main:before", "{db}", "--json"),
        ("branch", "promote", "{db}", "try", "--dry-run"),
        ("branch", "promote", "{db}", "try"),
        ("branch", "reset", "{db}", "try"),
        ("branch", "checkpoints", "delete", "{db}@main", "after"),
        ("branch", "delete", "{db}", "old"),
        ("branch", "delete", "{db}", "try"),
        ("undo", "{db}", "nonsense"),
        ("branch", "list", "{db}", "--json"),
    ],
    "kv": [
        ("db", "create", "{db}"),
        ("kv", "put", "{db}", "ns", "a/b", "value"),
        ("kv", "get", "{db}", "ns", "a/b"),
        ("kv", "get", "{db}", "ns", "none"),
        ("kv", "put", "{db}", "ns", "a/b", "other", "--if-absent"),
        ("kv", "list", "{db}", "ns"),
        ("kv", "delete", "{db}", "ns", "a/b"),
        ("kv", "delete", "{db}", "ns", "a/b"),
        ("kv", "get", "nobody", "ns", "k"),
    ],
    "docs": [
        ("db", "create", "{db}"),
        ("docs", "insert", "{db}", "c", '{"_id": "a", "n": 1}'),
        ("docs", "insert", "{db}", "c", '{"_id": "a"}'),
        ("docs", "find", "{db}", "c", '{"n": {"$gt": 0}}'),
        ("docs", "update", "{db}", "c", '{"n": 1}', '{"$set": {"n": 2}}'),
        ("docs", "indexes", "create", "{db}", "c", "n"),
        ("docs", "indexes", "list", "{db}", "c"),
        ("docs", "find", "{db}", "c", '{"n": {"$near": 1}}'),
        ("docs", "delete", "{db}", "c", "{}"),
        ("docs", "collections", "{db}"),
    ],
    "vectors": [
        ("db", "create", "{db}"),
        ("vectors", "upsert", "{db}", "v", "a", "[1, 0]"),
        ("vectors", "upsert", "{db}", "v", "b", "[1, 0, 0]"),
        ("vectors", "search", "{db}", "v", "[1, 0.5]"),
        ("vectors", "get", "{db}", "v", "a"),
        ("vectors", "get", "{db}", "v", "none"),
        ("vectors", "collections", "{db}"),
        ("vectors", "delete", "{db}", "v", "a"),
    ],
    "memory": [
        ("memory", "ingest", "ns", "{db}", DIET),
        ("memory", "ingest", "ns", "{db}", DIET, "--json"),
        ("memory", "ingest", "ns", "{db}", '{"type": "opinion"}'),
        ("memory", "ingest", "ns", "{db}", "--type", "task", "--session", "s1", "book a table"),
        ("memory", "recall", "ns", "{db}", "diet"),
        ("memory", "recall", "ns", "{db}", "diet", "--as-of", "1", "--json"),
        ("memory", "sessions", "ns", "{db}"),
        ("memory", "sessions", "ns", "{db}", "--end", "s1"),
        ("memory", "get", "ns", "{db}", "mem_00000000000000000000000000000000"),
        ("memory", "forget", "ns", "{db}", "mem_00000000000000000000000000000000"),
        ("memory", "export", "ns", "{db}", "{db}.jsonl"),
        ("memory", "import", "ns", "{db}-copy", "{db}.jsonl"),
        ("memory", "import", "ns", "{db}-copy", "{db}.jsonl", "--json"),
        ("memory", "export", "ns", "{db}-copy"),
    ],
    "maintenance": [
        ("db", "create", "{db}"),
        ("kv", "put", "{db}", "ns", "k", "v"),
        ("compact", "{db}"),
        ("retain", "{db}"),
        ("verify", "{db}"),
        ("gc", "{db}", "--dry-run"),
        ("why-retained", "db/d_none/nothing"),
        ("maintenance", "status", "nobody"),
    ],
}
_CHANGING = (
    (r"\bu_[\w.-]+", "u_…"),
    (r"\b[dbn]_[0-9A-HJKMNP-TV-Z]{26}\b", "ID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"commit +TIME +\d+ +\d+", "commit TIME SIZE"),
    (r"\"(pages|epoch)\":\d+", "CHANGING"),
    (r"(\"version\":|version )\d+", "VERSION"),
    (r"\b\d{9,}\b", "NUMBER"),
    (r"\d+(\.\d+)? ?(µs|ms|s|seconds)\b", "DURATION"),
)


def plain(text: str) -> str:
    """What is printed, without what is never the same."""
    for pattern, word in _CHANGING:
        text = re.sub(pattern, word, text)
    return re.sub(r" +", " ", text)


def told(cli: Cli, story: list[tuple[str, ...]], name: str, *more: str) -> list[Any]:
    """How each command of a story ends, and what it prints."""
    found = []
    for words in story:
        done = cli(*(word.replace("{db}", name) for word in words), *more, code=None)
        found.append((words, done.code, plain(done.out), plain(done.err)))
    return found


@pytest.mark.parametrize("group", STORIES)
def test_a_server_is_as_good_as_a_store(cli: Cli, url: str, tmp_path: Path, group: str) -> None:
    name = f"a-{group}"
    embedded = told(cli, STORIES[group], name, "--url", "file:./data")
    for path in tmp_path.glob(f"{name}*.*"):
        path.unlink()
    over_http = told(cli, STORIES[group], name, "--url", url)
    for one, other in zip(embedded, over_http, strict=True):
        assert one == other
    assert {code for _, code, _, _ in embedded} >= {0}


def test_the_url_and_the_token_may_stand_in_variables(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = new_platform_key()
    keys = {"MEMOTURN_PLATFORM_KEY": platform, "MEMOTURN_AUTH_KEY": new_signing_key(), "MEMOTURN_AUTH": "on"}
    with served(tmp_path, **keys) as url:
        monkeypatch.setenv("MEMOTURN_URL", url)
        refused = cli("db", "list", code=1)
        assert "hint: show the server a token" in refused.err
        assert cli("db", "list", "--json", code=1).error["code"] == "unauthorized"
        cli("db", "create", "agent-42", "--token", platform)
        minted = cli(
            "token", "create", "agent-42", "--scope", "write", "--expires-in", "1h", "--token", platform
        )
        token = minted.out.strip()
        assert token.count(".") == 2
        assert "scope write on database agent-42" in minted.err
        monkeypatch.setenv("MEMOTURN_TOKEN", token)
        assert cli("sql", "agent-42", "CREATE TABLE t (v)").err == "txid: 1\n"
        assert "hint: `memoturn token create`" in cli("branch", "checkpoint", "agent-42", "c", code=1).err
        assert cli("--token", platform, "branch", "checkpoint", "agent-42", "c")
        assert cli("db", "list", code=1)
        of_namespace = cli(
            "token", "create-ns", "acme", "--json", "--scope", "admin", "--token", platform
        ).json
        assert (of_namespace["ns"], of_namespace["scope"]) == ("acme", "admin")
        cli("memory", "ingest", "acme", "alice", DIET, "--token", of_namespace["token"])
        assert cli("memory", "profiles", "acme", "--token", of_namespace["token"]).out.count("alice") == 1
        monkeypatch.delenv("MEMOTURN_TOKEN")
        monkeypatch.setenv("MEMOTURN_PLATFORM_KEY", platform)
        assert "agent-42" in cli("db", "list").out
        shown = cli("config").out
        assert platform not in shown
        assert "(set)" in shown


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("token create agent-42", 2, "minted by a server"),
        ("token create agent-42 --url http://127.0.0.1:9 --scope all", 2, "--scope 'all' is unknown"),
        ("token create agent-42 --url http://127.0.0.1:9 --expires-in soon", 2, "--expires-in 'soon'"),
        ("db list --url http://", 1, "is no server"),
    ],
)
def test_tokens_and_urls_that_cannot_be_are_refused(cli: Cli, words: str, code: int, said: str) -> None:
    assert said in cli(*words.split(), code=code).err


def test_a_rewind_is_undone_and_values_are_bytes(cli: Cli, url: str) -> None:
    cli("db", "create", "undone", "--url", url)
    assert cli("kv", "put", "undone", "n", "k", "--url", url, stdin=b"\0\xff\n").err == "txid: 1\n"
    cli("kv", "put", "undone", "n", "k", "other", "--url", url)
    done = cli("branch", "rewind", "undone", "1", "--url", url)
    cli("undo", "undone", done.undo, "--url", url)
    assert cli("kv", "get", "undone", "n", "k", "--url", url).out == "other"
    gone = cli("db", "delete", "undone", "--url", url)
    cli("db", "show", "undone", "--url", url, code=3)
    cli("undo", "undone", gone.undo, "--url", url)
    cli("db", "show", "undone", "--url", url)


def test_nobody_there_is_exit_5_with_a_hint(cli: Cli) -> None:
    done = cli("db", "list", "--url", "http://127.0.0.1:9", code=5)
    assert "cannot be reached" in done.err
    assert "hint: `memoturn serve` starts a server" in done.err


def test_a_call_of_a_server_does_not_load_the_engine(url: str, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom memoturn.faces.cli.main import app\n"
        f"try: app(['db', 'list', '--json', '--url', {url!r}])\n"
        "except SystemExit as end: assert not end.code\n"
        "print([name for name in ('apsw', 'numpy', 'obstore', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
