"""The OpenAPI document for people: one page that needs nothing from anywhere else, scripts included."""

from __future__ import annotations

from html import escape
from itertools import groupby
from typing import Any, Final

from memoturn.faces.http.openapi import document
from memoturn.faces.wire.routes import ROUTES

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; text-transform: capitalize; }
details { border-top: 1px solid var(--line); padding: .35rem 0; }
summary { cursor: pointer; display: flex; gap: .75rem; flex-wrap: wrap; align-items: baseline; }
code { font-size: 13px; } .method { width: 4rem; font-weight: 700; } .says { color: var(--soft); margin-left: auto; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
td { border-top: 1px solid var(--line); padding: .25rem .75rem .25rem 0; vertical-align: top; }
"""


def page() -> bytes:
    """The page."""
    told = document(ROUTES)
    operations = [
        (path, method, operation)
        for path, methods in told["paths"].items()
        for method, operation in methods.items()
    ]
    operations.sort(key=lambda one: _order(one[2]["tags"][0]))
    sections = [
        f"<h2>{escape(tag)}</h2>" + "".join(_operation(*one) for one in group)
        for tag, group in groupby(operations, key=lambda one: str(one[2]["tags"][0]))
    ]
    info, schemas = told["info"], told["components"]["schemas"]
    shapes = "".join(_schema(name, schema) for name, schema in sorted(schemas.items()))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Memoturn {escape(info['version'])}</title><style>{_STYLE}</style>"
        f"<h1>Memoturn {escape(info['version'])}</h1><p>{escape(info['summary'])} "
        "Programs read <a href=/openapi.json>/openapi.json</a>.</p>"
        f"{''.join(sections)}<h2>Types</h2>{shapes}"
    ).encode()


_TAGS: Final = list(dict.fromkeys(route.name.partition(".")[0] for route in ROUTES))


def _order(tag: str) -> int:
    return _TAGS.index(tag)


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = [
        (f"<code>{escape(one['name'])}</code>", escape(one["in"]), escape(one["description"]))
        for one in operation["parameters"]
    ]
    if "requestBody" in operation:
        rows.append(("body", "", _content(operation["requestBody"]["content"])))
    for status, response in operation["responses"].items():
        if "content" in response or "$ref" not in response:
            rows.append((f"answers {status}", "", _content(response.get("content", {}))))
    needs = operation["x-memoturn-needs"]
    rows.append(("needs", "", "nothing" if needs == "open" else escape(needs)))
    return (
        f"<details id='{escape(operation['operationId'])}'><summary><code class=method>{method.upper()}</code>"
        f"<code>{escape(path)}</code><span class=says>{escape(operation['summary'])}</span></summary>"
        f"<table>{''.join(f'<tr><td>{a}<td>{b}<td>{c}' for a, b, c in rows)}</table></details>"
    )


def _content(content: dict[str, Any]) -> str:
    return "<br>".join(f"{_type(one['schema'])} <code>{escape(kind)}</code>" for kind, one in content.items())


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code><td>{_type(one)}<td>{'' if field in required else 'optional'}"
        for field, one in schema.get("properties", {}).items()
    )
    return (
        f"<details id='type-{escape(name)}'><summary><code>{escape(name)}</code></summary>"
        f"<p>{escape(schema.get('description', ''))}</p><table>{rows}</table></details>"
    )


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#type-{name}'>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
    if schema.get("type") == "array" and isinstance(schema.get("items"), dict):
        return f"list of {_type(schema['items'])}"
    return escape(str(schema.get("type", "anything")))
