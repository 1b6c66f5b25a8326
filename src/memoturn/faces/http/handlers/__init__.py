"""What each route does: a call in, an answer out, on a thread. Each asks the operations and nothing lower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from memoturn.faces.http.call import Answer, Call
from memoturn.faces.http.handlers import branches, databases, kv, sql

Handler = Callable[[Call], Answer]

HANDLERS: Final[dict[str, Handler]] = {
    **databases.HANDLERS,
    **branches.HANDLERS,
    **sql.HANDLERS,
    **kv.HANDLERS,
}
"""By the names of the routes."""
