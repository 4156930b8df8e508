"""Radiometric truth: whether a scene's pixels bear out the scale and offset that its metadata call for.

The dark end decides. Every scene of some size holds water, shade or dense vegetation, whose reflectance is
close to zero in one band or another; the lowest reflectances therefore show where zero lies in the numbers,
and an offset that was missed or applied twice moves them by its whole size. Where nothing dark is in sight
(cloud, snow, desert), the pixels cannot tell and the verdict says so.

Three verdicts: ``agrees``, ``contradicts``, ``undecidable``. How the limits below were set, on which real
scenes, and how they do on others is in docs/radiometry.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from catalog.products.model import Product
from catalog.radiometric_bands import is_visible, sees_ground, shows_clipping
from catalog.radiometry import Calibration, conversion, to_physical

Verdict = Literal["agrees", "contradicts", "undecidable"]

FEWEST_PIXELS = 3_000
"""Of a scene's decimated picture that are valid and clear: fewer need not hold anything dark."""
LOW_PERCENT = 2.0
"""The dark end: robust against the stray pixels that atmospheric correction makes negative."""
USUAL_OFFSET = 0.1
"""Reflectance; the size of the error looked for where a product has no offset of its own."""

OLI_ZERO_DN = 5_000
"""What Landsat 8 and 9 write for a top-of-atmosphere reflectance of zero."""

# Shares of the offset's size, of the darkest band's low percentile as it reads under the stated offset.
TOO_LOW = -0.2
"""Below: darker than black. A right scene's lies above -0.1 (Sentinel-2 L2A's worst band: -0.04)."""
DARK_VISIBLE = 0.85
"""Up to this in every visible band: dark ground, when all is right. Desert, snow and cloud are not."""
TOO_HIGH = (0.9, 1.85)
"""From the first in every band, up to the second in every visible one: dark ground, one offset too high."""
CIRRUS_DARK = 0.4
"""Of the cirrus band: air's water vapour hides the ground, so it reads almost zero wherever no cirrus is."""

CLIPPED_SHARE = (0.02, 0.4)
"""Of the pixels, in blue or green, that lie at the lowest number there is: more than the second means that a
subtraction cut them off; more than the first, that zero is out of sight (over-correction cuts 27 %)."""
CUT_BRIGHT_SHARE = 0.05
"""Of the pixels that lie at the lowest number in one band that sees the ground, yet are bright in another."""
BRIGHT = 0.2
"""Reflectance, of such a pixel; sediment in water reaches 0.15."""
WRAPPED_SHARE = 0.01
"""Of the pixels that lie just below the largest number there is: below zero, in an unsigned file."""
FILL_SHARE = 0.0005
"""Of the pixels that hold one and the same number in all bands: nodata that was shifted or scaled along."""
BRIGHTEST = 2.0
"""Reflectance of the brightest band's 99th percentile beyond which a factor is wrong."""
DIMMEST = 0.08
"""The same below which a factor may be wrong, or the scene is nothing but water."""

FEWEST_CIRRUS_PIXELS = 200
"""Where the cirrus band decides: it reads zero everywhere, not in the dark only."""
FEWEST_RADAR_PIXELS = 500
"""Medians need fewer pixels than a dark end does."""
# Radar backscatter, decibels: medians of a scene of land, sea or both.
CO_POLAR_DB = (-26.0, -2.0)
CROSS_POLAR_DB = (-34.0, -9.0)
POWER_GAP_DB = 4.9
"""Between co- and cross-polar medians: amplitude that is taken for power halves it."""
SURE_GAP_DB, SURE_LOOKS = 4.5, 7.0
"""A gap that is somewhat smaller is power's when the speckle is as strong as power's alone can be."""
POWER_LOOKS = 11.0
"""Equivalent looks that power of 10 to 20 m reaches at most; amplitude shows four times as many."""


@dataclass(frozen=True)
class BandEvidence:
    """One band's dark end, middle and bright end, in physical units under the stated calibration."""

    low: float
    middle: float
    high: float
    clipped_share: float
    wrapped_share: float


@dataclass(frozen=True)
class Evidence:
    """What the pixels of one scene show."""

    bands: Mapping[str, BandEvidence]
    """Bands that hold anything, in product order."""
    clear_pixels: int
    """Valid, and not cloud by the scene's own QA layer, where it has one."""
    fill_value: float | None
    """The commonest number that stands in all bands of a pixel at once, nodata aside."""
    fill_share: float
    cut_bright_share: float
    """Of the clear pixels: at the lowest number in one band, bright in a visible one."""
    looks: float
    """Equivalent number of looks (radar), NaN where it is not known."""
    valid_share: float
    """Of the numbers that are not nodata, those that have a physical value (radar: a logarithm)."""


