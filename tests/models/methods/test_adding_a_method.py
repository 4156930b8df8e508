"""The method of docs/adding-a-method.md, in one file and one recipe, goes all the way that the page says."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from catalog.errors import UsageError
from catalog.recipes import Recipe
from flows.recipes import check_recipe
from models import load_encoder, train
from models.methods import describe_method, load_method, outside_source, require_method
from models.training_spec import TrainingSpec
from tasks.pretrain.training_plan import pretraining_identity
from tests.models.learnable_cube import make_cube
from tests.models.methods.harness import TINY_RESNET, ground, ground_samples

PAGE = Path(__file__).resolve().parents[3] / "docs" / "adding-a-method.md"
METHOD = "nearest_date:FACTORY"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's two files in a folder that Python looks into."""
    for language, text in re.findall(r"```(python|yaml)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        name = text.partition("\n")[0].removeprefix("# ")
        assert name.endswith({"python": ".py", "yaml": ".yaml"}[language])
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("nearest_date", None)


def recipe_of(folder: Path) -> Recipe:
    recipe, products = check_recipe(folder / "nearest-date.yaml")
    assert set(products) == {"sentinel-2-l2a"}
    return recipe


def test_its_recipe_is_accepted_before_its_code_is_run(folder: Path) -> None:
    assert recipe_of(folder).pretrain[0].method == METHOD
    assert "nearest_date" not in sys.modules


def test_it_is_described_like_any_other(folder: Path) -> None:
    shown = describe_method(METHOD)
    assert shown["name"] == METHOD
    assert shown["title"].startswith("Nearest date:")
    assert shown["options"]["repulsion"]["default"] == 0.5
    assert shown["options"]["dates"]["default"] == 2


@pytest.mark.usefixtures("swath_home")
def test_it_trains_to_an_encoder_that_can_be_loaded(folder: Path) -> None:
    (item,) = recipe_of(folder).pretrain
    cube = make_cube(places=10, dates=2)
    few = item.model_copy(update={"steps": 3, "batch_size": 4, "backbone_options": TINY_RESNET})
    run = folder / "run"
    spec = TrainingSpec(
        run_id="toy", pretraining=few, cube=cube.name, snapshot=cube.snapshot(), folder=run, log_every=1
    )
    assert train.train(spec) == 0
    encoder = load_encoder(run / "encoder")
    assert encoder.config["method"] == METHOD
    assert torch.isfinite(encoder(torch.rand(2, 12, 32, 32))).all()


def test_pixels_under_the_mask_move_its_loss_no_more_than_any_other(folder: Path) -> None:
    from models.backbones import Encoder, describe_architecture
    from models.methods.method import MethodContext

    factory = load_method(METHOD)
    losses = []
    for hidden in (0.0, float("nan")):
        torch.manual_seed(0)
        architecture = describe_architecture("resnet18", TINY_RESNET, bands=4, input_size_px=16)
        method = factory.build(MethodContext(Encoder(architecture), 4, 16, 10), factory.options())
        samples = ground_samples(ground(6, 2, 4, 20), torch.arange(6), 2, hidden=hidden)
        torch.manual_seed(4)
        losses.append(method.loss(method.views(samples), torch.arange(6)).loss)
    assert torch.isfinite(losses[0])
    assert torch.equal(losses[0], losses[1])


def test_its_code_is_part_of_the_run(folder: Path) -> None:
    recipe = recipe_of(folder)
    before = pretraining_identity(recipe, recipe.pretrain[0], "snapshot")
    source = folder / "nearest_date.py"
    source.write_text(source.read_text() + "\n# changed\n")
    assert pretraining_identity(recipe, recipe.pretrain[0], "snapshot") != before
    assert outside_source("mae") is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module_at_all:FACTORY", "no Python module"),
        ("nearest_date:OTHER", "no MethodFactory 'OTHER'"),
        ("nearest_date:NearestDate", "no MethodFactory 'NearestDate'"),
        ("nearest-date", "there is no method"),
    ],
)
def test_what_is_no_method_is_refused(folder: Path, name: str, said: str) -> None:
    importlib.invalidate_caches()
    with pytest.raises(UsageError, match=said) as refusal:
        load_method(name)
    assert refusal.value.code == "unknown-method"


def test_built_in_methods_need_no_colon() -> None:
    require_method("mae")
    with pytest.raises(UsageError, match="known: moco-v2"):
        require_method("mea")
