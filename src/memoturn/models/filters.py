"""Filters on documents become conditions in SQL: pure text and parameters, and an index is used where there is one.

What they mean, and a model in the tests says the same:

- A condition compares one value with one value: an array is never searched for an item that fits.
- Values of different kinds are never equal, and neither is above the other; the kinds are numbers, texts, booleans,
  arrays and objects. 1 equals 1.0. Texts are in the order of their code points. Arrays and objects are equal if all
  that is in them is; the order of fields does not matter. Only numbers and texts can be above or below.
- A field that is missing equals null. `$exists` tells the two apart.
- `$ne`, `$nin` and `$not` match whatever their counterpart does not, documents without the field included.

A condition is true, false or NULL, and NULL counts as false; only a negation has to look closer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from memoturn.base.errors import InvalidRequestError
from memoturn.base.json_text import encode, shown
from memoturn.models import paths
from memoturn.models.paths import Path

MAX_DEPTH: Final = 32
MAX_LIST: Final = 1000
MAX_CONDITIONS: Final = 4000

_NUMBER: Final = "('integer', 'real')"
_ORDERS: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_OPERATORS: Final = (
    "$eq $ne $gt $gte $lt $lte $in $nin $exists $not; $and, $or and $not also around conditions"
)


class Condition(NamedTuple):
    """A condition in SQL and the values of its `?`s."""

    sql: str
    params: list[Any]


class _Id:
    """The document's `_id`: always there, always a text."""

    value = "id"
    kind = "'text'"


Place = Path | type[_Id]


def compile_filter(given: object) -> Condition:
    """The condition that a filter stands for. Raises `InvalidRequestError`, which says what is wrong and where."""
    if given is None:
        return Condition("1", [])
    compiler = _Compiler()
    sql = compiler.filter(given, 1)
    return Condition(sql, compiler.params)


def compile_sort(given: object) -> str:
    """What follows ORDER BY: the given paths, 1 for ascending and -1 for descending, then `_id` as the last of them.

    Missing and null come first, then numbers (false is 0 and true is 1), then texts; arrays and objects are where
    their JSON text would be. Raises `InvalidRequestError`.
    """
    if given is None:
        return "id"
    if not isinstance(given, dict) or len(given) > MAX_DEPTH:
        raise InvalidRequestError(
            f'sort is an object of at most {MAX_DEPTH} paths, such as {{"age": 1, "name": -1}}, not {shown(given)}'
        )
    terms = []
    for path, direction in given.items():
        if type(direction) is not int or direction not in (1, -1):
            raise InvalidRequestError(
                f"sort by {path!r}: 1 is ascending and -1 descending, not {shown(direction)}"
            )
        terms.append(place(path).value + (" DESC" if direction < 0 else ""))
    # The order of an index on the last path, read forwards or backwards.
    return ", ".join([*terms, "id DESC" if terms and terms[-1].endswith(" DESC") else "id"])


def place(path: str) -> Place:
    """Where a path leads. Raises `InvalidRequestError`."""
    return _Id if path == "_id" else paths.parse(path)


