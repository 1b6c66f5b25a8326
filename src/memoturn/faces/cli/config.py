"""`memoturn config`: every setting, its value, and where that comes from."""

from __future__ import annotations

from memoturn.faces.cli.session import Session


def config(session: Session) -> None:
    """Show each setting with its value and where it comes from: default, env or flag."""
    shown = session.configuration.shown
    session.table(shown, ("setting", "value", "from"), [(s.name, s.value, s.source) for s in shown])
