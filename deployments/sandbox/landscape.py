"""One landscape on both sides of a UTM zone border: terrain, land cover, parcels and their texture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from scipy import fft
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from catalog.grids import Grid, north_up
from deployments.sandbox.seasons import (
    BARE,
    BROADLEAF,
    CONIFER,
    GRASS,
    SUMMER_CROP,
    URBAN,
    WATER,
    WINTER_CROP,
)
from deployments.sandbox.spectra import URBAN_MIX, Array

BORDER_LONGITUDE = 12.0
"""Where zones 32 and 33 meet, degrees east."""
CENTRE_LATITUDE = 48.0
STEP_M = 10.0
"""Ground sampling at which the landscape is simulated."""
MARGIN = 12
"""Pixels simulated beyond every edge of a zone's square, for shadows and coarser grids."""
SIZE_UNIT_M = 480
_LOCAL = f"+proj=tmerc +lon_0={BORDER_LONGITUDE} +lat_0={CENTRE_LATITUDE} +datum=WGS84 +units=m"

SHARES = {
    WATER: 0.08,
    BROADLEAF: 0.155,
    CONIFER: 0.155,
    URBAN: 0.10,
    GRASS: 0.15,
    WINTER_CROP: 0.145,
    SUMMER_CROP: 0.145,
    BARE: 0.07,
}
"""Class → share of the whole landscape."""


@dataclass(frozen=True)
class Ground:
    """What one zone's square is made of; every array is ``(y, x)`` at 10 m with ``MARGIN`` pixels around."""

    grid: Grid
    """The square without its margin, 10 m."""
    classes: NDArray[np.uint8]
    height_m: Array
    slope_x: Array
    """Rise per metre eastwards."""
    slope_y: Array
    """Rise per metre northwards."""
    late_days: NDArray[np.int16]
    """How late this parcel's season is."""
    vigour: Array
    """Of its plants, about 1."""
    soil_tone: Array
    """Brightness of its soil, about 1."""
    texture: Array
    """What the class's own pattern adds to its brightness: mean 0, contrast of the class."""
    asphalt: Array
    roof: Array
    garden: Array
    """Cover of built-up land; zero elsewhere."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.classes.shape[0], self.classes.shape[1]

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """Class ids of the square itself, ``(y, x)`` at 10 m."""
        return np.ascontiguousarray(self.classes[MARGIN:-MARGIN, MARGIN:-MARGIN])


def zone_squares(size_m: int) -> tuple[Grid, Grid]:
    """The two squares at 10 m, edges at multiples of 60 m, as close to the zone border as they fit."""
    pixels = int(size_m / STEP_M)
    squares = []
    for epsg, west_of_border in ((32632, True), (32633, False)):
        to_utm = Transformer.from_crs(4326, epsg, always_xy=True)
        _, y = to_utm.transform(BORDER_LONGITUDE, CENTRE_LATITUDE)
        south = np.floor((y - size_m / 2) / 60) * 60
        north = south + size_m
        # In both zones the border leans away from the square's inner side towards the pole.
        _, latitude = Transformer.from_crs(epsg, 4326, always_xy=True).transform(
            to_utm.transform(BORDER_LONGITUDE, CENTRE_LATITUDE)[0], north + 200
        )
        x, _ = to_utm.transform(BORDER_LONGITUDE, latitude)
        west = np.floor(x / 60) * 60 - size_m if west_of_border else np.ceil(x / 60) * 60
        squares.append(north_up(epsg, float(west), float(north), STEP_M, (pixels, pixels)))
    return squares[0], squares[1]


def make_landscape(seed: int, size_m: int) -> tuple[Ground, Ground]:
    """Both squares of the landscape, the same ground for the same seed and size."""
    squares = zone_squares(size_m)
    places = [_local_coordinates(square) for square in squares]
    west = min(x.min() for x, _ in places) - 200
    north = max(y.max() for _, y in places) + 200
    width = int((max(x.max() for x, _ in places) + 200 - west) / STEP_M) + 1
    height = int((north - min(y.min() for _, y in places) + 200) / STEP_M) + 1
    whole = _Whole(np.random.default_rng([seed, 101]), (height, width), west, north)
    grounds = []
    for index, (square, (x, y)) in enumerate(zip(squares, places, strict=True)):
        rows, cols = (north - y) / STEP_M - 0.5, (x - west) / STEP_M - 0.5
        grounds.append(whole.seen_from(square, rows, cols, np.random.default_rng([seed, 202, index])))
    return grounds[0], grounds[1]


def fractal_field(
    rng: np.random.Generator,
    shape: tuple[int, int],
    slope: float,
    longest_px: float,
    shortest_px: float = 2.0,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> Array:
    """A periodic Gaussian field of mean 0 and variance 1 whose power falls as ``frequency**-slope``.

    Waves longer than ``longest_px`` or shorter than ``shortest_px`` are damped; ``stretch`` (y, x) draws
    the field out.
    """
    ny, nx = shape
    frequency = np.hypot(
        fft.fftfreq(ny)[:, None] * stretch[0], fft.rfftfreq(nx)[None, :] * stretch[1]
    ).astype(np.float32)
    gain = (frequency**2 + np.float32(longest_px) ** -2) ** np.float32(-slope / 4)
    gain *= np.exp(-((frequency * np.float32(shortest_px / 2)) ** 2))
    gain[0, 0] = 0
    noise = rng.standard_normal(shape, dtype=np.float32)
    field = fft.irfft2(fft.rfft2(noise) * gain, s=shape)
    return np.asarray(field / field.std(), np.float32)


def _local_coordinates(square: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Metres east and north of the landscape's centre for every pixel centre, margin included.

    UTM to the local frame is so nearly linear over 8 km that a cubic fitted on a lattice is exact to
    millimetres.
    """
    _, _, west, _, _, north = square.affine
    n = square.shape[0] + 2 * MARGIN
    index = np.arange(n) - MARGIN + 0.5
    lattice = np.linspace(index[0], index[-1], 7)
    to_local = Transformer.from_crs(square.epsg, _LOCAL, always_xy=True)
    lx, ly = np.meshgrid(west + lattice * STEP_M, north - lattice * STEP_M)
    ground = np.stack(to_local.transform(lx.ravel(), ly.ravel()))
    scale = index[-1]
    powers = [(i, j) for i in range(4) for j in range(4) if i + j <= 3]
    u, v = np.meshgrid(lattice / scale, lattice / scale)
    design = np.stack([(u**i * v**j).ravel() for i, j in powers], axis=1)
    weights, *_ = np.linalg.lstsq(design, ground.T, rcond=None)
    x_powers = np.stack([(index / scale) ** i for i in range(4)])
    table = np.zeros((2, 4, 4))
    for (i, j), weight in zip(powers, weights, strict=True):
        table[:, j, i] = weight
    x, y = np.einsum("jr,kji,ic->krc", x_powers, table, x_powers, optimize=True)
    return x, y


