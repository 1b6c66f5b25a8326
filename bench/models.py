"""What keys, documents and vectors cost, against the same statements on plain SQLite in the same run."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec

from bench.commits import without_sync
from bench.measure import Figure, Times, measure, measure_both, ratio
from memoturn import Memoturn
from memoturn.models import documents, kv

_KEYS = [f"key-{number:04}" for number in range(1000)]
_VALUES = [hashlib.shake_128(key.encode()).hexdigest(50).encode() for key in _KEYS]
_DOCUMENTS = [
    {"name": key, "age": number % 90, "tags": ["a", "b"], "address": {"city": "Bern", "zip": 3000 + number}}
    for number, key in enumerate(_KEYS)
]
_DIMENSION = 384


def figures(scratch: Path) -> Iterator[Figure]:
    """Each call is a transaction; plain SQLite writes a file in WAL mode that it does not sync, and we a log."""
    for store in ("memory", "file"):
        with without_sync():
            yield from _keys(_directory(scratch, f"{store}-keys"), store)
            yield _insert(_directory(scratch, f"{store}-documents"), store)
    yield from _vectors()


def _directory(scratch: Path, name: str) -> Path:
    directory = scratch / name
    directory.mkdir()
    return directory


def _url(scratch: Path, store: str) -> str:
    return "memory:" if store == "memory" else f"file:{scratch / 'store'}"


def _plain(scratch: Path, name: str, schema: str) -> apsw.Connection:
    connection = apsw.Connection(str(scratch / name))
    connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF").fetchall()
    connection.execute(schema).fetchall()
    return connection


def _keys(scratch: Path, store: str) -> Iterator[Figure]:
    plain = _plain(scratch, "kv.sqlite", kv.SCHEMA)
    keys = [key.encode() for key in _KEYS]
    with Memoturn(_url(scratch, store)) as mt:
        mt.databases.create("a")
        ours = mt.db("a").kv
        for number, key in enumerate(_KEYS):
            ours.put("n", key, _VALUES[number])
            plain.execute(kv._PUT, ("n", keys[number], _VALUES[number], None, None, number))
        get = measure_both(
            lambda n: ours.get("n", _KEYS[n % 1000]),
            lambda n: plain.execute(kv._GET, ("n", keys[n % 1000])).fetchall(),
            20_000,
        )
        put = measure_both(
            lambda n: ours.put("n", _KEYS[n * 7 % 1000], _VALUES[n * 11 % 1000]),
            lambda n: plain.execute(
                kv._PUT, ("n", keys[n * 7 % 1000], _VALUES[n * 11 % 1000], None, None, n)
            ),
            10_000,
        )
    plain.close()
    yield _against(f"KV get, hot, `{store}:`", 3, *get)
    yield _against(f"KV put, hot, `{store}:`, before fsync", 16, *put)


def _insert(scratch: Path, store: str) -> Figure:
    table = documents.table_of("people")
    plain = _plain(scratch, "docs.sqlite", table.schema)
    texts = [msgspec.json.encode(document).decode() for document in _DOCUMENTS]
    with Memoturn(_url(scratch, store)) as mt:
        mt.databases.create("a")
        ours = mt.db("a").docs
        both = measure_both(
            lambda n: ours.insert("people", _DOCUMENTS[n % 1000]),
            lambda n: plain.execute(table.insert, (f"01MCBE4M{n:018}", texts[n % 1000])),
            10_000,
        )
    plain.close()
    return _against(f"document insert, hot, `{store}:`, before fsync", 15, *both)


def _against(name: str, most: float, ours: Times, theirs: Times) -> Figure:
    return Figure(
        name,
        f"p50 ≤ {most:g} µs, ≤ 1.5× plain SQLite",
        f"{ours}, {ratio(ours.p50, theirs.p50)}",
        str(theirs),
        ours.p50 <= most and ours.p50 <= 1.5 * theirs.p50,
    )


def _vectors() -> Iterator[Figure]:
    with Memoturn("memory:") as mt:
        mt.databases.create("a")
        db = mt.db("a")
        vectors = [_vector(number) for number in range(10_000)]
        items = [{"id": f"{n:05}", "vector": v, "meta": {"n": n % 10}} for n, v in enumerate(vectors)]
        db.vectors.upsert_many("c", items)
        db.vectors.search("c", vectors[0])
        hot = measure(lambda n: db.vectors.search("c", vectors[n % 1000]), 300, warm=10)
        filtered = measure(lambda n: db.vectors.search("c", vectors[n], filter={"n": 3}), 30, warm=3)
        cold = measure(lambda n: db.vectors.search("c", vectors[n], metric="l2"), 30, warm=3)
        upsert = measure(lambda n: db.vectors.upsert("c", f"{n:05}", vectors[n + 7]), 1000)
    name = f"vector search, 10,000 × {_DIMENSION}"
    yield Figure(f"{name}, the 10 nearest, with the matrix", "reported", str(hot), "", None)
    yield Figure(f"{name}, the 10 nearest of a tenth that fits a filter", "reported", str(filtered), "", None)
    yield Figure(f"{name}, by SQL alone", "reported", str(cold), "", None)
    yield Figure(f"vector upsert into 10,000 × {_DIMENSION}, `memory:`", "reported", str(upsert), "", None)


def _vector(number: int) -> list[float]:
    noise = hashlib.shake_128(number.to_bytes(8, "big")).digest(_DIMENSION * 2)
    return [float(value) for value in struct.unpack(f"<{_DIMENSION}h", noise)]
