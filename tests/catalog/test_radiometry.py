"""Raw numbers become the right physical ones, alike in numpy and torch, and nothing invalid gets through."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from catalog.errors import SceneError
from catalog.products import Product, Radiometry, load_product
from catalog.radiometry import Conversion, calibrate, conversion, to_physical
from tests.catalog.made_up import scene_of

CONVERSIONS: tuple[Conversion, ...] = ("linear", "power-db", "amplitude-db", "db-linear", "planck")
RAW = st.one_of(
    hnp.arrays(np.uint16, (2, 3, 3), elements=st.sampled_from([0, 1, 999, 1000, 7272, 65535])),
    hnp.arrays(np.int16, (2, 3, 3), elements=st.sampled_from([-32768, -1, 0, 1, 10000])),
    hnp.arrays(np.int32, (2, 3, 3), elements=st.sampled_from([-250000, 0, 1, 123456])),
    hnp.arrays(
        np.float32,
        (2, 3, 3),
        elements=st.sampled_from(
            [float(np.float32(v)) for v in (-32768, -0.5, 0, 1e-4, 0.3, np.nan, np.inf)]
        ),
    ),
)
NODATA = st.sampled_from([None, 0.0, -32768.0, math.nan])
SCALES = st.sampled_from([1e-4, 2.75e-5, 1.0, 3.342e-4])
OFFSETS = st.sampled_from([0.0, -0.1, -0.2, 0.1])


@settings(max_examples=150, deadline=None)
@given(RAW, st.sampled_from(CONVERSIONS), SCALES, OFFSETS, NODATA)
def test_numpy_and_torch_agree(raw, kind, scale, offset, nodata) -> None:
    scales = np.asarray([scale, scale * 2]).reshape(2, 1, 1)
    arguments = {"conversion": kind, "scale": scales, "offset": offset, "nodata": nodata}
    if kind == "planck":
        arguments |= {"k1": 774.8853, "k2": np.asarray([1321.0789, 1201.1]).reshape(2, 1, 1)}
    with np.errstate(invalid="raise", divide="raise"):
        values, valid = to_physical(raw, **arguments)
    torch_values, torch_valid = to_physical(torch.from_numpy(raw.copy()), **arguments, xp=torch)
    assert values.dtype == np.float32 and valid.dtype == np.bool_
    assert torch_values.dtype == torch.float32
    np.testing.assert_array_equal(valid, torch_valid.numpy())
    np.testing.assert_allclose(values, torch_values.numpy(), rtol=1e-5, atol=1e-6)


@settings(max_examples=150, deadline=None)
@given(RAW, st.sampled_from(CONVERSIONS), SCALES, OFFSETS, NODATA)
def test_what_is_invalid_is_zero_and_said_so(raw, kind, scale, offset, nodata) -> None:
    k1, k2 = (774.9, 1321.1) if kind == "planck" else (None, None)
    values, valid = to_physical(raw, conversion=kind, scale=scale, offset=offset, nodata=nodata, k1=k1, k2=k2)
    assert np.isfinite(values).all()
    assert (values[~valid] == 0).all()
    gone = ~np.isfinite(raw.astype(np.float64))
    if nodata is not None and not math.isnan(nodata):
        gone |= raw == nodata
    if kind in ("power-db", "amplitude-db"):
        gone |= raw <= 0
    assert not valid[gone].any()
    if kind == "linear":
        np.testing.assert_array_equal(valid, ~gone)


@given(RAW, SCALES, OFFSETS)
def test_values_under_nodata_change_nothing(raw, scale, offset) -> None:
    changed = raw.copy()
    changed[0, 0, 0] = 0
    before = to_physical(changed, conversion="linear", scale=scale, offset=offset, nodata=0.0)
    after = to_physical(changed, conversion="linear", scale=scale, offset=offset + 5, nodata=0.0)
    assert before[0][0, 0, 0] == after[0][0, 0, 0] == 0
    assert not before[1][0, 0, 0]


def test_a_coefficient_that_is_nan_makes_its_band_invalid() -> None:
    raw = np.ones((2, 2, 2), np.uint16)
    scale = np.asarray([1.0, np.nan]).reshape(2, 1, 1)
    _, valid = to_physical(raw, conversion="linear", scale=scale, offset=0.0, nodata=None)
    assert valid[0].all() and not valid[1].any()


def test_uint16_tensors_convert() -> None:
    raw = torch.tensor([0, 1000, 65535], dtype=torch.uint16)
    values, valid = to_physical(raw, conversion="linear", scale=1e-4, offset=-0.1, nodata=0.0, xp=torch)
    assert valid.tolist() == [False, True, True]
    assert values.tolist() == pytest.approx([0.0, 0.0, 6.4535], abs=1e-5)


@pytest.mark.parametrize(
    ("baseline", "offset"),
    [("02.14", 0.0), ("03.01", 0.0), ("04.00", -0.1), ("05.00", -0.1), ("05.11", -0.1), ("10.00", -0.1)],
)
@pytest.mark.parametrize("product_id", ["sentinel-2-l2a", "sentinel-2-l1c"])
def test_the_sentinel_2_offset_follows_the_baseline(product_id: str, baseline: str, offset: float) -> None:
    product = load_product(product_id)
    calibration = calibrate(product, scene_of(product, baseline=baseline))
    assert calibration.offset.tolist() == pytest.approx([offset] * len(product.bands))
    assert calibration.scale.tolist() == pytest.approx([1e-4] * len(product.bands))
    assert baseline in calibration.source


def test_the_offset_never_follows_the_date() -> None:
    from datetime import UTC, datetime

    product = load_product("sentinel-2-l2a")
    reprocessed = scene_of(product, baseline="05.00", sensed=datetime(2020, 3, 5, tzinfo=UTC))
    late = scene_of(product, baseline="03.01", sensed=datetime(2023, 3, 5, tzinfo=UTC))
    assert calibrate(product, reprocessed).offset[0] == pytest.approx(-0.1)
    assert calibrate(product, late).offset[0] == 0


def test_an_offset_that_the_archive_applied_is_not_applied_again() -> None:
    product = load_product("sentinel-2-l2a")
    for flag, offset in ((True, 0.0), (False, -0.1)):
        scene = scene_of(product, baseline="05.00", radiometry={"boa_offset_applied": flag})
        assert calibrate(product, scene).offset[0] == pytest.approx(offset)


@pytest.mark.parametrize("baseline", [None, "", "latest"])
def test_without_a_baseline_nothing_is_guessed(baseline: str | None) -> None:
    product = load_product("sentinel-2-l2a")
    with pytest.raises(SceneError, match="baseline") as refusal:
        calibrate(product, scene_of(product, baseline=baseline))
    assert refusal.value.code == "baseline-unknown"


def test_landsat_collection_2_surface_reflectance() -> None:
    product = load_product("landsat-oli-sr")
    calibration = calibrate(product, scene_of(product))
    values, valid = to_physical(
        np.asarray([0, 7273, 18182, 43636], np.uint16),
        conversion=conversion(product, "SR_B4"),
        scale=calibration.scale[0],
        offset=calibration.offset[0],
        nodata=product.nodata,
    )
    assert valid.tolist() == [False, True, True, True]
    assert values.tolist() == pytest.approx([0, 0.0, 0.3, 1.0], abs=1e-4)


def toa_scene(product: Product, **fields):
    bands = {
        band.name: {"reflectance_mult": 2e-5, "reflectance_add": -0.1}
        if band.quantity == "reflectance"
        else {"radiance_mult": 3.342e-4, "radiance_add": 0.1, "k1": 774.8853, "k2": 1321.0789}
        for band in product.bands
    }
    return scene_of(product, radiometry={"mtl": {"bands": bands}}, **({"sun_elevation_deg": 30.0} | fields))


def test_landsat_top_of_atmosphere_divides_by_the_sine_of_the_sun_and_turns_radiance_into_kelvin() -> None:
    product = load_product("landsat-oli-toa")
    calibration = calibrate(product, toa_scene(product))
    red, thermal = product.band_names.index("B4"), product.band_names.index("B10")
    assert conversion(product, "B4") == "linear" and conversion(product, "B10") == "planck"
    assert calibration.scale[red] == pytest.approx(4e-5)
    assert calibration.offset[red] == pytest.approx(-0.2)
    assert math.isnan(calibration.k1[red])
    values, valid = to_physical(
        np.asarray([0, 25000], np.uint16),
        conversion="planck",
        scale=calibration.scale[thermal],
        offset=calibration.offset[thermal],
        nodata=0.0,
        k1=calibration.k1[thermal],
        k2=calibration.k2[thermal],
    )
    radiance = 25000 * 3.342e-4 + 0.1
    assert valid.tolist() == [False, True]
    assert values[1] == pytest.approx(1321.0789 / math.log(774.8853 / radiance + 1), rel=1e-5)
    assert 280 < values[1] < 310


@pytest.mark.parametrize("elevation", [None, -3.0, 0.0])
def test_top_of_atmosphere_needs_a_sun_above_the_horizon(elevation: float | None) -> None:
    product = load_product("landsat-oli-toa")
    with pytest.raises(SceneError, match="sun above the horizon"):
        calibrate(product, toa_scene(product, sun_elevation_deg=elevation))


def test_top_of_atmosphere_without_an_mtl_names_what_is_missing() -> None:
    product = load_product("landsat-etm-toa")
    with pytest.raises(SceneError, match=r"B6_VCID_1 radiance_mult.*B8 reflectance_mult") as refusal:
        calibrate(product, scene_of(product, sun_elevation_deg=40.0))
    assert refusal.value.code == "calibration-missing"


def test_rtc_power_becomes_decibels_and_zero_power_nothing() -> None:
    product = load_product("sentinel-1-rtc")
    calibration = calibrate(product, scene_of(product))
    values, valid = to_physical(
        np.asarray([-32768, -0.001, 0, 0.01, 0.1, 1], np.float32),
        conversion=conversion(product, "VV"),
        scale=calibration.scale[0],
        offset=calibration.offset[0],
        nodata=product.nodata,
    )
    assert valid.tolist() == [False, False, False, True, True, True]
    assert values.tolist() == pytest.approx([0, 0, 0, -20, -10, 0], abs=1e-5)


def test_grd_amplitudes_are_not_converted_without_their_calibration() -> None:
    product = load_product("sentinel-1-grd").model_copy(
        update={"radiometry": Radiometry(rule="amplitude-to-db"), "dtype": "uint16", "nodata": 0.0}
    )
    with pytest.raises(SceneError, match="calibration table"):
        calibrate(product, scene_of(product))
    calibrated = scene_of(product, radiometry={"sigma_nought": {"VV": 500.0, "VH": 500.0}})
    calibration = calibrate(product, calibrated)
    values, _ = to_physical(
        np.asarray([50], np.uint16),
        conversion=conversion(product, "VV"),
        scale=calibration.scale[0],
        offset=calibration.offset[0],
        nodata=0.0,
    )
    assert values[0] == pytest.approx(-20.0)


def test_enmap_takes_the_gain_its_item_states() -> None:
    product = load_product("enmap-l2a")
    assert calibrate(product, scene_of(product)).scale.tolist() == [1e-4] * 224
    gains = dict.fromkeys(product.band_names, 2e-4)
    stated = scene_of(product, radiometry={"gains": gains, "offsets": dict.fromkeys(gains, 0.01)})
    calibration = calibrate(product, stated)
    assert calibration.scale.tolist() == [2e-4] * 224
    assert calibration.offset.tolist() == [0.01] * 224
