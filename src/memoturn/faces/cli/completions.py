"""`memoturn completions`: the script that lets a shell complete commands and options."""

from __future__ import annotations

from typing import Annotated

import typer

from memoturn.faces.cli.errors import UsageError
from memoturn.faces.cli.session import Session

SHELLS = ("bash", "zsh", "fish")


def completions(
    session: Session,
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell to complete in.")],
) -> None:
    """Print a completion script; for bash: eval "$(memoturn completions bash)"."""
    if shell not in SHELLS:
        raise UsageError(f"{shell!r} is not supported; name one of {', '.join(SHELLS)}")
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    script = get_completion_script(prog_name="memoturn", complete_var="_MEMOTURN_COMPLETE", shell=shell)
    session.say({"shell": shell, "script": script}, script)


def prepare() -> None:
    """Make Typer answer the questions that such a script asks; without the script nobody needs that loaded."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()
