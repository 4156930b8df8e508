"""A proxy on loopback before an object store, that fails as told.

``python -m tests.object_store.faulty_proxy URL`` starts one. It runs in a process of its own and is steered
over HTTP, at paths that no bucket has:

- ``PUT /-/faults``: the list of faults (``Fault`` as JSON) and the seed that decides at random moments;
- ``GET /-/requests``: what was asked for since then: ``[[method, path, what was done], …]``;
- ``PUT /-/gone``: refuse all connections from now on, until ``SIGUSR1`` comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Fault:
    """One way to fail, for requests that match."""

    kind: str
    """``drop``: hang up before anything reaches the store; ``403``, ``500``, ``503``: answer so;
    ``delay``: answer late; ``cut-upload``: half of what is sent reaches the store; ``cut-answer``: half of
    the answer comes; ``taken-then-dropped``, ``taken-then-500``: the store has done it, and nobody hears of
    it; ``gone``: no connection is to be had from here on; ``taken-then-gone``: the same, once the store has
    done it."""
    method: str = "*"
    path: str = "*"
    rate: float = 1.0
    """Probability that a matching request fails."""
    after: int = 0
    """Matching requests that go well first."""
    times: int | None = None
    """How often it happens."""
    seconds: float = 0.05
    """Of ``delay``."""


@dataclass(frozen=True)
class FaultyProxy:
    """A running proxy."""

    endpoint: str
    process: subprocess.Popen[str]

    def fail(self, *faults: Fault, seed: int = 0) -> None:
        """From now on fail like this; forgets what was asked for before."""
        self._ask("PUT", "faults", {"faults": [asdict(fault) for fault in faults], "seed": seed})

    def requests(self) -> list[tuple[str, str, str]]:
        """(method, path, what was done to it) since the faults were set."""
        return [tuple(entry) for entry in self._ask("GET", "requests")]

    def go(self) -> None:
        """Refuse all connections."""
        self._ask("PUT", "gone", {})

    def come_back(self) -> None:
        """Take connections again, without a fault."""
        self.process.send_signal(signal.SIGUSR1)
        for _ in range(200):
            with contextlib.suppress(OSError):
                self.fail()
                return
            time.sleep(0.02)
        raise TimeoutError("the proxy does not come back")

    def _ask(self, method: str, what: str, document: Any = None) -> Any:
        data = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"{self.endpoint}/-/{what}", data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=20) as answer:
            return json.loads(answer.read() or b"null")


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[FaultyProxy]:
    """Start a proxy before an endpoint; it passes everything on until told otherwise."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.object_store.faulty_proxy", upstream],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield FaultyProxy(process.stdout.readline().strip(), process)
    finally:
        process.kill()
        process.communicate()


# ---------------------------------------------------------------------- inside its process

ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message>'
    "<RequestId>1</RequestId></Error>"
)
ANSWERS = {
    "403": ("403 Forbidden", "AccessDenied"),
    "500": ("500 Internal Server Error", "InternalError"),
    "503": ("503 Slow Down", "SlowDown"),
}


