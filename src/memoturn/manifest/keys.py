"""Every object's key is spelled here and nowhere else."""

from __future__ import annotations

CATALOG = "catalog/"


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
    return f"db/{db_uuid}/{incarnation}/{segment}"


def incarnation_of(segment_key: str) -> str:
    """What the keys of all segments of one incarnation begin with, and no other key does."""
    return "/".join(segment_key.split("/", 3)[:3])


def base_index_key(base_key: str) -> str:
    """Where the index of the base at `base_key` lies."""
    return base_key.removesuffix(".ltx") + ".idx"
