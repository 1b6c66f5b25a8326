"""The ways in: each a thin translation of the operations."""
