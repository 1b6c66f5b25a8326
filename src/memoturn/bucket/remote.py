"""Objects in S3, Google Cloud Storage or Azure. Conditional writes go out once and are decided by read-back."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import obstore
from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from memoturn.base.clock import Clock, ms_of
from memoturn.base.errors import InvalidRequestError, MemoturnError, UnconfiguredError, UnsuitableStoreError
from memoturn.base.ids import Ids
from memoturn.bucket.bucket import (
    Bucket,
    LandedCheck,
    ObjectInfo,
    Pieces,
    Tails,
    Version,
    check_key,
    check_range,
)
from memoturn.bucket.conditional import ConditionalWriter
from memoturn.bucket.connect import KINDS, Handle, ObstoreErrors, connect, translate
from memoturn.bucket.settings import BucketSettings

if TYPE_CHECKING:
    from obstore import PutMode

PART_BYTES: Final = 8 << 20
"""Size of the parts of a large upload; what is smaller goes in one request."""

_PARTS_AT_ONCE: Final = 4
_TAILS_AT_ONCE: Final = 16
_COALESCE_BYTES: Final = 256 << 10
_LIST_PAGE: Final = 1000
_DELETED_AT_ONCE: Final = 1000


class RemoteBucket(Bucket):
    """A bucket at a provider. Open it after forking: its connections belong to one process."""

    is_local = False

    def __init__(
        self,
        scheme: str,
        bucket: str,
        prefix: str,
        *,
        clock: Clock,
        ids: Ids,
        options: Mapping[str, str],
        settings: BucketSettings,
    ) -> None:
        """Open `bucket`, below `prefix`, with one of the schemes in `KINDS`. Sends nothing yet."""
        self.url = f"{scheme}://{bucket}/{prefix}".rstrip("/")
        self._kind = KINDS[scheme]
        self._handles = connect(self._kind, self.url, bucket, prefix, options, settings)
        self._at_once: ThreadPoolExecutor | None = None
        self._writer = ConditionalWriter(self, clock=clock, ids=ids, settings=settings)

    def get(self, key: str) -> tuple[bytes, Version]:
        check_key(key)
        try:
            found = obstore.get(self._handles.retrying, key)
            return found.bytes().to_bytes(), self._version(found.meta)
        except ObstoreErrors as error:
            raise self._translated(error) from error

    def get_range(self, key: str, start: int, length: int) -> bytes:
        check_range(start, length)
        if length == 0:
            return self.get_ranges(key, [(start, 0)])[0]
        check_key(key)
        try:
            return obstore.get_range(self._handles.retrying, key, start=start, length=length).to_bytes()
        except ObstoreErrors as error:
            size = self._size_or_raise(key, error)
            if start < size:
                raise self._translated(error) from error
            return b""

    def get_tail(self, key: str, length: int) -> tuple[bytes, int]:
        check_range(0, length)
        check_key(key)
        if length == 0 or not self._kind.has_tails:
            size = self._size(key)
            start = max(0, size - length)
            return (self.get_range(key, start, size - start) if start < size else b""), size
        try:
            found = obstore.get(self._handles.retrying, key, options={"range": {"suffix": length}})
            return found.bytes().to_bytes(), found.meta["size"]
        except ObstoreErrors as error:
            if self._size_or_raise(key, error) > 0:
                raise self._translated(error) from error
            return b"", 0

    def get_tails(self, wanted: Sequence[tuple[str, int]]) -> Tails:
        if len(wanted) < 2:
            return super().get_tails(wanted)
        if self._at_once is None:
            self._at_once = ThreadPoolExecutor(_TAILS_AT_ONCE, "memoturn-tails")
        return list(self._at_once.map(lambda each: self.get_tail(*each), wanted))

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Pieces:
        for start, length in ranges:
            check_range(start, length)
        check_key(key)
        try:
            if all(length > 0 for _, length in ranges):
                return self._get_ranges(key, ranges)
            size = self._size(key)
        except ObstoreErrors as error:
            size = self._size_or_raise(key, error)
            if all(start + length <= size for start, length in ranges):
                raise self._translated(error) from error
        # The provider refuses a range that is empty or begins behind the end, and all others with it.
        clipped = [(start, min(length, size - start)) for start, length in ranges]
        wanted = iter(self._get_ranges(key, [each for each in clipped if each[1] > 0]))
        return [next(wanted) if length > 0 else b"" for _, length in clipped]

    def list(self, prefix: str, after: str | None = None) -> Iterator[ObjectInfo]:
        directory, slash, _ = prefix.rpartition("/")
        if slash:
            check_key(directory)
        return self._list(directory + slash, prefix, after)

    def put(self, key: str, data: bytes | Iterable[bytes]) -> None:
        check_key(key)
        body: bytes | Iterator[bytes] = data if isinstance(data, bytes) else _joined_if_small(data)
        source = body if isinstance(body, bytes) else _Source(body)
        try:
            obstore.put(
                self._handles.retrying, key, source, chunk_size=PART_BYTES, max_concurrency=_PARTS_AT_ONCE
            )
        except ObstoreErrors as error:
            if isinstance(source, _Source) and source.error is not None:
                raise source.error from None
            raise self._missing_bucket_or(error) from error

    def create(self, key: str, body: bytes, landed: LandedCheck | None = None) -> Version:
        check_key(key)
        return self._writer.create(key, body, landed)

    def replace(self, key: str, body: bytes, version: Version, landed: LandedCheck | None = None) -> Version:
        check_key(key)
        return self._writer.replace(key, body, version, landed)

    def delete(self, key: str) -> None:
        self._delete(self._handles.retrying, key)

    def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_key(key)
        for first in range(0, len(keys), _DELETED_AT_ONCE):
            some = list(keys[first : first + _DELETED_AT_ONCE])
            try:
                obstore.delete(self._handles.retrying, some)
            except FileNotFoundError:
                # Where they are removed one by one, one that is not there ends it.
                for key in some:
                    self.delete(key)
            except ObstoreErrors as error:
                raise self._translated(error) from error

    def delete_once(self, key: str) -> None:
        self._delete(self._handles.single, key)

    def _delete(self, handle: Handle, key: str) -> None:
        check_key(key)
        try:
            obstore.delete(handle, key)
        except FileNotFoundError:
            return
        except ObstoreErrors as error:
            raise self._translated(error) from error

    def close(self) -> None:
        """Connections are obstore's, and end with the last reference to it."""
        if self._at_once is not None:
            self._at_once.shutdown()

    def attempt(self, key: str, body: bytes, expected: Version | None) -> Version:
        """One conditional write, sent once; see `ConditionalStore.attempt`."""
        condition: PutMode = "create" if expected is None else _condition(expected)
        try:
            return self._version(
                obstore.put(self._handles.single, key, body, mode=condition, use_multipart=False)
            )
        except ObstoreErrors as error:
            if expected is None:
                raise self._missing_bucket_or(error) from error
            raise self._translated(error) from error

    def _version(self, meta: Any) -> Version:
        # Only what the store compares: the other half may be given by one operation and not by another.
        if self._kind.versions_are_generations:
            return Version(None, meta["version"])
        return Version(meta["e_tag"], None)

    def _get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Pieces:
        if not ranges:
            return []
        starts, lengths = zip(*ranges, strict=True)
        found = obstore.get_ranges(
            self._handles.retrying, key, starts=starts, lengths=lengths, coalesce=_COALESCE_BYTES
        )
        return [piece.to_bytes() for piece in found]

    def _list(self, directory: str, prefix: str, after: str | None) -> Iterator[ObjectInfo]:
        # Providers' prefixes reach us as whole directories; the rest of ours is a matter of where to begin and end.
        offset = max(after or "", prefix[:-1] if prefix != directory else "") or None
        last = ""
        try:
            pages = obstore.list(
                self._handles.retrying, directory or None, offset=offset, chunk_size=_LIST_PAGE
            )
            for meta in itertools.chain.from_iterable(pages):
                key = meta["path"]
                if key <= last:
                    raise UnsuitableStoreError(f"{self.url} does not list its objects in order")
                last = key
                if key.startswith(prefix):
                    yield ObjectInfo(key, meta["size"], ms_of(meta["last_modified"]))
                elif key > prefix:
                    return
        except ObstoreErrors as error:
            # A listing that finds nothing is empty, so what was not found is the bucket; obstore has no type for it.
            missing = isinstance(error, FileNotFoundError) or "status code: 404" in str(error)
            raise (self._no_bucket() if missing else self._translated(error)) from error

    def _size(self, key: str) -> int:
        try:
            return obstore.head(self._handles.retrying, key)["size"]
        except ObstoreErrors as error:
            raise self._translated(error) from error

    def _size_or_raise(self, key: str, error: Exception) -> int:
        """The object's size, when a range was refused and it may be because of it."""
        if isinstance(error, FileNotFoundError | PermissionDeniedError | UnauthenticatedError):
            raise self._translated(error) from error
        return self._size(key)

    def _missing_bucket_or(self, error: Exception) -> MemoturnError:
        """A write cannot miss its object, so what it did not find is the bucket."""
        return self._no_bucket() if isinstance(error, FileNotFoundError) else self._translated(error)

    def _no_bucket(self) -> UnconfiguredError:
        return UnconfiguredError(f"{self.url}: there is no such bucket; create it, or set another URL")

    def _translated(self, error: Exception) -> MemoturnError:
        return translate(error, self._kind, self.url)


