"""Garbage collection: how many objects a second it looks at, and how much memory that takes."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Iterator

from bench.measure import Figure
from memoturn import Memoturn
from memoturn.base.clock import SystemClock
from memoturn.base.txids import TXID, UnixMs
from memoturn.manifest import keys, rules
from memoturn.manifest.segment_name import SegmentName

_BRANCHES = 1000
_EACH = 100
"""Segments of a branch, and as many that nothing names any more."""


class _Clock(SystemClock):
    """The time of this machine, moved on."""

    later = 0

    def now_ms(self) -> UnixMs:
        return UnixMs(super().now_ms() + self.later)


def figures() -> Iterator[Figure]:
    """100,000 live and 100,000 dead objects: the pass that counts the dead, and the one that removes them."""
    seconds = []
    for traced in (False, True):
        clock = _Clock()
        with Memoturn("memory:", clock=clock) as mt:
            _fill(mt)
            clock.later += 3_600_000
            gc.collect()
            if traced:
                tracemalloc.start()
            for removed in (0, _BRANCHES * _EACH):
                start = time.process_time()
                done = mt.maintenance.gc()
                seconds.append(time.process_time() - start)
                assert done.removed == removed, done
                clock.later += 3_600_000
            if traced:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
    objects = 2 * _BRANCHES * _EACH
    both = objects / (seconds[0] + seconds[1])
    yield Figure(
        "garbage collection over 100,000 live and 100,000 dead objects, `memory:`",
        "≥ 20,000 objects/s",
        f"{both:,.0f}/s for both passes together ({objects / seconds[0]:,.0f}/s counting, "
        f"{objects / seconds[1]:,.0f}/s removing)",
        "",
        both >= 20_000,
    )
    yield Figure(
        "memory that it takes at most", "< 100 MiB", f"{peak / 2**20:.1f} MiB", "", peak < 100 * 2**20
    )


def _fill(mt: Memoturn) -> None:
    """Branches of one database, each with live segments and as many dead ones."""
    mt.databases.create("a")
    engine = mt._engine
    db_uuid = engine.entry("a").db_uuid
    now = engine.clock.now_ms()
    for number in range(_BRANCHES):
        name, incarnation = f"b{number}", f"b_{engine.ids.ulid(now)}"
        manifest = rules.root(name, incarnation, now)
        for txid in range(1, _EACH + 1):
            segment = SegmentName.pack(0, TXID(txid), TXID(txid), 0)
            manifest = rules.append(manifest, 0, segment)
            for each in (segment, segment._replace(mark=f"{txid:08x}")):
                engine.bucket.put(keys.segment_key(db_uuid, incarnation, str(each)), b"x")
        engine.manifests.create(keys.manifest_key(db_uuid, name), manifest)
