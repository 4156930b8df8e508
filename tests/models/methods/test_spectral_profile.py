"""Spectral profiles: whole runs of bands are hidden, only hidden valid values count, pixels never mix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.backbones import Encoder, describe_architecture
from models.methods import load_method
from models.methods.method import Method, MethodContext, View
from models.methods.spectral_profile import hidden_bands
from tests.models.methods import harness

NAME = "spectral-profile"
BANDS = 24
TOKENS = {"kind": "spectral-tokens", "group": 4, "width": 16, "depth": 1, "heads": 2}
PER_PIXEL = {"patch_size": 1, "depth": 0, "embed_dim": 32, "num_heads": 2, "class_token": False}
TINY = {"pixels_per_sample": 8, "run_bands": 3, "decoder_hidden": 32}
make = harness.maker(NAME, TINY, bands=BANDS, size_px=4)


def per_pixel(front_end: object = TOKENS) -> Method:
    """The method on single pixels, behind a one-dimensional transformer over groups of bands."""
    torch.manual_seed(0)
    factory = load_method(NAME)
    options = PER_PIXEL | ({"front_end": front_end} if front_end else {"depth": 1})
    encoder = Encoder(
        describe_architecture(
            "vit_tiny_patch16_224",
            options,
            bands=BANDS,
            input_size_px=1,
            wavelengths_nm=np.linspace(450, 2400, BANDS).tolist(),
        )
    )
    return factory.build(MethodContext(encoder, BANDS, 1, 10), factory.options.model_validate(TINY))


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 12), st.floats(0.05, 0.95))
@settings(max_examples=60, deadline=None)
def test_whole_runs_are_hidden_and_never_all_bands(seed: int, bands: int, run: int, ratio: float) -> None:
    torch.manual_seed(seed)
    hidden = hidden_bands(5, bands, run, ratio)
    assert hidden.shape == (5, bands)
    assert hidden.any(1).all()
    assert (~hidden).any(1).all()
    if 2 * run <= bands:
        # Within a sample, changes lie a multiple of the run apart.
        for row in hidden:
            changes = (row[1:] != row[:-1]).nonzero()[:, 0]
            assert ((changes - changes[:1]) % run == 0).all()


def test_half_of_the_bands_are_hidden_on_average() -> None:
    torch.manual_seed(0)
    hidden = hidden_bands(2000, 80, 8, 0.5)
    assert hidden.float().mean() == pytest.approx(0.5, abs=0.02)
    assert hidden.float().mean(0) == pytest.approx(0.5, abs=0.1)


def test_the_loss_is_the_mean_square_over_hidden_valid_values_of_the_middle_pixel() -> None:
    method = make().double()
    torch.manual_seed(1)
    valid = torch.rand(6, BANDS, 4, 4) > 0.3
    view = View(torch.where(valid, torch.randn(6, BANDS, 4, 4), 0.0).double(), valid)
    seen = {}
    method.decoder.register_forward_hook(lambda _, __, out: seen.update(rebuilt=out.detach().numpy()))
    torch.manual_seed(7)
    loss = method.loss((view,), torch.arange(6)).loss
    torch.manual_seed(7)
    hidden = hidden_bands(6, BANDS, 3, 0.5).numpy()
    target, known = view.x[..., 2, 2].numpy(), valid[..., 2, 2].numpy()
    errors = []
    for pixel in range(6):
        counted = hidden[pixel] & known[pixel]
        if counted.any() and (known[pixel] & ~hidden[pixel]).any():
            rebuilt = seen["rebuilt"][pixel]
            errors.append(np.mean((rebuilt - target[pixel])[counted] ** 2))
    assert float(loss.detach()) == pytest.approx(np.mean(errors), rel=1e-9)


def test_what_is_hidden_reaches_no_prediction() -> None:
    method = make()
    torch.manual_seed(1)
    x = torch.randn(6, BANDS, 4, 4)
    valid = torch.ones(6, 1, 4, 4, dtype=torch.bool)
    torch.manual_seed(7)
    hidden = hidden_bands(6, BANDS, 3, 0.5)
    rebuilt = []
    method.decoder.register_forward_hook(lambda _, __, out: rebuilt.append(out.detach()))
    for values in (x, torch.where(hidden[:, :, None, None], 100.0, x)):
        torch.manual_seed(7)
        method.loss((View(values, valid),), torch.arange(6))
    assert torch.equal(rebuilt[0], rebuilt[1])


@pytest.mark.parametrize("front_end", [TOKENS, None])
def test_single_pixels_go_through_a_transformer_over_bands_or_an_mlp(front_end: object) -> None:
    method = per_pixel(front_end)
    sample = View(torch.randn(2, BANDS, 6, 6), torch.ones(2, 1, 6, 6, dtype=torch.bool))
    (windows,) = method.views((sample,))
    assert windows.x.shape == (16, BANDS, 1, 1)
    method.loss((windows,), torch.arange(2)).loss.backward()
    unused = [name for name, p in method.encoder.named_parameters() if p.grad is None]
    assert unused == []


def test_behind_the_transformer_over_bands_pixels_do_not_mix() -> None:
    encoder = per_pixel().encoder.eval()
    x = torch.randn(1, BANDS, 4, 4)
    with torch.no_grad():
        whole, _ = encoder.feature_map(x)
        alone, _ = encoder.feature_map(x[..., 1:2, 2:3])
    torch.testing.assert_close(whole[..., 1:2, 2:3], alone, rtol=1e-5, atol=1e-6)


def test_encoder_placeholders_and_decoder_learn() -> None:
    method = make(pixels_per_sample=1)
    made = method.loss(harness.random_views(method, count=1), torch.arange(harness.BATCH))
    made.loss.backward()
    assert [name for name, p in method.named_parameters() if p.grad is None] == []
    assert (method.placeholder.grad != 0).any()
    assert made.embedding.shape == (harness.BATCH, method.encoder.feature_dim)


def test_pixels_under_the_mask_move_no_loss() -> None:
    harness.check_masked_pixels_move_nothing(make, NAME)


def test_fifty_steps_follow_the_golden_curve() -> None:
    harness.check_golden_curve(make, NAME)


def test_a_collapse_is_seen() -> None:
    harness.check_collapse_is_seen(make, NAME)
