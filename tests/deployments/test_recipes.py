"""The built-in recipes: every method has one, each is valid to its last option, and the tiny ones train."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from catalog.cubes import Cube
from catalog.labels import LabelSet, read_label_set
from catalog.recipes import Pretraining, Recipe, read_recipe
from flows.recipes import check_recipe
from models import train
from models.methods import METHODS, load_method
from models.methods.cards import MethodCard
from models.training_spec import TrainingSpec
from tests.models.learnable_cube import SIZE_M, location, make_cube

RECIPES = Path(__file__).resolve().parents[2] / "deployments" / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))
PLACES = 15
STEPS = 3
ONE_PER_SKELETON = (
    "ssl4eo-s12-moco-tiny",
    "review-barlow-twins-tiny",
    "spectralearth-mae-tiny",
    "ssl4eo-s12-data2vec-tiny",
    "hsi-paws-tiny",
)
TINY = [
    pytest.param(name, marks=() if name in ONE_PER_SKELETON else pytest.mark.long)
    for name in NAMES
    if name.endswith("-tiny") and read_recipe(RECIPES / f"{name}.yaml").pretrain
]


def test_every_method_has_a_recipe_and_a_tiny_one_that_use_it() -> None:
    for card in one_product():
        for name in (card.recipe, f"{card.recipe}-tiny"):
            assert card.name in {item.method for item in read(name).pretrain}, f"{card.name}: {name}"


def test_every_skeleton_is_tried_on_every_run() -> None:
    tried = {item.method for name in ONE_PER_SKELETON for item in read(name).pretrain}
    assert {card.skeleton for card in one_product()} == {METHODS[name].skeleton for name in tried}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_valid_to_its_last_option(name: str) -> None:
    recipe = read(name)
    assert recipe.name == name
    for item in recipe.pretrain:
        load_method(item.method).options.model_validate(item.options)
    if recipe.archive in ("sandbox", "sandbox-all", "cdse", "planetary-computer", "dlr-eoc"):
        check_recipe(name)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("-tiny")])
def test_a_tiny_recipe_is_simulated_and_says_so(name: str) -> None:
    recipe = read(name)
    assert recipe.archive == "sandbox"
    assert recipe.cube_name == "sandbox-tiny"
    assert not recipe.published
    assert all(item.devices == 1 for item in recipe.pretrain)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("SWATH_STORE", "SWATH_DATABASE_URL"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def cubes(home: None) -> dict[str, Cube]:
    return {}


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelSet:
    """Two classes in stripes over all places."""
    import rasterio

    folder = tmp_path_factory.mktemp("labels")
    side = round(SIZE_M / 30)
    values = np.ones((side, PLACES * side), np.uint8)
    values[:, ::3] = 2
    first = location(0)
    profile = {
        "driver": "GTiff", "height": side, "width": values.shape[1], "count": 1, "dtype": "uint8",
        "crs": f"EPSG:{first.epsg}", "transform": rasterio.transform.from_origin(first.x, first.y, 30, 30),
    }  # fmt: skip
    with rasterio.open(folder / "stripes.tif", "w", **profile) as target:
        target.write(values, 1)
    document = {
        "name": "stripes", "kind": "raster", "path": "stripes.tif", "licence": "CC0-1.0",
        "classes": {1: "wide", 2: "narrow"},
    }  # fmt: skip
    (folder / "stripes.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return read_label_set(folder / "stripes.yaml")


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_recipe_trains(name: str, cubes: dict[str, Cube], labels: LabelSet, tmp_path: Path) -> None:
    (item,) = read(name).pretrain
    (product,) = item.products
    if product not in cubes:
        cubes[product] = make_cube(f"cube-{product}", product, places=PLACES, dates=2)
    cube = cubes[product]
    few = item.model_dump(mode="json") | {"steps": STEPS, "batch_size": 4}
    spec = TrainingSpec(
        run_id=name,
        pretraining=Pretraining.model_validate(few),
        cube=cube.name,
        snapshot=cube.snapshot(),
        folder=tmp_path,
        labels=labels if "label_set" in item.options else None,
        log_every=1,
    )
    assert train.train(spec) == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert json.loads((tmp_path / "result.json").read_text())["weight_distance"] > 0
    assert (tmp_path / "encoder" / "labels.json").is_file() == (spec.labels is not None)


def one_product() -> list[MethodCard]:
    return [card for card in METHODS.values() if load_method(card.name).joins == "one-product"]


def read(name: str | None) -> Recipe:
    return read_recipe(RECIPES / f"{name}.yaml")
