"""The commits of a branch that are not in the bucket yet, and views that include them."""

from __future__ import annotations

from collections.abc import Iterable

from memoturn.base.txids import PAGE_SIZE, TXID, Checksum, PageNo, UnixMs
from memoturn.pages.view import Above, Trace, View
from memoturn.segments.ltx import LtxHeader, encode_ltx
from memoturn.segments.pack_build import PackedCommit, pack_commit


class Commit:
    """One transaction: its pages, and, when it is shipped, its LTX file as packs take it."""

    __slots__ = ("_packed", "header", "pages", "post_checksum", "txid")

    def __init__(self, header: LtxHeader, pages: dict[PageNo, bytes], post_checksum: Checksum) -> None:
        self.header = header
        self.pages = pages
        self.post_checksum = post_checksum
        self.txid = header.max_txid
        self._packed: PackedCommit | None = None

    @property
    def is_packed(self) -> bool:
        """Whether `packed` is at hand."""
        return self._packed is not None

    @property
    def packed(self) -> PackedCommit:
        """Its LTX file, which is made when somebody first asks for it. Raises as `encode_ltx` does."""
        packed = self._packed
        if packed is None:
            data, frames = encode_ltx(self.header, self.pages.items(), self.post_checksum)
            packed = self._packed = pack_commit(self.header, data, frames, self.post_checksum)
        return packed


class Tail:
    """Commits in order of their txids, growing at the end.

    Views keep the tail that they were opened on and look no further than their own txid, so a tail is appended
    to without a lock; when commits have shipped, the branch goes on with a new and shorter one.
    """

    __slots__ = ("bytes", "commits", "versions")

    def __init__(self, commits: Iterable[Commit] = ()) -> None:
        self.commits: list[Commit] = []
        self.versions: dict[PageNo, list[tuple[TXID, bytes]]] = {}
        self.bytes = 0
        for commit in commits:
            self.append(commit)

    def append(self, commit: Commit) -> None:
        """Add the next commit."""
        txid = commit.txid
        versions = self.versions
        for page_no, page in commit.pages.items():
            there = versions.get(page_no)
            if there is None:
                versions[page_no] = [(txid, page)]
            else:
                there.append((txid, page))
        self.commits.append(commit)
        self.bytes += len(commit.pages) * PAGE_SIZE

    def after(self, txid: TXID) -> Tail:
        """A tail of the commits beyond `txid`."""
        return Tail(commit for commit in self.commits if commit.txid > txid)


class TailView:
    """A position whose newest commits are in the tail: the shipped view beneath, and the tail up to `txid`."""

    __slots__ = (
        "_shipped",
        "_shipped_page",
        "_tail",
        "_versions",
        "checksum",
        "page_count",
        "stretch",
        "time",
        "txid",
    )

    def __init__(self, shipped: View, tail: Tail, commit: Commit) -> None:
        header = commit.header
        self.txid = commit.txid
        self.page_count = header.commit
        self.checksum = commit.post_checksum
        self.time: UnixMs | None = header.timestamp_ms
        self.stretch = shipped.stretch
        self._tail = tail
        self._shipped = shipped
        self._shipped_page = shipped.page
        self._versions = tail.versions

    def page(self, page_no: PageNo) -> bytes:
        """The page's bytes; empty beyond the end of the database."""
        if page_no > self.page_count:
            return b""  # There may be older versions of it, from before the database shrank.
        versions = self._versions.get(page_no)
        if versions is not None:
            mine = self.txid
            for txid, page in reversed(versions):
                if txid <= mine:
                    return page
        return self._shipped_page(page_no)

    def is_in_memory(self, page_no: PageNo) -> bool:
        """Whether `page` answers without asking the store."""
        # An older version of it, too, is in memory only if it is in the tail.
        return page_no > self.page_count or page_no in self._versions or self._shipped.is_in_memory(page_no)

    def trace(self, page_no: PageNo) -> Trace:
        """Which version of the page this is. One in the tail is known there only: it may yet be lost."""
        for txid, _ in reversed(self._versions.get(page_no, ())):
            if txid <= self.txid:
                return Trace((f"tail {id(self._versions)}", txid, page_no), None)
        return self._shipped.trace(page_no)

    def above(self) -> Above:
        """What the shipped view beneath is made of, and the tail."""
        above = self._shipped.above()
        above.parts[id(self._versions), self.txid] = self._pages
        return above

    def _pages(self) -> list[PageNo]:
        return [
            page_no for commit in self._tail.commits if commit.txid <= self.txid for page_no in commit.pages
        ]
