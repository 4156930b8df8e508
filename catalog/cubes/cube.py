"""A cube: one Icechunk repository of samples, read by snapshot and written by commit."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import icechunk
import numpy as np
from numpy.typing import ArrayLike, NDArray

from catalog.cubes import compact, expire, export, history, layout, object_storage, verify
from catalog.cubes.chunk_files import ChunkFiles
from catalog.cubes.chunks import ChunkReader
from catalog.cubes.compact import Compacted
from catalog.cubes.expire import Expired
from catalog.cubes.export import Exported, Format
from catalog.cubes.history import Version
from catalog.cubes.pixels import PixelWriting
from catalog.cubes.place import Place, open_repository, place_of
from catalog.cubes.publish import MAIN, commit_session, publish
from catalog.cubes.reader import SnapshotReader
from catalog.cubes.writer import COMMIT_EVERY_BYTES, CubeWriter
from catalog.products.model import Product
from catalog.samples import Location
from catalog.scenes import Scene
from catalog.settings import Settings, load_settings

if TYPE_CHECKING:
    import pandas as pd

SNAPSHOTS_KEPT_OPEN = 4


class Cube:
    """Reads and writes one cube. Made by ``open_cube``.

    Wherever a ``snapshot`` is asked for, a branch or tag name will do as well, and None means the newest.
    """

    def __init__(
        self,
        place: Place,
        repository: icechunk.Repository,
        *,
        spools: Path,
        chunk_samples: int | None = None,
    ) -> None:
        self.name = place.name
        self.place = place
        self.repository = repository
        self._spools = spools
        self._chunk_samples = chunk_samples
        self._readers: dict[str, SnapshotReader] = {}
        self._lock = threading.Lock()

    def snapshot(self, ref: str = MAIN) -> str:
        """The snapshot id that a branch, a tag or an id means now."""
        with object_storage.told(self.place.url):
            return object_storage.patiently(lambda: history.resolve(self.repository, ref, cube=self.name))

    def history(self, ref: str = MAIN) -> list[Version]:
        """The versions that led to ``ref``, newest first."""
        snapshot = self.snapshot(ref)
        with object_storage.told(self.place.url):
            return object_storage.patiently(lambda: history.history(self.repository, snapshot))

    def versions(self, snapshots: Sequence[str]) -> list[Version]:
        """These snapshots' own versions, whether the newest still descends from them or not."""
        return [self.history(snapshot)[0] for snapshot in snapshots]

    def tags(self) -> dict[str, str]:
        """Every tag and the snapshot it names."""
        with object_storage.told(self.place.url):
            names = object_storage.patiently(self.repository.list_tags)
            return {name: self.repository.lookup_tag(name) for name in sorted(names)}

    def tag(self, name: str, snapshot: str | None = None) -> None:
        """Name a snapshot for good."""
        with object_storage.told(self.place.url), self.place.locked():
            history.tag(self.repository, name, self.reader(snapshot).snapshot, cube=self.name)

    def reader(self, snapshot: str | None = None) -> SnapshotReader:
        """The snapshot, open for reading; the last few stay open with their tables cached."""
        with self._lock:
            if snapshot not in self._readers:
                snapshot = self.snapshot(snapshot or MAIN)
            reader = self._readers.pop(snapshot, None) or SnapshotReader(self.repository, self.name, snapshot)
            self._readers[snapshot] = reader
            while len(self._readers) > SNAPSHOTS_KEPT_OPEN:
                del self._readers[next(iter(self._readers))]
            return reader

    def products(self, snapshot: str | None = None) -> dict[str, Product]:
        """Products the cube knows, by id, as they were when their samples were written."""
        return self.reader(snapshot).products()

    def columns(self, product: str, snapshot: str | None = None) -> pd.DataFrame:
        """One row per sample, in the cube's order.

        Columns: ``sample``, ``location``, ``scene`` (text), ``time`` (UTC), ``epsg``, ``resampled``,
        ``position_error_m`` (NaN where the product's own grid places the scene), ``nodata_fraction``,
        ``cloud_fraction`` (NaN where no QA layer tells), ``sha256``, ``superseded_by``
        (scene id, or empty) and ``row``, which ``read`` takes.
        """
        return self.reader(snapshot).columns(product)

    def scenes(self, product: str, snapshot: str | None = None) -> dict[str, Scene]:
        """Scenes with at least one sample, by id."""
        return self.reader(snapshot).scenes(product)

    def locations(self, snapshot: str | None = None) -> list[Location]:
        """Locations, in the order they were added."""
        return self.reader(snapshot).locations()

    def read(self, product: str, gsd_m: float, rows: ArrayLike, snapshot: str | None = None) -> NDArray[Any]:
        """Raw pixels ``(len(rows), band, y, x)`` of one native resolution, in product band order.

        Rows come in any order, also twice; each chunk is read once. Rows of one chunk cost little more than
        one of them.
        """
        return self.reader(snapshot).pixels(product, gsd_m, rows)

    def read_quality(self, product: str, rows: ArrayLike, snapshot: str | None = None) -> NDArray[np.uint8]:
        """Flags of ``catalog.quality`` ``(len(rows), y, x)`` on the QA layer's grid."""
        return self.reader(snapshot).rows_of(product, "quality", rows)

    def calibration(
        self, product: str, rows: ArrayLike, snapshot: str | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """``scale``, ``offset``, ``k1`` and ``k2``, each ``(len(rows), band)``; NaN where unused."""
        reader = self.reader(snapshot)
        group = reader.group(product)
        shape = (np.size(rows), len(reader.products()[product].bands))
        return {
            name: reader.table(product, name, rows) if name in group else np.full(shape, np.nan)
            for name in layout.CALIBRATION
        }

    def affine(
        self, product: str, gsd_m: float, rows: ArrayLike, snapshot: str | None = None
    ) -> NDArray[np.float64]:
        """Exact affines ``(len(rows), 6)`` in ``catalog.grids.Affine`` order, CRS units per pixel."""
        return self.reader(snapshot).table(product, layout.affine_name(gsd_m), rows)

    def chunk_samples(self, product: str, snapshot: str | None = None) -> int:
        """Rows per pixel chunk; rows of equal ``row // n`` share one chunk at every resolution."""
        return int(self.reader(snapshot).array(product, "quality").chunks[0])

    def chunks(self, product: str, names: Sequence[str], snapshot: str | None = None) -> ChunkReader:
        """Reads whole chunks of pixel arrays (``r10m`` …, ``quality``), as the loader does."""
        reader = self.reader(snapshot)
        files = (
            ChunkFiles(self.repository, reader.snapshot, self.place.folder) if self.place.is_local else None
        )
        return ChunkReader(reader, product, names, files)

    def session_store(self, snapshot: str | None = None) -> icechunk.IcechunkStore:
        """A read-only Zarr store: ``xr.open_zarr(store, group=product, consolidated=False)`` opens it."""
        return self.reader(snapshot).store

    def verify(self, snapshot: str | None = None) -> list[str]:
        """Re-read everything and compare every sample's SHA-256; problems, one line each."""
        # A reader of its own: what is checked comes from the store, not from a cache.
        return verify.verify(SnapshotReader(self.repository, self.name, self.reader(snapshot).snapshot))

    @contextmanager
    def write(
        self,
        message: str,
        *,
        pixels: PixelWriting | None = None,
        commit_every_bytes: int = COMMIT_EVERY_BYTES,
    ) -> Iterator[CubeWriter]:
        """Collect what one commit adds, and commit it at the end of the block.

        An error in the block leaves the cube as it was. Nothing new makes no commit. ``writer.result`` tells.
        A caller that says where it may be done (``writer.commit_if_full``) gets a commit for every
        ``commit_every_bytes`` of raw pixels. ``pixels`` has the pixels written elsewhere than here.

        Raises
        ------
        CubeError: ``main-moved``, ``store-unreachable`` (S3), ``cube-busy`` (local disk), and those of
            ``CubeWriter``.
        """
        with object_storage.told(self.place.url):
            writer = CubeWriter(
                self.place,
                self.repository,
                message,
                self._spools,
                self._chunk_samples,
                pixels,
                commit_every_bytes,
            )
            try:
                yield writer
                writer.end()
            finally:
                writer.close()

    def compact(self) -> Compacted:
        """Order samples by (block, location, time) again in every product, in a new snapshot.

        Does nothing where they are. Rows change, ids and pixels do not; see ``catalog.cubes.compact``.

        Raises
        ------
        CubeError: ``main-moved`` (S3), ``cube-busy`` (local disk), ``unreadable-chunk``, ``cube-damaged``.
        """
        return compact.compact(self.place, self.repository)

    def expire(self, older_than: datetime, *, keep: Collection[str] = (), dry_run: bool = False) -> Expired:
        """Let snapshots go that were written before a time, with the bytes that only they need.

        The newest stays, and what a tag or branch names, and the ids in ``keep``; a mapping says why.

        Raises
        ------
        CubeError: ``cube-busy`` (local disk).
        """
        with object_storage.told(self.place.url):
            done = expire.expire(
                self.place, self.repository, older_than, keep=keep, dry_run=dry_run, scratch=self._spools
            )
        if not dry_run:
            with self._lock:
                for snapshot in done.snapshots:
                    self._readers.pop(snapshot, None)
        return done

    def export(
        self,
        to: Path,
        *,
        product: str | None = None,
        snapshot: str | None = None,
        format: Format = "zarr",
    ) -> Exported:
        """Copy a snapshot to a plain Zarr folder, a ``.zip`` of one, or a folder of GeoTIFFs.

        Raises
        ------
        UsageError: ``path-taken``.
        CubeError: ``product-not-in-cube``, ``unreadable-chunk``.
        """
        return export.export(self.reader(snapshot), to, product=product, format=format)

    def declare(self, products: Sequence[Product]) -> str:
        """Make products known before their first sample; returns the snapshot.

        Raises
        ------
        CubeError: ``product-changed``.
        """
        with commit_session(self.place, self.repository) as session:
            root = layout.open_root(session.store, write=True)
            new = [product.id for product in products if product.id not in root]
            for product in products:
                layout.declare_product(root, product)
            if not new:
                return session.snapshot_id
            return publish(self.place, session, f"declare {', '.join(new)}", {})


def open_cube(
    name: str,
    settings: Settings | None = None,
    *,
    create: bool = False,
    products: Sequence[Product] | None = None,
    chunk_samples: int | None = None,
) -> Cube:
    """Open the cube ``STORE/cubes/NAME``.

    ``create`` makes it where it is missing, with ``products`` known to it; they must be what it holds.
    ``chunk_samples`` is the chunk length of products that get their first sample through this object
    (default: chunks of about 8 MB).

    Raises
    ------
    CubeError: ``cube-not-found``, ``store-unreachable``, ``not-a-cube``, ``product-changed``.
    """
    settings = settings or load_settings()
    place = place_of(name, settings)
    repository = open_repository(place, create=create)
    cube = Cube(place, repository, spools=settings.home / "spool", chunk_samples=chunk_samples)
    known = cube.products()
    for product in products or ():
        if product.id in known:
            layout.check_definition(known[product.id], product)
    if create and any(product.id not in known for product in products or ()):
        cube.declare(products or ())
    return cube
