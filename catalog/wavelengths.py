"""Which band of a scene's file is which band of its product, told by wavelength and width, never by index.

EnMAP's processor changed its list of 224 bands: 221 are the same but for a shift of the calibration (VNIR
-0.25 nm, SWIR +0.3 nm), and three of them, all in bands where water vapour absorbs everything, were
exchanged, so that every index between them is another band. Around 950 nm its two detectors interleave, in
pairs that lie within 1 nm: a pair may stand in the other order on the other list, and only the width tells
its detectors apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from catalog.products.model import Product
from catalog.scenes import Scene

TOLERANCE_NM = 1.0
"""Within which two centres are one band: calibrations differ by 0.3 nm, neighbouring bands by 4 nm and
more."""
WIDTH_TOLERANCE_NM = 0.3
"""Within which two widths are one detector's: around 950 nm those of VNIR and SWIR differ by 0.37 nm and
more."""
MOST_FOREIGN = 8
"""Bands of another wavelength that a scene of the product may hold; the two known lists differ in three."""


def file_order(
    product: Product, centres_nm: Sequence[float], widths_nm: Sequence[float] | None
) -> tuple[int, ...] | None:
    """For every band of a file, in its order, the place among ``product.bands`` that it takes.

    Bands that are none of the product's take the places that are left over, in ascending wavelength: every
    band of the file is kept, and ``foreign_bands`` tells which are not what their place says. None where
    more than ``MOST_FOREIGN`` are.
    """
    by_index = tuple(range(len(product.bands)))
    if any(band.center_nm is None for band in product.bands):
        return by_index

    def apart(number: int, place: int) -> float | None:
        """How far a band of the file is from one of the product, or None where it cannot be it."""
        band = product.bands[place]
        shift = abs(centres_nm[number] - (band.center_nm or 0.0))
        if shift > TOLERANCE_NM:
            return None
        wider = 0.0
        if widths_nm is not None and band.fwhm_nm is not None:
            wider = abs(widths_nm[number] - band.fwhm_nm)
        return shift + wider if wider <= WIDTH_TOLERANCE_NM else None

    if all(apart(place, place) is not None for place in by_index):
        return by_index
    pairs = [
        (distance, number, place)
        for place in by_index
        for number in range(len(centres_nm))
        if (distance := apart(number, place)) is not None
    ]
    taken: dict[int, int] = {}
    free = set(range(len(product.bands)))
    for _, number, place in sorted(pairs):
        if number not in taken and place in free:
            taken[number] = place
            free.remove(place)
    if len(free) > MOST_FOREIGN:
        return None
    rest = iter(sorted(free))
    for number in range(len(centres_nm)):
        if number not in taken:
            taken[number] = next(rest)
    return tuple(taken[number] for number in range(len(centres_nm)))


def scene_wavelengths(product: Product, scene: Scene) -> tuple[tuple[float | None, float | None], ...]:
    """(centre, width) in nanometres of every band as it lies in the cube, in the product's band order.

    The scene's own where its item states them, else the product's; None for radar. From a sample to its
    wavelengths: ``scene_wavelengths(product, cube.scenes(product.id)[columns["scene"][row]])``.
    """
    nominal = tuple((band.center_nm, band.fwhm_nm) for band in product.bands)
    centres = scene.radiometry.get("wavelengths_nm")
    if not isinstance(centres, Sequence) or len(centres) != len(nominal):
        return nominal
    widths = scene.radiometry.get("fwhm_nm") or [width for _, width in nominal]
    return tuple(zip(centres, widths, strict=True))


def foreign_bands(product: Product, scene: Scene) -> tuple[str, ...]:
    """Bands in whose places a scene holds another wavelength: numbers that are no measurement of the band."""
    own = scene_wavelengths(product, scene)
    return tuple(
        band.name
        for band, (centre, _) in zip(product.bands, own, strict=True)
        if centre is not None and band.center_nm is not None and abs(centre - band.center_nm) > TOLERANCE_NM
    )
