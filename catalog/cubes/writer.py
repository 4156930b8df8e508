"""Appends samples to a cube: takes them as they come, then writes them in order in one commit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import zarr

from catalog.cubes import layout
from catalog.cubes.columns import LATER
from catalog.cubes.place import Place
from catalog.cubes.publish import MAIN, commit_session, publish
from catalog.cubes.reader import SnapshotReader
from catalog.cubes.spool import Spool, Spooled
from catalog.errors import CubeError
from catalog.products.model import Product, array_name
from catalog.samples import Location, Sample
from catalog.scenes import Scene

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class WriteResult:
    """What one write did."""

    snapshot: str
    """The new snapshot; the old one where nothing was to be committed."""
    committed: bool
    appended: Mapping[str, int]
    """Samples added, by product."""
    skipped: int
    """Samples that were in the cube already."""
    superseded: Mapping[str, int] = field(default_factory=dict)
    """Samples newly marked, by product."""


class CubeWriter:
    """Collects what one commit adds; ``Cube.write`` gives it and commits at its end.

    Samples come in any order. They are spooled until the end and then written by (block, location, time), so
    that a place's dates lie in few chunks, in the same location order in every product. The cube is locked
    only from then on, so that writers who wait for an archive do not wait for each other.
    """

    def __init__(
        self,
        place: Place,
        repository: icechunk.Repository,
        message: str,
        spools: Path,
        chunk_samples: int | None,
    ) -> None:
        self._place = place
        self._repository = repository
        self._message = message
        self._spools = spools
        self._chunk_samples = chunk_samples
        self._base = SnapshotReader(repository, place.name, repository.lookup_branch(MAIN))
        self._known_locations = {location.id: location for location in self._base.locations()}
        self._locations: dict[str, Location] = {}
        self._held: dict[str, set[str]] = {}
        self._products: dict[str, Product] = {}
        self._scenes: dict[str, dict[str, Scene]] = {}
        self._spooled: dict[str, Spool] = {}
        self._supersessions: dict[tuple[str, str], str] = {}
        self._skipped = 0
        self._open = ExitStack()
        self._result: WriteResult | None = None

    @property
    def result(self) -> WriteResult:
        """What was written; there once the ``with`` block has ended without an error."""
        if self._result is None:
            raise CubeError(
                "not-committed",
                "the write has not ended, or it failed",
                subject=self._place.name,
                next_step="read the result after the `with` block",
            )
        return self._result

    def add_locations(self, locations: Iterable[Location]) -> None:
        """Make locations known; those the cube has keep their split, and are checked against it.

        Raises
        ------
        CubeError: ``location-changed``, the id means another place, split or block in this cube.
        """
        for location in locations:
            known = self._known_locations.get(location.id)
            if known is None:
                self._known_locations[location.id] = self._locations[location.id] = location
            else:
                _check_unchanged(known, location)

    def append(self, product: Product, samples: Iterable[Sample], scenes: Iterable[Scene]) -> None:
        """Take samples of one product; ``scenes`` are those they come from, and may be more.

        Raises
        ------
        CubeError: ``sample-mismatch``, ``location-missing``, ``scene-missing``, ``product-changed``.
        """
        if self._products.setdefault(product.id, product) != product:
            raise CubeError(
                "product-changed",
                "two definitions of one product in one commit",
                subject=product.id,
                next_step="load the product once",
            )
        if product.id in self._base.products():
            layout.check_definition(self._base.products()[product.id], product)
        held = self._held_samples(product.id)
        documents = self._scenes.setdefault(product.id, {})
        documents.update((scene.id, scene) for scene in scenes)
        if product.id not in self._spooled:
            self._spooled[product.id] = self._open.enter_context(Spool(self._spools))
        spool = self._spooled[product.id]
        for sample in samples:
            if sample.id in held or sample.id in spool:
                self._skipped += 1
                continue
            _check_sample(product, sample)
            if sample.location not in self._known_locations:
                raise CubeError(
                    "location-missing",
                    f"location {sample.location!r} is not known to the cube",
                    subject=sample.id,
                    next_step="add_locations() comes before append()",
                )
            if sample.scene not in documents:
                raise CubeError(
                    "scene-missing",
                    "its scene is not among those given",
                    subject=sample.id,
                    next_step="give append() every scene its samples come from",
                )
            spool.add(sample)

    def supersede(self, old_scene: str, new_scene: str, product: str) -> None:
        """Mark the old scene's samples as replaced, in the new snapshot only."""
        if old_scene != new_scene:
            self._supersessions[product, old_scene] = new_scene

    def commit(self) -> None:
        """Write and publish; called by ``Cube.write`` at the end of the block."""
        wanted = any(len(spool) for spool in self._spooled.values()) or self._supersessions
        if not wanted:
            self._result = WriteResult(self._base.snapshot, False, {}, self._skipped)
            return
        with commit_session(self._place, self._repository) as session:
            root = layout.open_root(session.store, write=True)
            self._write_locations(root)
            appended = {}
            for product_id, spool in self._spooled.items():
                count = self._write_product(root, self._products[product_id], spool)
                if count:
                    appended[product_id] = count
            superseded, pairs = self._mark_superseded(root)
            if appended or superseded:
                metadata = {"appended": appended, "superseded": pairs}
                snapshot = publish(self._place, session, self._message, metadata)
            else:
                snapshot = session.snapshot_id
            self._result = WriteResult(
                snapshot, bool(appended or superseded), appended, self._skipped, superseded
            )

    def close(self) -> None:
        """Drop the spools."""
        self._open.close()

    def _held_samples(self, product: str) -> set[str]:
        if product not in self._held:
            known = product in self._base.products()
            self._held[product] = self._base.sample_ids(product) if known else set()
        return self._held[product]

    def _write_locations(self, root: zarr.Group) -> None:
        # Another writer may have added the same ones since this one began.
        group = (
            layout.subgroup(root, layout.LOCATIONS)
            if layout.LOCATIONS in root
            else layout.create_locations(root)
        )
        held = {str(name) for name in _values(group, "id")}
        new = [location for location in self._locations.values() if location.id not in held]
        if new:
            layout.append_rows(
                group, {name: [getattr(item, name) for item in new] for name in layout.LOCATION_COLUMNS}
            )

    def _write_product(self, root: zarr.Group, product: Product, spool: Spool) -> int:
        if not len(spool):
            return 0
        group = layout.declare_product(root, product)
        if "sample" not in group:
            first = next(iter(spool))
            shapes = {gsd: first.places[gsd][1][1:] for gsd in product.resolutions_m}
            quality = first.places[None][1]
            layout.create_arrays(group, product, shapes, quality, self._chunk_samples)  # type: ignore[arg-type]
        _check_shapes(group, product, spool)
        held = {str(name) for name in _values(group, "sample")}
        new = sorted((item for item in spool if item.id not in held), key=self._order)
        self._skipped += len(spool) - len(new)
        if new:
            _write_pixels(group, product, spool, new)
            _write_columns(group, product, new)
            self._write_scenes(group, product, new)
        return len(new)

    def _order(self, sample: Spooled) -> tuple[str, str, datetime, str]:
        block = self._known_locations[sample.location].block
        return block, sample.location, sample.sensed, sample.scene

    def _write_scenes(self, group: zarr.Group, product: Product, new: list[Spooled]) -> None:
        listed = layout.subgroup(group, layout.SCENES)
        held = {str(name) for name in _values(listed, "scene")}
        ids = sorted({item.scene for item in new} - held)
        documents = [json.dumps(self._scenes[product.id][name].to_dict(), sort_keys=True) for name in ids]
        if ids:
            layout.append_rows(listed, {"scene": ids, "document": documents})

    def _mark_superseded(self, root: zarr.Group) -> tuple[dict[str, int], dict[str, str]]:
        marked: dict[str, int] = {}
        pairs: dict[str, str] = {}
        for product in sorted({product for product, _ in self._supersessions}):
            group = layout.subgroup(root, product) if product in root else None
            if group is None or "sample" not in group:
                continue
            replacement = {old: new for (of, old), new in self._supersessions.items() if of == product}
            scenes = [str(name) for name in _values(group, "scene")]
            column = layout.array(group, "superseded_by")
            marks = [str(name) for name in _values(group, "superseded_by")]
            rows = [
                row
                for row, scene in enumerate(scenes)
                if scene in replacement and marks[row] != replacement[scene]
            ]
            for row in rows:
                marks[row] = replacement[scenes[row]]
                pairs[scenes[row]] = marks[row]
            for chunk in sorted({row // column.chunks[0] for row in rows}):
                start = chunk * column.chunks[0]
                stop = min(start + column.chunks[0], len(marks))
                column[start:stop] = layout.text(marks[start:stop])
            if rows:
                marked[product] = len(rows)
        return marked, pairs


def _write_pixels(group: zarr.Group, product: Product, spool: Spool, new: list[Spooled]) -> None:
    """Grow the pixel arrays; no more than one chunk is in memory at a time."""
    names: dict[float | None, str] = {gsd: array_name(gsd) for gsd in product.resolutions_m}
    names[None] = "quality"
    for gsd, name in names.items():
        target = layout.array(group, name)
        start, end, chunk = target.shape[0], target.shape[0] + len(new), target.chunks[0]
        target.resize((end, *target.shape[1:]))
        at = start
        while at < end:
            stop = min(end, (at // chunk + 1) * chunk)
            target[at:stop] = np.stack([spool.read(item, gsd) for item in new[at - start : stop - start]])
            at = stop


def _write_columns(group: zarr.Group, product: Product, new: list[Spooled]) -> None:
    held = layout.array(group, "sample").shape[0]
    rows: dict[str, Any] = {
        "sample": [item.id for item in new],
        "location": [item.location for item in new],
        "scene": [item.scene for item in new],
        "time": [(item.sensed - EPOCH) // timedelta(microseconds=1) for item in new],
        "epsg": [item.epsg for item in new],
        "resampled": [item.resampled for item in new],
        "position_error_m": [item.position_error_m for item in new],
        "nodata_fraction": [item.nodata_fraction for item in new],
        "cloud_fraction": [item.cloud_fraction for item in new],
        "sha256": [item.sha256 for item in new],
        "superseded_by": [""] * len(new),
    }
    for name in LATER:
        if name not in group:
            layout.create_column(group, name, held)
    for gsd in product.resolutions_m:
        rows[layout.affine_name(gsd)] = [item.affines[gsd] for item in new]
    absent = np.full(len(product.bands), np.nan)
    for name in layout.CALIBRATION:
        brought = any(name in item.calibration for item in new)
        if brought and name not in group:
            layout.create_calibration(group, product, name, held)
        if name in group:
            rows[name] = np.stack([item.calibration.get(name, absent) for item in new])
    layout.append_rows(group, rows)


def _check_sample(product: Product, sample: Sample) -> None:
    """Refuse what would not be stored bit for bit."""
    reasons = []
    bands = len(product.bands)
    if sample.product != product.id:
        reasons.append(f"it is of {sample.product}, not {product.id}")
    if set(sample.pixels) != set(product.resolutions_m) or set(sample.affines) != set(product.resolutions_m):
        reasons.append(f"it needs pixels and affines at {product.resolutions_m} m")
    for gsd, values in sample.pixels.items():
        if values.dtype.newbyteorder("=") != np.dtype(product.dtype):
            reasons.append(f"pixels at {gsd:g} m are {values.dtype}, not {product.dtype}")
        if values.ndim != 3 or values.shape[0] != len(product.bands_at(gsd)):
            reasons.append(f"pixels at {gsd:g} m have shape {values.shape}, not (band, y, x)")
    if sample.quality.dtype != np.uint8 or sample.quality.ndim != 2:
        reasons.append("quality is not uint8 (y, x)")
    for name in layout.CALIBRATION:
        values = getattr(sample, name)
        if not (values is None and name in layout.OPTIONAL) and np.shape(values) != (bands,):
            reasons.append(f"{name} needs one value per band")
    if sample.sensed.tzinfo is None:
        reasons.append("its sensing time has no time zone")
    if reasons:
        raise CubeError(
            "sample-mismatch",
            "; ".join(reasons),
            subject=sample.id,
            next_step="the reader that made the sample is at fault; report it",
        )


def _check_shapes(group: zarr.Group, product: Product, spool: Spool) -> None:
    held = {
        gsd: layout.array(group, "quality" if gsd is None else array_name(gsd)).shape[1:]
        for gsd in (*product.resolutions_m, None)
    }
    for item in spool:
        for gsd, shape in held.items():
            if item.places[gsd][1] != shape:
                raise CubeError(
                    "sample-mismatch",
                    f"shape {item.places[gsd][1]} where the cube's samples have {shape}",
                    subject=item.id,
                    next_step="a cube's samples have one size; use a new cube for another size",
                )


def _check_unchanged(known: Location, location: Location) -> None:
    exact = ("epsg", "split", "block")
    close = {"x": 0.01, "y": 0.01, "size_m": 0.01}
    changed = [name for name in exact if getattr(known, name) != getattr(location, name)]
    changed += [
        name
        for name, metres in close.items()
        if not math.isclose(getattr(known, name), getattr(location, name), rel_tol=0, abs_tol=metres)
    ]
    if changed:
        raise CubeError(
            "location-changed",
            f"its {', '.join(changed)} differ from what the cube holds",
            subject=location.id,
            next_step="a location keeps its place and split; sample under a new id, or start a new cube",
        )


def _values(group: zarr.Group, name: str) -> Any:
    return layout.array(group, name)[:]
