"""What goes wrong with an archive, on request: one line in a test, the same each time.

``server.set_faults([Fault("http-503", match="*B02.tif", times=2, retry_after_s=1)])``
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from catalog.errors import UsageError
from deployments.stac_server.request_log import App, Message, Receive, Send
from deployments.stac_server.token_service import TOKENS, TokenService

PATH = "/_faults"
KINDS = (
    "latency", "bandwidth", "reset", "truncated", "bit-flip", "html", "length-more", "length-less", "missing",
    "token", "redirect", "page-repeats", "page-loses", "endless-pages",
)  # fmt: skip
"""Besides these, ``http-<status>`` answers with that status."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with the requests that it fits."""

    kind: str
    match: str = "/assets/*"
    """Pattern of the path, as in a shell."""
    times: int | None = None
    """How many requests it spoils; all if none."""
    skip: int = 0
    """How many fitting requests pass unharmed first: what goes wrong in mid-read."""
    retry_after_s: float | None = None
    """``Retry-After`` of an ``http-…`` answer."""
    ms: float = 0.0
    """``latency``: before the first byte."""
    bytes_per_s: float = 0.0
    """``bandwidth``."""
    share: float = 0.5
    """``truncated``: what is left of the file; ``reset``: what is sent of the answer."""
    seed: int = 0
    """``bit-flip``: decides which bit, together with the path."""
    to: str = ""
    """``redirect``: where to; ``{path}`` stands for the path that was asked for."""
    life_s: float = 3600.0
    """``token``: life of a token as its ``se`` says; negative for one that has ended already."""
    uses: int | None = None
    """``token``: requests after which a token is refused whatever its ``se`` says."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS and not re.fullmatch(r"http-[1-5]\d\d", self.kind):
            raise UsageError(
                "unknown-fault",
                f"there is no fault {self.kind!r}; known: {', '.join(KINDS)}, http-<status>",
                subject=self.kind,
                next_step="choose one of these",
            )

    def to_dict(self) -> dict[str, Any]:
        """As JSON; ``Fault(**…)`` reads it back."""
        return asdict(self)


def parse_fault(text: str) -> Fault:
    """A fault as it is written on a command line: ``KIND:PATTERN[:TIMES]``.

    Raises
    ------
    UsageError: ``unknown-fault``.
    """
    kind, _, rest = text.partition(":")
    pattern, separator, times = rest.rpartition(":")
    if separator and times.isdigit():
        return Fault(kind, match=pattern or "/assets/*", times=int(times))
    return Fault(kind, match=rest or "/assets/*")


class _Active:
    """A fault and how often it came to bear."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.seen = 0
        self.applied = 0

    def takes(self, path: str) -> bool:
        """Count a request; whether it is spoiled."""
        if not fnmatchcase(path, self.fault.match):
            return False
        self.seen += 1
        spent = self.fault.times is not None and self.applied >= self.fault.times
        if self.seen <= self.fault.skip or spent:
            return False
        self.applied += 1
        return True


class Faults:
    """ASGI middleware: ``PUT /_faults`` sets what goes wrong, ``GET`` says how often it did."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.active: list[_Active] = []
        self.tokens = TokenService()
        self._page_before: list[Any] = []

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"] == PATH:
            await self._control(scope["method"], receive, send)
            return
        taken = [active.fault for active in self.active if active.takes(scope["path"])]
        if scope["path"].startswith(TOKENS) and not any(f.kind.startswith("http-") for f in taken):
            rule = next((a.fault for a in self.active if a.fault.kind == "token"), Fault("token"))
            await _answer(send, 200, self.tokens.give(scope["path"], rule.life_s, rule.uses))
            return
        await self._answer_with(taken, scope, receive, send)

    async def _control(self, method: str, receive: Receive, send: Send) -> None:
        if method in {"PUT", "DELETE"}:
            body = b""
            more = method == "PUT"
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            self.active = [_Active(Fault(**document)) for document in json.loads(body or b"[]")]
            self._page_before = []
        answer = [{**a.fault.to_dict(), "seen": a.seen, "applied": a.applied} for a in self.active]
        await _answer(send, 200, json.dumps(answer).encode())

    async def _answer_with(
        self, taken: list[Fault], scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        for fault in taken:
            if fault.kind == "latency":
                await asyncio.sleep(fault.ms / 1000)
        for fault in taken:
            instead = self._instead(fault, scope)
            if instead is not None:
                await _answer(send, *instead)
                return
        spoiling = [fault for fault in taken if fault.kind not in {"latency", "token"}]
        if not spoiling:
            await self.app(scope, receive, send)
            return
        whole = await _whole_answer(self.app, scope, receive)
        for fault in spoiling:
            self._spoil(fault, whole, scope["path"])
        await _send_spoiled(whole, spoiling, scope, send)

    def _instead(
        self, fault: Fault, scope: MutableMapping[str, Any]
    ) -> tuple[int, bytes, dict[str, str]] | None:
        """An answer that takes the place of the true one, or None."""
        if fault.kind.startswith("http-"):
            headers = {} if fault.retry_after_s is None else {"retry-after": f"{fault.retry_after_s:g}"}
            return int(fault.kind.removeprefix("http-")), b'{"detail":"on request"}', headers
        if fault.kind == "missing":
            return 404, b'{"detail":"there is no such asset"}', {}
        if fault.kind == "html":
            page = b"<!DOCTYPE html><html><body>Please log in.</body></html>"
            return 200, page, {"content-type": "text/html; charset=utf-8"}
        if fault.kind == "redirect":
            return 302, b"", {"location": fault.to.replace("{path}", scope["path"])}
        if fault.kind == "token" and not self.tokens.accepts(scope["query_string"].decode("latin-1")):
            return 403, b"<Error><Code>AuthenticationFailed</Code></Error>", {"content-type": "text/xml"}
        return None

    def _spoil(self, fault: Fault, whole: _Whole, path: str) -> None:
        """Change an answer before it is sent."""
        match fault.kind:
            case "truncated":
                _truncate(whole, fault.share)
            case "bit-flip":
                _flip(whole, fault.seed ^ zlib.crc32(path.encode()))
            case "page-repeats" | "page-loses" | "endless-pages":
                document = json.loads(whole.body)
                self._spoil_page(fault.kind, document)
                whole.body = json.dumps(document).encode()
                whole.headers["content-length"] = str(len(whole.body))
            case "length-less":
                whole.body = whole.body[: len(whole.body) // 2]
                whole.headers["content-length"] = str(len(whole.body))
            case "length-more":
                whole.headers["content-length"] = str(len(whole.body) + 1000)

    def _spoil_page(self, kind: str, page: dict[str, Any]) -> None:
        items = page.get("features", [])
        if kind == "page-repeats":
            page["features"] = [*self._page_before, *items, *items[-1:]]
            self._page_before = items
        elif kind == "page-loses":
            page["features"] = items[:-1]
        else:
            # The page that comes next is this one, for ever.
            own = next(link["href"] for link in page["links"] if link["rel"] == "self")
            following = [link for link in page["links"] if link["rel"] == "next"]
            method = "GET" if "?" in own else "POST"
            again: dict[str, Any] = {"rel": "next", "href": own, "method": method}
            again |= {"body": {}, "merge": True} if method == "POST" else {}
            page["links"] = [link for link in page["links"] if link not in following] + [again]


@dataclass
class _Whole:
    """An answer before it is sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def span(self) -> tuple[int, int] | None:
        """(first byte, size of the whole file) that the body is of."""
        stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", self.headers.get("content-range", ""))
        if stated:
            return int(stated[1]), int(stated[2])
        return (0, len(self.body)) if self.status == 200 else None


