"""`memoturn demo`: an agent's memory, and the database beneath it, broken and brought back on a real store."""
