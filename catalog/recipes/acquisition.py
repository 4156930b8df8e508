"""What a recipe acquires: where, when, which products, places and dates, and what the gate lets through."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from catalog.recipes.strict import Strict

Split = Literal["pretrain", "probe", "test"]


class Area(Strict):
    """Where to look, in degrees (west, south, east, north)."""

    bbox: tuple[float, float, float, float]

    @field_validator("bbox")
    @classmethod
    def _is_on_earth_and_not_empty(
        cls, bbox: tuple[float, float, float, float]
    ) -> tuple[float, float, float, float]:
        west, south, east, north = bbox
        if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= 90 and -90 <= north <= 90):
            raise ValueError("the area lies outside -180…180, -90…90 degrees")
        if north <= south or west == east:
            raise ValueError("the area is empty: north must exceed south, and west must differ from east")
        return bbox


class Period(Strict):
    """Sensing dates, both inclusive."""

    start: date
    end: date = Field(description="or `today`, for a recipe that a schedule keeps fresh")

    @field_validator("end", mode="before")
    @classmethod
    def _may_be_today(cls, end: Any) -> Any:
        return datetime.now(UTC).date() if end == "today" else end

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Period:
        if self.end < self.start:
            raise ValueError(f"end {self.end} lies before start {self.start}")
        return self


class GateLimits(Strict):
    """Thresholds of the gate; a scene beyond one of them is quarantined with that reason."""

    max_cloud_percent: float = Field(100, ge=0, le=100, description="by the scene's metadata")
    max_nodata_fraction: float = Field(0.9, ge=0, le=1, description="of the scene's pixels")
    max_cloud_fraction: float = Field(0.95, ge=0, le=1, description="of the scene's valid pixels, by its QA")
    max_saturated_fraction: float = Field(0.2, ge=0, le=1)
    min_sun_elevation_deg: float = Field(5, ge=-90, le=90)
    max_stripe_strength: float = Field(
        0.6, ge=0, description="lines against pixels; 1 is nothing but stripes"
    )
    max_band_order_gain: float = Field(0.15, ge=0, description="of correlation, by exchanging two bands")
    min_speckle_looks: float = Field(1.5, ge=0, description="equivalent looks of radar power")
    max_speckle_looks: float = Field(25, ge=0, description="the same; more have been filtered")
    max_refused_share: float = Field(0.5, ge=0, le=1, description="of new scenes, beyond which the run stops")


class DateRequest(Strict):
    """Which dates of a place to take."""

    strategy: Literal["all", "seasons", "pairs"] = "all"
    seasons: tuple[str, ...] = Field(
        ("03-20", "06-21", "09-22", "12-21"),
        min_length=1,
        description="reference dates: `MM-DD` of any year, or `YYYY-MM-DD`",
    )
    every_year: bool = Field(False, description="take each `MM-DD` once in every year, not once in all")
    window_days: int = Field(30, ge=0, description="a scene is at most so far from its reference date")
    shift_days: int = Field(0, ge=0, description="each place's references lie 0 to so many days earlier")
    choose: Literal["least-cloud", "most-recent", "nearest"] = "least-cloud"
    min_days_apart: int = Field(1, ge=0, description="of the two dates of a pair")
    max_days_apart: int = Field(365, ge=0, description="of the two dates of a pair")
    seed: int = Field(0, description="draws the shifts")

    @field_validator("seasons")
    @classmethod
    def _are_dates(cls, seasons: tuple[str, ...]) -> tuple[str, ...]:
        for season in seasons:
            try:
                date.fromisoformat(season if len(season) > 5 else f"2001-{season}")
            except ValueError:
                raise ValueError(
                    f"{season!r} is no date that every year has: write MM-DD or YYYY-MM-DD"
                ) from None
        if len(set(seasons)) != len(seasons):
            raise ValueError("a reference date is given twice")
        return seasons

    @model_validator(mode="after")
    def _keys_fit_the_strategy(self) -> DateRequest:
        for key, strategies in DATE_KEYS.items():
            if key in self.model_fields_set and self.strategy not in strategies:
                raise ValueError(f"`{key}` is for strategy {' or '.join(strategies)}, not {self.strategy}")
        if self.choose == "nearest" and self.strategy == "pairs":
            raise ValueError("`choose: nearest` is for strategy seasons: a pair has no reference date")
        if self.choose == "nearest" and self.shift_days:
            raise ValueError("`choose: nearest` needs the same dates at all places: no `shift_days`")
        if self.max_days_apart < self.min_days_apart:
            raise ValueError("`max_days_apart` is below `min_days_apart`")
        return self


DATE_KEYS: dict[str, tuple[str, ...]] = {
    "seasons": ("seasons",),
    "every_year": ("seasons",),
    "window_days": ("seasons",),
    "shift_days": ("seasons",),
    "choose": ("seasons", "pairs"),
    "min_days_apart": ("pairs",),
    "max_days_apart": ("pairs",),
    "seed": ("seasons",),
}
"""Which strategies a key is for."""


class ProductRequest(Strict):
    """What to take of one product."""

    gate: GateLimits = GateLimits()
    sample_max_nodata_fraction: float = Field(0.5, ge=0, le=1, description="of one sample's pixels")
    sample_max_cloud_fraction: float = Field(0.6, ge=0, le=1, description="of one sample's valid pixels")
    max_scenes: int | None = Field(None, gt=0, description="take at most this many, least cloud first")
    dem: Path | None = Field(
        None, description="GeoTIFF or VRT of heights above the ellipsoid, to place ground-range radar with"
    )
    max_position_error_m: float | None = Field(
        None, ge=0, description="drop samples that may lie further off; see docs/radar.md"
    )
    dates: DateRequest = DateRequest()


SHARES: dict[Split, float] = {"pretrain": 0.6, "probe": 0.2, "test": 0.2}


class SplitRule(Strict):
    """How places are kept apart; fixed when a location is sampled."""

    by: Literal["block", "tile"] = "block"
    block_m: float = Field(1920, gt=0, description="side of a spatial block, metres")
    buffer_m: float = Field(0, ge=0, description="locations closer than this to another split are dropped")
    shares: dict[Split, float] = Field(default_factory=lambda: dict(SHARES), description="of the blocks")
    tiles: dict[Split, tuple[str, ...]] = Field(
        default_factory=dict, description="for `by: tile`: which tiles belong to which split"
    )

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> SplitRule:
        if self.by == "block" and abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ValueError("shares must sum to 1")
        if self.by == "tile" and not self.tiles:
            raise ValueError("`by: tile` needs `tiles`")
        return self


class LocationRequest(Strict):
    """Where samples lie."""

    strategy: Literal["grid", "scenes", "points", "cities", "uniform", "stratified"] = "grid"
    size_m: float = Field(
        gt=0, description="side of a sample, metres; a multiple of the coarsest band's grid"
    )
    spacing_m: float | None = Field(None, gt=0, description="distance of neighbours; size_m unless given")
    min_distance_m: float | None = Field(
        None, gt=0, description="least distance of two centres, beyond that samples never overlap"
    )
    max_count: int | None = Field(None, gt=0)
    points: Path | None = Field(None, description="GeoJSON of points, for `strategy: points`")
    cities: int = Field(10_000, gt=0, description="how many of the most populated, for `strategy: cities`")
    spread_m: float = Field(50_000, gt=0, description="standard deviation east and north of a city")
    on_land: bool = Field(False, description="leave out places at sea, for `cities` and `stratified`")
    class_raster: Path | None = Field(None, description="GeoTIFF of classes, for `strategy: stratified`")
    class_counts: dict[int, int] = Field(
        default_factory=dict, description="class value → places; max_count in equal parts if none"
    )
    seed: int = 0
    split: SplitRule = SplitRule()

    @model_validator(mode="after")
    def _keys_fit_the_strategy(self) -> LocationRequest:
        for key, strategies in LOCATION_KEYS.items():
            if key in self.model_fields_set and self.strategy not in strategies:
                raise ValueError(f"`{key}` is for strategy {' or '.join(strategies)}, not {self.strategy}")
        if self.strategy == "points" and self.points is None:
            raise ValueError("`strategy: points` needs `points`")
        if self.strategy in ("cities", "uniform") and self.max_count is None:
            raise ValueError(f"`strategy: {self.strategy}` needs `max_count`: how many places to draw")
        if self.strategy == "stratified":
            if self.class_raster is None:
                raise ValueError("`strategy: stratified` needs `class_raster`")
            if bool(self.class_counts) == (self.max_count is not None):
                raise ValueError("`strategy: stratified` needs either `max_count` or `class_counts`")
            if any(count <= 0 for count in self.class_counts.values()):
                raise ValueError("`class_counts` must be positive")
        return self


LOCATION_KEYS: dict[str, tuple[str, ...]] = {
    "spacing_m": ("grid", "scenes"),
    "min_distance_m": ("scenes", "points", "cities", "uniform", "stratified"),
    "points": ("points",),
    "cities": ("cities",),
    "spread_m": ("cities",),
    "on_land": ("cities", "stratified"),
    "class_raster": ("stratified",),
    "class_counts": ("stratified",),
}
"""Which strategies a key is for; the others are for all."""
