"""One record of the commit log: a commit behind a header that says whose it is.

Byte layout: docs/format/log.md.

How a torn tail is told from damage
    Every record carries how far its file was known to be durable when the record was written. A record that
    cannot be read ends the replay quietly, unless a later record says that this place was durable already: then
    the disk has lost what it had promised, and that is an error.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from memoturn.base.errors import CorruptError
from memoturn.base.txids import TXID
from memoturn.segments.frame import crc32

MAGIC: Final = b"MTL1"
FILE_MAGIC: Final = b"MTLF"
START: Final = 4096
"""Records begin behind the first block, which holds the file's header."""

_FILE = struct.Struct("<4sQI")
_HEAD = struct.Struct("<4sIIHQQQQ")
_CRC = struct.Struct("<I")
HEAD_SIZE: Final = _HEAD.size + _CRC.size
FILE_HEADER_SIZE: Final = _FILE.size


class LogRecord(NamedTuple):
    """A commit as the log has it; `branch` is `db_uuid/branch_id/incarnation`."""

    branch: str
    epoch: int
    txid: TXID
    commit: bytes


def file_header(generation: int) -> bytes:
    """The first bytes of a file; records of other generations in it are left from before a cut."""
    body = _FILE.pack(FILE_MAGIC, generation, 0)[:-4]
    return body + _CRC.pack(crc32(body))


def read_file_header(data: bytes) -> int | None:
    """The generation of a file, or None if it has none: it was created and never used."""
    if len(data) < _FILE.size or data[:4] != FILE_MAGIC:
        return None
    _, generation, crc = _FILE.unpack_from(data)
    return int(generation) if crc == crc32(data[: _FILE.size - 4]) else None


def pack_record(branch: bytes, epoch: int, txid: TXID, commit: bytes, generation: int, durable: int) -> bytes:
    """The bytes of a record; `durable` is how far the file is known to be synced."""
    head = _HEAD.pack(
        MAGIC,
        HEAD_SIZE + len(branch) + len(commit),
        len(commit),
        len(branch),
        generation,
        durable,
        epoch,
        txid,
    )
    crc = crc32(commit, crc32(head + branch))
    return b"".join((head, _CRC.pack(crc), branch, commit))


def pack_records(commits: Sequence[tuple[bytes, int, TXID, bytes]], generation: int, durable: int) -> bytes:
    """The bytes of a group: the records of its commits, back to back."""
    if len(commits) == 1:
        return pack_record(*commits[0], generation, durable)
    return b"".join([pack_record(*commit, generation, durable) for commit in commits])


def read_records(data: bytes, start: int, generation: int) -> tuple[list[LogRecord], int]:
    """The records of `generation` from `start` on, and where they end."""
    records = []
    view = memoryview(data)
    at = start
    while (found := _read(view, at, generation)) is not None:
        record, _, length = found
        records.append(record)
        at += length
    return records, at


def check_torn(data: bytes, end: int, generation: int, offset: int = 0) -> None:
    """Raise `CorruptError` unless what follows the last record at `end` may be a torn write.

    `offset` is where `data` begins in its file.
    """
    view = memoryview(data)
    at = data.find(MAGIC, end + 1)
    while at >= 0:
        found = _read(view, at, generation)
        if found is not None and found[1] > offset + end:
            raise CorruptError(
                f"the commit log is damaged at byte {offset + end}: a later record shows that this place was "
                "durable; move the file away to give up what is in it and has not been shipped"
            )
        at = data.find(MAGIC, at + 1)


def check_unused(data: bytes) -> None:
    """Raise `CorruptError` if a file without a readable header holds a record all the same.

    The header is durable before the first record is written, so it cannot be missing because of a crash.
    """
    view = memoryview(data)
    at = data.find(MAGIC, START)
    while at >= 0:
        if _read(view, at, None) is not None:
            raise CorruptError(
                f"the header of the commit log is damaged, and there is a record at byte {at}; "
                "move the file away to give up what is in it and has not been shipped"
            )
        at = data.find(MAGIC, at + 1)


def _read(view: memoryview, at: int, generation: int | None) -> tuple[LogRecord, int, int] | None:
    """The record at `at`, of one generation or of any, how far it says the file was durable, and its length."""
    if len(view) - at < HEAD_SIZE or bytes(view[at : at + 4]) != MAGIC:
        return None
    _, length, commit_length, branch_length, its, durable, epoch, txid = _HEAD.unpack_from(view, at)
    if generation is not None and its != generation:
        return None
    if length != HEAD_SIZE + branch_length + commit_length or at + length > len(view):
        return None
    body = at + HEAD_SIZE
    (crc,) = _CRC.unpack_from(view, at + _HEAD.size)
    if crc != crc32(view[body : at + length], crc32(view[at : at + _HEAD.size])):
        return None
    branch = bytes(view[body : body + branch_length]).decode()
    commit = bytes(view[body + branch_length : at + length])
    return LogRecord(branch, epoch, TXID(txid), commit), durable, length
