"""Calibration and border noise, against a restatement that loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.normalise.sentinel1_annotation import AzimuthBlock, LineVector, NoiseAnnotation
from tasks.readers.grd.border import BOX_PX, border_noise
from tasks.readers.grd.calibration import noise_power, on_raster, sigma_nought
from tasks.readers.grd.windows import interpolated

CALIBRATION = (
    LineVector(-5.0, np.array([0.0, 30.0, 60.0]), np.array([400.0, 450.0, 430.0])),
    LineVector(20.0, np.array([0.0, 20.0, 60.0]), np.array([410.0, 440.0, 500.0])),
    LineVector(70.0, np.array([0.0, 60.0]), np.array([300.0, 600.0])),
)
RANGES = (
    LineVector(0.0, np.array([0.0, 25.0, 59.0]), np.array([900.0, 500.0, 800.0])),
    LineVector(40.0, np.array([0.0, 59.0]), np.array([700.0, 650.0])),
)
AZIMUTHS = (
    AzimuthBlock(0, 39, 0, 29, np.array([0.0, 10.0, 39.0]), np.array([1.0, 1.4, 0.8])),
    AzimuthBlock(0, 39, 30, 59, np.array([0.0]), np.array([0.7])),
)
OLD, NEW = NoiseAnnotation(RANGES, ()), NoiseAnnotation(RANGES, AZIMUTHS)


def between(places, values, at):
    """Linear, constant beyond the ends."""
    if at <= places[0]:
        return values[0]
    for i in range(len(places) - 1):
        if at <= places[i + 1]:
            share = (at - places[i]) / (places[i + 1] - places[i])
            return values[i] + (values[i + 1] - values[i]) * share
    return values[-1]


def table_at(vectors, line, pixel):
    column = [between(vector.pixel, vector.value, pixel) for vector in vectors]
    return between([vector.line for vector in vectors], column, line)


def noise_at(noise, line, pixel):
    power = table_at(noise.ranges, line, pixel)
    for block in noise.azimuths:
        if block.first_line <= line <= block.last_line and block.first_sample <= pixel <= block.last_sample:
            power *= between(block.line, block.value, line)
    return power


@pytest.mark.parametrize("noise", [OLD, NEW], ids=["before March 2018", "since"])
@given(seed=st.integers(0, 2**16), first=st.integers(0, 30), left=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_sigma_nought_is_amplitude_squared_less_noise_over_the_table(noise, seed, first, left) -> None:
    dn = np.random.default_rng(seed).integers(0, 2**16, (9, 8)).astype(np.uint16)
    lines, pixels = np.arange(first, first + 9.0), np.arange(left, left + 8.0)
    expected = [
        [
            (float(dn[i, j]) ** 2 - noise_at(noise, line, pixel)) / table_at(CALIBRATION, line, pixel) ** 2
            for j, pixel in enumerate(pixels)
        ]
        for i, line in enumerate(lines)
    ]
    np.testing.assert_allclose(sigma_nought(dn, lines, pixels, CALIBRATION, noise), expected, rtol=1e-12)


def test_a_part_of_the_raster_is_calibrated_as_in_the_whole() -> None:
    dn = np.random.default_rng(1).integers(0, 3000, (40, 60)).astype(np.uint16)
    lines, pixels = np.arange(40.0), np.arange(60.0)
    whole = sigma_nought(dn, lines, pixels, CALIBRATION, NEW)
    part = sigma_nought(dn[7:20, 25:41], lines[7:20], pixels[25:41], CALIBRATION, NEW)
    np.testing.assert_array_equal(part, whole[7:20, 25:41])


def test_what_is_darker_than_the_noise_stays_negative() -> None:
    dark = sigma_nought(np.full((1, 1), 3, np.uint16), np.zeros(1), np.zeros(1), CALIBRATION, OLD)
    assert dark[0, 0] < 0


def test_one_vector_holds_for_all_lines() -> None:
    table = on_raster(CALIBRATION[:1], np.array([0.0, 900.0]), np.array([15.0]))
    assert table.ravel().tolist() == [425.0, 425.0]


# ---- border noise


def measured(shape=(120, 140), noise=800.0, sigma=0.0, seed=0):
    """A scene of pure noise (the darkest that can be measured), and its noise table."""
    rng = np.random.default_rng(seed)
    power = (noise + sigma) * rng.gamma(4.4, 1 / 4.4, shape)
    return np.maximum(np.rint(np.sqrt(power)), 1).astype(np.uint16), np.full(shape, noise)


def test_calm_water_at_the_noise_floor_is_kept() -> None:
    dn, noise = measured()
    assert not border_noise(dn, noise, (0, 0), dn.shape).any()


def test_faint_numbers_along_the_edges_are_taken_off() -> None:
    dn, noise = measured()
    faint = np.random.default_rng(1).integers(0, 9, dn.shape).astype(np.uint16)
    border = np.ones(dn.shape, bool)
    border[14:-11, 17:] = False
    dn[border] = faint[border]
    found = border_noise(dn, noise, (0, 0), dn.shape)
    assert found[border].all()
    # At most the neighbourhood's reach of what was measured goes with it.
    assert not found[14 + BOX_PX : -11 - BOX_PX, 17 + BOX_PX :].any()


def test_faint_numbers_beside_a_block_of_zeros_are_taken_off_wherever_it_lies() -> None:
    dn, noise = measured()
    dn[:40] = 0
    dn[40:52] = 5
    found = border_noise(dn, noise, (7000, 9000), (20_000, 25_000))
    assert found[:52].all() and not found[52 + BOX_PX :].any()


def test_a_dark_spot_inside_is_no_border() -> None:
    dn, noise = measured()
    dn[50:70, 60:90] = 4
    assert not border_noise(dn, noise, (7000, 9000), (20_000, 25_000)).any()


def test_zeros_are_never_a_measurement() -> None:
    dn, noise = measured()
    dn[60, 60] = 0
    found = border_noise(dn, noise, (7000, 9000), (20_000, 25_000))
    assert found.sum() == 1 and found[60, 60]


# ---- interpolation of power


def test_power_is_interpolated_from_valid_neighbours_alone() -> None:
    power = np.array([[1.0, 3.0], [5.0, 99.0]])
    valid = np.array([[True, True], [True, False]])
    line, pixel = np.array([[0.0, 0.0, 0.4]]), np.array([[0.5, 1.0, 0.4]])
    values = interpolated(power, valid, line, pixel, -1.0)
    assert values[0, 0] == pytest.approx(2.0) and values[0, 1] == 3.0
    assert values[0, 2] == pytest.approx((0.36 * 1 + 0.24 * 3 + 0.24 * 5) / 0.84)


def test_places_off_the_raster_or_of_unknown_height_hold_nothing() -> None:
    power, valid = np.ones((4, 4)), np.ones((4, 4), bool)
    line, pixel = np.array([[np.nan, -1.0, 3.4, 3.6, 1.0]]), np.array([[1.0, 1.0, 1.0, 1.0, 1.0]])
    assert interpolated(power, valid, line, pixel, -9.0).tolist() == [[-9.0, -9.0, 1.0, -9.0, 1.0]]


def test_noise_outside_every_block_is_the_range_vector_alone() -> None:
    few = NoiseAnnotation(RANGES, AZIMUTHS[:1])
    lines, pixels = np.array([5.0]), np.array([10.0, 45.0])
    factor = noise_power(lines, pixels, few) / noise_power(lines, pixels, OLD)
    assert factor[0, 0] == pytest.approx(1.2) and factor[0, 1] == 1.0
