"""The nearest vectors are the nearest, whatever is kept in memory, on every branch and at every position."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from memoturn import Database, InvalidRequestError, Memoturn, MemoturnError
from memoturn.base.errors import SqlError
from memoturn.models import embedding
from memoturn.models import matrix as hot
from memoturn.models import vectors as model
from memoturn.models.filters import compile_filter
from tests.models.branching import Branching
from tests.support import assert_whole, branch_of, engine_of, plain_connection


def ids(hits: Any) -> list[str]:
    return [hit.id for hit in hits]


def exact(db: Database, collection: str, vector: Any, k: int) -> list[model.Hit]:
    """What SQL alone says."""
    branch = branch_of(db)
    with branch.readers.on(branch.head()) as connection:
        table, blob = model.table_of(collection), embedding.encode(vector)
        return model.nearest(connection, table, blob, k, compile_filter(None), "cosine")


def matrices(mt: Memoturn) -> list[hot.Matrix]:
    derived = engine_of(mt).derived
    return [
        kept
        for half in (derived._young, derived._old)
        for kept in half.values()
        if isinstance(kept, hot.Matrix)
    ]


# Vectors.


def test_a_vector_comes_back_as_32_bit_floats(db: Database) -> None:
    done = db.vectors.upsert("notes", "a", [0.1, -2, 3e-5], {"kind": "x", "n": [1]})
    assert (done.upserted, done.txid) == (1, 2)
    entry = db.vectors.get("notes", "a")
    assert entry is not None
    assert (entry.id, entry.meta) == ("a", {"kind": "x", "n": [1]})
    assert entry.vector == [float(np.float32(v)) for v in (0.1, -2, 3e-5)]
    db.vectors.upsert("notes", "a", np.array([1, 2, 3], dtype=np.float64))
    entry = db.vectors.get("notes", "a")
    assert entry is not None
    assert (entry.vector, entry.meta) == ([1, 2, 3], None)
    assert db.vectors.get("notes", "b") is None
    assert [(c.name, c.dimension, c.vectors) for c in db.vectors.collections()] == [("notes", 3, 1)]


def test_the_first_vector_fixes_the_dimension(db: Database) -> None:
    db.vectors.upsert("c", "a", [1, 2])
    for call in (
        lambda: db.vectors.upsert("c", "b", [1, 2, 3]),
        lambda: db.vectors.search("c", [1, 2, 3]),
        lambda: db.vectors.upsert_many("c", [{"id": "b", "vector": [1, 2]}, {"id": "c", "vector": [1]}]),
    ):
        with pytest.raises(InvalidRequestError, match="those of collection 'c' have 2"):
            call()
    with pytest.raises(InvalidRequestError, match="have 3"):
        db.vectors.upsert_many("new", [{"id": "b", "vector": [1, 2, 3]}, {"id": "c", "vector": [1]}])
    assert db.txid == 2
    assert db.vectors.delete("c", "a").deleted
    with pytest.raises(InvalidRequestError):
        db.vectors.upsert("c", "b", [1, 2, 3])
    db.branch.rewind(1)
    db.vectors.upsert("c", "b", [1, 2, 3])


def test_the_nearest_come_first_and_ties_go_by_id(db: Database) -> None:
    for id_, vector in (("d", [1, 0]), ("b", [5, 0]), ("c", [0, 1]), ("a", [-1, 0])):
        db.vectors.upsert("c", id_, vector, {"is": id_})
    found = db.vectors.search("c", [3, 0.3])
    assert ids(found) == ["b", "d", "c", "a"]
    cosine = 3 / math.hypot(3, 0.3)
    assert [hit.distance for hit in found] == pytest.approx(
        [1 - cosine, 1 - cosine, 1 - 0.1 * cosine, 1 + cosine], abs=1e-6
    )
    assert [hit.meta for hit in found] == [{"is": hit.id} for hit in found]
    assert found.txid == 5
    near = db.vectors.search("c", [1, 0.1], k=2, metric="l2")
    assert ids(near) == ["d", "c"]
    assert near[0].distance == pytest.approx(0.1, abs=1e-6)


def test_a_tie_at_the_cut_goes_by_id(db: Database, eager: None) -> None:
    for id_ in "edcba":
        db.vectors.upsert("c", id_, [1, 1])
    for _ in range(3):
        assert ids(db.vectors.search("c", [2, 2], k=2)) == ["a", "b"]


def test_a_filter_never_starves_the_result(db: Database) -> None:
    db.vectors.upsert_many(
        "c", [{"id": f"near{n}", "vector": [1, n / 1e4], "meta": {"lang": "en"}} for n in range(200)]
    )
    db.vectors.upsert_many(
        "c", [{"id": f"far{n}", "vector": [-1, n], "meta": {"lang": "de", "n": n}} for n in range(5)]
    )
    for _ in range(3):
        found = db.vectors.search("c", [1, 0], k=3, filter={"lang": "de", "n": {"$lt": 4}})
        assert ids(found) == ["far3", "far2", "far1"]
    assert db.vectors.search("c", [1, 0], filter={"lang": "fr"}) == []
    assert ids(db.vectors.search("c", [1, 0], filter={"_id": "near7"})) == ["near7"]
    assert len(db.vectors.search("c", [1, 0], k=5000)) == 205


def test_what_is_read_before_anything_was_kept_is_empty_and_makes_nothing(db: Database) -> None:
    assert db.vectors.search("c", [1, 2]) == []
    assert db.vectors.get("c", "a") is None
    assert not db.vectors.delete("c", "a").deleted
    assert db.vectors.collections() == []
    db.vectors.upsert("other", "a", [1])
    assert db.vectors.search("c", [1, 2]) == []
    assert not db.vectors.delete("c", "a").deleted
    assert db.at(1).vectors.search("other", [1]) == []
    with pytest.raises(InvalidRequestError, match="read-only"):
        db.at(2).vectors.upsert("other", "b", [1])
    with pytest.raises(InvalidRequestError, match="read-only"):
        db.at(2).vectors.delete("other", "a")
    assert db.txid == 2


def test_collections_are_told_apart_by_capitals(db: Database) -> None:
    for number, name in enumerate(("notes", "Notes", "nOTES"), 1):
        db.vectors.upsert(name, name, [1] * number)
    assert [(c.name, c.dimension) for c in db.vectors.collections()] == [
        ("Notes", 2),
        ("nOTES", 3),
        ("notes", 1),
    ]
    assert ids(db.vectors.search("Notes", [1, 1])) == ["Notes"]


@pytest.mark.parametrize(
    "vector",
    [
        None, "12", b"12345678", 5, [], {}, {1: 2}, [None], ["1"], [[1]], [1, "x"], [float("nan")], [1, float("inf")],
        [0, 0], [1e39, 1], [1e19], [1e-19, 0], [10**400], [1] * 8193, np.zeros((2, 2)), np.array(1.0), iter([1]),
        {1, 2},
    ],
)  # fmt: skip
def test_a_vector_that_cannot_be_is_refused(db: Database, vector: Any) -> None:
    db.vectors.upsert("c", "a", [1, 2])
    for call in (lambda: db.vectors.upsert("c", "b", vector), lambda: db.vectors.search("c", vector)):
        with pytest.raises(InvalidRequestError):
            call()
    assert db.txid == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda v: v.upsert("", "a", [1]),
        lambda v: v.upsert("a b", "a", [1]),
        lambda v: v.upsert(None, "a", [1]),
        lambda v: v.upsert("c", "", [1]),
        lambda v: v.upsert("c", 7, [1]),
        lambda v: v.upsert("c", "x" * 513, [1]),
        lambda v: v.upsert("c", "\ud800", [1]),
        lambda v: v.upsert("c", "a", [1], "meta"),
        lambda v: v.upsert("c", "a", [1], {"a": float("nan")}),
        lambda v: v.upsert("c", "a", [1], {"a": "x" * (1 << 20)}),
        lambda v: v.upsert_many("c", []),
        lambda v: v.upsert_many("c", [{"id": "a"}]),
        lambda v: v.upsert_many("c", [{"id": "a", "vector": [1], "x": 1}]),
        lambda v: v.upsert_many("c", {"id": "a", "vector": [1]}),
        lambda v: v.search("c", [1], k=0),
        lambda v: v.search("c", [1], k="3"),
        lambda v: v.search("c", [1], filter={"a": {"$near": 1}}),
        lambda v: v.search("c", [1], filter=[]),
        lambda v: v.search("c", [1], metric="dot"),
        lambda v: v.search("c", [1], metric=None),
        lambda v: v.get("c", ""),
        lambda v: v.delete("c", None),
    ],
)
def test_a_request_that_cannot_be_is_refused(db: Database, call: Any) -> None:
    with pytest.raises(MemoturnError) as refused:
        call(db.vectors)
    assert refused.value.status in (400, 413)
    assert db.txid == 1


def test_loading_the_extension_opens_no_door(db: Database) -> None:
    db.vectors.upsert("c", "a", [1, 2])
    db.vectors.search("c", [1, 2])
    for statement in (
        "SELECT load_extension('x')",
        "SELECT * FROM __memoturn_vectors",
        'SELECT * FROM "__memoturn_vectors_c"',
    ):
        with pytest.raises((InvalidRequestError, SqlError)):
            db.sql(statement)


def test_an_extension_is_loaded_only_where_distances_are_computed(db: Database) -> None:
    def loaded() -> bool:
        branch = branch_of(db)
        with branch.readers.on(branch.head()) as connection:
            names = connection.execute("SELECT name FROM pragma_function_list").fetchall()
        return ("vec_distance_cosine",) in names

    db.kv.put("n", "k", b"v")
    db.kv.get("n", "k")
    db.vectors.upsert("c", "a", [1, 2])
    assert not loaded()
    db.vectors.search("c", [1, 2])
    assert loaded()


# The matrix.


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a matrix of any collection that is searched twice."""
    monkeypatch.setattr(hot, "MIN_VECTORS", 0)


