"""Views know where they lie: crops show what their map says, cells pair with the nearest on the ground."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.located_views import cell_positions, located_crop, nearest_cells, taken
from models.methods.method import View


def coordinates(side: int) -> torch.Tensor:
    """An image whose two bands are x and y, -1 … 1 from edge to edge."""
    centres = (torch.arange(side) + 0.5) / side * 2 - 1
    return torch.stack([centres[None].expand(side, -1), centres[:, None].expand(-1, side)])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_positions_are_those_of_the_pixels_that_a_crop_shows(seed: int) -> None:
    torch.manual_seed(seed)
    x = coordinates(64).expand(4, -1, -1, -1)
    view = located_crop(View(x, torch.ones(4, 1, 64, 64, dtype=torch.bool)), 16, (0.2, 0.6))
    shown = view.x.flatten(2).transpose(1, 2)
    expected = cell_positions(view.theta, (16, 16))
    inside = expected.abs().amax(2) < 1 - 1 / 32
    torch.testing.assert_close(shown[inside], expected[inside], rtol=0, atol=1e-4)
    assert inside.float().mean() > 0.7


def test_some_crops_are_mirrored_and_some_are_not() -> None:
    torch.manual_seed(0)
    x = torch.zeros(64, 1, 8, 8)
    theta = located_crop(View(x, torch.ones_like(x).bool()), 4, (0.5, 1.0)).theta
    for at in (theta[:, 0, 0], theta[:, 1, 1]):
        assert 0.2 < (at < 0).float().mean() < 0.8


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_the_nearest_pairs_are_found(seed: int, matches: int) -> None:
    rng = np.random.default_rng(seed)
    ours, theirs = rng.random((2, 3, 9, 2))
    our_seen, their_seen = rng.random((2, 3, 9)) < 0.7
    arguments = [torch.tensor(value) for value in (ours, theirs, our_seen, their_seen)]
    our_index, their_index, counts = (value.numpy() for value in nearest_cells(*arguments, matches))
    assert our_index.shape == (3, min(matches, 9))
    for sample in range(3):
        distance = np.linalg.norm(ours[sample][:, None] - theirs[sample][None], axis=2)
        distance[~our_seen[sample]] = np.inf
        distance[:, ~their_seen[sample]] = np.inf
        best = np.sort(distance.min(1))[:matches]
        chosen = distance[our_index[sample], their_index[sample]]
        np.testing.assert_allclose(np.sort(chosen[counts[sample]]), best[np.isfinite(best)])
        assert int(counts[sample].sum()) == int(np.isfinite(best).sum())
        assert len(set(our_index[sample].tolist())) == len(our_index[sample])


def test_cells_are_taken_row_by_row() -> None:
    features = torch.arange(2 * 3 * 4.0).view(1, 2, 3, 4)
    assert torch.equal(taken(features, torch.tensor([[5, 0]])), features[0, :, [1, 0], [1, 0]].T)
