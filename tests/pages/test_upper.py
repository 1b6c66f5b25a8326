"""The pages that every query begins with are chosen for copies: schema first, then the inside of trees from above."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import apsw

from memoturn.base.txids import PAGE_SIZE, PageNo
from memoturn.pages.upper import UpperPages
from memoturn.segments.copies import decode_copy, encode_copy, split_copies

LEAVES = (0x0A, 0x0D)


@lru_cache(maxsize=1)
def database() -> list[bytes]:
    """A tree of three levels, another one with keys of text, and a schema of several pages."""
    connection = apsw.Connection(":memory:")
    connection.execute("PRAGMA page_size=4096")
    for number in range(100):
        connection.execute(f"CREATE TABLE table_{number}(some_column_{number} TEXT, x, y, z)")
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB); CREATE TABLE k(k TEXT PRIMARY KEY)")
    with connection:
        connection.executemany("INSERT INTO t VALUES (?, zeroblob(3000))", ((n,) for n in range(1500)))
        connection.executemany("INSERT INTO k VALUES (?)", ((f"{n * 7919 % 5003:060}",) for n in range(5000)))
    file = connection.serialize("main")
    return [file[at : at + PAGE_SIZE] for at in range(0, len(file), PAGE_SIZE)]


def chosen(pages: list[bytes], upper: UpperPages) -> list[int]:
    for pgno, page in enumerate(pages, 1):
        upper.offer(PageNo(pgno), page)
    copies = dict(split_copies(b"".join(upper.chosen())))
    assert all(decode_copy(packed) == pages[pgno - 1] for pgno, packed in copies.items())
    return list(copies)


def tree(pages: list[bytes], root: int) -> Iterator[tuple[int, int]]:
    """Every page of a tree with its height: 0 for leaves."""
    start = 100 if root == 1 else 0
    page = pages[root - 1]
    if page[start] in LEAVES:
        yield root, 0
        return
    cells = int.from_bytes(page[start + 3 : start + 5], "big")
    pointers = [start + 12 + 2 * n for n in range(cells)]
    below = [int.from_bytes(page[at : at + 2], "big") for at in pointers] + [start + 8]
    height = 0
    for cell in below:
        for child, level in tree(pages, int.from_bytes(page[cell : cell + 4], "big")):
            height = max(height, level + 1)
            yield child, level
    yield root, height


def roots(pages: list[bytes]) -> list[int]:
    connection = apsw.Connection(":memory:")
    connection.deserialize("main", b"".join(pages))
    return [1, *(row[0] for row in connection.execute("SELECT DISTINCT rootpage FROM sqlite_schema"))]


def test_the_schema_and_the_inside_of_every_tree_are_copied_and_no_leaf_of_a_table() -> None:
    pages = database()
    of_schema = [pgno for pgno, _ in tree(pages, 1)]
    inside = [pgno for root in roots(pages)[1:] for pgno, height in tree(pages, root) if height]
    assert len(of_schema) > 3
    assert len(inside) > 5
    found = chosen(pages, UpperPages())
    assert sorted(found) == sorted({*of_schema, *inside})
    assert set(found[: len(of_schema)]) == set(of_schema)


def test_what_lies_above_goes_first_where_room_is_short() -> None:
    pages = database()
    heights = {pgno: height for root in roots(pages)[1:] for pgno, height in tree(pages, root)}
    of_schema = {pgno for pgno, _ in tree(pages, 1)}
    high = {pgno for pgno, height in heights.items() if height > 1}
    assert high
    room = sum(len(encode_copy(PageNo(n), pages[n - 1])) for n in of_schema | high)
    assert set(chosen(pages, UpperPages(copied_bytes=room))) == of_schema | high


def test_little_is_kept_while_the_pages_of_a_large_database_pass_by() -> None:
    pages = database()
    of_schema = {pgno for pgno, _ in tree(pages, 1)}
    upper = UpperPages(kept_bytes=24 << 10)
    most = 0
    for pgno, page in enumerate(pages, 1):
        upper.offer(PageNo(pgno), page)
        most = max(
            most, sum(map(len, upper._schema.values())) + sum(len(k.copy) for k in upper._kept.values())
        )
    assert most <= 24 << 10
    assert set(upper._schema) == of_schema


def test_pages_that_only_look_like_one_inside_a_tree_do_no_harm() -> None:
    pages = [bytes([kind]) + bytes([n % 256]) * (PAGE_SIZE - 1) for n in range(300) for kind in (2, 5)]
    assert set(chosen([pages[0][:100] + pages[0][: PAGE_SIZE - 100], *pages], UpperPages())) <= set(
        range(1, 602)
    )
