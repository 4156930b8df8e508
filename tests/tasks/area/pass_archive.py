"""Scenes of a few passes over one area, served as files, and an area cube to bring them into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.area_cubes import AreaCube, layout, open_area_cube
from catalog.grids import Grid, north_up
from catalog.products import Product
from catalog.products.model import array_name
from catalog.scenes import Scene
from tasks.area.build import ProductBuild, build_product, reader_for
from tasks.area.grid import AreaGrid
from tasks.area.passes import passes
from tasks.readers.registry import load_reader
from tests.tasks.range_server import RangeServer
from tests.tasks.scene_files import EPSG, NORTH, WEST, SceneFiles, archive_at, built_in, write_scene

SIDE_M = 1200.0
FIRST = datetime(2022, 6, 1, 10, 20, tzinfo=UTC)


@dataclass
class PassArchive:
    """Sentinel-2 scenes in the west and in the east of an area; they overlap by a quarter."""

    server: RangeServer
    product: Product = field(default_factory=lambda: built_in("sentinel-2-l2a"))
    files: dict[str, SceneFiles] = field(default_factory=dict)

    def add(self, name: str, *, day: float, east: bool = False, **more: Any) -> Scene:
        """Write the files of a scene sensed some days after ``FIRST``."""
        files = write_scene(
            self.server.folder,
            self.server.url,
            self.product,
            name,
            seed=len(self.files),
            side_m=SIDE_M,
            west=WEST + (SIDE_M * 0.75 if east else 0.0),
            **more,
        )
        scene = replace(files.scene, sensed=FIRST + timedelta(days=day), tile="32UQU" if east else "32UPU")
        self.files[name] = SceneFiles(scene, files.arrays)
        return scene

    @property
    def grid(self) -> AreaGrid:
        """The whole of both, and a margin that nobody covers; in four tiles."""
        width, height = SIDE_M * 1.75 + 240, SIDE_M + 120
        grids = {
            gsd: north_up(EPSG, WEST - 120, NORTH + 60, gsd, (round(height / gsd), round(width / gsd)))
            for gsd in sorted({*self.product.resolutions_m, layout.quality_gsd_m(self.product)})
        }
        return AreaGrid(grids, 1200.0)

    def build(
        self, cube: AreaCube, scenes: Sequence[Scene], *, reader: str = "stackstac", **more: Any
    ) -> ProductBuild:
        """One run over these scenes."""
        with cube.write("test") as writer:
            return build_product(
                writer,
                self.product,
                self.grid,
                passes(scenes, self.product, minutes=20),
                load_reader(reader_for(reader, self.product)),
                archive_at(self.server.url),
                **more,
            )

    def truth(self, band: str, scenes: Sequence[str]) -> NDArray[Any]:
        """A band over the area, scenes filled in this order."""
        gsd = self.product.band(band).gsd_m
        whole = self.grid.grids[gsd]
        found = np.full(whole.shape, self.product.nodata, self.product.dtype)
        for name in scenes:
            values = self.files[name].arrays[band]
            west = WEST + (SIDE_M * 0.75 if self.files[name].scene.tile == "32UQU" else 0.0)
            offset = whole.window_offset(Grid(EPSG, (gsd, 0, west, 0, -gsd, NORTH), values.shape))
            assert offset is not None
            part = found[offset[0] : offset[0] + len(values), offset[1] : offset[1] + len(values)]
            np.copyto(part, values, where=part == self.product.nodata)
        return found


def pixels(cube: AreaCube, product: str, gsd: float) -> NDArray[Any]:
    """Everything a group holds."""
    return np.asarray(layout.array(cube.group(product), f"{array_name(gsd)}/pixels")[:])


def open_cube(name: str = "area") -> AreaCube:
    return open_area_cube(name, create=True)
