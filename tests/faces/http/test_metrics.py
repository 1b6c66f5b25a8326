"""/metrics tells what has happened, in a format that Prometheus reads, and names nothing that users keep."""

from __future__ import annotations

import contextlib

from prometheus_client.parser import text_string_to_metric_families

from memoturn.base.errors import FencedError
from memoturn.base.spread import Spread
from memoturn.faces.http.metrics import Metrics, Requests
from memoturn.operations.measures import measure
from tests.conftest import Opener
from tests.support import branch_of, engine_of

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(metrics: Metrics) -> Samples:
    """What a scrape finds, by name and labels."""
    found: Samples = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def one(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


def test_a_spread_counts_each_value_up_to_its_bound() -> None:
    spread = Spread((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 99.0):
        spread.add(value)
    assert (spread.counts, spread.total, spread.count) == ([2, 2, 1], 104.0, 5)


def test_requests_are_counted_by_route_and_status(open_store: Opener) -> None:
    engine = engine_of(open_store())
    requests = Requests()
    metrics = Metrics(requests, lambda: measure(engine))
    for _ in range(3):
        requests.begin()
    requests.end("kv.get", 200, 0.0004)
    requests.end("kv.get", 404, 0.3)
    samples = scraped(metrics)
    assert one(samples, "memoturn_requests_total", route="kv.get", status="200") == 1
    assert one(samples, "memoturn_requests_total", route="kv.get", status="404") == 1
    assert one(samples, "memoturn_request_seconds_count", route="kv.get") == 2
    assert one(samples, "memoturn_request_seconds_bucket", route="kv.get", le="0.0005") == 1
    assert one(samples, "memoturn_request_seconds_bucket", route="kv.get", le="+Inf") == 2
    assert one(samples, "memoturn_requests_in_flight") == 1
    requests.end(None, 404, 0.1)
    assert one(scraped(metrics), "memoturn_requests_total", route="unknown", status="404") == 1


def test_what_the_engine_does_is_counted(open_store: Opener, file_url: str) -> None:
    mt = open_store(file_url)
    engine = engine_of(mt)
    metrics = Metrics(Requests(), lambda: measure(engine))
    before = scraped(metrics)
    for name in ("a", "b"):
        mt.databases.create(name)
        mt.db(name).sql("CREATE TABLE t(v)")
        mt.db(name).sql("INSERT INTO t VALUES (zeroblob(100000))")
    unshipped = scraped(metrics)
    mt.db("a").sync()
    mt.db("b").sync()
    after = scraped(metrics)

    def grew(name: str) -> float:
        return one(after, name) - one(before, name)

    assert one(before, "memoturn_hot_databases") == 0
    assert one(after, "memoturn_hot_databases") == one(after, "memoturn_hot_branches") == 2
    assert one(unshipped, "memoturn_backlog_bytes") >= 0
    assert one(after, "memoturn_backlog_bytes") == 0
    assert grew("memoturn_commit_seconds_count") == 4
    assert grew("memoturn_log_group_commits_sum") == 4
    assert grew("memoturn_log_sync_seconds_count") == grew("memoturn_log_group_commits_count") == 4
    assert grew("memoturn_ship_seconds_count") >= 2
    assert grew("memoturn_committed_bytes_total") > 0

    branch_of(mt.db("a")).forget()
    reads = one(scraped(metrics), "memoturn_page_reads_total")
    assert mt.db("a").sql("SELECT length(hex(v)) AS n FROM t") == [{"n": 200000}]
    read = one(scraped(metrics), "memoturn_page_reads_total") - reads
    assert read >= 25
    missed = one(scraped(metrics), "memoturn_page_misses_total") - one(after, "memoturn_page_misses_total")
    assert missed < read


def test_compaction_collection_and_fences_are_counted(open_store: Opener, tmp_path: object) -> None:
    url = f"file:{tmp_path}/store"
    mt = open_store(url)
    engine = engine_of(mt)
    metrics = Metrics(Requests(), lambda: measure(engine))
    mt.databases.create("x")
    db = mt.db("x")
    db.sql("CREATE TABLE t(v)")
    for _ in range(20):
        db.sql("INSERT INTO t VALUES (1)")
        db.sync()
    mt.maintenance.compact("x")
    assert one(scraped(metrics), "memoturn_compacted_bytes_total") > 0

    branch = branch_of(db)
    branch._fence(branch.manifest())
    with contextlib.suppress(FencedError):
        db.sql("INSERT INTO t VALUES (2)")
    assert one(scraped(metrics), "memoturn_fences_total") == 1


def test_no_label_names_what_users_keep(open_store: Opener) -> None:
    mt = open_store()
    mt.databases.create("marked-database")
    db = mt.db("marked-database")
    db.branch.create("marked-branch")
    db.kv.put("marked-space", "marked-key", b"marked-value")
    engine = engine_of(mt)
    assert b"marked" not in Metrics(Requests(), lambda: measure(engine)).text()
