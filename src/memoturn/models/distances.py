"""Distances between vectors in SQL, by sqlite-vec, which a connection loads when it first computes one.

Loading takes some 40 µs for a connection and 3 ms for the first one of a process; who uses no vectors pays nothing.
SQL itself can load nothing: the extension is ours, and the door is closed again behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, get_args

import apsw

from memoturn.base.errors import InvalidRequestError, UnconfiguredError
from memoturn.base.json_text import shown
from memoturn.models.reserved import Connection, Rows, ask_trusted

Metric = Literal["cosine", "l2"]
FUNCTIONS: Final[dict[Metric, str]] = {"cosine": "vec_distance_cosine", "l2": "vec_distance_l2"}

_UNLOADED: Final = "no such function: vec_"


def check_metric(metric: object) -> Metric:
    """`metric` itself. Raises `InvalidRequestError` for one that is unknown."""
    if metric not in get_args(Metric):
        raise InvalidRequestError(f"metric {shown(metric)} is unknown; there are 'cosine' and 'l2'")
    return metric  # type: ignore[return-value]


def ask_distances(connection: Connection, sql: str, params: Sequence[Any]) -> Rows:
    """The rows of a statement of ours that computes distances; none if its table is not there yet."""
    try:
        return ask_trusted(connection, sql, params)
    except InvalidRequestError as error:
        if not str(error).startswith(_UNLOADED):
            raise
    _load(connection)
    return ask_trusted(connection, sql, params)


def _load(connection: apsw.Connection) -> None:
    import sqlite_vec

    connection.enable_load_extension(True)
    try:
        connection.load_extension(sqlite_vec.loadable_path())
    except apsw.ExtensionLoadingError as error:
        raise UnconfiguredError(
            f"sqlite-vec cannot be loaded: {error}; install it again for this Python"
        ) from error
    finally:
        connection.enable_load_extension(False)
