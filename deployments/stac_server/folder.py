"""An archive folder: items/*.ndjson, collections/*.json, assets/, and files served from where they lie."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from catalog.errors import UsageError
from deployments.stac_server.memory import MemoryCatalog

ASSET_FILES = "asset-files.json"
"""Beside ``items/``: asset path → absolute path of a file that is served from where it lies."""


class ArchiveFolder:
    """Follows a folder: what another process writes there is served from the next request on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()
        self.catalog = MemoryCatalog()
        self._files: dict[str, str] = {}
        self._seen: tuple[Any, ...] | None = None
        self._lock = threading.Lock()
        if not (self.folder / "items").is_dir():
            raise UsageError(
                "not-an-archive-folder",
                f"{self.folder} has no items/ folder",
                subject=str(folder),
                next_step="make one with `swath archive serve` over a folder of scenes, or the sandbox",
            )
        self.refresh()

    def refresh(self) -> MemoryCatalog:
        """The content as it is on disk now; costs one ``stat`` per file when nothing changed."""
        with self._lock:
            seen = tuple(self._stamp(path) for path in self._documents())
            if seen != self._seen:
                self.catalog.replace(self._collections(), self._items())
                listing = self.folder / ASSET_FILES
                self._files = json.loads(listing.read_text(encoding="utf-8")) if listing.is_file() else {}
                self._seen = seen
        return self.catalog

    def asset(self, path: str) -> Path | None:
        """The file behind ``/assets/<path>``, or None: only what lies in ``assets/`` or is listed by name."""
        listed = self._files.get(path)
        if listed is not None:
            file = Path(listed)
            return file if file.is_file() else None
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\0" in path:
            return None
        root = (self.folder / "assets").resolve()
        file = root.joinpath(*parts).resolve()
        return file if file.is_relative_to(root) and file.is_file() else None

    def _documents(self) -> list[Path]:
        return [
            *sorted((self.folder / "collections").glob("*.json")),
            *sorted((self.folder / "items").glob("*.ndjson")),
            *(path for path in (self.folder / ASSET_FILES,) if path.is_file()),
        ]

    @staticmethod
    def _stamp(path: Path) -> tuple[str, int, int]:
        stat = path.stat()
        return str(path), stat.st_mtime_ns, stat.st_size

    def _collections(self) -> Iterator[dict[str, Any]]:
        for path in sorted((self.folder / "collections").glob("*.json")):
            yield json.loads(path.read_text(encoding="utf-8"))

    def _items(self) -> Iterator[dict[str, Any]]:
        for path in sorted((self.folder / "items").glob("*.ndjson")):
            with path.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        yield _item(line, path, number)


def _item(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        item: dict[str, Any] = json.loads(line)
        item.setdefault("collection", path.stem)
        return item
    except (ValueError, AttributeError) as error:
        raise UsageError(
            "broken-item",
            f"line {number} is no STAC item: {error}",
            subject=str(path),
            next_step="write the file again; one item per line, in place only by renaming a finished file",
        ) from error
