"""Where a place on the ground lies in a radar scene: backward geocoding along the orbit (Range-Doppler).

A point is seen when the satellite flies past it at a right angle (zero Doppler); the distance then is its
slant range, which the annotation's polynomials turn into ground range (Small and Schubert, *Guide to
Sentinel-1 Geocoding*, UZH-S1-GC-AD). The orbit's fit and the search for zero Doppler are ``sarsen``'s, driven
by the annotation that was parsed here: sarsen's own reader wants a whole SAFE folder, parses its XML without
defusedxml, and ends at beta nought.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.normalise.sentinel1_annotation import ProductAnnotation, RangeConversion

SPEED_OF_LIGHT_M_S = 299_792_458.0
ORBIT_DEGREE = 5
"""Of the polynomial in time: over the 160 s of an annotation it follows the state vectors to 0.2 mm."""
ALONG_TRACK_M = 0.01
"""Where the search for zero Doppler ends."""

Numbers = NDArray[np.float64]


class RadarGeometry:
    """The geometry of one scene; safe to share among threads."""

    def __init__(self, annotation: ProductAnnotation) -> None:
        import xarray as xr
        from sarsen.orbit import OrbitPolyfitInterpolator

        self.annotation = annotation
        orbit, grid = annotation.orbit, annotation.grid
        # Any epoch does: all times are seconds after the first line.
        epoch = np.datetime64("2000-01-01T00:00:00", "ns")
        nanoseconds = np.round(orbit.times_s * 1e9).astype(np.int64).astype("timedelta64[ns]")
        positions = xr.DataArray(
            orbit.positions_m,
            dims=("azimuth_time", "axis"),
            coords={"azimuth_time": epoch + nanoseconds, "axis": [0, 1, 2]},
        )
        degree = min(ORBIT_DEGREE, len(orbit.times_s) - 1)
        self._orbit = OrbitPolyfitInterpolator.from_position(positions, deg=degree, epoch=epoch)
        # A line is not one zero-Doppler time: far range comes later by half the echo's extra travel time. How
        # much is not written anywhere but in the ground-control points themselves.
        late = grid.time_s - grid.line * annotation.line_interval_s
        self._lateness = np.polynomial.Polynomial.fit(grid.slant_range_s.ravel(), late.ravel(), 1)
        line, pixel = self.locate(grid.longitude, grid.latitude, grid.height_m)
        self.line_error = float(np.sqrt(np.mean((line - grid.line) ** 2)))
        """Root mean square disagreement with the annotation's own grid, lines."""
        self.pixel_error = float(np.sqrt(np.mean((pixel - grid.pixel) ** 2)))
        """The same in pixels."""

    @property
    def error_m(self) -> float:
        """Root mean square disagreement with the annotation's own ground-control points, metres."""
        return float(
            np.hypot(
                self.line_error * self.annotation.azimuth_spacing_m,
                self.pixel_error * self.annotation.range_spacing_m,
            )
        )

    def locate(
        self, longitude: NDArray[Any], latitude: NDArray[Any], height_m: NDArray[Any]
    ) -> tuple[Numbers, Numbers]:
        """Line and pixel (fractions, 0 at the centre of the first) of places; NaN where the height is NaN.

        Parameters
        ----------
        height_m: above the ellipsoid; all three of the same two-dimensional shape
        """
        import xarray as xr
        from pyproj import Transformer
        from sarsen.geocoding import backward_geocode_simple

        to_earth_fixed = Transformer.from_crs(4979, 4978, always_xy=True)
        known = np.isfinite(height_m)
        x, y, z = to_earth_fixed.transform(longitude, latitude, np.where(known, height_m, 0.0))
        places = xr.DataArray(np.stack([x, y, z]), dims=("axis", "y", "x"), coords={"axis": [0, 1, 2]})
        time, distance, _ = backward_geocode_simple(
            places, self._orbit, method="newton", zero_doppler_distance=ALONG_TRACK_M
        )
        seconds = np.asarray(time.values, np.float64)
        slant_m = np.asarray(np.sqrt((distance**2).sum("axis")), np.float64)
        travel_s = 2 * slant_m / SPEED_OF_LIGHT_M_S
        line = (seconds - self._lateness(travel_s)) / self.annotation.line_interval_s
        pixel = self._ground_range_m(seconds, slant_m) / self.annotation.range_spacing_m
        return np.where(known, line, np.nan), np.where(known, pixel, np.nan)

    def _ground_range_m(self, seconds: Numbers, slant_m: Numbers) -> Numbers:
        """Between the two polynomials that hold before and after, in proportion of time."""
        conversions = self.annotation.conversions
        if len(conversions) == 1:
            return _polynomial(conversions[0], slant_m)
        at = np.array([one.time_s for one in conversions])
        before = np.clip(np.searchsorted(at, seconds, side="right") - 1, 0, len(at) - 2)
        weight = np.clip((seconds - at[before]) / (at[before + 1] - at[before]), 0, 1)
        ground_m = np.zeros_like(slant_m)
        for index in np.unique(before):
            here = before == index
            low = _polynomial(conversions[index], slant_m[here])
            high = _polynomial(conversions[index + 1], slant_m[here])
            ground_m[here] = low + (high - low) * weight[here]
        return ground_m


def _polynomial(conversion: RangeConversion, slant_m: Numbers) -> Numbers:
    value = np.polynomial.polynomial.polyval(slant_m - conversion.origin_m, conversion.coefficients)
    return np.asarray(value, np.float64)
