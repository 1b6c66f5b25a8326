"""Pages, commits and histories for the tests of this room."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from hypothesis import strategies as st

from memoturn.base.txids import PAGE_SIZE, TXID, Checksum, PageNo, UnixMs
from memoturn.segments.checksum import CHECKSUM_FLAG, combine, page_checksum
from memoturn.segments.ltx import LtxHeader, encode_ltx
from memoturn.segments.pack_build import PackedCommit, pack_commit

Pages = dict[PageNo, bytes]


def formula_page(pgno: int, size: int = PAGE_SIZE) -> bytes:
    """The page that every vector holds under this number."""
    return bytes((pgno * 31 + i * i) % 251 for i in range(size))


def noise(seed: int) -> bytes:
    """A page that LZ4 cannot compress."""
    return random.Random(seed).randbytes(PAGE_SIZE)


def text(seed: int) -> bytes:
    """A page as SQLite makes them: some zeros, some rows."""
    words = random.Random(seed).choices([b"agent ", b"prefers ", b"dark mode; ", b"%08x " % seed], k=400)
    return (bytes(500) + b"".join(words))[:PAGE_SIZE].ljust(PAGE_SIZE, b"\0")


def any_page() -> st.SearchStrategy[bytes]:
    """Pages from empty to incompressible."""
    seeds = st.integers(0, 1 << 32)
    return st.just(bytes(PAGE_SIZE)) | seeds.map(noise) | seeds.map(text) | seeds.map(formula_page)


def database_checksum(pages: Mapping[PageNo, bytes] | Iterable[tuple[PageNo, bytes]]) -> Checksum:
    """The checksum of a database that has exactly these pages."""
    checksum = CHECKSUM_FLAG
    for pgno, page in dict(pages).items():
        checksum = combine(checksum, page_checksum(pgno, page))
    return checksum


def commit_of(txid: int, pages: Mapping[int, bytes], page_count: int = 1000, time: int = 0) -> PackedCommit:
    """A commit that is not a snapshot, with made-up database checksums."""
    header = LtxHeader(
        page_count, TXID(txid), TXID(txid), UnixMs(time or 1_760_000_000_000 + txid), CHECKSUM_FLAG
    )
    after = Checksum(CHECKSUM_FLAG | txid)
    encoded = encode_ltx(header, [(PageNo(n), pages[n]) for n in sorted(pages)], after)
    return pack_commit(header, encoded.data, encoded.frames, after)


class Database:
    """A database file that is committed version by version, with a rolling checksum, as the engine does it."""

    def __init__(self) -> None:
        self.pages: Pages = {}
        self.checksum = CHECKSUM_FLAG

    def commit(self, txid: int, image: bytes) -> PackedCommit:
        """The commit that turns the present pages into `image`: its changed pages, nothing else."""
        now = {PageNo(i // PAGE_SIZE + 1): image[i : i + PAGE_SIZE] for i in range(0, len(image), PAGE_SIZE)}
        changed = [(pgno, page) for pgno, page in now.items() if self.pages.get(pgno) != page]
        # On an empty database, whatever the txid, a commit holds every page: it is written as a snapshot,
        # because the reference's `apply` has another checksum for an empty file than LTX has.
        first, before = (1, Checksum(0)) if not self.pages else (txid, self.checksum)
        for pgno, page in changed:
            if pgno in self.pages:
                self.checksum = combine(self.checksum, page_checksum(pgno, self.pages[pgno]))
            self.checksum = combine(self.checksum, page_checksum(pgno, page))
        for pgno in self.pages.keys() - now.keys():
            self.checksum = combine(self.checksum, page_checksum(pgno, self.pages[pgno]))
        self.pages = now
        header = LtxHeader(len(now), TXID(first), TXID(txid), UnixMs(1_760_000_000_000 + txid), before)
        encoded = encode_ltx(header, changed, self.checksum)
        return pack_commit(header, encoded.data, encoded.frames, self.checksum)
