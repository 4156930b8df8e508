"""The schema of a product file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Quantity = Literal["reflectance", "gamma0_db", "sigma0_db", "kelvin"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Band(_Strict):
    """One band as the archive stores it."""

    name: str
    gsd_m: float = Field(gt=0, description="native ground sampling, metres")
    quantity: Quantity
    common_name: str | None = None
    center_nm: float | None = Field(None, gt=0, description="centre wavelength; None for radar")
    fwhm_nm: float | None = Field(None, gt=0, description="full width at half maximum of the response")
    asset: str | None = Field(None, description="asset key in the archive; the band name unless given")
    aliases: tuple[str, ...] = Field((), description="asset keys of the same band in other archives")
    scale: float | None = Field(None, description="where it differs from the product's (Landsat's ST_B10)")
    offset: float | None = None


class Radiometry(_Strict):
    """How raw numbers become physical ones; ``catalog.radiometry`` applies it."""

    rule: Literal["linear", "sentinel-2-offset", "landsat-toa", "power-to-db", "amplitude-to-db", "db-linear"]
    scale: float = 1.0
    offset: float = 0.0


class QualityLayer(_Strict):
    """The layer that says which pixels to believe.

    ``classes`` and ``bits`` map a meaning (of ``catalog.quality.FLAGS``) to class values, or to bit numbers
    of which any set bit has that meaning. ``flags`` layers are separate assets, one per meaning; the meaning
    holds where the asset is 1, or one of the values that ``meanings`` gives.
    """

    kind: Literal["classes", "bits", "flags"]
    asset: str | None = None
    aliases: tuple[str, ...] = ()
    gsd_m: float
    meanings: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    flags: dict[str, str] = Field(default_factory=dict, description="meaning → asset key, for ``flags``")
    optional: bool = Field(
        False,
        description="a scene without the layer is taken, and its cloud is unknown (Sentinel-2 Level-1C has "
        "it from the Level-2A of the same datatake, where there is one)",
    )


class GridConvention(_Strict):
    """On which grids the product's scenes lie."""

    crs: Literal["utm", "utm-north", "geographic", "none"] = Field(
        description="utm-north: Landsat's 326xx everywhere; none: geocoded from ground-control points"
    )
    snap_m: float | None = Field(None, description="windows start at multiples of this, metres")
    origin_m: tuple[float, float] = Field(
        (0.0, 0.0), description="where pixel edges lie modulo the ground sampling (Landsat: half a pixel)"
    )
    south_origin_m: tuple[float, float] | None = Field(
        None, description="the same in southern zones, where it differs (Sentinel-2 counts from the equator)"
    )
    kernel: Literal["nearest", "bilinear", "cubic"] = Field(
        "bilinear", description="used where a scene cannot be copied"
    )

    def origin_in(self, epsg: int) -> tuple[float, float]:
        """Where pixel edges lie in one CRS."""
        southern = 32701 <= epsg <= 32760
        return self.south_origin_m if southern and self.south_origin_m is not None else self.origin_m


class Product(_Strict):
    """One product file."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    sensor: str
    level: str
    dtype: Literal["uint8", "uint16", "int16", "int32", "float32"]
    nodata: float | None
    bands: tuple[Band, ...]
    radiometry: Radiometry
    grid: GridConvention
    qa: QualityLayer | None = None
    multiband_asset: str | None = Field(None, description="asset that holds all bands in one file")
    collections: dict[str, str] = Field(
        default_factory=dict, description="archive name → collection id, where it differs from the product id"
    )
    platforms: tuple[str, ...] = ()
    requires: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="item property → the values of this product; an item that lacks the property passes",
    )
    metadata_assets: tuple[str, ...] = Field(
        (), description="asset keys of files the radiometric rule reads, e.g. Landsat's MTL"
    )
    scan_gaps: bool = Field(
        False, description="scan lines are missing, in each band at another place: nodata there says nothing"
    )
    licence: str = "unknown"
    attribution: str = ""
    notes: str = ""

    @model_validator(mode="after")
    def _bands_are_told_apart(self) -> Product:
        names = [band.name for band in self.bands]
        if len(set(names)) != len(names):
            raise ValueError("two bands share a name")
        if not names:
            raise ValueError("a product has at least one band")
        return self

    @property
    def band_names(self) -> tuple[str, ...]:
        return tuple(band.name for band in self.bands)

    @property
    def resolutions_m(self) -> tuple[float, ...]:
        """Native ground samplings, finest first."""
        return tuple(sorted({band.gsd_m for band in self.bands}))

    def bands_at(self, gsd_m: float) -> tuple[Band, ...]:
        """Bands of one native resolution, in file order."""
        return tuple(band for band in self.bands if band.gsd_m == gsd_m)

    def band(self, name: str) -> Band:
        return next(band for band in self.bands if band.name == name)


def array_name(gsd_m: float) -> str:
    """Name of the cube array of one native resolution: ``r10m``, ``r30m``, ``r8.5m``."""
    return f"r{gsd_m:g}m"
