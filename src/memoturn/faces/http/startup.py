"""What a server may start with: unsafe combinations of settings are refused, with a message that says what to set.

Without authentication only this machine may ask, and of it only programs, not the pages in somebody's browser.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

from memoturn.base.errors import ForbiddenError, MemoturnError, UnconfiguredError
from memoturn.base.settings import AuthSettings
from memoturn.faces.http.keys import Keyring, keyring

SHORTEST_PLATFORM_KEY: Final = 32
_ENOUGH_CHARACTERS: Final = 10
_INIT: Final = "`memoturn init` makes keys and writes them to a file"


class Start(NamedTuple):
    """What a server starts with: its keys, None without authentication, and what has to be said aloud."""

    keys: Keyring | None
    warnings: list[str]


def check(auth: AuthSettings, host: str) -> Start:
    """Decide whether a server may listen at `host` with these settings. Raises `UnconfiguredError`."""
    local = is_loopback(host)
    if auth.auth == "on":
        keys = _keys(auth)
        open_to_all = [] if local else [_NO_TLS.format(host=host)]
        return Start(keys, open_to_all)
    given = [
        name
        for name, value in (
            ("MEMOTURN_PLATFORM_KEY", auth.platform_key),
            ("MEMOTURN_AUTH_KEY", auth.signing_key),
            ("MEMOTURN_AUTH_OLD_KEYS", auth.old_keys),
        )
        if value
    ]
    if given and auth.auth is None:
        raise UnconfiguredError(
            f"{' and '.join(given)} would have no effect, because authentication is off; set MEMOTURN_AUTH=on, or "
            "MEMOTURN_AUTH=off if everybody on this machine may do everything"
        )
    if not local:
        raise UnconfiguredError(
            f"without authentication the server listens on this machine only, and {host or 'every interface'} is "
            "more than that; set MEMOTURN_AUTH=on with MEMOTURN_PLATFORM_KEY and MEMOTURN_AUTH_KEY "
            f"({_INIT}), or MEMOTURN_LISTEN=127.0.0.1:8080"
        )
    return Start(None, [_NO_AUTH])


_NO_AUTH: Final = (
    "AUTHENTICATION IS OFF: every program on this machine may read, change and delete everything. "
    f"To change that set MEMOTURN_AUTH=on; {_INIT}."
)
_NO_TLS: Final = (
    "{host} is reached from other machines, and this server speaks plain HTTP: "
    "put a proxy that speaks TLS in front of it, or tokens can be read on the way."
)


def _keys(auth: AuthSettings) -> Keyring:
    if not auth.platform_key:
        raise UnconfiguredError(f"MEMOTURN_AUTH=on needs MEMOTURN_PLATFORM_KEY; {_INIT}")
    if not auth.signing_key:
        raise UnconfiguredError(
            f"MEMOTURN_AUTH=on needs MEMOTURN_AUTH_KEY, base64 of a PKCS#8 Ed25519 key; {_INIT}"
        )
    if len(auth.platform_key) < SHORTEST_PLATFORM_KEY or len(set(auth.platform_key)) < _ENOUGH_CHARACTERS:
        raise UnconfiguredError(
            f"MEMOTURN_PLATFORM_KEY can be guessed; set {SHORTEST_PLATFORM_KEY} random characters or more; {_INIT}"
        )
    if re.fullmatch(r"[\x21-\x7e]+", auth.platform_key) is None:
        raise UnconfiguredError(
            f"MEMOTURN_PLATFORM_KEY has characters that no header can carry; use letters and digits; {_INIT}"
        )
    if auth.platform_key.count(".") == 2:
        raise UnconfiguredError(f"MEMOTURN_PLATFORM_KEY looks like a token; set a key of its own; {_INIT}")
    if auth.platform_key in (auth.signing_key, *map(str.strip, (auth.old_keys or "").split(","))):
        raise UnconfiguredError(
            f"MEMOTURN_PLATFORM_KEY is a signing key as well; set a key of its own; {_INIT}"
        )
    try:
        return keyring(auth.platform_key, auth.signing_key, auth.old_keys)
    except ValueError as error:
        raise UnconfiguredError(f"{error}; set base64 of a PKCS#8 Ed25519 key; {_INIT}") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens at `host`. What is unclear is not."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def browser_refusal(host: str | None, origin: str | None, site: str | None) -> MemoturnError | None:
    """Why a server without authentication refuses a request, by its headers Host, Origin and Sec-Fetch-Site.

    Any page that somebody opens can send requests to their machine, and one whose name points to 127.0.0.1 reads
    the answers as well.
    """
    name = _host_of(host or "")
    if name is None or not is_loopback(name):
        return ForbiddenError(
            "without authentication this server answers to localhost and loopback addresses only, whatever name "
            "points to them; set MEMOTURN_AUTH=on to use another one"
        )
    foreign_origin = origin is not None and (
        (where := _host_of(origin.partition("://")[2])) is None or not is_loopback(where)
    )
    if foreign_origin or site == "cross-site":
        return ForbiddenError(
            "without authentication this server takes no requests from pages of other sites; set MEMOTURN_AUTH=on"
        )
    return None


_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/@]+)(?::\d{1,5})?").fullmatch


def _host_of(text: str) -> str | None:
    found = _HOST(text)
    return None if found is None else found[1]
