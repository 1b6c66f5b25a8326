"""Reading along in a log that is being written, cut and changed under the reader's eyes."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from memoturn.base.txids import TXID
from memoturn.database import log as module
from memoturn.database.follow import LogFollower
from memoturn.database.group import LogFailedError
from memoturn.database.log import CommitLog
from memoturn.database.published import PAGE_BYTES, Published, Synced, newest, read_state
from memoturn.database.record import START, pack_record
from tests.database.faulty import FaultyDirectory, StepClock

BRANCH = "d/b/i"


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_FILE_BYTES", START + 2000)
    monkeypatch.setattr(module, "FILE_BYTES", START + 2000)


class Pair:
    """A log and a follower of it, in step with each other only as the test wants."""

    def __init__(self) -> None:
        self.directory = FaultyDirectory()
        self.page = bytearray(PAGE_BYTES)
        published = Published(memoryview(self.page))
        self.log = CommitLog(self.directory, StepClock(), published.synced, published.failed)
        self.alive = True
        self.between: Callable[[], None] = lambda: None
        """What the writer does after the follower has read what is published, and before it reads the files."""
        self.follower = LogFollower(self.directory, self._synced)
        self.txid = 0

    def _synced(self) -> tuple[bool, Synced]:
        state = self.alive, read_state(bytes(self.page))
        between, self.between = self.between, lambda: None
        between()
        return state

    def commit(self, count: int = 1) -> None:
        for _ in range(count):
            self.txid += 1
            self.log.commit(BRANCH.encode(), 1, TXID(self.txid), bytes(500))

    def ship(self, txid: int | None = None) -> None:
        self.log.shipped(BRANCH.encode(), TXID(txid or self.txid))

    def seen(self) -> set[int]:
        self.follower.look()
        return {record.txid for record in self.follower.records_of(BRANCH)}


def test_every_commit_is_seen_when_it_is_synced() -> None:
    pair = Pair()
    assert pair.seen() == set()
    for txid in range(1, 30):
        pair.commit()
        assert pair.seen() == set(range(1, txid + 1))
    assert pair.follower.branches() == {BRANCH}


def test_unsynced_commit_is_not_seen() -> None:
    pair = Pair()
    pair.commit()
    looked: list[set[int]] = []
    pair.directory.on_sync = lambda: looked.append(pair.seen())
    pair.commit()
    assert looked == [{1}]
    assert pair.seen() == {1, 2}


def test_unsynced_commit_in_a_new_file_is_not_seen() -> None:
    """Between the follower's look at what is published and at the files the writer changes its file."""
    pair = Pair()
    pair.commit(3)

    def go_on() -> None:
        pair.commit()
        file = pair.log._active
        assert file is not None
        assert file.name == "000002.log"
        unsynced = pack_record(BRANCH.encode(), 1, TXID(5), bytes(500), file.generation, file.end)
        file.file.write(unsynced, file.end)

    pair.between = go_on
    assert pair.seen() == {1, 2, 3, 4}


@pytest.mark.parametrize("commits", range(1, 12))
def test_file_that_was_changed_during_the_look_is_read_to_its_end_later(commits: int) -> None:
    """A file that became active after the follower had learned which one is must not count as complete."""
    pair = Pair()
    pair.commit(3)
    assert pair.seen() == {1, 2, 3}
    pair.between = lambda: pair.commit(commits)
    pair.seen()
    pair.commit(5)
    assert pair.seen() == set(range(1, pair.txid + 1))
    pair.alive = False
    assert pair.seen() == set(range(1, pair.txid + 1)), "acknowledged commits are missed at the takeover"


@pytest.mark.parametrize("before", range(1, 8))
def test_file_that_is_cut_and_used_again_during_the_look_is_read_anew(before: int) -> None:
    pair = Pair()
    pair.commit(before)
    pair.seen()

    def cut() -> None:
        pair.ship()
        pair.commit(7)
        pair.ship(pair.txid - 2)
        pair.commit(3)

    pair.between = cut
    unshipped = set(range(before + 6, before + 11))
    assert unshipped <= pair.seen()
    pair.alive = False
    assert unshipped <= pair.seen()


def test_failed_file_ends_where_it_was_synced() -> None:
    pair = Pair()
    pair.commit(2)
    pair.directory.fail("sync", pair.directory.calls["sync"] + 1, OSError(errno.EIO, "injected"))
    with pytest.raises(LogFailedError):
        pair.commit()
    pair.commit()
    assert pair.seen() == {1, 2, 4}
    pair.alive = False
    assert pair.seen() == {1, 2, 4}


def test_writer_that_stops_while_it_publishes_leaves_a_whole_state() -> None:
    """Whatever store it was stopped before, a reader sees the old state or the new one, and never waits."""

    class StoppedError(Exception):
        pass

    class Page:
        def __init__(self, left: int) -> None:
            self.content = bytearray(PAGE_BYTES)
            self.left = left

        def step(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise StoppedError

        def cast(self, _code: str) -> Words:
            return Words(self)

        def __setitem__(self, where: slice, data: bytes) -> None:
            for at, byte in enumerate(data, where.start):
                if at % 8 == 0:
                    self.step()
                self.content[at] = byte

    class Words:
        def __init__(self, page: Page) -> None:
            self._words = memoryview(page.content).cast("Q")
            self._page = page

        def __setitem__(self, at: int, word: int) -> None:
            self._page.step()
            self._words[at] = word

    story = [
        ("000001.log", START),
        ("000001.log", 5000),
        ("000001.log", 6000),
        ("000002.log", START),
        ("000002.log", 7),
    ]
    allowed = [(0, None, 0)]
    allowed += [(sum(end == START for _, end in story[:n]), *story[n - 1]) for n in range(1, len(story) + 1)]
    newest_seen = 0
    for left in range(200):
        page = Page(left)
        published = Published(page)  # type: ignore[arg-type]
        try:
            for name, end in story:
                published.synced(name, end)
        except StoppedError:
            pass
        state = read_state(bytes(page.content))
        seen = allowed.index((state.cuts, state.active, state.end))
        assert seen >= newest_seen, "an older state came back"
        newest_seen = seen
        if page.left >= 0:
            assert (state.active, state.end) == story[-1]
            return
    raise AssertionError("five states take more than 200 stores")


def test_states_carry_failed_files_and_forget_the_oldest() -> None:
    page = bytearray(PAGE_BYTES)
    published = Published(memoryview(page))
    assert read_state(bytes(page)) == Synced(0, None, 0, {})
    assert read_state(b"") == Synced(0, None, START, {})
    for number in range(1, 301):
        published.failed(f"{number:06d}.log", START + number)
    published.synced("000301.log", START)
    published.synced("000301.log", 9000)
    state = read_state(bytes(page))
    assert (state.cuts, state.active, state.end) == (1, "000301.log", 9000)
    assert state.failed["000300.log"] == START + 300
    assert "000001.log" not in state.failed
    assert newest(bytes(page)) > 300
