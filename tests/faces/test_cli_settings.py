"""Flags go before variables and variables before defaults, and `memoturn config` says which it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from memoturn.base.settings import AuthSettings, ServerSettings, SqlSettings
from memoturn.faces.cli.errors import UsageError
from memoturn.faces.cli.settings import Setting, configure
from tests.faces.conftest import Cli

HERE = Path.cwd()


def shown(url: str | None, environ: dict[str, str]) -> dict[str, tuple[object, str]]:
    return {s.name: (s.value, s.source) for s in configure(url, environ).shown}


def test_every_setting_has_its_default() -> None:
    assert shown(None, {}) == {
        "MEMOTURN_URL": ("file:./data", "default"),
        "MEMOTURN_OBJECT_STORE": (f"file://{HERE}/data/objects", "default"),
        "MEMOTURN_DATA_DIR": (f"{HERE}/data", "default"),
        "MEMOTURN_DURABILITY": ("standard", "default"),
        "MEMOTURN_SHIP_INTERVAL_MS": (200, "default"),
        "MEMOTURN_PAGE_CACHE_BYTES": (64 << 20, "default"),
        "MEMOTURN_DISK_CACHE_BYTES": (1 << 30, "default"),
        "MEMOTURN_SQL_DEADLINE_SECS": (30, "default"),
        "MEMOTURN_SQL_VALUE_BYTES": (32 << 20, "default"),
        "MEMOTURN_SQL_COSTLY_VALUE_BYTES": (256 << 10, "default"),
        "MEMOTURN_SQL_BYTES": (4 << 20, "default"),
        "MEMOTURN_SQL_RESULT_BYTES": (256 << 20, "default"),
        "MEMOTURN_SQL_STATEMENT_BYTES": (256 << 20, "default"),
        "MEMOTURN_SQL_HEAP_BYTES": (1 << 30, "default"),
        "MEMOTURN_PITR_RETENTION_SECS": (86400, "default"),
        "MEMOTURN_PITR_SNAPSHOT_RETENTION_SECS": (2592000, "default"),
        "MEMOTURN_GC_GRACE_SECS": (600, "default"),
        "MEMOTURN_MAINTENANCE": ("on", "default"),
        "MEMOTURN_HOT_CAP": (256, "default"),
        "MEMOTURN_NODE_ID": (None, "default"),
        "MEMOTURN_ADVERTISE": (None, "default"),
        "MEMOTURN_EMBEDDER": (None, "default"),
        "MEMOTURN_EMBEDDER_MODEL": (None, "default"),
        "MEMOTURN_EMBEDDER_KEY": (None, "default"),
        "MEMOTURN_AUTH": (None, "default"),
        "MEMOTURN_TOKEN": (None, "default"),
        "MEMOTURN_PLATFORM_KEY": (None, "default"),
        "MEMOTURN_AUTH_KEY": (None, "default"),
        "MEMOTURN_AUTH_OLD_KEYS": (None, "default"),
        "MEMOTURN_LISTEN": ("127.0.0.1:8080", "default"),
        "MEMOTURN_BODY_BYTES": (32 << 20, "default"),
        "MEMOTURN_CONTROL_BODY_BYTES": (1 << 20, "default"),
        "MEMOTURN_IMPORT_BYTES": (64 << 30, "default"),
        "MEMOTURN_HEADER_BYTES": (128 << 10, "default"),
        "MEMOTURN_REQUEST_SECS": (30, "default"),
        "MEMOTURN_LONG_REQUEST_SECS": (3600, "default"),
        "MEMOTURN_MIN_TXID_SECS": (5, "default"),
        "MEMOTURN_IN_FLIGHT": (1024, "default"),
        "MEMOTURN_CONTROL_PER_SECOND": (10, "default"),
        "MEMOTURN_QUEUED": (256, "default"),
        "MEMOTURN_RESULTS": (1000, "default"),
        "MEMOTURN_IDEMPOTENCY_KEYS": (10_000, "default"),
        "MEMOTURN_IDEMPOTENCY_BYTES": (64 << 20, "default"),
        "MEMOTURN_SHUTDOWN_SECS": (30, "default"),
        "MEMOTURN_LOG_REQUESTS": ("off", "default"),
    }


def test_variables_reach_the_settings() -> None:
    given = {
        "MEMOTURN_URL": "s3://bucket/prefix",
        "MEMOTURN_DATA_DIR": "/var/lib/memoturn",
        "MEMOTURN_DURABILITY": "durable",
        "MEMOTURN_SHIP_INTERVAL_MS": "50",
        "MEMOTURN_PAGE_CACHE_BYTES": "1000",
        "MEMOTURN_DISK_CACHE_BYTES": "0",
        "MEMOTURN_SQL_DEADLINE_SECS": "1",
        "MEMOTURN_SQL_VALUE_BYTES": "2000000",
        "MEMOTURN_SQL_COSTLY_VALUE_BYTES": "3000",
        "MEMOTURN_SQL_BYTES": "400000",
        "MEMOTURN_SQL_RESULT_BYTES": "5000",
        "MEMOTURN_SQL_STATEMENT_BYTES": "6000000",
        "MEMOTURN_SQL_HEAP_BYTES": "70000000",
        "MEMOTURN_PITR_RETENTION_SECS": "3600",
        "MEMOTURN_PITR_SNAPSHOT_RETENTION_SECS": "7200",
        "MEMOTURN_GC_GRACE_SECS": "30",
        "MEMOTURN_MAINTENANCE": "off",
        "MEMOTURN_HOT_CAP": "3",
        "MEMOTURN_NODE_ID": "n1",
        "MEMOTURN_ADVERTISE": "http://n1:8080",
        "MEMOTURN_EMBEDDER": "https://host/v1",
        "MEMOTURN_EMBEDDER_MODEL": "m",
        "MEMOTURN_EMBEDDER_KEY": "secret",
        "MEMOTURN_AUTH": "on",
        "MEMOTURN_PLATFORM_KEY": "secret 1",
        "MEMOTURN_AUTH_KEY": "secret 2",
        "MEMOTURN_AUTH_OLD_KEYS": "secret 3",
        "MEMOTURN_TOKEN": "secret 4",
        "MEMOTURN_LISTEN": "[::1]:0",
        "MEMOTURN_BODY_BYTES": "1",
        "MEMOTURN_CONTROL_BODY_BYTES": "2",
        "MEMOTURN_IMPORT_BYTES": "3",
        "MEMOTURN_HEADER_BYTES": "4096",
        "MEMOTURN_REQUEST_SECS": "5",
        "MEMOTURN_LONG_REQUEST_SECS": "6",
        "MEMOTURN_MIN_TXID_SECS": "0",
        "MEMOTURN_IN_FLIGHT": "8",
        "MEMOTURN_CONTROL_PER_SECOND": "0",
        "MEMOTURN_QUEUED": "10",
        "MEMOTURN_RESULTS": "11",
        "MEMOTURN_IDEMPOTENCY_KEYS": "12",
        "MEMOTURN_IDEMPOTENCY_BYTES": "13",
        "MEMOTURN_SHUTDOWN_SECS": "14",
        "MEMOTURN_LOG_REQUESTS": "on",
    }
    configuration = configure(None, given)
    settings, listed = configuration.settings, configuration.shown
    assert (configuration.url, configuration.home) == ("s3://bucket/prefix", None)
    assert (settings.commit.durability, settings.commit.ship_interval_ms) == ("durable", 50)
    assert (settings.cache.page_cache_bytes, settings.cache.disk_cache_bytes) == (1000, 0)
    assert (settings.hot_cap, settings.node_id, settings.advertise) == (3, "n1", "http://n1:8080")
    assert settings.sql == SqlSettings(1, 2_000_000, 3000, 400_000, 5000, 6_000_000, 70_000_000)
    history = settings.history
    assert (history.pitr_retention_secs, history.pitr_snapshot_retention_secs) == (3600, 7200)
    assert history.gc_grace_secs == 30
    assert settings.maintenance.on is False
    assert settings.data_dir == "/var/lib/memoturn"
    assert configuration.token == "secret 4"
    assert configuration.auth == AuthSettings("on", "secret 1", "secret 2", "secret 3")
    assert configuration.server == ServerSettings(
        "[::1]:0", 1, 2, 3, 4096, 5, 6, 0, 8, 0, 10, 11, 12, 13, 14, True
    )
    assert configuration.embedding == ("https://host/v1", "m", "secret")
    assert "secret" not in str(listed)
    assert {s.source for s in listed} == {"env"}


@pytest.mark.parametrize(
    ("flag", "environ", "url", "source"),
    [
        ("file:./a", {"MEMOTURN_URL": "file:./b"}, "file:./a", "flag"),
        (None, {"MEMOTURN_URL": "file:./b", "MEMOTURN_OBJECT_STORE": "s3://c"}, "file:./b", "env"),
        (None, {"MEMOTURN_OBJECT_STORE": "s3://c/d"}, "s3://c/d", "env"),
        (None, {"MEMOTURN_OBJECT_STORE": "file://./data/objects"}, "file:./data", "env"),
        (None, {"MEMOTURN_OBJECT_STORE": "file:///srv/memoturn/objects/"}, "file:///srv/memoturn", "env"),
        (None, {"MEMOTURN_DATA_DIR": "/srv/x"}, "file:/srv/x", "env"),
        (None, {"MEMOTURN_URL": ""}, "file:./data", "default"),
        ("file://./a", {}, "file:./a", "flag"),
    ],
)
def test_where_the_store_is_taken_from(
    flag: str | None, environ: dict[str, str], url: str, source: str
) -> None:
    assert configure(flag, environ).url == url
    assert shown(flag, environ)["MEMOTURN_URL"] == (url, source)


@pytest.mark.parametrize(
    "environ",
    [
        {"MEMOTURN_DURABILITY": "eventual"},
        {"MEMOTURN_AUTH": "yes"},
        {"MEMOTURN_HOT_CAP": "0"},
        {"MEMOTURN_HOT_CAP": "many"},
        {"MEMOTURN_PAGE_CACHE_BYTES": "-1"},
        {"MEMOTURN_GC_GRACE_SECS": "0"},
        {"MEMOTURN_SHIP_INTERVAL_MS": "0"},
        {"MEMOTURN_SQL_DEADLINE_SECS": "0"},
        {"MEMOTURN_SQL_HEAP_BYTES": "1000"},
        {"MEMOTURN_OBJECT_STORE": "file:///srv/elsewhere"},
        {"MEMOTURN_OBJECT_STORE": "file:///objects"},
        {"MEMOTURN_URL": "ftp://x"},
        {"MEMOTURN_URL": "file://host/data"},
    ],
)
def test_a_value_that_cannot_be_meant_is_named(environ: dict[str, str]) -> None:
    (name,) = environ
    with pytest.raises(UsageError, match=name):
        configure(None, environ)


def test_a_bound_of_sql_holds(agent: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMOTURN_SQL_RESULT_BYTES", "2000")
    assert agent("sql", "agent-42", "SELECT 1 AS a UNION ALL SELECT 2", "--json").json["rows"] == [
        {"a": 1},
        {"a": 2},
    ]
    many = agent(
        "sql",
        "agent-42",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 999) SELECT i FROM n",
        code=None,
    )
    assert (many.code, "2000 bytes" in many.err) == (1, True)


def test_config_prints_them(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMOTURN_HOT_CAP", "12")
    told = cli("config", "--url", "file:./here")
    rows = {line.split()[0]: line.split()[1:] for line in told.out.splitlines()}
    assert rows["setting"] == ["value", "from"]
    assert rows["MEMOTURN_URL"] == ["file:./here", "flag"]
    assert rows["MEMOTURN_HOT_CAP"] == ["12", "env"]
    assert rows["MEMOTURN_DURABILITY"] == ["standard", "default"]
    assert Setting("MEMOTURN_HOT_CAP", 12, "env") in [
        Setting(**entry) for entry in cli("config", "--json").json
    ]
    assert _row(cli, monkeypatch) == ["http://x", "env"]


def _row(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("MEMOTURN_URL", "http://x")
    return cli("config").out.splitlines()[1].split()[1:]


def test_a_setting_that_is_wrong_ends_every_command(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMOTURN_DURABILITY", "eventual")
    assert cli("config", "--json", code=2).error["code"] == "invalid_request"


def test_url_and_json_may_stand_before_the_command(cli: Cli, tmp_path: Path) -> None:
    cli("--url", "file:./elsewhere", "db", "create", "agent-42")
    assert (tmp_path / "elsewhere" / "objects").is_dir()
    assert len(cli("--json", "db", "list", "--url", "file:./elsewhere").json) == 1