@dataclass(frozen=True)
class Judgement:
    """A verdict and why, in one line."""

    verdict: Verdict
    reason: str


def gather_evidence(
    product: Product,
    calibration: Calibration,
    values: Mapping[str, NDArray[Any]],
    cloud: NDArray[np.bool_] | None = None,
    *,
    looks: float = math.nan,
) -> Evidence:
    """Evidence from raw numbers.

    Parameters
    ----------
    values: band → raw numbers ``(y, x)``, all on one grid; bands of the product may be missing
    cloud:  where the QA layer sees cloud or cirrus (not shadow: shade is dark, which is wanted)
    looks:  equivalent number of looks of a radar scene, where it was measured
    """
    names = [name for name in product.band_names if name in values]
    stack = np.stack([np.asarray(values[name]) for name in names])
    empty = _empty(stack, product.nodata)
    held = ~empty.all(axis=0)
    clear = held & ~cloud if cloud is not None else held
    fill, share = _fill(stack, held, product.nodata)
    bands: dict[str, BandEvidence] = {}
    pixels = max(1, int(clear.sum()))
    numbers = measured = 0
    cut, bright = (np.zeros(held.shape, bool) for _ in range(2))
    for raw, nothing, name in zip(stack, empty, names, strict=True):
        place = product.band_names.index(name)
        low_end = raw == _lowest(product) if product.scan_gaps else nothing | (raw == _lowest(product))
        if sees_ground(product, name):
            cut |= low_end
            if is_visible(product, name):
                bright |= raw * calibration.scale[place] + calibration.offset[place] > BRIGHT
        taken = raw[clear & ~nothing]
        if fill is not None and share > FILL_SHARE:
            taken = taken[taken != fill]
        physical, valid = to_physical(
            taken,
            conversion=conversion(product, name),
            scale=calibration.scale[place],
            offset=calibration.offset[place],
            nodata=product.nodata,
            k1=calibration.k1[place],
            k2=calibration.k2[place],
        )
        numbers, measured = numbers + taken.size, measured + int(valid.sum())
        if not valid.any():
            continue
        low, middle, high = np.percentile(physical[valid], (LOW_PERCENT, 50, 99))
        bottom = np.count_nonzero(clear & low_end)
        bands[name] = BandEvidence(
            float(low), float(middle), float(high), bottom / pixels, _wrapped(taken) / pixels
        )
    cut_bright = float(np.count_nonzero(cut & bright & clear) / pixels)
    valid_share = measured / numbers if numbers else 0.0
    return Evidence(bands, int(clear.sum()), fill, share, cut_bright, looks, valid_share)


def judge_radiometry(product: Product, calibration: Calibration, evidence: Evidence) -> Judgement:
    """What the evidence says of the calibration."""
    if not evidence.bands:
        if evidence.clear_pixels and not evidence.valid_share:
            return Judgement("contradicts", "no number has a physical value under the stated calibration")
        return Judgement("undecidable", "it holds no pixel that is clear")
    broken = _broken(product, calibration, evidence)
    if broken:
        return Judgement("contradicts", broken)
    if product.radiometry.rule in ("power-to-db", "amplitude-to-db", "db-linear"):
        return _radar(product, evidence)
    return _reflectance(product, calibration, evidence)


def _broken(product: Product, calibration: Calibration, evidence: Evidence) -> str | None:
    """What no right scene shows, however small it is."""
    if evidence.fill_value is not None and evidence.fill_share > FILL_SHARE and len(product.bands) > 2:
        where = f"{100 * evidence.fill_share:.2g} % of its pixels hold {evidence.fill_value:g} in all bands"
        return f"{where}: nodata that was scaled or shifted along with the measurements"
    for name, band in evidence.bands.items():
        if band.wrapped_share > WRAPPED_SHARE:
            return (
                f"{name}: {100 * band.wrapped_share:.2g} % of its numbers lie just below the largest there "
                "is, as negative ones do in an unsigned file: an offset was taken off that was not there"
            )
        if shows_clipping(product, name) and band.clipped_share > CLIPPED_SHARE[1]:
            return (
                f"{name}: {100 * band.clipped_share:.2g} % of its pixels are cut off at the lowest number: "
                "an offset was taken off that was not there"
            )
    if evidence.cut_bright_share > CUT_BRIGHT_SHARE:
        return (
            f"{100 * evidence.cut_bright_share:.2g} % of its pixels are cut off at the lowest number of a "
            "band though bright in another: an offset was taken off that was not there"
        )
    return None


