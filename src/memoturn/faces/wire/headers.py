"""The names of headers, in lower case, as they stand on the wire."""

from __future__ import annotations

from typing import Final

# Asked.
AUTHORIZATION: Final = "authorization"
BRANCH: Final = "memoturn-branch"
"""The branch, where the address in the path names none."""
AT: Final = "memoturn-at"
"""The position in the past, where the address in the path names none."""
EXACT: Final = "memoturn-exact"
"""`true`: a position of which only an older snapshot is left is refused."""
MIN_TXID: Final = "memoturn-min-txid"
"""Wait until the branch is that far, or refuse."""
CONSISTENCY: Final = "memoturn-consistency"
DURABILITY: Final = "memoturn-durability"
IDEMPOTENCY_KEY: Final = "idempotency-key"
FIRST_TRY: Final = "memoturn-first-try"
"""Beside a key that comes again: seconds since it was sent first. A younger server says that it cannot know."""
IF_MATCH: Final = "if-match"
IF_NONE_MATCH: Final = "if-none-match"

# Answered.
TXID: Final = "memoturn-txid"
"""The position that was read, or the head after a write; 0 where there is no such branch."""
READ_EXACT: Final = "memoturn-read-exact"
"""`false` where an older snapshot was read in place of the position that was asked for."""
RETRY_AFTER: Final = "retry-after"
REPLAYED: Final = "memoturn-replayed"
"""`true` on the first answer of an idempotency key, given again."""
REQUEST_ID: Final = "memoturn-request-id"
ETAG: Final = "etag"
EXPIRES_AT: Final = "memoturn-expires-at"
"""When a key will be absent, RFC 3339."""

# Both.
META: Final = "memoturn-meta"
"""A JSON object kept with a value, in ASCII."""
