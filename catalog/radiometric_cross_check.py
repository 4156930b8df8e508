"""A second opinion: whether two products of one place and time read the same reflectance.

What the dark end cannot tell (cloud, snow, desert; a factor such as a missed sun elevation), another product
of the place can: Level-1C against Level-2A of one datatake, Sentinel-2 against Landsat of the same day.
Compared are the medians of bands from red to short-wave infrared, where air adds little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from catalog.products.model import Band, Product
from catalog.radiometric_bands import sees_ground
from catalog.radiometric_truth import Judgement

FROM_NM = 600.0
SAME_BAND_NM = 30.0
FEWEST_BANDS = 3
MOST_CLOUD = 0.3
"""Of either scene: more of it, and the two do not see the same."""
AGREES = 0.04
"""Median difference in reflectance up to which two products read the same."""
CONTRADICTS = 0.07
FACTOR = 1.5
"""Ratio of the medians beyond which a factor is wrong, where no difference is the same in all bands."""


def cross_check(
    product: Product, row: Mapping[str, Any], other: Product, other_row: Mapping[str, Any]
) -> Judgement:
    """What a row of ``tasks.gate.statistics`` says of another one of the same place and time.

    Both rows have ``p50_<band>`` in reflectance and ``cloud_fraction``. The verdict is about the two of them:
    which one is wrong is told by their own.
    """
    for one in (row, other_row):
        if one.get("cloud_fraction", math.nan) > MOST_CLOUD:
            return Judgement("undecidable", f"{other.id} saw cloud, or this scene did")
    pairs = [
        (row.get(f"p50_{a.name}", math.nan), other_row.get(f"p50_{b.name}", math.nan))
        for a, b in matching_bands(product, other)
    ]
    pairs = [pair for pair in pairs if all(math.isfinite(value) for value in pair)]
    if len(pairs) < FEWEST_BANDS:
        return Judgement("undecidable", f"it shares fewer than {FEWEST_BANDS} bands with {other.id}")
    own, others = np.array(pairs).T
    difference = float(np.median(own - others))
    told = f"its medians differ from those of {other.id} by {difference:+.3f}"
    if abs(difference) >= CONTRADICTS:
        return Judgement("contradicts", f"{told}: an offset in one of them is wrong")
    if (others > 0.02).all() and (own > 0).all():
        ratio = float(np.median(own / others))
        if not 1 / FACTOR <= ratio <= FACTOR:
            return Judgement("contradicts", f"its medians are {ratio:.2f} times those of {other.id}")
    if abs(difference) <= AGREES:
        return Judgement("agrees", told)
    return Judgement("undecidable", told)


def matching_bands(product: Product, other: Product) -> list[tuple[Band, Band]]:
    """Bands that see the same light, red and beyond; each with the nearest one of the other product."""
    pairs = []
    for band in product.bands:
        if (band.center_nm or 0.0) < FROM_NM or not sees_ground(product, band.name):
            continue
        near = [b for b in other.bands if b.center_nm is not None and sees_ground(other, b.name)]
        twin = min(near, key=lambda b: abs((b.center_nm or 0) - (band.center_nm or 0)), default=None)
        if twin is not None and abs((twin.center_nm or 0) - (band.center_nm or 0)) <= SAME_BAND_NM:
            pairs.append((band, twin))
    return pairs
