"""Annotation of a simulated Sentinel-1 GRD scene: product, calibration and noise XML of the real schema."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from deployments.sandbox.observation import Observation
from deployments.sandbox.radar_geometry import SPACING_M, SPEED_OF_LIGHT_M_S, RadarPass

TABLE_STEP_PX = 40
AZIMUTH_STEP_PX = 10
STATE_VECTORS = 16
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Tables:
    """What turns power into amplitudes, and how the thermal noise is spread, over a raster."""

    shape: tuple[int, int]
    scalloped: bool
    """Noise that varies along the track too; the older annotation cannot say so."""

    @classmethod
    def of(cls, shape: tuple[int, int], role: str) -> Tables:
        """The older version of a reprocessed scene has the layout from before March 2018."""
        return cls(shape, role != "superseded")

    def amplitude_factor(self, lines: Any = None, pixels: Any = None) -> Numbers:
        """The calibration constant A ``(line, pixel)``."""
        line, pixel = self._share(lines, pixels)
        return np.asarray(480.0 + 40.0 * pixel[None, :] + 6.0 * line[:, None])

    def noise_shape(self) -> Numbers:
        """Thermal noise relative to its floor ``(line, pixel)``."""
        return np.asarray(self.along_range() * self.along_azimuth()[:, None])

    def along_range(self, pixels: Any = None) -> Numbers:
        _, pixel = self._share(None, pixels)
        return np.asarray(1.0 + 0.5 * (2 * pixel - 1) ** 2)

    def along_azimuth(self, lines: Any = None) -> Numbers:
        line = np.arange(self.shape[0]) if lines is None else lines
        return 1.0 + 0.15 * np.sin(np.asarray(line) / 23.0) * self.scalloped

    def _share(self, lines: Any, pixels: Any) -> tuple[Numbers, Numbers]:
        line = np.arange(self.shape[0]) if lines is None else np.asarray(lines)
        pixel = np.arange(self.shape[1]) if pixels is None else np.asarray(pixels)
        return line / self.shape[0], pixel / self.shape[1]


@dataclass(frozen=True)
class ControlPoint:
    """One ground-control point."""

    line: float
    pixel: float
    longitude: float
    latitude: float
    height_m: float
    incidence_deg: float
    seconds: float
    """From the pass over the middle of the square."""
    slant_m: float

    @classmethod
    def of(
        cls, seen_from: RadarPass, line: Numbers, pixel: Numbers, x: Numbers, y: Numbers, height_m: Numbers
    ) -> list[ControlPoint]:
        to_degrees = Transformer.from_crs(seen_from.square.epsg, 4326, always_xy=True)
        longitude, latitude = to_degrees.transform(x, y)
        seconds, slant_m = seen_from.time_and_range(x, y, height_m)
        incidence = seen_from.incidence_at(x, y, height_m)
        columns = (line, pixel, longitude, latitude, height_m, incidence, seconds, slant_m)
        return [cls(*(float(value) for value in row)) for row in zip(*columns, strict=True)]


def product_xml(
    name: str, seen_from: RadarPass, seen: Observation, start: datetime, points: list[ControlPoint]
) -> str:
    """The product annotation of one polarisation."""
    lines, samples = seen_from.shape
    end = start + timedelta(seconds=(lines - 1) * seen_from.line_interval_s)
    slant_s = 2 * seen_from.near_slant_m / SPEED_OF_LIGHT_M_S
    times: Numbers = np.arange(STATE_VECTORS, dtype=np.float64) * 10.0 - 5.0 * STATE_VECTORS
    positions, velocities = seen_from.state_vectors(times)
    orbits = "".join(
        f"<orbit><time>{_time(seen.when, second)}</time><frame>Earth Fixed</frame>"
        f"<position>{_axes(position)}</position><velocity>{_axes(velocity)}</velocity></orbit>"
        for second, position, velocity in zip(times, positions, velocities, strict=True)
    )
    conversions = "".join(
        f"<coordinateConversion><azimuthTime>{_time(start, second)}</azimuthTime>"
        f"<slantRangeTime>{slant_s:.15e}</slantRangeTime><sr0>{seen_from.near_slant_m:.9e}</sr0>"
        f"{_list('srgrCoefficients', seen_from.range_conversion, '.15e')}</coordinateConversion>"
        for second in (-1.0, 0.0, 1.0, 2.0)
    )
    grid = "".join(
        f"<geolocationGridPoint><azimuthTime>{_time(seen.when, point.seconds)}</azimuthTime>"
        f"<slantRangeTime>{2 * point.slant_m / SPEED_OF_LIGHT_M_S:.15e}</slantRangeTime>"
        f"<line>{point.line:.0f}</line><pixel>{point.pixel:.0f}</pixel>"
        f"<latitude>{point.latitude:.15e}</latitude><longitude>{point.longitude:.15e}</longitude>"
        f"<height>{point.height_m:.9e}</height><incidenceAngle>{point.incidence_deg:.9e}</incidenceAngle>"
        "</geolocationGridPoint>"
        for point in points
    )
    body = (
        "<generalAnnotation><productInformation>"
        f"<pass>{'Ascending' if seen.ascending else 'Descending'}</pass>"
        "<projection>Ground Range</projection></productInformation>"
        f'<orbitList count="{STATE_VECTORS}">{orbits}</orbitList></generalAnnotation>'
        "<imageAnnotation><imageInformation>"
        f"<productFirstLineUtcTime>{_time(start, 0)}</productFirstLineUtcTime>"
        f"<productLastLineUtcTime>{_time(end, 0)}</productLastLineUtcTime>"
        f"<slantRangeTime>{slant_s:.15e}</slantRangeTime><pixelValue>Detected</pixelValue>"
        f"<outputPixels>16 bit Unsigned Integer</outputPixels>"
        f"<rangePixelSpacing>{SPACING_M:e}</rangePixelSpacing>"
        f"<azimuthPixelSpacing>{SPACING_M:e}</azimuthPixelSpacing>"
        f"<azimuthTimeInterval>{seen_from.line_interval_s:.15e}</azimuthTimeInterval>"
        f"<numberOfSamples>{samples}</numberOfSamples><numberOfLines>{lines}</numberOfLines>"
        f"<incidenceAngleMidSwath>{seen_from.incidence_deg:e}</incidenceAngleMidSwath>"
        "</imageInformation></imageAnnotation>"
        f'<geolocationGrid><geolocationGridPointList count="{len(points)}">{grid}'
        "</geolocationGridPointList></geolocationGrid>"
        f'<coordinateConversion><coordinateConversionList count="4">{conversions}'
        "</coordinateConversionList></coordinateConversion>"
    )
    return _document("product", name, body)


def calibration_xml(name: str, seen_from: RadarPass, start: datetime, tables: Tables) -> str:
    """The calibration annotation of one polarisation."""
    lines, pixels = _table_places(seen_from.shape)
    vectors = "".join(
        f"<calibrationVector><azimuthTime>{_time(start, line * seen_from.line_interval_s)}</azimuthTime>"
        f"<line>{line:.0f}</line>{_list('pixel', pixels, '.0f')}{_list('sigmaNought', values, '.6e')}"
        "</calibrationVector>"
        for line, values in zip(lines, tables.amplitude_factor(lines, pixels), strict=True)
    )
    return _document(
        "calibration",
        name,
        "<calibrationInformation><absoluteCalibrationConstant>1.000000e+00</absoluteCalibrationConstant>"
        f'</calibrationInformation><calibrationVectorList count="{len(lines)}">{vectors}'
        "</calibrationVectorList>",
    )


def noise_xml(name: str, seen_from: RadarPass, start: datetime, tables: Tables, floor: float) -> str:
    """The noise annotation of one polarisation, in the layout that ``tables`` calls for."""
    lines, pixels = _table_places(seen_from.shape)
    kind, lut = ("noiseRangeVector", "noiseRangeLut") if tables.scalloped else ("noiseVector", "noiseLut")
    squared = floor * tables.amplitude_factor(lines, pixels) ** 2 * tables.along_range(pixels)
    vectors = "".join(
        f"<{kind}><azimuthTime>{_time(start, line * seen_from.line_interval_s)}</azimuthTime>"
        f"<line>{line:.0f}</line>{_list('pixel', pixels, '.0f')}{_list(lut, values, '.6e')}</{kind}>"
        for line, values in zip(lines, squared, strict=True)
    )
    body = f'<{kind}List count="{len(lines)}">{vectors}</{kind}List>'
    if tables.scalloped:
        # Two blocks side by side, as the sub-swaths of a real scene.
        every, half = _steps(seen_from.shape[0], AZIMUTH_STEP_PX), seen_from.shape[1] // 2
        blocks = "".join(
            f"<noiseAzimuthVector><swath>{swath}</swath><firstAzimuthLine>0</firstAzimuthLine>"
            f"<firstRangeSample>{first}</firstRangeSample>"
            f"<lastAzimuthLine>{seen_from.shape[0] - 1}</lastAzimuthLine>"
            f"<lastRangeSample>{last}</lastRangeSample>{_list('line', every, '.0f')}"
            f"{_list('noiseAzimuthLut', tables.along_azimuth(every), '.6e')}</noiseAzimuthVector>"
            for swath, first, last in (("IW1", 0, half), ("IW2", half + 1, seen_from.shape[1] - 1))
        )
        body += f'<noiseAzimuthVectorList count="2">{blocks}</noiseAzimuthVectorList>'
    return _document("noise", name, body)


def interference_xml(name: str) -> str:
    """The interference annotation, which catalogues take for the product annotation."""
    return _document(
        "rfi",
        name,
        '<rfiMitigationApplied>None</rfiMitigationApplied><rfiDetectionFromNoiseReportList count="0"/>',
    )


def _document(root: str, name: str, body: str) -> str:
    header = (
        "<adsHeader><missionId>S1A</missionId><productType>GRD</productType>"
        f"<polarisation>{name.upper()}</polarisation><mode>IW</mode><swath>IW</swath></adsHeader>"
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>{header}{body}</{root}>\n'


def _table_places(shape: tuple[int, int]) -> tuple[Numbers, Numbers]:
    return _steps(shape[0], max(1, shape[0] // 3)), _steps(shape[1], TABLE_STEP_PX)


def _steps(size: int, step: int) -> Numbers:
    return np.unique(np.append(np.arange(0, size, step), size - 1)).astype(np.float64)


def _list(name: str, values: Any, form: str) -> str:
    return f'<{name} count="{len(values)}">{" ".join(format(value, form) for value in values)}</{name}>'


def _axes(vector: Numbers) -> str:
    return "".join(f"<{axis}>{value:.9e}</{axis}>" for axis, value in zip("xyz", vector, strict=True))


def _time(origin: datetime, seconds: float) -> str:
    return (origin + timedelta(seconds=float(seconds))).strftime("%Y-%m-%dT%H:%M:%S.%f")
