"""EnMAP items as DLR gives them are mended, and bands are told by wavelength, never by index."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.archives import load_archive
from catalog.normalise import RefusedScene, normalise_item
from catalog.products import load_product
from catalog.scenes import Scene

DLR = load_archive("dlr-eoc")
ENMAP = load_product("enmap-l2a")
ID = "ENMAP01-____L2A-DT0000142249_20250708T055408Z_002_V010502_20250709T032346Z"
FOLDER = "https://download.geoservice.dlr.de/ENMAP/files/L2A/2025/07/08/DT0000142249/02"


def enmap_item(unit: float = 1.0) -> dict[str, Any]:
    place = {
        "proj:epsg": 32645,
        "proj:shape": [1231, 1260],
        "proj:transform": [30.0, 0, 340845, 0, -30, 5059695, 0, 0, 1],
    }
    layers = ("classes", "cloud", "cloud_shadow", "haze", "cirrus", "snow", "testflags")
    assets: dict[str, Any] = {f"quality_{n}": {"href": f"{FOLDER}/{ID}-QL_{n}.TIF", **place} for n in layers}
    assets["image"] = {
        "href": f"{FOLDER}/{ID}-SPECTRAL_IMAGE_COG.TIF",
        **place,
        "eo:bands": [
            {
                "name": number,
                "center_wavelength": (band.center_nm or 0) * unit,
                "full_width_half_max": (band.fwhm_nm or 0) * unit,
                "enmap:gain_of_band": 0.0001,
                "enmap:offset_of_band": 0,
            }
            for number, band in enumerate(ENMAP.bands, start=1)
        ],
    }
    ring = [[85.07, 45.67], [84.97, 45.40], [85.35, 45.35], [85.44, 45.61], [85.07, 45.67]]
    return {
        "type": "Feature",
        "id": ID,
        "collection": "ENMAP_HSI_L2A",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [84.97, 45.35, 85.44, 45.67],
        "properties": {
            "version": "01.05.02",
            "datetime": "2025-07-08T05:54:08Z",
            "platform": "enmap",
            "proj:epsg": None,
            "sat:orbit_state": "DESCENDING",
            "eo:cloud_cover": "3",
            "view:sun_azimuth": 342.58055,
            "view:sun_elevation": 66.121408,
            "processing:level": "L2A",
            "enmap:sunAzimuthAngle": "162.58055",
            "enmap:datatakeID": "0000142249",
            "enmap:tileID": "02",
            "enmap:processingDate": "2025-07-09T03:23:46.231010Z",
        },
        "assets": assets,
    }


def normalise(item: dict[str, Any]) -> Scene:
    return normalise_item(item, DLR, ENMAP)


def test_every_known_defect_is_mended_and_noted() -> None:
    scene = normalise(enmap_item())
    assert scene.sun_azimuth_deg == 162.58055 and scene.cloud_cover_percent == 3.0
    assert scene.epsg == 32645 and scene.orbit_state == "descending" and scene.baseline == "01.05.02"
    assert scene.tile == "DT0000142249-002" and scene.generated is not None
    assert scene.assets["image"].href == f"{FOLDER}/{ID}/{ID}-SPECTRAL_IMAGE_COG.TIF"
    assert scene.assets["image"].bands == ENMAP.band_names
    assert len(scene.repairs) == 4


def test_a_folder_that_is_there_is_not_put_in_twice() -> None:
    item = enmap_item()
    item["assets"]["image"]["href"] = f"{FOLDER}/{ID}/{ID}-SPECTRAL_IMAGE_COG.TIF"
    assert normalise(item).assets["image"].href.count(ID) == 2


def test_without_the_true_angle_half_a_turn_is_taken_off() -> None:
    item = enmap_item()
    del item["properties"]["enmap:sunAzimuthAngle"]
    item["properties"]["view:sun_azimuth"] = 373.121459
    assert normalise(item).sun_azimuth_deg == pytest.approx(193.121459)


@pytest.mark.parametrize("unit", [1.0, 1e-3], ids=["nanometres", "micrometres"])
def test_wavelengths_are_nanometres_whatever_the_item_has(unit: float) -> None:
    facts = normalise(enmap_item(unit)).radiometry
    assert facts["wavelengths_nm"] == pytest.approx([band.center_nm for band in ENMAP.bands])
    assert facts["fwhm_nm"][0] == pytest.approx(6.996, abs=1e-3)
    assert facts["gains"]["136"] == 1e-4 and facts["offsets"]["136"] == 0


def test_a_scene_of_the_older_band_list_is_read_by_wavelength() -> None:
    item = enmap_item()
    own = item["assets"]["image"]["eo:bands"]
    older = [(band["center_wavelength"], band["full_width_half_max"]) for band in own]
    for gone in (1780.22, 1769.89, 1449.43):
        older = [row for row in older if row[0] != gone]
    older = sorted([*older, (1939.4, 9.2), (1949.0, 9.15), (1958.5, 9.1)])
    item["assets"]["image"]["eo:bands"] = [
        {**band, "center_wavelength": centre, "full_width_half_max": width}
        for band, (centre, width) in zip(own, older, strict=True)
    ]
    scene = normalise(item)
    file_bands = scene.assets["image"].bands
    # Band 136 of the file is the product's band 137, and so on up to the exchanged ones.
    assert file_bands[:135] == ENMAP.band_names[:135]
    assert file_bands[135:163] == ENMAP.band_names[136:164]
    assert file_bands[163:166] == ("136", "165", "166") and file_bands[166:] == ENMAP.band_names[166:]
    wavelengths = dict(zip(ENMAP.band_names, scene.radiometry["wavelengths_nm"], strict=True))
    assert wavelengths["137"] == ENMAP.band("137").center_nm and wavelengths["165"] == 1949.0
    assert any("not by their index" in repair for repair in scene.repairs)
    assert Scene.from_dict(scene.to_dict()) == scene


def test_a_band_list_that_is_not_known_is_refused() -> None:
    item = enmap_item()
    for band in item["assets"]["image"]["eo:bands"][135:166]:
        band["center_wavelength"] += 11.9
    with pytest.raises(RefusedScene, match="31 bands have other wavelengths"):
        normalise(item)


def test_a_slightly_other_calibration_is_the_same_list() -> None:
    item = enmap_item()
    for band in item["assets"]["image"]["eo:bands"]:
        band["center_wavelength"] -= 0.18
    assert normalise(item).radiometry["wavelengths_nm"][0] == pytest.approx(418.236)


def test_another_number_of_bands_is_refused() -> None:
    item = enmap_item()
    del item["assets"]["image"]["eo:bands"][-1]
    with pytest.raises(RefusedScene, match="223 bands"):
        normalise(item)


def test_every_missing_quality_layer_is_named() -> None:
    item = enmap_item()
    del item["assets"]["quality_cloud"], item["assets"]["quality_snow"]
    with pytest.raises(RefusedScene) as error:
        normalise(item)
    assert error.value.reasons == ("no quality layer quality_cloud", "no quality layer quality_snow")
