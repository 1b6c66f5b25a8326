# Made from ../aio/__init__.py by tools/generate_sync.py; change that, and `make client`.

"""The client for programs without an event loop; what is here is made from `aio/`."""
