"""When an encoder is trained again, and from which weights."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from catalog.database import open_database
from catalog.encoders import Catalog
from catalog.recipes import Pretraining, Recipe, read_recipe
from catalog.runs import Runs
from catalog.settings import Settings
from tasks.pretrain.training_plan import TrainingPlan, plan_pretraining, pretraining_identity
from tests.catalog.encoder_folders import encoder_folder, manifest, mlm_item

ROOT = Path(__file__).resolve().parents[3]


class Home:
    """A catalog without anything in it, and a recipe."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(folder, f"sqlite:///{folder / 'swath.db'}", str(folder / "store"))
        engine = open_database(self.settings)
        self.runs, self.catalog = Runs(engine), Catalog(engine, self.settings)
        self.recipe = read_recipe(ROOT / "deployments" / "recipes" / "sandbox.yaml")
        self.item = self.recipe.pretrain[0]

    def plan(self, snapshot: str, fresh: int = 0, **changes: Any) -> TrainingPlan:
        return plan_pretraining(
            self.recipe,
            self.item.model_copy(update=changes),
            snapshot=snapshot,
            samples_since=lambda _: fresh,
            runs=self.runs,
            catalog=self.catalog,
            runs_folder=self.settings.runs,
        )

    def register(self, snapshot: str, item: Pretraining | None = None, recipe: Recipe | None = None) -> None:
        item, recipe = item or self.item, recipe or self.recipe
        self.catalog.register(
            encoder_folder(self.settings.home / f"made-{snapshot}"),
            manifest(
                pretraining_identity(recipe, item, snapshot),
                pretraining=item.model_dump(mode="json"),
                snapshots={recipe.cube_name: snapshot},
            ),
            name=item.encoder,
            metrics={},
            mlm_item=mlm_item(),
        )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_the_first_version_is_trained_from_scratch(home: Home) -> None:
    plan = home.plan("S1")
    assert (plan.action, plan.start_from) == ("train", None)


def test_the_same_recipe_snapshot_code_and_seed_return_the_encoder_that_is_there(home: Home) -> None:
    home.register("S1")
    plan = home.plan("S1", fresh=99)
    assert plan.action == "return"
    assert plan.start_from is not None


def test_another_seed_is_another_run(home: Home) -> None:
    home.register("S1")
    assert home.plan("S1", seed=5).action == "train"


def test_too_few_new_samples_keep_the_newest_version(home: Home) -> None:
    item = home.item.model_copy(update={"min_new_samples": 10})
    home.register("S1", item)
    assert home.plan("S2", fresh=9, min_new_samples=10).action == "keep"
    assert home.plan("S2", fresh=10, min_new_samples=10).action == "train"


def test_nothing_new_in_a_new_snapshot_trains_nothing(home: Home) -> None:
    item = home.item.model_copy(update={"min_new_samples": 0})
    home.register("S1", item)
    assert home.plan("S2", fresh=0, min_new_samples=0).action == "keep"


def test_enough_new_samples_train_on_from_the_newest_version(home: Home) -> None:
    home.register("S1")
    plan = home.plan("S2", fresh=5)
    assert plan.action == "train"
    assert plan.start_from is not None
    assert plan.start_from.version == 1


def test_a_recipe_that_asks_for_scratch_starts_from_scratch(home: Home) -> None:
    home.register("S1", home.item.model_copy(update={"start_from": "scratch"}))
    assert home.plan("S2", fresh=5, start_from="scratch").start_from is None


def test_weights_of_another_shape_are_no_start(home: Home) -> None:
    home.register("S1")
    plan = home.plan("S1", backbone="resnet50")
    assert (plan.action, plan.start_from) == ("train", None)


def test_age_sets_off_a_training_only_if_anything_is_new(home: Home) -> None:
    aged = {"min_new_samples": 1000, "max_age_days": 1e-9}
    home.register("S1", home.item.model_copy(update=aged))
    assert home.plan("S2", fresh=0, **aged).action == "keep"
    assert home.plan("S2", fresh=1, **aged).action == "train"
    assert datetime.now(UTC) - home.catalog.get(home.item.encoder).created < timedelta(minutes=5)


def test_an_encoder_of_the_same_name_from_another_cube_is_no_obstacle(home: Home) -> None:
    home.register("S1", recipe=home.recipe.model_copy(update={"cube": "elsewhere"}))
    plan = home.plan("S2", fresh=5)
    assert plan.action == "train"
    assert "another cube" in plan.why
