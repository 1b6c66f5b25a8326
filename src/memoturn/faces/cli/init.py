"""`memoturn init`: the keys of a new installation, in a file that only its owner can read."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from memoturn.base.errors import AlreadyExistsError, UnavailableError
from memoturn.faces.cli.session import Session

_FILE = """\
# The keys of a Memoturn installation. Whoever reads this file may do everything:
# keep it out of images and repositories.
MEMOTURN_AUTH=on
# Mints tokens, and may do all else. Send it as `Authorization: Bearer …`, from administration only.
MEMOTURN_PLATFORM_KEY={platform}
# Signs the tokens. Base64 of a PKCS#8 Ed25519 key; every node of the installation has the same.
MEMOTURN_AUTH_KEY={signing}
# Keys that have signed before, parted by commas: their tokens are taken until they expire.
# MEMOTURN_AUTH_OLD_KEYS=
"""


class Initialized(Struct, frozen=True):
    """Where the keys are, and which one signs."""

    file: str
    kid: str


def init(
    session: Session,
    file: Annotated[
        str, typer.Option("--file", metavar="FILE", help="The file to write; it must not exist yet.")
    ] = "memoturn.env",
) -> None:
    """Make the keys of a new installation: MEMOTURN_PLATFORM_KEY and MEMOTURN_AUTH_KEY, in a file of settings."""
    from memoturn.faces.http.keys import keyring, new_platform_key, new_signing_key

    platform, signing = new_platform_key(), new_signing_key()
    path = Path(file).absolute()
    _write(path, _FILE.format(platform=platform, signing=signing))
    done = Initialized(str(path), keyring(platform, signing).kid)
    session.say(
        done,
        f"wrote a platform key and a signing key to {path}; only you can read it",
        "start the server with them:",
        f"    set -a; . {shlex.quote(str(path))}; set +a; memoturn serve",
        "then, in another shell with the same settings, make the first database and a token for it:",
        "    memoturn db create agent-42 --url http://127.0.0.1:8080",
        "    memoturn token create agent-42 --scope write --url http://127.0.0.1:8080",
    )


def _write(path: Path, text: str) -> None:
    """Write a file that nobody else can read at any moment, and that was not there before."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise AlreadyExistsError(
            f"{path} exists already, and the keys in it may be in use; name another file with --file"
        ) from None
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "w") as out:
        os.fchmod(out.fileno(), 0o600)
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
