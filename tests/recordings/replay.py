"""Serves the recorded answers of a real archive over HTTP, so that a real client talks to what really came.

A request is answered by the first of these that fits, and the header ``X-Recording`` says which:

``exact``       the same method, path, query and body were recorded
``question``    a search for the same collections, box and time (to the second) was recorded; how many on a
                page, in which order and through which filter may differ
``collection``  a search in collections of which answers were recorded: all their recorded items, once each,
                on one page; what else was asked for is not looked at, the client checks it
``listed``      a collection that was recorded in a list of collections only

Everything else is answered 501, never with an empty list. Addresses of the archive's own API are rewritten to
this server; those of files stay as they were.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from catalog.archives import Archive, load_archive
from tests.recordings.library import Recording, recordings

FREE = {"limit", "sortby", "fields", "filter", "filter-lang", "filter_lang", "query", "f"}
"""What may differ between a recorded search and one that asks the same."""


@dataclass
class Replay:
    """What a test sees of the server."""

    archive: Archive
    """The real description, at this server's address."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """(method, path, how it was answered) of each request."""

    def kinds(self) -> list[str]:
        return [kind for _, path, kind in self.asked if path.endswith("/search")]


@dataclass(frozen=True)
class Answer:
    status: int
    kind: str
    document: Mapping[str, Any]


@contextmanager
def replay(realdata: Path, name: str) -> Iterator[Replay]:
    """Serve the recordings of the archive ``name`` until the block ends."""
    known = load_archive(name)
    recorded = [r for r in recordings(realdata, name) if r.url.startswith(known.url)]
    parts = urlsplit(known.url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}"))

        def _reply(self, body: dict[str, Any]) -> None:
            url = urlsplit(self.path)
            answer = answer_to(recorded, self.command, url.path, dict(parse_qsl(url.query)), body, parts.path)
            state.asked.append((self.command, url.path.rstrip("/"), answer.kind))
            text = json.dumps(answer.document).replace(known.url, state.archive.url)
            data = text.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/geo+json")
            self.send_header("X-Recording", answer.kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{http.server_address[1]}{parts.path}"
    state = Replay(load_archive(name, url=url))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def answer_to(
    recorded: list[Recording], method: str, path: str, query: dict[str, str], body: dict[str, Any], base: str
) -> Answer:
    """The recorded answer to one request, or 501."""
    path = path.rstrip("/")
    here = [r for r in recorded if r.method == method and r.path == path]
    for recording in here:
        if recording.query == query and dict(recording.body) == body:
            return Answer(recording.status, "exact", recording.document())
    if path == f"{base}/search":
        asked = _question(body if method == "POST" else query)
        same = [r for r in here if _question(r.body if method == "POST" else r.query) == asked]
        if asked.keys() - {"collections"} and same:
            return Answer(same[0].status, "question", same[0].document())
        return _of_collections(recorded, asked.get("collections", ()))
    # A landing page, a list or an item in another representation (``?f=``) is the same page.
    plain = [r for r in here if set(r.query) <= {"f"} and r.status == 200]
    if plain and set(query) <= {"f"}:
        return Answer(200, "exact", plain[0].document())
    if path.startswith(f"{base}/collections/") and method == "GET":
        wanted = path.removeprefix(f"{base}/collections/")
        for recording in recorded:
            for collection in recording.document().get("collections") or ():
                if collection.get("id") == wanted and "extent" in collection:
                    return Answer(200, "listed", collection)
    return Answer(501, "none", {"code": "NotRecorded", "description": f"{method} {path} was not recorded"})


def _of_collections(recorded: list[Recording], collections: tuple[str, ...]) -> Answer:
    items = {
        item["id"]: item
        for recording in recorded
        for item in recording.items()
        if item.get("collection") in collections and "assets" in item
    }
    if not items:
        return Answer(501, "none", {"code": "NotRecorded", "description": "not one item of it was recorded"})
    page = {"type": "FeatureCollection", "features": list(items.values()), "links": []}
    return Answer(200, "collection", page)


def _question(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A search without what is free to differ, its values in one spelling."""
    result: dict[str, Any] = {}
    for key, value in asked.items():
        if key in FREE:
            continue
        if key == "collections":
            result[key] = tuple(value.split(",") if isinstance(value, str) else value)
        elif key == "bbox":
            result[key] = tuple(float(x) for x in (value.split(",") if isinstance(value, str) else value))
        elif key == "datetime":
            result[key] = tuple(_second(part) for part in str(value).split("/"))
        else:
            result[key] = value
    return result


def _second(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return text
