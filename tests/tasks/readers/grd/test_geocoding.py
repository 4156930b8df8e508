"""Where a place is seen: against two other ways to work it out, and against points put into a scene."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import minimize_scalar

from catalog.errors import SceneError, UsageError
from catalog.grids import north_up
from catalog.normalise.sentinel1_annotation import read_product_annotation
from catalog.scenes import Scene
from deployments.sandbox.landscape import Ground
from deployments.sandbox.sensors import Raster
from deployments.sandbox.sensors.sentinel1_grd import height_at, scene_pass
from deployments.sandbox.write import write_cog
from tasks.readers import WindowRequest
from tasks.readers.grd.geocoding import SPEED_OF_LIGHT_M_S, RadarGeometry
from tasks.readers.grd.terrain import ControlPoints, ElevationModel, degrees_of
from tests.tasks.readers.grd.grd_archive import GRD, QUICK, Radar, changed, grounds, observations
from tests.tasks.scene_files import built_in


def scene_and_ground(radar: Radar, place: int = 0) -> tuple[Scene, Ground]:
    scene = radar.scenes()[place]
    return scene, grounds()[observations()[scene.id].zone]


def geometry_of(radar: Radar, scene: Scene) -> RadarGeometry:
    return RadarGeometry(read_product_annotation(radar.asset(scene, "annotation/iw-vv.xml").read_bytes()))


def by_brute_force(path: Path, place: np.ndarray) -> tuple[float, float]:
    """Line and pixel of an earth-fixed place: when the satellite is closest, from the XML alone."""
    tree = ElementTree.parse(path).getroot()

    def seconds(text: str) -> float:
        clock = text.split("T")[1].split(":")
        return int(clock[0]) * 3600 + int(clock[1]) * 60 + float(clock[2])

    def axes(one: ElementTree.Element, name: str) -> list[float]:
        return [float(one.findtext(f"{name}/{axis}")) for axis in "xyz"]

    orbits = tree.findall(".//orbit")
    orbit = CubicHermiteSpline(
        [seconds(one.findtext("time")) for one in orbits],
        [axes(one, "position") for one in orbits],
        [axes(one, "velocity") for one in orbits],
    )
    ends = orbit.x[0], orbit.x[-1]
    closest = minimize_scalar(
        lambda t: float(np.linalg.norm(place - orbit(t))), bounds=ends, method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    # The distance is flat where it is least; where its slope changes sign is sharper.
    step = 1e-3
    slopes = [float((place - orbit(closest.x + k * step)) @ orbit(closest.x + k * step, 1)) for k in (-1, 1)]
    moment = closest.x - step + 2 * step * slopes[0] / (slopes[0] - slopes[1])
    slant = float(np.linalg.norm(place - orbit(moment)))
    image = tree.find("imageAnnotation/imageInformation")
    late = (2 * slant / SPEED_OF_LIGHT_M_S - float(image.findtext("slantRangeTime"))) / 2
    line = moment - late - seconds(image.findtext("productFirstLineUtcTime"))
    conversion = tree.find(".//coordinateConversionList/coordinateConversion")
    wide = slant - float(conversion.findtext("sr0"))
    factors = [float(value) for value in conversion.findtext("srgrCoefficients").split()]
    ground = sum(factor * wide**n for n, factor in enumerate(factors))
    return line / float(image.findtext("azimuthTimeInterval")), ground / float(
        image.findtext("rangePixelSpacing")
    )


@pytest.mark.parametrize("place", [0, 1])
def test_a_place_is_where_two_other_ways_find_it(radar: Radar, place: int) -> None:
    from pyproj import Transformer

    scene, ground = scene_and_ground(radar, place)
    west, south, east, north = ground.grid.bounds
    x, y = np.meshgrid(np.linspace(west, east, 4), np.linspace(south, north, 4))
    height = np.array([[300.0, 500.0, 700.0, 900.0]] * 4)
    longitude, latitude = Transformer.from_crs(ground.grid.epsg, 4326, always_xy=True).transform(x, y)
    line, pixel = geometry_of(radar, scene).locate(longitude, latitude, height)
    simulated = scene_pass(ground, observations()[scene.id]).radar_place(x, y, height)
    np.testing.assert_allclose(line, simulated[0], atol=0.01)
    np.testing.assert_allclose(pixel, simulated[1], atol=0.01)
    fixed = np.stack(
        Transformer.from_crs(4979, 4978, always_xy=True).transform(longitude, latitude, height), axis=-1
    )
    path = radar.asset(scene, "annotation/iw-vv.xml")
    for at in ((0, 0), (1, 2), (3, 3)):
        found = by_brute_force(path, fixed[at])
        assert (line[at], pixel[at]) == pytest.approx(found, abs=0.02)


def test_a_place_of_unknown_height_is_nowhere(radar: Radar) -> None:
    scene, ground = scene_and_ground(radar)
    heights = np.full((2, 2), 500.0)
    heights[0, 1] = np.nan
    degrees = degrees_of(north_up(ground.grid.epsg, *ground.grid.bounds[0:4:3], 10.0, (2, 2)))
    line, pixel = geometry_of(radar, scene).locate(*degrees, heights)
    assert np.isnan(line).tolist() == np.isnan(pixel).tolist() == [[False, True], [False, False]]


def test_the_geometry_agrees_with_the_annotations_own_points(radar: Radar) -> None:
    for scene in radar.scenes():
        geometry = geometry_of(radar, scene)
        assert geometry.line_error < 0.01 and geometry.pixel_error < 0.01 and geometry.error_m < 0.1


TARGETS = ((0.3, 0.3), (0.5, 0.6), (0.7, 0.4))
"""Shares of the raster's lines and pixels."""


