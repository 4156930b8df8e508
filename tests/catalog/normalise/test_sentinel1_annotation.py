"""Sentinel-1 annotation: read from generated files of the real schema, refused from hostile ones."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from catalog.errors import SceneError
from catalog.grids import north_up
from catalog.normalise.sentinel1_annotation import (
    product_annotation_href,
    read_calibration,
    read_noise,
    read_product_annotation,
)
from deployments.sandbox.observation import Observation
from deployments.sandbox.radar_geometry import RadarPass
from deployments.sandbox.sensors.sentinel1_annotation import (
    ControlPoint,
    Tables,
    calibration_xml,
    interference_xml,
    noise_xml,
    product_xml,
)

WHEN = datetime(2022, 5, 3, 5, 17, 33, 902000, UTC)
SEEN = Observation("sentinel-1-grd", 0, WHEN, "sentinel-1a")
PASS = RadarPass(north_up(32632, 600_000.0, 5_400_000.0, 10.0, (96, 96)), 500.0, 282.0, 40.5)


def points() -> list[ControlPoint]:
    line, pixel = (axis.ravel() for axis in np.meshgrid([0, 70, 140], [0, 50, 100, 150], indexing="ij"))
    x, y, height = PASS.ground_under(line, pixel, lambda x, y: 500 + (x - 600_000) / 50)
    return ControlPoint.of(PASS, line.astype(float), pixel.astype(float), x, y, height)


def product_text() -> str:
    return product_xml("vv", PASS, SEEN, WHEN, points())


def test_the_product_annotation_places_a_scene() -> None:
    read = read_product_annotation(product_text().encode())
    assert (read.lines, read.samples) == PASS.shape
    assert read.line_interval_s == pytest.approx(PASS.line_interval_s, rel=1e-12)
    positions, velocities = PASS.state_vectors(np.arange(16) * 10.0 - 80)
    np.testing.assert_allclose(read.orbit.positions_m, positions, atol=0.01)
    np.testing.assert_allclose(read.orbit.velocities_m_s, velocities, atol=1e-4)
    assert read.orbit.times_s.tolist() == (np.arange(16) * 10.0 - 80).tolist()
    assert len(read.conversions) == 4
    np.testing.assert_allclose(read.conversions[0].coefficients, PASS.range_conversion, rtol=1e-12)
    assert read.grid.line.shape == (3, 4)
    assert read.grid.pixel[1].tolist() == [0, 50, 100, 150]
    given = points()
    assert read.grid.height_m.ravel().tolist() == pytest.approx([point.height_m for point in given])
    assert read.grid.time_s.ravel().tolist() == pytest.approx([point.seconds for point in given], abs=2e-6)


def test_points_may_come_in_any_order() -> None:
    shuffled = product_xml("vv", PASS, SEEN, WHEN, points()[::-1])
    read, usual = (read_product_annotation(text.encode()) for text in (shuffled, product_text()))
    np.testing.assert_array_equal(read.grid.longitude, usual.grid.longitude)


def test_both_layouts_of_the_noise_are_read() -> None:
    new = read_noise(noise_xml("vv", PASS, WHEN, Tables(PASS.shape, True), 0.003).encode())
    assert len(new.azimuths) == 2 and len(new.ranges) > 2
    old = read_noise(noise_xml("vv", PASS, WHEN, Tables(PASS.shape, False), 0.003).encode())
    assert old.azimuths == ()
    np.testing.assert_array_equal(old.ranges[0].value, new.ranges[0].value)


def test_calibration_vectors_come_by_line() -> None:
    text = calibration_xml("vv", PASS, WHEN, Tables(PASS.shape, True))
    vectors = read_calibration(text.encode())
    assert [vector.line for vector in vectors] == sorted(vector.line for vector in vectors)
    assert vectors[0].value[0] == pytest.approx(480.0)


BOMB = """<?xml version="1.0"?>
<!DOCTYPE product [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>
<product>&c;</product>"""
OUTSIDE = """<?xml version="1.0"?>
<!DOCTYPE product [<!ENTITY x SYSTEM "file:///etc/passwd">]><product>&x;</product>"""


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (BOMB, "document type"),
        (OUTSIDE, "document type"),
        ("<!DOCTYPE html><html><body>please log in</body></html>", "document type"),
        ("<html><body>please log in</body></html>", "it is a <html>"),
        ("<product>", "no element found"),
        ("", "no element found"),
        (interference_xml("vv"), "it is a <rfi>"),
        ("<product><imageAnnotation/></product>", "no imageAnnotation/imageInformation"),
    ],
)
def test_what_is_no_product_annotation_is_refused(content: str, why: str) -> None:
    with pytest.raises(SceneError, match=why) as caught:
        read_product_annotation(content.encode())
    assert caught.value.code == "unreadable-annotation"


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("<coordinateConversion>", "<other>", "mismatched|no conversion"),
        ("<line>70</line>", "<line>71</line>", None),
        ("<pixel>50</pixel>", "<pixel>49</pixel>", "no grid"),
        ("<x>", "<x>nan", "could not convert|nan"),
        ("<azimuthTimeInterval>", "<azimuthTimeInterval>-", "azimuthTimeInterval is -"),
    ],
)
def test_a_damaged_product_annotation_is_refused(before: str, after: str, why: str | None) -> None:
    text = product_text()
    damaged = text.replace(before, after) if why is None else text.replace(before, after, 1)
    if why is None:
        assert read_product_annotation(damaged.encode()).grid.line[1, 0] == 71
        return
    with pytest.raises(SceneError, match=why):
        read_product_annotation(damaged.encode())


def test_tables_whose_lengths_differ_are_refused() -> None:
    text = calibration_xml("vv", PASS, WHEN, Tables(PASS.shape, True))
    with pytest.raises(SceneError, match="sigmaNought"):
        read_calibration(text.replace('">0 40', '">0 20 40', 1).encode())
    with pytest.raises(SceneError, match="not positive"):
        read_calibration(text.replace("4.800000e+02", "0.000000e+00", 1).encode())
    with pytest.raises(SceneError, match="no noiseRangeLut vectors"):
        read_noise(b"<noise></noise>")


def test_the_interference_annotation_leads_to_the_product_annotation() -> None:
    folder = "https://example.test/S1A_B8B7/annotation"
    assert product_annotation_href(f"{folder}/rfi/rfi-iw-vv.xml") == f"{folder}/iw-vv.xml"
    assert product_annotation_href(f"{folder}/iw-vv.xml") == f"{folder}/iw-vv.xml"
    assert product_annotation_href("https://example.test/rfi/x.xml") == "https://example.test/rfi/x.xml"
