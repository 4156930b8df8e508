"""Labels that an encoder was pretrained with are out of its evaluation, wherever they turn up again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from catalog import open_catalog
from catalog.cubes import Cube
from catalog.errors import UsageError
from catalog.labels import read_label_set
from catalog.licences import allowed_together
from catalog.recipes import Pretraining
from models import train
from models.training_spec import TrainingSpec
from tasks.evaluate.encoder import EvaluationResult, evaluate_encoder
from tasks.evaluate.leakage import read_taught, taught_places
from tasks.register.check_vitality import check_vitality
from tasks.register.encoder import register_encoder
from tests.tasks import judged_cube
from tests.tasks.judged_cube import PRODUCT, SIDE_PX, Workshop

PAWS: dict[str, Any] = {
    "encoder": "toy-vit",
    "method": "hsi-paws",
    "products": [PRODUCT.id],
    "backbone": "vit_tiny_patch16_224",
    "backbone_options": {"patch_size": 3, "embed_dim": 32, "depth": 1, "num_heads": 2},
    "input_size_px": 9,
    "steps": 2,
    "batch_size": 4,
    "optimiser": {"name": "adamw", "learning_rate": 1e-3},
    "options": {
        "label_set": "toy-cover",
        "labels_per_class": 6,
        "labels_per_place": 2,
        "pixels_per_sample": 2,
        "further_views": 0,
        "support_views": 1,
        "averaged_runs": 0,
    },
}
NOTE = "units at places whose labels were used in pretraining"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with judged_cube.workshop(tmp_path_factory.mktemp("home")) as made:
        yield made


def pretrain(shop: Workshop, folder: Path, **changes: Any) -> Path:
    spec = TrainingSpec(
        run_id="paws",
        pretraining=Pretraining.model_validate(PAWS | changes),
        cube=shop.cube.name,
        snapshot=shop.cube.snapshot(),
        folder=folder,
        labels=shop.labels,
    )
    assert train.train(spec) == 0
    return folder / "encoder"


@pytest.fixture(scope="module")
def taught(shop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(shop, tmp_path_factory.mktemp("taught"))


def labels_of(encoder: Path) -> dict[str, Any]:
    return dict(json.loads((encoder / "labels.json").read_text()))


def places_of(encoder: Path) -> set[str]:
    return {sample["location"] for sample in labels_of(encoder)["samples"]}


def turned_cube(name: str = "turned", prefix: str = "q") -> Cube:
    """The same ground under other names, what was for pretraining now being for tests and the reverse."""
    turned = {"pretrain": "test", "test": "pretrain", "probe": "probe"}
    return judged_cube.make_cube(
        name,
        locations=[
            replace(place, id=prefix + place.id[1:], split=turned[place.split])
            for place in judged_cube.places()
        ],
    )


def judge(
    shop: Workshop, encoder: Path, cube: Cube, *, labels: Any = None, ancestors: tuple[Path, ...] = ()
) -> EvaluationResult:
    recipe = judged_cube.recipe({"seeds": 1}, transductive=True)
    return evaluate_encoder(
        encoder,
        recipe.evaluate[0],
        recipe,
        cube,
        cube.snapshot(),
        labels or shop.labels,
        name="toy-vit",
        ancestors=ancestors,
    )


def judged_units(result: EvaluationResult) -> int:
    return result.test_samples + result.train_samples


def test_the_encoder_says_which_labels_it_learnt_from_and_where(shop: Workshop, taught: Path) -> None:
    record = labels_of(taught)
    assert record["label_set"] == "toy-cover"
    assert record["licence"] == "CC0-1.0"
    assert record["classes"] == {"meadow": 6, "forest": 6, "lake": 6}
    splits = {location.id: location.split for location in shop.cube.locations()}
    assert {splits[place] for place in places_of(taught)} == {"pretrain"}
    assert all(max(sample["pixels"].values()) <= 2 for sample in record["samples"])
    for name, count in record["classes"].items():
        assert sum(sample["pixels"].get(name, 0) for sample in record["samples"]) == count


def test_a_transductive_run_learns_from_all_pixels_but_from_labels_of_pretrain_places_only(
    shop: Workshop, tmp_path: Path
) -> None:
    encoder = pretrain(shop, tmp_path, transductive=True, options=PAWS["options"] | {"labels_per_class": 60})
    splits = {location.id: location.split for location in shop.cube.locations()}
    assert {splits[place] for place in places_of(encoder)} == {"pretrain"}


def test_the_same_seed_draws_the_same_labels_and_another_one_others(
    shop: Workshop, taught: Path, tmp_path: Path
) -> None:
    assert labels_of(pretrain(shop, tmp_path / "again")) == labels_of(taught)
    assert places_of(pretrain(shop, tmp_path / "other", seed=1)) != places_of(taught)


def test_without_its_label_set_the_method_is_not_trained(shop: Workshop, tmp_path: Path) -> None:
    spec = TrainingSpec(
        run_id="paws",
        pretraining=Pretraining.model_validate(PAWS),
        cube=shop.cube.name,
        snapshot=shop.cube.snapshot(),
        folder=tmp_path,
    )
    with pytest.raises(UsageError) as refusal:
        train.train(spec)
    assert refusal.value.code == "invalid-pretraining"


def test_other_labels_are_another_run(shop: Workshop) -> None:
    ours, theirs = (
        TrainingSpec(
            run_id="r",
            pretraining=Pretraining.model_validate(PAWS),
            cube="c",
            snapshot="s",
            folder=Path("f"),
            labels=labels,
        ).identity
        for labels in (shop.labels, shop.changes)
    )
    assert ours != theirs


def test_at_the_places_of_the_own_cube_nothing_is_left_out(shop: Workshop, taught: Path) -> None:
    result = judge(shop, taught, shop.cube)
    assert not any(note.startswith(NOTE) for note in result.notes)


def test_labels_used_in_pretraining_are_left_out_where_the_ground_is_judged_under_another_name(
    shop: Workshop, taught: Path
) -> None:
    cube = turned_cube()
    all_units = judge(shop, shop.encoder, cube)
    fewer = judge(shop, taught, cube)
    # Two dates of each place.
    left_out = 2 * len(places_of(taught))
    assert f"{NOTE}: {left_out} left out" in fewer.notes
    assert judged_units(fewer) == judged_units(all_units) - left_out
    as_descendant = judge(shop, shop.encoder, cube, ancestors=(taught,))
    assert judged_units(as_descendant) == judged_units(fewer)
    locations = list(cube.locations())
    names = taught_places(locations, read_taught((taught,)))
    assert names == {"q" + place[1:] for place in places_of(taught)}


def test_labels_at_those_places_move_no_score(shop: Workshop, taught: Path, tmp_path: Path) -> None:
    cube = turned_cube("turned-again")
    path = judged_cube.write_label_set(tmp_path)
    before = judge(shop, taught, cube, labels=read_label_set(path))
    with rasterio.open(tmp_path / "toy-cover.tif", "r+") as raster:
        values = raster.read(1)
        for place in places_of(taught):
            column, row = int(place[1:3]), int(place[3:5])
            window = np.s_[row * SIDE_PX : (row + 1) * SIDE_PX, column * SIDE_PX : (column + 1) * SIDE_PX]
            values[window] = values[window] % 3 + 1
        raster.write(values, 1)
    after = judge(shop, taught, cube, labels=read_label_set(path))
    assert after.scores == before.scores
    assert after.per_place == before.per_place


def test_an_encoder_taught_with_every_label_cannot_be_judged_by_them(
    shop: Workshop, taught: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "all"
    shutil.copytree(taught, folder)
    record = labels_of(taught)
    samples = [
        {"location": place.id, "epsg": place.epsg, "x": place.x, "y": place.y, "size_m": place.size_m}
        | {"split": place.split, "sample": place.id, "product": PRODUCT.id, "pixels": {}}
        for place in judged_cube.places()
    ]
    (folder / "labels.json").write_text(json.dumps(record | {"samples": samples}))
    with pytest.raises(UsageError) as refusal:
        judge(shop, folder, shop.cube)
    assert refusal.value.code == "nothing-to-evaluate"


def test_the_registered_encoder_carries_the_record(shop: Workshop, taught: Path, tmp_path: Path) -> None:
    recipe = judged_cube.recipe()
    vitality = check_vitality(
        shop.encoder, shop.cube, shop.cube.snapshot(), initial_weights=shop.initial_weights
    )
    folder = tmp_path / "encoder"
    shutil.copytree(taught, folder)
    record = labels_of(taught) | {"licence": "CC-BY-NC-SA-4.0"}
    (folder / "labels.json").write_text(json.dumps(record))
    registered = register_encoder(
        folder,
        recipe=recipe,
        pretraining=Pretraining.model_validate(PAWS),
        cube=shop.cube,
        snapshot=shop.cube.snapshot(),
        run_id="paws",
        identity="0" * 64,
        vitality=vitality,
        catalog=open_catalog(),
    )
    assert registered.manifest["labels"] == record
    # What binds the labels binds the weights that were learnt from them.
    assert registered.manifest["allows"] == allowed_together(["CC0-1.0", "CC-BY-NC-SA-4.0"])
    assert places_of(registered.pull()) == places_of(taught)
