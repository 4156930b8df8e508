"""Every product from the archive into a cube: the pixels of its files, and what was simulated of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject

from catalog.cubes import Cube, open_cube
from catalog.locations import sample_locations
from catalog.products import Product
from catalog.quality import FLAGS
from catalog.radiometry import conversion, to_physical
from catalog.scenes import Scene, SceneAsset
from catalog.wavelengths import foreign_bands, scene_wavelengths
from deployments.sandbox.plan_landsat import SLC_OFF
from tasks.cube.scenes import CubeResult, cube_scenes
from tasks.gate.judge import gate_scenes
from tasks.gate.statistics import measure_scenes
from tasks.readers.registry import load_reader
from tasks.search.side_files import complete_scenes
from tests.tasks.all_products import GRIDDED, recipe_for, scenes_of, truth_of
from tests.tasks.sandbox_archive import Sandbox
from tests.tasks.scene_files import built_in

PANCHROMATIC = ("landsat-etm-toa", "landsat-oli-toa")
"""Their 15 m grid lies half a pixel beside the 30 m one."""


@dataclass(frozen=True)
class Acquired:
    """What came of one product's scenes."""

    product: Product
    scenes: dict[str, Scene]
    quarantined: set[str]
    statistics: dict[str, dict[str, Any]]
    cube: Cube
    done: CubeResult


def acquire(sandbox: Sandbox, name: str) -> Acquired:
    """Search, complete, measure, gate and cube, as a refresh does."""
    product, recipe = built_in(name), recipe_for(sandbox, name)
    scenes, failures = complete_scenes(scenes_of(sandbox, name), product, sandbox.archive)
    assert not failures
    measured = measure_scenes(scenes, product, sandbox.archive)
    assert not measured.failures
    verdict = gate_scenes(product, scenes, measured.rows, recipe.products[name].gate)
    good = [scene for scene in scenes if scene.id in verdict.accepted]
    locations = sample_locations(recipe.locations, recipe.area, [product], good)
    cube = open_cube(f"small-{name}", create=True, products=[product])
    done = cube_scenes(recipe, product, good, locations, cube, load_reader(), sandbox.archive)
    return Acquired(
        product,
        {scene.id: scene for scene in scenes},
        set(verdict.quarantined),
        {row["scene"]: row for row in measured.rows},
        cube,
        done,
    )


@pytest.fixture(scope="module")
def acquired_once(
    all_products: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Acquired]]:
    """``acquire`` by product, each once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_HOME", str(tmp_path_factory.mktemp("home")))
        yield cache(lambda name: acquire(all_products, name))


@pytest.mark.parametrize("name", GRIDDED)
def test_a_product_goes_from_the_archive_into_a_cube(
    name: str, all_products: Sandbox, acquired_once: Callable[[str], Acquired]
) -> None:
    acquired = acquired_once(name)
    info, done = all_products.info, acquired.done
    assert set(acquired.scenes) == set(info.scenes[name]), "the collection's other products are left out"
    assert acquired.quarantined == {info.refused[name]}
    assert not done.failures and done.samples_written > 0
    assert done.superseded == dict([info.superseded[name]])
    columns = acquired.cube.columns(name)
    assert set(columns["scene"]) == set(done.cubed)
    assert bool(columns["resampled"].all()) == bool(columns["resampled"].any()) == (name in PANCHROMATIC)
    files = dict(_files(all_products, acquired))
    # Of 224 bands, one sample of each scene will do.
    rows = columns.drop_duplicates("scene").index if name == "enmap-l2a" else columns.index
    for row in rows:
        _compare(acquired, files, row)
    assert acquired.cube.verify() == []


def _files(sandbox: Sandbox, acquired: Acquired) -> Any:
    for scene in acquired.scenes.values():
        for asset in scene.assets.values():
            for band in asset.bands:
                yield (scene.id, band), (asset, _path(sandbox, asset))


def _path(sandbox: Sandbox, asset: SceneAsset) -> Path:
    return sandbox.info.folder / "assets" / asset.href.split("/assets/", 1)[1]


def _compare(acquired: Acquired, files: dict[Any, tuple[SceneAsset, Path]], row: int) -> None:
    """One sample, band by band: the file's numbers, and the simulated values within half a number."""
    product, cube = acquired.product, acquired.cube
    columns = cube.columns(product.id)
    scene = acquired.scenes[str(columns["scene"][row])]
    calibration = cube.calibration(product.id, [row])
    truth = truth_of(product.id, scene.id)
    for gsd in product.resolutions_m:
        values = cube.read(product.id, gsd, [row])[0]
        affine = Affine(*cube.affine(product.id, gsd, [row])[0])
        for raw, band in zip(values, product.bands_at(gsd), strict=True):
            asset, path = files[scene.id, band.name]
            number = asset.bands.index(band.name) + 1
            place = product.band_names.index(band.name)
            options: dict[str, Any] = {
                "conversion": conversion(product, band),
                "nodata": product.nodata,
                **{key: np.float64(calibration[key][0][place]) for key in calibration},
            }
            known = truth[str(number) if len(asset.bands) > 1 else band.name]
            stored, transform = _stored(path)
            if band.name == "B8" and product.id in PANCHROMATIC:
                _close_when_resampled(stored[0], transform, scene.epsg, known, raw, affine, options)
                continue
            col, line = ~transform @ (affine.c, affine.f)
            at = round(line), round(col), raw.shape
            np.testing.assert_array_equal(raw, _cut(stored[number - 1], *at, fill=product.nodata))
            _close(raw, _cut(known, *at, fill=np.nan), options)


