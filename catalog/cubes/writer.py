"""Appends samples to a cube: takes them as they come, then writes them in order in one commit."""

from __future__ import annotations

import json
import logging
import random
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import icechunk
import zarr

from catalog.cubes import layout, object_storage
from catalog.cubes.column_writing import write_columns
from catalog.cubes.pixels import PixelWriting, PlainWriting
from catalog.cubes.place import Place
from catalog.cubes.publish import MAIN, commit_session, publish
from catalog.cubes.reader import SnapshotReader
from catalog.cubes.sample_checks import check_sample, check_shapes, check_unchanged
from catalog.cubes.spool import Spool, Spooled
from catalog.errors import CubeError
from catalog.products.model import Product
from catalog.samples import Location, Sample
from catalog.scenes import Scene

logger = logging.getLogger(__name__)

COMMIT_TRIES = 16
"""In S3, where somebody is first in every race: as many writers at once get their turn."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
"""Bounds of the pause before another try double up to this; the pause itself is drawn at random."""

COMMIT_EVERY_BYTES = 8 << 30
"""Raw bytes after which a large write commits what it has: bounds the disk it needs and what a kill costs."""


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

    Samples may also come without pixels (``Spooled`` with a ``source``), for a ``PixelWriting`` that knows
    where those lie.
    """

    def __init__(
        self,
        place: Place,
        repository: icechunk.Repository,
        message: str,
        spools: Path,
        chunk_samples: int | None,
        pixels: PixelWriting | None = None,
        commit_every_bytes: int = COMMIT_EVERY_BYTES,
    ) -> None:
        self._place = place
        self._repository = repository
        self._message = message
        self._spools = spools
        self._chunk_samples = chunk_samples
        self._pixels = pixels or PlainWriting()
        self._commit_every_bytes = commit_every_bytes
        self._base = SnapshotReader(repository, place.name, repository.lookup_branch(MAIN))
        self._known_locations = {location.id: location for location in self._base.locations()}
        self._locations: dict[str, Location] = {}
        self._listed: dict[str, set[str]] = {}
        self._held: dict[str, set[str]] = {}
        self._products: dict[str, Product] = {}
        self._scenes: dict[str, dict[str, Scene]] = {}
        self._spooled: dict[str, Spool] = {}
        self._supersessions: dict[tuple[str, str], str] = {}
        self._skipped = 0
        self._open = ExitStack()
        self._result: WriteResult | None = None
        self._portions: list[WriteResult] = []
        self._ended = False

    @property
    def result(self) -> WriteResult:
        """What was written; there once the ``with`` block has ended without an error."""
        if not self._ended:
            raise CubeError(
                "not-committed",
                "the write has not ended, or it failed",
                subject=self._place.name,
                next_step="read the result after the `with` block",
            )
        return _together(self._portions)

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
                check_unchanged(known, location)

    def append(self, product: Product, samples: Iterable[Sample | Spooled], scenes: Iterable[Scene]) -> None:
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
        documents = self._scenes.setdefault(product.id, {})
        documents.update((scene.id, scene) for scene in scenes)
        held = self._held_samples(product.id, documents)
        if product.id not in self._spooled:
            self._spooled[product.id] = self._open.enter_context(Spool(self._spools))
        spool = self._spooled[product.id]
        for sample in samples:
            if sample.id in held or sample.id in spool:
                self._skipped += 1
                continue
            if isinstance(sample, Sample):
                check_sample(product, sample)
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
            if isinstance(sample, Sample):
                spool.add(sample)
            else:
                spool.note(sample)

    def supersede(self, old_scene: str, new_scene: str, product: str) -> None:
        """Mark the old scene's samples as replaced, in the new snapshot only."""
        if old_scene != new_scene:
            self._supersessions[product, old_scene] = new_scene

    def commit(self) -> None:
        """Write and publish what was taken since the last commit."""
        wanted = any(len(spool) for spool in self._spooled.values()) or self._supersessions
        if not wanted:
            self._result = WriteResult(self._base.snapshot, False, {}, self._skipped)
            return
        for attempt in range(COMMIT_TRIES):
            try:
                self._result = self._commit_once()
                return
            except CubeError as error:
                # On a local disk the lock keeps others out: there it can only be that somebody ignored it.
                beaten = error.code == "main-moved" and not self._place.is_local
                if not (beaten or object_storage.was_cut_off(error)) or attempt == COMMIT_TRIES - 1:
                    raise
                why = "another writer was first" if beaten else "an answer of the store was cut off"
            pause_s = random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt))
            logger.info("%s: %s; again in %.1f s", self._place.name, why, pause_s)
            time.sleep(pause_s)

    def _commit_once(self) -> WriteResult:
        """Write what the newest snapshot does not hold, and publish it; the spools stay as they are."""
        with commit_session(self._place, self._repository) as session:
            moved = session.snapshot_id != self._base.snapshot
            root = layout.open_root(session.store, write=True)
            self._write_locations(root, moved)
            appended = {}
            skipped = self._skipped
            for product_id, spool in self._spooled.items():
                count = self._write_product(session, root, self._products[product_id], spool, moved)
                skipped += len(spool) - count
                if count:
                    appended[product_id] = count
            superseded, pairs = self._mark_superseded(root)
            if not appended and not superseded:
                return WriteResult(session.snapshot_id, False, {}, skipped, {})
            metadata = {"appended": appended, "superseded": pairs}
            snapshot = publish(self._place, session, self._message, metadata)
            return WriteResult(snapshot, True, appended, skipped, superseded)

    def commit_if_full(self) -> None:
        """Commit what was taken so far where that is much; called between scenes, never within one.

        The block's end commits the rest. A run that is killed in between has lost the open portion only.
        """
        if sum(spool.nbytes for spool in self._spooled.values()) < self._commit_every_bytes:
            return
        self._portions.append(self._commit_taken())
        self._base = SnapshotReader(self._repository, self._place.name, self._portions[-1].snapshot)
        self._open.close()
        for taken in (self._spooled, self._scenes, self._supersessions, self._locations):
            taken.clear()
        for known in (self._held, self._listed):
            known.clear()
        self._skipped = 0

    def end(self) -> None:
        """Commit what is left; called by ``Cube.write`` at the end of the block."""
        self._portions.append(self._commit_taken())
        self._ended = True

    def _commit_taken(self) -> WriteResult:
        self.commit()
        assert self._result is not None
        self._pixels.committed(sample for spool in self._spooled.values() for sample in spool)
        return self._result

    def close(self) -> None:
        """Drop the spools."""
        self._open.close()

    def _held_samples(self, product: str, scenes: Collection[str]) -> set[str]:
        """Ids that the cube holds; read only once it knows one of the scenes, for a new one has none."""
        if product not in self._listed:
            known = product in self._base.products()
            self._listed[product] = _scenes(self._base.group(product)) if known else set()
        if product not in self._held and not self._listed[product].isdisjoint(scenes):
            self._held[product] = self._base.sample_ids(product)
        return self._held.get(product, set())

    def _write_locations(self, root: zarr.Group, moved: bool) -> None:
        group = (
            layout.subgroup(root, layout.LOCATIONS)
            if layout.LOCATIONS in root
            else layout.create_locations(root)
        )
        held = {str(name) for name in _values(group, "id")} if moved and self._locations else set()
        new = [location for location in self._locations.values() if location.id not in held]
        if new:
            layout.append_rows(
                group, {name: [getattr(item, name) for item in new] for name in layout.LOCATION_COLUMNS}
            )

    def _write_product(
        self, session: icechunk.Session, root: zarr.Group, product: Product, spool: Spool, moved: bool
    ) -> int:
        if not len(spool):
            return 0
        group = layout.declare_product(root, product)
        if "sample" not in group:
            first = next(iter(spool))
            shapes = {gsd: first.shape(gsd)[1:] for gsd in product.resolutions_m}
            quality = first.shape(None)
            layout.create_arrays(group, product, shapes, quality, self._chunk_samples)  # type: ignore[arg-type]
        check_shapes(group, product, spool)
        held: set[str] = set()
        if moved and not _scenes(group).isdisjoint(item.scene for item in spool):
            held = {str(name) for name in _values(group, "sample")}
        new = sorted((item for item in spool if item.id not in held), key=self._order)
        if new:
            self._pixels.write(session, product, spool, new)
            write_columns(group, product, new)
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


def _together(portions: list[WriteResult]) -> WriteResult:
    """One result of several commits."""
    appended: Counter[str] = Counter()
    superseded: Counter[str] = Counter()
    for portion in portions:
        appended.update(portion.appended)
        superseded.update(portion.superseded)
    return WriteResult(
        portions[-1].snapshot,
        any(portion.committed for portion in portions),
        dict(appended),
        sum(portion.skipped for portion in portions),
        dict(superseded),
    )


def _scenes(group: zarr.Group) -> set[str]:
    """Scenes that a product's group lists: those of all its samples."""
    if layout.SCENES not in group:
        return set()
    return {str(name) for name in _values(layout.subgroup(group, layout.SCENES), "scene")}


def _values(group: zarr.Group, name: str) -> Any:
    return object_storage.patiently(lambda: layout.array(group, name)[:])
