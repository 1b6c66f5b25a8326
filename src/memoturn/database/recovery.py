"""Commits that a log holds and the bucket does not: what becomes of them is decided here, once.

A record counts if the manifest still carries the epoch under which it was written, and it continues the head.
Records of an epoch that has passed were either shipped before the branch changed hands, or void.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from memoturn.base.errors import CorruptError
from memoturn.base.txids import TXID
from memoturn.database.logfile import sync_directory
from memoturn.database.logged import decode_logged
from memoturn.database.record import LogRecord
from memoturn.database.tail import Commit
from memoturn.manifest import keys
from memoturn.manifest.model import Manifest
from memoturn.manifest.segment_name import SegmentName
from memoturn.pages.store import SegmentStore
from memoturn.segments.pack_build import build_pack


def surviving(
    records: Iterable[LogRecord], epoch: int, head: TXID, known: Mapping[TXID, Commit] = MappingProxyType({})
) -> list[Commit]:
    """A branch's commits among its records in a log that follow `head` under `epoch`, without a gap.

    `known` are commits that were read before.
    """
    mine = {record.txid: record for record in records if record.epoch == epoch and record.txid > head}
    commits = []
    txid = TXID(head + 1)
    while txid in mine:
        commits.append(known.get(txid) or commit_of(mine[txid]))
        txid = TXID(txid + 1)
    return commits


def overtaken(
    records: Iterable[LogRecord], store: SegmentStore, db_uuid: str, manifest: Manifest
) -> Iterator[tuple[int, list[Commit]]]:
    """What a dead process's log holds of a branch and the bucket never will: commits by the epoch they are of.

    Call it when what survives has been shipped.
    """
    left: dict[int, dict[TXID, Commit]] = {}
    for record in records:
        if record.epoch == manifest.epoch and record.txid <= manifest.head_txid:
            continue
        commit = commit_of(record)
        if not _holds(store, db_uuid, manifest, commit):
            left.setdefault(record.epoch, {})[record.txid] = commit
    for epoch, commits in sorted(left.items()):
        yield epoch, [commit for _, commit in sorted(commits.items())]


def _holds(store: SegmentStore, db_uuid: str, manifest: Manifest, commit: Commit) -> bool:
    """Whether the branch has this commit: one that left the same database under the same txid is the same."""
    for segment in map(SegmentName.parse, manifest.segments):
        if not segment.is_base and segment.min_txid <= commit.txid <= segment.max_txid:
            index = store.pack(keys.segment_key(db_uuid, manifest.incarnation, str(segment)))
            there = index.transaction(commit.txid)
            return there is not None and there.checksum == commit.post_checksum
    return False


def commit_of(record: LogRecord) -> Commit:
    """The commit that a record holds, read and verified. Raises `CorruptError`."""
    header, pages, post_checksum = decode_logged(record.commit)
    if header.max_txid != record.txid:
        raise CorruptError(f"a log record says txid {record.txid}, its commit {header.max_txid}")
    return Commit(header, pages, post_checksum)


def set_aside(directory: Path | None, branch: str, epoch: int, commits: Sequence[Commit]) -> Path | None:
    """Keep commits that another owner has overtaken, as a pack that the LTX tools can read; returns where."""
    if directory is None:
        return None
    name = f"{branch.replace('/', '_')}-{commits[0].txid}-{commits[-1].txid}-{epoch}.ltx"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    with path.open("wb") as file:
        for chunk in build_pack([commit.packed for commit in commits]).chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(directory)
    return path
