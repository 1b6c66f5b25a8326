"""The client without a server: the same surface as over HTTP, straight on a store."""
