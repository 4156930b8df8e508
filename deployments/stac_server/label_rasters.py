"""Label rasters of a real folder in one form: integer GeoTIFFs with a CRS, beside their label set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from catalog.errors import UsageError
from deployments.stac_server.archive_file import LabelRule, fill
from deployments.stac_server.conversions import exact_cast, read_netcdf_layer, write_geotiff


def write_label_set(
    rule: LabelRule, where: str, beside: Path, scenes: Path, listing: list[str], target: Path
) -> Path:
    """Write ``labels/<set>.yaml`` and its rasters below ``labels/<set>/``; returns the YAML file.

    Class values stay what they are. A raster without a CRS takes the grid of the raster that ``like`` names.
    """
    description = beside / rule.label_set
    if not description.is_file():
        raise UsageError(
            "invalid-archive-file",
            f"{where}.label_set: there is no file {rule.label_set}",
            subject=str(description),
            next_step=f"correct {where}.label_set",
        )
    document: dict[str, Any] = yaml.safe_load(description.read_text(encoding="utf-8"))
    folder = target / "labels" / document["name"]
    folder.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(rule.files)
    paths = []
    for name in listing:
        match = pattern.fullmatch(name)
        if match is None:
            continue
        groups = {key: value for key, value in match.groupdict().items() if value is not None}
        values, grid = _read(rule, where, scenes, name, groups)
        path = folder / f"{fill(rule.name, groups, f'{where}.name')}.tif"
        write_geotiff(path, values[np.newaxis], nodata=None, **grid)
        paths.append(path.relative_to(target / "labels").as_posix())
    if not paths:
        raise UsageError(
            "no-labels-found",
            f"{where}.files fits no file below {scenes}",
            subject=rule.label_set,
            next_step=f"correct {where}.files",
        )
    written = target / "labels" / f"{document['name']}.yaml"
    document["paths"] = paths
    written.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return written


def _read(
    rule: LabelRule, where: str, scenes: Path, name: str, groups: dict[str, str]
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Class values ``(y, x)`` as the smallest unsigned type that holds them, and their grid."""
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    source = scenes / name
    if rule.variable:
        values, grid = read_netcdf_layer(source, rule.variable)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(source) as opened:
                values = opened.read(1)
                grid = {"crs": opened.crs, "transform": opened.transform}
    if rule.like:
        with rasterio.open(_like(rule.like, groups, scenes, where)) as model:
            if model.shape != values.shape:
                raise UsageError(
                    "labels-do-not-fit",
                    f"it has {values.shape} pixels, {model.name} {model.shape}",
                    subject=str(source),
                    next_step=f"correct {where}.like",
                )
            grid = {"crs": model.crs, "transform": model.transform}
    if grid["crs"] is None:
        raise UsageError(
            "labels-without-crs",
            "it has no CRS",
            subject=str(source),
            next_step=f"name a raster with the same pixels in {where}.like",
        )
    largest = int(values.max()) if values.size else 0
    return exact_cast(values, "uint8" if largest < 256 else "uint16", source), grid


def _like(template: str, groups: dict[str, str], scenes: Path, where: str) -> Path:
    """The one file that the filled template (a glob) fits."""
    pattern = fill(template, groups, f"{where}.like")
    found = sorted(scenes.glob(pattern))
    if len(found) != 1:
        raise UsageError(
            "invalid-archive-file",
            f"{where}.like: {pattern} fits {len(found)} files, not one",
            subject=pattern,
            next_step=f"correct {where}.like",
        )
    return found[0]
