"""Counts what an archive was asked for, so that a test can say "no asset was read"."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

PATH = "/_requests"
UNCOUNTED = ("/_mgmt/", "/_faults")
KINDS = ("search", "asset", "asset_head", "asset_missing", "api")


class RequestLog:
    """ASGI middleware: ``GET /_requests`` gives the counts, ``DELETE /_requests`` starts them anew.

    Kinds: ``search`` (GET or POST /search, and a collection's items), ``asset`` (GET of a file in /assets/…),
    ``asset_head`` (HEAD of the same), ``asset_missing`` (either of a file that is not there: GDAL looks for
    sidecars) and ``api`` (the rest). ``asset_bytes`` counts body bytes sent, and ``recent`` holds the last
    requests as [method, path, Range header, status].
    """

    def __init__(self, app: App, keep: int = 1000) -> None:
        self.app = app
        self.counts: Counter[str] = Counter()
        self.recent: deque[list[Any]] = deque(maxlen=keep)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(UNCOUNTED):
            await self.app(scope, receive, send)
            return
        if scope["path"] == PATH:
            await self._answer(scope["method"], send)
            return
        kind = _kind(scope["method"], scope["path"])
        wanted = dict(scope["headers"]).get(b"range", b"").decode("latin-1")
        entry = [scope["method"], scope["path"], wanted, None]
        self.recent.append(entry)

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry[3] = message["status"]
                missing = message["status"] == 404 and kind.startswith("asset")
                self.counts["asset_missing" if missing else kind] += 1
            elif kind == "asset" and entry[3] in (200, 206):
                self.counts["asset_bytes"] += len(message.get("body", b""))
            await send(message)

        await self.app(scope, receive, counted)

    async def _answer(self, method: str, send: Send) -> None:
        if method == "DELETE":
            self.counts.clear()
            self.recent.clear()
        document = {kind: self.counts[kind] for kind in (*KINDS, "asset_bytes")}
        body = json.dumps({**document, "recent": list(self.recent)}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _kind(method: str, path: str) -> str:
    if path.startswith("/assets/"):
        return "asset_head" if method == "HEAD" else "asset"
    if path == "/search" or (path.startswith("/collections/") and path.endswith("/items")):
        return "search"
    return "api"
