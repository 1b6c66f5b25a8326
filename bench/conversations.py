"""Long conversations with questions whose answers are known to stand in certain turns: LoCoMo's JSON."""

from memoturn.faces.cli.demo.conversation import Conversation, Question, Turn, read

__all__ = ["CATEGORIES", "Conversation", "Question", "Turn", "read"]

CATEGORIES = {1: "several turns", 2: "when", 3: "inference", 4: "one turn", 5: "no answer"}
"""What the data set asks: its own numbers, and what they mean."""
