"""A small HTTP file server on the loopback with byte ranges, a request log and faults on demand."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

Fault = Callable[["Request"], "int | bytes | None"]
"""Looks at a request and answers a status to fail with, a body to send instead, or None to serve it."""


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    method: str
    path: str
    query: str
    range: tuple[int, int] | None
    """First and last byte asked for."""


@dataclass
class RangeServer:
    """What a test sees of the server."""

    url: str
    folder: Path
    requests: list[Request] = field(default_factory=list)
    fault: Fault | None = None
    latency_s: float = 0.0

    def requests_of(self, name: str) -> list[Request]:
        return [request for request in self.requests if request.path.endswith("/" + name)]


@contextmanager
def serve_ranges(folder: Path) -> Iterator[RangeServer]:
    """Serve ``folder`` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(send_body=True)

        def do_HEAD(self) -> None:
            self._answer(send_body=False)

        def _answer(self, *, send_body: bool) -> None:
            parts = urlsplit(self.path)
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            wanted = (int(match[1]), int(match[2] or 10**15)) if match else None
            request = Request(self.command, parts.path, parts.query, wanted)
            server.requests.append(request)
            if server.latency_s:
                time.sleep(server.latency_s)
            answer = server.fault(request) if server.fault else None
            path = folder / parts.path.lstrip("/")
            if isinstance(answer, int):
                self._send(answer, b"no", send_body=send_body)
            elif isinstance(answer, bytes):
                self._send(200, answer, send_body=send_body)
            elif not path.is_file():
                self._send(404, b"not here", send_body=send_body)
            else:
                self._send_file(path, wanted, send_body=send_body)

        def _send_file(self, path: Path, wanted: tuple[int, int] | None, *, send_body: bool) -> None:
            content = path.read_bytes()
            if wanted is None:
                self._send(200, content, send_body=send_body)
                return
            first, last = wanted[0], min(wanted[1], len(content) - 1)
            if first >= len(content):
                self._send(
                    416, b"", send_body=send_body, headers={"Content-Range": f"bytes */{len(content)}"}
                )
                return
            headers = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            self._send(206, content[first : last + 1], send_body=send_body, headers=headers)

        def _send(
            self, status: int, body: bytes, *, send_body: bool, headers: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if send_body:
                with suppress(OSError):  # a client may hang up once it has what it wants
                    self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """The request log is ``server.requests``."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = RangeServer(url=f"http://127.0.0.1:{http.server_address[1]}", folder=folder)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