class _Whole:
    """The landscape in its own frame, before a zone looks at it."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int], west: float, north: float) -> None:
        self.shape = shape
        padded = tuple(fft.next_fast_len(side + 150) for side in shape)

        def field(slope: float, longest_m: float, shortest_m: float = 20.0) -> Array:
            whole = fractal_field(rng, (padded[0], padded[1]), slope, longest_m / STEP_M, shortest_m / STEP_M)
            return np.ascontiguousarray(whole[: shape[0], : shape[1]])

        hills, roughness = field(4.2, 5200, 160), field(3.4, 1800, 90)
        relief = hills + 0.28 * roughness
        bend = field(4.4, 6000, 900)
        river = np.exp(-((bend / 0.10) ** 2))
        self.height_m = 540 + 48 * (relief - 0.7 * river)

        parcel, centres = self._parcels(rng, west, north)
        at_centre = (
            np.clip(centres[:, 0].round().astype(int), 0, shape[0] - 1),
            np.clip(centres[:, 1].round().astype(int), 0, shape[1] - 1),
        )
        count = len(centres)

        # Water: the river (a level line of a smooth field) and lakes in the lowest hollows.
        stream = np.abs(bend) / (np.hypot(*np.gradient(bend)) + 1e-4)
        wet = -hills + 0.9 * field(4.0, 2400, 260)
        wet = np.where(stream < 2.6, 99.0, wet)
        classes = np.zeros(shape, np.uint8)
        classes[wet >= np.quantile(wet, 1 - SHARES[WATER])] = WATER

        def take(score: NDArray[Any], share: float) -> NDArray[np.bool_]:
            free = classes == 0
            picked = min(share * classes.size / max(1, int(free.sum())), 1.0)
            return np.asarray(free & (score >= np.quantile(score[free], 1 - picked)))

        town = field(3.2, 2400, 100) + 0.5 * np.exp(-((bend / 0.5) ** 2)) - 0.25 * relief
        classes[take(town, SHARES[URBAN])] = URBAN
        # Forest follows the heights and keeps to parcel borders; stands of one kind are large.
        wood = relief + 0.8 * field(3.0, 1700, 110)
        wood = 0.35 * wood + 0.65 * wood[at_centre][parcel]
        forest = take(wood, SHARES[BROADLEAF] + SHARES[CONIFER])
        kind = field(3.4, 2200, 300)[at_centre] + 0.25 * rng.standard_normal(count)
        kind = kind[parcel]
        conifer = kind > np.quantile(kind[forest], SHARES[BROADLEAF] / (SHARES[BROADLEAF] + SHARES[CONIFER]))
        classes[forest & conifer] = CONIFER
        classes[forest & ~conifer] = BROADLEAF
        # Farmland: whole parcels, clustered, with some that break the cluster.
        turn = np.arctan2(field(3.6, 2600, 400)[at_centre], field(3.6, 2600, 400)[at_centre])
        stray = rng.random(count) < 0.06
        turn = np.where(stray, rng.uniform(-np.pi, np.pi, count), turn)[parcel]
        farmed = (GRASS, WINTER_CROP, BARE, SUMMER_CROP)
        shares = np.array([SHARES[name] for name in farmed])
        free = classes == 0
        cuts = np.quantile(turn[free], np.cumsum(shares / shares.sum())[:-1])
        classes[free] = np.array(farmed, np.uint8)[np.searchsorted(cuts, turn[free])]
        self.classes = classes

        # A parcel's own season, vigour and soil blur the spectrum of its class on any single day.
        self.late_days = (6.5 * rng.standard_normal(count).clip(-2, 2))[parcel].astype(np.float32)
        self.vigour = (1 + 0.085 * rng.standard_normal(count).clip(-2, 2))[parcel].astype(np.float32)
        tone = 1 + 0.13 * rng.standard_normal(count).clip(-2, 2)
        self.soil_tone = (tone[parcel] * (1 + 0.06 * field(2.6, 400, 40))).astype(np.float32)
        self.parcel_turn = rng.uniform(0, np.pi, count)[parcel].astype(np.float32)
        # Streets follow one direction per quarter of a town.
        self.street_turn = 0.5 * field(3.0, 3000, 800)
        self.height_m = np.where(classes == WATER, gaussian_filter(self.height_m, 12), self.height_m)

    def _parcels(
        self, rng: np.random.Generator, west: float, north: float
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Parcel number per pixel, and every parcel's centre (row, col): skewed bricks of some 7 ha."""
        height, width = self.shape
        turn, long_px, short_px = 0.42, 36.0, 21.0
        reach = int(np.hypot(height, width) / short_px) + 4
        u, v = np.meshgrid(np.arange(-reach, reach) * 1.0, np.arange(-reach, reach) * 1.0)
        u = u + 0.5 * (v % 2) + rng.uniform(-0.36, 0.36, u.shape)
        v = v + rng.uniform(-0.36, 0.36, v.shape)
        along, across = u.ravel() * long_px, v.ravel() * short_px
        cosine, sine = np.cos(turn), np.sin(turn)
        rows = height / 2 + along * sine + across * cosine
        cols = width / 2 + along * cosine - across * sine
        near = (rows > -60) & (rows < height + 60) & (cols > -60) & (cols < width + 60)
        centres = np.stack([rows[near], cols[near]], axis=1)
        tree = cKDTree(np.stack([along[near], across[near] * 1.6], axis=1))
        r, c = np.meshgrid(np.arange(height) - height / 2, np.arange(width) - width / 2, indexing="ij")
        ahead, aside = c * cosine + r * sine, r * cosine - c * sine
        _, nearest = tree.query(np.stack([ahead.ravel(), aside.ravel() * 1.6], axis=1), p=np.inf)
        return nearest.reshape(height, width).astype(np.int32), centres

    def seen_from(
        self, square: Grid, rows: NDArray[np.float64], cols: NDArray[np.float64], rng: np.random.Generator
    ) -> Ground:
        """The part under one zone's square, on that zone's own grid."""
        shape = rows.shape
        nearest = (
            np.clip(np.rint(rows).astype(np.int32), 0, self.shape[0] - 1),
            np.clip(np.rint(cols).astype(np.int32), 0, self.shape[1] - 1),
        )
        height = map_coordinates(self.height_m.astype(np.float32), [rows, cols], order=1, mode="nearest")
        height = gaussian_filter(height, 1.0)
        down, right = np.gradient(height, STEP_M)
        classes = self.classes[nearest]
        flat = classes == WATER
        texture, mix = _textures(classes, self.parcel_turn[nearest], self.street_turn[nearest], rng)
        return Ground(
            grid=square,
            classes=classes,
            height_m=np.asarray(height, np.float32),
            slope_x=np.where(flat, 0, right).astype(np.float32),
            slope_y=np.where(flat, 0, -down).astype(np.float32),
            late_days=np.rint(self.late_days[nearest]).astype(np.int16),
            vigour=self.vigour[nearest],
            soil_tone=self.soil_tone[nearest],
            texture=texture.reshape(shape),
            asphalt=mix["asphalt"],
            roof=mix["roof"],
            garden=mix["garden"],
        )


