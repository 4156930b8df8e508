"""Recipes: one YAML file that says what to acquire, how to pretrain and what to evaluate."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from catalog.errors import UsageError

Split = Literal["pretrain", "probe", "test"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Area(_Strict):
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


class Period(_Strict):
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


class GateLimits(_Strict):
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


class DateRequest(_Strict):
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


class ProductRequest(_Strict):
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


class SplitRule(_Strict):
    """How places are kept apart; fixed when a location is sampled."""

    by: Literal["block", "tile"] = "block"
    block_m: float = Field(1920, gt=0, description="side of a spatial block, metres")
    buffer_m: float = Field(0, ge=0, description="locations closer than this to another split are dropped")
    shares: dict[Split, float] = {"pretrain": 0.6, "probe": 0.2, "test": 0.2}
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


class LocationRequest(_Strict):
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


class Optimiser(_Strict):
    """Optimiser and schedule of one pretraining."""

    name: Literal["sgd", "adamw", "lars", "adan"] = "adamw"
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    final_weight_decay: float | None = Field(
        None, ge=0, description="at the end of the run (cosine); constant if none"
    )
    momentum: float = Field(0.9, ge=0, lt=1)
    betas: tuple[float, float] = Field((0.9, 0.95), description="of adamw")
    clip_norm: float | None = Field(
        None, gt=0, description="largest norm of all gradients; unlimited if none"
    )
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup_share: float = Field(0.05, ge=0, le=0.5, description="of all steps")
    milestones: tuple[float, ...] = Field((0.6, 0.8), description="shares of the run, for `step`")


class Pretraining(_Strict):
    """One encoder to pretrain."""

    encoder: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", description="its name in the catalog")
    method: str
    products: Annotated[tuple[str, ...], Field(min_length=1)]
    bands: tuple[str, ...] | None = Field(None, description="band names in order; all of the product if none")
    wavelengths_nm: tuple[tuple[float, float], ...] | None = Field(
        None, description="keep hyperspectral bands whose centre lies in one of these ranges"
    )
    backbone: str = "resnet18"
    backbone_options: dict[str, Any] = Field(default_factory=dict)
    input_size_px: int = Field(gt=0, description="side of the encoder's input after cropping")
    gsd_m: float | None = Field(None, gt=0, description="common grid of the input; the finest band's if none")
    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    accumulate: int = Field(1, gt=0)
    optimiser: Optimiser
    options: dict[str, Any] = Field(default_factory=dict, description="of the method")
    mask_cloud: bool = Field(False, description="treat what the QA calls cloud or shadow as invalid")
    transductive: bool = Field(False, description="also learn from probe and test places; the score says so")
    seed: int = 0
    precision: Literal["32", "bf16"] = "32"
    devices: int = Field(1, gt=0)
    start_from: Literal["scratch", "previous"] = Field("previous", description="weights of a refresh")
    min_new_samples: int = Field(1, ge=0, description="new samples that are enough to train again")
    max_age_days: float | None = Field(None, gt=0, description="train again past this age if anything is new")


class Evaluation(_Strict):
    """One downstream task that frozen features are scored on."""

    name: str
    label_set: str
    kind: Literal["patch-classes", "pixel-classes", "change"]
    encoders: tuple[str, ...] | None = Field(
        None, description="those of the recipe whose product fits if none"
    )
    product: str
    protocol: Literal["holdout", "leave-one-place-out"] = "holdout"
    place: Literal["block", "tile", "location"] = "block"
    min_change_fraction: float = Field(0.05, gt=0, le=1, description="of a sample, for `change`")
    max_samples: int = Field(4000, gt=0)
    seeds: int = Field(3, gt=0)
    caveat: str = Field("", description="printed beside the score")


class Promotion(_Strict):
    """When a new version becomes ``:production``."""

    alias: str = "production"
    automatic: bool = True
    tolerance: float = Field(0.0, ge=0, description="allowed loss beyond the noise of the scores")


class Recipe(_Strict):
    """What a run needs to know."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str = ""
    archive: str = Field(description="name of a built-in archive, or the address of a STAC API")
    hosts: tuple[str, ...] = Field(
        (), description="more hosts that the archive's files may lie on; private ones must be named here"
    )
    cube: str = Field("", description="name of the cube; the recipe's name unless given")
    area: Area
    period: Period
    products: Annotated[dict[str, ProductRequest], Field(min_length=1)]
    locations: LocationRequest
    look_back_days: int | None = Field(
        None, ge=0, description="late-arrival window of a refresh; the whole period is searched if none"
    )
    whole_search_days: float = Field(
        30, gt=0, description="with a window: age of the last whole search past which all is searched again"
    )
    pretrain: tuple[Pretraining, ...] = ()
    evaluate: tuple[Evaluation, ...] = ()
    promotion: Promotion = Promotion()
    verify_checksums: bool = Field(
        False, description="fetch every file whole and compare it with its item's checksum where there is one"
    )
    published: bool = Field(True, description="false for sandbox recipes: scores are never quoted as quality")

    @model_validator(mode="after")
    def _parts_fit(self) -> Recipe:
        names = [item.encoder for item in self.pretrain]
        if len(set(names)) != len(names):
            raise ValueError("two pretrainings share an encoder name")
        for item in self.pretrain:
            for product in item.products:
                if product not in self.products:
                    raise ValueError(f"pretraining {item.encoder} uses product {product}, not in `products`")
        for task in self.evaluate:
            if task.product not in self.products:
                raise ValueError(f"evaluation {task.name} uses product {task.product}, not in `products`")
        return self

    @property
    def cube_name(self) -> str:
        return self.cube or self.name

    def pretraining(self, encoder: str) -> Pretraining:
        return next(item for item in self.pretrain if item.encoder == encoder)


