"""``swath cubes``: what its commands do to a cube, and what they print."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from typer.testing import CliRunner

from catalog.cubes import Cube, open_cube
from catalog.database import open_database
from catalog.encoders import open_catalog
from catalog.runs import Runs
from catalog.settings import load_settings
from tests.catalog.cubes.made_up import location, product, sample, scene
from tests.catalog.encoder_folders import encoder_folder, manifest, mlm_item
from tests.flows.installation import command

OPTICAL = product()


@pytest.fixture(autouse=True)
def swath_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SWATH_STORE", "SWATH_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def cube() -> Cube:
    """Three commits, the newest dates first."""
    made = open_cube("demo", create=True, chunk_samples=4)
    for number in (2, 1, 0):
        with made.write(f"scene {number}") as writer:
            writer.add_locations(location(i) for i in range(3))
            samples = (sample(OPTICAL, number, i) for i in range(3))
            writer.append(OPTICAL, samples, [scene(number, OPTICAL)])
    return made


def swath(*arguments: str) -> Any:
    """The JSON document that ``swath cubes …`` prints."""
    from flows.commands.cubes import app

    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def said(*arguments: str) -> str:
    """What ``swath cubes …`` prints for people."""
    from flows.commands.cubes import app

    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*arguments: str, status: int) -> str:
    """The line with which the installed command refuses."""
    done = subprocess.run(
        command("cubes", *arguments), env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    return done.stderr


def test_history_tells_what_each_snapshot_added_and_which_tags_name_it(cube: Cube) -> None:
    first = cube.history()[-1].id
    cube.tag("owl.1", first)
    rows = swath("history", "demo")
    assert [row["snapshot"] for row in rows] == [version.id for version in cube.history()]
    assert all(row["appended"] == {OPTICAL.id: 3} for row in rows)
    assert [row["tags"] for row in rows] == [[], [], ["owl.1"]]
    assert "owl.1" in said("history", "demo")


def test_history_shows_tagged_snapshots_after_the_ones_between_have_expired(cube: Cube) -> None:
    newest, _, first = (version.id for version in cube.history())
    cube.tag("owl.1", first)
    swath("expire", "demo", "--older-than", "0m")
    assert [(row["snapshot"], row["tags"]) for row in swath("history", "demo")] == [
        (newest, []),
        (first, ["owl.1"]),
    ]


def test_compact_orders_once_and_then_says_that_nothing_is_to_be_done(cube: Cube) -> None:
    before = cube.snapshot()
    done = swath("compact", "demo")
    assert (done["changed"], done["snapshot"]) == (True, cube.snapshot())
    assert done["moved"] == {OPTICAL.id: 8}
    assert list(cube.columns(OPTICAL.id)["location"]) == ["p000"] * 3 + ["p001"] * 3 + ["p002"] * 3
    assert "nothing was changed" in said("compact", "demo")
    assert swath("verify", "demo") == {"cube": "demo", "problems": []}
    assert swath("verify", "demo", "--snapshot", before)["problems"] == []


def test_expire_takes_what_is_old_enough_and_nothing_on_a_dry_run(cube: Cube) -> None:
    newest, second, first = (version.id for version in cube.history())
    assert swath("expire", "demo")["expired"] == []
    told = swath("expire", "demo", "--older-than", "0m", "--dry-run")
    assert (told["expired"], told["kept"]) == ([first, second], {newest: "the newest"})
    assert len(cube.history()) == 3
    done = swath("expire", "demo", "--older-than", "0m")
    assert (done["expired"], done["bytes_freed"]) == (told["expired"], told["bytes_freed"])
    assert [version.id for version in cube.history()] == [newest]
    assert "freed" in said("expire", "demo")


def test_expire_keeps_what_an_encoder_or_a_resumable_run_needs(cube: Cube, tmp_path: Path) -> None:
    newest, second, first = (version.id for version in cube.history())
    catalog = open_catalog()
    catalog.register(
        encoder_folder(tmp_path / "encoder"),
        manifest("id-1", snapshots={"demo": first}),
        name="owl",
        metrics={},
        mlm_item=mlm_item("owl"),
    )
    runs = Runs(open_database(load_settings()))
    started = {"kind": "pretrain", "flow": "pretrain", "recipe": "demo"}
    runs.start("run-7", **started, manifest={"encoder": "owl", "snapshot": second})
    kept = {first: "encoder owl@1", second: "run run-7 (running)", newest: "the newest"}
    done = swath("expire", "demo", "--older-than", "0m")
    assert (done["expired"], done["kept"]) == ([], kept)
    assert open_cube("demo").verify(first) == []

    runs.finish("run-7")
    runs.start("run-8", **started, manifest={"encoder": "owl", "snapshot": newest})
    runs.finish("run-8")
    assert swath("expire", "demo", "--older-than", "0m")["expired"] == [second]
    assert open_cube("demo").verify(first) == []


def test_export_copies_a_snapshot_that_xarray_opens(cube: Cube, tmp_path: Path) -> None:
    done = swath("export", "demo", "--to", str(tmp_path / "copy"), "--product", OPTICAL.id)
    assert (done["snapshot"], done["samples"]) == (cube.snapshot(), {OPTICAL.id: 9})
    assert xr.open_zarr(tmp_path / "copy", group=OPTICAL.id, consolidated=False)["r10m"].shape[0] == 9
    tiffs = swath("export", "demo", "--to", str(tmp_path / "tiffs"), "--format", "geotiff")
    assert tiffs["files"] == len(list((tmp_path / "tiffs").rglob("*.tif"))) == 9 * 4
    assert "9 samples" in said("export", "demo", "--to", str(tmp_path / "copy.zip"))


def test_what_makes_no_sense_is_refused_with_a_next_step(cube: Cube, tmp_path: Path) -> None:
    assert "[path-taken] Next:" in refused("export", "demo", "--to", str(tmp_path), status=2)
    assert "[bad-format] Next:" in refused(
        "export", "demo", "--to", str(tmp_path / "x"), "--format", "hdf5", status=2
    )
    assert "[bad-age] Next:" in refused("expire", "demo", "--older-than", "old", status=2)
    assert "[cube-not-found] Next:" in refused("compact", "none", status=1)
