"""One snapshot of a cube, open for reading: tables cached, pixels read chunk by chunk."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import icechunk
import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from catalog.cubes import layout, object_storage
from catalog.cubes.columns import COLUMNS, LATER
from catalog.errors import CubeError
from catalog.products.model import Product, array_name
from catalog.samples import Location
from catalog.scenes import Scene

if TYPE_CHECKING:
    import pandas as pd

CACHED_TABLE_BYTES = 64 << 20
"""Per-sample tables (scale, offset, affine) up to this size are read once and kept."""

DAMAGE = (icechunk.IcechunkError, ValueError, RuntimeError, LookupError)
"""What Icechunk, Zarr and the codecs raise where a chunk is lost, broken or too short."""

T = TypeVar("T")


class SnapshotReader:
    """Reads one snapshot, which never changes; may be used from several threads."""

    def __init__(self, repository: icechunk.Repository, cube: str, snapshot: str) -> None:
        self.cube = cube
        self.snapshot = snapshot
        with object_storage.told(cube):
            session = object_storage.patiently(lambda: repository.readonly_session(snapshot_id=snapshot))
        self.store = session.store
        self._lock = threading.RLock()
        self._cache: dict[tuple[str, ...], Any] = {}
        try:
            with object_storage.told(cube):
                self._root: zarr.Group | None = object_storage.patiently(lambda: layout.open_root(self.store))
        except zarr.errors.GroupNotFoundError:
            self._root = None  # created, and nothing written yet

    def products(self) -> dict[str, Product]:
        """Products the cube knows, by id."""

        def read() -> dict[str, Product]:
            groups = sorted(self._root.group_keys()) if self._root else []
            return {
                name: layout.read_product(self.group(name)) for name in groups if name != layout.LOCATIONS
            }

        return dict(self._once(("products",), read))

    def group(self, product: str) -> zarr.Group:
        """A product's group.

        Raises
        ------
        CubeError: ``product-not-in-cube``, naming those that are.
        """

        def open_it() -> zarr.Group:
            if self._root is None or product == layout.LOCATIONS or product not in self._root:
                known = sorted(set(self._root.group_keys()) - {layout.LOCATIONS}) if self._root else []
                raise CubeError(
                    "product-not-in-cube",
                    f"the cube has no product {product!r}; it has: {', '.join(known) or 'none'}",
                    subject=self.cube,
                    next_step="name one of those, or acquire the product first",
                )
            return layout.subgroup(self._root, product)

        return self._once(("group", product), open_it)

    def length(self, product: str) -> int:
        """Samples of a product."""
        group = self.group(product)
        return int(self.array(product, "sample").shape[0]) if "sample" in group else 0

    def array(self, product: str, name: str) -> zarr.Array[Any]:
        """An array of a product."""
        return self._once(("array", product, name), lambda: layout.array(self.group(product), name))

    def whole(self, product: str, name: str) -> NDArray[Any]:
        """All of a small array, also of a subgroup: ``band``, ``scenes/scene``.

        Raises
        ------
        CubeError: ``unreadable-chunk``.
        """
        key = ("whole", product, name)
        return self._once(key, lambda: _plain(layout.array(self.group(product), name)[:]))

    def sample_ids(self, product: str) -> set[str]:
        """Ids of a product's samples."""
        return set(_plain(self.array(product, "sample")[:])) if self.length(product) else set()

    def columns(self, product: str) -> pd.DataFrame:
        """One row per sample; see ``Cube.columns``."""

        def read() -> pd.DataFrame:
            import pandas as pd

            group = self.group(product)
            held = self.length(product) if "sample" in group else 0
            frame = pd.DataFrame(
                {
                    column.name: _plain(layout.array(group, column.name)[:])
                    if column.name in group
                    else np.full(held, np.nan)
                    if column.name in LATER
                    else np.empty(0, object if column.dtype == "string" else column.dtype)
                    for column in COLUMNS
                }
            )
            frame["time"] = pd.to_datetime(frame["time"], unit="us", utc=True)
            frame["row"] = np.arange(len(frame))
            return frame

        # A copy, so that a caller who edits it does not edit what the next one gets.
        return self._once(("columns", product), read).copy()

    def scenes(self, product: str) -> dict[str, Scene]:
        """Scenes with at least one sample, by id."""

        def read() -> dict[str, Scene]:
            group = self.group(product)
            if layout.SCENES not in group:
                return {}
            documents = layout.array(layout.subgroup(group, layout.SCENES), "document")[:]
            scenes = (Scene.from_dict(json.loads(str(text))) for text in cast("NDArray[Any]", documents))
            return {scene.id: scene for scene in scenes}

        return dict(self._once(("scenes", product), read))

    def locations(self) -> list[Location]:
        """Every location the cube knows, in the order they were added."""

        def read() -> list[Location]:
            if self._root is None or layout.LOCATIONS not in self._root:
                return []
            group = layout.subgroup(self._root, layout.LOCATIONS)
            columns = {
                name: _plain(layout.array(group, name)[:]).tolist() for name in layout.LOCATION_COLUMNS
            }
            rows = zip(*columns.values(), strict=True)
            return [Location(**dict(zip(columns, row, strict=True))) for row in rows]

        return list(self._once(("locations",), read))

    def pixels(self, product: str, gsd_m: float, rows: ArrayLike) -> NDArray[Any]:
        """Raw pixels ``(row, band, y, x)`` of one native resolution.

        Raises
        ------
        CubeError: ``no-such-resolution``; ``row-out-of-range``; ``unreadable-chunk``.
        """
        known = layout.read_product(self.group(product)).resolutions_m
        if gsd_m not in known:
            raise CubeError(
                "no-such-resolution",
                f"{product} has no bands at {gsd_m:g} m; it has: {', '.join(f'{gsd:g}' for gsd in known)}",
                subject=self.cube,
                next_step="name one of those",
            )
        return self.rows_of(product, array_name(gsd_m), rows)

    def table(self, product: str, name: str, rows: ArrayLike) -> NDArray[np.float64]:
        """Rows of a per-sample table: ``scale``, ``affine_10m`` …; ``(row, value)``."""
        source = self.array(product, name)
        if source.nbytes > CACHED_TABLE_BYTES:
            return self.rows_of(product, name, rows)
        whole = self._once(("table", product, name), lambda: cast("NDArray[np.float64]", source[:]))
        return whole[self._checked(product, rows)]

    def rows_of(self, product: str, name: str, rows: ArrayLike) -> NDArray[Any]:
        """Arbitrary rows of an array, in the order asked for; each chunk is read once."""
        wanted = self._checked(product, rows)
        source = self.array(product, name)
        values = np.empty((len(wanted), *source.shape[1:]), source.dtype)
        for start, stop, at in _by_chunk(wanted, source.chunks[0], source.shape[0]):
            with self.damage_told(f"rows {start} to {stop - 1} of {product}/{name}"):
                here = slice(start, stop)
                chunk = cast("NDArray[Any]", object_storage.patiently(partial(source.__getitem__, here)))
                inside = wanted[at] - start
                if len(wanted) == len(chunk) and np.array_equal(inside, np.arange(len(chunk))):
                    return chunk  # one whole chunk, as the loader reads: no copy
                values[at] = chunk[inside]
        return values

    def _checked(self, product: str, rows: ArrayLike) -> NDArray[np.intp]:
        wanted = np.atleast_1d(np.asarray(rows, dtype=np.intp))
        length = self.length(product)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= length):
            raise CubeError(
                "row-out-of-range",
                f"rows of {product} run from 0 to {length - 1} in snapshot {self.snapshot}",
                subject=self.cube,
                next_step="take rows from columns() of the same snapshot",
            )
        return wanted

    @contextmanager
    def damage_told(self, what: str) -> Iterator[None]:
        """Errors of the store and the codecs as ``unreadable-chunk``, naming what was read."""
        try:
            yield
        except DAMAGE as error:
            if object_storage.is_unreachable(error):
                raise object_storage.unreachable(error, self.cube) from error
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CubeError(
                "unreadable-chunk",
                f"{what} cannot be read: {reason}",
                subject=self.cube,
                next_step=f"list the damage with `swath cubes verify {self.cube}`; restore the store, or "
                "acquire the samples again into a new cube",
            ) from error

    def _once(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        with self._lock, self.damage_told("/".join(key)):
            if key not in self._cache:
                self._cache[key] = object_storage.patiently(make)
            return cast("T", self._cache[key])


def _by_chunk(rows: NDArray[np.intp], chunk: int, length: int) -> Iterator[tuple[int, int, NDArray[np.intp]]]:
    """(first row, end row, positions in ``rows``) of every chunk that holds one of the rows."""
    chunks = rows // chunk
    order = np.argsort(chunks, kind="stable")
    edges = np.flatnonzero(np.diff(chunks[order])) + 1
    for at in np.split(order, edges) if rows.size else ():
        start = int(chunks[at[0]]) * chunk
        yield start, min(start + chunk, length), at


def _plain(values: Any) -> NDArray[Any]:
    """Zarr's strings as Python ``str`` objects, which pandas 2 handles best."""
    array = np.asarray(values)
    return array.astype(object) if array.dtype == np.dtypes.StringDType() else array
