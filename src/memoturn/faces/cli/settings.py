"""Settings from flags and MEMOTURN_* variables. Nothing else in the package reads the environment."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from memoturn.base.settings import (
    MIB,
    AuthSettings,
    CacheSettings,
    CommitSettings,
    Durability,
    HistorySettings,
    MaintenanceSettings,
    ServerSettings,
    Settings,
    SqlSettings,
)
from memoturn.faces.cli.errors import UsageError

Origin = Literal["default", "env", "flag"]
_DURABILITIES: Final = ("standard", "durable")
_ON_OFF: Final = ("on", "off")
LOCAL: Final = "local"
_SCHEMES: Final = ("memory", "file", "s3", "gs", "az", "http", "https")


class Setting(Struct, frozen=True):
    """A setting with the value in force, and whether that is the default, a variable's or a flag's."""

    name: str
    value: str | int | None
    source: Origin


class Configuration(NamedTuple):
    """What the CLI works on, and with."""

    url: str
    home: Path | None
    """The directory of a `file:` store, None for any other."""
    settings: Settings
    shown: list[Setting]
    embedding: Embedding | None
    auth: AuthSettings
    server: ServerSettings
    token: str | None
    """What a server is shown: a token, or the platform key of the installation."""


class Embedding(NamedTuple):
    """What makes embeddings: `local`, with a directory as its model, or the URL of a service."""

    service: str
    model: str | None
    key: str | None


def configure(url: str | None, environ: Mapping[str, str], token: str | None = None) -> Configuration:
    """Put settings together: `--url` and `--token` go before variables, variables before defaults.

    Raises `UsageError` for a value that cannot be meant.
    """
    given = _Given(environ)
    defaults = Settings()
    settings = Settings(
        commit=CommitSettings(
            durability=cast(
                "Durability", given.choice("MEMOTURN_DURABILITY", _DURABILITIES, defaults.commit.durability)
            ),
            ship_interval_ms=given.number("MEMOTURN_SHIP_INTERVAL_MS", defaults.commit.ship_interval_ms, 1),
        ),
        cache=CacheSettings(
            page_cache_bytes=given.number("MEMOTURN_PAGE_CACHE_BYTES", defaults.cache.page_cache_bytes, 0),
            disk_cache_bytes=given.number("MEMOTURN_DISK_CACHE_BYTES", defaults.cache.disk_cache_bytes, 0),
        ),
        sql=_sql(given, defaults.sql),
        history=HistorySettings(
            pitr_retention_secs=given.number(
                "MEMOTURN_PITR_RETENTION_SECS", defaults.history.pitr_retention_secs, 0
            ),
            pitr_snapshot_retention_secs=given.number(
                "MEMOTURN_PITR_SNAPSHOT_RETENTION_SECS", defaults.history.pitr_snapshot_retention_secs, 0
            ),
            gc_grace_secs=given.number("MEMOTURN_GC_GRACE_SECS", defaults.history.gc_grace_secs, 1),
        ),
        maintenance=MaintenanceSettings(
            on=given.choice("MEMOTURN_MAINTENANCE", _ON_OFF, "on" if defaults.maintenance.on else "off")
            == "on",
        ),
        hot_cap=given.number("MEMOTURN_HOT_CAP", defaults.hot_cap, 1),
        node_id=given.text("MEMOTURN_NODE_ID", defaults.node_id),
        advertise=given.text("MEMOTURN_ADVERTISE", defaults.advertise),
        data_dir=given.directory("MEMOTURN_DATA_DIR", defaults.data_dir),
    )
    embedding = _embedding(given)
    token = given.secret("MEMOTURN_TOKEN", token)
    auth = _auth(given)
    server = _server(given)
    store, origin = _store(url, environ, settings.data_dir)
    home = _home(store)
    where: list[Setting] = [Setting("MEMOTURN_URL", store, origin)]
    if home is not None:
        # Of a file: store everything lies in one directory, for all processes that use it.
        where.append(Setting("MEMOTURN_OBJECT_STORE", f"file://{home / 'objects'}", origin))
        where.append(Setting("MEMOTURN_DATA_DIR", str(home), origin))
        given.shown = [setting for setting in given.shown if setting.name != "MEMOTURN_DATA_DIR"]
    elif not store.startswith("http"):
        where.append(Setting("MEMOTURN_OBJECT_STORE", store, origin))
    return Configuration(
        store, home, settings, where + given.shown, embedding, auth, server, token or auth.platform_key
    )


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """What is to be said about variables that look like settings and are none."""
    known = [setting.name for setting in configure(None, {}).shown]
    found = []
    for name in sorted(name for name in environ if name.startswith("MEMOTURN_") and name not in known):
        close = get_close_matches(name, known, 1, 0.85)
        found.append(f"{name} is no setting{f'; is {close[0]} meant?' if close else ''}")
    return found


def _sql(given: _Given, default: SqlSettings) -> SqlSettings:
    def number(name: str, value: float, least: int) -> int:
        return given.number(f"MEMOTURN_SQL_{name}", int(value), least)

    # With less, what is kept in reserved tables could not be written, or SQLite could do nothing at all.
    return SqlSettings(
        deadline=number("DEADLINE_SECS", default.deadline, 1),
        value_bytes=number("VALUE_BYTES", default.value_bytes, MIB),
        costly_value_bytes=number("COSTLY_VALUE_BYTES", default.costly_value_bytes, 1024),
        sql_bytes=number("BYTES", default.sql_bytes, 64 * 1024),
        result_bytes=number("RESULT_BYTES", default.result_bytes, 1024),
        statement_bytes=number("STATEMENT_BYTES", default.statement_bytes, MIB),
        heap_bytes=number("HEAP_BYTES", default.heap_bytes, 16 * MIB),
    )


def _embedding(given: _Given) -> Embedding | None:
    service = given.text("MEMOTURN_EMBEDDER", None)
    model = given.text("MEMOTURN_EMBEDDER_MODEL", None)
    key = given.secret("MEMOTURN_EMBEDDER_KEY")
    if service is None:
        return None
    if service != LOCAL and not service.startswith(("http://", "https://")):
        raise UsageError(f"MEMOTURN_EMBEDDER={service!r} is unknown; set it to local, or to https://host/v1")
    if service != LOCAL and model is None:
        raise UsageError("MEMOTURN_EMBEDDER names a service; set MEMOTURN_EMBEDDER_MODEL to a model of it")
    return Embedding(service, model, key)


def _auth(given: _Given) -> AuthSettings:
    return AuthSettings(
        cast('Literal["on", "off"] | None', given.choice_or_none("MEMOTURN_AUTH", _ON_OFF)),
        given.secret("MEMOTURN_PLATFORM_KEY"),
        given.secret("MEMOTURN_AUTH_KEY"),
        given.secret("MEMOTURN_AUTH_OLD_KEYS"),
    )


def _server(given: _Given) -> ServerSettings:
    default = ServerSettings()

    def number(name: str, value: float, least: int) -> int:
        return given.number(f"MEMOTURN_{name}", int(value), least)

    return ServerSettings(
        listen=given.text("MEMOTURN_LISTEN", default.listen) or default.listen,
        body_bytes=number("BODY_BYTES", default.body_bytes, 1),
        control_body_bytes=number("CONTROL_BODY_BYTES", default.control_body_bytes, 1),
        import_bytes=number("IMPORT_BYTES", default.import_bytes, 1),
        header_bytes=number("HEADER_BYTES", default.header_bytes, 1024),
        request_secs=number("REQUEST_SECS", default.request_secs, 1),
        long_request_secs=number("LONG_REQUEST_SECS", default.long_request_secs, 1),
        min_txid_secs=number("MIN_TXID_SECS", default.min_txid_secs, 0),
        in_flight=number("IN_FLIGHT", default.in_flight, 1),
        control_per_second=number("CONTROL_PER_SECOND", default.control_per_second, 0),
        queued=number("QUEUED", default.queued, 1),
        results=number("RESULTS", default.results, 1),
        idempotency_keys=number("IDEMPOTENCY_KEYS", default.idempotency_keys, 0),
        idempotency_bytes=number("IDEMPOTENCY_BYTES", default.idempotency_bytes, 0),
        shutdown_secs=number("SHUTDOWN_SECS", default.shutdown_secs, 1),
        log_requests=given.choice("MEMOTURN_LOG_REQUESTS", _ON_OFF, "off") == "on",
    )


class _Given:
    """Reads variables one by one and keeps what each has come to; an empty one counts as not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.shown: list[Setting] = []

    def text(self, name: str, default: str | None) -> str | None:
        value = self._environ.get(name) or None
        return cast("str | None", self._keep(name, value, default))

    def secret(self, name: str, flag: str | None = None) -> str | None:
        """A text that is never shown."""
        value = flag or self._environ.get(name) or None
        self._keep(name, None if value is None else "(set)", None, "flag" if flag else "env")
        return value

    def directory(self, name: str, default: str) -> str:
        return self.text(name, default) or default

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        return str(self._keep(name, self._one_of(name, allowed), default))

    def choice_or_none(self, name: str, allowed: tuple[str, ...]) -> str | None:
        """A choice of which it matters whether anybody has made it."""
        return cast("str | None", self._keep(name, self._one_of(name, allowed), None))

    def _one_of(self, name: str, allowed: tuple[str, ...]) -> str | None:
        value = self._environ.get(name) or None
        if value is not None and value not in allowed:
            raise UsageError(f"{name}={value!r} is unknown; set it to {' or '.join(allowed)}")
        return value

    def number(self, name: str, default: int, least: int) -> int:
        text = self._environ.get(name) or None
        if text is None:
            return cast("int", self._keep(name, None, default))
        if not (text.isascii() and text.isdigit()) or int(text) < least:
            raise UsageError(f"{name}={text!r} is no whole number from {least} on")
        return cast("int", self._keep(name, int(text), default))

    def _keep(
        self, name: str, value: str | int | None, default: str | int | None, origin: Origin = "env"
    ) -> str | int | None:
        self.shown.append(
            Setting(name, default, "default") if value is None else Setting(name, value, origin)
        )
        return self.shown[-1].value


