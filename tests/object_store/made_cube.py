"""A small cube in a bucket: one scene per commit, and what is in it, told apart from how it is stored."""

from __future__ import annotations

from typing import Any

from catalog.cubes import Cube, open_cube
from tests.catalog.cubes.made_up import location, product, sample, scene

OPTICAL = product()
PLACES = 5


def append(cube: Cube, number: int) -> str:
    """Commit scene ``number``: a sample at each of five places; returns the snapshot."""
    with cube.write(f"scene {number}") as writer:
        writer.add_locations(location(i) for i in range(PLACES))
        writer.append(OPTICAL, (sample(OPTICAL, number, i) for i in range(PLACES)), [scene(number, OPTICAL)])
    return writer.result.snapshot


def new_cube(*numbers: int) -> Cube:
    """The cube ``demo``, made with these scenes."""
    cube = open_cube("demo", create=True, products=[OPTICAL], chunk_samples=4)
    for number in numbers:
        append(cube, number)
    return cube


def contents(cube: Cube, snapshot: str | None = None) -> dict[str, Any]:
    """Sample id → SHA-256 of its pixels as they are read now, and what it says of itself."""
    columns = cube.columns(OPTICAL.id, snapshot)
    rows = columns["row"].to_numpy()
    pixels = {gsd: cube.read(OPTICAL.id, gsd, rows, snapshot) for gsd in OPTICAL.resolutions_m}
    quality = cube.read_quality(OPTICAL.id, rows, snapshot)
    assert columns["sample"].is_unique
    return {
        row.sample: (
            row.sha256,
            row.superseded_by,
            [pixels[gsd][row.row].tobytes() for gsd in OPTICAL.resolutions_m],
            quality[row.row].tobytes(),
        )
        for row in columns.itertuples()
    }


def expected(*numbers: int) -> dict[str, Any]:
    """``contents`` of a cube with these scenes, from the samples themselves."""
    made = [sample(OPTICAL, number, place) for number in numbers for place in range(PLACES)]
    return {
        item.id: (
            item.sha256,
            "",
            [item.pixels[gsd].tobytes() for gsd in OPTICAL.resolutions_m],
            item.quality.tobytes(),
        )
        for item in made
    }
