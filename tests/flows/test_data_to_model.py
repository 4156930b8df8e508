"""``data_to_model`` from a STAC API to registered encoders, and what it leaves behind."""

from __future__ import annotations

from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr

from catalog.archives import Archive, load_archive
from catalog.encoders import open_catalog
from catalog.products.model import array_name
from catalog.samples import pixels_sha256
from deployments.sandbox import SandboxInfo
from tasks.readers.plan import plan_windows
from tasks.readers.registry import load_reader
from tests.flows.installation import ENCODERS, Installation

PRODUCTS = ("sentinel-2-l2a", "sentinel-1-rtc", "landsat-oli-sr", "enmap-l2a")


@pytest.fixture(scope="module")
def archive(home: Installation) -> Archive:
    return load_archive("sandbox", url=home.archive.url)


def pixels_in_archive(
    home: Installation, archive: Archive, product_id: str, scene_id: str, wanted: set[str]
) -> dict[str, str]:
    """Location → SHA-256 of the raw pixels of a scene there, read again from the archive."""
    cube = home.cube()
    product, scene = cube.products()[product_id], cube.scenes(product_id)[scene_id]
    places = [place for place in cube.locations() if place.id in wanted]
    windows = plan_windows(product, scene, places)
    return {
        read.location: pixels_sha256(read.pixels)
        for read in load_reader().read(scene, product, windows, archive)
    }


def test_one_encoder_per_method_is_registered_and_the_first_is_in_production(
    home: Installation, made: dict[str, Any]
) -> None:
    assert [outcome["action"] for outcome in made["encoders"]] == ["registered", "registered"]
    rows = [row for row in home.json("encoders", "search") if row["name"] in ENCODERS]
    assert {row["name"]: row["method"] for row in rows} == ENCODERS
    assert [row["version"] for row in rows] == [1, 1]
    assert all("production" in row["aliases"] for row in rows)
    assert all(row["snapshots"] == {"sandbox": made["snapshot"]} for row in rows)


def test_a_second_run_reads_no_asset_commits_nothing_trains_nothing_and_returns_the_same(
    home: Installation, made: dict[str, Any]
) -> None:
    before, runs = home.what_is_there(), sorted((home.home / "runs").rglob("metrics.jsonl"))
    stamps = [path.stat().st_mtime_ns for path in runs]
    home.archive.reset_requests()

    again = home.run("data-to-model")

    asked = home.archive.requests()
    assert asked["search"] > 0
    assert (asked["asset"], asked["asset_head"], asked["asset_missing"]) == (0, 0, 0)
    assert again["snapshot"] == made["snapshot"]
    assert home.what_is_there() == before
    assert [item["action"] for item in again["trained"]] == ["return", "return"]
    assert [path.stat().st_mtime_ns for path in runs] == stamps
    assert sorted((home.home / "runs").rglob("metrics.jsonl")) == runs
    assert [item["reference"] for item in again["encoders"]] == [i["reference"] for i in made["encoders"]]
    assert again["report"] == made["report"]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_sample_of_an_encoder_is_found_in_the_archive_with_the_same_pixels(
    home: Installation, made: dict[str, Any], archive: Archive, encoder: str
) -> None:
    lineage = home.json("encoders", "lineage", encoder)
    samples = lineage["samples"]
    assert len({sample["sample"] for sample in samples}) == len(samples) > 20
    by_scene: dict[tuple[str, str], dict[str, str]] = {}
    for sample in samples:
        by_scene.setdefault((sample["product"], sample["scene"]), {})[sample["location"]] = sample["sha256"]
    for (product, scene), recorded in by_scene.items():
        found = pixels_in_archive(home, archive, product, scene, set(recorded))
        assert {place: found[place] for place in recorded} == recorded
    hrefs = {href for sample in samples for href in sample["href"].values()}
    assert all(href.startswith(f"{home.archive.url}/assets/") and "?" not in href for href in hrefs)


def test_an_encoder_learns_at_pretrain_places_only(home: Installation, made: dict[str, Any]) -> None:
    splits = {place.id: place.split for place in home.cube().locations()}
    assert set(splits.values()) == {"pretrain", "probe", "test"}
    for encoder in ENCODERS:
        drawn = home.json("encoders", "lineage", encoder)["samples"]
        assert {splits[sample["location"]] for sample in drawn} == {"pretrain"}


def test_a_scene_names_the_encoders_that_drew_from_it(home: Installation, made: dict[str, Any]) -> None:
    for encoder in ENCODERS:
        for scene in {sample["scene"] for sample in home.json("encoders", "lineage", encoder)["samples"]}:
            rows = home.json("encoders", "lineage", "--scene", scene)
            assert {row["name"] for row in rows} & ENCODERS.keys() == {encoder}
    radar = next(iter(home.cube().scenes("sentinel-1-rtc")))
    assert home.json("encoders", "lineage", "--scene", radar) == []


@pytest.mark.parametrize("product", PRODUCTS)
def test_samples_of_every_product_are_found_in_the_archive(
    home: Installation, made: dict[str, Any], archive: Archive, product: str
) -> None:
    columns = home.cube().columns(product)
    scene = sorted(set(columns["scene"]))[-1]
    recorded = dict(columns[columns["scene"] == scene][["location", "sha256"]].to_numpy().tolist())
    found = pixels_in_archive(home, archive, product, scene, set(recorded))
    assert {place: found[place] for place in recorded} == recorded


