"""The product files hold what the sensors have, and a user's own file just works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catalog.errors import UsageError
from catalog.products import load_product, load_products
from catalog.quality import FLAGS, quality_flags
from catalog.radiometry import calibrate, conversion, to_physical
from tests.catalog.made_up import scene_of

BUILT_IN = (
    "enmap-l2a", "landsat-etm-sr", "landsat-etm-toa", "landsat-oli-sr", "landsat-oli-toa", "landsat-tm-sr",
    "landsat-tm-toa", "sentinel-1-grd", "sentinel-1-rtc", "sentinel-2-l1c", "sentinel-2-l2a",
)  # fmt: skip


def test_eleven_products_are_built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path))
    assert tuple(sorted(load_products())) == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_product_says_whose_it_is_and_which_flags_its_quality_layer_gives(name: str) -> None:
    product = load_product(name)
    assert product.licence != "unknown" and product.attribution and product.platforms
    if product.qa is not None:
        assert set(product.qa.meanings) | set(product.qa.flags) <= set(FLAGS)
    keys = [band.asset or band.name for band in product.bands]
    assert product.multiband_asset or len(set(keys)) == len(keys)
    for band in product.bands:
        assert (band.center_nm is None) == band.quantity.endswith("_db")


@pytest.mark.parametrize(
    ("name", "bands"),
    [
        ("sentinel-2-l2a", "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12"),
        ("sentinel-2-l1c", "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12"),
        ("landsat-tm-toa", "B1 B2 B3 B4 B5 B6 B7"),
        ("landsat-etm-toa", "B1 B2 B3 B4 B5 B6_VCID_1 B6_VCID_2 B7 B8"),
        ("landsat-oli-toa", "B1 B2 B3 B4 B5 B6 B7 B8 B9 B10 B11"),
        ("landsat-etm-sr", "SR_B1 SR_B2 SR_B3 SR_B4 SR_B5 SR_B7"),
        ("landsat-oli-sr", "SR_B1 SR_B2 SR_B3 SR_B4 SR_B5 SR_B6 SR_B7"),
    ],
)
def test_bands_stand_in_published_order(name: str, bands: str) -> None:
    assert load_product(name).band_names == tuple(bands.split())


def test_widths_are_those_of_the_responses_not_of_the_catalogues() -> None:
    sentinel = load_product("sentinel-2-l2a")
    assert sentinel.band("B02").fwhm_nm == 64 and sentinel.band("B08").fwhm_nm == 105
    assert sentinel.band("B12").center_nm == 2202.4
    assert {band.gsd_m for band in sentinel.bands} == {10, 20, 60}


def test_enmap_bands_ascend_in_wavelength_with_detectors_interleaved() -> None:
    product = load_product("enmap-l2a")
    centres = [band.center_nm for band in product.bands]
    assert len(centres) == 224 and centres == sorted(centres)
    assert product.band_names[0] == "001" and product.band_names[-1] == "224"
    assert (centres[79], centres[80], centres[135], centres[223]) == (901.962, 903.87, 1449.43, 2445.3)


def test_sentinel_2_scene_classes_become_flags() -> None:
    layer = load_product("sentinel-2-l2a").qa
    assert layer is not None
    flags = quality_flags(layer, np.arange(12, dtype=np.uint8))
    names = [{name for name, bit in FLAGS.items() if flag & bit} for flag in flags]
    assert names == [
        {"nodata"}, {"saturated"}, set(), {"shadow"}, set(), set(),
        {"water"}, set(), {"cloud"}, {"cloud"}, {"cirrus"}, {"snow"},
    ]  # fmt: skip


def test_landsat_bits_become_flags_and_only_oli_knows_cirrus() -> None:
    bits = np.asarray([1 << bit for bit in range(8)], np.uint16)
    for name, cirrus in (("landsat-oli-sr", FLAGS["cirrus"]), ("landsat-etm-sr", 0)):
        layer = load_product(name).qa
        assert layer is not None
        expected = [
            FLAGS["nodata"], FLAGS["cloud"], cirrus, FLAGS["cloud"], FLAGS["shadow"], FLAGS["snow"],
            0, FLAGS["water"],
        ]  # fmt: skip
        assert quality_flags(layer, bits).tolist() == expected


def test_enmap_layers_become_flags_with_cirrus_of_any_thickness() -> None:
    layer = load_product("enmap-l2a").qa
    assert layer is not None
    classes = np.asarray([1, 2, 3, 1], np.uint8)
    zeros = np.zeros(4, np.uint8)
    raw = {meaning: classes if key == "quality_classes" else zeros for meaning, key in layer.flags.items()}
    raw["cirrus"] = np.asarray([0, 0, 0, 3], np.uint8)
    assert quality_flags(layer, raw).tolist() == [0, FLAGS["water"], FLAGS["nodata"], FLAGS["cirrus"]]


OSCD = """
id: oscd-l1c
title: L1C in degrees
sensor: Sentinel-2 MSI
level: L1C
dtype: uint16
nodata: 0
radiometry: {rule: sentinel-2-offset, scale: 1.0e-4}
grid: {crs: geographic, kernel: bilinear}
bands:
  - {name: B02, gsd_m: 10, quantity: reflectance, center_nm: 492.4, fwhm_nm: 64}
  - {name: B01, gsd_m: 60, quantity: reflectance, center_nm: 442.7, fwhm_nm: 20}
