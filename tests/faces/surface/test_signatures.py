"""The three clients have the same methods, with the same arguments and results."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pytest

from memoturn.faces.client.aio import client as aio
from memoturn.faces.client.aio import memory as aio_memory
from memoturn.faces.client.sync import client as sync
from memoturn.faces.client.sync import memory as sync_memory
from memoturn.faces.embedded import client as embedded
from memoturn.faces.embedded import memory as embedded_memory

NAMES = [
    "Memoturn", "Databases", "Database", "Branches", "KV", "Docs", "Vectors", "Turns", "Profile", "Maintenance",
]  # fmt: skip


def _class(where: Any, memory: Any, name: str) -> type:
    found: type = getattr(memory if name.endswith("Profile") else where, name)
    return found


def _embedded(name: str) -> type:
    return _class(embedded, embedded_memory, name)


def _surface(kind: type) -> Iterator[tuple[str, object]]:
    """Each public member, as something that can be compared."""
    for name, member in vars(kind).items():
        if name.startswith("_") and name not in ("__enter__", "__exit__", "__aenter__", "__aexit__"):
            continue
        plain = name.replace("__a", "__")
        if isinstance(member, cached_property):
            yield plain, ("property", _plain(inspect.signature(member.func).return_annotation))
        elif isinstance(member, property):
            assert member.fget is not None
            yield plain, ("property", _plain(inspect.signature(member.fget).return_annotation))
        elif inspect.isfunction(member):
            signature = inspect.signature(member)
            yield (
                plain,
                (
                    [
                        (p.name, p.kind, p.default, _plain(p.annotation))
                        for p in signature.parameters.values()
                    ],
                    _plain(signature.return_annotation),
                ),
            )


def _plain(annotation: Any) -> str:
    return re.sub(r"\bAsync(?=[A-Z])", "", str(annotation)).replace("memory_lines.Progress", "Progress")


@pytest.mark.parametrize("name", NAMES)
def test_the_surface_is_one(name: str) -> None:
    wanted = dict(_surface(_embedded(name)))
    assert wanted
    assert dict(_surface(_class(sync, sync_memory, name))) == wanted
    assert dict(_surface(_class(aio, aio_memory, f"Async{name}"))) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_what_waits_is_awaited(name: str) -> None:
    """Only what looks nothing up may be called without awaiting it."""
    at_once = {"db", "memory", "at", "kv", "docs", "vectors", "turns"}
    for method, member in vars(_class(aio, aio_memory, f"Async{name}")).items():
        if method.startswith("_") or not inspect.isfunction(member) or method in at_once:
            continue
        assert inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member), method


def test_everything_public_says_what_it_does() -> None:
    for name in NAMES:
        for kind in (_class(sync, sync_memory, name), _class(aio, aio_memory, f"Async{name}")):
            assert kind.__doc__
            for method, member in vars(kind).items():
                if not method.startswith("_") and (
                    inspect.isfunction(member) or isinstance(member, property)
                ):
                    assert inspect.getdoc(member), f"{name}.{method}"


def test_the_constructors_differ_only_in_what_a_store_and_a_server_need() -> None:
    store, server = (set(inspect.signature(kind).parameters) for kind in (embedded.Memoturn, sync.Memoturn))
    assert store - server == {"data_dir", "settings", "embedder"}
    assert server - store == {"token", "timeout", "retries"}
    assert set(inspect.signature(aio.AsyncMemoturn).parameters) == server
