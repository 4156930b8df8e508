"""An item's geometry and bounding box, mended where the meaning is clear and refused where it is not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from catalog.normalise.findings import Findings

Box = tuple[float, float, float, float]


def footprint(item: Mapping[str, Any], findings: Findings) -> tuple[dict[str, Any], Box] | None:
    """GeoJSON in degrees and (west, south, east, north); west > east across the antimeridian."""
    stated_box = _box(item.get("bbox"))
    polygons = _polygons(item.get("geometry"), findings)
    if polygons is None:
        if stated_box is None or stated_box[0] > stated_box[2]:
            findings.refuse("no usable geometry or bbox")
            return None
        findings.repair("no geometry: the bounding box stands for it")
        west, south, east, north = stated_box
        polygons = [[[[west, south], [east, south], [east, north], [west, north], [west, south]]]]
    points = [point for polygon in polygons for ring in polygon for point in ring]
    if not all(-180 <= x <= 180 and -90 <= y <= 90 for x, y in points):
        findings.refuse("its geometry leaves -180…180, -90…90 degrees")
        return None
    geometry = (
        {"type": "Polygon", "coordinates": polygons[0]}
        if len(polygons) == 1
        else {"type": "MultiPolygon", "coordinates": polygons}
    )
    return geometry, stated_box or _bounds(polygons, findings)


def _polygons(geometry: Any, findings: Findings) -> list[list[list[list[float]]]] | None:
    if not isinstance(geometry, Mapping):
        return None
    coordinates = geometry.get("coordinates")
    if geometry.get("type") == "Polygon":
        candidates = [coordinates]
    elif geometry.get("type") == "MultiPolygon" and isinstance(coordinates, list):
        candidates = coordinates
    else:
        return None
    kept = [rings for polygon in candidates if (rings := list(_rings(polygon)))]
    if len(kept) < len(candidates):
        findings.repair(f"{len(candidates) - len(kept)} empty polygon of its geometry left out")
    return kept or None


def _rings(polygon: Any) -> Iterator[list[list[float]]]:
    for ring in polygon if isinstance(polygon, list) else ():
        if not isinstance(ring, list):
            continue
        points = [
            [float(point[0]), float(point[1])]
            for point in ring
            if isinstance(point, list | tuple)
            and len(point) >= 2
            and all(_is_number(value) for value in point[:2])
        ]
        if len(points) == len(ring) and len(points) >= 3:
            yield points if points[0] == points[-1] else [*points, points[0]]


def _box(value: Any) -> Box | None:
    if not isinstance(value, list | tuple) or not all(_is_number(part) for part in value):
        return None
    if len(value) == 6:
        value = (value[0], value[1], value[3], value[4])
    if len(value) != 4:
        return None
    west, south, east, north = (float(part) for part in value)
    on_earth = all(-180 <= x <= 180 for x in (west, east)) and -90 <= south <= north <= 90
    return (west, south, east, north) if on_earth else None


def _bounds(polygons: list[list[list[list[float]]]], findings: Findings) -> Box:
    findings.repair("no usable bbox: taken from the geometry")
    boxes = [
        (min(x), min(y), max(x), max(y))
        for polygon in polygons
        for x, y in [tuple(zip(*polygon[0], strict=True))]
    ]
    south, north = min(box[1] for box in boxes), max(box[3] for box in boxes)
    touching_east = [box for box in boxes if box[2] >= 180]
    touching_west = [box for box in boxes if box[0] <= -180]
    if touching_east and touching_west and not set(touching_east) & set(touching_west):
        return min(box[0] for box in touching_east), south, max(box[2] for box in touching_west), north
    return min(box[0] for box in boxes), south, max(box[2] for box in boxes), north


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
