"""A base is the database at its txid, or it is not written."""

from __future__ import annotations

from typing import Any, cast

import pytest

from memoturn.base.errors import CorruptError, InternalError
from memoturn.base.txids import LOCK_PAGE, TXID, PageNo
from memoturn.database.environment import Environment
from memoturn.faces.embedded.client import Database, Memoturn
from memoturn.history.bases import _pages, write_base
from memoturn.history.budget import Budget
from memoturn.manifest import keys
from memoturn.manifest.segment_name import SegmentName
from memoturn.pages.store import SegmentStore
from memoturn.pages.view import View
from tests.bucket.faulty import StoppedClock
from tests.history.histories import assert_unchanged, commit, contents, digest
from tests.support import branch_of, engine_of


def test_a_base_at_any_position_has_its_content_and_its_time(mt: Memoturn, db: Database) -> None:
    commit(db, 9)
    branch = branch_of(db)
    before = contents(mt)
    for txid in (10, 5, 1):
        view = branch.view_at(TXID(txid))
        manifest, written = write_base(
            branch._env, branch.db_uuid, branch.look_again(), TXID(txid), Budget(branch._env.clock)
        )
        name = next(s for s in manifest.segments if s.startswith(f"base/{txid}-"))
        key = keys.segment_key(branch.db_uuid, branch.incarnation, name)
        index = branch._env.store.base(key)
        assert (index.checksum, index.time, index.page_count) == (view.checksum, view.time, view.page_count)
        bucket = engine_of(mt).bucket
        assert written == sum(len(bucket.get(each)[0]) for each in (key, keys.base_index_key(key)))
        assert digest(branch.view_at(TXID(txid))) == before["main"][txid]
    assert_unchanged(mt, before)


def test_what_does_not_match_its_checksum_becomes_no_base(
    mt: Memoturn, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(db, 3)
    branch = branch_of(db)
    before = branch.manifest()
    real = View.page

    def page(self: View, page_no: PageNo) -> bytes:
        data = real(self, page_no)
        return b"\1" * len(data) if page_no == 2 else data

    monkeypatch.setattr(View, "page", page)
    engine_of(mt).env.store._pages.clear()
    with pytest.raises(CorruptError, match="but the database at that txid has"):
        write_base(branch._env, branch.db_uuid, before, TXID(4), Budget(branch._env.clock))
    assert branch.look_again() == before
    base = SegmentName.base(TXID(4), 1)
    prefix = keys.segment_key(branch.db_uuid, branch.incarnation, str(base)).rpartition("/")[0]
    assert not list(engine_of(mt).bucket.list(prefix)), "nothing is left in the store"


def test_an_empty_database_has_no_base(mt: Memoturn) -> None:
    mt.databases.create("e")
    branch = branch_of(mt.db("e"))
    with pytest.raises(InternalError, match="is empty"):
        write_base(branch._env, branch.db_uuid, branch.manifest(), TXID(0), Budget(branch._env.clock))


def test_the_lock_page_is_skipped_and_nothing_is_held_but_what_was_cached() -> None:
    page = bytes(4096)

    class Large:
        page_count = LOCK_PAGE + 2

        def version(self, page_no: PageNo) -> Any:
            return ("base", None, page_no)

        def page(self, page_no: PageNo) -> bytes:
            return page

    class Some:
        def cached(self, version: Any) -> bytes | None:
            return page if version[2] == 7 else None

    class Around:
        store = cast("SegmentStore", Some())

    cached: dict[PageNo, Any] = {}
    budget = Budget(StoppedClock())
    count = 0
    for page_no, _ in _pages(cast("Environment", Around()), cast("View", Large()), cached, budget):
        assert page_no != LOCK_PAGE
        count += 1
    assert count == LOCK_PAGE + 1
    assert list(cached) == [7]
