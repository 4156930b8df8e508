"""The sandbox archive in a small variant, served by a real STAC API, shared by the tests of a session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from catalog.archives import Archive, load_archive
from catalog.recipes import Area, Period, Recipe, parse_recipe
from deployments.sandbox import SandboxInfo, make_sandbox
from deployments.stac_server import ArchiveServer, serve_archive

PRODUCTS = ("sentinel-2-l2a", "sentinel-1-rtc", "landsat-oli-sr", "enmap-l2a")


@dataclass(frozen=True)
class Sandbox:
    """What a test needs of it."""

    info: SandboxInfo
    server: ArchiveServer
    archive: Archive

    @property
    def area(self) -> Area:
        return Area(bbox=self.info.bbox)

    @property
    def period(self) -> Period:
        return Period(start=self.info.start, end=self.info.end)

    def recipe(self, **products: dict[str, object]) -> Recipe:
        return parse_recipe(
            {
                "name": "small",
                "archive": "sandbox",
                "area": {"bbox": self.info.bbox},
                "period": {"start": self.info.start, "end": self.info.end},
                "products": {name: products.get(name.replace("-", "_"), {}) for name in PRODUCTS},
                "locations": {"size_m": 480, "split": {"block_m": 960}},
            }
        )


@contextmanager
def small_sandbox(folder: Path) -> Iterator[Sandbox]:
    """Make and serve it; about ten seconds."""
    info = make_sandbox(folder, size_m=1920, dates=2)
    with serve_archive(folder) as server:
        yield Sandbox(info, server, load_archive("sandbox", url=server.url))