def _store(flag: str | None, environ: Mapping[str, str], data_dir: str) -> tuple[str, Origin]:
    """The store's URL and where it comes from."""
    if flag:
        return _checked(flag, "--url"), "flag"
    if url := environ.get("MEMOTURN_URL"):
        return _checked(url, "MEMOTURN_URL"), "env"
    if objects := environ.get("MEMOTURN_OBJECT_STORE"):
        return _store_of_objects(_checked(objects, "MEMOTURN_OBJECT_STORE")), "env"
    return f"file:{data_dir}", "env" if environ.get("MEMOTURN_DATA_DIR") else "default"


def _checked(url: str, given_by: str) -> str:
    scheme, colon, rest = url.partition(":")
    if not colon or scheme not in _SCHEMES:
        raise UsageError(
            f"{given_by} {url!r} is no store; write file:./data, memory:, s3://bucket/prefix, gs://bucket/prefix, "
            "az://container/prefix, or http://host:port for a server"
        )
    if scheme == "file" and rest.startswith("//."):
        return f"file:{rest[2:]}"
    if scheme == "file" and rest.startswith("//") and not rest.startswith(("///", "//localhost/")):
        raise UsageError(
            f"{given_by} {url!r} names a host; a directory has three slashes, or none: file:./data"
        )
    return url


def _store_of_objects(url: str) -> str:
    """The store whose objects lie at `url`; those of a `file:` store lie in its directory `objects`."""
    if not url.startswith("file:"):
        return url
    stem, _, last = url.rstrip("/").rpartition("/")
    if last != "objects" or stem.rstrip("/") == "file:":
        raise UsageError(
            f"MEMOTURN_OBJECT_STORE {url!r} does not end in /objects; a store of files keeps its objects there, "
            "so set MEMOTURN_URL to the directory that holds it"
        )
    return stem


def _home(url: str) -> Path | None:
    scheme, _, rest = url.partition(":")
    if scheme != "file":
        return None
    path = unquote(urlsplit(url).path if rest.startswith("//") else rest)
    return Path(path).absolute() if path else None
