"""Addresses and positions: every form is told apart by its shape, and everything else is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoturn.base.errors import InvalidRequestError
from memoturn.base.names import (
    Address,
    AtCheckpoint,
    AtTime,
    AtTxid,
    check_checkpoint_name,
    check_name,
    parse_address,
    parse_position,
)
from memoturn.base.txids import TXID, UnixMs

names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
checkpoints = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True).filter(
    lambda name: not name.isdigit()
)
positions = st.one_of(
    st.integers(0, 2**63 - 1).map(lambda n: AtTxid(TXID(n))),
    st.integers(0, 4_000_000_000_000).map(lambda ms: AtTime(UnixMs(ms))),
    checkpoints.map(AtCheckpoint),
)
addresses = st.one_of(
    st.builds(Address, names, st.none(), st.none(), st.just(False)),
    st.builds(Address, names, names, st.none() | positions, st.just(False)),
)


@given(addresses)
def test_an_address_that_is_written_reads_as_itself(address: Address) -> None:
    assert parse_address(str(address)) == address


@given(st.text(max_size=80))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except InvalidRequestError:
        return
    assert check_name("database", address.database) == address.database


@given(st.text(alphabet="0123456789-:.TZ+ tz", max_size=40) | st.text(max_size=40))
def test_any_text_is_a_position_or_refused(text: str) -> None:
    try:
        position = parse_position(text)
    except InvalidRequestError:
        return
    if isinstance(position, AtTime):
        str(position)
    if text.isdigit() and text.isascii():
        assert isinstance(position, AtTxid)


@pytest.mark.parametrize("value", [None, 1.5, True, b"x", [], -1, "", "٣", object(), datetime(2026, 1, 1)])
def test_what_is_no_position_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequestError):
        parse_position(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, 1, b"x", ["x"]])
def test_what_is_no_text_is_no_address(value: object) -> None:
    with pytest.raises(InvalidRequestError):
        parse_address(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T10:00:00Z", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22t10:00:00z", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22 10:00Z", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22T10:00:00.25+02:00", datetime(2026, 11, 22, 8, 0, 0, 250_000, UTC)),
    ],
)
def test_a_time_is_read_in_its_own_offset(text: str, moment: datetime) -> None:
    assert parse_position(text) == AtTime(UnixMs(round(moment.timestamp() * 1000)))
    assert parse_position(moment) == parse_position(text)
    assert parse_position(moment.astimezone(timezone(timedelta(hours=-7)))) == parse_position(text)


@pytest.mark.parametrize("text", ["2026-13-01T00:00:00Z", "2026-11-22T25:00:00Z", "2026-11-22T10:00:00"])
def test_a_time_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_position(text)


@pytest.mark.parametrize("name", ["a", "0", "a" * 63, "a.b_c-d", "0-1"])
def test_good_names_are_kept(name: str) -> None:
    assert check_name("branch", name) == name


@pytest.mark.parametrize("name", ["", "A", "a" * 64, "-a", ".a", "_a", "a b", "a/b", "a\n", "ä", None, 3])
def test_bad_names_are_told_with_the_kind_that_they_were_meant_for(name: object) -> None:
    with pytest.raises(InvalidRequestError, match="cannot name a branch"):
        check_name("branch", name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["12", "", "a b", "a:b", "ä", "a\n", None])
def test_bad_checkpoint_names_are_refused(name: object) -> None:
    with pytest.raises(InvalidRequestError, match="cannot name a checkpoint"):
        check_checkpoint_name(name)  # type: ignore[arg-type]
