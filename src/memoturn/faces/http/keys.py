"""The secrets of an installation, and how they are written in settings: nothing here ever shows one.

A signing key is a base64 PKCS#8 Ed25519 key; for one that only verifies any more, its public half (base64 SPKI) does
as well. The `kid` of a key is its RFC 7638 thumbprint, so it names the key on every node without being configured.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from memoturn.base.ids import secret

_RAW: Final = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)


@dataclass(frozen=True, slots=True)
class Keyring:
    """What an installation with authentication signs and verifies with."""

    platform_key: str = field(repr=False)
    """May do everything."""
    signing: Ed25519PrivateKey = field(repr=False)
    kid: str
    """The key id of `signing`."""
    verifying: dict[str, Ed25519PublicKey] = field(repr=False)
    """By their key ids: that of `signing`, and those that have signed before."""


def keyring(platform_key: str, signing_key: str, old_keys: str | None = None) -> Keyring:
    """Read the settings; `old_keys` are parted by commas. Raises `ValueError`, which names the setting."""
    signing = _private(_read(signing_key, "MEMOTURN_AUTH_KEY"), "MEMOTURN_AUTH_KEY")
    current = signing.public_key()
    verifying = {kid_of(current): current}
    for text in (old_keys or "").split(","):
        if text.strip():
            key = _public(_read(text, "MEMOTURN_AUTH_OLD_KEYS"), "MEMOTURN_AUTH_OLD_KEYS")
            verifying[kid_of(key)] = key
    return Keyring(platform_key, signing, kid_of(current), verifying)


def kid_of(key: Ed25519PublicKey) -> str:
    """The thumbprint of a public key (RFC 7638, RFC 8037): 43 characters."""
    x = _unpadded(key.public_bytes(*_RAW))
    return _unpadded(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())


def new_signing_key() -> str:
    """A fresh signing key, as settings hold it."""
    der = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return base64.b64encode(der).decode()


def new_platform_key() -> str:
    """A fresh platform key: 256 random bits behind a prefix by which scanners for leaked secrets can know it."""
    return f"mtp_{secret()}"


def _read(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} is not base64") from None


def _private(der: bytes, name: str) -> Ed25519PrivateKey:
    try:
        key = serialization.load_der_private_key(der, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(f"{name} is not an unencrypted PKCS#8 key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{name} is a key of another kind than Ed25519")
    return key


def _public(der: bytes, name: str) -> Ed25519PublicKey:
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        return _private(der, name).public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{name} is a key of another kind than Ed25519")
    return key


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