@pytest.mark.parametrize("product_id", PRODUCTS)
def test_xarray_reads_the_source_pixels_of_every_copied_sample_bit_for_bit(
    home: Installation, made: dict[str, Any], product_id: str
) -> None:
    cube = home.cube()
    product, scenes = cube.products()[product_id], cube.scenes(product_id)
    data = xr.open_zarr(cube.session_store(), group=product_id, consolidated=False)
    copied = np.flatnonzero(~data["resampled"].to_numpy())
    assert len(copied) == data.sizes["sample"], "the sandbox lies on the products' grids: all is copied"
    scene_of = data["scene"].to_numpy()
    rows = copied[np.argsort(scene_of[copied], kind="stable")]
    compared = 0
    for gsd in product.resolutions_m:
        names = [band.name for band in product.bands_at(gsd)]
        stored = data[array_name(gsd)].isel(sample=rows).to_numpy()
        affines = data[f"affine_{array_name(gsd)[1:]}"].isel(sample=rows).to_numpy()
        for values, affine, scene in zip(stored, affines, scene_of[rows], strict=True):
            for asset in scenes[str(scene)].assets.values():
                places = [names.index(band) for band in asset.bands if band in names]
                if places:
                    numbers = [asset.bands.index(names[place]) + 1 for place in places]
                    source = source_pixels(home, asset.href, numbers, affine, values.shape[1:])
                    assert values[places].tobytes() == source.tobytes()
                    compared += len(places)
    assert compared == len(rows) * len(product.bands)


def source_pixels(
    home: Installation, href: str, bands: list[int], affine: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Pixels ``(band, y, x)`` as a GeoTIFF holds them, by its own georeference; nodata beyond its edge."""
    transform, whole, nodata = raster(home.archive.folder / href.removeprefix(f"{home.archive.url}/"))
    a, b, c, d, e, f = affine
    assert (transform.a, 0, 0, transform.e) == (a, b, d, e)
    left, top = (c - transform.c) / a, (f - transform.f) / e
    assert (left, top) == (round(left), round(top)), "copied, not resampled"
    (height, width), left, top = shape, round(left), round(top)
    rows = slice(max(0, top), min(whole.shape[1], top + height))
    columns = slice(max(0, left), min(whole.shape[2], left + width))
    inside = whole[[number - 1 for number in bands], rows, columns]
    pixels = np.full((len(bands), height, width), nodata or 0, inside.dtype)
    pixels[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = inside
    return pixels


@lru_cache(maxsize=16)
def raster(path: Path) -> tuple[Any, np.ndarray, float | None]:
    """A whole file: its affine, its pixels ``(band, y, x)`` and its nodata value."""
    with rasterio.open(path) as file:
        return file.transform, file.read(), file.nodata


def test_of_two_versions_of_an_observation_the_better_one_is_cubed(
    home: Installation, made: dict[str, Any], sandbox: SandboxInfo
) -> None:
    for product in PRODUCTS:
        states = {row["scene"]: row["state"] for row in home.json("scenes", "list", "--product", product)}
        older, newer = sandbox.superseded[product]
        if product == "sentinel-1-rtc":
            assert older not in states, "it lies before the period"
            continue
        assert (states[older], states[newer]) == ("superseded", "cubed")
        held = set(home.cube().columns(product)["scene"])
        assert newer in held
        assert older not in held


def test_a_refused_scene_is_in_quarantine_with_its_reason_and_not_in_the_cube(
    home: Installation, made: dict[str, Any], sandbox: SandboxInfo
) -> None:
    quarantined = {row["scene"]: row for row in home.json("scenes", "list", "--state", "quarantined")}
    expected = {sandbox.refused[product] for product in PRODUCTS if product != "sentinel-2-l2a"}
    assert set(quarantined) == expected
    assert all(row["reasons"] for row in quarantined.values())
    night = quarantined[sandbox.refused["enmap-l2a"]]
    assert "sun elevation" in night["reasons"][0]
    for row in quarantined.values():
        assert row["scene"] not in set(home.cube().columns(row["product"])["scene"])


class Loads(HTMLParser):
    """What a page makes a browser load, and the words it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"src", "srcset", "data", "action", "poster"} or (name == "href" and tag != "a"):
                self.loads.append(value or "")
            if name == "style" and value and "url(" in value:
                self.loads.append(value)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_report_is_one_file_that_loads_nothing_and_says_that_scenes_are_simulated(
    made: dict[str, Any],
) -> None:
    html = Path(made["report"]).read_text(encoding="utf-8")
    page = Loads()
    page.feed(html)
    assert [load[:60] for load in page.loads if not load.startswith(("data:", "#"))] == []
    assert "@import" not in html
    text = " ".join(page.text)
    assert "simulated" in text
    for reference in ("s2-moco-resnet18@1", "enmap-mae-vit@1", made["snapshot"]):
        assert reference in text


def test_a_registered_encoder_loads_and_takes_physical_units(
    home: Installation, made: dict[str, Any]
) -> None:
    import torch

    from models import load_encoder

    for name in ENCODERS:
        encoder = open_catalog(home.settings).get(f"{name}:production")
        model = load_encoder(encoder)
        side, bands = model.config["input_size_px"], len(encoder.manifest["bands"])
        features = model(torch.rand(2, bands, side, side))
        assert features.shape == (2, model.config["feature_dim"])
        assert bool(torch.isfinite(features).all())


def test_the_gate_report_and_the_curves_of_every_training_are_kept(
    home: Installation, made: dict[str, Any]
) -> None:
    runs = home.home / "runs"
    assert {path.name for path in runs.glob("refresh-*/gate-*.html")} == {f"gate-{p}.html" for p in PRODUCTS}
    for outcome in made["encoders"]:
        folder = runs / outcome["run"]
        assert (folder / "metrics.jsonl").read_text(encoding="utf-8").strip()
        assert (folder / "evaluations.json").is_file()
