"""An encoder folder is looked at on samples of the cube that it has not learnt from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from catalog.errors import EncoderError
from tasks.register.check_vitality import check_vitality, held_out_samples
from tests.tasks import judged_cube
from tests.tasks.judged_cube import PRODUCT, Workshop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with judged_cube.workshop(tmp_path_factory.mktemp("home")) as made:
        yield made


def _with_weights(shop: Workshop, folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    shutil.copytree(shop.encoder, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    save_file(weights, folder / "model.safetensors")
    config = folder / "config.json"
    text = config.read_text()
    import hashlib

    old = hashlib.sha256((shop.encoder / "model.safetensors").read_bytes()).hexdigest()
    config.write_text(
        text.replace(old, hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())
    )
    return folder


def test_a_trained_encoder_lives(shop: Workshop) -> None:
    vitality = check_vitality(
        shop.encoder, shop.cube, shop.cube.snapshot(), initial_weights=shop.initial_weights
    )
    assert vitality.refusals() == []
    assert vitality.retrieval_pairs == "dates"
    assert vitality.weight_distance is not None


def test_an_encoder_with_its_initial_weights_is_untrained(shop: Workshop, tmp_path: Path) -> None:
    folder = _with_weights(shop, tmp_path / "untrained", load_file(shop.initial_weights))
    vitality = check_vitality(folder, shop.cube, shop.cube.snapshot(), initial_weights=shop.initial_weights)
    assert vitality.weight_distance == 0
    assert [reason.split(":")[0] for reason in vitality.refusals()] == ["weights are untrained"]


def test_an_encoder_whose_last_layer_died_is_constant(shop: Workshop, tmp_path: Path) -> None:
    weights = load_file(shop.encoder / "model.safetensors")
    weights["norm.weight"] = torch.zeros_like(weights["norm.weight"])
    weights["norm.bias"] = torch.ones_like(weights["norm.bias"])
    folder = _with_weights(shop, tmp_path / "dead", weights)
    vitality = check_vitality(folder, shop.cube, shop.cube.snapshot(), initial_weights=shop.initial_weights)
    assert vitality.refusals()[0].startswith("features are constant")


def test_without_initial_weights_nothing_is_said_of_their_distance(shop: Workshop) -> None:
    vitality = check_vitality(shop.encoder, shop.cube, shop.cube.snapshot())
    assert vitality.weight_distance is None
    assert vitality.refusals() == []


def test_samples_lie_outside_the_pretrain_split_at_two_dates(shop: Workshop) -> None:
    table = held_out_samples(shop.cube, PRODUCT.id, shop.cube.snapshot(), 20)
    splits = {place.id: place.split for place in shop.cube.locations()}
    assert {splits[place] for place in table["location"]} == {"probe", "test"}
    assert (table.groupby("location")["time"].nunique() == 2).all()
    assert table["location"].nunique() == 20


def test_too_few_samples_are_no_proof_of_life(shop: Workshop) -> None:
    tiny = judged_cube.make_cube("tiny", locations=judged_cube.places(lambda *_: "test")[:3])
    with pytest.raises(EncoderError) as refusal:
        check_vitality(shop.encoder, tiny, tiny.snapshot())
    assert refusal.value.code == "vitality-unknown"
