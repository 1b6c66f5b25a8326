"""The sync client is made from the async one, and is current; the client does not load the engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tools import generate_sync

ENGINE = ("apsw", "numpy", "obstore", "lz4", "memoturn.operations", "memoturn.node", "memoturn.bucket")


def test_the_sync_client_is_current() -> None:
    assert generate_sync.stale() == []


def test_what_is_not_current_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("aio", "async def f(g: AsyncG) -> None:\n    await g.go()\n"), ("sync", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.py").write_text(text)
    (tmp_path / "sync" / "left.py").write_text("")
    monkeypatch.setattr(generate_sync, "CLIENT", tmp_path)
    assert generate_sync.stale() == ["left.py", "one.py"]
    monkeypatch.setattr(sys, "argv", ["generate_sync.py", "--check"])
    with pytest.raises(SystemExit, match=r"left\.py, one\.py"):
        generate_sync.main()
    monkeypatch.setattr(sys, "argv", ["generate_sync.py"])
    generate_sync.main()
    assert generate_sync.stale() == []
    assert "def f(g: G) -> None:\n    g.go()\n" in (tmp_path / "sync" / "one.py").read_text()


@pytest.mark.parametrize(
    "program",
    [
        "from memoturn import Memoturn; mt = Memoturn('http://h', token='t'); mt.db('a'); mt.memory('a', 'b')",
        "from memoturn import AsyncMemoturn; mt = AsyncMemoturn('https://h'); mt.memory('a', 'b').db.branch",
        "import memoturn.faces.client.sync.client, memoturn.faces.client.aio.memory",
    ],
)
def test_a_client_does_not_load_the_engine(program: str) -> None:
    looking = f"import sys; print([name for name in {ENGINE} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; {looking}"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n", done.stderr
