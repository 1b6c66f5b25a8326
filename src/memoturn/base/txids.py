"""Types for positions, so that a txid is never mistaken for a page number or a plain count."""

from __future__ import annotations

from typing import NewType

TXID = NewType("TXID", int)
"""The number of a commit on a branch: 1, 2, 3, … and 0 for the state before the first one."""

PageNo = NewType("PageNo", int)
"""The number of a SQLite page, counted from 1."""

UnixMs = NewType("UnixMs", int)
"""Milliseconds since the Unix epoch, UTC."""

Checksum = NewType("Checksum", int)
"""A CRC-64/GO-ISO of pages or files with the top bit set, as LTX defines it."""

EMPTY = TXID(0)
PAGE_SIZE = 4096
"""Bytes a page; the only page size that Memoturn stores."""

LOCK_PAGE = PageNo(0x40000000 // PAGE_SIZE + 1)
"""SQLite locks bytes at 1 GiB; the page that holds them has no content and is never stored."""
