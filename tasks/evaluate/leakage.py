"""No place is both learnt from and judged on: where an encoder's samples lie, and what they overlap."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.lineage import SAMPLES, read_labels, read_samples
from catalog.samples import Location

PLACES = "places.jsonl.gz"
"""One JSON line per location that a run drew from, in an encoder folder."""
TOUCHING_M = 1.0
"""Footprints that share less than this are neighbours, not overlapping."""


@dataclass(frozen=True)
class Footprint:
    """A square on the ground."""

    location: str
    epsg: int
    x: float
    """Easting of the centre, metres."""
    y: float
    """Northing of the centre, metres."""
    size_m: float
    split: str


@dataclass(frozen=True)
class Draws:
    """Where an encoder has learnt."""

    footprints: tuple[Footprint, ...]
    unknown: tuple[str, ...]
    """Locations drawn from whose place on the ground is not known here."""
    recorded: bool
    """False for an encoder that came without a list of its samples."""


def footprint(location: Location) -> Footprint:
    """The square of a location."""
    return Footprint(location.id, location.epsg, location.x, location.y, location.size_m, location.split)


def read_draws(folders: Iterable[Path], locations: Iterable[Location]) -> Draws:
    """Where the encoders in ``folders`` (one, and those it started from) have learnt.

    Places come from the folder where it lists them, else from ``locations`` by their id.
    """
    known = {location.id: footprint(location) for location in locations}
    found: dict[tuple[str, float, float], Footprint] = {}
    unknown: set[str] = set()
    recorded = True
    for folder in folders:
        if (folder / PLACES).is_file():
            with gzip.open(folder / PLACES, "rt", encoding="utf-8") as lines:
                parts = [Footprint(**json.loads(line)) for line in lines]
            found |= {(part.location, part.x, part.y): part for part in parts}
        elif (folder / SAMPLES).is_file():
            for place in {str(sample["location"]) for sample in read_samples(folder)}:
                if place in known:
                    found[place, known[place].x, known[place].y] = known[place]
                else:
                    unknown.add(place)
        else:
            recorded = False
    return Draws(tuple(found.values()), tuple(sorted(unknown)), recorded)


def write_places(folder: Path, locations: Iterable[Location]) -> None:
    """Write ``places.jsonl.gz``; the same locations give the same bytes."""
    with (folder / PLACES).open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as target:
        for location in sorted(locations, key=lambda location: location.id):
            target.write(json.dumps(asdict(footprint(location))).encode() + b"\n")


def read_taught(folders: Iterable[Path]) -> tuple[Footprint, ...]:
    """Places whose labels the encoders in ``folders`` (one, and those it started from) learnt from."""
    found = {}
    for folder in folders:
        for sample in (read_labels(folder) or {}).get("samples", ()):
            part = Footprint(
                **{name: sample[name] for name in ("location", "epsg", "x", "y", "size_m", "split")}
            )
            found[part.location, part.x, part.y] = part
    return tuple(found.values())


def taught_places(judged: Sequence[Location], taught: Sequence[Footprint]) -> set[str]:
    """Judged locations, by id, on whose ground labels were used in pretraining."""
    if not taught or not judged:
        return set()
    hit = overlaps([footprint(location) for location in judged], taught).any(1)
    ids = {part.location for part in taught}
    return {
        location.id for location, found in zip(judged, hit, strict=True) if bool(found) or location.id in ids
    }


def leaks(judged: Sequence[Location], draws: Draws) -> dict[str, str]:
    """Judged locations that an encoder has learnt from → why; by id, and by metres of overlap."""
    found = {location.id: "its split is pretrain" for location in judged if location.split == "pretrain"}
    ids = {part.location for part in draws.footprints} | set(draws.unknown)
    found |= {location.id: "a sample of it was drawn" for location in judged if location.id in ids}
    parts = draws.footprints
    if parts and judged:
        overlap = overlaps([footprint(location) for location in judged], parts)
        for index in map(int, np.flatnonzero(overlap.any(1))):
            other = parts[int(overlap[index].argmax())]
            found.setdefault(judged[index].id, f"it overlaps {other.location}, of which a sample was drawn")
    return found


def overlaps(first: Sequence[Footprint], second: Sequence[Footprint]) -> NDArray[np.bool_]:
    """Which squares share ground: ``(first, second)``.

    Across UTM zones the squares are turned against each other; there their circumscribed circles decide.
    """
    result = np.zeros((len(first), len(second)), bool)
    zones = sorted({part.epsg for part in second})
    for own in sorted({part.epsg for part in first}):
        rows = [index for index, part in enumerate(first) if part.epsg == own]
        x, y, size = _columns([first[index] for index in rows])
        for zone in zones:
            columns = [index for index, part in enumerate(second) if part.epsg == zone]
            other_x, other_y, other_size = _columns([second[index] for index in columns])
            if zone != own:
                other_x, other_y = _to_zone(zone, own, other_x, other_y)
            reach = (size[:, None] + other_size[None, :]) / 2
            dx, dy = np.abs(x[:, None] - other_x[None, :]), np.abs(y[:, None] - other_y[None, :])
            if zone == own:
                hit = (dx < reach - TOUCHING_M) & (dy < reach - TOUCHING_M)
            else:
                hit = np.hypot(dx, dy) < reach * math.sqrt(2)
            result[np.ix_(rows, columns)] = hit
    return result


def _columns(parts: Sequence[Footprint]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    x, y, size = np.array([(part.x, part.y, part.size_m) for part in parts], float).reshape(-1, 3).T
    return x, y, size


def _to_zone(
    source: int, target: int, x: NDArray[np.floating], y: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    from pyproj import Transformer

    transformer = Transformer.from_crs(source, target, always_xy=True)
    east, north = transformer.transform(x, y)
    return np.asarray(east), np.asarray(north)
