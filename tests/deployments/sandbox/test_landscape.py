"""One landscape: sensors agree on it, and its classes differ by season and texture, not by mean spectrum."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.warp import Resampling, reproject

from deployments.sandbox import SandboxInfo
from deployments.sandbox.landscape import MARGIN, Ground, make_landscape, zone_squares
from deployments.sandbox.plan import PRODUCTS, Edge, Footprint
from deployments.sandbox.seasons import (
    BARE,
    BROADLEAF,
    CONIFER,
    SUMMER_CROP,
    URBAN,
    WATER,
    WINTER_CROP,
    class_spectrum,
    cover_tables,
)
from deployments.sandbox.sensors import sentinel1, sentinel2
from deployments.sandbox.sensors.enmap import enmap_bands
from deployments.sandbox.sensors.landsat_instruments import OLI
from deployments.sandbox.spectra import COVERS, VEILS, band_spectra, response
from tests.deployments.sandbox.small_archive import asset_path, item_of, items_of, read

CENTERS = tuple(band[1] for band in sentinel2.BANDS.values())
WIDTHS = tuple(band[2] for band in sentinel2.BANDS.values())
RED, NIR = list(sentinel2.BANDS).index("B04"), list(sentinel2.BANDS).index("B08")


@cache
def grounds() -> tuple[Ground, Ground]:
    return make_landscape(7, 3840)


def yearly_mean(class_id: int) -> NDArray[np.float64]:
    days = range(0, 366, 6)
    return np.mean([class_spectrum(class_id, day, CENTERS, WIDTHS) for day in days], axis=0)


def ndvi(class_id: int, day: int) -> float:
    spectrum = class_spectrum(class_id, day, CENTERS, WIDTHS)
    return float((spectrum[NIR] - spectrum[RED]) / (spectrum[NIR] + spectrum[RED]))


def test_the_two_crops_have_one_mean_spectrum_and_two_seasons() -> None:
    assert np.abs(yearly_mean(WINTER_CROP) - yearly_mean(SUMMER_CROP)).max() < 0.006
    may, august = 135, 225
    assert ndvi(WINTER_CROP, may) - ndvi(SUMMER_CROP, may) > 0.4
    assert ndvi(SUMMER_CROP, august) - ndvi(WINTER_CROP, august) > 0.4


def test_built_up_and_bare_land_have_one_spectrum_on_every_day() -> None:
    for day in (20, 110, 200, 290):
        difference = class_spectrum(URBAN, day, CENTERS, WIDTHS) - class_spectrum(BARE, day, CENTERS, WIDTHS)
        assert np.abs(difference).max() < 0.002


def test_in_summer_the_forests_differ_by_less_than_their_stands_do() -> None:
    broad, conifer = (class_spectrum(kind, 190, CENTERS, WIDTHS) for kind in (BROADLEAF, CONIFER))
    assert np.abs(broad - conifer).max() < 0.10 * broad.max()


def test_texture_tells_what_the_spectrum_does_not() -> None:
    def neighbours_agree(field: NDArray[Any], inside: NDArray[np.bool_]) -> float:
        pair = inside[:, 1:] & inside[:, :-1]
        return float(np.corrcoef(field[:, 1:][pair], field[:, :-1][pair])[0, 1])

    ground = grounds()[0]
    broad, conifer = ground.classes == BROADLEAF, ground.classes == CONIFER
    assert neighbours_agree(ground.texture, broad) > 0.6
    assert neighbours_agree(ground.texture, conifer) < 0.3
    light = ground.roof + 0.3 * ground.asphalt
    assert light[ground.classes == URBAN].std() > 0.2
    assert np.abs(ground.texture[ground.classes == BARE]).mean() < 0.05


def test_covers_are_shares() -> None:
    total = sum(cover_tables()[name][1:] for name in COVERS)
    assert np.all(total <= 1.001)
    assert all(np.all(table >= 0) for table in cover_tables().values())


def test_spectra_are_reflectances_with_the_features_they_are_known_for() -> None:
    bands = enmap_bands()
    spectra = band_spectra((*COVERS, *VEILS), bands.centers_nm, bands.fwhm_nm)
    assert spectra.min() >= 0
    assert spectra.max() <= 1
    at = {
        nm: int(np.argmin(np.abs(np.array(bands.centers_nm) - nm)))
        for nm in (550, 670, 780, 1200, 1650, 2200)
    }
    leaf, soil, water = (spectra[:, COVERS.index(name)] for name in ("herb", "soil", "water"))
    assert leaf[at[780]] > 8 * leaf[at[670]] and leaf[at[550]] > 2 * leaf[at[670]]
    assert leaf[at[1200]] < leaf[at[780]] and leaf[at[2200]] < leaf[at[1650]]
    assert soil[at[550]] < soil[at[780]] < soil[at[1650]]
    assert water[at[780]] < 0.02
    assert response(CENTERS, WIDTHS).sum(axis=1) == pytest.approx(np.ones(12))


def test_the_squares_touch_the_zone_border_from_their_own_side() -> None:
    for size_m in (960, 7680):
        for square, side in zip(zone_squares(size_m), (-1, 1), strict=True):
            west, south, east, north = square.bounds
            assert all(edge % 60 == 0 for edge in square.bounds)
            to_degrees = Transformer.from_crs(square.epsg, 4326, always_xy=True)
            corners = [to_degrees.transform(x, y)[0] for x in (west, east) for y in (south, north)]
            assert all((longitude - 12) * side > 0 for longitude in corners)
            assert min(abs(longitude - 12) for longitude in corners) < 0.004


def test_both_zones_see_the_same_ground_where_they_meet() -> None:
    west, east = grounds()
    step = 10.0
    rows, cols = np.meshgrid(np.arange(MARGIN), np.arange(MARGIN), indexing="ij")
    # The north-western corner of the eastern square, margin included, in the western square's grid.
    _, _, left, _, _, top = east.grid.affine
    x = left + (cols - MARGIN + 0.5) * step
    y = top - (rows - MARGIN + 0.5) * step
    there = Transformer.from_crs(east.grid.epsg, west.grid.epsg, always_xy=True)
    wx, wy = there.transform(x, y)
    _, _, left, _, _, top = west.grid.affine
    col = np.floor((wx - left) / step).astype(int) + MARGIN
    row = np.floor((top - wy) / step).astype(int) + MARGIN
    common = (row >= 0) & (row < west.shape[0]) & (col >= 0) & (col < west.shape[1])
    assert common.sum() > 20
    heights = east.height_m[rows, cols][common], west.height_m[row[common], col[common]]
    assert np.abs(heights[0] - heights[1]).max() < 6
    assert (east.classes[rows, cols][common] == west.classes[row[common], col[common]]).mean() > 0.8


def _reflectance(
    archive: SandboxInfo, product: str, scene: str, key: str, bands: list[int], onto: Any
) -> Any:
    """The mean of some bands as reflectance on another file's grid, NaN where it has no data."""
    item = item_of(archive, product, scene)
    with rasterio.open(asset_path(archive, item, key)) as file:
        raw = file.read(bands).astype(np.float32)
        if product == "sentinel-2-l2a":
            offset = 1000 if item["properties"]["s2:processing_baseline"] >= "04.00" else 0
            values = np.where(raw == 0, np.nan, (raw - offset) * 1e-4)
        elif product == "landsat-oli-sr":
            values = np.where(raw == 0, np.nan, raw * 2.75e-5 - 0.2)
        else:
            values = np.where(raw == -32768, np.nan, raw * 1e-4)
        values = values.mean(axis=0)
        target = np.full(onto.shape, np.nan, np.float32)
        reproject(
            values.astype(np.float32),
            target,
            src_transform=file.transform,
            src_crs=file.crs,
            dst_transform=onto.transform,
            dst_crs=onto.crs,
            src_nodata=np.nan,
            dst_nodata=np.nan,
            resampling=Resampling.average,
        )
    return target


