"""What a server may start with, and what every refusal says to set."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from memoturn.base.errors import UnconfiguredError
from memoturn.base.settings import AuthSettings
from memoturn.faces.http.keys import new_platform_key, new_signing_key
from memoturn.faces.http.startup import browser_refusal, check, is_loopback

GOOD = AuthSettings("on", new_platform_key(), new_signing_key())
OFF = AuthSettings()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_without_authentication_it_starts_on_loopback_with_a_loud_warning(host: str) -> None:
    for auth in (OFF, AuthSettings("off"), replace(GOOD, auth="off")):
        keys, warnings = check(auth, host)
        assert keys is None
        assert warnings[0].startswith("AUTHENTICATION IS OFF")


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "", "192.168.0.1", "10.0.0.1", "example.com", "127.1", "0", "localhost.evil.example"],
)
def test_without_authentication_it_listens_nowhere_else(host: str) -> None:
    assert not is_loopback(host)
    for auth in (OFF, AuthSettings("off"), replace(GOOD, auth="off")):
        with pytest.raises(UnconfiguredError, match=r"MEMOTURN_AUTH=on .*MEMOTURN_LISTEN=127\.0\.0\.1:8080"):
            check(auth, host)


def test_with_authentication_it_starts_and_says_what_is_missing_in_front_of_it() -> None:
    keys, warnings = check(GOOD, "127.0.0.1")
    assert keys is not None
    assert warnings == []
    assert "TLS" in check(GOOD, "0.0.0.0").warnings[0]


def b64(text: bytes) -> str:
    return base64.b64encode(text).decode()


UNSAFE = {
    "no platform key": (replace(GOOD, platform_key=None), "needs MEMOTURN_PLATFORM_KEY"),
    "no signing key": (replace(GOOD, signing_key=None), "needs MEMOTURN_AUTH_KEY"),
    "no keys": (AuthSettings("on"), "memoturn init"),
    "short platform key": (replace(GOOD, platform_key="hunter2"), "32 random characters"),
    "monotonous platform key": (replace(GOOD, platform_key="a" * 64), "can be guessed"),
    "platform key with spaces": (
        replace(GOOD, platform_key="correct horse battery staple, said he"),
        "header",
    ),
    "platform key like a token": (
        replace(GOOD, platform_key="abcdefghijkl.mnopqrstuvwx.yz0123456789"),
        "token",
    ),
    "one key for both": (AuthSettings("on", GOOD.signing_key, GOOD.signing_key), "key of its own"),
    "an old key for both": (
        replace(GOOD, platform_key=(k := new_signing_key()), old_keys=k),
        "key of its own",
    ),
    "one of the old keys for both": (
        replace(GOOD, platform_key=(k := new_signing_key()), old_keys=f"{new_signing_key()}, {k}"),
        "key of its own",
    ),
    "not base64": (replace(GOOD, signing_key="~~~~ my key ~~~~"), "MEMOTURN_AUTH_KEY is not base64"),
    "not PKCS#8": (replace(GOOD, signing_key=b64(b"my key")), "MEMOTURN_AUTH_KEY is not .*PKCS#8"),
    "only a seed": (replace(GOOD, signing_key=b64(bytes(32))), "MEMOTURN_AUTH_KEY is not .*PKCS#8"),
    "bad old key": (replace(GOOD, old_keys=f"{new_signing_key()},x"), "MEMOTURN_AUTH_OLD_KEYS is not base64"),
    "keys and nobody said on": (replace(GOOD, auth=None), "set MEMOTURN_AUTH=on"),
    "platform key and nobody said on": (
        replace(GOOD, auth=None, signing_key=None),
        "MEMOTURN_PLATFORM_KEY would",
    ),
}


@pytest.mark.parametrize(("auth", "said"), UNSAFE.values(), ids=UNSAFE)
def test_an_unsafe_combination_is_refused_and_no_key_is_shown(auth: AuthSettings, said: str) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(UnconfiguredError, match=said) as refused:
            check(auth, host)
        for secret in (auth.platform_key, auth.signing_key, auth.old_keys):
            assert secret is None or secret not in str(refused.value)


def test_settings_never_show_a_key() -> None:
    assert str(GOOD.platform_key) not in repr(GOOD)
    assert str(GOOD.signing_key) not in repr(GOOD)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "localhost", "[::1]:8080", "[::1]"])
def test_programs_of_this_machine_are_answered(host: str) -> None:
    assert browser_refusal(host, None, None) is None
    assert browser_refusal(host, f"http://{host}", "same-origin") is None


@pytest.mark.parametrize(
    ("host", "origin", "site"),
    [
        ("evil.example", None, None),
        ("evil.example:8080", "http://evil.example:8080", "same-origin"),
        ("localhost.evil.example", None, None),
        ("127.0.0.1@evil.example", None, None),
        (None, None, None),
        ("", None, None),
        ("127.0.0.1:8080", "https://evil.example", "cross-site"),
        ("127.0.0.1:8080", "null", None),
        ("127.0.0.1:8080", "http://127.0.0.1.evil.example", None),
        ("127.0.0.1:8080", None, "cross-site"),
    ],
)
def test_pages_of_other_sites_are_not(host: str | None, origin: str | None, site: str | None) -> None:
    error = browser_refusal(host, origin, site)
    assert error is not None
    assert "MEMOTURN_AUTH=on" in str(error)
