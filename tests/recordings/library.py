"""The recorded answers of real archives: what was asked, what came, and every item in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

RECORDINGS = "stac-api-recordings"
ARCHIVE_OF = {
    "planetary-computer": "planetary-computer",
    "earth-search": "earth-search",
    "dlr-eoc": "dlr-eoc",
    "cdse": "cdse",
    "cdse-legacy": "cdse",
}
"""Folder of recordings → the archive that gave them."""


@dataclass(frozen=True)
class Recording:
    """One answer."""

    folder: str
    file: Path
    kind: str
    method: str
    url: str
    body: Mapping[str, Any]
    status: int

    @property
    def path(self) -> str:
        return urlsplit(self.url).path.rstrip("/")

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.url).query))

    def document(self) -> dict[str, Any]:
        return dict(_read(self.file))

    def items(self) -> list[dict[str, Any]]:
        """The items of the answer: none of a landing page, one of an item page, a page of a search."""
        document = self.document()
        if document.get("type") == "Feature":
            return [document]
        return list(document.get("features") or ())


@lru_cache(maxsize=256)
def _read(file: Path) -> Mapping[str, Any]:
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


def recordings(realdata: Path, *folders: str) -> list[Recording]:
    """All recorded answers, or those of some folders, in the order of the index."""
    root = realdata / RECORDINGS
    found = []
    for line in (root / "index.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        folder = entry["file"].partition("/")[0]
        if folders and folder not in folders:
            continue
        body = json.loads(entry["request_body"]) if entry["request_body"] else {}
        found.append(
            Recording(
                folder,
                root / entry["file"],
                entry["kind"],
                entry["method"],
                entry["url"],
                body,
                entry["status"],
            )
        )
    return found


def recorded_items(realdata: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(archive, item) of every item in every recorded answer; the same item as often as it came."""
    for recording in recordings(realdata):
        for item in recording.items():
            yield ARCHIVE_OF[recording.folder], item


def saved_items(realdata: Path) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """(archive, item) of every item saved one by one; None where no archive served it like that."""
    of_folder = {
        "cdse": "cdse", "dlr": "dlr-eoc", "earth-search": "earth-search",
        "planetary-computer": "planetary-computer", "usgs-landsatlook": "usgs-landsatlook",
    }  # fmt: skip
    root = realdata / "stac-items"
    for file in sorted(root.glob("*/*/*.json")):
        folder = file.relative_to(root).parts[0]
        document = json.loads(file.read_text(encoding="utf-8"))
        if folder != "mlm" and document.get("type") == "Feature":
            yield of_folder.get(folder), document
    for table in sorted(root.glob("*/*/*.parquet")):
        archive = of_folder.get(table.relative_to(root).parts[0])
        yield from ((archive, item) for item in items_of_table(table))


def items_of_table(table: Path) -> Iterator[dict[str, Any]]:
    """The items of a stac-geoparquet file, as an archive would answer them."""
    from pyarrow import parquet
    from shapely import from_wkb
    from shapely.geometry import mapping

    top = {
        "type",
        "stac_version",
        "stac_extensions",
        "id",
        "links",
        "assets",
        "collection",
        "bbox",
        "geometry",
    }
    for row in parquet.read_table(table).to_pylist():
        box = row["bbox"]
        properties = {key: value for key, value in row.items() if key not in top and value is not None}
        assets = {
            key: {name: value for name, value in asset.items() if value is not None}
            for key, asset in row["assets"].items()
            if asset is not None
        }
        yield {
            **{key: row[key] for key in ("type", "stac_version", "id", "collection", "links")},
            "bbox": [box[side] for side in ("xmin", "ymin", "xmax", "ymax")],
            "geometry": mapping(from_wkb(row["geometry"])),
            "assets": assets,
            "properties": properties | {"datetime": row["datetime"].isoformat()},
        }
