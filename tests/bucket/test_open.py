"""A URL opens the bucket it names, and nothing more is loaded for it than it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memoturn.base.clock import SystemClock
from memoturn.base.errors import InvalidRequestError
from memoturn.base.ids import Ids
from memoturn.bucket import Bucket, open_bucket


def opened(url: str) -> Bucket:
    return open_bucket(url, clock=SystemClock(), ids=Ids())


@pytest.mark.parametrize("url", ["memory:", "memory://", "memory:///"])
def test_each_memory_bucket_is_its_own(url: str) -> None:
    one, other = opened(url), opened(url)
    one.put("a", b"")
    assert list(other.list("")) == []
    assert (one.url, one.is_local) == ("memory:", True)


@pytest.mark.parametrize(
    "spelling", ["file:{0}/b", "file://{0}/b", "file://localhost{0}/b", "file:./b", "file:b"]
)
def test_a_directory_has_several_spellings_and_one_url(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bucket = opened(spelling.format(tmp_path))
    bucket.put("x", b"one")
    assert (tmp_path / "b" / "x").read_bytes() == b"one"
    assert (bucket.url, bucket.is_local) == (f"file://{tmp_path}/b", True)


def test_a_relative_directory_stays_where_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bucket = opened("file:./b")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    bucket.put("x", b"one")
    assert (tmp_path / "b" / "x").exists()


def test_a_directory_may_have_spaces_and_percent_signs(tmp_path: Path) -> None:
    bucket = opened(f"file://{tmp_path}/a%20b%25c")
    bucket.put("x", b"")
    assert (tmp_path / "a b%c" / "x").exists()
    assert bucket.url == f"file://{tmp_path}/a%20b%25c"


def test_objects_outlive_the_bucket_that_wrote_them(tmp_path: Path) -> None:
    first = opened(f"file:{tmp_path}")
    version = first.create("a", b"one")
    first.close()
    assert opened(f"file:{tmp_path}").get("a") == (b"one", version)


@pytest.mark.parametrize("url", ["", "data", "./data", "/data", "ftp://x", "s3", "http://x/y", "FILE:x"])
def test_another_scheme_is_refused_with_those_that_work(url: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"memory:, file:.*s3://.*gs://.*az://"):
        opened(url)


@pytest.mark.parametrize(
    "url",
    ["file:", "file://", "file://host/x", "memory:x", "s3:", "s3://", "s3:x", "s3:///x", "s3://x/../y",
     "s3://key:secret@x", "s3://x?a=b", "gs://", "az://"],
)  # fmt: skip
def test_a_url_without_a_place_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        opened(url)
    assert "secret" not in str(raised.value)


def test_local_buckets_do_not_load_the_library_of_remote_ones(tmp_path: Path) -> None:
    program = """
import sys
from memoturn.base.clock import SystemClock
from memoturn.base.ids import Ids
from memoturn.bucket import open_bucket
for url in ("memory:", "file:" + sys.argv[1]):
    open_bucket(url, clock=SystemClock(), ids=Ids()).put("a", b"")
print([name for name in sys.modules if name.startswith("obstore")])
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