@lru_cache(maxsize=64)
def _stored(path: Path) -> tuple[NDArray[Any], Affine]:
    with rasterio.open(path) as file:
        return file.read(), file.transform


def _cut(values: NDArray[Any], row: int, col: int, shape: tuple[int, ...], *, fill: Any) -> NDArray[Any]:
    whole = np.full(shape, fill, values.dtype)
    top, left = max(row, 0), max(col, 0)
    part = values[top : row + shape[0], left : col + shape[1]]
    whole[top - row : top - row + part.shape[0], left - col : left - col + part.shape[1]] = part
    return whole


def _close(raw: NDArray[Any], known: NDArray[Any], options: dict[str, Any], numbers: float = 0.5) -> None:
    physical, valid = to_physical(raw, **options)
    if np.isnan(options["scale"]):
        assert not valid.any()
        return
    if raw.dtype.kind == "f":
        np.testing.assert_allclose(physical[valid], 10 * np.log10(known[valid]), atol=1e-3)
        return
    whole = np.iinfo(raw.dtype)
    # What was cut off at the ends of the numbers (EnMAP's are -2000 and 20000) is not what was simulated.
    lowest, highest = (1, whole.max) if whole.min == 0 else (-2000, 20_000)
    inner = valid & (raw > lowest) & (raw < highest)
    up, _ = to_physical(raw.astype(np.float64) + numbers, **options)
    down, _ = to_physical(raw.astype(np.float64) - numbers, **options)
    slack = 2e-6 * np.abs(physical) + 2e-6
    assert inner.any() or not valid.any()
    assert (known[inner] <= up[inner] + slack[inner]).all()
    assert (known[inner] >= down[inner] - slack[inner]).all()


def _close_when_resampled(
    numbers: NDArray[Any],
    transform: Affine,
    epsg: int | None,
    known: NDArray[Any],
    raw: NDArray[Any],
    affine: Affine,
    options: dict[str, Any],
) -> None:
    """Interpolated numbers are the numbers of interpolated values, to one and a half."""
    there = np.where(numbers == 0, np.nan, known).astype(np.float32)
    target = np.full(raw.shape, np.nan, np.float32)
    reproject(
        there,
        target,
        src_transform=transform,
        src_crs=f"EPSG:{epsg}",
        dst_transform=affine,
        dst_crs=f"EPSG:{epsg}",
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
    )
    target[numbers_near_the_end(numbers, transform, affine, raw.shape)] = np.nan
    whole = np.where(np.isfinite(target), raw, 0).astype(raw.dtype)
    _close(whole, np.nan_to_num(target), options, numbers=1.5)


