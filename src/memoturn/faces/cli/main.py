"""The command line: `memoturn`, its commands, and the last word on every failure."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated, Any, Final

import typer

from memoturn.faces.cli import (
    branches,
    checkpoints,
    collect,
    completions,
    config,
    databases,
    diff,
    docs,
    init,
    kv,
    maintenance,
    memory,
    serve,
    sql,
    token,
    vectors,
)
from memoturn.faces.cli.command import Group, Json, Token, Url, command
from memoturn.faces.cli.demo.command import demo
from memoturn.faces.cli.errors import Exit, report

PROGRAM: Final = "memoturn"
_ORDER: Final = [
    "serve",
    "db",
    "branch",
    "undo",
    "diff",
    "sql",
    "kv",
    "memory",
    "docs",
    "verify",
    "compact",
    "gc",
    "why-retained",
    "retain",
    "maintenance",
    "token",
    "init",
    "config",
    "demo",
    "completions",
]


class Root(Group):
    """The command that holds all others. Whatever happens below it, no traceback comes out."""

    def list_commands(self, ctx: Any) -> list[str]:
        return _ORDER

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *_: Any, **extra: Any
    ) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        if f"_{PROGRAM.upper()}_COMPLETE" in os.environ:
            completions.prepare()
        try:
            code = super().main(words, PROGRAM, **extra)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever was reading has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = Exit.REFUSED
        except KeyboardInterrupt:
            code = Exit.INTERRUPTED
        except Exception as error:
            code = _explain(error, "--json" in words)
        sys.exit(int(code or 0))


def _explain(error: Exception, as_json: bool) -> Exit:
    """An error of the command line itself, or one that nobody has foreseen."""
    message = getattr(error, "format_message", None)
    if message is None:
        report(f"a fault in Memoturn: {type(error).__name__}: {error}", "internal", None, as_json)
        return Exit.REFUSED
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message(), file=sys.stderr)
        return Exit.USAGE
    if context is not None and not as_json:
        print(context.get_usage(), file=sys.stderr)
    hint = None if context is None else f"`{context.command_path} --help` says more"
    report(message(), "invalid_request", hint, as_json)
    return Exit.USAGE


app = typer.Typer(
    name=PROGRAM,
    cls=Root,
    help="Memory for AI agents that can be forked, checkpointed and rewound as one unit.",
    epilog="Exit codes: 0 done, 1 refused, 2 usage, 3 not found, 4 conflict, 5 unreachable.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout.isatty() else None,
)
app.add_typer(databases.app, name="db")
app.add_typer(branches.app, name="branch")
branches.app.add_typer(checkpoints.app, name="checkpoints")
command(branches.app, "checkpoint")(checkpoints.checkpoint)
command(branches.app, "rewind")(checkpoints.rewind)
command(app, "undo")(checkpoints.undo)
command(app, "diff")(diff.diff)
command(app, "sql", cls=sql.SqlCommand)(sql.sql)
app.add_typer(kv.app, name="kv")
app.add_typer(memory.app, name="memory")
app.add_typer(docs.app, name="docs")
app.add_typer(vectors.app, name="vectors")
command(app, "verify")(maintenance.verify)
command(app, "compact")(maintenance.compact)
command(app, "gc")(collect.gc)
command(app, "why-retained")(collect.why_retained)
command(app, "retain")(maintenance.retain)
app.add_typer(maintenance.app, name="maintenance")
command(app, "serve")(serve.serve)
app.add_typer(token.app, name="token")
command(app, "init")(init.init)
command(app, "config")(config.config)
command(app, "demo")(demo)
command(app, "completions")(completions.completions)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"{PROGRAM} {version('memoturn')}")
        raise typer.Exit


@app.callback()
def _root(
    url: Url = None,
    server_token: Token = None,
    as_json: Json = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """`--url`, `--token` and `--json` may also stand before the command; the session looks for them here."""


def run() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal that cannot show a character shows its number.
            stream.reconfigure(errors="backslashreplace")
    app()
