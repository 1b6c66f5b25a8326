"""The server: operations over HTTP."""
