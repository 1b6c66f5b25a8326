"""Whatever the bytes are, reading them ends in the truth or in CorruptError, with bounded memory."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

import lz4.block
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoturn.base.errors import CorruptError
from memoturn.base.txids import LOCK_PAGE, PAGE_SIZE, TXID, Checksum, PageNo, UnixMs
from memoturn.segments.checksum import CHECKSUM_FLAG, crc64
from memoturn.segments.frame import decode_frame
from memoturn.segments.ltx import (
    LtxHeader,
    append_index_entry,
    decode_ltx,
    encode_ltx,
    index_ltx,
)
from tests.segments.samples import database_checksum, text

PAGES = [(PageNo(n), text(n)[:600].ljust(PAGE_SIZE, b"\0")) for n in (1, 2, 3)]
INCREMENT_HEADER = LtxHeader(300_000, TXID(7), TXID(7), UnixMs(1), Checksum(CHECKSUM_FLAG | 5))
INCREMENT = encode_ltx(INCREMENT_HEADER, PAGES, Checksum(CHECKSUM_FLAG | 6)).data
SNAPSHOT = encode_ltx(
    LtxHeader(3, TXID(1), TXID(9), UnixMs(1), Checksum(0)), PAGES, database_checksum(PAGES)
).data
BOTH = pytest.mark.parametrize("good", [INCREMENT, SNAPSHOT], ids=["increment", "snapshot"])


@BOTH
def test_every_truncation_is_noticed(good: bytes) -> None:
    for length in range(len(good)):
        with pytest.raises(CorruptError):
            decode_ltx(good[:length])
        with pytest.raises(CorruptError):
            decode_ltx(good[len(good) - length :])


@BOTH
def test_every_flipped_bit_is_noticed_or_changes_nothing(good: bytes) -> None:
    for at in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[at] ^= 1 << bit
            try:
                read = decode_ltx(bytes(bad))
            except CorruptError:
                continue
            # Another match of the same bytes, say: LTX covers pages, not their compressed form.
            assert at >= 110
            assert read == decode_ltx(good)


@BOTH
def test_an_index_read_without_checksums_stays_within_the_file(good: bytes) -> None:
    for at in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[at] ^= 1 << bit
            try:
                frames = index_ltx(bytes(bad)).frames
            except CorruptError:
                continue
            assert all(100 <= offset < offset + length < len(bad) for _, offset, length in frames)


@BOTH
def test_bytes_after_the_end_are_noticed(good: bytes) -> None:
    for more in (b"\0", bytes(100), good):
        with pytest.raises(CorruptError):
            decode_ltx(good + more)


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_noise_is_refused(head: bytes, tail: bytes) -> None:
    for data in (head + tail, INCREMENT[:100] + tail, head + INCREMENT[-200:], INCREMENT[:200] + head + tail):
        with pytest.raises(CorruptError):
            decode_ltx(data)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=5000))
def test_noise_is_no_frame_or_a_whole_page(data: bytes) -> None:
    for stored in (data, struct.pack(">IHI", 1, 1, len(data)) + data):
        try:
            assert len(decode_frame(stored)) == PAGE_SIZE
        except CorruptError:
            continue


def seal(body: bytes, post_checksum: int = CHECKSUM_FLAG | 6, pages: bytes | None = None) -> bytes:
    """A file with a correct file checksum around a body; without pages, as if the body were hashed as it is."""
    end = struct.pack(">Q", post_checksum)
    return body + end + struct.pack(">Q", crc64((body if pages is None else pages) + end) | CHECKSUM_FLAG)


def forge(
    frames: bytes, entries: list[tuple[int, int, int]], *, size: int | None = None, page_data: bytes = b""
) -> bytes:
    """An increment with these frames and this page index, however wrong they are."""
    index = bytearray()
    for entry in entries:
        append_index_entry(index, *entry)  # type: ignore[arg-type]
    index += b"\0"
    tail = bytes(6) + index + struct.pack(">Q", len(index) if size is None else size)
    return seal(INCREMENT[:100] + frames + tail, pages=INCREMENT[:100] + frames[:10] + page_data + tail)


def frame(pgno: int, block: bytes, flags: int = 1, size: int | None = None) -> bytes:
    return struct.pack(">IHI", pgno, flags, len(block) if size is None else size) + block


BLOCK = lz4.block.compress(PAGES[0][1], store_size=False)
GOOD = frame(2, BLOCK)
N = len(GOOD)


def test_the_forgery_is_good_where_nothing_is_wrong() -> None:
    read = decode_ltx(forge(GOOD, [(2, 100, N)], page_data=PAGES[0][1]))
    assert read.pages == [(2, PAGES[0][1])]


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], "no end of pages at byte 100"),
        ([(2, 101, N)], "expected at 100"),
        ([(2, 99, N)], "expected at 100"),
        ([(2, 100, N + 1)], "ending by"),
        ([(2, 100, N - 1)], "no end of pages at byte"),
        ([(2, 100, 10)], "with 10 bytes"),
        ([(2, 100, 0)], "with 0 bytes"),
        ([(2, 100, 5000)], "with 5000 bytes"),
        ([(2, 100, (1 << 63) - 1)], "expected at 100 and ending by"),
        ([(2, (1 << 64) - 1, N)], "expected at 100"),
        ([(2, 1 << 70, N)], "does not end by byte"),
        ([(300_001, 100, N)], "beyond the 300000 pages"),
        ([(1 << 40, 100, N)], "beyond the 300000 pages"),
        ([(LOCK_PAGE, 100, N)], "lock page"),
        ([(2, 100, N), (2, 100 + N, N)], "page 2 comes after page 2"),
        ([(2, 100, N), (1, 100 + N, N)], "page 1 comes after page 2"),
        ([(2, 100, N), (3, 100, N)], "page 3 at byte 100"),
        ([(3, 100, N)], "the frame at byte 100 is of page 2, its index says 3"),
    ],
)
def test_a_page_index_that_does_not_match_the_pages_is_refused(
    entries: list[tuple[int, int, int]], reason: str
) -> None:
    with pytest.raises(CorruptError, match=reason):
        decode_ltx(forge(GOOD, entries, page_data=PAGES[0][1]))


@pytest.mark.parametrize("size", [0, 1, 3, 5, 100, N + 100, 1 << 32, (1 << 64) - 1])
def test_a_page_index_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(CorruptError):
        decode_ltx(forge(GOOD, [(2, 100, N)], size=size, page_data=PAGES[0][1]))


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (frame(2, BLOCK, flags=0), "legacy frame without a size"),
        (frame(2, BLOCK, flags=3), "unknown frame flags 0x0003"),
        (frame(2, BLOCK, size=len(BLOCK) - 1), "says that it has"),
        (frame(2, BLOCK, size=len(BLOCK) + 1), "says that it has"),
        (frame(2, BLOCK, size=0xFFFF_FFFF), "says that it has 4294967295"),
        (frame(2, b""), "page 2"),
        (frame(2, b"\0"), "page 2"),
        (frame(2, lz4.block.compress(bytes(PAGE_SIZE - 1), store_size=False)), "decompresses to 4095"),
        (frame(2, lz4.block.compress(bytes(PAGE_SIZE + 1), store_size=False)), "page 2"),
        (frame(2, lz4.block.compress(bytes(1 << 20), store_size=False)[:4000]), "page 2"),
        (frame(2, BLOCK[:-1]), "page 2"),
        (GOOD[:9], "9 bytes is too short"),
        (b"", "0 bytes is too short"),
    ],
)
def test_a_frame_that_is_no_page_is_refused(stored: bytes, reason: str) -> None:
    with pytest.raises(CorruptError, match=reason):
        decode_frame(stored)
    if len(stored) > 10:
        with pytest.raises(CorruptError):
            decode_ltx(forge(stored, [(2, 100, len(stored))], page_data=PAGES[0][1]))


def patched(*changes: tuple[int, bytes]) -> Callable[[], bytes]:
    def make() -> bytes:
        data = bytearray(INCREMENT)
        for at, part in changes:
            data[at : at + len(part)] = part
        return bytes(data)

    return make


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (patched((0, b"LTX2")), r"begins with b'LTX2'"),
        (patched((4, struct.pack(">I", 2))), "without database checksums"),
        (patched((4, struct.pack(">I", 1))), "unknown flags 0x00000001"),
        (patched((8, struct.pack(">I", 8192))), "page size 8192; only 4096"),
        (patched((8, struct.pack(">I", 0))), "page size 0"),
        (patched((12, struct.pack(">I", 2))), "page 3 is beyond the 2 pages"),
        (patched((16, struct.pack(">Q", 0))), "txids 0 to 7"),
        (patched((24, struct.pack(">Q", 1 << 63))), "in order"),
        (patched((32, struct.pack(">q", -1))), "out of range"),
        (patched((40, struct.pack(">Q", 0))), "lacks its top bit"),
        (patched((72, struct.pack(">Q", 1))), "file checksum"),
        (patched((len(INCREMENT) - 16, bytes(8))), "post-apply checksum 0x0"),
        (patched((len(INCREMENT) - 8, bytes(8))), "file checksum 0x0 lacks its top bit"),
    ],
)
def test_a_file_says_what_is_wrong_with_it(make: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(CorruptError, match=reason):
        decode_ltx(make())


def test_a_snapshot_whose_pages_have_another_checksum_is_refused() -> None:
    body = SNAPSHOT[:-16]
    stored = b"".join(frame(n, lz4.block.compress(page, store_size=False)) for n, page in PAGES)
    assert body[100:].startswith(stored)
    logical = b"".join(
        stored_prefix + page for stored_prefix, (_, page) in zip(_prefixes(), PAGES, strict=True)
    )
    pages = body[:100] + logical + body[100 + len(stored) :]
    assert seal(body, database_checksum(PAGES), pages) == SNAPSHOT
    with pytest.raises(CorruptError, match="snapshot: pages have checksum"):
        decode_ltx(seal(body, CHECKSUM_FLAG | 6, pages))


def _prefixes() -> list[bytes]:
    return [frame(n, lz4.block.compress(page, store_size=False))[:10] for n, page in PAGES]


def test_memory_stays_in_proportion_to_what_is_there() -> None:
    # Each claims as much as its fields can hold.
    most = (1 << 63) - 1
    claims = [
        patched((12, b"\xff" * 4)),
        patched((len(INCREMENT) - 24, struct.pack(">Q", most))),
        lambda: forge(GOOD, [(2, 100, most)]),
        lambda: forge(frame(2, BLOCK, size=0xFFFF_FFFF), [(2, 100, N)]),
        lambda: forge(
            frame(2, lz4.block.compress(bytes(1 << 24), store_size=False)[:4100]), [(2, 100, 4110)]
        ),
        lambda: INCREMENT[:100] + bytes(1 << 16),
    ]
    for make in claims:
        data = make()
        tracemalloc.start()
        try:
            with pytest.raises(CorruptError):
                decode_ltx(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 4 * len(data) + 64 * 1024


def test_the_best_compressed_file_decodes_to_its_pages_and_not_much_more() -> None:
    count = 2000
    pages = [(PageNo(n), bytes(PAGE_SIZE)) for n in range(1, count + 1)]
    data = encode_ltx(INCREMENT_HEADER, pages, Checksum(CHECKSUM_FLAG)).data
    tracemalloc.start()
    try:
        decode_ltx(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < count * (PAGE_SIZE + 600)
