"""An object ends with a sealed trailer of fixed size that tells what the rest is."""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

from memoturn.base.errors import CorruptError
from memoturn.segments.frame import crc32

_SEAL: Final = struct.Struct("<II4s")
"""Version, CRC-32 of everything in the trailer before it, magic."""


class NeedMore(NamedTuple):
    """The tail was too short to read its table: take the last `length` bytes of the object instead."""

    length: int


class Trailer(NamedTuple):
    """A kind of trailer: the word for it in errors, its magic, its version and its fields."""

    kind: str
    magic: bytes
    version: int
    fields: struct.Struct

    @property
    def size(self) -> int:
        """Bytes of the whole trailer, at the very end of the object."""
        return self.fields.size + _SEAL.size

    def seal(self, *values: int) -> bytes:
        """The trailer that carries these values."""
        body = self.fields.pack(*values) + self.version.to_bytes(4, "little")
        return body + crc32(body).to_bytes(4, "little") + self.magic

    def open(
        self, tail: memoryview, object_size: int, former: Trailer | None = None
    ) -> tuple[Any, ...] | NeedMore:
        """The values of the trailer at the end of `tail`; raises `CorruptError` for anything else.

        `former` is the trailer of the version before, shorter than this one; its values are fewer.
        """
        if former is not None and (object_size < self.size or _version(tail) == former.version):
            return former.open(tail, object_size)
        if object_size < self.size or len(tail) > object_size:
            raise CorruptError(
                f"{self.kind}: {len(tail)} bytes of an object of {object_size} cannot be the end of one"
            )
        size = self.size
        if len(tail) < size:
            return NeedMore(size)
        version, crc, magic = _SEAL.unpack_from(tail, len(tail) - _SEAL.size)
        if magic != self.magic:
            raise CorruptError(f"{self.kind}: ends with {magic!r} instead of {self.magic!r}")
        found = crc32(tail[-size:-8])
        if found != crc:
            raise CorruptError(f"{self.kind}: trailer gives CRC-32 {found:08x}, but says {crc:08x}")
        if version != self.version:
            raise CorruptError(f"{self.kind}: version {version}; this release reads version {self.version}")
        return self.fields.unpack_from(tail, len(tail) - size)


def _version(tail: memoryview) -> int | None:
    return None if len(tail) < _SEAL.size else int(_SEAL.unpack_from(tail, len(tail) - _SEAL.size)[0])
