"""What the arrangement of a scene's pixels gives away: bands in the wrong order, stripes, speckle.

All of it is measured on the decimated picture that ``tasks.gate.statistics`` reads, but for speckle, which
needs neighbours at full resolution.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.products import Band, Product

FEWEST_PIXELS = 2_000
MOST_PIXELS = 4_000
"""Ranks of more than these say nothing more."""
FEWEST_LINES = 64
SPECKLE_BOX_PX = 5
REPEATED_SHARE = 0.3
"""Of neighbours that are equal: a coarse band that was spread over a finer grid."""

_GROUPS_NM = ((450.0, 690.0), (730.0, 900.0), (1_550.0, 1_760.0), (2_050.0, 2_350.0))
"""Visible light, the near infrared plateau, and two windows of the short-wave infrared (joined below)."""


def band_order_gain(
    product: Product, values: Mapping[str, NDArray[Any]], usable: NDArray[np.bool_]
) -> tuple[float, str | None]:
    """How much better the picture would fit its wavelengths if two bands changed places, or all did.

    Bands of visible light resemble one another more than near infrared ones, and so on: the measure is the
    mean rank correlation within such groups less that across them. It cannot see two bands of one group
    exchanged, and an exchange of visible with short-wave infrared counts half. Negative where the stated
    order is the best; NaN where there is nothing to go by.

    Parameters
    ----------
    values: band → raw numbers ``(y, x)``
    usable: pixels ``(y, x)`` that hold data in every band and are clear

    Returns
    -------
    gain of the best exchange, and which it is
    """
    names = [name for name in product.band_names if name in values and _group(product.band(name)) is not None]
    groups = np.array([_group(product.band(name)) for name in names], dtype=np.float64)
    if len(set(groups)) < 2 or len(names) < 4 or np.count_nonzero(usable) < FEWEST_PIXELS:
        return math.nan, None
    if len(names) > 24:  # neighbours 10 nm apart say the same
        picked = np.linspace(0, len(names) - 1, 24).astype(int)
        names, groups = [names[i] for i in picked], groups[picked]
    chosen = np.flatnonzero(usable)
    chosen = chosen[:: max(1, len(chosen) // MOST_PIXELS)]
    ranks = np.stack([_ranks(values[name].ravel()[chosen]) for name in names])
    if (ranks.std(axis=1) == 0).any():
        return math.nan, None
    likeness: NDArray[np.float64] = np.asarray(np.corrcoef(ranks), np.float64)
    stated = _cohesion(likeness, groups)
    gain, which = _cohesion(likeness, groups[::-1]) - stated, "all bands in reverse"
    for i, j in itertools.combinations(range(len(names)), 2):
        if groups[i] != groups[j]:
            changed = groups.copy()
            changed[[i, j]] = changed[[j, i]]
            better = _cohesion(likeness, changed) - stated
            if 1 not in (
                groups[i],
                groups[j],
            ):  # bare ground is alike in visible and short-wave infrared light
                better /= 2
            if better > gain:
                gain, which = better, f"{names[i]} and {names[j]} exchanged"
    return float(gain), which


def stripe_strength(values: NDArray[Any], valid: NDArray[np.bool_]) -> float:
    """How far whole rows or columns stand out from their neighbours, against the same of single pixels.

    A stripe moves all pixels of its line alike; the land does not. 1 is a picture of stripes alone, about 0.2
    one without. Lines of which less than half is valid are left out (SLC-off gaps are nodata, no stripes).
    """
    strongest = math.nan
    numbers = np.where(valid, values, np.nan).astype(np.float64)
    for picture in (numbers, numbers.T):
        if picture.shape[1] < FEWEST_LINES or picture.shape[0] < FEWEST_LINES:
            return math.nan
        bend = picture[:, 1:-1] - (picture[:, :-2] + picture[:, 2:]) / 2
        seen = np.isfinite(bend)
        same = np.diff(picture, axis=1) == 0
        if same.mean() > REPEATED_SHARE:
            return math.nan
        lines = seen.mean(axis=0) >= 0.5
        if np.count_nonzero(lines) < FEWEST_LINES // 2:
            continue
        of_lines = np.nanmedian(bend[:, lines], axis=0)
        of_pixels = _spread(bend[:, lines][seen[:, lines]])
        if of_pixels > 0:
            strongest = float(np.nanmax([strongest, _spread(of_lines) / of_pixels]))
    return strongest


def equivalent_looks(power: NDArray[Any]) -> float:
    """Equivalent number of looks: mean² / variance of linear power in small boxes, the median of all boxes.

    ``power`` is ``(y, x)``, NaN where it is invalid. Texture lowers it, filtering and averaging raise it. NaN
    if fewer than 20 boxes are whole. (Lee et al. 1994, Speckle filtering of SAR images.)
    """
    side = SPECKLE_BOX_PX
    rows, cols = (length // side for length in power.shape)
    cut = power[: rows * side, : cols * side].reshape(rows, side, cols, side)
    boxes: NDArray[np.float64] = cut.swapaxes(1, 2).reshape(-1, side * side).astype(np.float64)
    boxes = boxes[np.isfinite(boxes).all(axis=1) & (boxes > 0).all(axis=1)]
    if len(boxes) < 20:
        return math.nan
    variance = boxes.var(axis=1, ddof=1)
    with np.errstate(divide="ignore"):
        return float(1 / np.median(variance / boxes.mean(axis=1) ** 2))


def strongest_stripes(
    values: Mapping[str, NDArray[Any]], valid: Mapping[str, NDArray[np.bool_]], names: Sequence[str]
) -> tuple[float, str | None]:
    """``stripe_strength`` of the band in which it is greatest, and which that is."""
    found = {name: stripe_strength(values[name], valid[name]) for name in names}
    found = {name: strength for name, strength in found.items() if not math.isnan(strength)}
    if not found:
        return math.nan, None
    worst = max(found, key=lambda name: found[name])
    return found[worst], worst


def _group(band: Band) -> int | None:
    centre_nm = band.center_nm
    if band.common_name == "pan":  # all of visible light at once
        return None
    for number, (low, high) in enumerate(_GROUPS_NM):
        if centre_nm is not None and low <= centre_nm <= high:
            return min(number, 2)
    return None


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    order = np.empty(len(values))
    order[np.argsort(values, kind="stable")] = np.arange(len(values))
    return order


def _cohesion(likeness: NDArray[np.float64], groups: NDArray[np.float64]) -> float:
    first, second = np.triu_indices(len(groups), 1)
    pairs, same = likeness[first, second], groups[first] == groups[second]
    within = [pairs[same & (groups[first] == group)] for group in np.unique(groups)]
    return float(np.mean([part.mean() for part in within if len(part)]) - pairs[~same].mean())


def _spread(values: NDArray[np.float64]) -> float:
    """Standard deviation that outliers do not move."""
    low, high = np.percentile(values, (16, 84))
    return float(high - low) / 2
