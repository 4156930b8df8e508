"""What a Landsat MTL file says."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from catalog.normalise import read_mtl as read_coefficients
from deployments.stac_server.landsat_mtl import (
    completed,
    earth_sun_distance,
    item_properties,
    missing_coefficients,
    read_mtl,
    sensing_time,
)

TM = """GROUP = L1_METADATA_FILE
  GROUP = PRODUCT_METADATA
    SPACECRAFT_ID = "LANDSAT_5"
    SENSOR_ID = "TM"
    WRS_PATH = 224
    WRS_ROW = 063
    DATE_ACQUIRED = 1988-08-14
    SCENE_CENTER_TIME = 13:00:47.3750190Z
  END_GROUP = PRODUCT_METADATA
  GROUP = IMAGE_ATTRIBUTES
    CLOUD_COVER = 0.00
    SUN_AZIMUTH = -12.5
    SUN_ELEVATION = 49.75588889
  END_GROUP = IMAGE_ATTRIBUTES
  GROUP = RADIOMETRIC_RESCALING
"""
RADIANCE = "".join(
    f"    RADIANCE_MULT_BAND_{band} = 0.671\n    RADIANCE_ADD_BAND_{band} = -2.19134\n"
    for band in range(1, 8)
)
END = "  END_GROUP = RADIOMETRIC_RESCALING\nEND_GROUP = L1_METADATA_FILE\nEND\n"


@pytest.fixture
def old_tm(tmp_path: Path) -> Path:
    path = tmp_path / "LT5_MTL.txt"
    path.write_text(TM + RADIANCE + END, encoding="utf-8")
    return path


def test_properties_are_in_stac_spelling(old_tm: Path) -> None:
    properties = item_properties(read_mtl(old_tm))
    assert properties["landsat:wrs_path"] + properties["landsat:wrs_row"] == "224063"
    assert properties["view:sun_azimuth"] == 347.5
    assert properties["eo:cloud_cover"] == 0
    assert sensing_time(read_mtl(old_tm)) == datetime(1988, 8, 14, 13, 0, 47, 375019, tzinfo=UTC)


def test_an_unjudged_cloud_cover_is_unknown(old_tm: Path) -> None:
    assert "eo:cloud_cover" not in item_properties(read_mtl(old_tm) | {"CLOUD_COVER": "-1"})


def test_an_old_tm_file_is_completed_with_reflectance(old_tm: Path) -> None:
    mtl = read_mtl(old_tm)
    old_tm.write_text(completed(old_tm, missing_coefficients(mtl)), encoding="utf-8")
    band = read_coefficients(old_tm.read_text(encoding="utf-8"))["bands"]["B1"]
    # Chander et al. 2009: ESUN 1983 W/(m² µm), and 1.0127 astronomical units on 14 August.
    assert band["reflectance_mult"] == pytest.approx(math.pi * 0.671 * 1.0127**2 / 1983, rel=1e-3)
    assert band["reflectance_add"] / band["reflectance_mult"] == pytest.approx(-2.19134 / 0.671)
    assert missing_coefficients(read_mtl(old_tm)) == {}


def test_a_file_that_has_reflectance_needs_nothing(old_tm: Path) -> None:
    assert (
        missing_coefficients(read_mtl(old_tm) | {"SPACECRAFT_ID": "LANDSAT_8", "SENSOR_ID": "OLI_TIRS"}) == {}
    )


def test_the_sun_is_nearest_in_early_january() -> None:
    days = [earth_sun_distance(datetime(2015, month, 4, 12, tzinfo=UTC)) for month in range(1, 13)]
    assert days[0] == min(days) == pytest.approx(0.9833, abs=2e-4)
    assert days[6] == max(days) == pytest.approx(1.0167, abs=2e-4)
