"""Places that are drawn: around cities, anywhere on land, or by the class of the ground."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.locations.apart import Table, joined, reach_m, unrivalled
from catalog.locations.draws import Draws, around_cities, grown, over_area
from catalog.locations.gazetteer import most_populated
from catalog.locations.land import on_land
from catalog.locations.strata import NO_CLASS, class_quotas, read_class_raster
from catalog.recipes import Area, LocationRequest
from catalog.windows import NORTH_END, SOUTH_END, equator_m, from_degrees, in_area, to_degrees, zones_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IDLE = 2_000
"""Draws inside the area of which none found room, after which a city's surroundings count as full."""

Usable = Callable[[Table], "NDArray[np.bool_]"]
"""Which windows of a table lie in a split."""


def drawn_windows(request: LocationRequest, area: Area, step: float, usable: Usable) -> Table:
    """As many windows as are asked for, or as many as are found, in the order in which they were drawn.

    A draw is left out if an earlier one, left out or not, is too close; then if it lies outside the area or
    in no split. None of this depends on how many are asked for or on how large the area is: with more of
    either, all windows stay that were there before (those of ``max_count`` as far as it reaches).
    """
    import numpy as np

    source = _source(request, area)
    wanted = dict(source.quotas)
    held: list[Table] = []
    chosen: list[NDArray[np.int64]] = []
    start = idle = 0
    for draws in source.draws:
        new = _snapped(draws, request.size_m, step)
        stratum = source.stratum(new)
        new, stratum = new.take(stratum != NO_CLASS), stratum[stratum != NO_CLASS]
        if len(new) == 0:
            continue
        held = [joined([*held, new])]
        free = unrivalled(held[0], request.min_distance_m, start)
        inside = in_area(area, new.longitude, new.latitude)
        taken = _take(new, stratum, np.flatnonzero(free & inside), wanted, usable)
        chosen.append(taken + start)
        start += len(new)
        idle = 0 if (free & inside).any() else idle + int(inside.sum())
        if not any(wanted.values()) or (source.endless and idle > IDLE):
            break
    if not held:
        return _snapped(Draws(np.empty(0), np.empty(0)), request.size_m, step)
    return held[0].take(np.concatenate(chosen))


@dataclass(frozen=True)
class _Source:
    """Where draws come from, and how many of each stratum are wanted."""

    draws: Iterator[Draws]
    quotas: dict[int, int]
    stratum: Callable[[Table], NDArray[np.int64]]
    """Of each window, by its centre; ``NO_CLASS`` where it is no candidate."""
    endless: bool = False


def _source(request: LocationRequest, area: Area) -> _Source:
    import numpy as np

    reach = reach_m(request.size_m, request.min_distance_m)
    # Draws just outside the area take the room of others inside, as they would in a larger area.
    wide = grown(area, reach)
    side = max(request.size_m, request.min_distance_m or 0.0) / 2

    def where(table: Table) -> NDArray[np.int64]:
        if not (request.on_land or request.strategy == "uniform"):
            return np.zeros(len(table), np.int64)
        return np.where(on_land(table.longitude, table.latitude), 0, NO_CLASS)

    if request.strategy == "cities":
        ids, places = most_populated(request.cities)
        draws = around_cities(wide, request.seed, ids, places, request.spread_m)
        return _Source(draws, {0: request.max_count or 0}, where, endless=True)
    if request.strategy == "uniform":
        return _Source(over_area(wide, request.seed, side), {0: request.max_count or 0}, where)
    assert request.class_raster is not None
    raster = read_class_raster(request.class_raster)

    def of_class(table: Table) -> NDArray[np.int64]:
        found = raster.at(table.longitude, table.latitude)
        return np.where(where(table) == NO_CLASS, NO_CLASS, found)

    narrow = _smaller(wide, raster.area())
    draws = over_area(narrow, request.seed, side) if narrow else iter(())
    return _Source(draws, class_quotas(request, raster), of_class)


def _smaller(wide: Area, raster: Area) -> Area | None:
    """Where both are; the first where one of them crosses the antimeridian."""
    (a, b, c, d), (e, f, g, h) = wide.bbox, raster.bbox
    if a > c or e > g:
        return wide
    west, south, east, north = max(a, e), max(b, f), min(c, g), min(d, h)
    return Area(bbox=(west, south, east, north)) if west < east and south < north else None


def _snapped(draws: Draws, size_m: float, step: float) -> Table:
    """The windows around draws, moved by at most half a step so that they lie on the products' lattice."""
    import numpy as np

    usable = (draws.latitude >= SOUTH_END) & (draws.latitude <= NORTH_END)
    longitude, latitude = draws.longitude[usable], draws.latitude[usable]
    epsg = zones_of(longitude, latitude)
    west, north = np.empty(len(epsg)), np.empty(len(epsg))
    centre_x, centre_y = np.empty(len(epsg)), np.empty(len(epsg))
    for code in np.unique(epsg).tolist():
        rows = np.flatnonzero(epsg == code)
        x, y = from_degrees(code, longitude[rows], latitude[rows])
        base = equator_m(code)
        west[rows] = np.floor((x - size_m / 2) / step + 0.5) * step
        north[rows] = np.floor((y - base - size_m / 2) / step + 0.5) * step + base + size_m
        centre_x[rows], centre_y[rows] = to_degrees(code, west[rows] + size_m / 2, north[rows] - size_m / 2)
    return Table(epsg, west, north, centre_x, centre_y, size_m)


def _take(
    table: Table,
    stratum: NDArray[np.int64],
    rows: NDArray[np.int64],
    wanted: dict[int, int],
    usable: Usable,
) -> NDArray[np.int64]:
    """The first rows of each stratum that lie in a split, as many as are wanted; ``wanted`` counts down."""
    import numpy as np

    taken: list[NDArray[np.int64]] = []
    for value in [value for value, count in wanted.items() if count]:
        mine = rows[stratum[rows] == value]
        while len(mine) and wanted[value]:
            # Splits cost the most of all: only as many windows are looked at as may be needed.
            some, mine = np.split(mine, [min(len(mine), wanted[value] + 100)])
            found = some[usable(table.take(some))][: wanted[value]]
            wanted[value] -= len(found)
            taken.append(found)
    return np.sort(np.concatenate(taken)) if taken else np.empty(0, np.int64)
