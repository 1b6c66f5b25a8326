"""Which schemas of files that others wrote are let in: those that SQL here could have made, and our own exports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from memoturn.base.errors import InvalidRequestError
from memoturn.models.allowed import RESERVED, is_patching, is_reserved


def check_schema(shown: str, schema: Iterable[tuple[Any, ...]]) -> None:
    """`schema` holds type, name, table and SQL of everything in the file that is called `shown`.

    Reserved tables come in, because exports have them, with their own indexes and triggers. What is not reserved may
    not mention them: a foreign key would keep our models from deleting, a trigger or a view would be refused in use.
    Raises `InvalidRequestError`.
    """
    for kind, name, table, sql in schema:
        text = str(sql or "")
        if is_reserved(table) != is_reserved(name) or (not is_reserved(name) and RESERVED in text.lower()):
            raise InvalidRequestError(
                f"{shown} cannot be imported: names that begin with {RESERVED} are reserved, and its {kind} {name!r} "
                "mentions one; drop it first"
            )
        if kind in ("table", "index") and is_patching(text):
            raise InvalidRequestError(
                f"{shown} cannot be imported: json_patch() takes too long to be in its {kind} {name!r}; drop it first"
            )
