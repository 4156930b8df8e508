"""Labels come on a sample's grid with their own values, and what is not known stays unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.transform import Affine

from catalog.errors import UsageError
from catalog.grids import Grid, north_up
from catalog.labels import LabelSet, label_window, patch_label, read_label_set, tag_classes

GRID = north_up(32632, 600000.0, 5300000.0, 10.0, (16, 16))
CLASSES = {1: "water", 2: "forest", 3: "town"}


def write_raster(path: Path, values: np.ndarray, grid: Grid, nodata: float | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=values.shape[0], width=values.shape[1],
        dtype=values.dtype, crs=f"EPSG:{grid.epsg}", transform=Affine(*grid.affine), nodata=nodata,
    ) as out:  # fmt: skip
        out.write(values, 1)


def write_set(file: Path, **fields: Any) -> Path:
    document = {"name": file.stem, "kind": "raster", "classes": CLASSES, "licence": "CC0-1.0"} | fields
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


def checkered(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, shape).astype(np.uint8)


def test_a_raster_on_the_same_grid_is_copied(tmp_path: Path) -> None:
    values = checkered((16, 16))
    write_raster(tmp_path / "map.tif", values, GRID)
    label_set = read_label_set(write_set(tmp_path / "ours.yaml", path="map.tif", ignore=[3]))
    window = label_window(label_set, GRID)
    np.testing.assert_array_equal(window, np.where(np.isin(values, [1, 2]), values.astype(int), -1))
    assert window.dtype == np.int32


def test_coarser_pixels_take_the_value_at_their_centre_and_finer_ones_that_around_them(
    tmp_path: Path,
) -> None:
    values = np.clip(checkered((16, 16)), 1, 3).astype(np.uint8)
    write_raster(tmp_path / "map.tif", values, GRID)
    label_set = read_label_set(write_set(tmp_path / "ours.yaml", path="map.tif"))
    thirds = north_up(32632, 600000.0, 5300000.0, 30.0, (5, 5))
    np.testing.assert_array_equal(label_window(label_set, thirds), values[1:15:3, 1:15:3])
    fives = north_up(32632, 600000.0, 5300000.0, 5.0, (32, 32))
    np.testing.assert_array_equal(label_window(label_set, fives), values.repeat(2, 0).repeat(2, 1))


def test_outside_a_raster_nothing_is_known(tmp_path: Path) -> None:
    write_raster(tmp_path / "map.tif", np.full((16, 16), 2, np.uint8), GRID)
    label_set = read_label_set(write_set(tmp_path / "ours.yaml", path="map.tif"))
    half = north_up(32632, 600080.0, 5300000.0, 10.0, (16, 16))
    window = label_window(label_set, half)
    assert (window[:, :8] == 2).all() and (window[:, 8:] == -1).all()
    far = north_up(32632, 700000.0, 5300000.0, 10.0, (16, 16))
    assert (label_window(label_set, far) == -1).all()


def test_the_rasters_own_nodata_is_unknown_even_if_it_is_a_class(tmp_path: Path) -> None:
    write_raster(tmp_path / "map.tif", np.full((16, 16), 2, np.uint8), GRID, nodata=2)
    label_set = read_label_set(write_set(tmp_path / "ours.yaml", path="map.tif"))
    assert (label_window(label_set, GRID) == -1).all()


@pytest.mark.parametrize("epsg", [32633, 4326])
def test_another_crs_is_met_pixel_by_pixel(tmp_path: Path, epsg: int) -> None:
    """A raster of stripes in another CRS says the class of the place, within one of its pixels."""
    from pyproj import Transformer

    to_other = Transformer.from_crs(32632, epsg, always_xy=True)
    x, y = to_other.transform(600080.0, 5299920.0)
    step = 10.0 if epsg != 4326 else 1e-4
    grid = Grid(epsg, (step, 0.0, x - 64 * step, 0.0, -step, y + 64 * step), (128, 128))
    values = np.ones((128, 128), np.uint8)
    values[:, 64:] = 2
    write_raster(tmp_path / "map.tif", values, grid)
    label_set = read_label_set(write_set(tmp_path / "ours.yaml", path="map.tif"))
    window = label_window(label_set, GRID)
    centres_x, centres_y = np.meshgrid(600005.0 + 10 * np.arange(16), 5299995.0 - 10 * np.arange(16))
    other_x, _ = to_other.transform(centres_x, centres_y)
    np.testing.assert_array_equal(window, np.where(other_x >= x, 2, 1))


def test_of_several_rasters_the_first_that_knows_counts(tmp_path: Path) -> None:
    one, two = np.full((16, 16), 1, np.uint8), np.full((16, 16), 2, np.uint8)
    one[:8] = 0
    write_raster(tmp_path / "labels" / "a.tif", one, GRID)
    write_raster(tmp_path / "labels" / "b.tif", two, GRID)
    for fields in ({"path": "*.tif"}, {"paths": ["a.tif", "b.tif"]}):
        label_set = read_label_set(write_set(tmp_path / "labels" / "ours.yaml", **fields))
        window = label_window(label_set, GRID)
        assert (window[:8] == 2).all() and (window[8:] == 1).all()


def test_paths_start_beside_the_file_or_at_the_base(tmp_path: Path) -> None:
    write_raster(tmp_path / "rasters" / "a.tif", np.full((16, 16), 1, np.uint8), GRID)
    path = write_set(tmp_path / "labels" / "ours.yaml", path="rasters/a.tif")
    assert (label_window(read_label_set(path, base=tmp_path), GRID) == 1).all()
    assert read_label_set("ours", base=tmp_path) == read_label_set(path, base=tmp_path)
    with pytest.raises(UsageError, match="fits no file"):
        label_window(read_label_set(path, base=tmp_path / "elsewhere"), GRID)


def to_degrees(x: float, y: float) -> list[float]:
    from pyproj import Transformer

    return list(Transformer.from_crs(32632, 4326, always_xy=True).transform(x, y))


def write_features(path: Path, features: list[tuple[dict[str, Any], Any]]) -> None:
    document = [{"type": "Feature", "geometry": g, "properties": {"class": value}} for g, value in features]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": document}), encoding="utf-8")


def rectangle(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return {"type": "Polygon", "coordinates": [[to_degrees(x, y) for x, y in corners]]}


def test_points_fill_the_pixel_they_lie_in(tmp_path: Path) -> None:
    here = {"type": "Point", "coordinates": to_degrees(600025.0, 5299965.0)}
    far = {"type": "Point", "coordinates": [20.0, 10.0]}
    write_features(tmp_path / "p.geojson", [(here, "forest"), (far, "town"), (here, 1)])
    label_set = read_label_set(write_set(tmp_path / "ours.yaml", kind="points", path="p.geojson"))
    window = label_window(label_set, GRID)
    assert window[3, 2] == 2 and (window != -1).sum() == 1
    assert patch_label(window) == 2


def test_polygons_fill_the_pixels_whose_centres_they_hold_and_the_first_counts(tmp_path: Path) -> None:
    write_features(
        tmp_path / "p.geojson",
        [
            (rectangle(600000, 5299920, 600080, 5300000), 1),
            (rectangle(600000, 5299840, 600160, 5300000), "town"),
            (rectangle(600000, 5299840, 600160, 5300000), "unheard of"),
        ],
    )
    label_set = read_label_set(write_set(tmp_path / "ours.yaml", kind="polygons", path="p.geojson"))
    window = label_window(label_set, GRID)
    assert (window[:8, :8] == 1).all() and (window[8:] == 3).all() and (window[:, 8:] == 3).all()


def test_tags_belong_to_whole_samples(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,class\na,1\na,town\nb,9\nc,forest\n", encoding="utf-8")
    label_set = read_label_set(write_set(tmp_path / "ours.yaml", kind="tags", path="t.csv"))
    assert tag_classes(label_set) == {"a": (1, 3), "c": (2,)}
    with pytest.raises(UsageError, match="whole samples"):
        label_window(label_set, GRID)
    (tmp_path / "t.json").write_text('{"a": ["water", 3], "b": 2}', encoding="utf-8")
    label_set = read_label_set(write_set(tmp_path / "ours.yaml", kind="tags", path="t.json"))
    assert tag_classes(label_set) == {"a": (1, 3), "b": (2,)}


@given(hnp.arrays(np.int32, (4, 4), elements=st.integers(-1, 3)))
def test_the_patch_label_is_the_commonest_known_class(window: np.ndarray) -> None:
    known = [int(value) for value in window.reshape(-1) if value != -1]
    label = patch_label(window)
    if not known:
        assert label == -1
    else:
        assert known.count(label) == max(known.count(value) for value in set(known))
        assert all(known.count(value) < known.count(label) for value in range(label))
        needed = (known.count(label) + 0.5) / len(known)
        assert patch_label(window, min_share=needed) == -1


def test_an_unknown_set_names_those_that_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    write_set(tmp_path / "labels" / "ours.yaml", path="a.tif")
    with pytest.raises(UsageError, match="known here: ours") as error:
        read_label_set("theirs", base=tmp_path)
    assert error.value.code == "unknown-label-set"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "path"),
        ({"path": "a.tif", "licence": None}, "licence"),
        ({"path": "a.tif", "classes": {-2: "x"}}, "negative"),
        ({"path": "a.tif", "colour": 1}, "colour"),
        ({"href": "file:///etc/passwd"}, "http"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, fields: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word) as error:
        read_label_set(write_set(tmp_path / "ours.yaml", **fields))
    assert error.value.code == "invalid-label-set"


def test_a_damaged_raster_is_named(tmp_path: Path) -> None:
    (tmp_path / "map.tif").write_bytes(b"II*\0 no raster")
    label_set = read_label_set(write_set(tmp_path / "ours.yaml", path="map.tif"))
    with pytest.raises(UsageError, match=r"map\.tif") as error:
        label_window(label_set, GRID)
    assert error.value.code == "unreadable-labels"


def test_a_raster_without_a_crs_needs_one_named(tmp_path: Path) -> None:
    import warnings

    with warnings.catch_warnings(), rasterio.open(
        tmp_path / "map.tif", "w", driver="GTiff", count=1, height=16, width=16, dtype="uint8",
        transform=Affine(*GRID.affine),
    ) as out:  # fmt: skip
        warnings.simplefilter("ignore")
        out.write(np.full((16, 16), 2, np.uint8), 1)
    with pytest.raises(UsageError, match="no CRS"):
        label_window(read_label_set(write_set(tmp_path / "ours.yaml", path="map.tif")), GRID)
    label_set = read_label_set(write_set(tmp_path / "ours.yaml", path="map.tif", epsg=32632))
    assert (label_window(label_set, GRID) == 2).all()


@pytest.mark.realdata
def test_a_real_label_raster_is_read_on_its_own_grid_as_it_is(realdata: Path) -> None:
    folder = realdata / "enmap" / "EnMAP-Box__enmap-box"
    rasters = [p for p in sorted(folder.rglob("*.tif")) if "label" in str(p).lower()]
    if not rasters:
        pytest.skip("the EnMAP-Box label rasters are not in the folder of real scenes")
    with rasterio.open(rasters[0]) as opened:
        values = opened.read(1)
        grid = Grid(opened.crs.to_epsg(), tuple(opened.transform)[:6], opened.shape)
    label_set = LabelSet(
        name="real",
        kind="raster",
        path=rasters[0].name,
        classes={n: f"class {n}" for n in range(1, 7)},
        ignore=(0,),
        licence="see its own",
        folder=rasters[0].parent,
    )
    window = label_window(label_set, grid)
    np.testing.assert_array_equal(window, np.where(values > 0, values, -1).astype(int))
