"""Google Cloud Storage's XML API, as much of it as a bucket uses, after cloud.google.com/storage/docs/xml-api.

The public emulators do not honour `x-goog-if-generation-match` on this API, the one thing to test here.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class _Stored(NamedTuple):
    body: bytes
    generation: int


class _Objects:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.numbers = itertools.count(1_700_000_000_000_001)
        self.objects: dict[str, _Stored] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: str
    store: _Objects

    def log_message(self, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        parts = urlsplit(self.path)
        _, bucket, *rest = unquote(parts.path).split("/", 2)
        self.key = rest[0] if rest else ""
        self.query = {name: values[0] for name, values in parse_qs(parts.query, True).items()}
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if bucket != self.bucket:
            self.answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            return False
        return True

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        if not self.key:
            self.answer_listing()
            return
        stored = self.store.objects.get(self.key)
        if stored is None:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        size = len(stored.body)
        start, end = 0, size
        wanted = self.headers.get("Range")
        if wanted is not None:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start = int(first) if first else max(0, size - int(last))
            end = min(size, int(last) + 1) if first and last else size
            if start >= size:
                self.answer(416, b"<Error><Code>InvalidRange</Code></Error>")
                return
        headers = {
            "ETag": f'"{hash(stored.body):x}"',
            "x_goog_generation": str(stored.generation),
            "Last_Modified": formatdate(stored.generation / 1e6, usegmt=True),
        }
        if wanted is not None:
            headers["Content_Range"] = f"bytes {start}-{end - 1}/{size}"
        self.answer(200 if wanted is None else 206, stored.body[start:end], **headers)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        if "uploadId" in self.query:
            self.store.uploads[self.query["uploadId"]][int(self.query["partNumber"])] = self.body
            self.answer(200, ETag='"part"')
            return
        condition = self.headers.get("x-goog-if-generation-match")
        with self.store.lock:
            stored = self.store.objects.get(self.key)
            if condition is not None and int(condition) != (0 if stored is None else stored.generation):
                generation = None
            else:
                generation = next(self.store.numbers)
                self.store.objects[self.key] = _Stored(self.body, generation)
        if generation is None:
            self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            self.answer(200, ETag='"x"', x_goog_generation=str(generation))

    def do_POST(self) -> None:
        if "uploads" in self.query:
            name = str(next(self.store.numbers))
            self.store.uploads[name] = {}
            self.answer(
                200,
                b"<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key>"
                b"<UploadId>%s</UploadId></InitiateMultipartUploadResult>" % name.encode(),
            )
            return
        parts = self.store.uploads.pop(self.query["uploadId"])
        generation = next(self.store.numbers)
        self.store.objects[self.key] = _Stored(b"".join(parts[n] for n in sorted(parts)), generation)
        self.answer(
            200,
            b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>",
            x_goog_generation=str(generation),
        )

    def do_DELETE(self) -> None:
        if "uploadId" in self.query:
            self.store.uploads.pop(self.query["uploadId"], None)
            self.answer(204)
        elif self.store.objects.pop(self.key, None) is None:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self.answer(204)

    def answer_listing(self) -> None:
        after = max(self.query.get("start-after", ""), self.query.get("continuation-token", ""))
        prefix = self.query.get("prefix", "")
        found = sorted(key for key in list(self.store.objects) if key.startswith(prefix) and key > after)
        limit = int(self.query.get("max-keys", "1000"))
        page = found[:limit]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.store.objects[key].body)}</Size>"
            "<LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>x</ETag></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if found[limit:] else ""
        self.answer(200, f"<ListBucketResult>{contents}{token}</ListBucketResult>".encode())


@contextlib.contextmanager
def serve(bucket: str) -> Iterator[str]:
    """The endpoint of a server with one empty bucket."""
    handler = type("Handler", (_Handler,), {"bucket": bucket, "store": _Objects()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
