"""What SQL answers: rows, and the results of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

Value = None | int | float | str | bytes
"""What SQLite keeps in a column."""
Params = Sequence[Value] | Mapping[str, Value]
"""The parameters of a statement, by place or by name."""


class Rows(list[dict[str, Value]]):
    """The rows of a statement as dicts; `columns` names them in order, and `types` says as what each was declared.

    A column that is no column of a table, but computed, has the type None. `txid` is the position that was read, or
    the head after a write; `exact` is False if it is the nearest to the one that was asked for. Columns of one name
    are told apart: `id` and `id:1`.
    """

    __slots__ = ("columns", "exact", "txid", "types")

    def __init__(
        self,
        rows: Sequence[dict[str, Value]],
        columns: tuple[str, ...],
        txid: int,
        types: tuple[str | None, ...] = (),
    ) -> None:
        super().__init__(rows)
        self.columns = columns
        self.types = types
        self.txid = txid
        self.exact = True


class BatchResult(Struct, frozen=True):
    """What a batch gave: the rows of each statement, and the head after it.

    In the past `txid` is the position that was read; `exact` is False if it is the nearest to the one asked for.
    """

    results: list[Rows]
    txid: int
    exact: bool = True
