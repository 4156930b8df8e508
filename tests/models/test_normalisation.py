"""Band statistics are those of all valid pixels, however they are split into batches."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.normalisation import BandStatistics, Normalisation


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 5), min_size=1, max_size=5), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_streaming_statistics_equal_those_of_all_valid_pixels(
    seed: int, sizes: list[int], valid_share: float
) -> None:
    rng = np.random.default_rng(seed)
    statistics = BandStatistics(3)
    values, masks = [], []
    for size in sizes:
        batch = rng.normal(1e3, 2.0, (size, 3, 4, 4)).astype(np.float32)
        mask = rng.random((size, 3, 4, 4)) < valid_share
        hidden = np.where(mask, batch, np.nan)
        statistics.update(hidden, mask)
        values.append(batch)
        masks.append(mask)
    everything, mask = np.concatenate(values).astype(np.float64), np.concatenate(masks)
    for band in range(3):
        seen = everything[:, band][mask[:, band]]
        assert statistics.count[band] == len(seen)
        if len(seen):
            np.testing.assert_allclose(statistics.mean[band], seen.mean(), rtol=1e-9)
            np.testing.assert_allclose(statistics.std[band], seen.std() or 1.0, rtol=1e-5, atol=1e-9)
        else:
            assert statistics.std[band] == 1.0


def test_what_is_invalid_becomes_the_fill_whatever_it_was() -> None:
    normalisation = Normalisation((2.0, 0.0), (4.0, 1.0), fill=-1.0)
    values = torch.tensor([6.0, 7.0]).view(1, 2, 1, 1).repeat(1, 1, 2, 2)
    values[0, 0, 0, 0] = torch.nan
    valid = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    valid[..., 0, 0] = False
    normalised = normalisation.apply(values, valid)
    assert normalised[0, 0].tolist() == [[-1.0, 1.0], [1.0, 1.0]]
    assert normalised[0, 1].tolist() == [[-1.0, 7.0], [7.0, 7.0]]
    assert Normalisation.from_dict(normalisation.to_dict()) == normalisation
