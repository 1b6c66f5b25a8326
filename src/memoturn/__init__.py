"""Memory for AI agents that can be forked, checkpointed and rewound as one unit."""
