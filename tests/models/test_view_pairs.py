"""Two views come from two dates, or from one date twice, each in its own augmentation."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from models.methods import METHODS, load_method
from models.methods.method import View
from models.view_pairs import PairMethod, PairOptions


class Pair(PairMethod):
    def __init__(self, **options: object) -> None:
        super().__init__()
        self.augment_with(PairOptions.model_validate(options), 8)


def sample(value: float) -> View:
    return View(torch.full((2, 3, 8, 8), value), torch.ones(2, 1, 8, 8, dtype=torch.bool))


STILL = {"crop_scale": None, "brightness": 0, "contrast": 0, "grey": 0, "blur": (0, 0)}


def test_two_samples_give_one_view_each_and_one_gives_both() -> None:
    method = Pair(**STILL)
    first, second = method.views((sample(1.0), sample(2.0)))
    assert (first.x == 1).all()
    assert (second.x == 2).all()
    first, second = method.views((sample(1.0),))
    assert torch.equal(first.x, second.x)
    torch.manual_seed(0)
    first, second = Pair(**(STILL | {"brightness": 0.4})).views((sample(1.0),))
    assert not torch.equal(first.x, second.x)


def test_views_are_blurred_as_often_as_each_is_asked_to_be() -> None:
    method = Pair(**(STILL | {"blur": (1.0, 0.0)}))
    noise = View(torch.randn(4, 3, 8, 8), torch.ones(4, 1, 8, 8, dtype=torch.bool))
    first, second = method.views((noise, noise))
    assert first.x.std() < noise.x.std()
    assert second.x.flatten().sort().values.equal(noise.x.flatten().sort().values)


def test_the_recipe_says_how_many_dates_are_drawn() -> None:
    assert {"byol", "moco-v2", "moco-v3", "simclr", "simsiam", "swav", "vicreg"} <= set(METHODS)
    for name in ("byol", "moco-v2", "simclr"):
        factory = load_method(name)
        assert factory.samples(factory.options()) == 2
        assert factory.samples(factory.options.model_validate({"dates": 1})) == 1
    with pytest.raises(ValidationError):
        PairOptions.model_validate({"dates": 3})
    mae = load_method("mae")
    assert mae.samples(mae.options()) == 1