class _Proxy:
    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.listening: asyncio.Server | None = None
        self.own_port = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.set_faults([], 0)

    def set_faults(self, faults: Sequence[dict[str, Any]], seed: int) -> None:
        self.faults = [Fault(**fault) for fault in faults]
        self.matched = [0] * len(self.faults)
        self.happened = [0] * len(self.faults)
        self.rng = random.Random(seed)
        self.log: list[tuple[str, str, str]] = []

    async def listen(self) -> None:
        self.listening = await asyncio.start_server(self.serve, "127.0.0.1", self.own_port)
        self.own_port = self.listening.sockets[0].getsockname()[1]

    def go(self) -> None:
        if self.listening is not None:
            self.listening.close()
            self.listening = None
        for writer in self.open:
            writer.transport.abort()

    async def come_back(self) -> None:
        self.set_faults([], 0)
        if self.listening is None:
            await self.listen()

    def choose(self, method: str, path: str) -> Fault | None:
        for number, fault in enumerate(self.faults):
            if fault.method not in ("*", method) or not fnmatchcase(path, fault.path):
                continue
            self.matched[number] += 1
            spent = fault.times is not None and self.happened[number] >= fault.times
            if spent or self.matched[number] <= fault.after or self.rng.random() >= fault.rate:
                continue
            self.happened[number] += 1
            return fault
        return None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            while await self.one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; whether the connection stays."""
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        headers = _headers(head)
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _body(reader, headers)
        if path.startswith("/-/"):
            return await self.steer(method, path[3:], body, writer)
        fault = self.choose(method, path)
        kind = fault.kind if fault else "passed"
        self.log.append((method, path, kind))
        if fault and kind == "delay":
            await asyncio.sleep(fault.seconds)
        if kind == "gone":
            self.go()
        if kind in ("drop", "gone"):
            writer.transport.abort()
            return False
        if kind in ANSWERS:
            writer.write(_error(kind, method))
            await writer.drain()
            return True
        if kind == "cut-upload":
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self.forward(head, body, cut=True)
            writer.transport.abort()
            return False
        answer = await self.forward(head, body)
        if kind == "taken-then-500":
            writer.write(_error("500", method))
            await writer.drain()
            return True
        if kind == "taken-then-gone":
            self.go()
        if kind in ("taken-then-dropped", "taken-then-gone"):
            writer.transport.abort()
            return False
        if kind == "cut-answer":
            end = answer.index(b"\r\n\r\n") + 4
            writer.write(answer[: end + (len(answer) - end) // 2])
            await writer.drain()
            writer.close()
            return False
        writer.write(answer)
        await writer.drain()
        return b"\r\nconnection: close" not in answer[: answer.index(b"\r\n\r\n")].lower()

    async def forward(self, head: bytes, body: bytes, *, cut: bool = False) -> bytes:
        """What the store answers, whole, with its length told."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            lines = head[:-4].split(b"\r\n")
            skipped = (b"connection:", b"expect:", b"transfer-encoding:", b"content-length:")
            kept = [line for line in lines if not line.lower().startswith(skipped)]
            kept += [b"Connection: close", b"Content-Length: %d" % len(body)]
            writer.write(b"\r\n".join(kept) + b"\r\n\r\n" + (body[: len(body) // 2] if cut else body))
            await writer.drain()
            if cut:
                writer.transport.abort()
                return b""
            answered = await reader.readuntil(b"\r\n\r\n")
            headers = _headers(answered)
            if head.startswith(b"HEAD ") or answered.split(b" ", 2)[1] in (b"204", b"304"):
                content = b""
            elif "content-length" in headers:
                content = await reader.readexactly(int(headers["content-length"]))
            elif "chunked" in headers.get("transfer-encoding", ""):
                content = await _chunks(reader)
            else:
                content = await reader.read()
            told = [
                line
                for line in answered[:-4].split(b"\r\n")
                if not line.lower().startswith((b"connection:", b"transfer-encoding:"))
            ]
            if "content-length" not in headers:
                told.append(b"Content-Length: %d" % len(content))
            return b"\r\n".join(told) + b"\r\n\r\n" + content
        finally:
            writer.close()

    async def steer(self, method: str, what: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        answer: Any = None
        if what == "faults":
            given = json.loads(body)
            self.set_faults(given["faults"], given["seed"])
        elif what == "requests":
            answer = self.log
        text = json.dumps(answer).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
        await writer.drain()
        if what == "gone":
            writer.close()
            self.go()
        return False


def _headers(head: bytes) -> dict[str, str]:
    lines = (line.split(":", 1) for line in head.decode("latin-1").split("\r\n")[1:] if ":" in line)
    return {name.strip().lower(): value.strip() for name, value in lines}


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", ""):
        return await _chunks(reader)
    return await reader.readexactly(int(headers.get("content-length", 0)))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    while (await reader.readline()).strip():
        pass
    return b"".join(parts)


def _error(kind: str, method: str) -> bytes:
    status, code = ANSWERS[kind]
    text = b"" if method == "HEAD" else ERROR.format(code=code).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


async def _main(upstream: str) -> None:
    proxy = _Proxy(upstream)
    await proxy.listen()
    loop = asyncio.get_running_loop()
    waiting: set[asyncio.Task[None]] = set()

    def come_back() -> None:
        task = loop.create_task(proxy.come_back())
        waiting.add(task)
        task.add_done_callback(waiting.discard)

    loop.add_signal_handler(signal.SIGUSR1, come_back)
    print(f"http://127.0.0.1:{proxy.own_port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
