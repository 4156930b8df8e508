"""What a user gets wrong, or an archive gives wrong, is answered by one line and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.stac_server import ArchiveServer, serve_archive
from tests.flows.installation import REPOSITORY, Installation, settings_of

ONLY_SCENES = ("pretrain=[]", "evaluate=[]")
"""A recipe that acquires and does nothing else."""


def refused(
    done: subprocess.CompletedProcess[str], *, code: str, subject: str, status: int, why: str = ""
) -> None:
    """One line on stderr says what, why and what next; stdout is empty."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert f"[{code}] Next: " in lines[0]
    assert lines[0].removeprefix("error: ").startswith(f"{subject}: "), lines[0]
    assert why in lines[0]
    assert done.stderr.rstrip().splitlines()[-1] == lines[0], "the last thing that is read"
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stdout == ""
    assert done.returncode == status


def overridden(*overrides: str, flow: str = "refresh") -> tuple[str, ...]:
    return ("run", flow, "--recipe", "sandbox", *settings_of(overrides))


RECIPE = "sandbox.yaml"
WRONG: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "unknown recipe": (
        ("run", "refresh", "--recipe", "sandbax"),
        {"code": "recipe-not-found", "subject": "sandbax", "status": 2, "why": "sandbox"},
    ),
    "recipe file that is missing": (
        ("run", "refresh", "--recipe", "mine.yaml"),
        {"code": "recipe-not-found", "subject": "mine.yaml", "status": 2},
    ),
    "unknown key": (
        overridden("area.radius=3"),
        {"code": "invalid-recipe", "subject": RECIPE, "status": 2, "why": "area.radius: unknown key"},
    ),
    "wrong value": (
        overridden("pretrain.0.steps=many"),
        {"code": "invalid-recipe", "subject": RECIPE, "status": 2, "why": "pretrain.0.steps"},
    ),
    "empty area": (
        overridden("area.bbox=[11.9, 48.0, 12.1, 48.0]"),
        {
            "code": "invalid-recipe",
            "subject": RECIPE,
            "status": 2,
            "why": "area.bbox: Value error, the area is",
        },
    ),
    "end before start": (
        overridden("period.end=2020-01-01"),
        {
            "code": "invalid-recipe",
            "subject": RECIPE,
            "status": 2,
            "why": "period: Value error, end 2020-01-01",
        },
    ),
    "unknown product": (
        overridden("products={sentinel-9: {}}", *ONLY_SCENES),
        {
            "code": "unknown-product",
            "subject": "sandbox: products.sentinel-9",
            "status": 2,
            "why": "sentinel-2-l2a",
        },
    ),
    "unknown method": (
        overridden("pretrain.1.method=telepathy"),
        {
            "code": "unknown-method",
            "subject": "sandbox: pretrain.enmap-mae-vit.method",
            "status": 2,
            "why": "mae",
        },
    ),
    "override without a value": (
        overridden("period"),
        {"code": "bad-override", "subject": "period", "status": 2},
    ),
    "override of what is not there": (
        overridden("pretrain.7.steps=3"),
        {"code": "bad-override", "subject": "pretrain.7.steps=3", "status": 2},
    ),
    "unknown flow": (
        ("run", "refrehs", "--recipe", "sandbox"),
        {"code": "unknown-flow", "subject": "refrehs", "status": 2, "why": "refresh"},
    ),
    "unknown archive": (
        overridden("archive=planetary-compuder", "cube=never"),
        {
            "code": "unknown-archive",
            "subject": "planetary-compuder",
            "status": 2,
            "why": "planetary-computer",
        },
    ),
    "unreachable archive": (
        overridden("archive=http://127.0.0.1:9", "cube=never", *ONLY_SCENES),
        {"code": "archive-unreachable", "subject": "127.0.0.1-9", "status": 1},
    ),
    "product that the archive lacks": (
        overridden("products={sentinel-1-grd: {}}", "cube=never", *ONLY_SCENES),
        {"code": "product-not-in-archive", "subject": "sentinel-1-grd", "status": 2, "why": "no collection"},
    ),
    "place without scenes to learn from": (
        overridden("cube=never", "period.start=1999-01-01", "period.end=1999-12-31", flow="data-to-model"),
        {"code": "nothing-to-learn-from", "subject": "sandbox: pretrain.s2-moco-resnet18", "status": 2},
    ),
    "unknown encoder": (
        ("encoders", "show", "s2-moco-resnet81"),
        {"code": "encoder-not-found", "subject": "s2-moco-resnet81", "status": 1, "why": "s2-moco-resnet18?"},
    ),
    "unknown version": (
        ("encoders", "pull", "s2-moco-resnet18@7"),
        {"code": "version-not-found", "subject": "s2-moco-resnet18@7", "status": 1},
    ),
    "unknown alias": (
        ("encoders", "lineage", "s2-moco-resnet18:staging"),
        {"code": "alias-not-found", "subject": "s2-moco-resnet18:staging", "status": 1, "why": "production"},
    ),
    "unknown cube": (
        ("cubes", "show", "sandbax"),
        {"code": "cube-not-found", "subject": "sandbax", "status": 1},
    ),
    "unknown scene": (
        ("scenes", "show", "S2A_NEVER"),
        {"code": "unknown-scene", "subject": "S2A_NEVER", "status": 1},
    ),
    "unknown state": (
        ("scenes", "list", "--state", "lost"),
        {"code": "unknown-state", "subject": "--state", "status": 2, "why": "'lost'"},
    ),
    "item that is no JSON": (
        ("scenes", "inspect", str(REPOSITORY / "README.md")),
        {"code": "unreadable-item", "subject": str(REPOSITORY / "README.md"), "status": 2},
    ),
    "unknown method to show": (
        ("methods", "show", "telepathy"),
        {"code": "unknown-method", "subject": "telepathy", "status": 2},
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_makes_no_sense_is_refused_in_one_line(
    home: Installation, made: dict[str, Any], case: str
) -> None:
    arguments, expected = WRONG[case]
    before = home.what_is_there()
    done = home.swath(*arguments)
    refused(done, **expected)
    after = home.what_is_there()
    if case == "place without scenes to learn from":
        assert after["cubes"].pop("never"), "the refresh itself found nothing wrong"
    assert after == before


@pytest.fixture
def flipped(home: Installation, made: dict[str, Any]) -> Iterator[str]:
    """An encoder in whose stored weights one bit is wrong, for the length of a test."""
    weights = home.home / "store" / "encoders" / "s2-moco-resnet18" / "1" / "model.safetensors"
    sound = weights.read_bytes()
    damaged = bytearray(sound)
    damaged[len(sound) // 2] ^= 1
    weights.write_bytes(damaged)
    yield "s2-moco-resnet18@1"
    weights.write_bytes(sound)


LOAD = """
from catalog import open_catalog
from models import load_encoder
load_encoder(open_catalog().get({!r}))
"""


def test_weights_with_a_wrong_checksum_are_neither_pulled_nor_verified_nor_loaded(
    home: Installation, flipped: str, tmp_path: Path
) -> None:
    damage = {"code": "checksum-mismatch", "subject": flipped, "status": 1, "why": "model.safetensors"}
    for arguments in (
        ("pull", flipped),
        ("pull", flipped, "--to", str(tmp_path / "copy")),
        ("verify", flipped),
    ):
        refused(home.swath("encoders", *arguments), **damage)
    assert not (tmp_path / "copy" / "model.safetensors").exists()
    told = home.swath("encoders", "verify", flipped, "--json")
    assert told.returncode == 1
    assert json.loads(told.stdout)["problems"] == ["model.safetensors is not the file that was registered"]
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD.format(flipped)],
        env=home.environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 1
    assert "checksum-mismatch" in loaded.stderr.splitlines()[-1]


def copy_scenes(source: Path, target: Path, collection: str, count: int) -> list[dict[str, Any]]:
    """An archive folder that holds the first scenes of one collection, with copies of their files."""
    lines = (source / "items" / f"{collection}.ndjson").read_text(encoding="utf-8").splitlines()[:count]
    (target / "items").mkdir(parents=True)
    (target / "items" / f"{collection}.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (target / "collections").mkdir()
    shutil.copy(source / "collections" / f"{collection}.json", target / "collections")
    items = [json.loads(line) for line in lines]
    for item in items:
        for asset in item["assets"].values():
            if asset["href"].startswith("/assets/"):
                path = asset["href"].lstrip("/")
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / path, target / path)
    return items


@pytest.fixture
def broken_archive(home: Installation, tmp_path: Path) -> Iterator[tuple[ArchiveServer, str]]:
    """Four scenes, of one of which a file ends too early; and the id of that scene."""
    folder = tmp_path / "archive"
    items = copy_scenes(home.archive.folder, folder, "sentinel-2-l2a", 4)
    broken = items[1]
    file = folder / broken["assets"]["B04"]["href"].lstrip("/")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with serve_archive(folder) as server:
        yield server, broken["id"]


def test_a_scene_with_a_broken_file_is_quarantined_by_name_and_the_others_are_cubed(
    home: Installation, broken_archive: tuple[ArchiveServer, str], tmp_path: Path
) -> None:
    server, broken = broken_archive
    own = replace(home, home=tmp_path / "home")
    overrides = (
        f"archive={server.url}",
        "cube=broken",
        "products={sentinel-2-l2a: {}}",
        "period.start=2021-01-01",
        "locations.max_count=12",
        *ONLY_SCENES,
    )
    done = own.swath(*overridden(*overrides), "--json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    counts = json.loads(done.stdout)["products"]["sentinel-2-l2a"]
    assert (counts["new"], counts["quarantined"], counts["cubed"]) == (4, 1, 3)
    quarantined = own.json("scenes", "list", "--state", "quarantined")
    assert [row["scene"] for row in quarantined] == [broken]
    assert "B04" in quarantined[0]["reasons"][0]
    assert f"{server.url}/assets/" in quarantined[0]["reasons"][0]
    cube = own.cube("broken")
    assert broken not in cube.scenes("sentinel-2-l2a")
    assert broken not in set(cube.columns("sentinel-2-l2a")["scene"])
    assert cube.verify() == []
    shown = own.swath("scenes", "show", broken)
    assert "B04" in shown.stdout
