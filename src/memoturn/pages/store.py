"""Pages and indexes of segments, through caches; every page is verified before it is served or kept.

A page version never changes, so nothing that is cached is ever invalidated. One from a pack is known by the commit
that wrote it, and not by where it lies: when packs are merged, what is cached of them stays.

A page that is not cached is read as part of a larger range where that is likely to pay: on a remote store the
aligned block around it, and on any store, once reads of a segment have begun to follow each other, a window that
doubles while they do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, TypeVar

from memoturn.base.cache import GenerationalCache
from memoturn.base.errors import CorruptError, SegmentGoneError
from memoturn.base.settings import CacheSettings
from memoturn.base.txids import TXID, PageNo
from memoturn.bucket import Bucket, ObjectNotFound
from memoturn.manifest import keys
from memoturn.pages.disk import DiskTier
from memoturn.segments.base import BaseIndex, NotLoadedError, Span, parse_base_tail
from memoturn.segments.frame import Frame, crc32, decode_frame
from memoturn.segments.pack import PackIndex, parse_pack_tail
from memoturn.segments.tail import NeedMore

_TAIL: Final = 64 * 1024
_MAX_WINDOW: Final = 1 << 20
_FIRST_WINDOW: Final = 16 * 1024
_FIRST_BYTES: Final = 2 << 20
_BUFFERS: Final = 64
_MAX_TABLE: Final = 4 << 20
_ASIDE: Final = 1 << 20

Index = TypeVar("Index", PackIndex, BaseIndex)


Version = tuple[str, TXID | None, PageNo]
"""A page as a commit of an incarnation left it; or, with None for the commit, as the base at a key has it."""


class Spot(NamedTuple):
    """One page version, and where a pack has it: always the same bytes."""

    version: Version
    key: str
    offset: int
    length: int
    crc32: int


class _Buffer:
    """A range of one segment that was just read; `window` is how much the next one will ask for."""

    __slots__ = ("data", "end", "start", "window")

    def __init__(self, start: int, data: bytes, window: int) -> None:
        self.start = start
        self.end = start + len(data)
        self.data = memoryview(data)
        self.window = window


class SegmentStore:
    """One for all databases of a process, so that its budgets hold for the process."""

    def __init__(
        self,
        bucket: Bucket,
        settings: CacheSettings,
        disk: DiskTier | None = None,
        index_bytes: int | None = None,
        trust_copies: bool = True,
    ) -> None:
        """With `trust_copies` a page may come from the index of a base; else both are read and compared."""
        self.bucket = bucket
        self._settings = settings
        self._local = bucket.is_local
        self.is_remote = not bucket.is_local
        self._trust_copies = trust_copies
        self._use_copies = not (self._local and trust_copies)
        self._block = settings.block_bytes
        self._disk = disk
        self._pages: GenerationalCache[Version, bytes] = GenerationalCache(
            settings.page_cache_bytes, weigh=len
        )
        self.cached = self._pages.get
        self._indexes: GenerationalCache[str, PackIndex | BaseIndex] = GenerationalCache(
            max(index_bytes or settings.page_cache_bytes // 4, 1), weigh=lambda index: index.memory_bytes
        )
        self._buffers: GenerationalCache[str, _Buffer] = GenerationalCache(_BUFFERS)
        self.reads = 0
        """Pages that views were asked for."""
        self.misses = 0
        """Those of them that were not in memory."""
        self.blocks_fetched = 0
        """Blocks of remote segments that came from the bucket."""
        self.blocks_on_disk = 0
        """Blocks of remote segments that were on local disk."""

    def page(self, spot: Spot) -> bytes:
        """The page's bytes. Raises `CorruptError` if twice what came does not match its checksum."""
        version, key, offset, length, crc = spot
        page = self._pages.get(version)
        if page is None:
            self.misses += 1
            page = self._decode(key, offset, length, crc)
            self._pages.put(version, page)
        return page

    def base_page(self, key: str, index: BaseIndex, page_no: PageNo) -> bytes:
        """A page of the base at `key`, empty if it has none. Raises `CorruptError` as `page` does."""
        page = self._pages.get((key, None, page_no))
        if page is None:
            self.misses += 1
            copy = index.copy(page_no) if self._use_copies else None
            page = copy if copy is not None and self._trust_copies else self._base_page(key, index, page_no)
            if copy is not None and copy != page:
                raise CorruptError(
                    f"{keys.base_index_key(key)} has a copy of page {page_no} that differs from it"
                )
            self._pages.put((key, None, page_no), page)
        return page

    def _base_page(self, key: str, index: BaseIndex, page_no: PageNo) -> bytes:
        frame = self.base_frame(key, index, page_no)
        if frame is None:
            return b""
        return self._decode(key, *frame[:3], self._first_bytes(index, frame.offset))

    def base_frame(self, key: str, index: BaseIndex, page_no: PageNo) -> Frame | None:
        """Where a page lies in the base at `key`, None if it has none."""
        try:
            return index.find(page_no)
        except NotLoadedError as missing:
            self._load(key, index, missing.span)
            return index.find(page_no)

    def _first_bytes(self, index: BaseIndex, offset: int) -> int:
        """How much of a base to read from its beginning when nothing of it was read before; 0 for the page alone."""
        if index.snapshot_length <= _FIRST_BYTES:
            return index.snapshot_length
        # Whoever begins with page 1 goes on to the roots of the trees, and to what SQLite put below them first:
        # a root is split when it has some 450 children, into pages that follow them. Copies have all that.
        return 0 if index.has_copies or offset >= self._block else _FIRST_BYTES

    def aside(self) -> SegmentStore:
        """A store for one who reads a great deal once: it shares the indexes and leaves the cached pages alone."""
        store = SegmentStore(self.bucket, replace(self._settings, page_cache_bytes=_ASIDE), self._disk)
        store._indexes = self._indexes
        return store

    def keep(self, version: Version, page: bytes) -> None:
        """Remember a page that was just written, so that it need not be read back."""
        self._pages.put(version, page)

    def pack(self, key: str) -> PackIndex:
        """The index of the pack at `key`."""
        index = self._indexes.get(key)
        if index is None:
            index = self._open_index(key, parse_pack_tail, _TAIL)
            self._indexes.put(key, index)
        if not isinstance(index, PackIndex):
            raise CorruptError(f"{key} was opened as a base before")
        return index

    def pack_at_hand(self, key: str) -> PackIndex | None:
        """The index of the pack at `key`, if it is remembered."""
        index = self._indexes.get(key)
        return index if isinstance(index, PackIndex) else None

    def base(self, key: str) -> BaseIndex:
        """The index of the base whose snapshot lies at `key`; parts of its table may not be loaded yet."""
        index = self._indexes.get(key)
        if index is None:
            # Where a request costs more than bytes, the whole table of all but the largest bases comes with its end.
            length = _MAX_TABLE if self._use_copies else _TAIL
            index = self._open_index(keys.base_index_key(key), parse_base_tail, length)
            self._indexes.put(key, index)
        if not isinstance(index, BaseIndex):
            raise CorruptError(f"{key} was opened as a pack before")
        return index

    def _load(self, key: str, index: BaseIndex, span: Span) -> None:
        """Load the part of a base's table that a look-up has missed."""
        # On a remote store a request costs more than the bytes of any table but a very large one's.
        everything = index.missing
        if not self._local and everything is not None and everything.length <= _MAX_TABLE:
            span = everything
        table = keys.base_index_key(key)
        try:
            index.load(span.offset, self.bucket.get_range(table, span.offset, span.length))
        except CorruptError as error:
            raise CorruptError(f"{table}: {error}") from None
        except ObjectNotFound:
            raise SegmentGoneError(table) from None

    def open_together(self, packs: Sequence[str], base: str | None = None) -> None:
        """Fetch the indexes of segments that are about to be asked for, where a request costs more than bytes."""
        if not self.is_remote:
            return
        packs = [key for key in packs if self._indexes.get(key) is None]
        wanted = [(key, _TAIL) for key in packs]
        if base is not None and self._indexes.get(base) is None:
            wanted.append((keys.base_index_key(base), _MAX_TABLE))
        if len(wanted) < 2:
            return
        try:
            tails = self.bucket.get_tails(wanted)
        except ObjectNotFound:
            return  # Which one is gone, whoever asks for it will find out.
        for key, (tail, size) in zip(packs, tails, strict=False):
            self._indexes.put(key, self._parsed(key, parse_pack_tail, tail, size))
        if base is not None and len(tails) > len(packs):
            self._indexes.put(base, self._parsed(wanted[-1][0], parse_base_tail, *tails[-1]))

    def _open_index(self, key: str, parse: Callable[[bytes, int], Index | NeedMore], length: int) -> Index:
        try:
            tail, size = self.bucket.get_tail(key, length)
        except ObjectNotFound:
            raise SegmentGoneError(key) from None
        return self._parsed(key, parse, tail, size)

    def _parsed(
        self, key: str, parse: Callable[[bytes, int], Index | NeedMore], tail: bytes, size: int
    ) -> Index:
        try:
            index = parse(tail, size)
            if isinstance(index, NeedMore):
                tail, size = self.bucket.get_tail(key, index.length)
                index = parse(tail, size)
            if isinstance(index, NeedMore):
                raise CorruptError(f"asks for {index.length} bytes of its end, but has {size}")
        except CorruptError as error:
            raise CorruptError(f"{key}: {error}") from None
        except ObjectNotFound:
            raise SegmentGoneError(key) from None
        if isinstance(index, PackIndex) and not self._local:
            # Of a small pack this is all there is: its pages need no request any more.
            self._buffers.put(key, _Buffer(size - len(tail), tail, 0))
        return index

    def keep_index(self, key: str, index: PackIndex | BaseIndex) -> None:
        """Remember the index of a segment that was just written."""
        self._indexes.put(key, index)

    def _decode(self, key: str, offset: int, length: int, crc: int, first_bytes: int = 0) -> bytes:
        try:
            frame = self._read(key, offset, length, first_bytes)
            if crc32(frame) != crc:
                frame = self._read_again(key, offset, length, crc)
        except ObjectNotFound:
            raise SegmentGoneError(key) from None
        return decode_frame(frame)

    def _read(self, key: str, offset: int, length: int, first_bytes: int) -> bytes | memoryview:
        buffer = self._buffers.get(key)
        window = 0
        if buffer is not None:
            start, end = buffer.start, buffer.end
            if start <= offset and offset + length <= end:
                return buffer.data[offset - start : offset - start + length]
            if end - length < offset <= end + self._block:
                window = min(max(buffer.window * 2, _FIRST_WINDOW), _MAX_WINDOW)
        elif first_bytes and not self._local:
            return self._read_blocks(key, 0, first_bytes, 0)[offset : offset + length]
        if self._local:
            data = self.bucket.get_range(key, offset, max(length, window))
            self._buffers.put(key, _Buffer(offset, data, window))
            return data if len(data) == length else memoryview(data)[:length]
        return self._read_blocks(key, offset, length, window)

    def _read_blocks(self, key: str, offset: int, length: int, window: int) -> bytes | memoryview:
        first = offset // self._block
        last = (offset + max(length, window) - 1) // self._block
        wanted = range(first, last + 1)
        have = {n: self._disk.get(key, n) if self._disk else None for n in wanted}
        missing = [n for n in wanted if have[n] is None]
        self.blocks_fetched += len(missing)
        self.blocks_on_disk += len(wanted) - len(missing)
        fetched = (
            self.bucket.get_ranges(key, [(n * self._block, self._block) for n in missing]) if missing else []
        )
        for number, block in zip(missing, fetched, strict=True):
            have[number] = block
            if self._disk is not None:
                self._disk.put(key, number, block)
        data = b"".join(have[n] or b"" for n in wanted)
        start = first * self._block
        self._buffers.put(key, _Buffer(start, data, window))
        return memoryview(data)[offset - start : offset - start + length]

    def _read_again(self, key: str, offset: int, length: int, crc: int) -> bytes:
        """The frame straight from the bucket, in case a cache or the transfer spoiled it."""
        self._buffers.discard(key)
        if self._disk is not None:
            self._disk.discard(key, range(offset // self._block, (offset + length) // self._block + 1))
        frame = self.bucket.get_range(key, offset, length)
        if crc32(frame) != crc:
            raise CorruptError(
                f"{key} at byte {offset}: {length} bytes do not match their checksum, twice; "
                "restore the object from a replica of the bucket, or rewind past the commit that wrote it"
            )
        return frame
