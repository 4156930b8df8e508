"""Bands are told by wavelength and width: the two real lists of EnMAP, and shifts of their calibration."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deployments.sandbox.sensors
from catalog.products import load_product
from catalog.radiometry import calibrate, to_physical
from catalog.scenes import Scene
from catalog.wavelengths import MOST_FOREIGN, file_order, foreign_bands, scene_wavelengths
from tests.tasks.scene_files import write_scene

ENMAP = load_product("enmap-l2a")
CENTRES = [band.center_nm or 0.0 for band in ENMAP.bands]
WIDTHS = [band.fwhm_nm or 0.0 for band in ENMAP.bands]
FOREIGN = ("136", "165", "166")


def older_list() -> tuple[list[float], list[float], list[str]]:
    """(centres, widths, detectors) of the 224 bands of processor 01.03, in file order."""
    path = Path(deployments.sandbox.sensors.__file__).with_name("enmap_bands_2022.csv")
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return (
        [float(row["center_nm"]) for row in rows],
        [float(row["fwhm_nm"]) for row in rows],
        [row["detector"] for row in rows],
    )


@pytest.fixture
def older(tmp_path: Path) -> Scene:
    """A scene of the older list, its wavelengths in the places of the product's bands."""
    centres, widths, _ = older_list()
    order = file_order(ENMAP, centres, widths)
    assert order is not None
    places = np.argsort(order)
    scene = write_scene(tmp_path, "http://127.0.0.1:1", load_product("landsat-oli-sr"), "older").scene
    facts = {
        "wavelengths_nm": [centres[number] for number in places],
        "fwhm_nm": [widths[number] for number in places],
        "gains": dict.fromkeys(ENMAP.band_names, 1e-4),
        "offsets": dict.fromkeys(ENMAP.band_names, 0.0),
    }
    return replace(scene, product="enmap-l2a", radiometry=facts)


def test_the_products_own_list_is_in_order() -> None:
    assert file_order(ENMAP, CENTRES, WIDTHS) == tuple(range(224))


def test_the_older_list_is_read_by_wavelength_not_by_index() -> None:
    centres, widths, _ = older_list()
    order = file_order(ENMAP, centres, widths)
    assert order is not None and sorted(order) == list(range(224))
    apart = np.array([abs(CENTRES[place] - centre) for place, centre in zip(order, centres, strict=True)])
    assert np.count_nonzero(apart > 1) == 3 and np.sort(apart)[-4] < 0.4
    # By index, the 31 bands from 136 on would be others, by 11 nm and more.
    by_index = np.abs(np.array(CENTRES) - centres)
    assert np.count_nonzero(by_index > 9) == 31


def test_pairs_closer_than_a_nanometre_keep_their_detectors() -> None:
    """On the other list they stand in the other order, or next to others: only the width tells."""
    centres, widths, detectors = older_list()
    order = file_order(ENMAP, centres, widths)
    assert order is not None
    with (Path(deployments.sandbox.sensors.__file__).with_name("enmap_bands.csv")).open() as lines:
        own = [row["detector"] for row in csv.DictReader(lines)]
    pairs = [i for i in range(223) if CENTRES[i + 1] - CENTRES[i] < 1]
    assert [ENMAP.bands[i].name for i in pairs] == ["082", "093", "100"]
    file_of = np.argsort(order)
    for place in range(79, 102):
        number = file_of[place]
        assert detectors[number] == own[place]
        assert abs(widths[number] - WIDTHS[place]) < 0.01
    turned = [i for i in pairs if file_of[i] > file_of[i + 1]]
    assert [ENMAP.bands[i].name for i in turned] == ["082", "100"]


def test_what_is_no_band_of_the_list_is_kept_and_is_no_measurement(older: Scene) -> None:
    assert foreign_bands(ENMAP, older) == FOREIGN
    stored = dict(zip(ENMAP.band_names, scene_wavelengths(ENMAP, older), strict=True))
    assert [stored[name][0] for name in FOREIGN] == pytest.approx([1939.4, 1949.0, 1958.5], abs=0.1)
    calibration = calibrate(ENMAP, older)
    raw = np.full((224, 2, 2), 1234, np.int16)
    physical, valid = to_physical(
        raw,
        conversion="linear",
        scale=calibration.scale[:, None, None],
        offset=calibration.offset[:, None, None],
        nodata=ENMAP.nodata,
    )
    names = np.array(ENMAP.band_names)
    assert set(names[~valid.all(axis=(1, 2))]) == set(FOREIGN)
    np.testing.assert_allclose(physical[valid], 0.1234, rtol=1e-6)
    assert "136, 165, 166" in calibration.source


def test_a_scene_that_states_nothing_has_the_products_wavelengths(older: Scene) -> None:
    silent = replace(older, radiometry={})
    assert scene_wavelengths(ENMAP, silent) == tuple((b.center_nm, b.fwhm_nm) for b in ENMAP.bands)
    assert foreign_bands(ENMAP, silent) == ()


@given(
    vnir=st.floats(-0.3, 0.3),
    swir=st.floats(-0.35, 0.35),
    exchanged=st.sets(st.integers(0, 223), max_size=MOST_FOREIGN),
)
def test_a_shift_of_calibration_and_a_few_exchanged_bands_move_no_other(
    vnir: float, swir: float, exchanged: set[int]
) -> None:
    detectors = dict(zip(*_detectors(), strict=True))
    centres = [c + (vnir if detectors[c] == "VNIR" else swir) for c in CENTRES]
    rows = [(c, w, place) for place, (c, w) in enumerate(zip(centres, WIDTHS, strict=True))]
    rows = [row for row in rows if row[2] not in exchanged]
    # The gap from 1790 to 1960 nm is where bands that no list shares are found.
    rows += [(1800.0 + 15 * i, 9.5, -1) for i in range(len(exchanged))]
    rows.sort()
    order = file_order(ENMAP, [row[0] for row in rows], [row[1] for row in rows])
    assert order is not None and sorted(order) == list(range(224))
    for place, (_, _, true) in zip(order, rows, strict=True):
        assert place == true or true == -1
    assert {place for place, row in zip(order, rows, strict=True) if row[2] == -1} == exchanged


def _detectors() -> tuple[list[float], list[str]]:
    with (Path(deployments.sandbox.sensors.__file__).with_name("enmap_bands.csv")).open() as lines:
        return CENTRES, [row["detector"] for row in csv.DictReader(lines)]


def test_a_list_that_shares_too_little_is_none_of_the_products() -> None:
    centres = [c + 4.0 if 100 <= i < 100 + MOST_FOREIGN + 1 else c for i, c in enumerate(CENTRES)]
    assert file_order(ENMAP, centres, WIDTHS) is None
