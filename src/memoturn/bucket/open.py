"""From a URL to a bucket. Only a remote store loads the library that speaks to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from memoturn.base.clock import Clock
from memoturn.base.errors import InvalidRequestError
from memoturn.base.ids import Ids
from memoturn.bucket.bucket import Bucket
from memoturn.bucket.file import FileBucket
from memoturn.bucket.memory import MemoryBucket
from memoturn.bucket.settings import BucketSettings

_REMOTE: Final = ("s3", "gs", "az")


def open_bucket(
    url: str,
    *,
    clock: Clock,
    ids: Ids,
    options: Mapping[str, str] | None = None,
    settings: BucketSettings | None = None,
) -> Bucket:
    """Open the bucket at `url`: `memory:`, `file:./data`, `file:///data`, `s3://…`, `gs://…`, `az://…`.

    A remote store is not spoken to yet. `options` are for remote stores: obstore's names and values (`endpoint`,
    `region`, `access_key_id`, …), and `allow_http`. Raises `InvalidRequestError` for a URL of another kind or an
    unknown option, `UnconfiguredError` for settings that cannot work, `UnavailableError` if a directory cannot
    be used.
    """
    scheme, colon, rest = url.partition(":")
    if colon and scheme == "memory":
        if rest.strip("/"):
            raise InvalidRequestError(f"{url!r}: objects in memory have no name; write memory:")
        return MemoryBucket(clock)
    if colon and scheme == "file":
        return FileBucket(directory_of(url), clock=clock, ids=ids)
    if colon and scheme in _REMOTE:
        from memoturn.bucket.remote import RemoteBucket, parse_remote

        bucket, prefix = parse_remote(url, rest)
        return RemoteBucket(
            scheme,
            bucket,
            prefix,
            clock=clock,
            ids=ids,
            options=options or {},
            settings=settings or BucketSettings(),
        )
    raise InvalidRequestError(
        f"{url!r} is no bucket; write memory:, file:./directory, file:///directory, "
        "s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
    )


def directory_of(url: str) -> str:
    """The directory that a `file:` URL names: `file:./data`, `file://./data`, `file:/data` or `file:///data`.

    Raises `InvalidRequestError` for one that names a host, or nothing.
    """
    path = url.partition(":")[2]
    if path.startswith("//.") and path[2:].split("/", 1)[0] in (".", ".."):
        path = path[2:]
    elif path.startswith("//"):
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise InvalidRequestError(
                f"{url!r} names a host; a directory has three slashes, such as file:///var/lib/memoturn, "
                "or none, such as file:./data"
            )
        path = parts.path
    path = unquote(path)
    if not path or "\0" in path:
        raise InvalidRequestError(f"{url!r} names no directory; write file:./data or file:///data")
    return path
