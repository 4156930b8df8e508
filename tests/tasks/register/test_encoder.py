"""A living encoder is registered with all that it was made from; a dead one is refused with its reasons."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalog import lineage, open_catalog
from catalog.encoders import Encoder
from catalog.errors import EncoderError
from catalog.licences import snapshot_licences
from models.vitality import Vitality
from tasks.evaluate.encoder import EvaluationResult, evaluate_encoder
from tasks.evaluate.leakage import read_draws
from tasks.register.check_vitality import check_vitality
from tasks.register.encoder import decide_promotion, refuse_dead, register_encoder, write_lineage
from tests.tasks import judged_cube
from tests.tasks.judged_cube import Workshop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with judged_cube.workshop(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="module")
def vitality(shop: Workshop) -> Vitality:
    return check_vitality(shop.encoder, shop.cube, shop.cube.snapshot(), initial_weights=shop.initial_weights)


@pytest.fixture(scope="module")
def result(shop: Workshop) -> EvaluationResult:
    recipe = judged_cube.recipe({})
    return evaluate_encoder(
        shop.encoder, recipe.evaluate[0], recipe, shop.cube, shop.cube.snapshot(), shop.labels, name="toy-vit"
    )


def _register(shop: Workshop, folder: Path, vitality: Vitality, **changes: Any) -> Encoder:
    recipe = judged_cube.recipe({}, transductive=changes.pop("transductive", False))
    given: dict[str, Any] = {
        "recipe": recipe,
        "pretraining": recipe.pretrain[0],
        "cube": shop.cube,
        "snapshot": shop.cube.snapshot(),
        "run_id": "run-1",
        "identity": f"identity-of-{folder.name}",
        "vitality": vitality,
        "catalog": open_catalog(),
    }
    return register_encoder(folder, **(given | changes))


@pytest.fixture(scope="module")
def registered(
    shop: Workshop, vitality: Vitality, result: EvaluationResult, tmp_path_factory: pytest.TempPathFactory
) -> Encoder:
    folder = tmp_path_factory.mktemp("first") / "encoder"
    shutil.copytree(shop.encoder, folder)
    return _register(
        shop, folder, vitality, evaluations=[result], label_sets=[shop.labels], training={"steps": 25}
    )


def test_the_manifest_says_what_the_encoder_was_made_from(
    shop: Workshop, registered: Encoder, result: EvaluationResult
) -> None:
    manifest = registered.manifest
    assert manifest["snapshots"] == {"judged": shop.cube.snapshot()}
    assert manifest["pretraining"]["encoder"] == "toy-vit"
    assert manifest["recipe"]["name"] == "judged"
    assert manifest["seeds"] == [0]
    assert manifest["code_version"] and len(manifest["lock_hash"]) == 64
    assert manifest["licences"] == [
        {"licence": "CC0-1.0", "attribution": "made up", "products": ["toy-optical"], "scenes": 2}
    ]
    assert manifest["vitality"]["refusals"] == []
    assert manifest["evaluations"][0]["name"] == "cover"
    assert manifest["metrics"]["cover/macro_f1"] == pytest.approx(result.headline)
    assert {"model.safetensors", "config.json", "samples.jsonl.gz", "scenes.json", "places.jsonl.gz"} <= set(
        manifest["files"]
    )


def test_a_snapshot_knows_what_its_scenes_ask_for(shop: Workshop) -> None:
    union = snapshot_licences(shop.cube, shop.cube.snapshot())
    held = [len(shop.cube.scenes(product)) for product in shop.cube.products(shop.cube.snapshot())]
    assert sum(entry["scenes"] for entry in union["licences"]) == sum(held)
    assert {entry["licence"] for entry in union["licences"]} == {"CC0-1.0"}
    assert union["allows"]["attribution_required"] == "no"


def test_every_sample_drawn_is_named_with_its_pixels_and_its_scene(
    shop: Workshop, registered: Encoder
) -> None:
    lines = open_catalog().lineage("toy-vit@1")["samples"]
    held = shop.cube.columns("toy-optical").set_index("sample")
    assert {line["location"] for line in lines} == set(judged_cube.drawn_places(shop.cube))
    for line in lines:
        assert line["sha256"] == held.loc[line["sample"], "sha256"]
        assert line["row"] == held.loc[line["sample"], "row"]
    assert [found.ref for found in open_catalog().encoders_of_scene("toy-1")] == ["toy-vit@1"]


def test_the_stored_folder_loads_verifies_and_knows_its_places(shop: Workshop, registered: Encoder) -> None:
    import torch

    from models import load_encoder

    assert open_catalog().verify("toy-vit@1") == []
    features = load_encoder(registered)(torch.rand(2, 4, 16, 16))
    assert features.shape == (2, 32)
    draws = read_draws([registered.pull()], [])
    assert {part.location for part in draws.footprints} == set(judged_cube.drawn_places(shop.cube))
    assert not draws.unknown


def test_the_stac_item_holds_published_scores_only(
    shop: Workshop, vitality: Vitality, result: EvaluationResult, registered: Encoder, tmp_path: Path
) -> None:
    item = json.loads((registered.pull() / "item.json").read_text())
    assert item["properties"]["encoder:metrics"]["cover/macro_f1"] == pytest.approx(result.headline)
    west, south, east, north = item["bbox"]
    assert west < 15.0 < east and south < 48.7 < north
    folder = tmp_path / "quiet"
    shutil.copytree(shop.encoder, folder)
    quiet = _register(shop, folder, vitality, evaluations=[replace(result, published=False)])
    assert json.loads((quiet.pull() / "item.json").read_text())["properties"]["encoder:metrics"] == {}


def test_the_same_run_gives_the_same_encoder(
    shop: Workshop, vitality: Vitality, registered: Encoder, tmp_path: Path
) -> None:
    folder = tmp_path / "again"
    shutil.copytree(shop.encoder, folder)
    again = _register(shop, folder, vitality, identity=registered.manifest["identity"])
    assert again.ref == registered.ref


def test_a_dead_encoder_is_refused_with_every_reason_and_leaves_nothing(
    shop: Workshop, vitality: Vitality, tmp_path: Path
) -> None:
    folder = tmp_path / "dead"
    shutil.copytree(shop.encoder, folder)
    dead = replace(vitality, spread=0.001, weight_distance=0.0)
    before = [encoder.ref for encoder in open_catalog().search()]
    with pytest.raises(EncoderError) as refusal:
        _register(shop, folder, dead)
    assert refusal.value.code == "encoder-dead"
    assert "constant" in refusal.value.message and "untrained" in refusal.value.message
    assert refusal.value.subject == "toy-vit"
    assert [encoder.ref for encoder in open_catalog().search()] == before
    refuse_dead("toy-vit", vitality)


def test_a_sample_with_other_pixels_than_the_snapshot_is_refused(
    shop: Workshop, vitality: Vitality, tmp_path: Path
) -> None:
    folder = tmp_path / "forged"
    shutil.copytree(shop.encoder, folder)
    lines = list(lineage.read_samples(folder))
    lines[0]["sha256"] = "0" * 64
    with gzip.open(folder / "samples.jsonl.gz", "wt", encoding="utf-8") as target:
        target.writelines(json.dumps(line) + "\n" for line in lines)
    with pytest.raises(EncoderError) as refusal:
        _register(shop, folder, vitality)
    assert refusal.value.code == "incomplete-lineage"


def test_a_run_without_a_list_of_its_samples_is_refused(
    shop: Workshop, vitality: Vitality, tmp_path: Path
) -> None:
    folder = tmp_path / "silent"
    shutil.copytree(shop.encoder, folder, ignore=shutil.ignore_patterns("samples.jsonl.gz"))
    with pytest.raises(EncoderError, match="incomplete-lineage"):
        _register(shop, folder, vitality)


def test_lineage_written_twice_is_the_same_bytes(shop: Workshop, tmp_path: Path) -> None:
    folder = tmp_path / "twice"
    shutil.copytree(shop.encoder, folder)
    files = ("samples.jsonl.gz", "scenes.json", "places.jsonl.gz")
    seen = []
    for _ in range(2):
        write_lineage(folder, shop.cube, shop.cube.snapshot(), name="toy-vit")
        seen.append([(folder / name).read_bytes() for name in files])
    assert seen[0] == seen[1]


def test_what_started_from_a_transductive_encoder_is_transductive(
    shop: Workshop, vitality: Vitality, tmp_path: Path
) -> None:
    for name in ("parent", "child"):
        shutil.copytree(shop.encoder, tmp_path / name)
    parent = _register(shop, tmp_path / "parent", vitality, transductive=True)
    child = _register(shop, tmp_path / "child", vitality, started_from=parent)
    assert child.manifest["transductive"]
    assert child.manifest["started_from"] == parent.ref


def test_what_was_registered_can_be_compared_with_the_next_version(
    registered: Encoder, result: EvaluationResult
) -> None:
    assert decide_promotion([result], registered.manifest["evaluations"]).promote


def test_the_manifest_says_what_its_licences_allow_and_keeps_those_of_labels_apart(
    shop: Workshop, registered: Encoder, vitality: Vitality, tmp_path: Path
) -> None:
    allows = registered.manifest["allows"]
    assert (allows["redistribution"], allows["commercial_use"]) == ("yes", "yes")
    (labels,) = registered.manifest["evaluated_on"]
    assert labels["label_set"] == shop.labels.name and labels["allows"]["commercial_use"] == "yes"
    shutil.copytree(shop.encoder, tmp_path / "encoder")
    strict = shop.labels.model_copy(update={"licence": "change maps CC BY-NC-SA"})
    manifest = _register(shop, tmp_path / "encoder", vitality, label_sets=[strict], identity="nc").manifest
    assert manifest["evaluated_on"][0]["allows"]["commercial_use"] == "no"
    assert manifest["allows"]["commercial_use"] == "yes", "labels are no part of the weights"
