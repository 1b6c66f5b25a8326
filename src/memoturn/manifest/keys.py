"""Every object's key is spelled here and nowhere else."""

from __future__ import annotations

from typing import Literal, NamedTuple

CATALOG = "catalog/"
DATABASES = "db/"
STORE_CLOCK = "clock/"


def catalog_key(name: str) -> str:
    """Where the catalog entry of the database called `name` lies."""
    return f"catalog/{name}.json"


def database_of(catalog_key: str) -> str:
    """The database's name in a catalog key."""
    return catalog_key.removeprefix(CATALOG).removesuffix(".json")


def branches_prefix(db_uuid: str) -> str:
    """Under which all branch manifests of a database lie."""
    return f"db/{db_uuid}/branches/"


def manifest_key(db_uuid: str, branch_id: str) -> str:
    """Where the manifest of the branch that carries the name now lies."""
    return f"db/{db_uuid}/branches/{branch_id}.json"


def former_manifest_key(db_uuid: str, branch_id: str, incarnation: str) -> str:
    """Where a tombstoned manifest lies whose name was taken again while it still had descendants."""
    return f"db/{db_uuid}/branches/{branch_id}~{incarnation}.json"


def branch_of(manifest_key: str) -> str | None:
    """The branch's name in the key of a current manifest; None for a former one."""
    name = manifest_key.rpartition("/")[2].removesuffix(".json")
    return None if "~" in name else name


def segment_key(db_uuid: str, incarnation: str, segment: str) -> str:
    """Where a segment lies; its name in a manifest is relative to the incarnation that wrote it."""
    return segment_below(incarnation_prefix(db_uuid, incarnation), segment)


def segment_below(prefix: str, segment: str) -> str:
    """Where a segment of the incarnation with that prefix lies."""
    return f"{prefix}/{segment}"


def incarnation_prefix(db_uuid: str, incarnation: str) -> str:
    """What the keys of all segments of an incarnation begin with, and no other key does."""
    return f"db/{db_uuid}/{incarnation}"


def incarnation_of(segment_key: str) -> str:
    """The `incarnation_prefix` of whoever wrote a segment."""
    return "/".join(segment_key.split("/", 3)[:3])


def base_index_key(base_key: str) -> str:
    """Where the index of the base at `base_key` lies."""
    return base_key.removesuffix(".ltx") + ".idx"


def database_prefix(db_uuid: str) -> str:
    """Under which everything of a database lies."""
    return f"db/{db_uuid}/"


def after_database(db_uuid: str) -> str:
    """What sorts after all keys of a database, and before those of the next one."""
    return f"db/{db_uuid}0"


def uuid_of(key: str) -> str:
    """The database that a key below `DATABASES` belongs to."""
    return key.split("/", 2)[1]


def census_prefix(db_uuid: str) -> str:
    """Under which the censuses of a database lie."""
    return f"db/{db_uuid}/census/"


def census_key(db_uuid: str, taker: str, number: int) -> str:
    """Where one part of a census lies; `taker` is whoever takes it, and no other census has it."""
    return f"db/{db_uuid}/census/{taker}-{number:08d}.json"


def census_part(census_key: str) -> tuple[str, int]:
    """Who took the census that a part of one belongs to, and the part's number; -1 for a key that names no part."""
    taker, _, number = census_key.rpartition("/")[2].removesuffix(".json").rpartition("-")
    return (taker, int(number)) if number.isdecimal() and number.isascii() else (taker, -1)


def clock_key(token: str) -> str:
    """An object that is written to learn from its listing what time it is at the store."""
    return f"clock/{token}"


class Place(NamedTuple):
    """What a key below a database stands for, as far as the key tells.

    `name` is that of a segment's object, relative to its incarnation.
    """

    kind: Literal["manifest", "census", "segment", "unknown"]
    incarnation: str
    name: str


def place_of(key: str) -> Place:
    """Take a key of a database apart."""
    parts = key.split("/", 3)
    if len(parts) == 4 and parts[0] == "db":
        _, _, second, rest = parts
        if second == "branches":
            return Place("manifest" if rest.endswith(".json") else "unknown", "", rest)
        if second == "census":
            return Place("census" if rest.endswith(".json") else "unknown", "", rest)
        if second.startswith("b_") and rest.startswith(("ltx/", "base/")):
            return Place("segment", second, rest)
    return Place("unknown", "", "")
