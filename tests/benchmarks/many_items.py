"""A STAC API over as many Sentinel-2 items as one likes, each made when it is asked for."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

START = datetime(2019, 1, 1, tzinfo=UTC)
DAYS = 2556
"""Seven years of sensing dates."""
COLLECTION = "sentinel-2-l2a"
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
GSD_M = {"B01": 60, "B02": 10, "B03": 10, "B04": 10, "B08": 10, "B09": 60}
TEXTS = ("granule-metadata", "inspire-metadata", "product-metadata", "safe-manifest", "datastrip-metadata")


class ManyItems:
    """``count`` items, evenly spread over seven years; number ``i`` is always the same."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.step = timedelta(days=DAYS) / count

    def sensed(self, number: int) -> datetime:
        return START + number * self.step

    def span(self, start: datetime, end: datetime) -> range:
        """Numbers of the items sensed between two moments."""
        first = math.ceil((start - START) / self.step)
        last = math.floor((end - START) / self.step)
        return range(max(0, first), min(self.count - 1, last) + 1)

    def item(self, number: int) -> dict[str, Any]:
        """One item as the Planetary Computer would have it, 12 kB of JSON."""
        sensed = self.sensed(number)
        tile = f"{10 + number % 50}T{'CDEFGHJK'[number // 50 % 8]}{'ABCDEFGH'[number // 400 % 8]}"
        name = f"S2A_MSIL2A_{sensed:%Y%m%dT%H%M%S}_R{number % 143:03d}_T{tile}_{number:07d}"
        base = f"http://127.0.0.1/sentinel2-l2/{tile[:2]}/{tile[2]}/{tile[3:]}/{sensed:%Y/%m/%d}/{name}.SAFE"
        epsg, north = 32600 + 10 + number % 50, 4_900_020
        assets: dict[str, Any] = {
            band: {
                "href": f"{base}/GRANULE/L2A/IMG_DATA/R{GSD_M.get(band, 20)}m/T{tile}_{band}.tif",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "title": f"Band {band} - {GSD_M.get(band, 20)}m",
                "roles": ["data"],
                "gsd": GSD_M.get(band, 20),
                "eo:bands": [{"name": band, "description": f"Band {band}", "center_wavelength": 0.5}],
                **_projection(GSD_M.get(band, 20), north),
            }
            for band in BANDS
        }
        for layer in ("SCL", "AOT", "WVP", "visual"):
            assets[layer] = {
                "href": f"{base}/GRANULE/L2A/IMG_DATA/R20m/T{tile}_{layer}_20m.tif",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "title": layer,
                "roles": ["data"],
                **_projection(20, north),
            }
        for text in TEXTS:
            assets[text] = {"href": f"{base}/{text}.xml", "type": "application/xml", "roles": ["metadata"]}
        west, south = 10.0 + (number % 700) / 1000, 47.0 + (number % 900) / 1000
        box = [west, south, west + 1.4, south + 1.0]
        ring = [[box[i], box[j]] for i, j in ((0, 1), (2, 1), (2, 3), (0, 3), (0, 1))]
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": name,
            "collection": COLLECTION,
            "bbox": box,
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "links": [{"rel": "collection", "href": "http://127.0.0.1/collections/sentinel-2-l2a"}],
            "assets": assets,
            "properties": {
                "datetime": f"{sensed:%Y-%m-%dT%H:%M:%S.%f}Z",
                "platform": "Sentinel-2A",
                "constellation": "Sentinel 2",
                "instruments": ["msi"],
                "proj:epsg": epsg,
                "eo:cloud_cover": (number % 997) / 10,
                "s2:mgrs_tile": tile,
                "s2:processing_baseline": "05.11",
                "s2:generation_time": f"{sensed + timedelta(hours=9):%Y-%m-%dT%H:%M:%S.%f}Z",
                "s2:product_type": "S2MSI2A",
                "s2:datatake_id": f"GS2A_{sensed:%Y%m%dT%H%M%S}_{number:06d}_N05.11",
                "s2:mean_solar_zenith": 40.0,
                "s2:mean_solar_azimuth": 160.0,
                "sat:orbit_state": "descending",
                "sat:relative_orbit": number % 143,
                **{f"s2:statistic_{i}_percentage": (number % (83 + i)) / 10 for i in range(12)},
            },
        }


def _projection(gsd_m: int, north: int) -> dict[str, Any]:
    side = 109_800 // gsd_m
    return {
        "proj:shape": [side, side],
        "proj:transform": [gsd_m, 0, 600_000, 0, -gsd_m, north],
        "proj:bbox": [600_000, north - 109_800, 709_800, north],
    }


@contextmanager
def served(items: ManyItems) -> Iterator[tuple[str, dict[str, int]]]:
    """Serve the items on a free port; yields the address and what was asked for: pages and bytes."""
    asked = {"pages": 0, "bytes": 0}
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("/collections"):
                document = _collection()
            else:
                document = _landing(self.server.server_port)  # type: ignore[attr-defined]
            self._answer(json.dumps(document).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            start, end = (datetime.fromisoformat(moment) for moment in body["datetime"].split("/"))
            span, limit = items.span(start, end), body["limit"]
            first = int(body.get("token") or span.start)
            numbers = range(first, min(first + limit, span.stop))
            links = []
            if numbers.stop < span.stop:
                address = f"http://127.0.0.1:{self.server.server_port}/search"  # type: ignore[attr-defined]
                links.append(
                    {
                        "rel": "next",
                        "href": address,
                        "method": "POST",
                        "body": {**body, "token": str(numbers.stop)},
                    }
                )
            page = {
                "type": "FeatureCollection",
                "numberMatched": len(span),
                "numberReturned": len(numbers),
                "features": [items.item(number) for number in numbers],
                "links": links,
            }
            text = json.dumps(page).encode()
            with lock:
                asked["pages"] += 1
                asked["bytes"] += len(text)
            self._answer(text)

        def _answer(self, text: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def _landing(port: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}"
    return {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": "many",
        "description": "made when asked for",
        "conformsTo": [
            "https://api.stacspec.org/v1.0.0/core",
            "https://api.stacspec.org/v1.0.0/collections",
            "https://api.stacspec.org/v1.0.0/item-search",
            "https://api.stacspec.org/v1.0.0/item-search#sort",
        ],
        "links": [
            {"rel": "self", "href": url},
            {"rel": "root", "href": url},
            {"rel": "data", "href": f"{url}/collections"},
            {"rel": "search", "href": f"{url}/search", "method": "POST", "type": "application/geo+json"},
        ],
    }


def _collection() -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": COLLECTION,
        "description": "made when asked for",
        "license": "proprietary",
        "links": [],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
    }
