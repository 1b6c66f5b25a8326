"""`memoturn sql`: statements from the command line or from a pipe."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final

import typer

from memoturn.faces.cli import output
from memoturn.faces.cli.command import Command
from memoturn.faces.cli.errors import UsageError
from memoturn.faces.cli.session import Session
from memoturn.faces.cli.values import Exact, nearest, parse_parameter
from memoturn.faces.wire import Rows

_SHIELD: Final = "\0"


class SqlCommand(Command):
    """Lets negative numbers through as parameters, which would be taken for options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        shielded = [_SHIELD + word if word[:1] == "-" and _is_number(word) else word for word in args[:end]]
        return super().parse_args(ctx, shielded + args[end:])


def _is_number(text: str) -> bool:
    return isinstance(parse_parameter(text), int | float)


def sql(
    session: Session,
    db: Annotated[
        str, typer.Argument(metavar="DB[@BRANCH[:POSITION]]", help="What to ask, now or in its past.")
    ],
    statement: Annotated[
        str | None,
        typer.Argument(
            metavar="SQL", help="A statement, or several as one transaction; - reads them from stdin."
        ),
    ] = None,
    params: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PARAMS...",
            help="Values for the statement's ?s. Numbers, null and quoted texts as in JSON; else text.",
        ),
    ] = None,
    exact: Exact = False,
) -> None:
    """Run SQL. What one call writes is one transaction."""
    values = [parse_parameter(word.removeprefix(_SHIELD)) for word in params or ()]
    statements = _split(_read(statement))
    handle = session.db(db, exact)
    if len(statements) <= 1:
        rows = handle.sql(statements[0] if statements else "", values or None)
        if session.as_json:
            output.write_json({**_shape(rows), "txid": rows.txid, "exact": rows.exact})
        else:
            _write(rows)
        session.txid(rows.txid, *nearest(rows.exact, rows.txid))
        return
    if values:
        raise UsageError(f"parameters go with one statement, and these are {len(statements)}")
    done = handle.batch(statements)
    if session.as_json:
        output.write_json(
            {"results": [_shape(rows) for rows in done.results], "txid": done.txid, "exact": done.exact}
        )
    else:
        for rows in done.results:
            _write(rows)
    session.txid(done.txid, *nearest(done.exact, done.txid))


def _read(statement: str | None) -> str:
    if statement is not None and statement != "-":
        return statement
    if statement is None and sys.stdin.isatty():
        raise UsageError("give a statement, or - and the statements on stdin")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin is not text in UTF-8: {error}") from error


def _split(text: str) -> list[str]:
    """The statements of a text; SQLite says where each one ends."""
    from apsw import complete

    statements, begin, end = [], 0, -1
    while (end := text.find(";", end + 1)) >= 0:
        if complete(text[begin : end + 1]):
            statements.append(text[begin : end + 1].strip())
            begin = end + 1
    if rest := text[begin:].strip():
        statements.append(rest)
    return statements


def _shape(rows: Rows) -> dict[str, object]:
    return {"columns": rows.columns, "types": rows.types, "rows": list(rows)}


def _write(rows: Rows) -> None:
    if rows.columns:
        shown = [["NULL" if row[name] is None else row[name] for name in rows.columns] for row in rows]
        output.write_table(rows.columns, shown)
