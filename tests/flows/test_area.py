"""A dense cube that follows its archive, and an encoder applied to it: ``swath run area`` and ``embed``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from catalog.area_cubes import AreaCube, open_area_cube
from deployments.sandbox import SandboxInfo
from tests.flows.growing_archive import GrowingArchive, growing_archive, items_of
from tests.flows.installation import Installation, settings_of
from tests.tasks.area.tiny_encoder import register, write_encoder

S2 = "sentinel-2-l2a"
BBOX = "[11.95, 47.99, 11.97, 48.0]"


@dataclass(frozen=True)
class Place:
    """An archive that grows, and an installation that follows it."""

    archive: GrowingArchive
    own: Installation
    items: list[dict[str, Any]]
    """Scenes of the western tile that are mostly clear, oldest first."""

    def run(self, flow: str, *more: str) -> dict[str, Any]:
        overrides = (
            f"archive={self.archive.url}",
            f"area.bbox={BBOX}",
            "products={sentinel-2-l2a: {}}",
            "period={start: 2021-01-01, end: 2023-12-31}",
            *more,
        )
        summary: dict[str, Any] = self.own.json(
            "run", flow, "--recipe", "sandbox-area", *settings_of(overrides)
        )
        return summary

    @property
    def cube(self) -> AreaCube:
        return open_area_cube("sandbox-area", self.own.settings)


@pytest.fixture
def place(home: Installation, sandbox: SandboxInfo, tmp_path: Path) -> Iterator[Place]:
    special = {*sandbox.superseded[S2], sandbox.refused[S2]}
    clear = [
        item
        for name, item in items_of(sandbox.folder).items()
        if name not in special and item["properties"]["eo:cloud_cover"] < 30 and item["bbox"][0] < 11.95
    ]
    clear.sort(key=lambda item: item["properties"]["datetime"])
    with growing_archive(sandbox.folder, tmp_path / "archive") as archive:
        yield Place(archive, replace(home, home=tmp_path / "home"), clear)


@pytest.mark.long  # eight runs of the command
def test_the_cube_follows_its_archive_and_the_embeddings_follow_the_cube(
    place: Place, tmp_path: Path
) -> None:
    archive = place.archive
    archive.add(place.items[1])
    first = place.run("area")
    assert first["changed"] and first["products"][S2]["steps_written"] == 1
    assert first["products"][S2]["assets_read"] == 13
    assert archive.scenes_read() == {place.items[1]["id"]}

    again = place.run("area")
    assert (again["changed"], again["snapshot"]) == (False, first["snapshot"])
    assert again["lines"] == ["area: nothing new; no asset read, nothing committed"]
    assert archive.scenes_read() == set()

    encoder = register(write_encoder(tmp_path / "encoder"), place.own.settings)
    settings = (f"embed={{encoder: {encoder.name}, stride_px: 6}}",)
    embedded = place.run("embed", *settings)
    assert (embedded["encoder"], embedded["steps_written"]) == (encoder.ref, 1)
    assert Path(embedded["picture"]).is_file()
    assert archive.scenes_read() == set()
    assert place.run("embed", *settings)["changed"] is False

    # An older pass comes in late: its own work, in its own place.
    archive.add(place.items[0])
    later = place.run("area")
    assert later["products"][S2]["steps_written"] == 1
    assert archive.scenes_read() == {place.items[0]["id"]}
    assert place.run("embed", *settings)["steps_written"] == 1
    store = place.cube.store()
    pixels = xr.open_zarr(store, group=f"{S2}/r10m", consolidated=False)
    vectors = xr.open_zarr(store, group=f"embeddings/{encoder.ref}", consolidated=False)
    assert pixels.scenes.values.tolist() == [item["id"] for item in place.items[:2]]
    assert vectors.scenes.values.tolist() == pixels.scenes.values.tolist()
    np.testing.assert_array_equal(vectors.time.values, pixels.time.values)
    assert vectors.attrs["lineage"]["encoder"] == encoder.ref


def test_a_recipe_that_asks_for_no_area_cube_is_bad_usage(home: Installation) -> None:
    done = home.swath("run", "area", "--recipe", "sandbox")
    assert done.returncode == 2
    assert "no-area-cube" in done.stderr and "docs/area-cubes.md" in done.stderr


def test_an_area_cube_that_is_not_there_is_said_with_the_next_step(
    home: Installation, tmp_path: Path
) -> None:
    own = replace(home, home=tmp_path / "home")
    encoder = register(write_encoder(tmp_path / "encoder"), own.settings)
    done = own.swath("run", "embed", "--recipe", "sandbox-area", "--set", f"embed.encoder={encoder.ref}")
    assert done.returncode == 1
    assert "area-cube-not-found" in done.stderr and "swath run area" in done.stderr
