"""`python -m memoturn.faces.cli`, for where the console script is not on the path."""

from memoturn.faces.cli.main import run

run()
