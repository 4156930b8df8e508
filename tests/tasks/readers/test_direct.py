"""The direct reader against real files over HTTP ranges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint

from catalog.errors import SceneError
from catalog.products import Product
from catalog.quality import FLAGS
from catalog.scenes import SceneAsset
from tasks.readers.contract import ReadFailure, WindowPixels, WindowRequest
from tasks.readers.direct import DirectReader
from tests.tasks.range_server import RangeServer, Request, serve_ranges
from tests.tasks.scene_files import (
    EPSG,
    NORTH,
    SIDE_M,
    WEST,
    SceneFiles,
    archive_at,
    built_in,
    grid_at,
    request,
    write_cog,
    write_scene,
)

PRODUCTS = ("sentinel-2-l2a", "sentinel-1-rtc", "landsat-oli-sr", "enmap-l2a")
QUICK = DirectReader(pause_s=0.01)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RangeServer]:
    with serve_ranges(tmp_path_factory.mktemp("archive")) as running:
        yield running


@pytest.fixture(scope="module")
def files(server: RangeServer) -> dict[str, SceneFiles]:
    return {
        name: write_scene(server.folder, server.url, built_in(name), name, empty_columns=0.25)
        for name in PRODUCTS
    }


@pytest.fixture(autouse=True)
def calm(server: RangeServer) -> Iterator[None]:
    server.requests.clear()
    yield
    server.fault = None


def expected(files: SceneFiles, product: Product, window: WindowRequest, gsd: float) -> np.ndarray:
    """The source's pixels below a window, nodata where the source ends; plain numpy."""
    grid = window.grids[gsd]
    (height, width), (west, _, _, north) = grid.shape, grid.bounds
    row, col = round((NORTH - north) / gsd), round((west - WEST) / gsd)
    values = np.full((len(product.bands_at(gsd)), height, width), product.nodata, product.dtype)
    for place, band in enumerate(product.bands_at(gsd)):
        source = files.arrays[band.name]
        part = source[max(row, 0) : max(row + height, 0), max(col, 0) : max(col + width, 0)]
        top, left = max(-row, 0), max(-col, 0)
        values[place, top : top + part.shape[0], left : left + part.shape[1]] = part
    return values


def read_one(files: SceneFiles, product: Product, window: WindowRequest, url: str) -> WindowPixels:
    (pixels,) = QUICK.read(files.scene, product, [window], archive_at(url))
    return pixels


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_pixel_is_a_copy_of_the_files(
    name: str, files: dict[str, SceneFiles], server: RangeServer
) -> None:
    product, source = built_in(name), files[name]
    windows = [
        request(product, f"{i}-{j}", west=WEST + 480 * i, north=NORTH - 480 * j)
        for i in range(0, 8, 2)
        for j in range(0, 8, 2)
    ]
    found = {p.location: p for p in QUICK.read(source.scene, product, windows, archive_at(server.url))}
    assert set(found) == {window.location for window in windows}
    for window in windows:
        pixels = found[window.location]
        assert not pixels.resampled
        for gsd in product.resolutions_m:
            assert pixels.pixels[gsd].dtype == np.dtype(product.dtype)
            np.testing.assert_array_equal(
                pixels.pixels[gsd], expected(source, product, window, gsd), strict=True
            )


@pytest.mark.parametrize("name", PRODUCTS)
def test_beyond_the_edge_there_is_nodata_and_its_flag(
    name: str, files: dict[str, SceneFiles], server: RangeServer
) -> None:
    product, source = built_in(name), files[name]
    corner = request(product, "corner", west=WEST + SIDE_M - 240, north=NORTH - SIDE_M + 240)
    pixels = read_one(source, product, corner, server.url)
    for gsd in product.resolutions_m:
        np.testing.assert_array_equal(pixels.pixels[gsd], expected(source, product, corner, gsd))
    empty = (pixels.quality & FLAGS["nodata"]) != 0
    half = pixels.quality.shape[0] // 2
    assert not empty[:half, :half].any()
    assert empty[half:].all() and empty[:, half:].all()


def test_nodata_inside_a_scene_is_flagged_on_the_grid_of_the_qa_layer(
    files: dict[str, SceneFiles], server: RangeServer
) -> None:
    product = built_in("sentinel-2-l2a")
    border = request(product, "border", west=WEST + SIDE_M / 4 - 240, north=NORTH)
    pixels = read_one(files[product.id], product, border, server.url)
    empty = (pixels.quality & FLAGS["nodata"]) != 0
    assert pixels.quality_gsd_m == 20
    assert empty[:, :12].all() and not empty[:, 12:].any()


