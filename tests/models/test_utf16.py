"""An imported database may be encoded in UTF-16; the models work in it as in any other."""

from __future__ import annotations

from pathlib import Path

import apsw

from memoturn import Memoturn


def test_the_models_work_in_a_database_in_utf16(mt: Memoturn, tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "wide.sqlite"))
    connection.execute(
        "PRAGMA encoding = 'UTF-16le'; CREATE TABLE t(v); INSERT INTO t VALUES ('é')"
    ).fetchall()
    connection.close()
    mt.databases.import_file("wide", tmp_path / "wide.sqlite")
    db = mt.db("wide")
    keys = ["a", "é", "\uffff", "\U00010000", "\U0010ffff"]
    for key in reversed(keys):
        db.kv.put("n", key, key, meta={"is": key})
    assert [one.key for one in db.kv.keys("n")] == keys
    assert [one.key for one in db.kv.keys("n", "\U00010000")] == ["\U00010000"]
    db.docs.insert("c", [{"_id": key, "v": key, 'q"\\\x00': {"é": [key]}} for key in keys])
    db.docs.create_index("c", "v")
    for key in keys:
        assert db.docs.find("c", {"v": key, 'q"\\\x00.é.0': key}) == [
            {"_id": key, "v": key, 'q"\\\x00': {"é": [key]}}
        ]
        assert db.docs.explain("c", {"v": key}).indexes == ["v"]
        assert db.docs.count("c", {"v": {"$in": [key]}}) == 1
    db.turns.append("s", "user", "Müller drinks tea", [1, 2])
    assert [turn.content for turn in db.turns.search("müllers drink")] == ["Müller drinks tea"]
    assert [turn.seq for turn in db.turns.search(vector=[1, 2])] == [1]
    db.vectors.upsert("c", "é", [1, 2], {"v": "é"})
    assert [hit.id for hit in db.vectors.search("c", [1, 2], filter={"v": "é"})] == ["é"]
    assert db.sql("SELECT v FROM t") == [{"v": "é"}]


def test_memories_are_found_in_a_database_in_utf16(mt: Memoturn, tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "wide.sqlite"))
    connection.execute("PRAGMA encoding = 'UTF-16be'; CREATE TABLE t(v)").fetchall()
    connection.close()
    mt.databases.import_file("acme--alice", tmp_path / "wide.sqlite")
    alice = mt.memory("acme", "alice")
    first = {"type": "fact", "topic_key": "é", "summary": "Müller drinks tea \U0001f375", "embedding": [1, 2]}
    one = alice.ingest([{**first, "session_id": "\U00010000", "content": {"é": "\x00"}}]).memories[0].id
    alice.ingest([{"type": "fact", "topic_key": "é", "summary": "Müller trinkt Kaffee"}])
    alice.db.turns.append("\U00010000", "é", "müllers tea")
    hits = alice.recall("müllers drink", include_superseded=True, include_turns=True)
    assert [hit.summary for hit in hits][:1] == ["Müller drinks tea \U0001f375"]
    assert [hit.summary for hit in alice.recall(topic_key="é")] == ["Müller trinkt Kaffee"]
    assert [hit.type for hit in alice.recall("tea", include_turns=True)] == ["turn"]
    bob = mt.memory("acme", "bob")
    bob.import_lines(alice.export_lines())
    assert list(bob.export_lines()) == list(alice.export_lines())
    alice.forget(one)
    assert alice.get(one) is None
    assert alice.db.sql("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
