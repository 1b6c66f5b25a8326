"""Bodies in files: they are removed without holding up anybody else."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from memoturn.faces.http import spool
from tests.faces.http.running import Running


@pytest.mark.parametrize("body", [b"no database", None])
def test_a_body_is_removed_by_a_thread_that_answers_nobody(
    server: Running, name: str, body: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    unlink = Path.unlink

    def watched(path: Path, *given: Any, **named: Any) -> None:
        if path.name.startswith(spool._PREFIX):
            removed.append(threading.current_thread().name)
        unlink(path, *given, **named)

    monkeypatch.setattr(Path, "unlink", watched)
    if body is None:
        body = server.http.get(f"/v1/databases/{name}/export").content
    done = server.http.post(f"/v1/databases/{name}-again/import", content=body)
    assert done.status_code == (400 if body == b"no database" else 201), done.text
    assert len(removed) == 1
    assert removed[0].startswith(("asyncio", "uvloop"))  # What event loops call their helpers.
    assert list(server.spool.iterdir()) == []
