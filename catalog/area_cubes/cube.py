"""An area cube: where it lies, what it holds, and how one commit changes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import icechunk
import numpy as np
import zarr

from catalog.area_cubes import layout
from catalog.cubes.layout import check_definition as check_pixels
from catalog.cubes.place import Place, open_repository, place_of, quieten, storage_at
from catalog.cubes.publish import MAIN, commit_session, publish
from catalog.errors import CubeError
from catalog.grids import Grid
from catalog.products.model import Product
from catalog.runs import run_identity
from catalog.scenes import Scene
from catalog.settings import Settings, load_settings

FOLDER = "area-cubes"


@dataclass(frozen=True)
class Step:
    """One time of a product: scenes of one pass, in the order in which they fill pixels."""

    scenes: tuple[Scene, ...]

    @property
    def time(self) -> datetime:
        """Sensing time of the first scene, UTC."""
        return min(scene.sensed for scene in self.scenes).astimezone(UTC)

    @property
    def platform(self) -> str:
        return self.scenes[0].platform

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(scene.id for scene in self.scenes)

    @property
    def keys(self) -> frozenset[str]:
        """What versions of the same observations share."""
        return frozenset(scene.key for scene in self.scenes)

    @property
    def digest(self) -> str:
        """Changes with what the pixels are made of."""
        return run_identity(scenes=[[scene.id, *scene.version] for scene in self.scenes])


class AreaCube:
    """Reads and writes one area cube. Made by ``open_area_cube``."""

    def __init__(self, place: Place, repository: icechunk.Repository) -> None:
        self.name = place.name
        self.place = place
        self.repository = repository

    def snapshot(self) -> str:
        """The snapshot id of ``main``."""
        return self.repository.lookup_branch(MAIN)

    def store(self, snapshot: str | None = None) -> icechunk.IcechunkStore:
        """A read-only Zarr store, for ``xr.open_zarr(store, group="PRODUCT/r10m", consolidated=False)``."""
        return self.repository.readonly_session(snapshot_id=snapshot or self.snapshot()).store

    def root(self, snapshot: str | None = None) -> zarr.Group | None:
        """The root group; None where nothing was committed yet."""
        snapshot = snapshot or self.snapshot()
        if next(iter(self.repository.ancestry(snapshot_id=snapshot))).parent_id is None:
            return None
        return layout.open_root(self.store(snapshot))

    def products(self, snapshot: str | None = None) -> dict[str, Product]:
        """Products of the cube, by id, as they were when their first pixels were written."""
        root = self.root(snapshot)
        if root is None:
            return {}
        return {
            name: Product.model_validate(json.loads(str(group.attrs["product"])))
            for name, group in sorted(root.groups())
            if "product" in group.attrs
        }

    def grids(self, product: str, snapshot: str | None = None) -> dict[float, Grid]:
        """Ground sampling → grid of the area."""
        held: Any = self.group(product, snapshot).attrs["grids"]
        return {float(gsd): layout.grid_from(document) for gsd, document in held.items()}

    def steps(self, product: str, snapshot: str | None = None) -> list[Step]:
        """The product's time steps, in the cube's order."""
        documents = layout.array(self.group(product, snapshot), f"{layout.STEPS}/documents")
        return [
            Step(tuple(Scene.from_dict(scene) for scene in json.loads(str(document))))
            for document in np.asarray(documents[:])
        ]

    def refused(self, product: str, snapshot: str | None = None) -> dict[str, str]:
        """Scene id → why it is not in the cube."""
        held: Any = self.group(product, snapshot).attrs["refused"]
        return {str(scene): str(why) for scene, why in held.items()}

    def group(self, product: str, snapshot: str | None = None) -> zarr.Group:
        """A product's group.

        Raises
        ------
        CubeError: ``product-not-in-cube``.
        """
        root = self.root(snapshot)
        if root is None or product not in root:
            raise CubeError(
                "product-not-in-cube",
                f"the area cube holds no {product}",
                subject=self.name,
                next_step=f"it holds {', '.join(self.products()) or 'nothing'}; see `swath run area`",
            )
        return layout.subgroup(root, product)

    @contextmanager
    def write(self, message: str) -> Iterator[AreaCubeWriter]:
        """Change the cube in one commit, made at the end of the block if anything was changed.

        An error in the block leaves the cube as it was. On a local disk, one process writes at a time.

        Raises
        ------
        CubeError: ``main-moved`` (S3), ``cube-busy`` (local disk).
        """
        with commit_session(self.place, self.repository) as session:
            writer = AreaCubeWriter(session)
            yield writer
            writer.snapshot = session.snapshot_id
            if writer.changes:
                writer.snapshot = publish(self.place, session, message, {"changes": writer.changes})


class AreaCubeWriter:
    """What one commit adds to an area cube."""

    def __init__(self, session: icechunk.Session) -> None:
        self.session = session
        self.root = layout.open_root(session.store, write=True)
        self.changes: dict[str, int] = {}
        """What was changed → how many time steps."""
        self.snapshot = session.snapshot_id
        """The newest one, once the block has ended."""

    def declare(
        self, product: Product, grids: Mapping[float, Grid], chunks_px: Mapping[float, int]
    ) -> zarr.Group:
        """The product's group, made where it is missing.

        Raises
        ------
        CubeError: ``area-cube-changed``, it lies on another grid; ``product-changed``, it has other bands.
        """
        if product.id not in self.root:
            layout.create_product(self.root, product, grids, chunks_px)
        group = layout.subgroup(self.root, product.id)
        check_definition(group, product, grids)
        return group

    def note_refused(self, product: str, reasons: Mapping[str, str]) -> None:
        """Keep why scenes are not in the cube, so that the next run need not look at them again."""
        group = layout.subgroup(self.root, product)
        held: Any = group.attrs["refused"]
        group.update_attributes({"refused": {**held, **reasons}})
        self.note_change(f"{product}: refused", len(reasons))

    def note_change(self, what: str, steps: int) -> None:
        """Count changed time steps; without any there is no commit."""
        self.changes[what] = self.changes.get(what, 0) + steps


def check_definition(group: zarr.Group, product: Product, grids: Mapping[float, Grid]) -> None:
    """Refuse to mix what cannot lie in one array.

    Raises
    ------
    CubeError: ``area-cube-changed``, ``product-changed``.
    """
    held = Product.model_validate(json.loads(str(group.attrs["product"])))
    kept: Any = group.attrs["grids"]
    if kept != {f"{gsd:g}": layout.grid_document(grid) for gsd, grid in grids.items()}:
        raise CubeError(
            "area-cube-changed",
            f"the area cube holds {product.id} on another grid",
            subject=product.id,
            next_step="undo the change of `area` or `area_cube.epsg`, or give the area cube another `name`",
        )
    check_pixels(held, product)


def area_place(name: str, settings: Settings | None = None) -> Place:
    """Where the area cube of this name lies, or would: ``STORE/area-cubes/NAME``."""
    settings = settings or load_settings()
    return Place(place_of(name, settings).name, f"{settings.store}/{FOLDER}/{name}")


def open_area_cube(name: str, settings: Settings | None = None, *, create: bool = False) -> AreaCube:
    """Open ``STORE/area-cubes/NAME``, made where it is missing and ``create`` is set.

    Raises
    ------
    CubeError: ``area-cube-not-found``, ``store-unreachable``.
    """
    place = area_place(name, settings)
    if not create and not place.exists():
        known = ", ".join(list_area_cubes(settings))
        raise CubeError(
            "area-cube-not-found",
            f"there is no area cube of this name in the store{'; there are ' + known if known else ''}",
            subject=name,
            next_step="make it with `swath run area`",
        )
    return AreaCube(place, open_repository(place, create=create))


def list_area_cubes(settings: Settings | None = None) -> list[str]:
    """Names of the area cubes in the store, sorted."""
    settings = settings or load_settings()
    if settings.store_is_local:
        return sorted(path.parent.name for path in (settings.store_path / FOLDER).glob("*/repo"))
    quieten()
    below = storage_at(f"{settings.store}/{FOLDER}")
    keys = [item.key for item in below.list_objects_metadata()]
    return sorted(key.split("/")[0] for key in keys if re.fullmatch(r"[^/]+/repo", key))