async def _whole_answer(app: App, scope: MutableMapping[str, Any], receive: Receive) -> _Whole:
    whole = _Whole(500, {}, b"")

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            whole.status = message["status"]
            whole.headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in message["headers"]}
        elif message["type"] == "http.response.body":
            whole.body += message.get("body", b"")

    await app(scope, receive, collect)
    return whole


async def _send_spoiled(
    whole: _Whole, faults: list[Fault], scope: MutableMapping[str, Any], send: Send
) -> None:
    kinds = {fault.kind: fault for fault in faults}
    headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in whole.headers.items()]
    await send({"type": "http.response.start", "status": whole.status, "headers": headers})
    body = whole.body
    if "reset" in kinds:
        body = body[: int(len(body) * kinds["reset"].share)]
    if "bandwidth" in kinds:
        rate = kinds["bandwidth"].bytes_per_s
        step = max(1, int(rate / 20))
        for start in range(0, len(body), step):
            await asyncio.sleep(min(step, len(body) - start) / rate)
            await send(_part(body[start : start + step], more=True))
        body = b""
    if "reset" in kinds or "length-more" in kinds:
        await send(_part(body, more=True))
        await asyncio.sleep(0.01)
        _hang_up(scope, hard="reset" in kinds)
        return
    await send(_part(body, more=False))


def _part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def _hang_up(scope: MutableMapping[str, Any], *, hard: bool) -> None:
    transport = scope.get(TRANSPORT)
    if transport is None:
        raise ConnectionAbortedError("the connection is broken on request")
    if hard:
        transport.abort()
    else:
        transport.close()


TRANSPORT = "swath.transport"


def with_transport(app: Callable[..., Awaitable[None]]) -> App:
    """The outermost layer: notes the connection in the scope, so that a fault can break it."""

    async def outermost(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        scope[TRANSPORT] = getattr(getattr(send, "__self__", None), "transport", None)
        await app(scope, receive, send)

    return outermost


def _truncate(whole: _Whole, share: float) -> None:
    span = whole.span
    if span is None:
        return
    first, total = span
    left = int(total * share)
    whole.body = whole.body[: max(0, left - first)]
    if whole.status == 206 and not whole.body:
        whole.status = 416
        whole.headers["content-range"] = f"bytes */{left}"
    elif whole.status == 206:
        whole.headers["content-range"] = f"bytes {first}-{first + len(whole.body) - 1}/{left}"
    whole.headers["content-length"] = str(len(whole.body))


def _flip(whole: _Whole, seed: int) -> None:
    """Flip one bit of the file, which lies behind its first tenth: the header is another matter."""
    span = whole.span
    if span is None:
        return
    first, total = span
    rng = random.Random(seed)
    at = rng.randrange(total // 10, total) - first
    if 0 <= at < len(whole.body):
        body = bytearray(whole.body)
        body[at] ^= 1 << rng.randrange(8)
        whole.body = bytes(body)


async def _answer(send: Send, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    every = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    encoded = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in every.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send(_part(body, more=False))
