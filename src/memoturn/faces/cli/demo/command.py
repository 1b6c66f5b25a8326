"""What `memoturn demo` takes, and the store that its stories happen in."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from memoturn.base.errors import ConflictError
from memoturn.faces.cli.session import Session


def demo(
    session: Session,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="FILE", help="A Chinook database to use; else a small one is made."),
    ] = None,
    conversation: Annotated[
        str | None,
        typer.Option(
            "--conversation",
            metavar="FILE",
            help="Conversations in LoCoMo's form to use; else a small one is.",
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="DIR", help="Leave the store in this new directory to look at."),
    ] = None,
) -> None:
    """Break an agent's memory and its database, and get them back: a short tour, all of it real."""
    from memoturn.faces.cli.demo import conversation as conversations
    from memoturn.faces.cli.demo import database, memory, music_store, small_talk
    from memoturn.faces.cli.demo.telling import Teller
    from memoturn.faces.embedded.client import Memoturn

    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="memoturn-demo-")))
        home = scratch / "store" if keep is None else Path(keep).absolute()
        if home.exists():
            raise ConflictError(f"{keep} exists already; the demo wants a new directory")
        if conversation is None:
            said = conversations.parse(small_talk.samples())
        else:
            said = conversations.read(Path(conversation))
        source = Path(file) if file is not None else scratch / "music-store.sqlite"
        if file is None:
            music_store.write(source)
        teller = Teller(session.as_json)
        store = stack.enter_context(Memoturn(f"file:{home}", settings=session.configuration.settings))
        memory.MemoryStory(teller, store, said).run()
        database.DatabaseStory(teller, store, home).run(source)
        teller.end(
            *(
                f"Look around: memoturn --url file:{keep} {words}"
                for words in (f"branch list {database.NAME}", f"memory sessions {memory.NS} {memory.PROFILE}")
                if keep is not None
            )
        )