def _textures(
    classes: NDArray[np.uint8], parcel_turn: Array, street_turn: Array, rng: np.random.Generator
) -> tuple[Array, dict[str, Array]]:
    """Each class's own pattern, and what built-up land consists of."""
    shape = (classes.shape[0], classes.shape[1])
    r, c = np.meshgrid(
        np.arange(shape[0], dtype=np.float32), np.arange(shape[1], dtype=np.float32), indexing="ij"
    )

    def band(longest_px: float, shortest_px: float, slope: float = 2.0) -> Array:
        return fractal_field(rng, shape, slope, longest_px, shortest_px)

    fine = rng.standard_normal(shape, dtype=np.float32)
    across = c * np.sin(parcel_turn) + r * np.cos(parcel_turn)
    aisles = np.sin(across * np.float32(2 * np.pi / 3.1))
    rows = np.sin(across * np.float32(2 * np.pi / 5.3))
    mottle = band(24, 8)
    pattern = {
        # Round crowns and gaps of 40-60 m against thin stems in rows: as bright on the mean.
        BROADLEAF: 0.16 * band(7, 4.5),
        CONIFER: 0.13 * aisles + 0.10 * fine,
        GRASS: 0.05 * mottle + 0.012 * fine,
        WINTER_CROP: 0.022 * rows + 0.03 * mottle + 0.012 * fine,
        SUMMER_CROP: 0.022 * rows + 0.03 * mottle + 0.012 * fine,
        BARE: 0.03 * mottle + 0.012 * fine,
        URBAN: 0.05 * fine,
        WATER: 0.03 * fine,
    }
    texture = np.zeros(shape, np.float32)
    for class_id, values in pattern.items():
        inside = classes == class_id
        texture[inside] = values[inside]
    return texture, _town(classes == URBAN, street_turn, r, c, rng)


def _town(
    urban: NDArray[np.bool_], turn: Array, r: Array, c: Array, rng: np.random.Generator
) -> dict[str, Array]:
    """Streets on a bent grid, roofs and gardens between them; means as in ``URBAN_MIX``."""
    u = c * np.cos(turn) + r * np.sin(turn)
    v = r * np.cos(turn) - c * np.sin(turn)
    street = np.maximum(np.cos(u * (2 * np.pi / 8.0)), np.cos(v * (2 * np.pi / 11.0)))
    street = np.clip((street - 0.55) / 0.3, 0, 1)
    house = rng.random(urban.shape, dtype=np.float32)
    house = np.where(house > 0.46, 1.0, 0.12).astype(np.float32)
    roof = (1 - street) * house
    garden = (1 - street) * (1 - house) * 0.75
    asphalt = 1 - roof - garden
    parts = {"roof": roof, "asphalt": asphalt, "garden": garden}
    wanted = {**URBAN_MIX, "garden": 1 - sum(URBAN_MIX.values())}
    if urban.any():
        parts = {
            name: value * (wanted[name] / max(1e-6, float(value[urban].mean())))
            for name, value in parts.items()
        }
    return {name: np.where(urban, value, 0).astype(np.float32) for name, value in parts.items()}