@pytest.mark.parametrize(
    ("landsat_key", "sentinel_key"),
    [
        ("blue", "B02"),
        ("green", "B03"),
        ("red", "B04"),
        ("nir08", "B8A"),
        ("swir16", "B11"),
        ("swir22", "B12"),
    ],
)
def test_three_sensors_agree_on_one_place(archive: SandboxInfo, landsat_key: str, sentinel_key: str) -> None:
    """20 to 22 June 2022, western square: each through its own scale, offset and width of band."""
    landsat = item_of(archive, "landsat-oli-sr", "LC09_L2SP_193026_20220621_02_T2")
    with rasterio.open(asset_path(archive, landsat, landsat_key)) as onto:
        sentinel = _reflectance(
            archive, "sentinel-2-l2a", archive.superseded["sentinel-2-l2a"][0], sentinel_key, [1], onto
        )
        oli = _reflectance(archive, "landsat-oli-sr", landsat["id"], landsat_key, [1], onto)
        _, center, width = OLI.surface[landsat_key]
        within = np.abs(np.array(enmap_bands().centers_nm) - center) < max(width / 2, 6)
        numbers = (np.flatnonzero(within) + 1).tolist()
        hsi = _reflectance(archive, "enmap-l2a", archive.superseded["enmap-l2a"][0], "image", numbers, onto)
        scl = item_of(archive, "sentinel-2-l2a", archive.superseded["sentinel-2-l2a"][0])
        with rasterio.open(asset_path(archive, scl, "SCL")) as file:
            hidden = np.zeros(onto.shape, np.uint8)
            reproject(
                np.isin(file.read(1), (0, 3, 8, 9, 10)).astype(np.uint8),
                hidden,
                src_transform=file.transform,
                src_crs=file.crs,
                dst_transform=onto.transform,
                dst_crs=onto.crs,
                resampling=Resampling.max,
            )
    for other in (sentinel, hsi):
        fair = np.isfinite(other) & np.isfinite(oli) & (hidden == 0)
        assert fair.sum() > 1000
        difference = (other - oli)[fair]
        assert abs(np.median(difference)) < 0.006
        assert np.quantile(np.abs(difference), 0.9) < 0.025
        assert np.corrcoef(other[fair], oli[fair])[0, 1] > 0.88


