"""The simulated ground-range scenes: relief lies where a radar sees it, items have the archives' quirks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import rowcol

from catalog.archives import load_archive
from catalog.grids import north_up
from catalog.normalise import normalise_item
from catalog.products import load_product
from deployments.sandbox import SandboxInfo, make_sandbox
from deployments.sandbox.landscape import make_landscape
from deployments.sandbox.radar_geometry import MARGIN_PX, ORBIT_RADIUS_M, RadarPass
from deployments.sandbox.sensors.sentinel1_grd import height_at

GRD = "sentinel-1-grd"
SQUARE = north_up(32633, 300_000.0, 5_320_000.0, 10.0, (192, 192))


@pytest.fixture(scope="module", params=[(78.0, 37.5), (282.0, 40.5)], ids=["ascending", "descending"])
def seen_from(request: pytest.FixtureRequest) -> RadarPass:
    look, incidence = request.param
    return RadarPass(SQUARE, 540.0, look, incidence)


def test_what_lies_higher_lies_closer_to_the_sensor(seen_from: RadarPass) -> None:
    west, south, east, north = SQUARE.bounds
    x, y = (west + east) / 2, (south + north) / 2
    line, pixel = seen_from.radar_place([x, x], [y, y], [540.0, 640.0])
    assert line[0] == pytest.approx(line[1], abs=0.1)
    lifted_px = 100 / math.tan(math.radians(seen_from.incidence_deg)) / 10
    assert pixel[0] - pixel[1] == pytest.approx(lifted_px, rel=0.02)


def test_lines_and_pixels_are_ten_metres_of_ground(seen_from: RadarPass) -> None:
    west, south, east, north = SQUARE.bounds
    x, y, look = (west + east) / 2, (south + north) / 2, math.radians(seen_from.look_deg)
    flight = look - math.pi / 2
    xs = x + np.array([0.0, 100 * math.sin(look), 100 * math.sin(flight)])
    ys = y + np.array([0.0, 100 * math.cos(look), 100 * math.cos(flight)])
    line, pixel = seen_from.radar_place(xs, ys, [540.0] * 3)
    assert pixel[1] - pixel[0] == pytest.approx(10, rel=0.005)
    assert line[2] - line[0] == pytest.approx(10, rel=0.005)


def test_the_raster_covers_the_square(seen_from: RadarPass) -> None:
    west, south, east, north = SQUARE.bounds
    line, pixel = seen_from.radar_place([west, west, east, east], [south, north, south, north], [540.0] * 4)
    lines, pixels = seen_from.shape
    assert line.min() >= MARGIN_PX - 1 and line.max() <= lines - MARGIN_PX + 1
    assert pixel.min() >= 0 and pixel.max() <= pixels - MARGIN_PX + 1


def test_the_way_back_to_the_ground_ends_where_it_began(seen_from: RadarPass) -> None:
    rng = np.random.default_rng(0)
    line, pixel = (rng.uniform(0, size, 50) for size in seen_from.shape)

    def hills(x, y):
        return 540 + 60 * np.sin(x / 400) * np.cos(y / 300)

    x, y, height = seen_from.ground_under(line, pixel, hills)
    np.testing.assert_allclose(height, hills(x, y), atol=0.2)
    again = seen_from.radar_place(x, y, height)
    np.testing.assert_allclose(again[0], line, atol=0.02)
    np.testing.assert_allclose(again[1], pixel, atol=0.02)


def test_the_satellite_flies_a_circle_at_a_right_angle_to_what_it_sees(seen_from: RadarPass) -> None:
    positions, velocities = seen_from.state_vectors(np.linspace(-80, 80, 9))
    np.testing.assert_allclose(np.linalg.norm(positions, axis=1), ORBIT_RADIUS_M)
    np.testing.assert_allclose((positions * velocities).sum(axis=1), 0, atol=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SandboxInfo:
    return make_sandbox(tmp_path_factory.mktemp("grd") / "sandbox", size_m=960, dates=1, products=(GRD,))


def items(made: SandboxInfo) -> list[dict]:
    path = made.folder / "items" / f"{GRD}.ndjson"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_files_have_control_points_and_no_crs(made: SandboxInfo) -> None:
    for item in items(made):
        for key in ("vv", "vh"):
            with rasterio.open(made.folder / item["assets"][key]["href"].lstrip("/")) as file:
                assert file.crs is None and file.dtypes == ("uint16",) and file.tags(ns="IMAGE_STRUCTURE")
                points, crs = file.gcps
                assert len(points) == 20 and crs.to_epsg() == 4326
                assert item["properties"]["s1:shape"] == [file.width, file.height]
                assert item["properties"]["proj:shape"] == [file.height, file.width]


def test_items_have_the_quirks_of_the_real_catalogues(made: SandboxInfo) -> None:
    for item in items(made):
        assert item["properties"]["proj:epsg"] == 4326 and item["properties"]["proj:transform"][1] == 0
        assert item["assets"]["schema-product-vv"]["href"].endswith("annotation/rfi/rfi-iw-vv.xml")
        assert "terrain correction applied" in item["assets"]["vv"]["description"]
        archive = load_archive("sandbox", url="http://127.0.0.1:9")
        item["assets"] = {
            key: {**asset, "href": f"http://127.0.0.1:9{asset['href']}"}
            for key, asset in item["assets"].items()
        }
        scene = normalise_item(item, archive, load_product(GRD))
        assert scene.epsg is None and scene.assets["vv"].grid is None
        assert any("left out" in repair for repair in scene.repairs)
        for asset in scene.assets.values():
            assert (made.folder / asset.href.split(":9/")[1]).is_file()


def test_the_superseded_scene_has_the_older_noise_layout(made: SandboxInfo) -> None:
    old, new = made.superseded[GRD]
    texts = [
        (made.folder / "assets" / GRD / name / "annotation/calibration/noise-iw-vv.xml").read_text()
        for name in (old, new)
    ]
    assert "<noiseVector>" in texts[0] and "<noiseAzimuthVector>" not in texts[0]
    assert "<noiseVector>" not in texts[1] and "<noiseAzimuthVector>" in texts[1]


def test_the_terrain_model_holds_the_landscapes_heights(made: SandboxInfo) -> None:
    with rasterio.open(made.folder / "assets/dem/landscape.tif") as file:
        values, nodata = file.read(1), file.nodata
        assert file.crs.to_epsg() == 4326 and file.res[0] == pytest.approx(1 / 10800)
        from pyproj import Transformer

        for ground in make_landscape(made.seed, 960):
            west, south, east, north = ground.grid.bounds
            x, y = np.meshgrid(np.linspace(west, east, 9), np.linspace(south, north, 9))
            longitude, latitude = Transformer.from_crs(ground.grid.epsg, 4326, always_xy=True).transform(x, y)
            rows, cols = rowcol(file.transform, longitude.ravel(), latitude.ravel())
            found = values[np.asarray(rows, int), np.asarray(cols, int)]
            assert (found != nodata).all()
            np.testing.assert_allclose(found, height_at(ground, x, y).ravel(), atol=8)


def test_the_same_seed_makes_the_same_bytes(made: SandboxInfo, tmp_path: Path) -> None:
    again = make_sandbox(tmp_path / "again", size_m=960, dates=1, products=(GRD,), workers=1)
    files = sorted(path.relative_to(made.folder) for path in (made.folder / "assets").rglob("*.*"))
    assert files
    for path in files:
        assert (made.folder / path).read_bytes() == (again.folder / path).read_bytes()
