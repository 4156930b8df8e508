"""STAC APIs on the loopback that answer as a test wants: lost pages, refused filters."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from catalog.archives import Archive, load_archive
from tests.catalog.made_up import s2_item, with_changes

Answer = Callable[[str, dict[str, Any]], tuple[int, Any]]


@contextmanager
def stac_that(
    answer: Answer, name: str = "sandbox", **landing: Any
) -> Iterator[tuple[Archive, list[dict[str, Any]]]]:
    """A STAC API on the loopback whose searches are answered by ``answer(path, body)``.

    A search by GET has its query for a body, with ``GET`` in it. ``landing`` is added to the landing page.
    """
    searches: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

        def do_GET(self) -> None:
            self._reply({"GET": True, **dict(parse_qsl(urlsplit(self.path).query))})

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: dict[str, Any]) -> None:
            path = self.path.split("?")[0].rstrip("/")
            status, content = 200, {}
            if path == "":
                content = {
                    "type": "Catalog", "id": "x", "description": "x", "stac_version": "1.0.0",
                    "conformsTo": ["https://api.stacspec.org/v1.0.0/item-search",
                                   "https://api.stacspec.org/v1.0.0/core",
                                   "https://api.stacspec.org/v1.0.0/collections"],
                    "links": [
                        {"rel": "self", "href": url}, {"rel": "root", "href": url},
                        {"rel": "data", "href": f"{url}/collections"},
                        {"rel": "search", "href": f"{url}/search", "method": "GET"},
                        {"rel": "search", "href": f"{url}/search", "method": "POST"},
                    ],
                    **landing,
                }  # fmt: skip
            elif path.startswith("/collections/"):
                content = {
                    "type": "Collection", "id": path.split("/")[-1], "description": "x", "license": "other",
                    "stac_version": "1.0.0", "links": [],
                    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]},
                               "temporal": {"interval": [[None, None]]}},
                }  # fmt: skip
            else:
                searches.append(body)
                status, content = answer(path, body)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield load_archive(name, url=url), searches
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@dataclass
class Pages:
    """An archive of made-up Sentinel-2 items that narrows by time and box, and pages by token."""

    count: int = 13
    page: int = 4
    counts: bool = True
    """Whether it says how many items there are."""
    together: bool = False
    """All items at one instant, beside each other from west to east."""
    url: str = "http://127.0.0.1"
    items: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        first = datetime(2023, 1, 1, 10, tzinfo=UTC)
        for number in range(self.count):
            time = first if self.together else first + timedelta(hours=31 * number)
            west = 10.0 + (0.5 * number if self.together else 0)
            box = [west, 47.0, west + 0.4, 48.0]
            ring = [[box[0], 47.0], [box[2], 47.0], [box[2], 48.0], [box[0], 48.0], [box[0], 47.0]]
            item = with_changes(s2_item(), datetime=time.isoformat().replace("+00:00", "Z"))
            name = f"S2B_MSIL2A_{time:%Y%m%dT%H%M%S}_R065_T32TQU_{20230000 + number}T180000"
            item |= {"id": name, "bbox": box, "geometry": {"type": "Polygon", "coordinates": [ring]}}
            self.items.append(item)

    def found(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """What a search finds, in the order in which it is handed out."""
        first, last = (datetime.fromisoformat(text) for text in body["datetime"].split("/"))
        box = body["bbox"].split(",") if isinstance(body["bbox"], str) else body["bbox"]
        west, _, east, _ = (float(side) for side in box)
        return [
            item
            for item in self.items
            if first <= datetime.fromisoformat(item["properties"]["datetime"]) <= last
            and item["bbox"][0] <= east
            and item["bbox"][2] >= west
        ]

    def size(self, body: dict[str, Any]) -> int:
        return min(self.page, int(body.get("limit", 10)))

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """A page as it should be."""
        found, start, size = self.found(body), int(body.get("token", 0)), self.size(body)
        following = {**body, "token": start + size}
        return self.reply(
            found[start : start + size], found, following if start + size < len(found) else None
        )

    def reply(
        self, page: list[dict[str, Any]], found: list[dict[str, Any]], following: dict[str, Any] | None
    ) -> tuple[int, Any]:
        document: dict[str, Any] = {"type": "FeatureCollection", "features": page, "links": []}
        if self.counts:
            document["numberMatched"] = len(found)
        if following is not None:
            link = {"rel": "next", "href": "/search", "method": "POST", "body": following}
            document["links"].append(link)
        return 200, document
