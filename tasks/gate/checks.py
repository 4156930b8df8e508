"""What the gate expects of every scene of a product, as data: one ``Check`` per column and limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from catalog.products import Product
from catalog.recipes import GateLimits

Table = Literal["metadata", "pixels"]
Kind = Literal["most", "least", "none", "one-of"]


@dataclass(frozen=True)
class Check:
    """One thing that is expected of every scene."""

    id: str
    table: Table
    column: str
    title: str
    limit: str
    """In words, for the report."""
    kind: Kind
    bound: Any = None
    """The limit itself: a number, or the allowed values."""
    unit: Literal["", "%", "share", "°", "min"] = ""
    """``share`` columns are fractions, shown in per cent."""
    why: str | None = None
    """Column of the same table that says more about a value."""

    def show(self, value: Any) -> str:
        """A value as a person reads it."""
        if value is None or value != value:
            return "none" if self.kind == "none" else "not stated"
        if self.unit == "share":
            return f"{100 * value:.1f} %"
        if self.unit:
            return f"{value:.4g}{'' if self.unit == '°' else ' '}{self.unit}"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    def reason(self, value: Any, more: Any = None) -> str:
        """Why a value is refused, with value and limit."""
        told = self._reason(value)
        return f"{told} ({more})" if isinstance(more, str) and more else told

    def _reason(self, value: Any) -> str:
        shown = self.show(value)
        match self.kind:
            case "most":
                return f"{self.title} {shown} exceeds the limit of {self.show(self.bound)}"
            case "least":
                return f"{self.title} {shown} is below the limit of {self.show(self.bound)}"
            case "one-of" if self.why:
                return f"{self.title}: {shown}"
            case "one-of":
                return f"{self.title} {shown} is none of {', '.join(map(str, self.bound))}"
            case _:
                return f"{self.title}: {shown}"


def checks_for(product: Product, limits: GateLimits) -> list[Check]:
    """What is expected of a product's scenes under a recipe's limits."""
    optical = any(band.quantity == "reflectance" for band in product.bands)
    checks = [
        Check("sensed", "metadata", "minutes_ahead", "sensed in the future by", "past", "most", 10, "min")
    ]
    if product.platforms:
        allowed = product.platforms
        checks.append(
            Check("platform", "metadata", "platform", "platform", "of the product", "one-of", allowed)
        )
    if optical:
        cloud, sun = limits.max_cloud_percent, limits.min_sun_elevation_deg
        checks += [
            Check("cloud", "metadata", "cloud", "cloud cover", f"at most {cloud:g} %", "most", cloud, "%"),
            Check("sun", "metadata", "sun", "sun elevation", f"at least {sun:g}°", "least", sun, "°"),
        ]

    def share(name: str, column: str, title: str, limit: float) -> Check:
        return Check(name, "pixels", column, title, f"at most {limit:.0%}", "most", limit, "share")

    def finding(name: str, title: str) -> Check:
        return Check(name, "pixels", name, title, "none", "none")

    checks += [
        share("nodata", "nodata_fraction", "pixels without data", limits.max_nodata_fraction),
        share("cloudy", "cloud_fraction", "cloud by the QA layer", limits.max_cloud_fraction),
        share("saturated", "saturated_fraction", "saturated pixels", limits.max_saturated_fraction),
        finding("constant_bands", "bands with one value only"),
        finding("duplicate_bands", "bands that are copies"),
        finding("implausible_bands", "bands beyond what is physical"),
    ]
    # Hyperspectral products leave out the bands in which the air is opaque.
    spectral = len(product.bands) > 32
    checks.append(
        share("empty", "empty_share", "bands without data", 0.25)
        if spectral
        else finding("empty_bands", "bands without data")
    )
    checks.append(
        Check(
            "radiometry",
            "pixels",
            "radiometry",
            "radiometry by the pixels",
            "not contradicted",
            "one-of",
            ("agrees", "undecidable"),
            why="radiometry_reason",
        )
    )
    if optical:
        order, stripes = limits.max_band_order_gain, limits.max_stripe_strength
        checks += [
            Check(
                "band_order",
                "pixels",
                "band_order_gain",
                "another band order fits better by",
                f"at most {order:g}",
                "most",
                order,
                why="band_order",
            ),
            Check(
                "stripes",
                "pixels",
                "stripe_strength",
                "strength of stripes",
                f"at most {stripes:g}",
                "most",
                stripes,
                why="striped_band",
            ),
        ]
    if product.radiometry.rule == "power-to-db":
        fewest, most = limits.min_speckle_looks, limits.max_speckle_looks
        checks += [
            Check("speckle", "pixels", "looks", "looks by speckle", f"at least {fewest:g}", "least", fewest),
            Check("filtered", "pixels", "looks", "looks by speckle", f"at most {most:g}", "most", most),
        ]
    if spectral:
        checks.append(Check("wavelengths", "metadata", "wavelengths", "wavelength grid", "none", "none"))
    return checks
