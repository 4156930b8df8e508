"""Windows are copies of their pixels, about different believed centres."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.pixel_windows import choose_windows, cut_windows


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(6, 11), st.integers(6, 11), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_windows_lie_inside_and_about_different_centres(
    seed: int, size: int, height: int, width: int, count: int
) -> None:
    torch.manual_seed(seed)
    believed = torch.rand(3, height, width) > 0.5
    top, left = choose_windows(believed, size, count)
    places = (height - size + 1) * (width - size + 1)
    assert top.shape == left.shape == (3, min(count, places))
    assert top.min() >= 0 and left.min() >= 0
    assert top.max() <= height - size and left.max() <= width - size
    middle = size // 2
    for sample in range(3):
        rows, columns = top[sample] + middle, left[sample] + middle
        assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == len(rows)
        reachable = believed[sample, middle : height - size + 1 + middle, middle : width - size + 1 + middle]
        assert believed[sample, rows, columns].sum() == min(len(rows), int(reachable.sum()))


def test_cut_windows_hold_the_pixels_of_their_place() -> None:
    values = torch.randn(2, 3, 8, 9)
    top, left = torch.tensor([[0, 5], [2, 1]]), torch.tensor([[6, 0], [3, 4]])
    windows = cut_windows(values, top, left, 3)
    assert windows.shape == (4, 3, 3, 3)
    for number, (sample, row, column) in enumerate([(0, 0, 6), (0, 5, 0), (1, 2, 3), (1, 1, 4)]):
        assert torch.equal(windows[number], values[sample, :, row : row + 3, column : column + 3])


def test_a_window_larger_than_the_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        choose_windows(torch.ones(1, 8, 8, dtype=torch.bool), 9, 1)
