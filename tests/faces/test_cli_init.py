"""`memoturn init`: keys that a server starts with, in a file that nobody else can read."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from memoturn.base.settings import AuthSettings
from memoturn.faces.cli.settings import configure
from memoturn.faces.http.startup import check
from tests.faces.conftest import Cli


def settings_in(path: Path) -> AuthSettings:
    """What a shell makes of the file."""
    done = subprocess.run(
        ["sh", "-c", f"set -a; . {path}; env"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    return configure(None, dict(line.split("=", 1) for line in done.stdout.splitlines())).auth


def test_a_server_starts_with_what_init_has_made(cli: Cli) -> None:
    done = cli("init")
    path = Path("memoturn.env").absolute()
    assert str(path) in done.out
    assert "memoturn serve" in done.out
    assert "memoturn token create" in done.out
    keys, warnings = check(settings_in(path), "127.0.0.1")
    assert keys is not None
    assert warnings == []


def test_only_the_owner_can_read_the_keys_and_they_are_not_printed(cli: Cli) -> None:
    before = os.umask(0)
    try:
        done = cli("init", "--file", "keys.env")
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat("keys.env").st_mode) == 0o600
    auth = settings_in(Path("keys.env").absolute())
    for key in (auth.platform_key, auth.signing_key):
        assert key
        assert key not in done.out + done.err


def test_no_two_installations_have_the_same_keys(cli: Cli) -> None:
    first = cli("init", "--file", "1.env", "--json").json
    second = cli("init", "--file", "2.env", "--json").json
    assert first["kid"] != second["kid"]
    one, other = (settings_in(Path(name).absolute()) for name in ("1.env", "2.env"))
    assert one.platform_key != other.platform_key


def test_nothing_is_overwritten_not_even_through_a_link(cli: Cli) -> None:
    Path("memoturn.env").write_text("precious")
    done = cli("init", code=4)
    assert "exists already" in done.err
    assert Path("memoturn.env").read_text() == "precious"
    Path("link.env").symlink_to("elsewhere.env")
    cli("init", "--file", "link.env", code=4)
    assert not Path("elsewhere.env").exists()


def test_a_place_that_cannot_be_written_is_told(cli: Cli) -> None:
    done = cli("init", "--file", "no/such/place.env", code=5)
    assert "No such file or directory" in done.err


def test_config_tells_that_keys_are_set_and_not_what_they_are(cli: Cli, monkeypatch: object) -> None:
    cli("init")
    auth = settings_in(Path("memoturn.env").absolute())
    os.environ.update(
        {
            "MEMOTURN_AUTH": "on",
            "MEMOTURN_PLATFORM_KEY": auth.platform_key or "",
            "MEMOTURN_AUTH_KEY": "secret",
        }
    )
    try:
        done = cli("config", "--json")
    finally:
        for name in ("MEMOTURN_AUTH", "MEMOTURN_PLATFORM_KEY", "MEMOTURN_AUTH_KEY"):
            del os.environ[name]
    shown = {setting["name"]: setting["value"] for setting in done.json}
    assert shown["MEMOTURN_AUTH"] == "on"
    assert shown["MEMOTURN_PLATFORM_KEY"] == shown["MEMOTURN_AUTH_KEY"] == "(set)"
    assert shown["MEMOTURN_AUTH_OLD_KEYS"] is None
    assert (auth.platform_key or "") not in done.out