def _condition(expected: Version) -> PutMode:
    if expected.e_tag is not None:
        return {"e_tag": expected.e_tag}
    return {"version": expected.version}


class _Source:
    """An iterator for obstore that remembers what it raised, since obstore reports only that something did."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.error: Exception | None = None

    def __iter__(self) -> _Source:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise


def _joined_if_small(chunks: Iterable[bytes]) -> bytes | Iterator[bytes]:
    """The bytes themselves if they fit into one part, which takes one request instead of three."""
    head: list[bytes] = []
    size = 0
    rest = iter(chunks)
    for chunk in rest:
        head.append(chunk)
        size += len(chunk)
        if size > PART_BYTES:
            return itertools.chain(head, rest)
    return b"".join(head)


def parse_remote(url: str, rest: str) -> tuple[str, str]:
    """The bucket and the prefix of `//bucket/prefix`. Raises `InvalidRequestError`."""
    bucket, _, prefix = rest.removeprefix("//").partition("/")
    prefix = prefix.strip("/")
    if not rest.startswith("//") or not bucket or "@" in bucket or "?" in rest or "#" in rest:
        scheme = url.partition(":")[0]
        raise InvalidRequestError(
            f"not a bucket's URL; write {scheme}://bucket/prefix, and give credentials as settings, never in it"
        )
    if prefix:
        check_key(prefix)
    return bucket, prefix
