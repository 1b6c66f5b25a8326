"""Documents in collections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memoturn.base.errors import InvalidRequestError
from memoturn.base.json_text import shown
from memoturn.base.names import Address
from memoturn.base.results.documents import DocDelete, DocExplain, DocIndex, DocInsert, Documents, DocUpdate
from memoturn.faces.client.call import Call, as_type, data, field
from memoturn.faces.client.json_of import value
from memoturn.faces.wire import answers, requests

_inserted = as_type(DocInsert)
_found = as_type(Documents)
_updated = as_type(DocUpdate)
_deleted = as_type(DocDelete)
_index = as_type(DocIndex)
_explained = as_type(DocExplain)
_document = field(answers.Document, "document")
_count = field(answers.Count, "count")
_indexes = field(answers.IndexPaths, "indexes")
_collections = field(answers.CollectionNames, "collections")

Json = dict[str, Any]


def insert(address: Address, collection: str, documents: Json | Sequence[Json]) -> Call[DocInsert]:
    many = [documents] if isinstance(documents, dict) else documents
    if type(many) not in (list, tuple) or not many:
        raise InvalidRequestError(
            f"give a document, which is a dict, or a list of them, not {shown(documents)}"
        )
    body = requests.InsertDocuments([value("a document", one) for one in many])
    return data("docs.insert", address, _inserted, _in(collection), body=body)


def get(address: Address, collection: str, id_: str) -> Call[Json | None]:
    return data("docs.get", address, _document, {"collection": collection, "id": id_}, missing=True)


def find(
    address: Address,
    collection: str,
    filter_: Json | None,
    sort: dict[str, int] | None,
    limit: int,
    skip: int,
) -> Call[Documents]:
    body = requests.FindDocuments(_filter(filter_), value("the sort", sort), limit, skip)
    return data("docs.find", address, _found, _in(collection), body=body)


def count(address: Address, collection: str, filter_: Json | None) -> Call[int]:
    body = requests.CountDocuments(_filter(filter_))
    return data("docs.count", address, _count, _in(collection), body=body)


def update(address: Address, collection: str, filter_: Json | None, update: Json) -> Call[DocUpdate]:
    body = requests.UpdateDocuments(_filter(filter_), value("the update", update))
    return data("docs.update", address, _updated, _in(collection), body=body)


def delete(address: Address, collection: str, filter_: Json) -> Call[DocDelete]:
    body = requests.DeleteDocuments(_filter(filter_))
    return data("docs.delete", address, _deleted, _in(collection), body=body)


def create_index(address: Address, collection: str, path: str) -> Call[DocIndex]:
    return data("docs.create_index", address, _index, _in(collection), body=requests.IndexDocuments(path))


def drop_index(address: Address, collection: str, path: str) -> Call[DocIndex]:
    return data("docs.drop_index", address, _index, _in(collection), query={"path": path})


def indexes(address: Address, collection: str) -> Call[list[str]]:
    return data("docs.indexes", address, _indexes, _in(collection))


def explain(
    address: Address, collection: str, filter_: Json | None, sort: dict[str, int] | None
) -> Call[DocExplain]:
    body = requests.ExplainDocuments(_filter(filter_), value("the sort", sort))
    return data("docs.explain", address, _explained, _in(collection), body=body)


def collections(address: Address) -> Call[list[str]]:
    return data("docs.collections", address, _collections)


def _in(collection: str) -> dict[str, str]:
    return {"collection": collection}


def _filter(given: Json | None) -> Any:
    return value("the filter", given)