@pytest.mark.parametrize("place", [0, 1])
def test_a_point_lies_in_its_place_with_the_terrain_and_beside_it_without(
    radar: Radar, tmp_path: Path, place: int
) -> None:
    scene, ground = scene_and_ground(radar, place)
    seen_from = scene_pass(ground, observations()[scene.id])
    lines, pixels = seen_from.shape
    spots = [(round(i * lines), round(j * pixels)) for i, j in TARGETS]
    product = built_in(GRD)
    with changed(radar, tmp_path / "copy") as copy:
        (scene,) = (one for one in copy.scenes() if one.id == scene.id)
        for key in ("vv", "vh"):
            path = copy.asset(scene, f"{key}.tif")
            with rasterio.open(path) as file:
                assert file.crs is None
                points = tuple((p.row, p.col, p.x, p.y, p.z) for p in file.gcps[0])
            dn = np.full(seen_from.shape, 200, np.uint16)
            for line, pixel in spots:
                dn[line, pixel] = 40_000
            write_cog(path, Raster(dn[None], ground.grid, None, points=points))
        for line, pixel in spots:
            seen_at = seen_from.ground_under(
                np.array([float(line)]), np.array([float(pixel)]), lambda x, y: height_at(ground, x, y)
            )
            x, y, height = (float(value[0]) for value in seen_at)
            west, north = round(x / 10) * 10 - 320, round(y / 10) * 10 + 320
            grid = north_up(ground.grid.epsg, west, north, 10.0, (64, 64))
            with_terrain = WindowRequest("w", {10.0: grid}, terrain=str(copy.dem))
            (exact,) = QUICK.read(scene, product, [with_terrain], copy.archive)
            found = centroid(exact.pixels[10.0][0], grid)
            assert math.dist(found, (x, y)) < 5.0, "half a pixel"
            (rough,) = QUICK.read(scene, product, [WindowRequest("w", {10.0: grid})], copy.archive)
            geometry = geometry_of(copy, scene)
            assumed = float(ControlPoints(geometry)._at(np.array([[line]]), np.array([[pixel]]))[0, 0])
            shift = (height - assumed) / math.tan(math.radians(seen_from.incidence_deg))
            look = math.radians(seen_from.look_deg)
            predicted = x - shift * math.sin(look), y - shift * math.cos(look)
            found = centroid(rough.pixels[10.0][0], grid)
            assert math.dist(found, predicted) < 5.0 + 0.1 * abs(shift)
            assert rough.position_error_m > exact.position_error_m
            assert abs(shift) < rough.position_error_m, "the estimate covers what happens"


