"""Tokens: what is minted verifies, and nothing else does, whoever has made it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from memoturn.base.errors import ForbiddenError, InvalidRequestError, UnauthorizedError
from memoturn.base.ids import Ids
from memoturn.faces.http.keys import Keyring, keyring, kid_of, new_platform_key, new_signing_key
from memoturn.faces.http.tokens import LONGEST_SECS, PLATFORM, Credential, Tokens
from tests.support import START_MS, ManualClock

NOW = START_MS // 1000


def encoded(data: bytes | dict[str, Any]) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def raw_public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


@pytest.fixture(scope="module")
def keys() -> Keyring:
    return keyring(new_platform_key(), new_signing_key())


@pytest.fixture
def tokens(keys: Keyring, clock: ManualClock) -> Tokens:
    return Tokens(keys, clock, Ids())


def good_header(keys: Keyring) -> dict[str, Any]:
    return {"alg": "EdDSA", "kid": keys.kid, "typ": "JWT"}


def good_claims() -> dict[str, Any]:
    return {
        "iss": "memoturn", "aud": "memoturn", "iat": NOW, "exp": NOW + 60, "jti": "1",
        "scope": "read", "db": "x", "life": "d_1.0",
    }  # fmt: skip


def signed(keys: Keyring, header: dict[str, Any], claims: dict[str, Any] | bytes) -> str:
    """A token as somebody makes it who has the signing key."""
    signing_input = f"{encoded(header)}.{encoded(claims)}"
    return f"{signing_input}.{encoded(keys.signing.sign(signing_input.encode()))}"


def test_what_is_minted_verifies_as_what_it_was_minted_for(tokens: Tokens) -> None:
    minted = tokens.mint(PLATFORM, "write", 60, db="x", life="d_1.0")
    assert tokens.verify(f"Bearer {minted.token}") == Credential("write", "x", "d_1.0", None, NOW + 60)
    minted = tokens.mint(PLATFORM, "admin", 60, ns="acme")
    assert tokens.verify(f"bearer {minted.token}") == Credential("admin", None, None, "acme", NOW + 60)
    assert minted.expires_at.timestamp() == NOW + 60


def test_no_two_tokens_are_the_same(tokens: Tokens) -> None:
    assert len({tokens.mint(PLATFORM, "read", db="x", life="1").token for _ in range(50)}) == 50


def test_the_platform_key_is_a_credential_and_nothing_like_it_is(tokens: Tokens, keys: Keyring) -> None:
    assert tokens.verify(f"Bearer {keys.platform_key}") == PLATFORM
    for almost in (keys.platform_key[:-1], keys.platform_key + "x", keys.platform_key.swapcase(), "mtp_"):
        with pytest.raises(UnauthorizedError):
            tokens.verify(f"Bearer {almost}")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic eDp5", "Bearer a b", "x" * 100_000])
def test_what_is_no_credential_is_refused(tokens: Tokens, header: str | None) -> None:
    with pytest.raises(UnauthorizedError):
        tokens.verify(header)


def test_a_good_token_made_by_hand_is_taken_so_that_the_bad_ones_below_mean_something(
    tokens: Tokens, keys: Keyring
) -> None:
    assert tokens.verify(f"Bearer {signed(keys, good_header(keys), good_claims())}").db == "x"


def none_of_it(keys: Keyring, _: str) -> str:
    return f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{encoded(good_claims())}."


def none_with_our_kid(keys: Keyring, _: str) -> str:
    return f"{encoded(good_header(keys) | {'alg': 'none'})}.{encoded(good_claims())}."


def hs256_with_the_public_key(keys: Keyring, _: str) -> str:
    public = keys.signing.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signing_input = f"{encoded(good_header(keys) | {'alg': 'HS256'})}.{encoded(good_claims())}"
    return f"{signing_input}.{encoded(hmac.digest(pem, signing_input.encode(), 'sha256'))}"


def hs256_with_the_raw_public_key(keys: Keyring, _: str) -> str:
    signing_input = f"{encoded(good_header(keys) | {'alg': 'HS256'})}.{encoded(good_claims())}"
    secret = raw_public(keys.signing)
    return f"{signing_input}.{encoded(hmac.digest(secret, signing_input.encode(), 'sha256'))}"


def ours_but_called_hs256(keys: Keyring, _: str) -> str:
    return signed(keys, good_header(keys) | {"alg": "HS256"}, good_claims())


def another_key_under_our_kid(keys: Keyring, _: str) -> str:
    signing_input = f"{encoded(good_header(keys))}.{encoded(good_claims())}"
    return f"{signing_input}.{encoded(Ed25519PrivateKey.generate().sign(signing_input.encode()))}"


def another_key_under_its_own_kid(keys: Keyring, _: str) -> str:
    other = Ed25519PrivateKey.generate()
    header = good_header(keys) | {"kid": kid_of(other.public_key())}
    signing_input = f"{encoded(header)}.{encoded(good_claims())}"
    return f"{signing_input}.{encoded(other.sign(signing_input.encode()))}"


def another_key_that_it_brings_along(keys: Keyring, _: str) -> str:
    other = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded(raw_public(other))}
    signing_input = f"{encoded(good_header(keys) | {'jwk': jwk})}.{encoded(good_claims())}"
    return f"{signing_input}.{encoded(other.sign(signing_input.encode()))}"


def in_header(**fields: Any) -> Callable[[Keyring, str], str]:
    """Signed by us, with another header; None leaves a field out."""

    def forge(keys: Keyring, _: str) -> str:
        header = {k: v for k, v in (good_header(keys) | fields).items() if v is not None}
        return signed(keys, header, good_claims())

    return forge


def in_claims(**fields: Any) -> Callable[[Keyring, str], str]:
    """Signed by us, with other claims; None leaves a claim out."""

    def forge(keys: Keyring, _: str) -> str:
        return signed(
            keys, good_header(keys), {k: v for k, v in (good_claims() | fields).items() if v is not None}
        )

    return forge


FORGERIES: dict[str, Callable[[Keyring, str], str]] = {
    "none": none_of_it,
    "none with our kid": none_with_our_kid,
    "HS256 with the public key": hs256_with_the_public_key,
    "HS256 with the raw public key": hs256_with_the_raw_public_key,
    "EdDSA called HS256": ours_but_called_hs256,
    "another key, our kid": another_key_under_our_kid,
    "another key, its kid": another_key_under_its_own_kid,
    "another key, brought along": another_key_that_it_brings_along,
    "no kid": in_header(kid=None),
    "wrong kid": in_header(kid="x"),
    "kid is a number": in_header(kid=1),
    "kid is a path": in_header(kid="../../dev/null"),
    "no typ": in_header(typ=None),
    "alg in small letters": in_header(alg="eddsa"),
    "crit": in_header(crit=["exp"]),
    "crit is empty": in_header(crit=[]),
    "b64": in_header(b64=False, crit=["b64"]),
    "jku": in_header(jku="https://example.com/keys"),
    "wrong iss": in_claims(iss="somebody"),
    "wrong aud": in_claims(aud="somebody"),
    "aud is a list": in_claims(aud=["memoturn", "somebody"]),
    "expired": in_claims(exp=NOW),
    "from the future": in_claims(iat=NOW + 61, exp=NOW + 120),
    "exp is text": in_claims(exp=str(NOW + 60)),
    "exp is a float": in_claims(exp=NOW + 60.5),
    "unknown scope": in_claims(scope="root"),
    "scope is a list": in_claims(scope=["read", "admin"]),
    "database and namespace": in_claims(ns="acme"),
    "neither": in_claims(db=None, life=None),
    "database without its life": in_claims(life=None),
    "namespace with a life": in_claims(db=None, ns="acme"),
    "a claim that we do not know": in_claims(branch="main"),
    **{f"no {name}": in_claims(**{name: None}) for name in ("iss", "aud", "iat", "exp", "jti", "scope")},
    "changed claims": lambda keys, good: ".".join(
        [good.split(".")[0], encoded(good_claims() | {"scope": "admin"}), good.split(".")[2]]
    ),
    "cut signature": lambda keys, good: good[:-4],
    "no signature": lambda keys, good: good.rpartition(".")[0] + ".",
    "two parts": lambda keys, good: good.rpartition(".")[0],
    "four parts": lambda keys, good: good + "." + good.split(".")[2],
    "claims are a list": lambda keys, good: signed(keys, good_header(keys), b"[]"),
    "claims are no JSON": lambda keys, good: signed(keys, good_header(keys), b"\xff"),
    "not base64": lambda keys, good: good.replace("e", "!", 1),
    "not ASCII": lambda keys, good: good + "é",
    "too long": in_claims(jti="x" * 5000),
    "header nested deep": lambda keys, good: f"{encoded(b'[' * 2900)}.e30.e30",
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_token_is_refused_without_being_repeated(
    tokens: Tokens, keys: Keyring, forge: Callable[[Keyring, str], str]
) -> None:
    good = tokens.mint(PLATFORM, "read", 60, db="x", life="d_1.0").token
    token = forge(keys, good)
    for _ in range(2):
        with pytest.raises(UnauthorizedError) as refused:
            tokens.verify(f"Bearer {token}")
        assert token[:20] not in str(refused.value)
    assert tokens.verify(f"Bearer {good}").db == "x"


def test_the_platform_key_is_compared_in_constant_time_whatever_comes(
    tokens: Tokens, keys: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def spy(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    token = tokens.mint(PLATFORM, "read", 60, db="x", life="1").token
    for text in (keys.platform_key, keys.platform_key[:-1], "x", token):
        with contextlib.suppress(UnauthorizedError):
            tokens.verify(f"Bearer {text}")
    assert compared == [(32, 32)] * 4


def test_a_token_that_was_verified_expires_all_the_same(tokens: Tokens, clock: ManualClock) -> None:
    token = tokens.mint(PLATFORM, "read", 60, db="x", life="1").token
    clock.advance(59.9)
    tokens.verify(f"Bearer {token}")
    clock.advance(0.1)
    with pytest.raises(UnauthorizedError, match="expired at 2027-01-15T08:01:00"):
        tokens.verify(f"Bearer {token}")


def test_the_clock_of_the_node_that_minted_may_be_a_minute_ahead(
    tokens: Tokens, keys: Keyring, clock: ManualClock
) -> None:
    clock.advance(60)
    token = tokens.mint(PLATFORM, "read", 600, db="x", life="1").token
    tokens.verify(f"Bearer {token}")
    behind = Tokens(keys, ManualClock(START_MS), Ids())
    behind.verify(f"Bearer {token}")
    with pytest.raises(UnauthorizedError):
        Tokens(keys, ManualClock(START_MS - 1000), Ids()).verify(f"Bearer {token}")


def test_tokens_of_a_former_key_are_taken_while_it_is_listed(clock: ManualClock) -> None:
    platform, first, second, third = (
        new_platform_key(),
        new_signing_key(),
        new_signing_key(),
        new_signing_key(),
    )
    old = Tokens(keyring(platform, first), clock, Ids()).mint(PLATFORM, "read", 60, db="x", life="1").token
    private = serialization.load_der_private_key(base64.b64decode(first), None)
    public = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for listed in (first, f"{third}, {first}", base64.b64encode(public).decode()):
        rotated = Tokens(keyring(platform, second, listed), clock, Ids())
        assert rotated.verify(f"Bearer {old}").db == "x"
        new = rotated.mint(PLATFORM, "read", 60, db="x", life="1").token
        with pytest.raises(UnauthorizedError):
            Tokens(keyring(platform, first), clock, Ids()).verify(f"Bearer {new}")
    with pytest.raises(UnauthorizedError):
        Tokens(keyring(platform, second), clock, Ids()).verify(f"Bearer {old}")


@pytest.mark.parametrize("seconds", [0, -1, LONGEST_SECS + 1])
def test_a_token_lives_for_a_second_to_a_year(tokens: Tokens, seconds: int) -> None:
    with pytest.raises(InvalidRequestError, match="expires_in"):
        tokens.mint(PLATFORM, "read", seconds, db="x", life="1")


def test_no_token_outlives_the_one_that_it_was_minted_with(tokens: Tokens, clock: ManualClock) -> None:
    parent = tokens.verify(f"Bearer {tokens.mint(PLATFORM, 'admin', 600, ns='acme').token}")
    clock.advance(100)
    assert tokens.mint(parent, "admin", ns="acme").expires_at.timestamp() == NOW + 600
    assert tokens.mint(parent, "admin", 500, ns="acme").expires_at.timestamp() == NOW + 600
    with pytest.raises(ForbiddenError, match="500 s left"):
        tokens.mint(parent, "admin", 501, ns="acme")


@pytest.mark.parametrize(
    "key",
    [
        ed448.Ed448PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["Ed448", "P-256", "RSA"],
)
def test_keys_of_other_kinds_are_refused(key: Any) -> None:
    der = base64.b64encode(
        key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    ).decode()
    with pytest.raises(ValueError, match="MEMOTURN_AUTH_KEY is a key of another kind than Ed25519"):
        keyring("p", der)
    with pytest.raises(ValueError, match="MEMOTURN_AUTH_OLD_KEYS is a key of another kind than Ed25519"):
        keyring("p", new_signing_key(), der)


def test_the_kid_is_the_thumbprint_that_the_rfc_computes() -> None:
    # RFC 8037, appendix A.1 to A.3.
    seed = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    assert kid_of(Ed25519PrivateKey.from_private_bytes(seed).public_key()) == (
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    )


def test_secrets_are_in_no_representation(tokens: Tokens, keys: Keyring) -> None:
    minted = tokens.mint(PLATFORM, "read", 60, db="x", life="1")
    shown = f"{keys!r} {tokens!r} {minted!r} {minted}"
    assert keys.platform_key not in shown
    assert minted.token not in shown
    assert msgspec.json.decode(msgspec.json.encode(minted))["token"] == minted.token


def test_what_is_remembered_of_a_token_is_its_digest(tokens: Tokens) -> None:
    token = tokens.mint(PLATFORM, "read", 60, db="x", life="1").token
    tokens.verify(f"Bearer {token}")
    assert list(tokens._verified._young) == [hashlib.sha256(token.encode()).digest()]
