"""Whether pixels bear out the scale and offset that metadata call for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from catalog.products import Product
from catalog.radiometric_truth import Judgement, gather_evidence, judge_radiometry
from catalog.radiometry import calibrate
from tests.catalog.made_up import scene_of
from tests.real_scenes import all_scenes
from tests.tasks.scene_files import built_in
from tests.truth_cases import CALIBRATION, HELD_OUT, Case, cases_of

SIDE = 96


def land(product: Product, *, seed: int = 0, floor: float = 0.01) -> dict[str, NDArray[Any]]:
    """Reflectance of water, woods and fields, band by band; the cirrus band sees none of it."""
    rng = np.random.default_rng(seed)
    cover = rng.choice(3, size=(SIDE, SIDE), p=(0.1, 0.5, 0.4))
    bands = {}
    for band in product.bands:
        centre = band.center_nm or 0
        spectra = (
            (0.01, 0.03, 0.06)
            if centre < 700
            else (0.005, 0.35, 0.25)
            if centre < 1000
            else (0.003, 0.12, 0.3)
        )
        ground = np.asarray(spectra)[cover] * rng.uniform(0.8, 1.2, (SIDE, SIDE)) + floor
        bands[band.name] = np.full((SIDE, SIDE), 0.001) if band.common_name == "cirrus" else ground
    return bands


def numbers(reflectance: Mapping[str, NDArray[Any]], added: int = 0) -> dict[str, NDArray[Any]]:
    return {name: np.rint(values * 1e4 + added).astype(np.uint16) for name, values in reflectance.items()}


def verdict(product: Product, bands: Mapping[str, NDArray[Any]], baseline: str, **more: Any) -> Judgement:
    calibration = calibrate(product, scene_of(product, baseline=baseline))
    return judge_radiometry(product, calibration, gather_evidence(product, calibration, bands, **more))


@pytest.mark.parametrize("name", ["sentinel-2-l1c", "sentinel-2-l2a"])
def test_metadata_that_are_right_agree_and_those_that_are_wrong_are_contradicted(name: str) -> None:
    product = built_in(name)
    plain, shifted = numbers(land(product)), numbers(land(product), added=1000)
    assert verdict(product, plain, "02.14").verdict == "agrees"
    assert verdict(product, shifted, "05.00").verdict == "agrees"
    missed, twice = verdict(product, shifted, "02.14"), verdict(product, plain, "05.00")
    assert missed.verdict == "contradicts" and "0.1 had been added" in missed.reason
    assert twice.verdict == "contradicts" and "applied twice" in twice.reason


def test_where_nothing_dark_is_in_sight_the_pixels_cannot_tell() -> None:
    product = built_in("sentinel-2-l2a")
    bright = numbers(land(product, floor=0.25))
    for baseline in ("02.14", "05.00"):
        judgement = verdict(product, bright, baseline)
        assert judgement.verdict == "undecidable" and "nothing dark in sight" in judgement.reason


def test_the_cirrus_band_decides_even_of_a_bright_scene_of_few_pixels() -> None:
    product = built_in("sentinel-2-l1c")
    cut = {name: values[:20, :20] for name, values in numbers(land(product, floor=0.4), added=1000).items()}
    assert verdict(product, cut, "05.00").verdict == "agrees"
    assert verdict(product, cut, "02.14").verdict == "contradicts"


def test_too_few_clear_pixels_are_no_evidence() -> None:
    product = built_in("sentinel-2-l2a")
    cloud = np.ones((SIDE, SIDE), bool)
    cloud[:20] = False
    judgement = verdict(product, numbers(land(product)), "02.14", cloud=cloud)
    assert judgement.verdict == "undecidable" and "1920 clear pixels" in judgement.reason


def test_a_few_pixels_darker_than_black_contradict_nothing() -> None:
    # 2.7 % of a right scene's valid pixels were seen below the offset in B01.
    product = built_in("sentinel-2-l2a")
    bands = numbers(land(product), added=1000)
    bands["B01"].ravel()[: round(0.027 * SIDE * SIDE)] = 960
    assert verdict(product, bands, "05.00").verdict == "agrees"


def test_nodata_that_was_shifted_along_is_noticed_whatever_else_is_right() -> None:
    product = built_in("sentinel-2-l2a")
    bands = numbers(land(product), added=1000)
    for values in bands.values():
        values[:, :5] = 1000
    judgement = verdict(product, bands, "05.00")
    assert judgement.verdict == "contradicts" and "hold 1000 in all bands" in judgement.reason
    for values in bands.values():
        values[:, :5] = 0
    assert verdict(product, bands, "05.00").verdict == "agrees"


def test_shade_and_cloud_at_the_ends_of_what_a_file_can_hold_are_no_nodata() -> None:
    product = built_in("sentinel-2-l2a")
    bands = numbers(land(product))
    for values in bands.values():
        values[0, :50] = 1
        values[1, :50] = 65535
    assert verdict(product, bands, "02.14").verdict == "agrees"


@pytest.mark.parametrize("clipped", [True, False])
def test_an_offset_that_the_archive_took_off_without_need_leaves_traces(clipped: bool) -> None:
    product = built_in("sentinel-2-l2a")
    taken = {name: values.astype(int) - 1000 for name, values in numbers(land(product)).items()}
    if clipped:
        bands = {name: np.maximum(values, 1).astype(np.uint16) for name, values in taken.items()}
    else:
        bands = {name: values.astype(np.uint16) for name, values in taken.items()}  # wraps below zero
    judgement = verdict(product, bands, "02.14")
    assert judgement.verdict == "contradicts" and "taken off that was not there" in judgement.reason


def test_a_scene_without_a_clear_pixel_is_undecidable() -> None:
    product = built_in("sentinel-2-l2a")
    nothing = {name: np.zeros((SIDE, SIDE), np.uint16) for name in product.band_names}
    assert verdict(product, nothing, "05.00").verdict == "undecidable"
    covered = np.ones((SIDE, SIDE), bool)
    assert verdict(product, numbers(land(product)), "02.14", cloud=covered).verdict == "undecidable"


def test_landsat_numbers_of_collection_1_are_not_taken_for_collection_2() -> None:
    product = built_in("landsat-oli-sr")
    bands = land(product)
    second = {name: np.rint((values + 0.2) / 2.75e-5).astype(np.uint16) for name, values in bands.items()}
    assert verdict(product, second, "").verdict == "agrees"
    assert verdict(product, numbers(bands), "").verdict == "contradicts"


def test_what_a_missed_sun_elevation_does_is_said_not_to_be_visible() -> None:
    product = built_in("landsat-tm-toa")
    coefficients = {
        "reflectance_mult": 0.002,
        "reflectance_add": -0.004,
        "radiance_mult": 0.055,
        "radiance_add": 1.18,
    }
    mtl = {
        "bands": {name: coefficients | {"k1": 607.76, "k2": 1260.56} for name in product.band_names},
        "sun_elevation_deg": 40.0,
    }
    calibration = calibrate(product, scene_of(product, radiometry={"mtl": mtl}))
    bands = {name: np.rint(values / 0.003 + 2).astype(np.uint8) for name, values in land(product).items()}
    judgement = judge_radiometry(product, calibration, gather_evidence(product, calibration, bands))
    assert judgement.verdict == "undecidable" and "sun elevation" in judgement.reason


def radar(looks: float, level: float, gap: float, *, seed: int = 0) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    speckle = rng.gamma(looks, 1 / looks, (2, SIDE, SIDE))
    power = 10 ** (np.array([level, level - gap]) / 10)[:, None, None] * speckle
    return dict(zip(("VV", "VH"), power.astype(np.float32), strict=True))


def test_radar_power_is_told_from_decibels_and_amplitude() -> None:
    product = built_in("sentinel-1-rtc")
    power = radar(4.4, -9.0, 6.5)
    assert verdict(product, power, "", looks=4.4).verdict == "agrees"
    decibels = {name: 10 * np.log10(values) for name, values in power.items()}
    assert verdict(product, decibels, "").verdict == "contradicts"
    amplitude = {name: np.sqrt(values) for name, values in power.items()}
    assert verdict(product, amplitude, "", looks=16.0).verdict == "contradicts"
    assert verdict(product, amplitude, "").verdict != "agrees"
    uncalibrated = {name: 400 * values for name, values in amplitude.items()}
    assert verdict(product, uncalibrated, "", looks=16.0).verdict == "contradicts"


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), floor=st.floats(0, 0.02), wedge=st.floats(0, 0.5))
def test_a_scene_of_land_is_never_judged_wrongly(seed: int, floor: float, wedge: float) -> None:
    product = built_in("sentinel-2-l2a")
    for added, right, wrong in ((0, "02.14", "05.00"), (1000, "05.00", "02.14")):
        bands = numbers(land(product, seed=seed, floor=floor), added)
        for values in bands.values():
            values[:, : round(wedge * SIDE)] = 0
        assert verdict(product, bands, right).verdict == "agrees"
        assert verdict(product, bands, wrong).verdict == "contradicts"


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.integers(0, 65535), min_size=1, max_size=40),
    baseline=st.sampled_from(["02.14", "05.00"]),
)
def test_any_numbers_get_a_verdict_with_a_reason(values: list[int], baseline: str) -> None:
    product = built_in("sentinel-2-l1c")
    bands = {name: np.array([values], np.uint16) for name in product.band_names}
    judgement = verdict(product, bands, baseline)
    assert judgement.verdict in ("agrees", "contradicts", "undecidable") and judgement.reason


def test_evidence_is_in_physical_units() -> None:
    product = built_in("sentinel-2-l2a")
    calibration = calibrate(product, scene_of(product, baseline="05.00"))
    evidence = gather_evidence(product, calibration, numbers(land(product), added=1000))
    assert evidence.bands["B04"].low == pytest.approx(0.018, abs=0.004)
    assert evidence.bands["B08"].middle == pytest.approx(0.3, abs=0.08)
    assert evidence.clear_pixels == SIDE * SIDE and evidence.valid_share == 1
    assert evidence.fill_value is None and math.isnan(evidence.looks)
    assert replace(evidence, clear_pixels=0) != evidence


def test_no_place_is_on_both_sides() -> None:
    assert not CALIBRATION & HELD_OUT


@pytest.fixture(scope="module")
def cases(realdata: Path) -> list[Case]:
    few: Counter[str] = Counter()
    found: list[Case] = []
    for scene in all_scenes(realdata):
        few[scene.place + scene.source] += 1
        if (
            few[scene.place + scene.source] <= 25 and scene.place in HELD_OUT
        ):  # series of 160 dates say the same
            found += cases_of(scene)
    return found


@pytest.mark.realdata
@pytest.mark.long
def test_no_verdict_is_wrong_on_scenes_that_set_no_threshold(cases: list[Case]) -> None:
    assert len(cases) > 300
    assert [case for case in cases if case.wrong] == []


@pytest.mark.realdata
@pytest.mark.long
def test_few_large_scenes_are_undecidable(cases: list[Case]) -> None:
    large = [case for case in cases if case.large_enough]
    for families in (("sentinel-2-l1c",), ("sentinel-2-l2a",), ("sentinel-1-rtc",), ("landsat-oli-sr",)):
        of_these = [case for case in large if case.family in families]
        undecided = [case for case in of_these if case.judgement.verdict == "undecidable"]
        assert of_these and len(undecided) <= 0.1 * len(of_these), families
