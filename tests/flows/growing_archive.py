"""An archive of a few real sandbox scenes to which a test adds others, as a satellite does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployments.stac_server import ArchiveServer, serve_archive

COLLECTION = "sentinel-2-l2a"


@dataclass
class GrowingArchive:
    """Scenes of ``source`` that were added so far, served at ``url``."""

    source: Path
    folder: Path
    server: ArchiveServer
    items: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.server.url

    def add(self, *items: dict[str, Any]) -> None:
        """Copy the files of items here and list them."""
        for item in items:
            for asset in item["assets"].values():
                if asset["href"].startswith("/assets/"):
                    path = asset["href"].lstrip("/")
                    (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(self.source / path, self.folder / path)
        self.items += items
        self.list()

    def list(self) -> None:
        """Write the items as they are now."""
        lines = "".join(json.dumps(item) + "\n" for item in self.items)
        (self.folder / "items" / f"{COLLECTION}.ndjson").write_text(lines, encoding="utf-8")

    def file(self, scene: str, band: str) -> Path:
        """Where a scene's file lies."""
        (item,) = [item for item in self.items if item["id"] == scene]
        return self.folder / item["assets"][band]["href"].lstrip("/")

    def scenes_read(self) -> set[str]:
        """Scenes whose files were asked for since the last call."""
        recent = self.server.requests()["recent"]
        self.server.reset_requests()
        return {path.split("/")[3] for _, path, *_ in recent if path.startswith("/assets/")}


@contextmanager
def growing_archive(source: Path, folder: Path) -> Iterator[GrowingArchive]:
    """An empty archive, served."""
    (folder / "items").mkdir(parents=True)
    (folder / "collections").mkdir()
    shutil.copy(source / "collections" / f"{COLLECTION}.json", folder / "collections")
    (folder / "items" / f"{COLLECTION}.ndjson").write_text("", encoding="utf-8")
    with serve_archive(folder) as server:
        yield GrowingArchive(source, folder, server)


def items_of(source: Path) -> dict[str, dict[str, Any]]:
    """Every Sentinel-2 item of an archive folder by its id."""
    lines = (source / "items" / f"{COLLECTION}.ndjson").read_text(encoding="utf-8").splitlines()
    return {item["id"]: item for item in map(json.loads, lines)}
