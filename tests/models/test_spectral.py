"""The spectral adapter has the shapes of its paper, mixes bands only, and refuses too few of them."""

from __future__ import annotations

import pytest
import torch

from catalog.errors import TrainingError
from models.backbones import Encoder, describe_architecture
from models.spectral import MIN_BANDS, SpectralAdapter, adapter_lengths


@pytest.mark.parametrize(
    ("bands", "lengths"),
    [(202, (40, 8, 2)), (235, (47, 9, 3)), (198, (39, 7, 2)), (150, (30, 6, 2))],
)
def test_the_spectral_axis_shrinks_as_in_the_paper(bands: int, lengths: tuple[int, ...]) -> None:
    adapter = SpectralAdapter().eval()
    x = torch.randn(1, 1, bands, 2, 2)
    measured = []
    for layer in adapter:
        x = layer(x)
        if isinstance(layer, torch.nn.Conv3d):
            measured.append(x.shape[2])
    assert tuple(measured) == lengths == adapter_lengths(bands)
    assert x.shape == (1, 128, 1, 2, 2)


def test_weights_carry_the_names_of_the_released_ones_and_fit_any_band_count() -> None:
    names = set(SpectralAdapter().state_dict())
    assert {name.split(".")[0] for name in names} == {"0", "1", "3", "4", "6", "7"}
    adapter = SpectralAdapter().eval()
    for bands in (MIN_BANDS, 202, 224):
        assert adapter(torch.randn(2, bands, 3, 4)).shape == (2, 128, 3, 4)


def test_fewer_bands_than_it_can_fold_are_refused() -> None:
    assert adapter_lengths(MIN_BANDS)[-1] == 1
    assert adapter_lengths(MIN_BANDS - 1)[-1] == 0
    with pytest.raises(TrainingError, match="at least 75 bands") as refusal:
        describe_architecture("resnet18", {"front_end": "spectral-adapter"}, bands=12, input_size_px=16)
    assert refusal.value.code == "too-few-bands"


def test_a_pixel_does_not_feel_its_neighbours() -> None:
    adapter = SpectralAdapter().eval()
    x = torch.randn(1, 80, 4, 4)
    changed = x.clone()
    changed[..., 0, 0] += 5
    difference = (adapter(x) - adapter(changed)).abs().amax(1)[0]
    assert difference[0, 0] > 0
    assert difference.flatten()[1:].max() == 0


@pytest.mark.parametrize(("name", "side"), [("resnet18", 2), ("resnet50", 2)])
def test_a_resnet_behind_the_adapter_has_stride_16(name: str, side: int) -> None:
    asked = describe_architecture(name, {"front_end": "spectral-adapter"}, bands=80, input_size_px=32)
    features, share = Encoder(asked).eval().feature_map(torch.randn(1, 80, 32, 32))
    assert features.shape[2:] == share.shape[2:] == (side, side)