"""
WORLDCEREAL = """
id: s1-db
title: decibels times 10000
sensor: Sentinel-1 C-SAR
level: GRD
dtype: int32
nodata: -2147483648
radiometry: {rule: db-linear, scale: 1.0e-4}
grid: {crs: utm, snap_m: 20}
bands: [{name: VV, gsd_m: 20, quantity: sigma0_db}]
"""
COLLECTION_1 = """
id: landsat-c1
title: Collection 1 surface reflectance and temperature
sensor: Landsat OLI
level: C1 SR
dtype: int16
nodata: -9999
radiometry: {rule: linear, scale: 1.0e-4}
grid: {crs: utm, snap_m: 30, origin_m: [15, 15]}
qa:
  kind: bits
  asset: pixel_qa
  gsd_m: 30
  meanings: {nodata: [0], water: [2], shadow: [3], snow: [4], cloud: [5]}
bands:
  - {name: B4, gsd_m: 30, quantity: reflectance, center_nm: 655, fwhm_nm: 38}
  - {name: B10, gsd_m: 30, quantity: kelvin, scale: 0.1, offset: 0}
"""


@pytest.fixture
def own_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path))
    (tmp_path / "products").mkdir()
    for name, text in (("oscd", OSCD), ("worldcereal", WORLDCEREAL), ("c1", COLLECTION_1)):
        (tmp_path / "products" / f"{name}.yaml").write_text(text, encoding="utf-8")


def physical(product_id: str, band: int, raw, **fields) -> list[float]:
    product = load_product(product_id)
    calibration = calibrate(product, scene_of(product, **fields))
    values, valid = to_physical(
        np.asarray(raw, product.dtype),
        conversion=conversion(product, product.bands[band]),
        scale=calibration.scale[band],
        offset=calibration.offset[band],
        nodata=product.nodata,
    )
    return [round(float(v), 5) if ok else None for v, ok in zip(values, valid, strict=True)]


def test_a_users_level_1c_product_in_degrees_converts(own_products: None) -> None:
    assert physical("oscd-l1c", 0, [0, 2500], baseline="02.04") == [None, 0.25]


def test_a_users_radar_product_stored_as_scaled_decibels_converts(own_products: None) -> None:
    assert physical("s1-db", 0, [-2147483648, -82000, 0]) == [None, -8.2, 0.0]


def test_a_users_collection_1_product_keeps_its_own_scale_and_bits(own_products: None) -> None:
    assert physical("landsat-c1", 0, [-9999, -50, 3000]) == [None, -0.005, 0.3]
    assert physical("landsat-c1", 1, [2950]) == [295.0]
    layer = load_product("landsat-c1").qa
    assert layer is not None
    assert quality_flags(layer, np.asarray([1, 2, 4, 8, 32], np.uint16)).tolist() == [
        FLAGS["nodata"], 0, FLAGS["water"], FLAGS["shadow"], FLAGS["cloud"],
    ]  # fmt: skip


def test_a_surface_temperature_band_beside_reflectance_has_its_own_coefficients(tmp_path: Path) -> None:
    folder = tmp_path / "products"
    folder.mkdir()
    text = COLLECTION_1.replace("landsat-c1", "landsat-st").replace(
        "scale: 0.1, offset: 0}", "scale: 0.00341802, offset: 149.0}"
    )
    (folder / "st.yaml").write_text(text, encoding="utf-8")
    product = load_product("landsat-st", folder)
    calibration = calibrate(product, scene_of(product))
    assert calibration.scale.tolist() == [1e-4, 0.00341802] and calibration.offset.tolist() == [0.0, 149.0]


def test_a_wrong_product_file_is_named(own_products: None, tmp_path: Path) -> None:
    (tmp_path / "products" / "bad.yaml").write_text("id: bad\ntitle: x\nsensor: x\n", encoding="utf-8")
    with pytest.raises(UsageError, match="level") as error:
        load_products()
    assert error.value.subject == "bad.yaml"
