"""The SQLite VFS: nothing below SQLite but this file knows SQLite, nothing above it knows segments.

A reader's file is a view. A writer's file is a view under an overlay of pages that SQLite has written in the
open transaction. SQLite keeps its rollback journal in memory, so the main database is the only file it opens.

When a transaction becomes durable
    The connection's commit hook arms the file. SQLite then writes the changed pages and sends
    `SQLITE_FCNTL_SYNC`: this is the last moment at which an error still rolls back, so it is here that the
    overlay is handed to `on_commit`. `SQLITE_FCNTL_COMMIT_PHASETWO` comes when nothing can fail any more, and
    makes the commit visible. A rollback sends SYNC as well, but unarmed.

    A vacuum commits without calling the hook; it announces itself by `SQLITE_FCNTL_OVERWRITE`, which arms the
    file too. (Should it then fail, SQLite has written back what there was before it syncs, and a transaction
    that changes nothing is no commit.) It truncates the file only after SYNC, so the size of the database is taken
    from page 1, where SQLite has already written it.

Why page 1 is patched on its way up
    In exclusive locking mode SQLite does not raise the change counter at each commit, so a reader that compares
    counters would keep stale pages. Bytes 24-27 and 92-95 are therefore served from the view's txid.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import Any, Final

import apsw

from memoturn.base.txids import LOCK_PAGE, PAGE_SIZE, PageNo
from memoturn.pages.view import Source

VFS_NAME: Final = "memoturn"

_SHIFT: Final = PAGE_SIZE.bit_length() - 1
_SYNC: Final = apsw.SQLITE_FCNTL_SYNC
_OVERWRITE: Final = apsw.SQLITE_FCNTL_OVERWRITE
_PHASE_TWO: Final = apsw.SQLITE_FCNTL_COMMIT_PHASETWO
_ZERO_PAGE: Final = bytes(PAGE_SIZE)
_PAGE_ONE: Final = PageNo(1)
_u32 = struct.Struct(">I")


def size_in_header(page_one: bytes) -> int:
    """The number of pages that page 1 says the database has."""
    return int(_u32.unpack_from(page_one, 28)[0])


def _stamped(page_one: bytes, txid: int) -> bytes:
    counter = _u32.pack(txid & 0xFFFFFFFF)
    return page_one[:24] + counter + page_one[28:92] + counter + page_one[96:]


class ReaderFile(apsw.VFSFile):
    """A view as a read-only database file. The view may be changed while no transaction is open."""

    def __init__(self, view: Source) -> None:
        self.show(view)

    def show(self, view: Source) -> None:
        """Serve this view from now on."""
        self.view = view
        self._page = view.page

    def stay_in_memory(self, pages: float | None) -> None:
        """From now on refuse to read more than so many pages, and any that has to be fetched; None ends that."""
        if pages is None:
            self._page = self.view.page
        else:
            self._left = pages
            self._page = self._page_in_memory

    def _page_in_memory(self, page_no: PageNo) -> bytes:
        self._left -= 1
        if self._left < 0 or not self.view.is_in_memory(page_no):
            raise apsw.BusyError(f"page {page_no} has to be fetched, or is one too many")
        return self.view.page(page_no)

    def xRead(self, amount: int, offset: int) -> bytes:
        if amount == PAGE_SIZE and offset:
            return self._page((offset >> _SHIFT) + 1)  # type: ignore[arg-type]
        return self._part(amount, offset)

    def _part(self, amount: int, offset: int) -> bytes:
        page_no = (offset >> _SHIFT) + 1
        page = self._read_page(page_no)
        if page_no == 1 and page:
            page = _stamped(page, self.view.txid)
        start = offset & (PAGE_SIZE - 1)
        return page[start : start + amount]

    def _read_page(self, page_no: int) -> bytes:
        return self._page(PageNo(page_no)) if page_no <= self.view.page_count else b""

    def xFileSize(self) -> int:
        return self.view.page_count * PAGE_SIZE

    def xLock(self, level: int) -> None:
        return None

    def xUnlock(self, level: int) -> None:
        return None

    def xCheckReservedLock(self) -> bool:
        return False

    def xSync(self, flags: int) -> None:
        return None

    def xFileControl(self, op: int, pointer: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return PAGE_SIZE

    def xDeviceCharacteristics(self) -> int:
        return int(apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE | apsw.SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN)

    def xWrite(self, data: bytes, offset: int) -> None:
        raise apsw.ReadOnlyError("this is a read-only view")

    def xTruncate(self, size: int) -> None:
        raise apsw.ReadOnlyError("this is a read-only view")

    def xClose(self) -> None:
        return None


class WriterFile(ReaderFile):
    """The head of a branch under the pages that the open transaction has written.

    `on_commit(pages, page_count)` takes a transaction over, or raises and it is rolled back. From then on this
    connection alone sees it, until `show` brings a view that has it. If another one is to be committed before that,
    `on_next()` returns such a view.
    """

    def __init__(
        self,
        view: Source,
        on_commit: Callable[[dict[PageNo, bytes], int], None],
        on_next: Callable[[], Source],
    ) -> None:
        self.overlay: dict[PageNo, bytes] = {}
        self.armed = False
        self.failure: BaseException | None = None
        self.has_committed = False
        self._committed: dict[PageNo, bytes] = {}
        self._on_commit = on_commit
        self._on_next = on_next
        self._handed_over = False
        super().__init__(view)

    def show(self, view: Source) -> None:
        self.view = view
        self._page = view.page
        self._pages = view.page_count
        self.has_committed = False
        self._committed = {}

    def _page_in_memory(self, page_no: PageNo) -> bytes:
        try:
            return super()._page_in_memory(page_no)
        except apsw.BusyError as error:
            self.failure = error
            raise

    def arm(self) -> bool:
        """The commit hook: the next SYNC is a commit. False lets SQLite go on."""
        self.armed = True
        return False

    def settle(self) -> None:
        """Forget what a transaction left that did not commit; called when none is open."""
        self.armed = False
        self._handed_over = False
        if self.overlay:
            self.overlay = {}
        self._pages = self.view.page_count

    def xRead(self, amount: int, offset: int) -> bytes:
        if amount == PAGE_SIZE and offset:
            page_no: PageNo = (offset >> _SHIFT) + 1  # type: ignore[assignment]
            page = self.overlay.get(page_no) or self._committed.get(page_no)
            return page if page is not None else self._page(page_no)
        return self._part(amount, offset)

    def _part(self, amount: int, offset: int) -> bytes:
        page_no = PageNo((offset >> _SHIFT) + 1)
        page = self.overlay.get(page_no) or self._committed.get(page_no)
        if page is None:
            return super()._part(amount, offset)
        start = offset & (PAGE_SIZE - 1)
        return page[start : start + amount]

    def xWrite(self, data: bytes, offset: int) -> None:
        page_no: PageNo = (offset >> _SHIFT) + 1  # type: ignore[assignment]
        if len(data) != PAGE_SIZE:
            page = bytearray(self._part(PAGE_SIZE, offset & -PAGE_SIZE).ljust(PAGE_SIZE, b"\0"))
            start = offset & (PAGE_SIZE - 1)
            page[start : start + len(data)] = data
            data = bytes(page)
        self.overlay[page_no] = data
        if page_no > self._pages:
            self._pages = page_no

    def xTruncate(self, size: int) -> None:
        pages = self._pages = size >> _SHIFT
        if self.overlay:
            # A rollback may be followed by another transaction, in which what it had spilled is no more.
            self.overlay = {n: page for n, page in self.overlay.items() if n <= pages}

    def xFileSize(self) -> int:
        return self._pages * PAGE_SIZE

    def xFileControl(self, op: int, pointer: int) -> bool:
        if op == _SYNC:
            if self.armed:
                self.armed = False
                try:
                    self._hand_over()
                except BaseException as error:
                    self.failure = error
                    raise
            return True
        if op == _PHASE_TWO:
            if self._handed_over:
                self._handed_over = False
                self._committed, self.overlay = self.overlay, {}
                self.has_committed = True
            return True
        if op == _OVERWRITE:
            self.armed = True
            return True
        return False

    def _hand_over(self) -> None:
        overlay = self.overlay
        if not overlay:
            return
        if self.has_committed:
            now = self._pages
            self.show(self._on_next())
            self._pages = now
        pages = old_pages = self.view.page_count
        if _PAGE_ONE in overlay:
            pages = size_in_header(overlay[_PAGE_ONE])
        if pages > old_pages:
            for page_no in map(PageNo, range(old_pages + 1, pages + 1)):
                # A page that SQLite skipped, because it lies on the free list, has content all the same.
                overlay.setdefault(page_no, _ZERO_PAGE)
        if pages >= LOCK_PAGE:
            overlay.pop(LOCK_PAGE, None)
        if pages < self._pages:
            overlay = {n: page for n, page in overlay.items() if n <= pages}
        self._on_commit(overlay, pages)
        self._handed_over = True


class _BranchVfs(apsw.VFS):
    """Hands each connection the file that was prepared for it."""

    def __init__(self) -> None:
        self.prepared: dict[str, ReaderFile] = {}
        super().__init__(VFS_NAME, base="")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> Any:
        key = name.filename() if isinstance(name, apsw.URIFilename) else name
        file = None if key is None else self.prepared.pop(key, None)
        if file is None:
            raise apsw.CantOpenError(f"{key} is not an open branch")
        flags[1] = flags[0]
        return file

    def xFullPathname(self, name: str) -> str:
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:
        return False

    def xDelete(self, filename: str, syncdir: bool) -> None:
        return None


_vfs = _BranchVfs()
_numbers = itertools.count()


def connect(file: ReaderFile) -> apsw.Connection:
    """A connection whose main database is `file`."""
    name = _prepare(file)
    writable = isinstance(file, WriterFile)
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE if writable else apsw.SQLITE_OPEN_READONLY
    return apsw.Connection(name, flags=flags | apsw.SQLITE_OPEN_NOMUTEX, vfs=VFS_NAME)


def attach(connection: apsw.Connection, file: ReaderFile, schema: str) -> None:
    """Give a connection of `connect` a second database to read."""
    connection.execute("ATTACH ? AS " + schema, (_prepare(file),))


def _prepare(file: ReaderFile) -> str:
    name = f"branch-{next(_numbers)}"
    _vfs.prepared[name] = file
    return name
