"""From the parts of a remote URL to obstore handles, and from obstore's errors to ours.

Endpoints and credentials are obstore's own settings: its documented variables (AWS_*, GOOGLE_*, AZURE_*), or the
same names as options, which go before them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError as ObstoreAlreadyExistsError,
)
from obstore.exceptions import (
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from memoturn.base.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    MemoturnError,
    UnavailableError,
    UnconfiguredError,
    UnsuitableStoreError,
)
from memoturn.bucket.bucket import ObjectNotFound, StaleVersionError
from memoturn.bucket.settings import BucketSettings

if TYPE_CHECKING:
    from obstore.store import RetryConfig

ObstoreErrors: Final = (BaseError, FileNotFoundError, ValueError, OSError)
"""What an obstore call may raise for reasons that lie outside this program."""

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_CREDENTIALS: Final = ("access_key_id", "secret_access_key", "skip_signature")
_MACHINE_IDENTITY: Final = (
    "/latest/api/token",
    "/latest/meta-data/",
    "/computeMetadata/",
    "/metadata/identity/",
)

Handle = S3Store | GCSStore | AzureStore


@dataclass(frozen=True, slots=True)
class Kind:
    """How one provider's stores are opened, and what tells their versions apart."""

    scheme: str
    store: Callable[..., Handle]
    to_set: str
    """What an operator sets to be let in."""
    versions_are_generations: bool = False
    """The store compares generation numbers, not ETags."""
    has_tails: bool = True
    """One request can ask for the last bytes."""


KINDS: Final = {
    kind.scheme: kind
    for kind in (
        Kind(
            "s3",
            S3Store,
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_REGION, and AWS_ENDPOINT_URL for a store that is "
            "not Amazon's",
        ),
        Kind(
            "gs",
            GCSStore,
            "GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT",
            versions_are_generations=True,
        ),
        Kind(
            "az",
            AzureStore,
            "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY or another credential",
            has_tails=False,
        ),
    )
}


class Handles(NamedTuple):
    """Two ways to one bucket."""

    retrying: Handle
    """For what may be done twice: reads, listings, deletes, and writes of immutable objects."""
    single: Handle
    """For conditional writes: one request, whatever becomes of it."""


def connect(
    kind: Kind, url: str, bucket: str, prefix: str, options: Mapping[str, str], settings: BucketSettings
) -> Handles:
    """Open a bucket without a request. Raises `InvalidRequestError` for an option that obstore does not know.

    Plain http is for loopback endpoints, unless the option `allow_http` (or AWS_ALLOW_HTTP and the like) is true.
    """
    config = dict(options)
    allow_http = config.pop("allow_http", "").lower() == "true"
    retry: RetryConfig = {
        "max_retries": 100,
        "retry_timeout": timedelta(seconds=settings.retry_s),
        "backoff": {
            "init_backoff": timedelta(seconds=settings.first_pause_s),
            "max_backoff": timedelta(seconds=settings.longest_pause_s),
        },
    }
    try:
        extra: dict[str, Any] = {}
        if allow_http or _is_loopback(_endpoint(kind, bucket, config)):
            # Only then: options of the client take the place of those that obstore reads from variables.
            extra["client_options"] = {"allow_http": True}
        place = {"prefix": prefix or None, "config": config, **extra}
        return Handles(
            kind.store(bucket, retry_config=retry, **place),
            kind.store(bucket, retry_config={"max_retries": 0}, **place),
        )
    except UnknownConfigurationKeyError as error:
        raise InvalidRequestError(f"{url}: {_first_line(error)}") from error
    except ObstoreErrors as error:
        raise UnconfiguredError(f"{url}: {_first_line(error)}; set {kind.to_set}") from error


def translate(error: Exception, kind: Kind, url: str) -> MemoturnError:
    """Our error for what obstore raised, saying which store and, where it is a matter of settings, what to set."""
    if isinstance(error, FileNotFoundError):
        return ObjectNotFound(f"{url} has no such object")
    if isinstance(error, ObstoreAlreadyExistsError):
        return AlreadyExistsError(f"{url} has that object already")
    if isinstance(error, PreconditionError):
        return StaleVersionError(f"{url} has another version of that object")
    if isinstance(error, NotSupportedError):
        return UnsuitableStoreError(f"{url} lacks an operation that Memoturn needs: {_first_line(error)}")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return UnconfiguredError(f"{url} refused the credentials; set {kind.to_set}: {_first_line(error)}")

    line = _first_line(error)
    if "builder error" in line and "http://" in line:
        return UnconfiguredError(
            f"{url} has an endpoint without TLS that is not on this machine; use https, or pass the option "
            f"allow_http=true: {line}"
        )
    if any(path in line for path in _MACHINE_IDENTITY):
        # Where obstore goes for credentials once it has found none anywhere else.
        return UnconfiguredError(f"{url}: no credentials were found; set {kind.to_set}")
    return UnavailableError(f"{url} did not answer as it should; try again, or check {kind.to_set}: {line}")


def _endpoint(kind: Kind, bucket: str, config: Mapping[str, str]) -> str:
    """The URL that requests will go to, as far as it can be known without one."""
    if kind.scheme != "s3":
        return next((v for name, v in config.items() if name.lower().endswith(("endpoint", "base_url"))), "")
    # Signing happens offline and spells the URL, with what obstore found in its variables. Any keys will do.
    place = {name: value for name, value in config.items() if not name.lower().endswith(_CREDENTIALS)}
    place |= {"access_key_id": "x", "secret_access_key": "x", "skip_signature": "false"}
    return obstore.sign(kind.store(bucket, config=place), "GET", "x", timedelta(seconds=1))


def _is_loopback(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    return parts.scheme == "http" and parts.hostname in _LOOPBACK


def _first_line(error: Exception) -> str:
    """The message without its debugging tail, and without query strings, which may carry signatures."""
    return re.sub(r"\?\S*", "", str(error).partition("\n")[0])[:300]
