"""SQL, and a database as a whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from memoturn.base.errors import InvalidRequestError
from memoturn.base.json_text import shown
from memoturn.base.names import Address
from memoturn.base.results.branches import Place
from memoturn.base.results.databases import ExportResult
from memoturn.base.results.rows import BatchResult, Params, Rows
from memoturn.faces.client.call import Call, Reply, as_type, call, data, field
from memoturn.faces.wire import answers, headers, requests, values

PAGE_SIZE = 4096
_batch = as_type(BatchResult)
_place = as_type(Place)
_synced = field(answers.Synced, "txid")
_txid = field(Place, "txid")
_reads = re.compile(r"\s*(?:SELECT|VALUES|EXPLAIN)\b", re.IGNORECASE).match
"""What begins so writes nothing; of anything else that is not known here."""


def sql(address: Address, text: str, params: Params | None) -> Call[Rows]:
    return _run(address, [(text, params)], lambda reply: _batch(reply).results[0])


def batch(address: Address, stmts: Sequence[tuple[str, Params | None] | str]) -> Call[BatchResult]:
    return _run(address, [(item, None) if isinstance(item, str) else _pair(item) for item in stmts], _batch)


def _run(address: Address, pairs: Sequence[tuple[str, Params | None]], read: Any) -> Call[Any]:
    stmts = [requests.Stmt(_text(text), _params(params)) for text, params in pairs]
    reads = address.position is not None or all(_reads(text) for text, _ in pairs)
    return data("db.sql", address, read, body=requests.Sql(stmts), keyed=not reads, natural=reads)


def _pair(item: Any) -> tuple[str, Params | None]:
    if isinstance(item, tuple | list) and len(item) in (1, 2):
        return (item[0], item[1] if len(item) == 2 else None)
    raise InvalidRequestError(f"a batch takes texts or (text, parameters), not {item!r}")


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise InvalidRequestError(f"SQL is text, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"SQL has to be Unicode text: {error}") from None
    return text


def _params(params: Any) -> Any:
    if params is None:
        return None
    if isinstance(params, str | bytes) or not isinstance(params, Sequence | Mapping):
        raise InvalidRequestError(f"parameters are a sequence or a dict, not {type(params).__name__}")
    for value in params.values() if isinstance(params, Mapping) else params:
        if value is None or isinstance(value, int | float | bytes | bytearray | memoryview):
            continue
        if not isinstance(value, str):
            raise InvalidRequestError(
                f"a parameter is None, a number, text or bytes, not {type(value).__name__}: {shown(value)}"
            )
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise InvalidRequestError(f"a parameter has to be Unicode text: {error}") from None
    return values.params_to_json(params)


def where(address: Address) -> Call[Place]:
    return data("db.where", address, _place)


def txid(address: Address) -> Call[int]:
    return data("db.where", address, _txid)


def sync(address: Address) -> Call[int]:
    return data("db.sync", address._replace(position=None), _synced)


def export(address: Address) -> Call[None]:
    """The answer's body is the file; `exported` tells what it was."""
    return call("databases.export", {"db": address.database}, _nothing, at=address)


def exported(path: str, size: int, reply: Mapping[str, str]) -> ExportResult:
    exact = reply.get(headers.READ_EXACT, "true") != "false"
    return ExportResult(path, int(reply[headers.TXID]), size // PAGE_SIZE, size, exact)


def _nothing(reply: Reply) -> None:
    pass
