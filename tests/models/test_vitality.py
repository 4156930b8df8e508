"""Five dead encoders are refused, each with its reason; living ones are not."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from models.vitality import (
    Vitality,
    VitalityLimits,
    VitalitySamples,
    effective_rank,
    measure_vitality,
    spread_of,
    weight_distance,
)

PLACES, BANDS, SIDE = 24, 4, 16


@pytest.fixture(scope="module")
def samples() -> VitalitySamples:
    """Places with a spectrum and a texture of their own, at two dates with another season and other gaps."""
    rng = np.random.default_rng(0)
    spectrum = rng.uniform(0.02, 0.4, (PLACES, 1, BANDS, 1, 1))
    texture = rng.normal(0, 0.05, (PLACES, 1, 1, SIDE, SIDE))
    season = np.array([0.0, 0.06]).reshape(1, 2, 1, 1, 1) * rng.uniform(0.5, 1.5, (1, 1, BANDS, 1, 1))
    values = spectrum + texture + season + rng.normal(0, 0.01, (PLACES, 2, BANDS, SIDE, SIDE))
    values = values.reshape(-1, BANDS, SIDE, SIDE).astype(np.float32)
    valid = np.ones(values.shape, bool)
    for index in range(len(values)):
        rows = rng.integers(0, SIDE // 2)
        valid[index, :, :rows] = False
    return VitalitySamples(
        np.where(valid, values, 0).astype(np.float32),
        valid,
        np.repeat([f"place-{i:02}" for i in range(PLACES)], 2),
        np.tile([np.datetime64("2024-02-01"), np.datetime64("2024-07-01")], PLACES),
    )


def _network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(BANDS, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def _encode(network: nn.Module) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    network.eval()

    def encode(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network((torch.from_numpy(np.where(valid, values, 0.2)).float() - 0.2) / 0.12).numpy()

    return encode


def _train(network: nn.Module, samples: VitalitySamples, steps: int = 60) -> nn.Module:
    """A small contrastive run between the two dates of a place."""
    x = (torch.from_numpy(np.where(samples.valid, samples.values, 0.2)).float() - 0.2) / 0.12
    head = nn.Linear(32, 32)
    optimiser = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=2e-3)
    network.train()
    for _ in range(steps):
        a, b = (nn.functional.normalize(head(network(part)), dim=1) for part in (x[0::2], x[1::2]))
        loss = nn.functional.cross_entropy(a @ b.T / 0.2, torch.arange(len(a)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def _refusals(encode: Callable, samples: VitalitySamples, **weights: dict) -> tuple[Vitality, list[str]]:
    vitality = measure_vitality(encode, samples, **weights)
    return vitality, vitality.refusals()


def test_a_constant_encoder_is_refused(samples: VitalitySamples) -> None:
    vitality, reasons = _refusals(lambda x, valid: np.full((len(x), 32), 0.7), samples)
    assert reasons[0].startswith("features are constant")
    assert vitality.spread < 1e-6


def test_a_collapsed_encoder_is_refused_though_it_reacts_a_little(samples: VitalitySamples) -> None:
    alive = _encode(_train(_network(), samples))
    _, reasons = _refusals(lambda x, valid: 1.0 + 1e-3 * alive(x, valid), samples)
    assert reasons and reasons[0].startswith("features are constant")


def test_noise_drawn_at_every_call_is_refused(samples: VitalitySamples) -> None:
    rng = np.random.default_rng(1)
    vitality, reasons = _refusals(lambda x, valid: rng.normal(size=(len(x), 32)), samples)
    assert reasons[0].startswith("features are noise")
    assert vitality.effective_rank > 20, "noise scores highest, which is why the rank does not decide"


def test_noise_that_is_a_hash_of_the_pixels_is_refused(samples: VitalitySamples) -> None:
    """Repeatable, spread out, and moved by every pixel, it still knows nothing of the place."""

    def encode(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        seeds = [zlib.crc32(sample.tobytes()) for sample in values]
        return np.stack([np.random.default_rng(seed).normal(size=32) for seed in seeds])

    vitality, reasons = _refusals(encode, samples)
    assert [reason[:32] for reason in reasons] == ["features do not tell places apart"[:32]]
    assert vitality.instability == 0


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_a_rank_one_encoder_is_refused(samples: VitalitySamples, offset: float) -> None:
    """Brightness tells places apart, spreads, and reacts; it is one number all the same."""
    direction = np.random.default_rng(2).normal(size=32)
    base = offset * np.random.default_rng(3).normal(size=32)

    def encode(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        brightness = (values.sum((1, 2, 3)) / valid.sum((1, 2, 3)) - 0.2) / 0.05
        return base + brightness[:, None] * direction

    vitality, reasons = _refusals(encode, samples)
    assert any(reason.startswith("features are rank one") for reason in reasons)
    assert vitality.spread > 0.1
    assert vitality.effective_rank == pytest.approx(1, abs=0.01)


def test_an_encoder_that_reads_only_the_validity_mask_is_refused(samples: VitalitySamples) -> None:
    projection = np.random.default_rng(4).normal(size=(SIDE * SIDE, 32))

    def encode(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        return valid[:, 0].reshape(len(values), -1) @ projection

    vitality, reasons = _refusals(encode, samples)
    assert any(reason.startswith("features ignore the input") for reason in reasons)
    assert vitality.response_swap == 0


def test_an_encoder_that_follows_the_batch_position_is_refused(samples: VitalitySamples) -> None:
    """Samples of one place lie side by side, so that even retrieval would succeed."""
    waves = np.random.default_rng(5).normal(size=(2, 32))

    def encode(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        position = np.arange(len(values))[:, None] / 4
        return np.sin(position * waves[0] + waves[1])

    _, reasons = _refusals(encode, samples)
    assert any("position in the batch" in reason for reason in reasons)


def test_an_untrained_encoder_is_refused_for_its_weights_alone(samples: VitalitySamples) -> None:
    network = _network()
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()(torch.randn(8, BANDS, SIDE, SIDE))  # moves the running statistics of batch normalisation
    _, reasons = _refusals(_encode(network), samples, weights=network.state_dict(), initial_weights=initial)
    assert len(reasons) == 1
    assert reasons[0].startswith("weights are untrained")


def test_saving_as_bf16_does_not_make_an_untrained_encoder_trained(samples: VitalitySamples) -> None:
    network = _network()
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    rounded = {
        name: value.bfloat16().float() if value.is_floating_point() else value
        for name, value in initial.items()
    }
    distance, _ = weight_distance(rounded, initial)
    assert 0 < distance < VitalityLimits().min_weight_distance


def test_features_that_are_not_finite_are_refused(samples: VitalitySamples) -> None:
    _, reasons = _refusals(lambda x, valid: np.full((len(x), 8), np.nan), samples)
    assert reasons == ["features are not finite numbers"]


@pytest.mark.parametrize("seed", range(3))
def test_a_trained_encoder_is_accepted(samples: VitalitySamples, seed: int) -> None:
    network = _network(seed)
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    _train(network, samples)
    vitality, reasons = _refusals(
        _encode(network), samples, weights=network.state_dict(), initial_weights=initial
    )
    assert reasons == []
    assert vitality.retrieval_pairs == "dates"
    assert vitality.weight_distance is not None and vitality.weight_distance > 0.01
    assert vitality.to_dict()["refusals"] == []


def test_an_encoder_of_single_spectra_is_accepted(samples: VitalitySamples) -> None:
    """It does not react to shuffled pixels, which is no fault."""
    mixing = np.random.default_rng(6).normal(size=(2 * BANDS, 16))

    def encode(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        count = valid.sum((2, 3))
        mean = values.sum((2, 3)) / count
        return np.concatenate([mean, mean**2], axis=1) @ mixing

    vitality, reasons = _refusals(encode, samples)
    assert reasons == []
    assert vitality.response_shuffle < 0.5 < vitality.response_swap


def test_where_places_have_one_date_the_turned_sample_is_sought(samples: VitalitySamples) -> None:
    parts = (samples.values, samples.valid, samples.places, samples.times)
    once = VitalitySamples(*(part[::2] for part in parts))
    network = _train(_network(), samples)
    vitality, reasons = _refusals(_encode(network), once)
    assert (vitality.retrieval_pairs, vitality.retrieval_places) == ("turned", PLACES)
    assert reasons == []
    _, dead = _refusals(lambda x, valid: np.ones((len(x), 8)), once)
    assert dead


def test_weights_of_another_network_have_no_distance() -> None:
    with pytest.raises(KeyError):
        weight_distance({"a": np.ones(3)}, {"b": np.ones(3)})


def test_spread_and_effective_rank_know_their_extremes() -> None:
    noise = np.random.default_rng(0).normal(size=(400, 16))
    assert spread_of(noise) == pytest.approx(1, abs=0.02)
    assert effective_rank(noise) == pytest.approx(16, abs=0.5)
    assert spread_of(np.ones((10, 16))) == pytest.approx(0)
    assert effective_rank(np.outer(np.arange(10.0), np.ones(4))) == pytest.approx(1)
    assert effective_rank(np.ones((10, 16))) == 0
