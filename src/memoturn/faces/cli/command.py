"""Making a function into a command: `--url`, `--token` and `--json` for each of them, and one way to fail."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from memoturn.base.errors import MemoturnError
from memoturn.faces.cli.errors import Exit, UsageError, exit_code, hint_for, report
from memoturn.faces.cli.session import Session
from memoturn.faces.cli.settings import configure

P = ParamSpec("P")

Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="The server or store to work on; else MEMOTURN_URL, else file:./data."
    ),
]
Token = Annotated[
    str | None,
    typer.Option("--token", metavar="TOKEN", help="What a server is to be shown; else MEMOTURN_TOKEN."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class Command(TyperCommand):
    """A command whose parameters are texts, lists of texts, and flags."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for param in self.params:
            take_as_given(param)

    def get_help_option(self, ctx: Any) -> Any:
        return take_as_given(super().get_help_option(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments: list[Any] = [param for param in self.params if param.param_type_name == "argument"]
        return ["[OPTIONS]", *(p.metavar if p.required else f"[{p.metavar}]" for p in arguments)]


class Group(TyperGroup):
    """A command that holds others."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for param in self.params:
            take_as_given(param)

    def get_help_option(self, ctx: Any) -> Any:
        return take_as_given(super().get_help_option(ctx))


def take_as_given(param: Any) -> Any:
    """Let Typer hand on words as they are. It would load pydantic to turn texts into texts: 75 ms a call."""
    if hasattr(param, "_runtime_param"):
        param._runtime_param = _AsGiven()
    return param


class _AsGiven:
    def coerce(self, value: Any, param: Any, ctx: object) -> Any:
        if value is None and (param.nargs == -1 or param.multiple):
            return ()
        return value


def command(
    app: typer.Typer, name: str, cls: type[TyperCommand] = Command
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Make a function that takes a session into a command of `app`.

    The command has the function's other parameters, `--url`, `--token` and `--json`. A parameter called `db` is the
    address that hints speak of.
    """

    def register(
        function: Callable[Concatenate[Session, P], None],
    ) -> Callable[Concatenate[Session, P], None]:
        def call(
            context: typer.Context, url: str | None, server_token: str | None, as_json: bool, **given: Any
        ) -> None:
            before = context.find_root().params
            wanted = (
                url or before["url"],
                server_token or before["server_token"],
                as_json or before["as_json"],
            )
            code = _run(function, *wanted, given)
            if code != Exit.DONE:
                raise typer.Exit(code)

        hints = get_type_hints(function, include_extras=True)
        hints |= {"context": typer.Context, "url": Url, "server_token": Token, "as_json": Json}
        own = list(inspect.signature(function).parameters.values())[1:]
        shared = [
            inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY),
            inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, default=None),
            inspect.Parameter("server_token", inspect.Parameter.KEYWORD_ONLY, default=None),
            inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False),
        ]
        parameters = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name]) for p in own + shared
        ]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: hints[p.name] for p in parameters}
        app.command(name, cls=cls, help=inspect.getdoc(function))(call)
        return function

    return register


def _run(
    function: Callable[..., None],
    url: str | None,
    token: str | None,
    as_json: bool,
    given: dict[str, Any],
) -> Exit:
    try:
        session = Session(configure(url, os.environ, token), as_json)
        try:
            function(session, **given)
        finally:
            session.close()
        sys.stdout.flush()
    except UsageError as error:
        report(str(error), "invalid_request", None, as_json)
        return Exit.USAGE
    except MemoturnError as error:
        report(str(error), error.code, hint_for(error, given.get("db")), as_json)
        return exit_code(error)
    return Exit.DONE
