"""A piece of memory that processes of one machine share: a small file, mapped."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from typing import Final

_CANNOT: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What a file system says that cannot allocate."""


def map_shared(fd: int, size: int) -> mmap.mmap:
    """The first `size` bytes of a file as memory, zero where nothing was written. Raises `OSError`.

    The bytes are really allocated: a store into a hole of a file kills the process when the disk is full.
    """
    if not _allocate(fd, size):
        # Under a lock, because somebody else may be writing to it as soon as it is long enough.
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            have = os.fstat(fd).st_size
            while have < size:
                have += os.pwrite(fd, bytes(size - have), have)
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)
    return mmap.mmap(fd, size)


def _allocate(fd: int, size: int) -> bool:
    """Allocate the bytes and keep what is in them; False if this cannot be done here."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True
