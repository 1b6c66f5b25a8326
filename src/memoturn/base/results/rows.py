"""What SQL answers: rows, and the results of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

Value = None | int | float | str | bytes
"""What SQLite keeps in a column."""
Params = Sequence[Value] | Mapping[str, Value]
"""The parameters of a statement, by place or by name."""


class Rows(list[dict[str, Value]]):
    """The rows of a statement as dicts; `columns` names them in order.

    `txid` is the position that was read, or the head after a write; `exact` is False if it is the nearest to the one
    that was asked for. Columns of one name are told apart: `id` and `id:1`.
    """

    __slots__ = ("columns", "exact", "txid")

    def __init__(self, rows: Sequence[dict[str, Value]], columns: tuple[str, ...], txid: int) -> None:
        super().__init__(rows)
        self.columns = columns
        self.txid = txid
        self.exact = True


class BatchResult(Struct, frozen=True):
    """What a batch gave: the rows of each statement, and the head after it.

    In the past `txid` is the position that was read; `exact` is False if it is the nearest to the one asked for.
    """

    results: list[Rows]
    txid: int
    exact: bool = True
