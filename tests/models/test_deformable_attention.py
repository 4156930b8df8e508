"""Deformable attention: without offsets plain attention, with them keys from elsewhere; DeCUR's shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from catalog.errors import TrainingError
from models.backbones import Encoder, describe_architecture
from models.deformable_attention import ResidualDeformableAttention, add_deformable_attention


def still(layer: ResidualDeformableAttention) -> ResidualDeformableAttention:
    last = layer.offsets[-1]
    assert isinstance(last, nn.Conv2d)
    nn.init.zeros_(last.weight)
    return layer


def test_without_offsets_every_cell_attends_to_every_cell() -> None:
    torch.manual_seed(0)
    layer = still(ResidualDeformableAttention(256, stride=1, kernel=3)).double()
    x = torch.randn(2, 256, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(layer.sampled(x, layer.query(x)), x)

    cells = x.flatten(2).transpose(1, 2).numpy()
    weights = {
        name: (
            getattr(layer, name).weight[:, :, 0, 0].detach().numpy(),
            getattr(layer, name).bias.detach().numpy(),
        )
        for name in ("query", "key", "value", "out")
    }
    query, key, value = (cells @ weights[n][0].T + weights[n][1] for n in ("query", "key", "value"))
    attended = np.empty_like(query)
    for head in range(2):
        of = slice(128 * head, 128 * (head + 1))
        score = query[..., of] @ key[..., of].transpose(0, 2, 1) / np.sqrt(128)
        share = np.exp(score - score.max(-1, keepdims=True))
        attended[..., of] = share / share.sum(-1, keepdims=True) @ value[..., of]
    expected = cells + attended @ weights["out"][0].T + weights["out"][1]
    np.testing.assert_allclose(layer(x).detach().flatten(2).transpose(1, 2).numpy(), expected, rtol=1e-6)


def test_offsets_look_elsewhere_and_learn() -> None:
    torch.manual_seed(0)
    layer = ResidualDeformableAttention(256, stride=2, kernel=5)
    x = torch.randn(2, 256, 6, 6)
    sampled = layer.sampled(x, layer.query(x))
    assert sampled.shape == (2, 256, 3, 3)
    assert not torch.allclose(sampled, still(layer).sampled(x, layer.query(x)))
    ResidualDeformableAttention.forward(layer, x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_heads_and_groups_are_those_of_the_released_code() -> None:
    third = ResidualDeformableAttention(1024, stride=2, kernel=5)
    fourth = ResidualDeformableAttention(2048, stride=1, kernel=3)
    assert (third.heads, third.groups) == (8, 4)
    assert (fourth.heads, fourth.groups) == (16, 8)


def test_an_encoder_may_have_it_and_says_that_timm_alone_does_not_build_it() -> None:
    options = {"deformable_attention": True, "channels": [8, 16, 128, 256], "stem_width": 8}
    encoder = Encoder(describe_architecture("resnet18", options, bands=3, input_size_px=64))
    assert not encoder.architecture.is_plain
    assert encoder(torch.randn(2, 3, 64, 64)).shape == (2, 256)
    assert any("offsets" in name for name, _ in encoder.named_parameters())


def test_only_a_resnet_has_stages_for_it() -> None:
    with pytest.raises(TrainingError, match="wrong-backbone"):
        add_deformable_attention(nn.Identity(), subject="vit_tiny_patch16_224")