def _reflectance(product: Product, calibration: Calibration, evidence: Evidence) -> Judgement:
    size = _offset_size(product, calibration)
    read = {name: band for name, band in evidence.bands.items() if sees_ground(product, name)}
    cirrus = next((n for n in evidence.bands if product.band(n).common_name == "cirrus"), None)
    if not read:
        return Judgement("undecidable", "it has no band of reflectance that the ground is seen in")
    brightest = max(read, key=lambda name: read[name].high)
    if read[brightest].high > BRIGHTEST:
        return Judgement(
            "contradicts",
            f"{brightest}: 1 % of its pixels exceed a reflectance of {read[brightest].high:.2g}",
        )
    darkest = min(read, key=lambda name: read[name].low)
    low = read[darkest].low / size
    enough = evidence.clear_pixels >= FEWEST_PIXELS
    shown = f"{darkest}: its dark end reads {read[darkest].low:.3f}"
    if low < TOO_LOW and (enough or read[darkest].middle / size < TOO_LOW):
        return Judgement(
            "contradicts", f"{shown}, darker than black: an offset of {size:g} was applied twice"
        )
    for name in evidence.bands:
        if shows_clipping(product, name) and evidence.bands[name].clipped_share > CLIPPED_SHARE[0]:
            share = 100 * evidence.bands[name].clipped_share
            return Judgement("undecidable", f"{name}: {share:.2g} % of its pixels lie at the lowest number")
    if cirrus is not None and evidence.clear_pixels >= FEWEST_CIRRUS_PIXELS:
        return _by_cirrus(cirrus, evidence.bands[cirrus], size, _stated_size(calibration), low, shown)
    if not enough:
        return Judgement("undecidable", f"only {evidence.clear_pixels} clear pixels, {FEWEST_PIXELS} needed")
    if _stated_size(calibration) == 0 and _factor_only(product):
        return Judgement("undecidable", f"{shown}; gain and sun elevation are factors, which zero hides")
    if read[brightest].high < DIMMEST:
        return Judgement(
            "undecidable", f"nothing is brighter than {read[brightest].high:.2g}: water, or a factor"
        )
    visible = {n: b.low / size for n, b in read.items() if is_visible(product, n)}
    if not visible:
        return Judgement("undecidable", "it has no visible band, in which all dark ground is dark")
    offset_in_pixels = _stated_size(calibration) > 0
    lightest = max(visible.values())
    if offset_in_pixels:
        # Unshifted numbers of bright ground would read the same; dark in every visible band they are not.
        if lightest <= DARK_VISIBLE:
            return Judgement("agrees", f"{shown}, as dark ground does")
        return Judgement("undecidable", f"{shown}: nothing dark in sight")
    if low <= 1 + TOO_LOW and lightest <= DARK_VISIBLE:
        return Judgement("agrees", f"{shown}, as dark ground does")
    if TOO_HIGH[0] <= low and lightest <= TOO_HIGH[1]:
        return Judgement("contradicts", f"{shown}, as if {size:g} had been added, which its metadata denies")
    return Judgement("undecidable", f"{shown}: nothing dark in sight")


def _by_cirrus(
    name: str, band: BandEvidence, size: float, stated: float, darkest: float, shown: str
) -> Judgement:
    """The cirrus band sees no ground, so it shows zero itself, however few and bright the pixels are."""
    low = band.low / size
    reads = f"{name}: where no cirrus is it reads {band.low:.3f}"
    if low < TOO_LOW:
        return Judgement(
            "contradicts", f"{reads}, darker than black: an offset of {size:g} was applied twice"
        )
    if low <= CIRRUS_DARK:
        return Judgement("agrees", f"{reads}, as it must")
    if stated == 0 and darkest <= 1 + TOO_LOW:
        return Judgement("agrees", f"{shown}, less than an offset of {size:g} above zero")
    if stated == 0 and TOO_HIGH[0] <= low <= 1 + CIRRUS_DARK:
        return Judgement("contradicts", f"{reads}, as if {size:g} had been added, which its metadata denies")
    return Judgement("undecidable", f"{reads}: cirrus all over")