def test_a_matrix_is_made_when_a_large_collection_is_searched_again(mt: Memoturn, db: Database) -> None:
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((1200, 16))
    db.vectors.upsert_many("c", [{"id": f"{n:04}", "vector": row} for n, row in enumerate(rows)])
    db.vectors.upsert_many("small", [{"id": f"{n:04}", "vector": row} for n, row in enumerate(rows[:100])])
    for number in range(3):
        assert len(matrices(mt)) == (number == 2)
        for name in ("c", "small"):
            assert db.vectors.search(name, rows[5], k=3)[0].id == "0005"
        if number == 0:
            assert matrices(mt) == []
        else:
            assert [len(one.numbers) for one in matrices(mt)] == [1200]
        if number == 1:
            fork = db.branch.create("fork")
            assert ids(fork.vectors.search("c", rows[5])) == ids(db.vectors.search("c", rows[5]))
            assert len(matrices(mt)) == 1


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 40),
    st.sampled_from([1, 2, 3, 64, 384]),
    st.integers(1, 10),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-15, 1e-3, 1.0, 1e15]),
)
def test_the_nearest_are_among_the_candidates(
    count: int, dimension: int, k: int, seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, dimension))
    rows = np.where(np.abs(rows) < 0.01, 0.01, rows) * scale  # None is too short to be compared.
    rows[rng.integers(0, count, count // 2)] = rows[0] * rng.uniform(0.5, 2)
    rows[rng.integers(0, count)] = rows[0] + rng.standard_normal(dimension) * scale * 1e-7
    blobs = [embedding.encode(row) for row in rows]
    wanted = embedding.encode(rng.standard_normal(dimension) if seed % 2 else rows[0])
    among = hot.candidates(hot.matrix(list(enumerate(blobs))), wanted, k)
    assert among is not None
    q = np.array(embedding.decode(wanted), dtype=np.float64)
    kept = np.array([embedding.decode(blob) for blob in blobs], dtype=np.float64)
    cosines = (kept @ q) / (np.linalg.norm(kept, axis=1) * np.linalg.norm(q))
    best = sorted(range(count), key=lambda n: -cosines[n])[:k]
    assert set(best) <= set(among)


def test_too_many_candidates_are_left_to_sql(
    mt: Memoturn, db: Database, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot, "MAX_CANDIDATES", 20)
    db.vectors.upsert_many("c", [{"id": f"{n:02}", "vector": [1, 1]} for n in range(50)])
    for _ in range(3):
        assert ids(db.vectors.search("c", [1, 1], k=3)) == ["00", "01", "02"]
    assert len(matrices(mt)) == 1


class Collections(Branching):
    """A collection on a branch and a fork of it, changed and rewound: the same answers with a matrix as without."""

    @initialize()
    def create(self) -> None:
        self.least, hot.MIN_VECTORS = hot.MIN_VECTORS, 0  # type: ignore[misc]
        self.begin({})
        self.made = 0

    def teardown(self) -> None:
        super().teardown()
        hot.MIN_VECTORS = self.least  # type: ignore[misc]

    @rule(
        which=st.integers(0, 1),
        some=st.dictionaries(
            st.sampled_from("abcdefg"),
            st.tuples(*[st.sampled_from([-1.0, 0.0, 0.1, 1.0])] * 3).filter(any),
            min_size=1,
            max_size=4,
        ),
    )
    def upsert(self, which: int, some: dict[str, tuple[float, ...]]) -> None:
        name = self.branch(which)
        items = [{"id": id_, "vector": vector} for id_, vector in some.items()]
        done = self.db(name).vectors.upsert_many("c", items)
        self.now[name].update({id_: list(vector) for id_, vector in some.items()})
        self.kept(name, done.txid)

    @rule(which=st.integers(0, 1), id_=st.sampled_from("abcdefg"))
    def delete(self, which: int, id_: str) -> None:
        name = self.branch(which)
        done = self.db(name).vectors.delete("c", id_)
        assert done.deleted == (self.now[name].pop(id_, None) is not None)
        if done.deleted:
            self.kept(name, done.txid)

    @rule(which=st.integers(0, 1))
    def something_else(self, which: int) -> None:
        name = self.branch(which)
        self.kept(name, self.db(name).kv.put("n", "k", b"v").txid)

    @rule(which=st.integers(0, 1), back=st.integers(0, 10))
    def search_the_past(self, which: int, back: int) -> None:
        name = self.branch(which)
        positions = sorted(self.then[name])
        txid = positions[-1 - back % len(positions)]
        for _ in range(3):
            found = self.db(name).at(txid).vectors.search("c", [1, 0.5, -0.25])
            assert set(ids(found)) == self.then[name][txid].keys()

    @invariant()
    def answers_are_the_same_with_and_without_a_matrix(self) -> None:
        for name in getattr(self, "now", ()):
            db = self.db(name)
            for vector, k in (([1, 0.5, -0.25], 3), ([1, 1, 1], 10)):
                if not self.now[name]:
                    assert db.vectors.search("c", vector, k) == []
                    continue
                expected = exact(db, "c", vector, k)
                assert len(expected) == min(k, len(self.now[name]))
                for _ in range(3):
                    found = db.vectors.search("c", vector, k)
                    assert [(hit.id, hit.distance) for hit in found] == [
                        (hit.id, hit.distance) for hit in expected
                    ]
                assert matrices(self.mt)


TestCollections = Collections.TestCase
TestCollections.settings = settings(max_examples=40, stateful_step_count=25)


def test_vectors_are_plain_rows_in_an_exported_file(db: Database) -> None:
    db.vectors.upsert("c", "a", [1, 2])
    with plain_connection(branch_of(db).head()) as connection:
        rows = connection.execute("SELECT id, vector FROM __memoturn_vectors_c").fetchall()
    assert [(id_, np.frombuffer(blob, dtype="<f4").tolist()) for id_, blob in rows] == [("a", [1, 2])]
    assert_whole(db)
