"""A file server on the loopback for the cubing benchmark: byte ranges, a stated latency, little work.

``python -m tests.benchmarks.cubing_server FOLDER MILLISECONDS`` prints its address and serves until its
standard input ends. ``/any/name.tif`` is ``FOLDER/name.tif``: one tile stands for any number of scenes. Files
are mapped into memory, and an answer waits without a thread, so that hundreds may wait at once.
"""

from __future__ import annotations

import asyncio
import mmap
import re
import sys
from pathlib import Path

_REQUEST = re.compile(rb"(GET|HEAD) /\S*?([^/\s]+) HTTP/1\.1\r\n")
_RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-(\d*)", re.IGNORECASE)


class _Connection(asyncio.Protocol):
    def __init__(self, files: dict[bytes, memoryview], latency_s: float) -> None:
        self._files = files
        self._latency_s = latency_s
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pending += data
        while (end := self._pending.find(b"\r\n\r\n")) >= 0:
            head, self._pending = self._pending[: end + 4], self._pending[end + 4 :]
            asyncio.get_running_loop().call_later(self._latency_s, self._answer, head)

    def _answer(self, head: bytes) -> None:
        request, wanted = _REQUEST.match(head), _RANGE.search(head)
        content = self._files.get(request[2]) if request else None
        if request is None or content is None:
            self._transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        total = len(content)
        lines = [b"HTTP/1.1 200 OK", b"Accept-Ranges: bytes", b'ETag: "made-up"', b"Content-Type: image/tiff"]
        first, end = 0, total
        if wanted:
            first, end = int(wanted[1]), min(int(wanted[2] or total - 1) + 1, total)
            lines[0] = b"HTTP/1.1 206 Partial Content"
            lines.append(b"Content-Range: bytes %d-%d/%d" % (first, end - 1, total))
        lines.append(b"Content-Length: %d" % (end - first))
        self._transport.write(b"\r\n".join(lines) + b"\r\n\r\n")
        if request[1] == b"GET":
            self._transport.write(content[first:end])


async def _serve(folder: Path, latency_s: float) -> None:
    files = {}
    for path in folder.glob("*.tif"):
        with path.open("rb") as file:
            files[path.name.encode()] = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(files, latency_s), "127.0.0.1", 0, backlog=512)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2]) / 1000))
