"""Whatever an archive's spelling, a scene has the same fields, types and units, or every reason why not."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.archives import load_archive
from catalog.errors import SceneError, UsageError
from catalog.normalise import RefusedScene, inspect_item, normalise_item
from catalog.products import load_product
from catalog.scenes import Scene
from tests.catalog.made_up import s2_item, with_changes

PLANETARY = load_archive("planetary-computer")
S2 = load_product("sentinel-2-l2a")


def normalise(item: dict[str, Any]) -> Scene:
    return normalise_item(item, PLANETARY, S2)


def refusal(item: dict[str, Any]) -> RefusedScene:
    with pytest.raises(RefusedScene) as error:
        normalise(item)
    return error.value


def test_a_sound_item_becomes_a_scene() -> None:
    scene = normalise(s2_item())
    assert scene.platform == "sentinel-2b" and scene.tile == "32TQU" and scene.epsg == 32632
    assert scene.sensed == datetime(2023, 6, 14, 10, 15, 59, 24000, UTC)
    assert scene.generated == datetime(2023, 6, 14, 18, tzinfo=UTC)
    assert (scene.baseline, scene.cloud_cover_percent, scene.orbit_state) == ("05.09", 12.5, "descending")
    assert (scene.sun_elevation_deg, scene.sun_azimuth_deg) == (62.5, 145.0)
    assert set(scene.assets) == {*S2.band_names, "SCL"}
    assert scene.assets["B05"].bands == ("B05",) and scene.assets["SCL"].bands == ()
    grid = scene.assets["B05"].grid
    assert grid is not None and grid.affine == (20, 0, 699960, 0, -20, 5400000) and grid.shape == (5490, 5490)
    assert scene.licence == S2.licence and scene.attribution == S2.attribution
    assert Scene.from_dict(scene.to_dict()) == scene


def test_no_signature_is_stored() -> None:
    stored = str(normalise(s2_item()).to_dict())
    assert "secret" not in stored and "?" not in stored


@pytest.mark.parametrize(
    ("stated", "percent"),
    [
        ("72", 72.0),
        (" 3.5 ", 3.5),
        (0, 0.0),
        (None, None),
        ("cloudy", None),
        (-1, None),
        (101, None),
        (True, None),
    ],
)
def test_cloud_cover_is_a_number_or_unknown(stated: Any, percent: float | None) -> None:
    scene = normalise(with_changes(s2_item(), eo__cloud_cover=stated))
    assert scene.cloud_cover_percent == percent
    mended = any("cloud_cover" in repair for repair in scene.repairs)
    assert mended == (stated not in (0, None))


@pytest.mark.parametrize(
    "stated", ["2023-06-14 10:15:59.024", "2023-06-14T10:15:59.024", "2023-06-14 12:15:59.024+02:00"]
)
def test_times_without_zone_or_t_are_utc(stated: str) -> None:
    scene = normalise(with_changes(s2_item(), datetime=stated))
    assert scene.sensed == datetime(2023, 6, 14, 10, 15, 59, 24000, UTC)
    assert any("datetime" in repair for repair in scene.repairs)


def test_start_and_end_stand_in_for_a_missing_datetime() -> None:
    item = with_changes(
        s2_item(),
        datetime=None,
        start_datetime="2023-06-14 10:00:00+00:00",
        end_datetime="2023-06-14T10:01:00Z",
    )
    assert normalise(item).sensed == datetime(2023, 6, 14, 10, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize("stated", ["2023-06-14", "yesterday", 20230614, ["2023-06-14T00:00:00Z"]])
def test_a_time_that_is_none_is_refused(stated: Any) -> None:
    assert "datetime" in refusal(with_changes(s2_item(), datetime=stated)).message


@pytest.mark.parametrize(
    ("properties", "epsg"),
    [
        ({"proj__epsg": "32632"}, 32632),
        ({"proj__epsg": None, "proj__code": "EPSG:32632"}, 32632),
        ({"proj__epsg": None, "proj__code": None}, None),
    ],
)
def test_the_crs_is_read_in_both_spellings(properties: dict[str, Any], epsg: int | None) -> None:
    assert normalise(with_changes(s2_item(), **properties)).epsg == epsg


def test_bands_in_different_crss_are_refused() -> None:
    item = with_changes(s2_item(), proj__epsg=None)
    for index, asset in enumerate(item["assets"].values()):
        asset["proj:epsg"] = 32632 + index % 2
    assert "different CRSs" in refusal(item).message


@pytest.mark.parametrize(
    ("properties", "tile"),
    [
        ({"s2__mgrs_tile": None, "grid__code": "MGRS-32TQU"}, "32TQU"),
        ({"s2__mgrs_tile": None}, "32TQU"),  # from the id
        ({"swath__tile": "32TQU-paris"}, "32TQU-PARIS"),
        ({"s2__mgrs_tile": None, "swath__tile": "32TQU-paris"}, "32TQU-paris"),
        ({"s2__mgrs_tile": None, "landsat__wrs_path": "90", "landsat__wrs_row": 91}, "090091"),
        ({"s2__mgrs_tile": None, "sat__relative_orbit": "51", "s1__slice_number": "7"}, "R051-07"),
        ({"s2__mgrs_tile": None, "enmap__datatakeID": "80454", "enmap__tileID": "01"}, "DT0000080454-001"),
    ],
)
def test_the_place_is_named_by_whatever_the_archive_names_it_by(
    properties: dict[str, Any], tile: str
) -> None:
    assert normalise(with_changes(s2_item(), **properties)).tile == tile


def test_reprocessed_versions_share_a_key_and_the_later_one_wins() -> None:
    first = normalise(with_changes(s2_item(), s2__processing_baseline="02.14"))
    item = with_changes(s2_item(), s2__processing_baseline="05.10", datetime="2023-06-14T10:15:59.026Z")
    second = normalise({**item, "id": item["id"].replace("180000", "235959")})
    assert first.key == second.key and first.version < second.version


def test_a_missing_baseline_is_taken_from_the_product_name_or_the_scene_is_refused() -> None:
    bare = with_changes(s2_item(), s2__processing_baseline=None)
    assert "baseline" in refusal(bare).message
    named = with_changes(
        bare, s2__product_uri="S2B_MSIL2A_20230614T101559_N0509_R065_T32TQU_20230614T180000.SAFE"
    )
    assert normalise(named).baseline == "05.09"


def test_all_reasons_are_listed_at_once() -> None:
    item = with_changes(s2_item(), datetime=None, s2__processing_baseline=None)
    del item["assets"]["B04"], item["assets"]["B8A"], item["assets"]["SCL"]
    item["assets"]["B02"]["href"] = "file:///etc/passwd"
    error = refusal(item)
    assert len(error.reasons) == 5 and error.code == "item-refused"
    text = error.message
    assert (
        "B04, B8A" in text and "SCL" in text and "file:" in text and "datetime" in text and "baseline" in text
    )
    assert pickle.loads(pickle.dumps(error)).reasons == error.reasons  # noqa: S301


@pytest.mark.parametrize(
    ("properties", "word"),
    [
        ({"platform": "landsat-9"}, "platform landsat-9"),
        ({"s2__product_type": "S2MSI1C"}, "S2MSI1C"),
    ],
)
def test_a_scene_of_another_product_is_told_from_a_bad_one(properties: dict[str, Any], word: str) -> None:
    error = refusal(with_changes(s2_item(), **properties))
    assert error.code == "other-product" and word in error.message


@pytest.mark.parametrize(
    "href",
    [
        "file:///etc/passwd",
        "/vsicurl/https://example.org/a.tif",
        "/vsizip/a.zip/b.tif",
        "zip+https://sentinel2l2a01.blob.core.windows.net/a.zip!b.tif",
        "../../../etc/passwd",
        "C:\\data\\a.tif",
        "https://example.org/a.tif",
        "https://sentinel2l2a01.blob.core.windows.net@example.org/a.tif",
        "https://sentinel2l2a01.blob.core.windows.net.example.org/a.tif",
        "https:///a.tif",
        "http://[bad/a.tif",
        "https://sentinel2l2a01.blob.core.windows.net/a b.tif",
        "https://sentinel2l2a01.blob.core.windows.net/a\n.tif",
        "",
        None,
        7,
    ],
)
def test_files_lie_on_the_archives_hosts_or_the_scene_is_refused(href: Any) -> None:
    item = s2_item()
    item["assets"]["B02"]["href"] = href
    assert "asset B02" in refusal(item).message


def test_relative_hrefs_are_completed_from_the_items_own_address() -> None:
    item = s2_item()
    item["links"] = [{"rel": "self", "href": "http://127.0.0.1:8651/collections/s2/items/one"}]
    for name, asset in item["assets"].items():
        asset["href"] = f"/assets/{name}.tif"
    scene = normalise_item(item, load_archive("sandbox"), S2)
    assert scene.assets["B02"].href == "http://127.0.0.1:8651/assets/B02.tif"


def test_credentials_in_an_address_are_not_stored() -> None:
    item = s2_item()
    item["assets"]["B02"]["href"] = "https://me:pass@sentinel2l2a01.blob.core.windows.net/a.tif#x"
    assert normalise(item).assets["B02"].href == "https://sentinel2l2a01.blob.core.windows.net/a.tif"


def test_bucket_names_keep_their_case() -> None:
    item = s2_item()
    for asset in item["assets"].values():
        asset["href"] = "s3://Bucket/key.tif"
    assert (
        normalise_item(item, load_archive("https://stac.example.org"), S2).assets["B02"].href
        == "s3://Bucket/key.tif"
    )


def test_an_empty_polygon_is_left_out() -> None:
    item = s2_item()
    item["geometry"] = {"type": "MultiPolygon", "coordinates": [[], item["geometry"]["coordinates"]]}
    scene = normalise(item)
    assert scene.geometry["type"] == "Polygon" and len(scene.geometry["coordinates"][0]) == 5
    assert any("empty polygon" in repair for repair in scene.repairs)


def test_a_missing_bbox_is_taken_from_the_geometry_across_the_antimeridian_too() -> None:
    item = s2_item()
    del item["bbox"]
    assert normalise(item).bbox == (11.7, 47.8, 13.1, 48.7)
    east = [[[178, 10], [180, 10], [180, 11], [178, 11], [178, 10]]]
    west = [[[-180, 10], [-179, 10], [-179, 11], [-180, 11], [-180, 10]]]
    item["geometry"] = {"type": "MultiPolygon", "coordinates": [east, west]}
    assert normalise(item).bbox == (178, 10, -179, 11)


def test_a_geometry_off_the_earth_is_refused() -> None:
    item = s2_item()
    item["geometry"]["coordinates"][0][0] = [500000.0, 5400000.0]
    assert "degrees" in refusal(item).message


@pytest.mark.parametrize("scene_id", ["a/b", "..", "", None, "x" * 300, "a\nb", 3.5])
def test_an_id_that_could_not_name_a_file_is_refused(scene_id: Any) -> None:
    assert "id" in refusal({**s2_item(), "id": scene_id}).message


def test_simulated_and_converted_scenes_say_so() -> None:
    assert normalise(s2_item()).origin == "observed"
    assert normalise(with_changes(s2_item(), swath__simulated=True)).origin == "simulated"
    assert normalise(with_changes(s2_item(), swath__derived=True)).origin == "derived"


def test_earth_search_says_whether_the_offset_is_in_the_pixels() -> None:
    item = with_changes(s2_item(), earthsearch__boa_offset_applied=True)
    assert normalise(item).radiometry == {"boa_offset_applied": True}


def test_a_bare_md5_becomes_a_multihash() -> None:
    item = s2_item()
    item["assets"]["B02"] |= {"file:checksum": "AB" * 16, "file:size": 123}
    asset = normalise(item).assets["B02"]
    assert asset.checksum == "d50110" + "ab" * 16 and asset.size_bytes == 123


def landsat_item(scale: float = 2.75e-5, offset: float = -0.2) -> dict[str, Any]:
    item = with_changes(
        s2_item(), platform="LANDSAT_8", landsat__collection_number="02", landsat__correction="L2SP",
        landsat__wrs_path="193", landsat__wrs_row="027", s2__mgrs_tile=None, s2__product_type=None,
        s2__generation_time=None, s2__processing_baseline=None,
        proj__shape=[100, 100], proj__transform=[30, 0, 355785.0, 0, -30, 5399985.0],
    )  # fmt: skip
    host = "https://landsateuwest.blob.core.windows.net/landsat-c2/LC08_L2SP_193027_20230614_20230622_02_T1"
    keys = ("coastal", "blue", "green", "red", "nir08", "swir16", "swir22", "qa_pixel")
    item["assets"] = {key: {"href": f"{host}_{key}.TIF"} for key in keys}
    for key in keys[:-1]:
        item["assets"][key]["raster:bands"] = [{"scale": scale, "offset": offset, "nodata": 0}]
    return {**item, "id": "LC08_L2SP_193027_20230614_02_T1", "collection": "landsat-c2-l2"}


def test_landsats_sensors_are_told_apart_by_platform() -> None:
    scene = normalise_item(landsat_item(), PLANETARY, load_product("landsat-oli-sr"))
    assert scene.platform == "landsat-8" and scene.tile == "193027"
    assert scene.generated == datetime(2023, 6, 22, tzinfo=UTC)
    assert scene.assets["red"].bands == ("SR_B4",)
    for other in ("landsat-etm-sr", "landsat-tm-sr", "landsat-oli-toa"):
        with pytest.raises(RefusedScene) as error:
            normalise_item(landsat_item(), load_archive("usgs-landsatlook"), load_product(other))
        assert error.value.code == "other-product"


def test_collection_1_numbers_in_a_collection_2_product_are_refused() -> None:
    with pytest.raises(RefusedScene, match="another processing generation"):
        normalise_item(landsat_item(1e-4, 0.0), PLANETARY, load_product("landsat-oli-sr"))


def test_an_item_level_grid_is_not_that_of_a_finer_band() -> None:
    item = landsat_item()
    item["properties"]["landsat:correction"] = "L1TP"
    for key in ("pan", "cirrus", "lwir11", "lwir12", "mtl.json"):
        item["assets"][key] = {"href": f"https://landsatlook.usgs.gov/{key}.TIF"}
    for asset in item["assets"].values():
        asset["href"] = "https://landsatlook.usgs.gov/x.TIF"
    scene = normalise_item(item, load_archive("usgs-landsatlook"), load_product("landsat-oli-toa"))
    assert scene.assets["pan"].grid is None and scene.assets["red"].grid is not None
    assert scene.assets["mtl.json"].bands == ()


def test_inspection_guesses_archive_and_product_and_says_everything() -> None:
    verdict = inspect_item(s2_item())
    assert (verdict["archive"], verdict["product"], verdict["refused"]) == (
        "planetary-computer", "sentinel-2-l2a", [],
    )  # fmt: skip
    assert (
        verdict["key"].startswith("sentinel-2-l2a|sentinel-2b|32TQU|")
        and "baseline" in verdict["calibration"]
    )
    bad = inspect_item(with_changes(s2_item(), datetime=None))
    assert bad["scene"] is None and bad["refused"] == ["neither datetime nor start_datetime and end_datetime"]
    stranger = inspect_item({"id": "x", "properties": {}, "assets": {}})
    assert stranger["product"] is None and "no known product" in stranger["refused"][0]
    assert {"no platform", "no assets"} <= set(stranger["refused"])
    with pytest.raises(UsageError):
        inspect_item([])  # type: ignore[arg-type]


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-10, 40000), st.floats(), st.text(max_size=6), st.just([]),
    st.just({}), st.lists(st.none() | st.floats() | st.text(max_size=3), max_size=3),
    st.lists(st.lists(st.lists(st.integers(), max_size=2), max_size=2), max_size=2),
    st.dictionaries(st.sampled_from(["href", "type", "coordinates", "scale"]), st.integers(), max_size=2),
)  # fmt: skip


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return found + [place for key, child in children for place in places(child, (*path, key))]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_item_however_broken_raises_anything_but_a_refusal(data: st.DataObject) -> None:
    product, item = data.draw(
        st.sampled_from([(S2, s2_item()), (load_product("landsat-oli-sr"), landsat_item())])
    )
    item = copy.deepcopy(item)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(item)))
        parent = item
        try:
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = data.draw(JUNK)
        except (KeyError, IndexError, TypeError):
            continue
    try:
        scene = normalise_item(item, PLANETARY, product)
    except SceneError as error:
        assert error.message
    else:
        assert Scene.from_dict(scene.to_dict()) == scene
        assert scene.sensed.tzinfo is not None and scene.key and scene.version


def test_a_refused_item_says_what_was_mended_too() -> None:
    item = with_changes(s2_item(), eo__cloud_cover="72", s2__mgrs_tile=None, s2__processing_baseline=None)
    verdict = inspect_item(item)
    assert len(verdict["refused"]) == 1 and "baseline" in verdict["refused"][0]
    assert any("cloud_cover" in repair for repair in verdict["repairs"])
    assert any("tile taken from the id" in repair for repair in verdict["repairs"])


def test_where_several_products_fit_the_one_that_takes_the_item_is_meant() -> None:
    """Neither the collection nor the level is stated: the bands of both levels but one are the same."""
    item = with_changes(s2_item(), s2__product_type=None) | {"collection": "somebody-elses"}
    assert inspect_item(item)["product"] == "sentinel-2-l2a"
    # Nothing says which of the two levels it is, and both would take it.
    item["assets"]["B10"] = item["assets"]["B09"] | {"href": item["assets"]["B09"]["href"] + ".B10.tif"}
    with pytest.raises(UsageError) as error:
        inspect_item(item)
    assert "sentinel-2-l1c" in error.value.message and "--product" in error.value.next_step


def test_landsats_real_time_scene_gives_way_to_the_final_one() -> None:
    """Both are of Collection 2; the final one is processed weeks later, which its file names say."""
    usgs, product = load_archive("usgs-landsatlook"), load_product("landsat-oli-sr")

    def processed(day: str, category: str) -> Scene:
        item = landsat_item()
        name = f"LC08_L2SP_193027_20230614_{day}_02_{category}"
        for key, asset in item["assets"].items():
            asset["href"] = f"https://landsatlook.usgs.gov/data/{name}_{key}.TIF"
        item["properties"] |= {"landsat:collection_category": category, "created": "2023-06-15T00:00:00Z"}
        return normalise_item({**item, "id": name}, usgs, product)

    real_time, final = processed("20230614", "RT"), processed("20230629", "T1")
    assert real_time.key == final.key and real_time.version < final.version


def test_requirements_are_met_in_whatever_case_they_are_spelled() -> None:
    product = S2.model_copy(update={"requires": {"sat:orbit_state": ("descending",)}})
    shouted = with_changes(s2_item(), sat__orbit_state="DESCENDING")
    assert normalise_item(shouted, PLANETARY, product).orbit_state == "descending"
    with pytest.raises(RefusedScene) as error:
        normalise_item(with_changes(s2_item(), sat__orbit_state="ascending"), PLANETARY, product)
    assert error.value.code == "other-product"
