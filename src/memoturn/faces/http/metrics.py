"""`/metrics`: what the server has counted, in the text format of Prometheus.

What happens is counted in plain integers, and looked at when somebody asks: no request and no commit takes a lock for
the sake of a chart, which is why the library's own counters are not used. Labels are routes, codes and kinds of work.
No database, namespace or key is a label: there may be 100,000 of them, and charts are read by more people than data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from memoturn.base.spread import Spread
from memoturn.operations.measures import Measures

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
UNKNOWN: Final = "unknown"
"""The route of a request for which there is none."""


class Requests:
    """The requests that were answered. All of it happens on the event loop."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], int] = {}
        """How many, by the name of the route and the status."""
        self.seconds: dict[str, Spread] = {}
        """From the head of the request to the end of the answer, by the name of the route."""
        self.in_flight = 0

    def begin(self) -> None:
        """A request has come."""
        self.in_flight += 1

    def end(self, route: str | None, status: int, seconds: float) -> None:
        """It was answered, or given up."""
        self.in_flight -= 1
        name = route or UNKNOWN
        self.answers[name, status] = self.answers.get((name, status), 0) + 1
        spread = self.seconds.get(name)
        if spread is None:
            spread = self.seconds[name] = Spread()
        spread.add(seconds)


class Metrics:
    """Tells what was counted by the server, and by the engine beneath it."""

    def __init__(self, requests: Requests, measure: Callable[[], Measures]) -> None:
        self._requests = requests
        self._measure = measure
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """All of it. Takes some milliseconds with many branches open, so not for the event loop."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What Prometheus' library asks of a collector."""
        yield from _of_requests(self._requests)
        yield from _of_engine(self._measure())


def _of_requests(requests: Requests) -> Iterator[Metric]:
    answers = CounterMetricFamily(
        "memoturn_requests", "Requests by route and status.", labels=("route", "status")
    )
    for (route, status), count in list(requests.answers.items()):
        answers.add_metric((route, str(status)), count)
    yield answers
    yield _histogram(
        "memoturn_request_seconds",
        "How long requests took, to the end of the answer.",
        [((route,), spread) for route, spread in list(requests.seconds.items())],
    )
    yield GaugeMetricFamily("memoturn_requests_in_flight", "Requests under way.", requests.in_flight)


def _of_engine(now: Measures) -> Iterator[Metric]:
    yield GaugeMetricFamily("memoturn_hot_databases", "Databases that are open.", now.hot_databases)
    yield GaugeMetricFamily("memoturn_hot_branches", "Branches that are open.", now.hot_branches)
    yield GaugeMetricFamily(
        "memoturn_backlog_bytes", "Bytes of commits that wait to be shipped.", now.backlog_bytes
    )
    yield _one("memoturn_commit_seconds", "From the call of a write to its acknowledgement.", now.commits)
    yield _one("memoturn_log_sync_seconds", "Syncs of the commit log.", now.syncs)
    yield _one("memoturn_log_group_commits", "Commits that one sync of the log served.", now.groups)
    yield _one("memoturn_ship_seconds", "Putting a pack into the store and linking it.", now.ships)
    for name, says, count in (
        ("memoturn_committed_bytes", "Bytes of commits put into the store.", now.committed_bytes),
        ("memoturn_compacted_bytes", "Bytes that compaction put into the store.", now.compacted_bytes),
        ("memoturn_fences", "Times that another writer had taken a branch over.", now.fences),
        ("memoturn_collected_objects", "Dead objects removed from the store.", now.removed_objects),
        ("memoturn_page_reads", "Pages that SQLite asked for.", now.pages_read),
        ("memoturn_page_misses", "Those of them that were not in memory.", now.pages_missed),
        ("memoturn_blocks_fetched", "Blocks of segments read from a remote store.", now.blocks_fetched),
        (
            "memoturn_blocks_on_disk",
            "Blocks of segments found on the local disk instead.",
            now.blocks_on_disk,
        ),
    ):
        yield CounterMetricFamily(name, says, count)
    yield _histogram(
        "memoturn_background_seconds",
        "Pieces of background work: compaction, collection and the others, by how they ended.",
        (((kind, "done" if well else "failed"), spread) for (kind, well), spread in now.work.items()),
        ("kind", "outcome"),
    )


def _one(name: str, says: str, spread: Spread) -> HistogramMetricFamily:
    return _histogram(name, says, [((), spread)], ())


def _histogram(
    name: str,
    says: str,
    spreads: Iterable[tuple[tuple[str, ...], Spread]],
    labels: tuple[str, ...] = ("route",),
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, says, labels=labels)
    for values, spread in spreads:
        bounds = [*map(str, spread.bounds), "+Inf"]
        family.add_metric(
            values, list(zip(bounds, accumulate(spread.counts), strict=True)), sum_value=spread.total
        )
    return family
