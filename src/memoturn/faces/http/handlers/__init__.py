"""What each route does: a call in, an answer out, on a thread. Each asks the operations and nothing lower."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from memoturn.node.engine import AtHand

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

AT_HAND: Final[Mapping[str, Callable[[Call, AtHand], Answer | None]]] = kv.AT_HAND
"""What some routes can answer on the event loop, because all that they need lies in memory; None if it does not."""
