"""MAE: only masked tokens and valid pixels count, and nothing under a mask moves anything."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import TrainingError
from models.backbones import Encoder, describe_architecture
from models.masked import choose_visible, sine_cosine_positions, to_tokens
from models.methods import load_method
from models.methods.method import Method, MethodContext, View

TINY = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}


def make(bands: int = 5, size_px: int = 16, front_end: str | None = None, **options: object) -> Method:
    torch.manual_seed(0)
    factory = load_method("mae")
    asked = TINY | ({"front_end": front_end} if front_end else {})
    encoder = Encoder(
        describe_architecture("vit_tiny_patch16_224", asked, bands=bands, input_size_px=size_px)
    )
    given_options = {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2} | options
    return factory.build(
        MethodContext(encoder, bands, size_px, 10), factory.options.model_validate(given_options)
    )


def view(bands: int = 5, *, per_band: bool = False, invalid: float = 0.3) -> View:
    torch.manual_seed(1)
    valid = torch.rand(4, bands if per_band else 1, 16, 16) > invalid
    valid[..., :8, :4] = False  # two tokens without a valid pixel
    return View(torch.where(valid, torch.randn(4, bands, 16, 16), 0.0), valid)


def loss_of(method: Method, given_view: View, seed: int = 7) -> torch.Tensor:
    torch.manual_seed(seed)
    return method.loss((given_view,), torch.arange(4)).loss


def test_tokens_hold_the_pixels_of_their_patch_row_by_row() -> None:
    image = torch.arange(2 * 8 * 12.0).view(1, 2, 8, 12)
    tokens = to_tokens(image, 4)
    assert tokens.shape == (1, 6, 32)
    assert torch.equal(tokens[0, 4].view(4, 4, 2), image[0, :, 4:8, 4:8].permute(1, 2, 0))


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9), st.integers(2, 30))
@settings(max_examples=60, deadline=None)
def test_visible_and_masked_tokens_share_the_believed_ones(seed: int, ratio: float, tokens: int) -> None:
    torch.manual_seed(seed)
    believed = torch.rand(3, tokens) > 0.3
    visible, masked = choose_visible(believed, ratio)
    kept = max(1, round(tokens * (1 - ratio)))
    assert visible.shape == (3, kept)
    for sample in range(3):
        seen = set(visible[sample].tolist())
        assert len(seen) == kept
        assert (
            set(masked[sample].nonzero()[:, 0].tolist())
            == set(believed[sample].nonzero()[:, 0].tolist()) - seen
        )
        if believed[sample].sum() >= kept:
            assert believed[sample][visible[sample]].all()


@pytest.mark.parametrize("per_band", [False, True])
@pytest.mark.parametrize("front_end", [None, "spectral-adapter"])
def test_values_under_the_mask_move_no_loss_even_when_the_fill_is_forgotten(
    front_end: str | None, per_band: bool
) -> None:
    bands = 80 if front_end else 5
    method = make(bands, front_end=front_end)
    ours = view(bands, per_band=per_band)
    # Targets leave out what is invalid by themselves; the fill alone would not be enough.
    torch.manual_seed(7)
    before = method.loss((ours,), torch.arange(4))
    crop = method.augmentation
    garbage = torch.where(ours.valid, ours.x, torch.full_like(ours.x, 1e5))
    torch.manual_seed(9)
    first = View(*crop(ours.x, ours.valid))
    torch.manual_seed(9)
    second = View(*crop(garbage, ours.valid))
    assert torch.equal(loss_of(method, first), loss_of(method, second))
    assert torch.isfinite(before.loss)


def test_the_loss_counts_masked_tokens_only() -> None:
    method = make(mask_ratio=0.5, normalise_targets=False)
    given_view = view(invalid=0.0)
    torch.manual_seed(7)
    _, masked = choose_visible(
        to_tokens(given_view.valid.expand_as(given_view.x), 4).any(2), method.options.mask_ratio
    )
    captured = {}
    method.decoder.register_forward_hook(lambda _, __, out: captured.update(predicted=out))
    loss = loss_of(method, given_view)
    target = to_tokens(given_view.x, 4)
    valid = to_tokens(given_view.valid.expand_as(given_view.x), 4)
    counted = masked & valid.any(2)
    assert (~counted).any()
    squared = (captured["predicted"] - target).square()
    expected = (squared * valid).sum(2)[counted] / valid.sum(2)[counted]
    torch.testing.assert_close(loss, expected.mean())


def test_a_token_without_valid_pixels_reaches_no_prediction() -> None:
    method = make(mask_ratio=0.1)  # so many are visible that invalid ones are among them
    captured = []
    method.decoder.register_forward_hook(lambda _, __, out: captured.append(out))
    ours = view()
    garbage = ours.x.clone()
    garbage[..., :8, :4] = 50.0
    for x in (ours.x, garbage):
        loss_of(method, View(x, ours.valid))
    assert torch.equal(captured[0], captured[1])


def test_the_decoder_is_thrown_away_and_the_whole_encoder_learns() -> None:
    method = make()
    loss_of(method, view()).backward()
    without = [name for name, p in method.encoder.named_parameters() if p.grad is None]
    assert without == []
    assert not any("decoder" in name for name in method.encoder.state_dict())


def test_positions_tell_rows_from_columns() -> None:
    positions = sine_cosine_positions((3, 5), 16)
    assert positions.shape == (15, 16)
    grid = positions.view(3, 5, 16)
    assert torch.equal(grid[1, 0, :8], grid[1, 4, :8])
    assert torch.equal(grid[0, 2, 8:], grid[2, 2, 8:])
    assert len({tuple(row.tolist()) for row in positions}) == 15


def test_a_convolutional_backbone_or_a_patch_that_does_not_divide_is_refused() -> None:
    factory = load_method("mae")
    for name, options, size in (("resnet18", {}, 32), ("vit_tiny_patch16_224", TINY, 18)):
        encoder = Encoder(describe_architecture(name, options, bands=5, input_size_px=size))
        with pytest.raises(TrainingError) as refusal:
            factory.build(MethodContext(encoder, 5, size, 10), factory.options())
        assert refusal.value.code == "wrong-backbone"