def test_a_window_that_misses_the_raster_is_left_out(
    files: dict[str, SceneFiles], server: RangeServer
) -> None:
    product = built_in("landsat-oli-sr")
    windows = [
        request(product, "in", west=WEST, north=NORTH),
        request(product, "out", west=WEST + 2 * SIDE_M, north=NORTH),
    ]
    found = list(QUICK.read(files[product.id].scene, product, windows, archive_at(server.url)))
    assert [pixels.location for pixels in found] == ["in"]


@given(
    x=st.integers(-8, 72), y=st.integers(-8, 72), side=st.integers(1, 20), memory=st.sampled_from([1, 2**28])
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_window_on_the_grid_is_copied(
    x: int, y: int, side: int, memory: int, files: dict[str, SceneFiles], server: RangeServer
) -> None:
    product = built_in("sentinel-2-l2a")
    window = request(product, "w", west=WEST + 60 * x, north=NORTH - 60 * y, side_m=60.0 * side)
    reader = replace(QUICK, memory_bytes=memory)
    found = list(reader.read(files[product.id].scene, product, [window], archive_at(server.url)))
    inside = x < 64 and y < 64 and x + side > 0 and y + side > 0
    assert len(found) == inside
    for pixels in found:
        for gsd in product.resolutions_m:
            np.testing.assert_array_equal(
                pixels.pixels[gsd], expected(files[product.id], product, window, gsd)
            )


def test_many_batches_give_the_same_pixels_as_one(files: dict[str, SceneFiles], server: RangeServer) -> None:
    product = built_in("enmap-l2a")
    windows = [request(product, str(i), west=WEST + 480 * i, north=NORTH) for i in range(5)]
    archive = archive_at(server.url)
    once = {p.location: p for p in QUICK.read(files[product.id].scene, product, windows, archive)}
    small = replace(QUICK, memory_bytes=1, threads=3)
    for pixels in small.read(files[product.id].scene, product, windows, archive):
        np.testing.assert_array_equal(pixels.pixels[30.0], once[pixels.location].pixels[30.0])
        np.testing.assert_array_equal(pixels.quality, once[pixels.location].quality)


@pytest.mark.parametrize("name", PRODUCTS)
def test_each_file_is_opened_once(name: str, files: dict[str, SceneFiles], server: RangeServer) -> None:
    product = built_in(name)
    windows = [
        request(product, f"{i}-{j}", west=WEST + 480 * i, north=NORTH - 480 * j)
        for i in range(0, 8, 2)
        for j in range(0, 8, 2)
    ]
    list(QUICK.read(files[name].scene, product, windows, archive_at(server.url)))
    opened = [request.path for request in server.requests if request.range and request.range[0] == 0]
    assert sorted(opened) == sorted({request.path for request in server.requests})
    assert len(opened) == len(files[name].scene.assets)
    sizes = sum(asset.size_bytes or 0 for asset in files[name].scene.assets.values())
    spans = [request.range for request in server.requests if request.range]
    fetched = sum(last - first + 1 for first, last in spans)
    assert fetched < 1.6 * sizes, "tiles are fetched about once"


def test_a_scene_in_another_zone_is_resampled_once_and_says_so(server: RangeServer) -> None:
    product = built_in("landsat-oli-sr")
    source = write_scene(server.folder, server.url, product, "flat")
    for asset in source.scene.assets.values():
        if asset.bands:
            flat = np.full((1, 128, 128), 9000, np.uint16)
            write_cog(server.folder / "flat" / f"{asset.key}.tif", flat, grid_at(30), 0)
    # The same ground in the coordinates of the next zone, whose axes are turned.
    from rasterio.warp import transform

    xs, ys = transform(f"EPSG:{EPSG}", "EPSG:32633", [WEST + SIDE_M / 2], [NORTH - SIDE_M / 2])
    window = request(
        product, "w", west=round(xs[0] / 30) * 30 - 240, north=round(ys[0] / 30) * 30 + 240, epsg=32633
    )
    pixels = read_one(source, product, window, server.url)
    assert pixels.resampled
    assert (pixels.pixels[30.0] == 9000).all()
    assert not (pixels.quality & FLAGS["nodata"]).any()


def test_a_grid_that_is_shifted_by_a_fraction_of_a_pixel_is_resampled(
    files: dict[str, SceneFiles], server: RangeServer
) -> None:
    product = built_in("sentinel-1-rtc")
    source = files[product.id]
    window = request(product, "w", west=WEST + 2000 + 5, north=NORTH - 1000)
    pixels = read_one(source, product, window, server.url)
    assert pixels.resampled
    vv = source.arrays["VV"][100:148, 200:249]
    between = (vv[:, :-1] + vv[:, 1:]) / 2
    np.testing.assert_allclose(pixels.pixels[10.0][0], between, rtol=1e-4)


def test_resampling_does_not_blend_nodata_into_its_neighbours(
    files: dict[str, SceneFiles], server: RangeServer
) -> None:
    product = built_in("sentinel-1-rtc")
    border = request(product, "w", west=WEST + SIDE_M / 4 - 240 + 5, north=NORTH - 1000)
    pixels = read_one(files[product.id], product, border, server.url)
    values = pixels.pixels[10.0]
    assert pixels.resampled and (values == product.nodata).any()
    assert ((values == product.nodata) | (values > 0)).all()


def test_a_file_located_by_ground_control_points_is_warped(server: RangeServer) -> None:
    product = built_in("sentinel-1-grd").model_copy(
        update={"dtype": "uint16", "nodata": 0.0, "metadata_assets": ()}
    )
    source = write_scene(server.folder, server.url, product, "grd")
    for key in ("vv", "vh"):
        path = server.folder / "grd" / f"{key}.tif"
        points = [
            GroundControlPoint(row=row, col=col, x=WEST + 10 * col, y=NORTH - 10 * row)
            for row in (0, 192, 384)
            for col in (0, 192, 384)
        ]
        values = np.full((384, 384), 700, np.uint16)
        with rasterio.open(
            path, "w", driver="GTiff", height=384, width=384, count=1, dtype="uint16", tiled=True,
            blockxsize=128, blockysize=128, nodata=0,
        ) as file:  # fmt: skip
            file.write(values, 1)
            file.gcps = (points, rasterio.CRS.from_epsg(EPSG))
    window = request(product, "w", west=WEST + 1000, north=NORTH - 1000)
    pixels = read_one(source, product, window, server.url)
    assert pixels.resampled
    assert (pixels.pixels[10.0] == 700).all()
    server.fault = lambda request: 503 if request.range and request.range[0] > 0 else None
    with pytest.raises(ReadFailure):
        read_one(source, product, window, server.url)


def test_a_truncated_file_fails_the_scene_and_names_the_file(server: RangeServer) -> None:
    product = built_in("sentinel-2-l2a")
    source = write_scene(server.folder, server.url, product, "cut")
    path = server.folder / "cut" / "B03.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    windows = [
        request(product, f"{i}-{j}", west=WEST + 480 * i, north=NORTH - 480 * j)
        for i in range(0, 8, 2)
        for j in range(0, 8, 2)
    ]
    with pytest.raises(ReadFailure) as caught:
        list(QUICK.read(source.scene, product, windows, archive_at(server.url)))
    error = caught.value
    assert (error.code, error.subject, error.band) == ("asset-corrupt", "cut", "B03")
    assert error.href == f"{server.url}/cut/B03.tif"
    assert error.attempts >= 1 and not error.may_pass


