"""Scenes: STAC items in the same fields, types and units, whichever archive they came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from catalog.grids import Grid

_GRID_TILE = re.compile(r"[0-9]{1,2}[C-X][A-Z]{2}|[0-9]{6}")
"""An MGRS tile, or WRS path and row."""


@dataclass(frozen=True)
class SceneAsset:
    """One file of a scene."""

    key: str
    """Asset key in the archive, e.g. ``B02`` or ``image``."""
    href: str
    """Unsigned address; signed only at the moment of reading."""
    bands: tuple[str, ...]
    """Product band names in file order; empty for an asset that is not pixels of the product."""
    grid: Grid | None = None
    """As the catalogue states it; the file decides when it is opened."""
    size_bytes: int | None = None
    checksum: str | None = None
    """Multihash (``file:checksum``) where the archive gives one."""


@dataclass(frozen=True)
class Scene:
    """A normalised STAC item."""

    id: str
    product: str
    archive: str
    collection: str
    platform: str
    """Lower case, e.g. ``sentinel-2a``, ``landsat-9``, ``enmap``."""
    sensed: datetime
    """Nominal sensing time, UTC."""
    tile: str
    """MGRS tile, WRS path/row, datatake + tile, or the relative orbit and slice: the archive's place key."""
    geometry: Mapping[str, Any]
    """GeoJSON in EPSG:4326."""
    bbox: tuple[float, float, float, float]
    """(west, south, east, north), degrees; west > east across the antimeridian."""
    assets: Mapping[str, SceneAsset]
    epsg: int | None
    cloud_cover_percent: float | None = None
    sun_elevation_deg: float | None = None
    sun_azimuth_deg: float | None = None
    baseline: str | None = None
    """Processing baseline or version, e.g. ``05.11`` or ``01.05.02``."""
    generated: datetime | None = None
    """When the archive's provider made this version of the scene."""
    orbit_state: str | None = None
    licence: str = "unknown"
    attribution: str = ""
    origin: str = "observed"
    """``observed``, ``simulated`` (the sandbox) or ``derived`` (converted from another file layout)."""
    radiometry: Mapping[str, Any] = field(default_factory=dict)
    """What the item itself says that the radiometric rule needs: offsets, MTL coefficients, wavelengths."""
    repairs: tuple[str, ...] = ()
    """What the normaliser mended, one line each."""

    @property
    def key(self) -> str:
        """Versions of the same observation share it: product, platform, tile and sensing time.

        The time counts to the second; where the tile is one of a grid that a pass sees once (MGRS, WRS), to
        the hour: two processings of one Sentinel-2 or Landsat scene state times milliseconds apart.
        """
        on_grid = _GRID_TILE.fullmatch(self.tile) is not None
        once_per_pass = on_grid and self.platform.startswith(("sentinel-2", "landsat-"))
        moment = self.sensed.astimezone(UTC).strftime("%Y%m%dT%H" if once_per_pass else "%Y%m%dT%H%M%S")
        return "|".join((self.product, self.platform, self.tile, moment))

    @property
    def version(self) -> tuple[tuple[int, ...], str]:
        """Orders versions of one observation: highest (baseline, generation time) wins."""
        numbers = tuple(int(part) for part in (self.baseline or "0").split(".") if part.isdigit())
        generated = self.generated.astimezone(UTC).isoformat() if self.generated else ""
        return numbers, generated

    def to_dict(self) -> dict[str, Any]:
        """A JSON document; ``Scene.from_dict`` reads it back."""
        return {
            "id": self.id,
            "product": self.product,
            "archive": self.archive,
            "collection": self.collection,
            "platform": self.platform,
            "sensed": self.sensed.astimezone(UTC).isoformat(),
            "tile": self.tile,
            "geometry": dict(self.geometry),
            "bbox": list(self.bbox),
            "epsg": self.epsg,
            "cloud_cover_percent": self.cloud_cover_percent,
            "sun_elevation_deg": self.sun_elevation_deg,
            "sun_azimuth_deg": self.sun_azimuth_deg,
            "baseline": self.baseline,
            "generated": self.generated.astimezone(UTC).isoformat() if self.generated else None,
            "orbit_state": self.orbit_state,
            "licence": self.licence,
            "attribution": self.attribution,
            "origin": self.origin,
            "radiometry": dict(self.radiometry),
            "repairs": list(self.repairs),
            "assets": {
                key: {
                    "href": asset.href,
                    "bands": list(asset.bands),
                    "size_bytes": asset.size_bytes,
                    "checksum": asset.checksum,
                    "grid": None
                    if asset.grid is None
                    else {
                        "epsg": asset.grid.epsg,
                        "affine": list(asset.grid.affine),
                        "shape": list(asset.grid.shape),
                    },
                }
                for key, asset in self.assets.items()
            },
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Scene:
        """Read what ``to_dict`` wrote."""
        values = dict(document)
        values["sensed"] = datetime.fromisoformat(values["sensed"])
        if values.get("generated"):
            values["generated"] = datetime.fromisoformat(values["generated"])
        values["bbox"] = tuple(values["bbox"])
        values["repairs"] = tuple(values.get("repairs", ()))
        values["assets"] = {
            key: SceneAsset(
                key=key,
                href=asset["href"],
                bands=tuple(asset["bands"]),
                size_bytes=asset.get("size_bytes"),
                checksum=asset.get("checksum"),
                grid=None
                if asset.get("grid") is None
                else Grid(
                    epsg=asset["grid"]["epsg"],
                    affine=tuple(asset["grid"]["affine"]),
                    shape=tuple(asset["grid"]["shape"]),
                ),
            )
            for key, asset in values["assets"].items()
        }
        return cls(**values)
