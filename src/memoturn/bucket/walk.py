"""The files below a directory in the order of their keys, holding the names of one directory a level."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from memoturn.base.txids import UnixMs
from memoturn.bucket.bucket import ObjectInfo
from memoturn.bucket.durable import reporting


def walk(root: str, directory: str, prefix: str, after: str | None) -> Iterator[ObjectInfo]:
    """The objects in `directory` (empty, or ending with `/`) that begin with `prefix` and follow `after`."""
    for name in _names(root, directory):
        key = directory + name
        if name.endswith("/"):
            if (key.startswith(prefix) or prefix.startswith(key)) and _may_follow(key, after):
                yield from walk(root, key, prefix, after)
        elif key.startswith(prefix) and (after is None or key > after):
            with reporting(root, "listed"):
                try:
                    found = os.stat(f"{root}/{key}")
                except FileNotFoundError:
                    continue
            yield ObjectInfo(key, found.st_size, UnixMs(found.st_mtime_ns // 1_000_000))


def _may_follow(directory: str, after: str | None) -> bool:
    return after is None or directory > after or after.startswith(directory)


def _names(root: str, directory: str) -> Sequence[str]:
    """What is in a directory; its directories end with `/`, as they do in keys, which settles their order."""
    with reporting(root, "listed"):
        try:
            with os.scandir(f"{root}/{directory}") as entries:
                return sorted(
                    e.name + "/" if e.is_dir() else e.name for e in entries if not e.name.startswith(".")
                )
        except (FileNotFoundError, NotADirectoryError):
            return ()