@pytest.mark.parametrize(
    ("status", "code", "attempts"),
    [(404, "asset-not-found", 1), (403, "asset-forbidden", 1), (503, "asset-unreachable", 5)],
)
@pytest.mark.parametrize("moment", ["at opening", "while reading", "while resampling"])
def test_an_http_error_is_never_nodata(
    status: int, code: str, attempts: int, moment: str, files: dict[str, SceneFiles], server: RangeServer
) -> None:
    product = built_in("sentinel-1-rtc")

    def fault(request: Request) -> int | None:
        late = request.range is not None and request.range[0] > 0
        return status if request.path.endswith("vh.tif") and (moment == "at opening" or late) else None

    server.fault = fault
    shift = 5 if moment == "while resampling" else 0
    window = request(product, "w", west=WEST + 1500 + shift, north=NORTH - 1500)
    with pytest.raises(ReadFailure) as caught:
        read_one(files[product.id], product, window, server.url)
    error = caught.value
    assert (error.code, error.status, error.attempts) == (code, status, attempts)
    assert error.may_pass == (status == 503)
    assert error.band == "VH"
    assert "vh.tif" in error.href


def test_a_server_that_stumbles_is_asked_again(files: dict[str, SceneFiles], server: RangeServer) -> None:
    product = built_in("sentinel-1-rtc")
    stumbles = iter([503, 429, 500])
    server.fault = lambda request: next(stumbles, None)
    window = request(product, "w", west=WEST + 1500, north=NORTH - 1500)
    pixels = read_one(files[product.id], product, window, server.url)
    np.testing.assert_array_equal(pixels.pixels[10.0], expected(files[product.id], product, window, 10.0))


