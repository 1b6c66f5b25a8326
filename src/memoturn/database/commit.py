"""A transaction's pages become a commit: the one place through which every write comes back up."""

from __future__ import annotations

from typing import Final

from memoturn.base.errors import PayloadTooLargeError
from memoturn.base.txids import LOCK_PAGE, TXID, Checksum, PageNo, UnixMs
from memoturn.database.tail import Commit
from memoturn.pages.view import Source
from memoturn.segments.checksum import CHECKSUM_FLAG, page_checksum, replacement
from memoturn.segments.frame import MAX_FRAME
from memoturn.segments.ltx import MAX_LENGTH, LtxHeader, encode_ltx

_MOST_PAGES: Final = (MAX_LENGTH - 4096) // (MAX_FRAME + 15)
"""So many fit an LTX file, however badly they compress, with three varints of its index for each."""

# Half the price of LtxHeader(...), at every commit.
_new_header = tuple.__new__


def build_commit(head: Source, written: dict[PageNo, bytes], page_count: int, now: UnixMs) -> Commit | None:
    """The commit that follows `head`, or None if nothing differs from it.

    `written` holds whole pages up to `page_count`, the size of the database afterwards. Pages that equal their
    predecessor are dropped. The commit's time never precedes its predecessor's, whatever the clock does.

    Raises `PayloadTooLargeError` for more pages than an LTX file takes.
    """
    txid = TXID(head.txid + 1)
    checksum: int = head.checksum
    pages: dict[PageNo, bytes] = {}
    old_page = head.page
    for page_no, new in sorted(written.items()) if len(written) > 1 else written.items():
        old = old_page(page_no)
        if old != new:
            checksum ^= replacement(page_no, old, new)
            pages[page_no] = new
    old_count = head.page_count
    if page_count < old_count:
        for number in map(PageNo, range(page_count + 1, old_count + 1)):
            if number != LOCK_PAGE:
                checksum ^= page_checksum(number, old_page(number))
    elif not pages and page_count == old_count:
        return None
    if len(pages) > _MOST_PAGES:
        raise PayloadTooLargeError(
            f"transaction {txid} changes {len(pages):,} pages; {_MOST_PAGES:,} is the most"
        )
    after = Checksum(checksum | CHECKSUM_FLAG)
    time = now if head.time is None or now > head.time else head.time
    if old_count:
        header = _new_header(LtxHeader, (page_count, txid, txid, time, head.checksum, 0))
    else:
        # LTX knows no file on top of an empty database but a snapshot, which begins at txid 1.
        header = LtxHeader(page_count, TXID(1), txid, time, Checksum(0))
    if header.min_txid == 1:
        # LTX asks of the first commit that it has every page: better known now than when it is shipped.
        encode_ltx(header, pages.items(), after)
    return Commit(header, pages, after)
