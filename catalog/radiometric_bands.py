"""What each band of a product can tell of its scale and offset."""

from __future__ import annotations

from catalog.products import Product


def sees_ground(product: Product, name: str) -> bool:
    """Whether a band shows the reflectance of what lies below."""
    return is_reflectance(product, name) and not _opaque(product.band(name).center_nm)


def is_reflectance(product: Product, name: str) -> bool:
    """Whether a band holds reflectance."""
    return product.band(name).quantity == "reflectance"


def visible_bands(product: Product) -> list[str]:
    """Blue to red: bands in which all dark ground is dark."""
    return [name for name in product.band_names if is_visible(product, name)]


def is_visible(product: Product, name: str) -> bool:
    """Whether a band is blue, green or red."""
    return is_reflectance(product, name) and 450 <= (product.band(name).center_nm or 0.0) <= 690


def shows_clipping(product: Product, name: str) -> bool:
    """Whether no ground is so dark in the band that its processor writes the lowest number often.

    Asked only of products that have an offset to be taken off.
    """
    if product.radiometry.rule == "linear" and not product.radiometry.offset:
        return False
    band = product.band(name)
    return band.common_name == "cirrus" or (is_visible(product, name) and (band.center_nm or 0.0) <= 600)


def _opaque(centre_nm: float | None) -> bool:
    """Whether water vapour hides the ground there; what is left after correction is noise about zero."""
    return centre_nm is not None and any(a <= centre_nm <= b for a, b in ((1340, 1480), (1780, 2000)))
