"""`db.docs`: collections of JSON documents on a branch, or at a position in its past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memoturn.base.names import Address
from memoturn.faces.wire import DocDelete, DocExplain, DocIndex, DocInsert, Documents, DocUpdate
from memoturn.node.engine import Engine
from memoturn.operations import documents

Document = dict[str, Any]
Filter = dict[str, Any]


class Docs:
    """Documents in collections, which come into being with their first document.

    A filter is an object of dotted paths and values, or operators: `{"age": {"$gte": 18}, "address.city": "Bern"}`.
    There are `$eq $ne $gt $gte $lt $lte $in $nin $exists $not`, and `$and $or $not` around filters. A condition
    compares one value with one value of the same kind; missing counts as null.
    """

    __slots__ = ("_address", "_engine")

    def __init__(self, engine: Engine, address: Address) -> None:
        self._engine = engine
        self._address = address

    def insert(self, collection: str, documents_: Document | Sequence[Document]) -> DocInsert:
        """Add a document, or a list of them, all or none; returns `.id` or `.ids`, and `.txid`.

        A document without `_id` is given a ULID. Raises `AlreadyExistsError` if an `_id` is taken.
        """
        return documents.insert(self._engine, self._address, collection, documents_)

    def get(self, collection: str, id: str) -> Document | None:  # noqa: A002
        """The document with that `_id`, or None."""
        return documents.get(self._engine, self._address, collection, id)[0]

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
        return documents.find(self._engine, self._address, collection, filter, sort, limit, skip)

    def count(self, collection: str, filter: Filter | None = None) -> int:  # noqa: A002
        """How many documents fit."""
        return documents.count(self._engine, self._address, collection, filter)[0]

    def update(self, collection: str, filter: Filter | None, update: dict[str, Document]) -> DocUpdate:  # noqa: A002
        """Change every document that fits, all or none; returns `.matched`, `.modified` and `.txid`.

        `update` is an object of `$set`, `$unset`, `$inc` and `$push`, each with paths and values.
        """
        return documents.update(self._engine, self._address, collection, filter, update)

    def delete(self, collection: str, filter: Filter) -> DocDelete:  # noqa: A002
        """Remove every document that fits, `{}` all of them; returns `.deleted` and `.txid`."""
        return documents.delete(self._engine, self._address, collection, filter)

    def create_index(self, collection: str, path: str) -> DocIndex:
        """Index what is at a path; `.changed` is false if it was already."""
        return documents.create_index(self._engine, self._address, collection, path)

    def drop_index(self, collection: str, path: str) -> DocIndex:
        """Forget an index; `.changed` is false if there was none."""
        return documents.drop_index(self._engine, self._address, collection, path)

    def indexes(self, collection: str) -> list[str]:
        """The paths that are indexed."""
        return documents.indexes(self._engine, self._address, collection)[0]

    def explain(
        self,
        collection: str,
        filter: Filter | None = None,  # noqa: A002
        *,
        sort: dict[str, int] | None = None,
    ) -> DocExplain:
        """How `find` would find: `.indexes` are the paths whose index it uses, `.plan` is what SQLite says."""
        return documents.explain(self._engine, self._address, collection, filter, sort)

    def collections(self) -> list[str]:
        """The names of the collections."""
        return documents.collections(self._engine, self._address)[0]
