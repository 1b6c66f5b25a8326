"""How history stays small and true: compaction, retention, garbage collection. Nothing here runs inside a commit."""
