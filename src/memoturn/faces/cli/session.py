"""What every command works with: its settings, a store opened when it is first used, and where answers go."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from memoturn.base.embedding import Embedder
from memoturn.base.errors import NotFoundError
from memoturn.base.names import Address, parse_address
from memoturn.faces.cli import output
from memoturn.faces.cli.errors import UsageError
from memoturn.faces.cli.settings import LOCAL, Configuration, Embedding

if TYPE_CHECKING:
    from memoturn.faces.client.sync.client import Memoturn as Server
    from memoturn.faces.client.sync.tokens import Tokens
    from memoturn.faces.embedded.client import Database, Memoturn


class Session:
    """One call of the CLI: its settings, its store, and where its answers go."""

    def __init__(self, configuration: Configuration, as_json: bool) -> None:
        self.configuration = configuration
        self.as_json = as_json
        self._memory: Memoturn | None = None
        self._remote: Server | None = None

    def memory(self, create: bool = False, embed: bool = False) -> Memoturn:
        """The store. One of files has to be there already, unless the command may `create` it.

        With `embed` the embedder that the settings name is at hand.
        """
        if self._memory is None:
            self._memory = self._open(create, embed)
        return self._memory

    def db(self, address: str | Address, exact: bool = False) -> Database:
        """A handle to `db`, `db@branch` or `db@branch:position`, which has to be retained if it is to be `exact`."""
        handle = self.memory().db(str(address))
        position = parse_address(str(address)).position if exact else None
        return handle if position is None else handle.at(str(position), exact=True)

    def _open(self, create: bool, embed: bool) -> Memoturn:
        url, home, settings, embedding = (
            self.configuration.url,
            self.configuration.home,
            self.configuration.settings,
            self.configuration.embedding,
        )
        if self.is_remote:
            # Its surface is that of the embedded one, as a test of the signatures of both holds.
            return cast("Memoturn", self._server())
        if home is not None and not create and not (home / "objects").is_dir():
            raise NotFoundError(
                f"there is no store at {home} yet; `memoturn db create` and `memoturn db import` make one, "
                "and --url names another"
            )
        from memoturn.faces.embedded.client import Memoturn

        return Memoturn(url, settings=settings, embedder=embedder_of(embedding) if embed else None)

    @property
    def is_remote(self) -> bool:
        """Whether a server is named, and not a store."""
        return self.configuration.url.startswith(("http://", "https://"))

    def tokens(self) -> Tokens:
        """The tokens of the server."""
        if not self.is_remote:
            raise UsageError("tokens are minted by a server; name it: --url http://127.0.0.1:8080")
        return self._server().tokens

    def _server(self) -> Server:
        from memoturn.faces.client.sync.client import Memoturn as Server

        if self._remote is None:
            where = self.configuration
            durability = where.settings.commit.durability
            self._remote = Server(where.url, token=where.token, durability=durability)
        return self._remote

    def close(self) -> None:
        """Ship what was committed, and let go of the store."""
        for client in (self._remote, self._memory):
            if client is not None:
                client.close()

    # Answers.

    def say(self, value: object, *lines: str, txid: int | None = None) -> None:
        """Answer with `value` as JSON, or with lines of text."""
        if self.as_json:
            output.write_json(value)
        else:
            for line in lines:
                print(line)
        self.txid(txid)

    def table(self, values: object, columns: Sequence[str], rows: Sequence[output.Cells]) -> None:
        """Answer with `values` as JSON, or with a table."""
        if self.as_json:
            output.write_json(values)
        else:
            output.write_table(columns, rows)

    def details(self, value: object, pairs: Sequence[tuple[str, Any]], txid: int | None = None) -> None:
        """Answer with `value` as JSON, or with a line for every pair."""
        if self.as_json:
            output.write_json(value)
        else:
            output.write_details(pairs)
        self.txid(txid)

    def txid(self, txid: int | None, *notes: str) -> None:
        """Tell the txid that was reached or read, and what there is to note about it, where it is in nobody's way."""
        if txid is not None:
            sys.stdout.flush()
            print(f"txid: {txid}", file=sys.stderr)
            for note in notes:
                self.remark(note)

    def remark(self, note: str) -> None:
        """Tell what there is to note about an answer, where it is in nobody's way."""
        sys.stdout.flush()
        print(f"note: {note}", file=sys.stderr)


def embedder_of(embedding: Embedding | None) -> Embedder | None:
    """What the settings name."""
    if embedding is None:
        return None
    if embedding.service == LOCAL:
        from memoturn import LocalEmbedder

        return LocalEmbedder(embedding.model)
    from memoturn import OpenAIEmbedder

    return OpenAIEmbedder(embedding.model or "", embedding.service, key=embedding.key)