def numbers_near_the_end(
    numbers: NDArray[Any], source: Affine, target: Affine, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Where a window touches numbers that were cut off at the end of the data type."""
    cut = (numbers == np.iinfo(numbers.dtype).max) | (numbers == 1)
    rows, cols = np.indices(shape)
    x, y = target @ (cols + 0.5, rows + 0.5)
    col, row = ~source @ (x, y)
    near = np.zeros(shape, np.bool_)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            r = np.clip(np.floor(row).astype(int) + down, 0, cut.shape[0] - 1)
            c = np.clip(np.floor(col).astype(int) + right, 0, cut.shape[1] - 1)
            near |= cut[r, c]
    return near


def test_the_gaps_of_landsat_7_stay_gaps(acquired_once: Callable[[str], Acquired]) -> None:
    acquired = acquired_once("landsat-etm-sr")
    cube, product = acquired.cube, acquired.product
    columns = cube.columns(product.id)
    gaps: dict[str, list[float]] = {}
    partly = False
    for row, name in enumerate(columns["scene"]):
        raw = cube.read(product.id, 30, [row])[0]
        nothing = (cube.read_quality(product.id, [row])[0] & FLAGS["nodata"]) != 0
        np.testing.assert_array_equal(nothing, (raw == 0).all(axis=0))
        assert columns["nodata_fraction"][row] == pytest.approx(nothing.mean())
        if acquired.scenes[name].sensed < SLC_OFF:
            np.testing.assert_array_equal((raw == 0).any(axis=0), nothing)  # beyond the scene's edge
            continue
        gaps.setdefault(name, []).append(float(nothing.mean()))
        # Gaps differ by band: a pixel may lack some of them, and those are no measurement either.
        partly |= bool(((raw == 0).any(axis=0) & ~nothing).any())
        scale, offset = (cube.calibration(product.id, [row])[key][0] for key in ("scale", "offset"))
        _, valid = to_physical(
            raw,
            conversion="linear",
            scale=scale[:, None, None],
            offset=offset[:, None, None],
            nodata=product.nodata,
        )
        np.testing.assert_array_equal(valid, raw != 0)
    assert len(gaps) >= 3 and partly
    assert all(0.02 < np.mean(shares) < 0.4 for shares in gaps.values())


def test_level_1c_has_the_cloud_of_its_partner_or_none(acquired_once: Callable[[str], Acquired]) -> None:
    level_1c, level_2a = (acquired_once(name) for name in ("sentinel-2-l1c", "sentinel-2-l2a"))
    own = level_1c.cube.columns("sentinel-2-l1c")
    theirs = level_2a.cube.columns("sentinel-2-l2a").set_index(["scene", "location"])
    known = unknown = 0
    for row, name in enumerate(own["scene"]):
        scene = level_1c.scenes[name]
        if "SCL" not in scene.assets:
            assert np.isnan(own["cloud_fraction"][row])
            assert np.isnan(level_1c.statistics[name]["cloud_fraction"])
            unknown += 1
            continue
        partner = scene.assets["SCL"].href.split("/")[-2]
        if (partner, own["location"][row]) in theirs.index:
            assert own["cloud_fraction"][row] == theirs.loc[(partner, own["location"][row]), "cloud_fraction"]
            known += 1
    assert known > 5 and unknown > 0


def test_top_of_atmosphere_divides_by_the_sine_of_the_sun_once(
    acquired_once: Callable[[str], Acquired],
) -> None:
    """The same pass at both levels: in the near infrared, where the air hardly matters, they agree."""
    toa, surface = (acquired_once(name) for name in ("landsat-oli-toa", "landsat-oli-sr"))
    compared = 0
    for scene in toa.scenes.values():
        other = next((s for s in surface.scenes.values() if s.sensed == scene.sensed), None)
        if other is None or scene.id in toa.quarantined:
            continue
        assert scene.sun_elevation_deg is not None and scene.sun_elevation_deg < 66
        ours, theirs = (
            one.statistics[name]["p50_" + band]
            for one, name, band in ((toa, scene.id, "B5"), (surface, other.id, "SR_B5"))
        )
        assert ours == pytest.approx(theirs, rel=0.08)
        compared += 1
    assert compared >= 4


def test_a_scene_of_the_older_wavelength_grid_lies_in_the_same_cube(
    acquired_once: Callable[[str], Acquired],
) -> None:
    acquired = acquired_once("enmap-l2a")
    product, held = acquired.product, acquired.cube.scenes("enmap-l2a")
    older = {name for name, scene in held.items() if scene.baseline == "01.03.02"}
    assert len(older) == 2 and set(held) - older
    columns = acquired.cube.columns("enmap-l2a")
    for row, name in enumerate(columns["scene"]):
        exchanged = foreign_bands(product, held[name])
        assert exchanged == (("136", "165", "166") if name in older else ())
        own = dict(zip(product.band_names, scene_wavelengths(product, held[name]), strict=True))
        for band in product.bands:
            if band.name not in exchanged:
                assert own[band.name][0] == pytest.approx(band.center_nm, abs=0.5)
        stored = acquired.cube.read("enmap-l2a", 30, [row])[0]
        assert len(stored) == 224
        measured = ~(stored == product.nodata).all(axis=(1, 2))
        assert measured.all(), "every band of the file is kept, the exchanged ones too"
        scale = acquired.cube.calibration("enmap-l2a", [row])["scale"][0]
        assert {n for n, v in zip(product.band_names, scale, strict=True) if np.isnan(v)} == set(exchanged)
    for statistics in acquired.statistics.values():
        assert statistics["duplicate_bands"] is None, "pairs within a nanometre are two bands"
