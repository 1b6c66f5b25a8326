"""Log records: what is written is read, what was torn ends quietly, what was durable and is gone is loud."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoturn.base.errors import CorruptError
from memoturn.base.txids import TXID
from memoturn.database.record import (
    START,
    LogRecord,
    check_torn,
    check_unused,
    file_header,
    pack_record,
    read_file_header,
    read_records,
)

GENERATION = 7
commits = st.builds(
    LogRecord,
    st.text(min_size=1, max_size=80),
    st.integers(0, 2**63 - 1),
    st.integers(1, 2**63 - 1).map(TXID),
    st.binary(max_size=300),
)
groups = st.lists(st.lists(commits, min_size=1, max_size=4), min_size=1, max_size=5)
Groups = list[list[LogRecord]]


def written(groups: Groups, generation: int = GENERATION) -> tuple[bytes, list[int]]:
    """A file from `START` on, and where each group begins in it."""
    data, begins = b"", []
    for group in groups:
        begins.append(len(data))
        durable = START + len(data)
        for branch, epoch, txid, commit in group:
            data += pack_record(branch.encode(), epoch, txid, commit, generation, durable)
    return data, begins


def flat(groups: Groups) -> list[LogRecord]:
    return [record for group in groups for record in group]


@given(groups, st.binary(max_size=200))
def test_what_is_written_is_read(groups: Groups, behind: bytes) -> None:
    data, _ = written(groups)
    for rest in (b"", bytes(200), behind):
        records, end = read_records(data + rest, 0, GENERATION)
        assert records == flat(groups)
        assert end == len(data)
        check_torn(data + rest, end, GENERATION, START)


@given(groups, st.data())
def test_tail_torn_anywhere_in_the_last_group_is_quiet(groups: Groups, data: st.DataObject) -> None:
    content, begins = written(groups)
    at = data.draw(st.integers(begins[-1], len(content)))
    filling = data.draw(st.sampled_from([b"", b"\0", b"\xff"]))
    torn = content[:at] + filling * (len(content) - at)
    records, end = read_records(torn, 0, GENERATION)
    assert records == flat(groups)[: len(records)]
    assert len(records) >= len(flat(groups[:-1]))
    check_torn(torn, end, GENERATION, START)


@given(groups, st.data())
def test_sectors_of_the_last_group_may_be_lost_in_any_order(groups: Groups, data: st.DataObject) -> None:
    content, begins = written(groups)
    torn = bytearray(content)
    for start in range(begins[-1], len(content), 64):
        if data.draw(st.booleans()):
            torn[start : start + 64] = bytes(len(torn[start : start + 64]))
    records, end = read_records(bytes(torn), 0, GENERATION)
    assert records == flat(groups)[: len(records)]
    assert len(records) >= len(flat(groups[:-1]))
    check_torn(bytes(torn), end, GENERATION, START)


@given(groups.filter(lambda groups: len(groups) > 1), st.data())
def test_damage_before_the_last_group_is_loud(groups: Groups, data: st.DataObject) -> None:
    content, begins = written(groups)
    at = data.draw(st.integers(0, begins[-1] - 1))
    damaged = bytearray(content)
    damaged[at] ^= data.draw(st.integers(1, 255))
    records, end = read_records(bytes(damaged), 0, GENERATION)
    assert records == flat(groups)[: len(records)]
    with pytest.raises(CorruptError, match=f"damaged at byte {START + end}"):
        check_torn(bytes(damaged), end, GENERATION, START)


@given(groups, groups)
def test_leavings_of_an_earlier_generation_are_neither_read_nor_damage(old: Groups, new: Groups) -> None:
    before, _ = written(old, GENERATION - 1)
    content, _ = written(new)
    data = content + before[len(content) :]
    records, end = read_records(data, 0, GENERATION)
    assert records == flat(new)
    check_torn(data, end, GENERATION, START)


@given(st.binary(max_size=400))
def test_noise_is_no_record(noise: bytes) -> None:
    assert read_records(noise, 0, GENERATION)[0] == []
    check_torn(noise, 0, GENERATION, START)


def test_header_is_read_or_refused() -> None:
    for generation in (1, 2, 2**40):
        header = file_header(generation)
        assert read_file_header(header + bytes(48)) == generation
        for at in range(len(header)):
            for bit in range(8):
                flipped = header[:at] + bytes([header[at] ^ 1 << bit]) + header[at + 1 :]
                assert read_file_header(flipped) is None
    assert read_file_header(bytes(64)) is None
    assert read_file_header(b"MTLF") is None


@given(groups)
def test_records_behind_a_lost_header_are_loud(groups: Groups) -> None:
    content, _ = written(groups)
    with pytest.raises(CorruptError, match="header"):
        check_unused(bytes(START) + content)
    check_unused(bytes(START) + bytes(500))
    check_unused(b"MTLF" + bytes(START))
