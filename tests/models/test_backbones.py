"""Encoders believe valid pixels only: what lies under the mask moves nothing, what is visible does."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from catalog.errors import TrainingError
from models.backbones import Encoder, attention_mask, describe_architecture, pooled, valid_share
from models.normalisation import Normalisation

TINY_VIT = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
TINY_SWIN = {"embed_dim": 16, "depths": [1, 2], "num_heads": [2, 4], "window_size": 2}
TINY_RESNET = {"channels": [8, 16, 24, 32], "stem_width": 8}
KINDS = {
    "resnet": ("resnet18", TINY_RESNET, 12),
    "vit": ("vit_tiny_patch16_224", TINY_VIT, 12),
    "swin": ("swin_tiny_patch4_window7_224", TINY_SWIN, 12),
    "spectral-swin": ("swin_tiny_patch4_window7_224", TINY_SWIN | {"front_end": "spectral-adapter"}, 80),
    "spectral-vit": ("vit_tiny_patch16_224", TINY_VIT | {"front_end": "spectral-adapter"}, 80),
    "spectral-resnet": ("resnet18", TINY_RESNET | {"front_end": "spectral-adapter"}, 80),
}


def make(kind: str, size_px: int = 16) -> Encoder:
    name, options, bands = KINDS[kind]
    torch.manual_seed(0)
    return Encoder(describe_architecture(name, options, bands=bands, input_size_px=size_px)).eval()


def masked_batch(bands: int, *, per_band: bool, size_px: int = 16) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    valid = torch.rand(3, bands if per_band else 1, size_px, size_px) > 0.3
    valid[0, ..., :5] = False
    return torch.randn(3, bands, size_px, size_px), valid


@pytest.mark.parametrize("per_band", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_values_under_the_mask_move_no_feature(kind: str, per_band: bool) -> None:
    encoder = make(kind)
    bands = KINDS[kind][2]
    values, valid = masked_batch(bands, per_band=per_band)
    normalisation = Normalisation((0.1,) * bands, (0.5,) * bands)
    other = torch.where(valid, values, torch.full_like(values, 1e6))
    other[0, 0, 0, 0] = torch.nan
    assert not valid[0, 0, 0, 0]
    ours = encoder.feature_map(normalisation.apply(values, valid), valid)
    theirs = encoder.feature_map(normalisation.apply(other, valid), valid)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(pooled(*ours), pooled(*theirs))
    # … while what is visible does.
    seen = encoder(normalisation.apply(values * 2, valid), valid)
    assert not torch.equal(seen, pooled(*ours))


def test_a_token_without_valid_pixels_is_attended_to_by_none() -> None:
    encoder = make("vit")
    x = torch.randn(1, 12, 16, 16)
    valid = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    valid[..., :4, :4] = False
    changed = x.clone()
    changed[..., :4, :4] += 3  # a fill that is not the stated one
    ours, theirs = (encoder.feature_map(value, valid)[0].flatten(2) for value in (x, changed))
    assert not torch.equal(ours[..., 0], theirs[..., 0])
    assert torch.equal(ours[..., 1:], theirs[..., 1:])
    assert torch.equal(encoder(x, valid), encoder(changed, valid))


@pytest.mark.parametrize("kind", ["resnet", "vit", "swin"])
def test_a_full_input_gives_what_timm_alone_gives(kind: str) -> None:
    encoder = make(kind)
    architecture = encoder.architecture
    alone = timm.create_model(architecture.name, **architecture.args).eval()
    alone.load_state_dict(encoder.backbone.state_dict(), strict=True)
    x = torch.randn(2, 12, 16, 16)
    everything = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), alone(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(encoder(x, everything), alone(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["resnet", "vit", "swin"])
def test_a_sample_without_valid_pixels_has_a_zero_embedding(kind: str) -> None:
    encoder = make(kind)
    valid = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    valid[0] = False
    embedding = encoder(torch.ones(2, 12, 16, 16), valid)
    assert torch.equal(embedding[0], torch.zeros_like(embedding[0]))
    assert embedding[1].abs().sum() > 0


def test_a_transformer_takes_inputs_of_other_sizes() -> None:
    encoder = make("vit")
    features, share = encoder.feature_map(torch.randn(1, 12, 22, 24))
    assert features.shape == (1, 32, 6, 6)
    # Two of the last row of tokens' four pixel rows are timm's padding.
    assert share[0, 0, :, 0].tolist() == [1, 1, 1, 1, 1, 0.5]


def test_a_swin_takes_inputs_of_other_sizes_and_believes_no_padding() -> None:
    encoder = make("swin")
    assert (encoder.whole_px, encoder.stride_px) == (4, 8)
    for side in (8, 16, 22, 40):
        features, share = encoder.feature_map(torch.randn(1, 12, side, side))
        cells = -(-side // 8)
        assert features.shape == (1, 32, cells, cells)
        assert share.shape == (1, 1, cells, cells)
        assert float(share[0, 0, 0, -1]) == (side - 8 * (cells - 1)) / 8


@pytest.mark.parametrize("kind", ["resnet", "spectral-resnet", "swin", "spectral-swin"])
def test_stem_and_what_follows_it_are_the_whole_encoder(kind: str) -> None:
    encoder = make(kind, 32)
    x = torch.randn(2, KINDS[kind][2], 32, 32)
    cells = encoder.stem(x)
    assert cells.shape[1] == encoder.stem_channels
    features = encoder.feature_map(x)[0]
    assert torch.equal(encoder.after_stem(cells), features)
    assert features.shape[-1] == 32 // encoder.stride_px


def test_a_transformer_without_stages_has_no_stem() -> None:
    with pytest.raises(TrainingError, match="no stem"):
        make("vit").stem(torch.randn(1, 12, 16, 16))


@pytest.mark.parametrize(
    ("name", "size_px", "stride"),
    [
        ("resnet18", 48, 32),
        ("resnet50", 48, 32),
        ("vit_tiny_patch16_224", 48, 16),
        ("vit_small_patch16_224", 48, 16),
        ("vit_base_patch16_224", 32, 16),
        ("swin_tiny_patch4_window7_224", 48, 32),
        ("swin_base_patch4_window7_224", 40, 32),
    ],
)
def test_published_backbones_take_any_bands_and_small_images(name: str, size_px: int, stride: int) -> None:
    encoder = Encoder(describe_architecture(name, {}, bands=13, input_size_px=size_px)).eval()
    assert encoder.stride_px == stride
    cells = -(-size_px // stride)
    with torch.no_grad():
        features, _ = encoder.feature_map(torch.randn(1, 13, size_px, size_px))
    assert features.shape == (1, encoder.feature_dim, cells, cells)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_the_embedding_is_the_mean_over_cells_weighted_by_their_valid_share(seed: int, cells: int) -> None:
    torch.manual_seed(seed)
    features = torch.randn(2, 5, cells, cells, dtype=torch.float64)
    valid = torch.rand(2, 3, cells * 2, cells * 2) > 0.4
    share = valid_share(valid, (cells, cells), like=features)
    for sample in range(2):
        total, weight = torch.zeros(5, dtype=torch.float64), 0.0
        for row in range(cells):
            for column in range(cells):
                window = valid[sample, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                part = float(window.double().mean())
                total += part * features[sample, :, row, column]
                weight += part
        expected = total / weight if weight else total
        torch.testing.assert_close(pooled(features, share)[sample], expected)
        assert math.isclose(float(share[sample].sum()), weight, abs_tol=1e-9)


def test_an_empty_sample_attends_to_everything_so_that_softmax_stays_finite() -> None:
    mask = attention_mask(torch.tensor([[True, False], [False, False]]), 1)
    assert mask[:, 0, 0].tolist() == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize(
    ("name", "options", "code"),
    [
        ("resnet19", {}, "no-such-backbone"),
        ("resnet18", {"no_such_argument": 1}, "no-such-backbone"),
        ("resnet18", {"front_end": "prism"}, "unknown-front-end"),
    ],
)
def test_a_backbone_that_does_not_exist_is_named(name: str, options: dict[str, Any], code: str) -> None:
    with pytest.raises(TrainingError) as refusal:
        Encoder(describe_architecture(name, options, bands=12, input_size_px=16))
    assert refusal.value.code == code
    assert refusal.value.next_step