def test_what_failed_before_is_not_remembered(server: RangeServer) -> None:
    product = built_in("sentinel-1-rtc")
    source = write_scene(server.folder, server.url, product, "late")
    path = server.folder / "late" / "vv.tif"
    content = path.read_bytes()
    path.unlink()
    window = request(product, "w", west=WEST, north=NORTH)
    with pytest.raises(ReadFailure, match="no such file"):
        read_one(source, product, window, server.url)
    path.write_bytes(content)
    assert (read_one(source, product, window, server.url).pixels[10.0] > 0).all()


def test_a_page_of_html_is_called_one(files: dict[str, SceneFiles], server: RangeServer) -> None:
    product = built_in("enmap-l2a")
    server.fault = lambda request: b"<html>please log in</html>" * 99
    window = request(product, "w", west=WEST, north=NORTH)
    with pytest.raises(ReadFailure) as caught:
        read_one(files[product.id], product, window, server.url)
    assert caught.value.code == "asset-not-a-tiff"


def test_an_address_outside_the_archive_is_not_opened(
    files: dict[str, SceneFiles], server: RangeServer, tmp_path: Path
) -> None:
    product = built_in("sentinel-1-rtc")
    scene = files[product.id].scene
    window = request(product, "w", west=WEST, north=NORTH)
    local = server.folder / product.id / "vv.tif"
    for href in (f"file://{local}", str(local), f"/vsizip/{local}", "http://169.254.169.254/x.tif"):
        assets = {**scene.assets, "vv": replace(scene.assets["vv"], href=href)}
        with pytest.raises(SceneError) as caught:
            list(QUICK.read(replace(scene, assets=assets), product, [window], archive_at(server.url)))
        assert caught.value.code == "href-not-allowed"
        assert caught.value.subject == scene.id


def test_files_that_are_not_what_the_product_says_are_refused(server: RangeServer) -> None:
    product = built_in("sentinel-1-rtc")
    window = request(product, "w", west=WEST, north=NORTH)
    archive = archive_at(server.url)
    for name, dtype, nodata, code in (
        ("double", np.float64, -32768, "unexpected-dtype"),
        ("minus", np.float32, -9999, "unexpected-nodata"),
    ):
        source = write_scene(server.folder, server.url, product, name)
        write_cog(server.folder / name / "vv.tif", np.ones((1, 384, 384), dtype), grid_at(10), nodata)
        with pytest.raises(SceneError) as caught:
            list(QUICK.read(source.scene, product, [window], archive))
        assert caught.value.code == code


def test_a_scene_without_one_of_the_bands_or_the_qa_layer_is_refused(
    files: dict[str, SceneFiles], server: RangeServer
) -> None:
    product = built_in("sentinel-2-l2a")
    window = request(product, "w", west=WEST, north=NORTH)
    for key, code in (("B05", "band-missing"), ("SCL", "qa-missing")):
        scene = files[product.id].without(key)
        with pytest.raises(SceneError) as caught:
            list(QUICK.read(scene, product, [window], archive_at(server.url)))
        assert caught.value.code == code
        assert key in caught.value.message
    assert server.requests == []


def test_nothing_wanted_reads_nothing(files: dict[str, SceneFiles], server: RangeServer) -> None:
    product = built_in("enmap-l2a")
    assert list(QUICK.read(files[product.id].scene, product, [], archive_at(server.url))) == []
    assert server.requests == []


def test_a_multiband_file_in_another_order_gives_bands_in_product_order(server: RangeServer) -> None:
    product = built_in("enmap-l2a")
    source = write_scene(server.folder, server.url, product, "turned")
    names = tuple(reversed(product.band_names))
    turned = np.stack([source.arrays[name] for name in names])
    write_cog(server.folder / "turned" / "image.tif", turned, grid_at(30), product.nodata)
    image = source.scene.assets["image"]
    assets = {**source.scene.assets, "image": SceneAsset("image", image.href, names, image.grid)}
    scene = replace(source.scene, assets=assets)
    window = request(product, "w", west=WEST, north=NORTH)
    (pixels,) = QUICK.read(scene, product, [window], archive_at(server.url))
    np.testing.assert_array_equal(pixels.pixels[30.0], expected(source, product, window, 30.0))
