"""Three readers, one answer: the same pixels, flags and `resampled` for the same request."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import SceneError, UsageError
from catalog.products import Product
from catalog.scenes import Scene
from tasks.readers.contract import Reader, ReadFailure, WindowPixels, WindowRequest
from tasks.readers.registry import READERS, load_reader
from tasks.tokens import forget_tokens
from tests.tasks.all_products import GRIDDED, scenes_of
from tests.tasks.range_server import RangeServer, Request, serve_ranges
from tests.tasks.sandbox_archive import Sandbox
from tests.tasks.scene_files import SIDE_M, SceneFiles, archive_at, built_in, request, write_scene

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")

LIBRARIES = ("stackstac", "odc-stac")
PRODUCTS = ("sentinel-2-l2a", "sentinel-1-rtc", "landsat-oli-sr", "enmap-l2a")
SOUTH = {"epsg": 32722, "west": 399_960.0, "north": 7_400_040.0}
LANDSAT_SOUTH = {"epsg": 32622, "west": 399_975.0, "north": -2_600_025.0}


@dataclass(frozen=True)
class Case:
    """One scene's files, and where its upper-left corner lies."""

    product: Product
    files: SceneFiles
    west: float
    north: float
    epsg: int


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RangeServer]:
    with serve_ranges(tmp_path_factory.mktemp("archive")) as running:
        yield running


@pytest.fixture(autouse=True)
def calm(server: RangeServer) -> Iterator[None]:
    yield
    server.fault = None


@pytest.fixture(scope="module")
def cases(server: RangeServer) -> list[Case]:
    """Every product in a northern zone and in a southern one, a quarter of each raster without data."""
    found = []
    for name in PRODUCTS:
        product = built_in(name)
        south = LANDSAT_SOUTH if product.grid.crs == "utm-north" else SOUTH
        for where in ({"epsg": 32632, "west": 600_000.0, "north": 5_400_000.0}, south):
            scene = f"{name}-{where['epsg']}"
            files = write_scene(server.folder, server.url, product, scene, empty_columns=0.25, **where)  # type: ignore[arg-type]
            found.append(Case(product, files, where["west"], where["north"], int(where["epsg"])))
    return found


def read(
    reader: Reader, server: RangeServer, product: Product, scene: Scene, windows: list[WindowRequest]
) -> dict[str, WindowPixels]:
    return {found.location: found for found in reader.read(scene, product, windows, archive_at(server.url))}


def able(product: Product) -> list[str]:
    """Readers that can read a product's files."""
    return [name for name in LIBRARIES if name != "stackstac" or product.multiband_asset is None]


