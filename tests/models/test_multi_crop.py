"""Crops take the dates of a place in turns, pass by size, and know whether they saw anything."""

from __future__ import annotations

import pytest
import torch

from models.augment import Augmentation
from models.backbones import Encoder, describe_architecture
from models.methods.method import View
from models.multi_crop import crops_of, embeddings_by_size, local_size_px, seen_in

TINY_VIT = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}


@pytest.mark.parametrize(
    ("side", "multiple", "expected"),
    [(224, 16, 96), (224, 1, 96), (224, 14, 112), (16, 4, 8), (32, 1, 16), (8, 4, 8)],
)
def test_a_small_crop_is_three_sevenths_of_the_input_in_whole_tokens(
    side: int, multiple: int, expected: int
) -> None:
    assert local_size_px(side, multiple) == expected


def test_crops_take_the_dates_in_turns() -> None:
    dates = tuple(
        View(torch.full((2, 1, 8, 8), value), torch.ones(2, 1, 8, 8).bool()) for value in (1.0, 2.0)
    )
    augmentations = [Augmentation(size_px=size) for size in (8, 8, 4, 4, 4)]
    crops = crops_of(dates, augmentations, 0.0)
    assert [float(crop.x.mean()) for crop in crops] == [1, 2, 1, 2, 1]
    assert [crop.x.shape[-1] for crop in crops] == [8, 8, 4, 4, 4]
    assert [float(crop.x.mean()) for crop in crops_of(dates[:1], augmentations, 0.0)] == [1] * 5


def test_passing_by_size_gives_what_passing_one_by_one_gives() -> None:
    torch.manual_seed(0)
    encoder = Encoder(
        describe_architecture("vit_tiny_patch16_224", TINY_VIT, bands=3, input_size_px=16)
    ).eval()
    views = [
        View(torch.randn(2, 3, size, size), torch.rand(2, 1, size, size) > 0.2) for size in (16, 16, 8, 8, 8)
    ]
    together = embeddings_by_size(encoder, views)
    alone = torch.cat([encoder(view.x, view.valid) for view in views])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_a_crop_without_a_valid_pixel_was_not_seen() -> None:
    valid = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    valid[1] = False
    views = [View(torch.zeros(2, 3, 4, 4), valid), View(torch.zeros(2, 3, 4, 4), ~valid)]
    assert seen_in(views).tolist() == [[True, False], [False, True]]
