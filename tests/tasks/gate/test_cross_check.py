"""What one product cannot tell, another of the same place and time can."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from catalog.radiometric_cross_check import cross_check, matching_bands
from tasks.gate.cross_check import settle
from tests.catalog.made_up import scene_of
from tests.tasks.scene_files import built_in

L1C, L2A, OLI = (built_in(name) for name in ("sentinel-2-l1c", "sentinel-2-l2a", "landsat-oli-sr"))


def row(product: Any, name: str, shift: float = 0.0, factor: float = 1.0, **more: Any) -> dict[str, Any]:
    medians = {
        f"p50_{band.name}": factor * (0.05 if (band.center_nm or 0) < 700 else 0.25) + shift
        for band in product.bands
    }
    return (
        {"scene": name, "radiometry": "undecidable", "radiometry_reason": "", "cloud_fraction": 0.1}
        | medians
        | more
    )


def test_bands_are_matched_by_their_light() -> None:
    assert {(a.name, b.name) for a, b in matching_bands(L2A, OLI)} >= {
        ("B04", "SR_B4"),
        ("B8A", "SR_B5"),
        ("B12", "SR_B7"),
    }
    assert not [a.name for a, _ in matching_bands(L1C, L2A) if a.name in ("B01", "B02", "B03", "B10")]


@pytest.mark.parametrize(
    ("shift", "factor", "verdict"),
    [
        (0.0, 1.0, "agrees"),
        (-0.02, 1.0, "agrees"),
        (0.1, 1.0, "contradicts"),
        (-0.1, 1.0, "contradicts"),
        (0.0, 0.5, "contradicts"),
    ],
)
def test_medians_that_differ_by_an_offset_or_a_factor_contradict(
    shift: float, factor: float, verdict: str
) -> None:
    assert cross_check(L1C, row(L1C, "a", shift, factor), L2A, row(L2A, "b")).verdict == verdict


def test_under_cloud_two_products_do_not_see_the_same() -> None:
    assert (
        cross_check(L1C, row(L1C, "a", 0.1), L2A, row(L2A, "b", cloud_fraction=0.6)).verdict == "undecidable"
    )


def test_only_what_is_undecidable_is_settled_and_only_by_a_sure_scene_of_the_place_and_day() -> None:
    own, twin = scene_of(L1C, id="own"), scene_of(L2A, id="twin")
    sure = row(L2A, "twin", radiometry="agrees")

    def verdict(own_row: dict[str, Any], witness: Any = twin, witness_row: dict[str, Any] = sure) -> str:
        (settled,) = settle(L1C, [own], [own_row], L2A, [witness], [witness_row])
        return str(settled["radiometry"])

    assert verdict(row(L1C, "own")) == "agrees"
    assert verdict(row(L1C, "own", 0.1)) == "contradicts"
    assert verdict(row(L1C, "own", 0.1, radiometry="agrees")) == "agrees"
    assert verdict(row(L1C, "own"), witness_row=sure | {"radiometry": "undecidable"}) == "undecidable"
    assert verdict(row(L1C, "own"), replace(twin, sensed=twin.sensed + timedelta(days=3))) == "undecidable"
    far = {"type": "Polygon", "coordinates": [[[50, 0], [51, 0], [51, 1], [50, 1], [50, 0]]]}
    assert verdict(row(L1C, "own"), replace(twin, geometry=far)) == "undecidable"


@pytest.mark.realdata
@pytest.mark.parametrize("date", ["20170703", "20190723"])
def test_real_pairs_of_both_levels_agree_unless_an_offset_is_wrong(date: str, realdata: Path) -> None:
    from tests.benchmarks.gate import row_of
    from tests.real_scenes import sen2r_scenes

    by_level = {scene.product: scene for scene in sen2r_scenes(realdata) if scene.name.endswith(date)}
    rows = {name: row_of(scene) for name, scene in by_level.items()}
    if len(rows) < 2:
        pytest.skip("the pair is not among the real scenes")
    assert cross_check(L1C, rows[L1C.id], L2A, rows[L2A.id]).verdict == "agrees"
    for shift in (0.1, -0.1):
        wrong = {
            key: value + shift if key.startswith("p50") else value for key, value in rows[L1C.id].items()
        }
        assert cross_check(L1C, wrong, L2A, rows[L2A.id]).verdict == "contradicts"