def centroid(values: np.ndarray, grid) -> tuple[float, float]:
    """Place of the bright spot, metres."""
    weight = np.where(values > 0.2 * values.max(), values, 0)
    rows, cols = np.indices(values.shape) + 0.5
    row, col = (float((weight * axis).sum() / weight.sum()) for axis in (rows, cols))
    return grid.affine[2] + 10 * col, grid.affine[5] - 10 * row


def test_control_points_on_flat_ground_promise_a_good_position(radar: Radar) -> None:
    scene, ground = scene_and_ground(radar)
    text = radar.asset(scene, "annotation/iw-vv.xml").read_bytes()
    geometry = RadarGeometry(read_product_annotation(text))
    rough = ControlPoints(geometry)
    grid = north_up(
        ground.grid.epsg, ground.grid.bounds[0] + 600, ground.grid.bounds[3] - 600, 10.0, (48, 48)
    )
    heights = rough.heights_m(grid)
    low, high = geometry.annotation.grid.height_m.min(), geometry.annotation.grid.height_m.max()
    assert low <= heights.min() and heights.max() <= high
    spread = high - low
    assert 0 < rough.position_error_m(grid) <= 1.01 * spread / math.tan(math.radians(37))
    geometry.annotation.grid.height_m[:] = 480.0
    assert ControlPoints(geometry).position_error_m(grid) == pytest.approx(geometry.error_m)


def test_heights_beyond_the_elevation_model_are_unknown(radar: Radar) -> None:
    scene, ground = scene_and_ground(radar)
    model = ElevationModel(radar.dem, geometry_of(radar, scene))
    west, _, _, north = ground.grid.bounds
    beside = model.heights_m(north_up(ground.grid.epsg, west, north + 20_000, 10.0, (8, 8)))
    assert np.isnan(beside).all()
    inside = north_up(ground.grid.epsg, west + 400, north - 400, 10.0, (40, 40))
    x, y = np.meshgrid(west + 405 + 10.0 * np.arange(40), north - 405 - 10.0 * np.arange(40))
    np.testing.assert_allclose(model.heights_m(inside), height_at(ground, x, y), atol=0.6)


def test_a_missing_or_unreadable_elevation_model_is_named(radar: Radar, tmp_path: Path) -> None:
    scene, ground = scene_and_ground(radar)
    with pytest.raises(UsageError, match="no elevation model") as caught:
        ElevationModel(tmp_path / "none.tif", geometry_of(radar, scene))
    assert caught.value.code == "dem-not-found"
    (tmp_path / "text.tif").write_text("no raster")
    model = ElevationModel(tmp_path / "text.tif", geometry_of(radar, scene))
    with pytest.raises(UsageError) as caught:
        model.heights_m(ground.grid)
    assert caught.value.code == "dem-unreadable"


def test_an_orbit_that_contradicts_the_control_points_is_refused(radar: Radar, tmp_path: Path) -> None:
    scene, ground = scene_and_ground(radar)
    with changed(radar, tmp_path / "copy") as copy:
        (scene,) = (one for one in copy.scenes() if one.id == scene.id)
        path = copy.asset(scene, "annotation/iw-vv.xml")
        text = path.read_text()
        first = text.index("<latitude>") + len("<latitude>")
        path.write_text(text[:first] + "4.9" + text[first + 3 :])  # one of twenty points, a degree off
        grid = north_up(ground.grid.epsg, ground.grid.bounds[0], ground.grid.bounds[3], 10.0, (48, 48))
        with pytest.raises(SceneError, match="disagree") as caught:
            list(QUICK.read(scene, built_in(GRD), [WindowRequest("w", {10.0: grid})], copy.archive))
    assert caught.value.code == "annotation-contradicts" and caught.value.subject == scene.id