def _radar(product: Product, evidence: Evidence) -> Judgement:
    """Level of each polarisation, and the distance of the two."""
    if evidence.clear_pixels < FEWEST_RADAR_PIXELS:
        return Judgement("undecidable", f"only {evidence.clear_pixels} pixels, {FEWEST_RADAR_PIXELS} needed")
    if evidence.valid_share < 0.5:
        lost = 100 * (1 - evidence.valid_share)
        return Judgement("contradicts", f"{lost:.0f} % of its numbers have no logarithm: decibels, not power")
    co = next((name for name in evidence.bands if name in ("VV", "HH")), None)
    cross = next((name for name in evidence.bands if name in ("VH", "HV")), None)
    for name, span in ((co, CO_POLAR_DB), (cross, CROSS_POLAR_DB)):
        if name is not None and not span[0] <= evidence.bands[name].middle <= span[1]:
            level = evidence.bands[name].middle
            return Judgement(
                "contradicts",
                f"{name}: its median is {level:.1f} dB, where {span[0]:g} to {span[1]:g} is possible",
            )
    if co is None or cross is None:
        return Judgement("undecidable", "one polarisation alone does not tell power from amplitude")
    gap = evidence.bands[co].middle - evidence.bands[cross].middle
    apart = f"{co} lies {gap:.1f} dB above {cross}"
    smooth = evidence.looks > POWER_LOOKS
    if gap < POWER_GAP_DB and smooth:
        looks = f"{evidence.looks:.0f} looks"
        return Judgement("contradicts", f"{apart} with {looks}: amplitude that is taken for power")
    grainy = evidence.looks < SURE_LOOKS and gap >= SURE_GAP_DB
    if smooth or (gap < POWER_GAP_DB and not grainy):
        return Judgement("undecidable", f"{apart}: amplitude, filtered power, or rough ground")
    return Judgement("agrees", f"{apart}, as power does")


def _offset_size(product: Product, calibration: Calibration) -> float:
    """Of the error looked for: the stated offset, or where none is stated the product's, or the usual one."""
    if product.radiometry.rule == "landsat-toa" and product.dtype == "uint16":
        usual = OLI_ZERO_DN * float(np.nanmax(calibration.scale[np.isnan(calibration.k1)]))
    else:
        usual = abs(product.radiometry.offset) or USUAL_OFFSET
    return _stated_size(calibration) or usual


def _stated_size(calibration: Calibration) -> float:
    linear = np.isnan(calibration.k1)
    size = float(np.nanmax(np.abs(calibration.offset[linear]), initial=0.0))
    # Landsat 4 to 7 add a few thousandths: no offset that could be seen at the dark end.
    return size if size > USUAL_OFFSET / 2 else 0.0


def _factor_only(product: Product) -> bool:
    return product.radiometry.rule == "landsat-toa"


def _empty(stack: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    if stack.dtype.kind == "f":
        empty = ~np.isfinite(stack)
    else:
        empty = np.zeros(stack.shape, bool)
    if nodata is not None and not math.isnan(nodata):
        empty |= stack == nodata
    return empty


def _fill(stack: NDArray[Any], held: NDArray[np.bool_], nodata: float | None) -> tuple[float | None, float]:
    """The commonest number that fills all bands of a pixel, and its share of the pixels that hold any.

    Not the ends of what a file can hold: deep shade is cut off at the lowest, cloud at the largest.
    """
    if len(stack) < 2 or not held.any():
        return None, 0.0
    same = held & (stack == stack[0]).all(axis=0)
    if nodata == 0:
        same &= stack[0] > 1
    if stack.dtype.kind in "iu":
        same &= stack[0] < np.iinfo(stack.dtype).max
    if not same.any():
        return None, 0.0
    numbers, counts = np.unique(stack[0][same], return_counts=True)
    most = int(counts.argmax())
    return float(numbers[most]), float(counts[most] / held.sum())


def _lowest(product: Product) -> float:
    """The smallest number that is a measurement: processors that clip put it where a value would be less."""
    return 1.0 if product.nodata == 0 else 0.0


def _wrapped(taken: NDArray[Any]) -> int:
    if taken.dtype.kind != "u" or taken.dtype.itemsize != 2:
        return 0
    return int(np.count_nonzero((taken >= 64_000) & (taken < 65_500)))