class _Compiler:
    def __init__(self) -> None:
        self.params: list[Any] = []
        self._conditions = 0

    def filter(self, given: object, depth: int) -> str:
        if type(given) is not dict:
            raise InvalidRequestError(f"a filter is a JSON object, not {shown(given)}")
        self._deeper(depth, given)
        terms = []
        for name, value in given.items():
            if name in ("$and", "$or"):
                of = [self.filter(item, depth + 1) for item in self._list(name, value, least=1)]
                terms.append(_join(" AND " if name == "$and" else " OR ", of))
            elif name == "$not":
                terms.append(_not(self.filter(value, depth + 1)))
            elif isinstance(name, str) and name.startswith("$"):
                raise InvalidRequestError(
                    f"{name!r} is no operator around conditions; there are $and, $or and $not"
                )
            else:
                terms.append(self.field(name, place(name), value, depth + 1))
        return _join(" AND ", terms)

    def field(self, path: str, at: Place, value: object, depth: int) -> str:
        if type(value) is not dict or not any(isinstance(n, str) and n.startswith("$") for n in value):
            return self.equal(path, at, value, depth)
        self._deeper(depth, value)
        return _join(" AND ", [self.operator(path, at, name, of, depth) for name, of in value.items()])

    def operator(self, path: str, at: Place, name: str, of: Any, depth: int) -> str:
        if name in _ORDERS:
            return self.order(path, at, name, of)
        if name == "$eq":
            return self.equal(path, at, of, depth)
        if name == "$ne":
            return _not(self.equal(path, at, of, depth))
        if name == "$in":
            return self.one_of(path, at, self._list(f"{path}: $in", of), depth)
        if name == "$nin":
            return _not(self.one_of(path, at, self._list(f"{path}: $nin", of), depth))
        if name == "$exists":
            if type(of) is not bool:
                raise InvalidRequestError(f"{path}: $exists is true or false, not {shown(of)}")
            return self._counted(f"{at.kind} IS {'NOT ' if of else ''}NULL")
        if name == "$not":
            if type(of) is not dict or not of or not all(isinstance(n, str) and n[:1] == "$" for n in of):
                raise InvalidRequestError(
                    f'{path}: $not takes operators, such as {{"$not": {{"$gt": 5}}}}; $ne takes a value'
                )
            return _not(self.field(path, at, of, depth + 1))
        if isinstance(name, str) and name.startswith("$"):
            raise InvalidRequestError(f"{path}: {name!r} is no operator; there are {_OPERATORS}")
        raise InvalidRequestError(
            f'{path}: {name!r} stands among operators; a value that has both is given as {{"$eq": …}}'
        )

    def order(self, path: str, at: Place, name: str, of: Any) -> str:
        if type(of) is str:
            kind = f"{at.kind} = 'text'"
        elif type(of) in (int, float):
            kind = f"{at.kind} IN {_NUMBER}"
        else:
            raise InvalidRequestError(f"{path}: {name} compares with a number or a text, not {shown(of)}")
        return self._counted(f"(unlikely({at.value} {_ORDERS[name]} ?) AND {kind})", _checked(path, of))

    def equal(self, path: str, at: Place, value: Any, depth: int) -> str:
        kind = type(value)
        if value is None:
            return self._counted(f"{at.value} IS NULL")
        if kind is bool:
            return self._counted(f"({at.value} = {int(value)} AND {at.kind} = '{str(value).lower()}')")
        if kind is str:
            return self._counted(f"({at.value} = ? AND {at.kind} = 'text')", _checked(path, value))
        if kind is int or kind is float:
            return self._counted(f"({at.value} = ? AND {at.kind} IN {_NUMBER})", _checked(path, value))
        if kind is dict or kind is list or kind is tuple:
            self._deeper(depth, value)
            if at is _Id:
                return self._counted("0")
            assert isinstance(at, Path)
            if kind is dict:
                return self._equal_object(path, at, value, depth)
            return self._equal_array(path, at, value, depth)
        raise InvalidRequestError(f"{path}: {shown(value)} is no JSON value")

    def _equal_object(self, path: str, at: Path, value: dict[str, Any], depth: int) -> str:
        terms = [self._counted(f"{at.kind} = 'object'"), self._counted(f"{at.fields} = {len(value)}")]
        for name, item in value.items():
            if type(name) is not str:
                raise InvalidRequestError(
                    f"{path} has a field named {shown(name)}; the names of fields are texts"
                )
            inside = at.field(name)
            terms.append(self.equal(path, inside, item, depth + 1))
            if item is None:
                terms.append(self._counted(f"{inside.kind} = 'null'"))
        return _join(" AND ", terms)

    def _equal_array(self, path: str, at: Path, value: Sequence[Any], depth: int) -> str:
        terms = [self._counted(f"{at.kind} = 'array'"), self._counted(f"{at.length} = {len(value)}")]
        terms += [self.equal(path, at.item(number), item, depth + 1) for number, item in enumerate(value)]
        return _join(" AND ", terms)

    def one_of(self, path: str, at: Place, values: Sequence[Any], depth: int) -> str:
        """Numbers and texts are one look-up each, however many there are."""
        numbers = [v for v in values if type(v) in (int, float)]
        texts = [v for v in values if type(v) is str]
        others = [v for v in values if type(v) not in (int, float, str)]
        terms = []
        for chosen, kind in ((numbers, f"IN {_NUMBER}"), (texts, "= 'text'")):
            if chosen:
                listed = encode(path, chosen).decode()
                terms.append(
                    self._counted(
                        f"({at.value} IN (SELECT value FROM json_each(?)) AND {at.kind} {kind})", listed
                    )
                )
        terms += [self.equal(path, at, value, depth + 1) for value in others]
        return _join(" OR ", terms) if terms else "0"

    def _list(self, what: str, value: Any, least: int = 0) -> Sequence[Any]:
        if type(value) not in (list, tuple) or not least <= len(value) <= MAX_LIST:
            of = f"a list of {len(value):,}" if type(value) in (list, tuple) else shown(value)
            raise InvalidRequestError(f"{what} takes a list of {least} to {MAX_LIST:,}, not {of}")
        return value  # type: ignore[no-any-return]

    def _deeper(self, depth: int, value: dict[str, Any] | Sequence[Any]) -> None:
        if depth > MAX_DEPTH:
            raise InvalidRequestError(f"a filter may be {MAX_DEPTH} levels deep; this one is deeper")
        if len(value) > MAX_LIST:
            raise InvalidRequestError(
                f"a list or an object in a filter may have {MAX_LIST:,} items; this one has {len(value):,}"
            )

    def _counted(self, sql: str, *params: Any) -> str:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise InvalidRequestError(
                f"a filter may come to {MAX_CONDITIONS:,} conditions; this one has more"
            )
        self.params += params
        return sql


def _join(word: str, terms: list[str]) -> str:
    """The terms joined as a balanced tree: SQLite limits how deep an expression is, not how wide."""
    if len(terms) <= 1:
        return terms[0] if terms else "1"
    middle = len(terms) // 2
    return f"({_join(word, terms[:middle])}{word}{_join(word, terms[middle:])})"


def _not(sql: str) -> str:
    return f"({sql}) IS NOT TRUE"


def _checked(path: str, value: Any) -> Any:
    encode(path, value)
    return value