def test_speckle_has_mean_one_and_4_4_looks() -> None:
    speckle = sentinel1.speckle(np.random.default_rng(0), (600, 600))
    assert speckle.mean() == pytest.approx(1, abs=0.01)
    assert speckle.mean() ** 2 / speckle.var() == pytest.approx(4.4, abs=0.25)


def test_radar_sees_water_dark_and_towns_bright(archive: SandboxInfo) -> None:
    item = items_of(archive, "sentinel-1-rtc")[0]
    with rasterio.open(
        archive.folder / "labels" / f"sandbox-land-cover-{item['properties']['proj:epsg']}.tif"
    ) as f:
        classes = f.read(1)
    vv, vh = read(archive, item, "vv")[0], read(archive, item, "vh")[0]
    level = {kind: 10 * np.log10(vv[classes == kind].mean()) for kind in (WATER, CONIFER, URBAN)}
    assert level[WATER] < level[CONIFER] - 4
    assert level[URBAN] > level[CONIFER]
    assert vh[vv > 0].min() > 0
    assert vh.mean() < vv.mean()


def test_low_water_holds_no_plants_and_forests_do(archive: SandboxInfo) -> None:
    item = item_of(archive, "sentinel-2-l2a", archive.superseded["sentinel-2-l2a"][1])
    epsg = item["properties"]["proj:epsg"]
    with rasterio.open(archive.folder / "labels" / f"sandbox-land-cover-{epsg}.tif") as file:
        classes = file.read(1)
    red, nir = (read(archive, item, key)[0].astype(float) - 1000 for key in ("B04", "B08"))
    clear = np.kron(np.isin(read(archive, item, "SCL")[0], (2, 4, 5, 6)), np.ones((2, 2), bool))
    index = (nir - red) / np.maximum(nir + red, 1)
    assert np.median(index[clear & (classes == WATER)]) < 0
    assert np.median(index[clear & (classes == BROADLEAF)]) > 0.6


def test_a_footprint_ends_where_its_outline_ends() -> None:
    square = zone_squares(960)[0]
    for edges in ((), (Edge(98, 0.3),), tuple(Edge(11.5 + turn, 0.465) for turn in (0, 90, 180, 270))):
        footprint = Footprint(edges)
        share = footprint.polygon(square, square).area / 960**2
        assert footprint.covers(square, square).mean() == pytest.approx(share, abs=0.01)


def test_every_product_of_the_plan_is_one_that_the_catalog_knows() -> None:
    from catalog.products.registry import load_products

    assert set(PRODUCTS) <= set(load_products())
