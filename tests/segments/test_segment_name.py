from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoturn.base.errors import CorruptError
from memoturn.base.txids import TXID
from memoturn.manifest.segment_name import SegmentName

txids = st.integers(1, (1 << 63) - 1).map(TXID)
epochs = st.integers(0, (1 << 63) - 1)
marks = st.just("") | st.text(alphabet="0123456789abcdef", min_size=8, max_size=8)


@given(st.integers(0, 9), txids, txids, epochs, marks)
def test_pack_names_round_trip(level: int, a: TXID, b: TXID, epoch: int, mark: str) -> None:
    name = SegmentName.pack(level, min(a, b), max(a, b), epoch, mark)
    assert SegmentName.parse(str(name)) == name
    assert not name.is_base
    assert name.objects == (name.index_object,) == (str(name),)


@given(txids, epochs, marks)
def test_base_names_round_trip(txid: TXID, epoch: int, mark: str) -> None:
    name = SegmentName.base(txid, epoch, mark)
    assert SegmentName.parse(str(name)) == name
    assert name.is_base
    assert (name.min_txid, name.max_txid) == (1, txid)
    stem = f"base/{txid}-{epoch}-{mark}" if mark else f"base/{txid}-{epoch}"
    assert name.objects == (f"{stem}.ltx", f"{stem}.idx")
    assert name.index_object == name.objects[1]


@pytest.mark.parametrize(
    "text",
    [
        "", "ltx/0/1-2.ltx", "ltx/0/1-2-3", "ltx/0/01-2-3.ltx", "ltx/00/1-2-3.ltx", "ltx/10/1-2-3.ltx",
        "ltx/0/2-1-3.ltx", "ltx/0/0-1-3.ltx", "ltx/0/1-2-3.ltx\n", " ltx/0/1-2-3.ltx", "/ltx/0/1-2-3.ltx",
        "ltx/0/1-2-03.ltx", "ltx/0/+1-2-3.ltx", "ltx/0/1-2-3.idx", "ltx/0/1-9223372036854775808-3.ltx",
        "ltx/0/1-2-9223372036854775808.ltx", "ltx/0/1-2-99999999999999999999.ltx", "ltx/٠/1-2-3.ltx",
        "ltx/0/1-2-3-.ltx", "ltx/0/1-2-3-1234567.ltx", "ltx/0/1-2-3-1234567G.ltx", "base/1-2-12345678-.ltx",
        "base/0-1.ltx", "base/1-2.idx", "base/1.ltx", "base/1-2-3.ltx", "base/9223372036854775808-1.ltx",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(CorruptError, match="names no segment"):
        SegmentName.parse(text)


@given(st.text(alphabet="ltxbase/0123456789-.", max_size=30))
def test_what_parses_is_spelled_in_one_way(text: str) -> None:
    try:
        name = SegmentName.parse(text)
    except CorruptError:
        return
    assert str(name) == text


def test_reading_a_name_again_gives_the_same_object() -> None:
    assert SegmentName.parse("ltx/0/3-4-5.ltx") is SegmentName.parse("ltx/0/3-4-5.ltx")
