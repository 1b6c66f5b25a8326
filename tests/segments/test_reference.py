"""The reference tool accepts what we write, and rebuilds real databases from it byte by byte.

Needs `ltx` in .tools/bin or on the PATH:
`GOBIN=$PWD/.tools/bin go install github.com/superfly/ltx/cmd/ltx@v0.5.3`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import apsw
import pytest

from memoturn.base.txids import LOCK_PAGE, PAGE_SIZE, TXID, PageNo, UnixMs
from memoturn.segments.base_write import BaseWriter
from memoturn.segments.checksum import CHECKSUM_FLAG
from memoturn.segments.ltx import LtxHeader, decode_ltx, encode_ltx
from memoturn.segments.pack_build import PackedCommit, build_pack, merge_packs
from tests.segments.samples import Database, noise, text

_LOCAL = Path(__file__).parents[2] / ".tools" / "bin" / "ltx"
_TOOL = str(_LOCAL) if _LOCAL.exists() else shutil.which("ltx")

pytestmark = pytest.mark.skipif(_TOOL is None, reason="the reference tool `ltx` is not installed")


def ltx(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert _TOOL is not None
    return subprocess.run([_TOOL, *map(str, arguments)], capture_output=True, text=True, check=False)


def accept(*arguments: str | Path) -> None:
    done = ltx(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


Step = Callable[[apsw.Connection], None]


def run(sql: str) -> Step:
    def step(connection: apsw.Connection) -> None:
        connection.execute(sql)

    return step


STEPS: dict[str, Step] = {
    "create": run("CREATE TABLE memory(id INTEGER PRIMARY KEY, body); INSERT INTO memory(body) VALUES ('a')"),
    "update": run("UPDATE memory SET body = 'prefers dark mode'"),
    "nothing": run("SELECT count(*) FROM memory"),
    "grow": run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) "
        "INSERT INTO memory(body) SELECT randomblob(700) FROM n"
    ),
    "index": run("CREATE INDEX by_body ON memory(body)"),
    "delete": run("DELETE FROM memory WHERE id % 3"),
    "shrink": run("VACUUM"),
    "grow again": run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) "
        "INSERT INTO memory(body) SELECT zeroblob(900) FROM n"
    ),
    "drop": run("DROP TABLE memory"),
    "shrink to one page": run("VACUUM"),
}


class History:
    """A real database, the commits that made it, and what its file was after each."""

    def __init__(self, path: Path, first_txid: int) -> None:
        connection = apsw.Connection(str(path))
        connection.execute(f"PRAGMA page_size={PAGE_SIZE}; PRAGMA journal_mode=MEMORY")
        database = Database()
        self.commits: list[PackedCommit] = []
        self.images: list[bytes] = []
        # A rewind uses up a txid without a commit: leave one out.
        txids = (n for n in range(first_txid, 100) if n != first_txid + 3)
        for step, txid in zip(STEPS.values(), txids, strict=False):
            step(connection)
            self.images.append(path.read_bytes())
            self.commits.append(database.commit(txid, self.images[-1]))
        connection.close()


@pytest.fixture(scope="module", params=[1, 5])
def history(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> History:
    return History(tmp_path_factory.mktemp("history") / "real.db", first_txid=request.param)


def test_the_history_grows_shrinks_and_stands_still(history: History) -> None:
    sizes = [len(image) // PAGE_SIZE for image in history.images]
    assert max(sizes) > 150
    assert sizes[-1] == 1
    assert any(after < before for before, after in pairwise(sizes))
    assert [] in [commit.frames for commit in history.commits]


def test_the_reference_rebuilds_the_database_after_every_commit(history: History, tmp_path: Path) -> None:
    target = tmp_path / "rebuilt.db"
    for commit, image in zip(history.commits, history.images, strict=True):
        file = tmp_path / f"{commit.txid}.ltx"
        file.write_bytes(commit.data)
        accept("verify", file)
        accept("apply", "-db", target, file)
        assert target.read_bytes() == image


def test_the_reference_rebuilds_the_database_from_the_parts_of_a_merged_pack(
    history: History, tmp_path: Path
) -> None:
    packs = [
        build_pack(history.commits[:4]),
        build_pack(history.commits[4:5]),
        build_pack(history.commits[5:]),
    ]
    merge = merge_packs([pack.index for pack in packs])
    data = b"".join(b"".join(p.chunks)[:n] for p, n in zip(packs, merge.lengths, strict=True))
    files = []
    for transaction in merge.index.transactions():
        files.append(tmp_path / f"{transaction.txid}.ltx")
        files[-1].write_bytes(data[transaction.offset : transaction.offset + transaction.length])
    accept("verify", *files)
    accept("apply", "-db", tmp_path / "rebuilt.db", *files)
    assert (tmp_path / "rebuilt.db").read_bytes() == history.images[-1]


def test_the_reference_rebuilds_the_database_from_a_base_and_goes_on_from_there(
    history: History, tmp_path: Path
) -> None:
    for at, (commit, image) in enumerate(zip(history.commits, history.images, strict=True)):
        pages = [
            (PageNo(n), image[(n - 1) * PAGE_SIZE : n * PAGE_SIZE])
            for n in range(1, len(image) // PAGE_SIZE + 1)
        ]
        base = tmp_path / f"base-{commit.txid}.ltx"
        base.write_bytes(
            b"".join(BaseWriter(commit.txid, len(pages), UnixMs(0), pages, expected=commit.post_checksum))
        )
        target = tmp_path / f"{commit.txid}.db"
        accept("verify", base)
        accept("apply", "-db", target, base)
        assert target.read_bytes() == image

        for later in history.commits[at + 1 :]:
            file = tmp_path / f"{later.txid}.ltx"
            file.write_bytes(later.data)
            accept("apply", "-db", target, file)
        assert target.read_bytes() == history.images[-1]


def test_we_read_what_the_reference_encodes(history: History, tmp_path: Path) -> None:
    source, file = tmp_path / "source.db", tmp_path / "encoded.ltx"
    for commit, image in zip(history.commits, history.images, strict=True):
        source.write_bytes(image)
        accept("encode-db", "-o", file, source)
        read = decode_ltx(file.read_bytes())
        assert b"".join(page for _, page in read.pages) == image
        assert read.post_checksum == commit.post_checksum
        assert int(ltx("checksum", source).stdout.split()[-1], 16) == commit.post_checksum


@pytest.mark.parametrize("page", [bytes(PAGE_SIZE), b"\xff" * PAGE_SIZE, noise(1), text(1)])
def test_the_reference_accepts_pages_of_any_kind(page: bytes, tmp_path: Path) -> None:
    file = tmp_path / "page.ltx"
    header = LtxHeader(2**32 - 1, TXID(2), TXID(2**63 - 1), UnixMs(2**63 - 1), CHECKSUM_FLAG, 2**64 - 1)
    pages = [(PageNo(n), page) for n in (1, 127, 128, 16_384, LOCK_PAGE - 1, LOCK_PAGE + 1, 2**32 - 1)]
    file.write_bytes(encode_ltx(header, pages, CHECKSUM_FLAG).data)
    accept("verify", file)


def test_the_reference_accepts_an_emptied_database(tmp_path: Path) -> None:
    file = tmp_path / "emptied.ltx"
    header = LtxHeader(0, TXID(2), TXID(2), UnixMs(0), CHECKSUM_FLAG)
    file.write_bytes(encode_ltx(header, [], CHECKSUM_FLAG).data)
    accept("verify", file)


def test_the_reference_accepts_a_base_around_the_lock_page(tmp_path: Path) -> None:
    def pages() -> Iterator[tuple[PageNo, bytes]]:
        for n in range(1, LOCK_PAGE + 2):
            if n != LOCK_PAGE:
                yield PageNo(n), n.to_bytes(PAGE_SIZE, "big")

    file = tmp_path / "large.ltx"
    with file.open("wb") as out:
        out.writelines(BaseWriter(TXID(3), LOCK_PAGE + 1, UnixMs(0), pages()))
    accept("verify", file)


def test_the_reference_refuses_bytes_after_the_end(history: History, tmp_path: Path) -> None:
    # This is why a base has its index in an object of its own.
    file = tmp_path / "longer.ltx"
    file.write_bytes(history.commits[0].data + b"\0")
    assert ltx("verify", file).returncode != 0
    assert ltx("apply", "-db", tmp_path / "x.db", file).returncode != 0
