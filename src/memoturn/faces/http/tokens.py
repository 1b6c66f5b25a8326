"""Tokens: who may do what for how long, signed, so that a server keeps nothing for them.

A token is a JWT signed with Ed25519. Only the keys of the installation verify, each for the one algorithm; the header
holds `alg`, `kid` and `typ` and nothing else, the claims are those of `Claims` and no other: what this release does
not know could be a restriction, so it is refused, never skipped. A token of a database carries which `life` of its
name it was minted for; whether that life goes on is asked with every request, for a deletion ends it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import jwt
import msgspec

from memoturn.base.cache import GenerationalCache
from memoturn.base.clock import Clock, format_time, time_of
from memoturn.base.errors import ForbiddenError, InvalidRequestError, UnauthorizedError
from memoturn.base.ids import Ids
from memoturn.base.results.tokens import Minted, Scope
from memoturn.base.txids import UnixMs
from memoturn.faces.http.keys import Keyring

ISSUER: Final = "memoturn"
AUDIENCE: Final = "memoturn"
ALGORITHM: Final = "EdDSA"
DEFAULT_SECS: Final = 86_400
LONGEST_SECS: Final = 366 * 86_400
SKEW_SECS: Final = 60
"""How far the clock of the node that minted a token may be ahead of the one that reads it."""
_LONGEST_TOKEN: Final = 4096
_REMEMBERED: Final = 8192

_NOT_OURS: Final = "the token is not one of this server's, or it was changed; mint one here"


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a token says; times in unix seconds."""

    iss: str
    aud: str
    iat: int
    exp: int
    jti: str
    scope: Scope
    db: str | None = None
    life: str | None = None
    ns: str | None = None


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: Literal["EdDSA"]
    kid: str
    typ: Literal["JWT"]


_claims: Final = msgspec.json.Decoder(Claims)
_jws: Final = jwt.PyJWS(algorithms=[ALGORITHM])


@dataclass(frozen=True, slots=True)
class Credential:
    """Whoever asks. With neither `db` nor `ns` it is the platform, which may do everything."""

    scope: Scope
    db: str | None = None
    life: str | None = None
    ns: str | None = None
    expires: int | None = None
    """In unix seconds."""
    caller: str = field(default="", compare=False)
    """What tells callers apart, and does not tell the key or the token."""

    @property
    def is_platform(self) -> bool:
        """Whether nothing is out of reach."""
        return self.db is None and self.ns is None


PLATFORM: Final = Credential("admin")


class Tokens:
    """Mints and verifies with the keys of one installation. Threads may share it."""

    def __init__(self, keys: Keyring, clock: Clock, ids: Ids) -> None:
        self._keys = keys
        self._clock = clock
        self._ids = ids
        self._platform_digest = hashlib.sha256(keys.platform_key.encode()).digest()
        self._platform = replace(PLATFORM, caller=self._platform_digest.hex())
        self._verified: GenerationalCache[bytes, tuple[Credential, int]] = GenerationalCache(_REMEMBERED)

    def verify(self, authorization: str | None) -> Credential:
        """Whom the `Authorization` header stands for. Raises `UnauthorizedError`, which never repeats the header."""
        if not authorization:
            raise UnauthorizedError("this server wants a token: send `Authorization: Bearer <token>`")
        kind, _, text = authorization.partition(" ")
        text = text.strip()
        if kind.lower() != "bearer" or not text:
            raise UnauthorizedError("the Authorization header is not `Bearer <token>`")
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        if hmac.compare_digest(digest, self._platform_digest):
            return self._platform
        # What was verified stays so until it expires. Kept by digest, so that no token lies in memory for long.
        verified = self._verified.get(digest)
        if verified is None:
            claims = self._read(text)
            who = Credential(claims.scope, claims.db, claims.life, claims.ns, claims.exp, digest.hex())
            verified = who, claims.iat
            self._verified.put(digest, verified)
        who, issued = verified
        self._check_times(issued, who.expires or 0)
        return who

    def _read(self, text: str) -> Claims:
        """The claims of a token whose signature is right, be it expired or not."""
        try:
            if len(text) > _LONGEST_TOKEN or not text.isascii():
                raise UnauthorizedError(_NOT_OURS)
            header = msgspec.convert(_jws.get_unverified_header(text), _Header)
            key = self._keys.verifying[header.kid]
            claims = _claims.decode(_jws.decode_complete(text, key, algorithms=[ALGORITHM])["payload"])
        except (jwt.PyJWTError, msgspec.MsgspecError, KeyError, ValueError):
            raise UnauthorizedError(_NOT_OURS) from None
        about_one = (claims.db is None) != (claims.ns is None) and (claims.db is None) == (
            claims.life is None
        )
        if not about_one or claims.iss != ISSUER or claims.aud != AUDIENCE:
            raise UnauthorizedError(_NOT_OURS)
        return claims

    def _check_times(self, issued: int, expires: int) -> None:
        now = self._clock.now_ms()
        if expires * 1000 <= now:
            raise UnauthorizedError(
                f"the token expired at {format_time(UnixMs(expires * 1000))}; mint a new one"
            )
        if issued * 1000 > now + SKEW_SECS * 1000:
            raise UnauthorizedError("the token is from the future; set the clocks of the servers right")

    def mint(
        self,
        by: Credential,
        scope: Scope,
        expires_in: int | None = None,
        *,
        db: str | None = None,
        life: str | None = None,
        ns: str | None = None,
    ) -> Minted:
        """A new token for a `life` of the database `db`, or for the namespace `ns`.

        None lives longer than the token that asks for it. Raises `InvalidRequestError` and `ForbiddenError`.
        """
        now = self._clock.now_ms() // 1000
        left = LONGEST_SECS if by.expires is None else by.expires - now
        if expires_in is None:
            expires_in = min(DEFAULT_SECS, left)
        if not 0 < expires_in <= LONGEST_SECS:
            raise InvalidRequestError(
                f"expires_in {expires_in} is not possible; give seconds, from 1 to {LONGEST_SECS}"
            )
        if expires_in > left:
            raise ForbiddenError(
                f"a token cannot outlive the one that it is minted with, which has {max(left, 0)} s left; "
                f"ask for less than the {expires_in} s, or use the platform key"
            )
        expires = now + expires_in
        jti = self._ids.ulid(self._clock.now_ms())
        claims = Claims(ISSUER, AUDIENCE, now, expires, jti, scope, db, life, ns)
        token = _jws.encode(
            msgspec.json.encode(claims),
            self._keys.signing,
            algorithm=ALGORITHM,
            headers={"kid": self._keys.kid},
        )
        return Minted(token, scope, time_of(UnixMs(expires * 1000)), db, ns)
