"""Refresh after refresh: what is known costs nothing, what is new costs itself, what failed is retaken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from deployments.sandbox import SandboxInfo
from tests.flows.growing_archive import GrowingArchive, growing_archive, items_of
from tests.flows.installation import Installation, settings_of

PRODUCT = "sentinel-2-l2a"


@dataclass(frozen=True)
class Place:
    """An archive that grows, and an installation that follows it."""

    archive: GrowingArchive
    own: Installation
    ordinary: list[dict[str, Any]]
    versions: tuple[dict[str, Any], dict[str, Any]]
    """Two versions of one observation, the older first."""

    def overrides(self, *more: str) -> tuple[str, ...]:
        return (
            f"archive={self.archive.url}",
            "cube=growing",
            "products={sentinel-2-l2a: {}}",
            "period.start=2021-01-01",
            "locations.max_count=12",
            "pretrain=[]",
            "evaluate=[]",
            *more,
        )

    def refresh(self, *more: str) -> dict[str, Any]:
        recipe = ("--recipe", "sandbox", *settings_of(self.overrides(*more)))
        summary: dict[str, Any] = self.own.json("run", "refresh", *recipe)
        return summary

    def counts(self, *more: str) -> dict[str, Any]:
        found: dict[str, Any] = self.refresh(*more)["products"][PRODUCT]
        return found

    def states(self) -> dict[str, str]:
        return {row["scene"]: row["state"] for row in self.own.json("scenes", "list")}


@pytest.fixture
def place(home: Installation, sandbox: SandboxInfo, tmp_path: Path) -> Iterator[Place]:
    items = items_of(sandbox.folder)
    older, newer = sandbox.superseded[PRODUCT]
    special = {older, newer, sandbox.refused[PRODUCT]}
    clear = [
        item
        for name, item in items.items()
        if name not in special and item["properties"]["eo:cloud_cover"] < 30 and item["bbox"][0] < 12
    ]
    with growing_archive(sandbox.folder, tmp_path / "archive") as archive:
        own = replace(home, home=tmp_path / "home")
        yield Place(archive, own, clear, (items[older], items[newer]))


def test_a_refresh_costs_as_much_as_there_is_new(place: Place) -> None:
    archive = place.archive
    archive.add(*place.ordinary[:2], place.versions[0])
    first = place.counts()
    assert (first["new"], first["cubed"]) == (3, 3)
    assert archive.scenes_read() == {item["id"] for item in archive.items}
    cube = place.own.cube("growing")
    one = cube.snapshot()

    # Nothing new: no asset is read, nothing is committed.
    again = place.refresh()
    assert (again["changed"], again["snapshot"]) == (False, one)
    assert archive.scenes_read() == set()

    # One new scene: only its files are read.
    archive.add(place.ordinary[2])
    more = place.counts()
    assert (more["new"], more["known"], more["cubed"], more["superseded"]) == (1, 3, 1, 0)
    assert archive.scenes_read() == {place.ordinary[2]["id"]}
    two = cube.snapshot()
    assert set(cube.scenes(PRODUCT, two)) - set(cube.scenes(PRODUCT, one)) == {place.ordinary[2]["id"]}

    # A reprocessed scene supersedes the old one in the new snapshot; the old snapshot stays as it was.
    old, new = (item["id"] for item in place.versions)
    before = {name: list(column) for name, column in cube.columns(PRODUCT, two).items()}
    archive.add(place.versions[1])
    assert place.counts()["superseded"] == 1
    assert archive.scenes_read() == {new}
    now = cube.columns(PRODUCT)
    by: dict[str, set[str]] = {scene: set() for scene in now["scene"]}
    for scene, successor in zip(now["scene"], now["superseded_by"], strict=True):
        by[scene].add(successor)
    assert by[old] == {new}
    assert all(successors == {""} for scene, successors in by.items() if scene != old)
    after = {name: list(column) for name, column in cube.columns(PRODUCT, two).items()}
    assert json.dumps(after, default=str) == json.dumps(before, default=str)
    assert place.states()[old] == "superseded"
    assert cube.verify() == []


def test_more_places_are_read_from_scenes_that_are_cubed_already(place: Place) -> None:
    place.archive.add(*place.ordinary[:2])
    place.refresh()
    cube = place.own.cube("growing")
    before = set(zip(cube.columns(PRODUCT)["scene"], cube.columns(PRODUCT)["location"], strict=True))
    place.archive.scenes_read()
    counts = place.counts("locations.max_count=16")
    assert (counts["new"], counts["cubed"]) == (0, 2)
    pairs = list(zip(cube.columns(PRODUCT)["scene"], cube.columns(PRODUCT)["location"], strict=True))
    assert len(pairs) == len(set(pairs)) > len(before)
    assert before < set(pairs)
    assert place.refresh("locations.max_count=16")["changed"] is False


def test_a_file_that_fails_is_a_row_and_replay_takes_exactly_its_scene_again(place: Place) -> None:
    archive = place.archive
    archive.add(*place.ordinary[:3])
    broken = place.ordinary[1]["id"]
    file = archive.file(broken, "B04")
    whole = file.read_bytes()
    file.unlink()
    assert place.counts()["quarantined"] == 1
    (failure,) = place.own.json("scenes", "list", "--failed")
    assert (failure["scene"], failure["status"], failure["product"]) == (broken, 404, PRODUCT)
    assert "B04" in failure["band"]
    assert failure["attempts"] >= 1
    assert failure["href"].endswith("B04.tif")
    assert broken not in place.own.cube("growing").scenes(PRODUCT)
    shown = place.own.json("scenes", "show", broken)
    assert shown[0]["failures"] == [failure]

    # Refresh leaves it alone; replay takes it, and nothing else.
    archive.scenes_read()
    place.refresh()
    assert archive.scenes_read() == set()
    file.write_bytes(whole)
    recipe = ("--recipe", "sandbox", *settings_of(place.overrides()))
    replayed = place.own.json("scenes", "replay", *recipe)
    assert replayed["scenes"] == [broken]
    assert replayed["refresh"]["products"][PRODUCT]["cubed"] == 1
    assert archive.scenes_read() == {broken}
    assert place.own.json("scenes", "list", "--failed") == []
    assert set(place.states().values()) == {"cubed"}
    assert place.own.json("scenes", "replay")["scenes"] == []


def test_a_replay_without_a_recipe_waits_for_the_next_refresh(place: Place) -> None:
    archive = place.archive
    archive.add(*place.ordinary[:2])
    file = archive.file(place.ordinary[0]["id"], "SCL")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 3])
    place.refresh()
    assert place.states()[place.ordinary[0]["id"]] == "quarantined"
    file.write_bytes(whole)
    assert place.own.json("scenes", "replay", place.ordinary[0]["id"])["scenes"] == [place.ordinary[0]["id"]]
    assert place.states()[place.ordinary[0]["id"]] == "seen"
    assert place.counts()["cubed"] == 1


def test_a_scene_the_ledger_never_saw_cannot_be_replayed(place: Place) -> None:
    done = place.own.swath("scenes", "replay", "S2Z_NEVER")
    assert done.returncode == 1
    assert "S2Z_NEVER: the ledger has never seen it" in done.stderr


def test_a_refresh_imports_no_torch(place: Place) -> None:
    place.archive.add(place.ordinary[0])
    code = (
        "import runpy, sys\n"
        "sys.argv = ['swath', *sys.argv[1:]]\n"
        "try:\n    runpy.run_module('flows.cli', run_name='__main__', alter_sys=True)\n"
        "finally:\n    print(sorted({'torch', 'lightning', 'timm'} & set(sys.modules)), file=sys.stderr)\n"
    )
    command = ["run", "refresh", "--recipe", "sandbox", *settings_of(place.overrides())]
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        env=place.own.environment,
        cwd=place.own.elsewhere,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip().splitlines()[-1] == "[]"