def assert_same(one: dict[str, WindowPixels], other: dict[str, WindowPixels]) -> None:
    assert one.keys() == other.keys()
    for location, expected in one.items():
        found = other[location]
        assert found.grids == expected.grids
        assert found.pixels.keys() == expected.pixels.keys()
        for gsd, values in expected.pixels.items():
            assert found.pixels[gsd].dtype == values.dtype
            np.testing.assert_array_equal(found.pixels[gsd], values, f"{location}, {gsd:g} m")
        np.testing.assert_array_equal(found.quality, expected.quality, location)
        assert found.quality_gsd_m == expected.quality_gsd_m
        assert found.resampled == expected.resampled
        assert math.isnan(found.position_error_m) and math.isnan(expected.position_error_m)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_every_reader_gives_the_pixels_of_direct(
    server: RangeServer, cases: list[Case], data: st.DataObject
) -> None:
    case = data.draw(st.sampled_from(cases), label="scene")
    steps = st.integers(-9, int(SIDE_M // 60) + 1)
    corners = data.draw(st.lists(st.tuples(steps, steps), min_size=1, max_size=4, unique=True))
    # On the lattice, and now and then between its points, where every reader has to resample.
    shift = data.draw(st.sampled_from([0.0, 0.0, 0.0, 7.0]), label="shift")
    windows = [
        request(
            case.product,
            f"{east}/{south}",
            west=case.west + 60 * east + shift,
            north=case.north - 60 * south,
            epsg=case.epsg,
        )
        for east, south in corners
    ]
    direct = read(load_reader(), server, case.product, case.files.scene, windows)
    for name in able(case.product):
        assert_same(direct, read(load_reader(name), server, case.product, case.files.scene, windows))


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_window_in_another_zone_is_resampled_alike(
    server: RangeServer, cases: list[Case], name: str
) -> None:
    case = cases[0]
    elsewhere = [request(case.product, "next zone", west=159_900, north=5_410_000, epsg=32633)]
    direct = read(load_reader(), server, case.product, case.files.scene, elsewhere)
    assert direct["next zone"].resampled
    assert_same(direct, read(load_reader(name), server, case.product, case.files.scene, elsewhere))


@pytest.mark.long
@pytest.mark.parametrize("product", GRIDDED)
def test_every_product_of_the_sandbox_reads_alike(all_products: Sandbox, product: str) -> None:
    kind, scene = built_in(product), scenes_of(all_products, product)[0]
    grid = next(asset.grid for asset in scene.assets.values() if asset.bands and asset.grid)
    west, _, _, north = grid.bounds
    windows = [
        request(kind, f"{offset}", west=west + offset, north=north + offset, epsg=grid.epsg)
        for offset in (-240, 240)
    ]
    direct = {w.location: w for w in load_reader().read(scene, kind, windows, all_products.archive)}
    assert direct
    for name in able(kind):
        other = load_reader(name).read(scene, kind, windows, all_products.archive)
        assert_same(direct, {w.location: w for w in other})


@pytest.mark.parametrize("name", LIBRARIES)
def test_what_the_item_says_of_the_grid_is_not_believed(
    server: RangeServer, cases: list[Case], name: str
) -> None:
    case = cases[0]
    assets = {
        key: replace(asset, grid=replace(asset.grid, affine=(10.0, 0, 0.0, 0, -10.0, 0.0)))  # type: ignore[type-var]
        for key, asset in case.files.scene.assets.items()
    }
    windows = [request(case.product, "a", west=case.west + 1200, north=case.north - 600, epsg=case.epsg)]
    wrong = replace(case.files.scene, assets=assets)
    direct = read(load_reader(), server, case.product, case.files.scene, windows)
    assert_same(direct, read(load_reader(name), server, case.product, wrong, windows))


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_qa_file_whose_nodata_is_a_class_keeps_that_class(server: RangeServer, name: str) -> None:
    # Landsat's QA_PIXEL states nodata 1, which is its fill bit.
    product = built_in("landsat-oli-sr")
    files = write_scene(server.folder, server.url, product, "fill-bit")
    assert product.qa is not None and product.qa.asset is not None
    path = server.folder / "fill-bit" / f"{product.qa.asset}.tif"
    with rasterio.open(path) as file:
        profile, values = file.profile, file.read()
    values[:, :40] = 1
    with rasterio.open(path, "w", **(profile | {"driver": "GTiff", "nodata": 1})) as file:
        file.write(values)
    windows = [request(product, "a", west=600_000 - 120, north=5_400_000 + 120)]
    direct = read(load_reader(), server, product, files.scene, windows)
    assert_same(direct, read(load_reader(name), server, product, files.scene, windows))


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_file_is_an_error_that_names_its_band(
    server: RangeServer, cases: list[Case], name: str
) -> None:
    case = cases[0]
    server.fault = lambda asked: 404 if asked.path.endswith("/B04.tif") else None
    windows = [request(case.product, "a", west=case.west, north=case.north, epsg=case.epsg)]
    with pytest.raises(ReadFailure) as failure:
        read(load_reader(name), server, case.product, case.files.scene, windows)
    assert failure.value.code == "asset-not-found"
    assert failure.value.band == "B04"
    assert failure.value.href.endswith("/B04.tif")


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_file_that_fails_while_the_library_reads_it_is_named_without_its_signature(
    server: RangeServer, cases: list[Case], name: str
) -> None:
    case = cases[2]  # one band per file, float32
    asked: set[str] = set()

    def fail_later(request: Request) -> int | None:
        # The header and what lies beside it are given; what GDAL itself asks for is not.
        if not request.path.endswith("/vv.tif"):
            return None
        if request.range is None or request.range[0] > 0 or request.method == "HEAD" or "vv" in asked:
            return 404
        asked.add("vv")
        return None

    server.fault = fail_later
    windows = [request(case.product, "a", west=case.west + 1920, north=case.north - 1920, epsg=case.epsg)]
    with pytest.raises(ReadFailure) as failure:
        read(load_reader(name), server, case.product, case.files.scene, windows)
    assert failure.value.band == "VV"
    assert "?" not in str(failure.value)


@pytest.mark.parametrize("name", LIBRARIES)
def test_hrefs_are_signed_when_they_are_read_and_once_more_when_the_token_has_ended(
    server: RangeServer, cases: list[Case], name: str
) -> None:
    case = cases[0]
    tokens = server.folder / "tokens" / "account" / name
    tokens.parent.mkdir(parents=True, exist_ok=True)

    def issue(token: str) -> None:
        ends = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        tokens.write_text(json.dumps({"token": f"sig={token}", "msft:expiry": ends}), encoding="utf-8")

    issue("one")
    refused: list[str] = []

    def guard(asked: Request) -> int | None:
        if not asked.path.endswith(".tif"):
            return None
        if asked.query == "sig=one" and len(server.requests_of("B04.tif")) > seen + 2:
            refused.append(asked.path)
            issue("two")
            return 403
        return None if asked.query in ("sig=one", "sig=two") else 403

    forget_tokens()
    windows = [request(case.product, "a", west=case.west, north=case.north, epsg=case.epsg)]
    direct = read(load_reader(), server, case.product, case.files.scene, windows)
    seen = len(server.requests_of("B04.tif"))
    server.fault = guard
    archive = archive_at(server.url).model_copy(
        update={
            "access": "planetary-computer-sas",
            "token_url": f"{server.url}/tokens",
            "token_hosts": {"127.0.0.1": f"account/{name}"},
        }
    )
    found = {w.location: w for w in load_reader(name).read(case.files.scene, case.product, windows, archive)}
    assert refused
    assert_same(direct, found)
    forget_tokens()


def test_stackstac_refuses_files_of_several_bands_and_names_who_reads_them(
    server: RangeServer, cases: list[Case]
) -> None:
    case = next(case for case in cases if case.product.id == "enmap-l2a")
    windows = [request(case.product, "a", west=case.west, north=case.north, epsg=case.epsg)]
    with pytest.raises(UsageError, match="odc-stac or direct") as refusal:
        read(load_reader("stackstac"), server, case.product, case.files.scene, windows)
    assert refusal.value.code == "reader-cannot"


@pytest.mark.parametrize("name", LIBRARIES)
def test_scenes_without_a_grid_of_their_own_are_refused(server: RangeServer, name: str) -> None:
    product = built_in("sentinel-1-grd")
    files = write_scene(server.folder, server.url, product, f"grd-{name}")
    with pytest.raises(UsageError, match="ground-control points") as refusal:
        read(load_reader(name), server, product, files.scene, [])
    assert refusal.value.code == "reader-cannot"


@pytest.mark.parametrize("name", READERS)
def test_a_file_of_another_type_is_refused(server: RangeServer, cases: list[Case], name: str) -> None:
    case = cases[0]
    narrow = case.product.model_copy(update={"dtype": "uint8"})
    windows = [request(case.product, "a", west=case.west, north=case.north, epsg=case.epsg)]
    with pytest.raises(SceneError) as refusal:
        read(load_reader(name), server, narrow, case.files.scene, windows)
    assert refusal.value.code == "unexpected-dtype"


def test_an_unknown_reader_is_bad_usage() -> None:
    with pytest.raises(UsageError, match="stackstac"):
        load_reader("gdalwarp")
