# Made from ../aio/documents.py by tools/generate_sync.py; change that, and `make client`.

"""`db.docs`: collections of JSON documents on a branch, or at a position in its past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memoturn.base.names import Address
from memoturn.faces.client.calls import documents as calls
from memoturn.faces.client.sync.transport import Transport
from memoturn.faces.wire import DocDelete, DocExplain, DocIndex, DocInsert, Documents, DocUpdate

Document = dict[str, Any]
Filter = dict[str, Any]


class Docs:
    """Documents in collections, which come into being with their first document.

    A filter is an object of dotted paths and values, or operators: `{"age": {"$gte": 18}, "address.city": "Bern"}`.
    There are `$eq $ne $gt $gte $lt $lte $in $nin $exists $not`, and `$and $or $not` around filters. A condition
    compares one value with one value of the same kind; missing counts as null.
    """

    __slots__ = ("_address", "_transport")

    def __init__(self, transport: Transport, address: Address) -> None:
        self._transport = transport
        self._address = address

    def insert(self, collection: str, documents_: Document | Sequence[Document]) -> DocInsert:
        """Add a document, or a list of them, all or none; returns `.id` or `.ids`, and `.txid`.

        A document without `_id` is given a ULID. Raises `AlreadyExistsError` if an `_id` is taken.
        """
        return self._transport.send(calls.insert(self._address, collection, documents_))

    def get(self, collection: str, id: str) -> Document | None:  # noqa: A002
        """The document with that `_id`, or None."""
        return self._transport.send(calls.get(self._address, collection, id))

    def find(
        self,
        collection: str,
        filter: Filter | None = None,  # noqa: A002
        *,
        sort: dict[str, int] | None = None,
        limit: int = 100,
        skip: int = 0,
    ) -> Documents:
        """The documents that fit, at most `limit` (up to 1,000): a list with `.more` and `.txid`.

        `sort` is an object of paths and 1 (ascending) or -1; what is alike in it is in the order of `_id`.
        """
        return self._transport.send(calls.find(self._address, collection, filter, sort, limit, skip))

    def count(self, collection: str, filter: Filter | None = None) -> int:  # noqa: A002
        """How many documents fit."""
        return self._transport.send(calls.count(self._address, collection, filter))

    def update(self, collection: str, filter: Filter | None, update: dict[str, Document]) -> DocUpdate:  # noqa: A002
        """Change every document that fits, all or none; returns `.matched`, `.modified` and `.txid`.

        `update` is an object of `$set`, `$unset`, `$inc` and `$push`, each with paths and values.
        """
        return self._transport.send(calls.update(self._address, collection, filter, update))

    def delete(self, collection: str, filter: Filter) -> DocDelete:  # noqa: A002
        """Remove every document that fits, `{}` all of them; returns `.deleted` and `.txid`."""
        return self._transport.send(calls.delete(self._address, collection, filter))

    def create_index(self, collection: str, path: str) -> DocIndex:
        """Index what is at a path; `.changed` is false if it was already."""
        return self._transport.send(calls.create_index(self._address, collection, path))

    def drop_index(self, collection: str, path: str) -> DocIndex:
        """Forget an index; `.changed` is false if there was none."""
        return self._transport.send(calls.drop_index(self._address, collection, path))

    def indexes(self, collection: str) -> list[str]:
        """The paths that are indexed."""
        return self._transport.send(calls.indexes(self._address, collection))

    def explain(
        self,
        collection: str,
        filter: Filter | None = None,  # noqa: A002
        *,
        sort: dict[str, int] | None = None,
    ) -> DocExplain:
        """How `find` would find: `.indexes` are the paths whose index it uses, `.plan` is what SQLite says."""
        return self._transport.send(calls.explain(self._address, collection, filter, sort))

    def collections(self) -> list[str]:
        """The names of the collections."""
        return self._transport.send(calls.collections(self._address))
