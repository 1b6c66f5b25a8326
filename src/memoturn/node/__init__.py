"""Many databases in one process: what is open, who owns what, and what a dead process left behind."""
