"""What the tests of file buckets share."""

from __future__ import annotations

import os
from pathlib import Path

from memoturn.base.clock import SystemClock
from memoturn.base.ids import Ids
from memoturn.bucket.disk import Disk
from memoturn.bucket.file import FileBucket


def open_at(root: Path, disk: Disk | None = None, open_files: int = 128) -> FileBucket:
    return FileBucket(str(root), clock=SystemClock(), ids=Ids(), disk=disk, open_files=open_files)


def leftovers(root: Path) -> list[str]:
    return os.listdir(root / ".memoturn" / "tmp")


def keys(bucket: FileBucket) -> list[str]:
    return [info.key for info in bucket.list("")]
