"""What the ``swath`` command prints, and how fast it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.sandbox import SandboxInfo
from tests.flows.installation import ENCODERS, Installation, command

COMMANDS = ("demo", "run", "archive", "scenes", "cubes", "encoders", "methods")


def test_every_listing_is_one_json_document_and_nothing_else(
    home: Installation, made: dict[str, Any]
) -> None:
    scenes = home.json("scenes", "list")
    assert {row["state"] for row in scenes} == {"cubed", "quarantined", "superseded"}
    shown = home.json("scenes", "show", scenes[0]["scene"])
    assert shown[0]["record"]["id"] == scenes[0]["scene"]
    cubes = home.json("cubes", "list")
    assert {cube["cube"]: cube["snapshot"] for cube in cubes}["sandbox"] == made["snapshot"]
    products = home.json("cubes", "show", "sandbox")["products"]
    assert all(product["samples"] > 0 and product["resampled"] == 0 for product in products.values())
    history = home.json("cubes", "history", "sandbox")
    assert history[0]["snapshot"] == made["snapshot"]
    assert home.json("cubes", "verify", "sandbox") == {"cube": "sandbox", "problems": []}
    methods = home.json("methods", "list")
    assert {"moco-v2", "mae"} <= {method["name"] for method in methods}
    assert home.json("methods", "show", "mae")["options"]


def test_every_view_of_an_encoder_is_one_json_document_and_nothing_else(
    home: Installation, made: dict[str, Any], tmp_path: Path
) -> None:
    found = home.json("encoders", "search", "moco", "--product", "sentinel-2-l2a", "--method", "moco-v2")
    assert [row["name"] for row in found] == ["s2-moco-resnet18"]
    assert home.json("encoders", "search", "nothing-like-it") == []
    shown = home.json("encoders", "show", "s2-moco-resnet18:production")
    assert shown["manifest"]["samples"] == found[0]["samples"]
    lineage = home.json("encoders", "lineage", "s2-moco-resnet18")
    assert len(lineage["samples"]) == found[0]["samples"]
    assert home.json("encoders", "verify", "s2-moco-resnet18@1")["problems"] == []
    pulled = home.json("encoders", "pull", "s2-moco-resnet18", "--to", str(tmp_path / "copy"))
    assert (Path(pulled["folder"]) / "model.safetensors").is_file()
    promoted = home.json("encoders", "promote", "s2-moco-resnet18@1", "--alias", "looked-at")
    assert promoted["aliases"] == ["looked-at", "production"]


def test_an_item_is_inspected_before_any_pixel_is_read(
    home: Installation, sandbox: SandboxInfo, tmp_path: Path
) -> None:
    for collection in sandbox.collections.values():
        answer = httpx.get(f"{home.archive.url}/collections/{collection}/items", params={"limit": 1})
        item = tmp_path / "item.json"
        item.write_text(json.dumps(answer.json()["features"][0]), encoding="utf-8")
        verdict = home.json("scenes", "inspect", str(item), "--archive", "sandbox")
        assert verdict["refused"] == []
        assert verdict["calibration"]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_card_of_an_encoder_says_what_it_takes_where_it_comes_from_and_how_it_scored(
    home: Installation, made: dict[str, Any], encoder: str
) -> None:
    done = home.swath("encoders", "show", encoder)
    assert done.returncode == 0, done.stderr
    manifest = home.json("encoders", "show", encoder)["manifest"]
    for expected in (
        f"{encoder}@1  (",
        "production)",
        f"{len(manifest['bands'])}: {manifest['bands'][0]}",
        manifest["products"][0],
        made["snapshot"],
        f"{manifest['samples']} of {manifest['licences'][0]['scenes']} scenes",
        manifest["licences"][0]["licence"],
        "random weights",
        "image statistics",
        "places",
        "not to be quoted as quality",
        "model.safetensors",
    ):
        assert expected in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_the_three_lines_on_the_card_load_the_encoder(home: Installation, made: dict[str, Any]) -> None:
    card = home.swath("encoders", "show", "s2-moco-resnet18").stdout
    lines = card.split("\nLoad it\n")[1].strip().splitlines()
    program = "\n".join(
        ["import torch", "values = torch.rand(2, 12, 48, 48)", *(line.strip() for line in lines)]
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nprint(tuple(features.shape))"],
        env=home.environment,
        cwd=home.elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "(2, 512)\n", done.stderr


def processor_seconds(arguments: list[str], environment: dict[str, str]) -> float:
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_a_search_answers_within_a_second(home: Installation, made: dict[str, Any]) -> None:
    # Processor time: what a wall clock shows on a machine that has nothing else to do.
    search = command("encoders", "search")
    assert min(processor_seconds(search, home.environment) for _ in range(3)) < 1.0


def test_a_search_imports_no_framework(home: Installation, made: dict[str, Any]) -> None:
    program = (
        "import sys; sys.argv = ['swath', 'encoders', 'search', '--json']\n"
        "from flows.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'prefect', 'alembic', 'rasterio', 'great_expectations', 'zarr', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=home.environment,
        cwd=home.elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip() == "[]"


def test_the_version_is_that_of_the_package(home: Installation) -> None:
    from importlib.metadata import version

    assert home.swath("--version").stdout.strip() == version("swath")


def test_help_names_every_command_and_each_explains_itself(home: Installation) -> None:
    top = home.swath("--help").stdout
    for name in COMMANDS:
        assert name in top
        done = home.swath(name, "--help")
        assert done.returncode == 0
        assert "Usage: swath" in done.stdout
        assert "--help" in done.stdout