def read_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe file; ``overrides`` are ``key.sub=value`` strings whose values are YAML.

    Raises
    ------
    UsageError: the file is missing, is no YAML, or has an unknown key or a wrong value (named).
    """
    if not path.is_file():
        raise UsageError(
            "recipe-not-found",
            f"there is no recipe file {path}",
            subject=str(path),
            next_step="see deployments/recipes for the built-in ones",
        )
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(
            "invalid-recipe", str(error).replace("\n", " "), subject=path.name, next_step="correct the YAML"
        ) from error
    for override in overrides:
        document = _apply(document, override)
    return parse_recipe(document, subject=path.name)


def parse_recipe(document: Any, *, subject: str = "recipe") -> Recipe:
    """Validate a recipe document."""
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "recipe"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise UsageError(
            "invalid-recipe",
            f"{field}: {message}{more}",
            subject=subject,
            next_step=f"correct {field}; every key is described in docs/recipes.md",
        ) from error


def _apply(document: Any, override: str) -> Any:
    path, separator, text = override.partition("=")
    if not separator:
        raise _bad_override(
            override, "an override is written key.sub=value", "for example --set pretrain.0.steps=50"
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _bad_override(
            override, f"its value is no YAML: {' '.join(str(error).split())}", "quote it"
        ) from error
    *keys, last = path.split(".")
    target = document
    for key in keys:
        if isinstance(target, dict):
            target = target.setdefault(key, {})
        else:
            target = _element(target, key, override)
    if isinstance(target, dict):
        target[last] = value
    else:
        _element(target, last, override)
        target[int(last)] = value
    return document


def _element(target: Any, key: str, override: str) -> Any:
    if not isinstance(target, list) or not key.isdigit() or int(key) >= len(target):
        raise _bad_override(override, f"there is no {key} in that part of the recipe", "name an existing key")
    return target[int(key)]


def _bad_override(override: str, message: str, next_step: str) -> UsageError:
    return UsageError("bad-override", message, subject=override, next_step=next_step)
