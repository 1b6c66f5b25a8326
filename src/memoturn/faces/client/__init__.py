"""The client of a server: the surface of the embedded one over HTTP, without the engine.

What is asked and what an answer means are pure functions in `calls/`. The client is written once, in `aio/`; `sync/`
is made from it by `tools/generate_sync.py`, and a test holds that it is current.
"""
