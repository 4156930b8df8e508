"""The coefficients of an MTL file are Level-1's, in both of its formats."""

from __future__ import annotations

import json

import pytest

from catalog.errors import SceneError
from catalog.normalise import read_mtl, with_mtl
from catalog.products import load_product
from catalog.radiometry import calibrate
from tests.catalog.made_up import scene_of

TEXT = """GROUP = LANDSAT_METADATA_FILE
  GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS
    REFLECTANCE_MULT_BAND_1 = 2.75e-05
  END_GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS
  GROUP = IMAGE_ATTRIBUTES
    SPACECRAFT_ID = "LANDSAT_7"
    SUN_ELEVATION = 41.5
  END_GROUP = IMAGE_ATTRIBUTES
  GROUP = LEVEL1_RADIOMETRIC_RESCALING
    REFLECTANCE_MULT_BAND_1 = 1.1E-03
    REFLECTANCE_ADD_BAND_1 = -0.009
    RADIANCE_MULT_BAND_6_VCID_1 = 6.7087E-02
    RADIANCE_ADD_BAND_6_VCID_1 = -0.06709
  END_GROUP = LEVEL1_RADIOMETRIC_RESCALING
  GROUP = LEVEL1_THERMAL_CONSTANTS
    K1_CONSTANT_BAND_6_VCID_1 = 666.09
    K2_CONSTANT_BAND_6_VCID_1 = 1282.71
  END_GROUP = LEVEL1_THERMAL_CONSTANTS
END_GROUP = LANDSAT_METADATA_FILE
END
\0\0"""
DOCUMENT = {
    "LANDSAT_METADATA_FILE": {
        "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {"REFLECTANCE_MULT_BAND_1": "2.75e-05"},
        "IMAGE_ATTRIBUTES": {"SUN_ELEVATION": "41.5"},
        "LEVEL1_RADIOMETRIC_RESCALING": {
            "REFLECTANCE_MULT_BAND_1": "1.1E-03",
            "REFLECTANCE_ADD_BAND_1": "-0.009",
            "RADIANCE_MULT_BAND_6_VCID_1": "6.7087E-02",
            "RADIANCE_ADD_BAND_6_VCID_1": "-0.06709",
        },
        "LEVEL1_THERMAL_CONSTANTS": {
            "K1_CONSTANT_BAND_6_VCID_1": "666.09",
            "K2_CONSTANT_BAND_6_VCID_1": "1282.71",
        },
    }
}


@pytest.mark.parametrize("content", [TEXT, json.dumps(DOCUMENT)], ids=["text", "json"])
def test_level_2_entries_of_the_same_name_are_passed_over(content: str) -> None:
    assert read_mtl(content) == {
        "bands": {
            "B1": {"reflectance_mult": 1.1e-3, "reflectance_add": -0.009},
            "B6_VCID_1": {"radiance_mult": 0.067087, "radiance_add": -0.06709, "k1": 666.09, "k2": 1282.71},
        },
        "sun_elevation_deg": 41.5,
    }


def test_a_scene_with_its_mtl_can_be_calibrated() -> None:
    product = load_product("landsat-etm-toa")
    lines = [
        f"REFLECTANCE_MULT_BAND_{n} = 1e-3\nREFLECTANCE_ADD_BAND_{n} = -0.01" for n in (1, 2, 3, 4, 5, 7, 8)
    ] + [
        f"RADIANCE_MULT_BAND_6_VCID_{n} = 0.06\nRADIANCE_ADD_BAND_6_VCID_{n} = 0\n"
        f"K1_CONSTANT_BAND_6_VCID_{n} = 666.09\nK2_CONSTANT_BAND_6_VCID_{n} = 1282.71"
        for n in (1, 2)
    ]
    scene = with_mtl(scene_of(product), "\n".join([*lines, "SUN_ELEVATION = 30"]))
    calibration = calibrate(product, scene)
    assert calibration.scale[0] == pytest.approx(2e-3) and calibration.k2[5] == 1282.71


@pytest.mark.parametrize("content", ["", "<html>please log in</html>", "[1, 2]", '{"a": {}}', "null"])
def test_what_is_no_mtl_is_refused_by_the_scenes_name(content: str) -> None:
    product = load_product("landsat-oli-toa")
    with pytest.raises(SceneError, match="coefficients") as error:
        with_mtl(scene_of(product, id="LC08"), content)
    assert error.value.subject == "LC08"
