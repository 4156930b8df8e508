"""Per-scene statistics: what they say, and how little they read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from catalog.products import Product
from tasks.gate.statistics import measure_scenes, scene_statistics
from tests.tasks.range_server import RangeServer, serve_ranges
from tests.tasks.sandbox_archive import PRODUCTS, Sandbox
from tests.tasks.scene_files import SceneFiles, archive_at, built_in, grid_at, write_cog, write_scene


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RangeServer]:
    with serve_ranges(tmp_path_factory.mktemp("archive")) as running:
        yield running


def rewrite(server: RangeServer, files: SceneFiles, product: Product, key: str, values: np.ndarray) -> None:
    """Replace one band's file."""
    gsd = product.band(key).gsd_m
    write_cog(server.folder / files.scene.id / f"{key}.tif", values[None], grid_at(gsd), product.nodata)


@pytest.mark.parametrize("name", PRODUCTS)
def test_percentiles_are_those_of_the_pixels_in_physical_units(name: str, server: RangeServer) -> None:
    product = built_in(name)
    files = write_scene(server.folder, server.url, product, f"p-{name}", empty_columns=0.25)
    row = scene_statistics(files.scene, product, archive_at(server.url))
    assert row["nodata_fraction"] == pytest.approx(0.25, abs=0.02)
    assert row["valid_fraction"] == pytest.approx(1 - row["nodata_fraction"])
    for band in product.bands[:: max(1, len(product.bands) // 5)]:
        raw = files.arrays[band.name].astype(float)
        raw = raw[raw != product.nodata]
        physical = {
            "sentinel-2-l2a": raw * 1e-4 - 0.1,
            "sentinel-1-rtc": 10 * np.log10(np.maximum(raw, 1e-9)),
            "landsat-oli-sr": raw * 2.75e-5 - 0.2,
            "enmap-l2a": raw * 1e-4,
        }[name]
        spread = np.percentile(physical, 99) - np.percentile(physical, 1)
        for percent in (1, 50, 99):
            assert row[f"p{percent}_{band.name}"] == pytest.approx(
                np.percentile(physical, percent), abs=0.05 * spread
            )
    findings = ("empty_bands", "constant_bands", "duplicate_bands", "implausible_bands")
    assert not any(row[finding] for finding in findings)


def test_cloud_is_counted_by_the_qa_layer(server: RangeServer) -> None:
    product = built_in("sentinel-2-l2a")
    files = write_scene(server.folder, server.url, product, "cloudy", cloud_percent=70)
    assert scene_statistics(files.scene, product, archive_at(server.url))["cloud_fraction"] == pytest.approx(
        0.7, abs=0.02
    )
    radar = built_in("sentinel-1-rtc")
    files = write_scene(server.folder, server.url, radar, "radar")
    assert math.isnan(scene_statistics(files.scene, radar, archive_at(server.url))["cloud_fraction"])


def test_bands_that_hold_no_picture_are_named(server: RangeServer) -> None:
    product = built_in("sentinel-2-l2a")
    files = write_scene(server.folder, server.url, product, "odd")
    rewrite(server, files, product, "B02", np.full((384, 384), 1500, np.uint16))
    rewrite(server, files, product, "B04", files.arrays["B03"])
    rewrite(server, files, product, "B05", np.zeros((192, 192), np.uint16))
    rewrite(
        server, files, product, "B11", np.full_like(files.arrays["B11"], 60000) + files.arrays["B11"] // 9
    )
    saturated = files.arrays["B12"].copy()
    saturated[:, :96] = 65535
    rewrite(server, files, product, "B12", saturated)
    row = scene_statistics(files.scene, product, archive_at(server.url))
    assert row["constant_bands"] == "B02"
    assert row["duplicate_bands"] == "B04 = B03"
    assert row["empty_bands"] == "B05"
    assert "B11" in row["implausible_bands"]
    assert row["saturated_fraction"] == pytest.approx(0.5 / 12, rel=0.1)
    assert math.isnan(row["p50_B05"])


def test_an_offset_that_the_pixels_contradict_is_noticed(server: RangeServer) -> None:
    product = built_in("sentinel-2-l2a")
    files = write_scene(server.folder, server.url, product, "offset")
    archive = archive_at(server.url)
    for band in product.bands:
        shade = files.arrays[band.name][:, -12:]  # every real scene has some
        shade[:] = np.random.default_rng(0).integers(1020, 1080, shade.shape)
        rewrite(server, files, product, band.name, files.arrays[band.name])
    right = scene_statistics(files.scene, product, archive)
    assert right["radiometry"] == "agrees" and not right["histograms"]
    # The same pixels, said to be of a baseline that adds nothing.
    denied = scene_statistics(replace(files.scene, baseline="02.14"), product, archive)
    assert denied["radiometry"] == "contradicts" and "0.1 had been added" in denied["radiometry_reason"]
    # Pixels without the offset, said to have it.
    for band in product.bands:
        rewrite(server, files, product, band.name, files.arrays[band.name] - 1000)
    claimed = scene_statistics(files.scene, product, archive)
    assert claimed["radiometry"] == "contradicts" and "applied twice" in claimed["radiometry_reason"]
    assert claimed["histograms"]
    for histogram in claimed["histograms"].values():
        assert sum(histogram["counts"]) > 0.8 * 256 * 256 and histogram["low"] < 0 < histogram["high"]


def test_statistics_read_overviews_and_each_file_once(server: RangeServer) -> None:
    product = built_in("sentinel-1-rtc")
    files = write_scene(server.folder, server.url, product, "large", side_m=20480)
    server.requests.clear()
    scene_statistics(files.scene, product, archive_at(server.url))
    assert sum(request.range is not None and request.range[0] == 0 for request in server.requests) == 2
    spans = [request.range for request in server.requests if request.range]
    fetched = sum(last - first + 1 for first, last in spans)
    assert fetched < 0.1 * sum(asset.size_bytes or 0 for asset in files.scene.assets.values())


def test_a_large_file_without_overviews_is_sampled_instead_of_read_whole(server: RangeServer) -> None:
    import rasterio

    product = built_in("sentinel-1-rtc")
    files = write_scene(server.folder, server.url, product, "bare", side_m=20480)
    for key, name in (("vv", "VV"), ("vh", "VH")):
        path = server.folder / "bare" / f"{key}.tif"
        with rasterio.open(path) as source:
            profile = source.profile
        with rasterio.open(
            path, "w", **{**profile, "driver": "GTiff", "tiled": True, "blockxsize": 128, "blockysize": 128}
        ) as file:
            file.write(files.arrays[name], 1)
    server.requests.clear()
    row = scene_statistics(files.scene, product, archive_at(server.url))
    spans = [request.range for request in server.requests if request.range]
    fetched = sum(last - first + 1 for first, last in spans)
    assert fetched < 0.5 * sum(asset.size_bytes or 0 for asset in files.scene.assets.values())
    decibel = 10 * np.log10(files.arrays["VV"].astype(float))
    assert row["p50_VV"] == pytest.approx(np.median(decibel), abs=1)


def test_a_scene_that_cannot_be_read_does_not_stop_the_others(server: RangeServer) -> None:
    product = built_in("landsat-oli-sr")
    good = [write_scene(server.folder, server.url, product, name).scene for name in ("one", "two")]
    lost = write_scene(server.folder, server.url, product, "lost").scene
    (server.folder / "lost" / "red.tif").unlink()
    steps: list[tuple[str, int, int]] = []
    measured = measure_scenes(
        [good[0], lost, good[1]],
        product,
        archive_at(server.url),
        progress=lambda *step: steps.append(step),
        pause_s=0.01,
    )
    assert [row["scene"] for row in measured.rows] == ["one", "two"]
    assert set(measured.failures) == {"lost"}
    assert "HTTP 404" in measured.failures["lost"].message
    assert [done for _, done, _ in steps] == [1, 2, 3]


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_sandbox_scenes_raise_no_false_alarm(name: str, sandbox: Sandbox) -> None:
    from tasks.search.scenes import search_scenes

    product = built_in(name)
    found = search_scenes(sandbox.archive, product, sandbox.area, sandbox.period)
    measured = measure_scenes(found.scenes, product, sandbox.archive)
    assert not measured.failures
    for row in measured.rows:
        if row["scene"] != sandbox.info.refused[name]:
            assert row["radiometry"] != "contradicts" and row["implausible_bands"] is None, row["scene"]
            assert row["constant_bands"] is None and row["duplicate_bands"] is None, row["scene"]
