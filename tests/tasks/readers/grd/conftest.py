"""A small sandbox with ground-range scenes and the terrain-corrected ones of the same passes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from catalog.cubes import Cube
from tasks.cube.scenes import CubeResult
from tests.tasks.readers.grd.grd_archive import Radar, small_radar_archive


@pytest.fixture(scope="session")
def radar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Radar]:
    """Served by a real STAC API."""
    with small_radar_archive(tmp_path_factory.mktemp("radar") / "archive") as running:
        yield running


@pytest.fixture(scope="session")
def exact(radar: Radar, tmp_path_factory: pytest.TempPathFactory) -> tuple[Cube, CubeResult]:
    """Two scenes, placed with the elevation model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_HOME", str(tmp_path_factory.mktemp("exact")))
        return radar.cubed("exact", radar.few(), dem=str(radar.dem))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
