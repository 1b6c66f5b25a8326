"""What each route does: a call in, an answer out, on a thread. Each asks the operations and nothing lower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from memoturn.faces.http.call import Answer, Call
from memoturn.faces.http.handlers import (
    branches,
    databases,
    documents,
    kv,
    maintenance,
    memory,
    minting,
    sql,
    transfers,
    turns,
    vectors,
)

Handler = Callable[[Call], Answer]

HANDLERS: Final[dict[str, Handler]] = {
    **databases.HANDLERS,
    **branches.HANDLERS,
    **sql.HANDLERS,
    **kv.HANDLERS,
    **documents.HANDLERS,
    **vectors.HANDLERS,
    **turns.HANDLERS,
    **memory.HANDLERS,
    **transfers.HANDLERS,
    **maintenance.HANDLERS,
    **minting.HANDLERS,
}
"""By the names of the routes."""
