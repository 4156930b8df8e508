"""Ground-range scenes from an archive into a cube: right values in right places, or a reason and nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from catalog.cubes import Cube
from catalog.errors import SceneError
from catalog.products import load_product
from catalog.radiometry import calibrate, conversion, to_physical
from catalog.recipes import ProductRequest
from deployments.sandbox.landscape import MARGIN
from tasks.cube.scenes import CubeResult
from tasks.gate.statistics import measure_scenes
from tasks.readers import ReadFailure
from tasks.readers.plan import plan_windows
from tests.tasks.readers.grd.grd_archive import (
    GRD,
    QUICK,
    RTC,
    Radar,
    changed,
    grounds,
    mosaic,
    observations,
    truth_of,
)


def decibel(power: Any) -> Any:
    """Of means over 5 by 5 pixels, which leaves a third of the speckle."""
    return 10 * np.log10(np.maximum(uniform_filter(power, 5), 1e-4))


def test_the_cube_holds_the_sigma_nought_of_the_ground(exact: tuple[Cube, CubeResult]) -> None:
    cube, done = exact
    assert not done.failures and done.resampled == done.samples_written > 0
    assert cube.verify() == []
    columns = cube.columns(GRD)
    assert columns["resampled"].all() and (columns["position_error_m"] < 1).all()
    seen, squares = observations(), grounds()
    for scene in sorted(done.cubed):
        one = seen[scene]
        ground = squares[one.zone]
        truth = truth_of(ground, one)
        for band, key in enumerate(("vv", "vh")):
            found = mosaic(cube, GRD, scene, ground, band)
            held = np.isfinite(found)
            assert held.mean() > 0.5
            bias = 10 * np.log10(found[held].mean() / truth[key][held].mean())
            assert abs(bias) < 0.3, f"{scene} {key}: {bias:.2f} dB"
            filled = np.where(held, found, truth[key])
            inner = (slice(20, -20),) * 2
            likeness = np.corrcoef(decibel(filled)[inner].ravel(), decibel(truth[key])[inner].ravel())[0, 1]
            assert likeness > 0.9, f"{scene} {key}: {likeness:.3f}"


def test_it_looks_like_the_terrain_corrected_product_of_the_same_pass(
    radar: Radar, exact: tuple[Cube, CubeResult]
) -> None:
    ours, _ = exact
    theirs, _ = radar.cubed("theirs", radar.few(RTC), product=RTC)
    assert theirs.columns(RTC)["position_error_m"].isna().all(), "its own grid places it"
    squares, seen = grounds(), observations()
    compared = 0
    for scene in sorted(set(ours.columns(GRD)["scene"])):
        ground = squares[seen[scene].zone]
        one, other = mosaic(ours, GRD, scene, ground), mosaic(theirs, RTC, f"{scene}_rtc", ground)
        inner = slice(MARGIN, -MARGIN)
        slope = np.hypot(ground.slope_x[inner, inner], ground.slope_y[inner, inner])
        # Slopes are flattened in one and not in the other.
        both = np.isfinite(one) & np.isfinite(other) & (other > 0) & (slope < 0.05)
        one, other = (decibel(np.where(np.isfinite(part), part, 0.05))[both] for part in (one, other))
        assert both.sum() > 1000 and np.corrcoef(one, other)[0, 1] > 0.7
        # On flat ground sigma naught is gamma naught times the cosine of the incidence, -1 dB.
        assert -1.6 < np.median(one - other) < -0.4
        compared += 1
    assert compared == 2


def test_the_invented_transform_is_never_used(
    radar: Radar, exact: tuple[Cube, CubeResult], tmp_path: Path
) -> None:
    def invent(item: dict[str, Any]) -> None:
        item["properties"] |= {
            "proj:epsg": 32631,
            "proj:transform": [10, 0, 500_000, 0, -10, 4_000_000],
            "proj:shape": [7, 7],
            "s1:shape": [1, 1],
        }

    with changed(radar, tmp_path / "copy", invent) as copy:
        other, done = copy.cubed("other", copy.few(), max_count=8, dem=str(radar.dem))
    assert not done.failures
    first, second = (dict(cube.columns(GRD)[["sample", "sha256"]].to_numpy()) for cube in (exact[0], other))
    assert second and second.items() <= first.items()


def test_without_an_elevation_model_samples_say_how_far_they_may_be_off(radar: Radar) -> None:
    scenes = radar.few()[:1]
    cube, done = radar.cubed("rough", scenes, max_count=12)
    errors = cube.columns(GRD)["position_error_m"]
    assert done.samples_written and (errors > 10).all() and (errors < 500).all()
    limit = float(errors.median())
    strict, again = radar.cubed("strict", scenes, max_count=12, max_position_error_m=limit)
    assert (strict.columns(GRD)["position_error_m"] <= limit).all()
    assert again.dropped["position"] == int((errors > limit).sum())
    _, none = radar.cubed("none", scenes, max_count=12, max_position_error_m=1.0)
    assert none.samples_written == 0
    assert any("placed too roughly" in why for why in none.passed_over.values())


def test_a_sample_becomes_decibels_like_the_terrain_corrected_product(exact: tuple[Cube, CubeResult]) -> None:
    cube, _ = exact
    product, scene = load_product(GRD), next(iter(cube.scenes(GRD).values()))
    calibration = calibrate(product, scene)
    raw = cube.read(GRD, 10.0, [0])[0]
    values, valid = to_physical(
        raw[0], conversion=conversion(product, "VV"), scale=calibration.scale[0],
        offset=calibration.offset[0], nodata=product.nodata,
    )  # fmt: skip
    assert valid.mean() > 0.5 and -25 < np.median(values[valid]) < 0


# ---- scenes that cannot be used


def without_calibration(item: dict[str, Any]) -> None:
    del item["assets"]["schema-calibration-vh"]


def test_a_scene_without_its_calibration_is_refused_whole(radar: Radar, tmp_path: Path) -> None:
    with changed(radar, tmp_path / "copy", without_calibration) as copy:
        cube, done = copy.cubed("refused", copy.few(), dem=str(radar.dem))
        statistics = measure_scenes(copy.few(), load_product(GRD), copy.archive)
    assert done.samples_written == 0 and len(done.failures) == 2
    for scene, error in done.failures.items():
        assert error.code == "calibration-missing" and "schema-calibration-vh" in error.message
        assert error.subject == scene
    assert GRD not in cube.products() or not len(cube.columns(GRD))
    assert statistics.rows == () and set(statistics.failures) == set(done.failures)


@pytest.mark.parametrize(
    ("name", "damage", "code"),
    [
        ("annotation/calibration/calibration-iw-vh.xml", None, "asset-not-found"),
        ("annotation/calibration/noise-iw-vv.xml", "<noise>", "unreadable-annotation"),
        (
            "annotation/calibration/calibration-iw-vv.xml",
            '<!DOCTYPE a [<!ENTITY b "c">]><calibration>&b;</calibration>',
            "unreadable-annotation",
        ),
        ("annotation/iw-vv.xml", "fewer lines", "annotation-contradicts"),
        ("vh.tif", None, "asset-not-found"),
    ],
    ids=["lost", "cut", "hostile", "of another product", "measurement lost"],
)
def test_nothing_of_a_damaged_scene_is_in_the_cube(
    radar: Radar, tmp_path: Path, name: str, damage: str | None, code: str
) -> None:
    with changed(radar, tmp_path / "copy") as copy:
        scenes = copy.few()
        victim = scenes[0]
        path = copy.asset(victim, name)
        if damage is None:
            path.unlink()
        elif damage == "fewer lines":
            text = path.read_text()
            path.write_text(re.sub(r"<numberOfLines>\d+<", "<numberOfLines>99<", text))
        else:
            path.write_text(damage)
        cube, done = copy.cubed("damaged", scenes, max_count=12, dem=str(radar.dem))
    assert {scene: error.code for scene, error in done.failures.items()} == {victim.id: code}
    error = done.failures[victim.id]
    assert error.subject == victim.id and error.next_step
    assert isinstance(error, ReadFailure) == (damage is None)
    assert victim.id not in set(cube.columns(GRD)["scene"]) and len(cube.columns(GRD))


def test_a_scene_that_fails_is_an_error_of_the_scene_for_a_caller_of_the_reader(
    radar: Radar, tmp_path: Path
) -> None:
    with changed(radar, tmp_path / "copy", without_calibration) as copy:
        scene, product = copy.scenes()[0], load_product(GRD)
        from catalog.locations import sample_locations

        recipe = copy.recipe()
        places = sample_locations(recipe.locations, recipe.area, [product], [scene])
        windows = plan_windows(product, scene, places)
        with pytest.raises(SceneError, match="mean nothing"):
            list(QUICK.read(scene, product, windows, copy.archive))


# ---- statistics


def test_the_gate_sees_sigma_nought(radar: Radar) -> None:
    found = measure_scenes(radar.few(), load_product(GRD), radar.archive)
    assert not found.failures
    squares, seen = grounds(), observations()
    for row in found.rows:
        one = seen[row["scene"]]
        truth = truth_of(squares[one.zone], one)
        for band, key in (("VV", "vv"), ("VH", "vh")):
            assert row[f"p50_{band}"] == pytest.approx(10 * np.log10(np.median(truth[key])), abs=1.5)
        assert row["implausible_bands"] is None and 0 < row["nodata_fraction"] < 0.3


def test_limits_on_positions_are_part_of_a_recipe() -> None:
    request = ProductRequest.model_validate({"dem": "heights.tif", "max_position_error_m": 20})
    assert request.dem == Path("heights.tif") and request.max_position_error_m == 20
    assert ProductRequest().dem is None and ProductRequest().max_position_error_m is None
