"""Parts of a process that tests put in the place of its own: a watch, a shipper, a bucket that tells of each call."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from memoturn.bucket import Bucket
from memoturn.database.shipper import Shippable


class NeverSure:
    """A watch that makes every look at a record a read."""

    tells_owner = False
    owner_age = -1.0  # It has always been too long.

    def __init__(self) -> None:
        self._next = itertools.count().__next__

    def token(self, key: str) -> int:
        return self._next()

    def ring(self, key: str) -> int:
        return self._next()


class NoShipper:
    """Nothing is shipped by itself: the test says when."""

    def __init__(self) -> None:
        self.noticed = 0

    def notice(self, branch: Shippable) -> None:
        self.noticed += 1

    def close(self) -> None:
        pass


class Between:
    """A bucket that calls `before` with the number, the name and the first argument of each call."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.calls = 0
        self.before: Callable[[int, str, Any], None] = lambda _number, _name, _key: None

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._bucket, name)
        if not callable(real):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            self.before(self.calls - 1, name, args[0] if args else "")
            return real(*args, **kwargs)

        return call
