"""Vectors by id."""

from __future__ import annotations

from memoturn.base.errors import NotFoundError
from memoturn.faces.http.call import Answer, Call
from memoturn.faces.wire import answers, requests
from memoturn.operations import vectors


def collections(call: Call) -> Answer:
    found, txid = vectors.collections(call.engine, call.at)
    return Answer(answers.VectorCollections(found, txid), txid)


def upsert(call: Call) -> Answer:
    wish = call.read(requests.UpsertVectors)
    done = vectors.upsert(call.engine, call.at, call.names["collection"], wish.items)
    return Answer(done, done.txid)


def search(call: Call) -> Answer:
    wish = call.read(requests.SearchVectors)
    k = call.limit("k", wish.k)
    found = vectors.search(
        call.engine, call.at, call.names["collection"], wish.vector, k, wish.filter, wish.metric
    )
    return Answer(found, found.txid)


def get(call: Call) -> Answer:
    collection, id_ = call.names["collection"], call.names["id"]
    found, txid = vectors.get(call.engine, call.at, collection, id_)
    if found is None:
        raise NotFoundError(f"the collection {collection!r} has no vector with the id {id_!r}")
    return Answer(found, txid)


def delete(call: Call) -> Answer:
    done = vectors.delete(call.engine, call.at, call.names["collection"], call.names["id"])
    return Answer(done, done.txid)


HANDLERS = {
    "vectors.collections": collections,
    "vectors.upsert": upsert,
    "vectors.search": search,
    "vectors.get": get,
    "vectors.delete": delete,
}
