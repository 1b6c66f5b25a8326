"""JSON documents."""

from __future__ import annotations

from memoturn.base.errors import NotFoundError
from memoturn.faces.http.call import Answer, Call
from memoturn.faces.wire import answers, requests
from memoturn.operations import documents


def collections(call: Call) -> Answer:
    names, txid = documents.collections(call.engine, call.at)
    return Answer(answers.CollectionNames(names, txid), txid)


def insert(call: Call) -> Answer:
    wish = call.read(requests.InsertDocuments)
    done = documents.insert(call.engine, call.at, call.names["collection"], wish.documents)
    return Answer(done, done.txid)


def find(call: Call) -> Answer:
    wish = call.read(requests.FindDocuments)
    limit = call.limit("limit", wish.limit)
    found = documents.find(
        call.engine, call.at, call.names["collection"], wish.filter, wish.sort, limit, wish.skip
    )
    return Answer(found, found.txid)


def count(call: Call) -> Answer:
    wish = call.read(requests.CountDocuments)
    number, txid = documents.count(call.engine, call.at, call.names["collection"], wish.filter)
    return Answer(answers.Count(number, txid), txid)


def explain(call: Call) -> Answer:
    wish = call.read(requests.ExplainDocuments)
    told = documents.explain(call.engine, call.at, call.names["collection"], wish.filter, wish.sort)
    return Answer(told, told.txid)


def update(call: Call) -> Answer:
    wish = call.read(requests.UpdateDocuments)
    done = documents.update(call.engine, call.at, call.names["collection"], wish.filter, wish.update)
    return Answer(done, done.txid)


def delete(call: Call) -> Answer:
    wish = call.read(requests.DeleteDocuments)
    done = documents.delete(call.engine, call.at, call.names["collection"], wish.filter)
    return Answer(done, done.txid)


def indexes(call: Call) -> Answer:
    paths, txid = documents.indexes(call.engine, call.at, call.names["collection"])
    return Answer(answers.IndexPaths(paths, txid), txid)


def create_index(call: Call) -> Answer:
    wish = call.read(requests.IndexDocuments)
    done = documents.create_index(call.engine, call.at, call.names["collection"], wish.path)
    return Answer(done, done.txid)


def drop_index(call: Call) -> Answer:
    done = documents.drop_index(call.engine, call.at, call.names["collection"], call.ask("path"))
    return Answer(done, done.txid)


def get(call: Call) -> Answer:
    collection, id_ = call.names["collection"], call.names["id"]
    found, txid = documents.get(call.engine, call.at, collection, id_)
    if found is None:
        raise NotFoundError(f"the collection {collection!r} has no document with _id {id_!r}")
    return Answer(answers.Document(found, txid), txid)


HANDLERS = {
    "docs.collections": collections,
    "docs.insert": insert,
    "docs.find": find,
    "docs.count": count,
    "docs.explain": explain,
    "docs.update": update,
    "docs.delete": delete,
    "docs.indexes": indexes,
    "docs.create_index": create_index,
    "docs.drop_index": drop_index,
    "docs.get": get,
}
