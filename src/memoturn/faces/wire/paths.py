"""From a path to its route and what the path names, and back; on paths as they are sent, with their escapes.

A name may hold any character: `/` stands in it as `%2F`. Only the last name of a template that says so takes all that
is left of a path, slashes included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from memoturn.base.errors import InvalidRequestError
from memoturn.faces.wire.routes import Route

_UNESCAPED: Final = "@:~!$'()*,;="


class Found(NamedTuple):
    """The route of a path, and what the path names."""

    route: Route
    names: dict[str, str]


class Missing(NamedTuple):
    """No route: `allowed` are the methods that the path has, none if there is no such path."""

    allowed: tuple[str, ...]


class _Node:
    __slots__ = ("named", "rest", "routes", "words")

    def __init__(self) -> None:
        self.words: dict[str, _Node] = {}
        self.named: _Node | None = None
        self.rest: _Node | None = None
        self.routes: dict[str, tuple[Route, tuple[str, ...]]] = {}


class Table:
    """Finds routes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node, names = self._root, []
        for segment in route.path.split("/")[1:]:
            if not segment.startswith("{"):
                node = node.words.setdefault(segment, _Node())
                continue
            name = segment[1:-1]
            names.append(name.removesuffix("..."))
            if name.endswith("..."):
                node.rest = node.rest or _Node()
                node = node.rest
            else:
                node.named = node.named or _Node()
                node = node.named
        node.routes[route.method] = (route, tuple(names))

    def find(self, method: str, path: str) -> Found | Missing:
        """The route of a request. Raises `InvalidRequestError` for a name that is no text in UTF-8.

        A word of a template goes before a name.
        """
        segments = path.split("/")
        if segments[0]:
            return Missing(())
        given, allowed = list[str](), list[str]()
        found = _walk(self._root, method, segments, 1, given, allowed)
        if found is None:
            return Missing(tuple(dict.fromkeys(allowed)))
        route, names = found
        if not names:
            return Found(route, {})
        return Found(route, {name: _text(value) for name, value in zip(names, given, strict=True)})


def _walk(
    node: _Node, method: str, segments: list[str], at: int, given: list[str], allowed: list[str]
) -> tuple[Route, tuple[str, ...]] | None:
    """The route below a node for the segments from `at` on; what it names goes to `given`."""
    if at == len(segments):
        found = node.routes.get(method)
        if found is None:
            allowed += node.routes
        return found
    segment = segments[at]
    following = node.words.get(segment)
    if following is not None:
        found = _walk(following, method, segments, at + 1, given, allowed)
        if found is not None:
            return found
    if node.named is not None and segment:
        given.append(segment)
        found = _walk(node.named, method, segments, at + 1, given, allowed)
        if found is not None:
            return found
        given.pop()
    rest = node.rest
    if rest is None or not (segment or at + 1 < len(segments)):
        return None
    given.append("/".join(segments[at:]))
    return _walk(rest, method, segments, len(segments), given, allowed)


def _text(segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{segment!r} in the path is no text in UTF-8") from None


def path_of(route: Route, names: Mapping[str, str]) -> str:
    """The path to send. Raises `InvalidRequestError` for a name that is empty or no text."""
    parts = []
    for segment in route.path.split("/")[1:]:
        if not segment.startswith("{"):
            parts.append(segment)
            continue
        name = segment[1:-1].removesuffix("...")
        value = names[name]
        if not isinstance(value, str) or not value:
            raise InvalidRequestError(f"{value!r} is no {name}; give a text that is not empty")
        try:
            escaped = quote(value, safe=_UNESCAPED)
        except UnicodeEncodeError as error:
            raise InvalidRequestError(f"{name} has to be Unicode text: {error}") from None
        # Dots alone would be taken for a step within the path, on their way through clients and proxies.
        parts.append(escaped.replace(".", "%2E") if escaped in (".", "..") else escaped)
    return "/" + "/".join(parts)
