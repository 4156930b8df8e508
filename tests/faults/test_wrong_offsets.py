"""Pixels that are not what the metadata say, and metadata that are not what the pixels say.

Where the pixels of one scene can tell, it is quarantined; where they cannot (docs/radiometry.md), it is
accepted and counted as undecidable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.sandbox.plan import ALL_PRODUCTS
from deployments.stac_server.folder_changes import change_pixels, put_in, shift_pixels, state, take_out
from tests.faults.refresh_pipeline import CUBE, Follower, Whole, same

ONE = "sentinel-2-l2a"
SIZE_M = 1920
"""Scenes of 4,096 pixels of 30 m: enough to be judged."""
SURFACE = ("landsat-tm-sr", "landsat-etm-sr", "landsat-oli-sr")
OTHER = re.compile(r"SCL|qa_pixel|quality.*|lwir.*")
"""Assets that hold no reflectance and no backscatter."""

Change = Callable[[Path, str], None]


@dataclass(frozen=True)
class Case:
    """One thing that is wrong with one scene, and what the gate says of it."""

    product: str
    name: str
    change: Change
    verdict: str
    says: str = ""
    """Part of the reason for which it is quarantined."""
    baseline: str = ""
    """The scene has this one, or a later one."""


def pixels(by: float) -> Change:
    return lambda folder, scene: shift_pixels(folder, scene, by, _measures)


def numbers(change: Callable[[Any], Any]) -> Change:
    return lambda folder, scene: change_pixels(folder, scene, change, _measures)


def stated(name: str, value: Any) -> Change:
    return lambda folder, scene: state(folder, scene, {name: value})


def item(pattern: str, by: str) -> Change:
    """The item with something else written in it."""

    def change(folder: Path, scene: str) -> None:
        put_in(folder, json.loads(re.sub(pattern, by, json.dumps(take_out(folder, scene)))))

    return change


def side_files(which: str, pattern: str, by: Callable[[re.Match[str]], str]) -> Change:
    """Text files of the scene with something else written in them."""

    def change(folder: Path, scene: str) -> None:
        for path in (folder / "assets").glob(f"*/{scene}/{which}"):
            text = path.read_text(encoding="utf-8")
            changed = re.sub(pattern, by, text)
            assert changed != text
            path.write_text(changed, encoding="utf-8")

    return change


def mtl_offset(value: str) -> Change:
    pattern = r'(REFLECTANCE_ADD_BAND_\d+"?\s*[=:]\s*"?)-[\d.e+-]+'
    return side_files("*MTL*", pattern, lambda found: found[1] + value)


def _measures(key: str) -> bool:
    return OTHER.fullmatch(key) is None


def _tenth(found: re.Match[str]) -> str:
    return found[1] + " ".join(f"{float(number) / 10:e}" for number in found[2].split())


TWICE, MISSED, CUT = "darker than black", "which its metadata denies", "cut off at the lowest number"
FACTOR = "is possible"
BASELINE, TAKEN_OFF = "s2:processing_baseline", "earthsearch:boa_offset_applied"
CASES = [
    Case("sentinel-2-l2a", "pixels: offset taken off", pixels(-1000), "contradicts", TWICE),
    Case("sentinel-2-l2a", "pixels: offset added again", pixels(1000), "undecidable"),
    Case("sentinel-2-l2a", "item: baseline without", stated(BASELINE, "03.01"), "contradicts", MISSED),
    Case("sentinel-2-l2a", "item: taken off already", stated(TAKEN_OFF, True), "contradicts", MISSED),
    Case("sentinel-2-l1c", "pixels: offset added", pixels(1000), "contradicts", MISSED),
    Case("sentinel-2-l1c", "pixels: offset taken off, none was there", pixels(-1000), "contradicts", CUT),
    Case("sentinel-2-l1c", "item: baseline with", stated(BASELINE, "05.00"), "contradicts", TWICE),
    Case("sentinel-2-l1c", "pixels: offset added again", pixels(1000), "undecidable", baseline="04.00"),
    Case("sentinel-2-l1c", "pixels: taken off", pixels(-1000), "contradicts", TWICE, baseline="04.00"),
    Case(
        "sentinel-2-l1c",
        "item: baseline without",
        stated(BASELINE, "03.01"),
        "contradicts",
        MISSED,
        baseline="04.00",
    ),
    Case(
        "sentinel-2-l1c",
        "item: taken off already",
        stated(TAKEN_OFF, True),
        "contradicts",
        MISSED,
        baseline="04.00",
    ),
    *(Case(name, "pixels: offset taken off", pixels(-7273), "contradicts", TWICE) for name in SURFACE),
    *(Case(name, "pixels: offset added again", pixels(7273), "undecidable") for name in SURFACE),
    # The offset of Collection 2 is the product's: an item that states another is of another collection.
    *(
        Case(name, "item: no offset", item(r'"offset": -0.2', '"offset": 0.0'), "refused", "generation")
        for name in SURFACE
    ),
    Case("landsat-oli-toa", "pixels: offset taken off", pixels(-5000), "contradicts", TWICE),
    Case("landsat-oli-toa", "pixels: offset added again", pixels(5000), "undecidable"),
    Case("landsat-oli-toa", "MTL: no offset", mtl_offset("0.0"), "contradicts", MISSED),
    Case("landsat-oli-toa", "MTL: offset doubled", mtl_offset("-0.2"), "contradicts", TWICE),
    # Landsat 4 to 7 have no offset to speak of at the top of the atmosphere, and no cirrus band.
    *(
        case
        for name in ("landsat-tm-toa", "landsat-etm-toa")
        for case in (
            Case(name, "pixels: brighter", pixels(20), "undecidable"),
            Case(name, "pixels: darker", pixels(-20), "undecidable"),
            Case(name, "MTL: no offset", mtl_offset("0.0"), "undecidable"),
            Case(name, "MTL: offset of a later sensor", mtl_offset("-0.1"), "contradicts", TWICE),
        )
    ),
    Case("enmap-l2a", "pixels: offset added", pixels(1000), "contradicts", MISSED),
    Case("enmap-l2a", "pixels: offset taken off", pixels(-1000), "contradicts", TWICE),
    Case(
        "enmap-l2a",
        "item: offset that is not there",
        item(r'"enmap:offset_of_band": 0', '"enmap:offset_of_band": -0.1'),
        "contradicts",
        TWICE,
    ),
    Case(
        "enmap-l2a",
        "item: offset of the other sign",
        item(r'"enmap:offset_of_band": 0', '"enmap:offset_of_band": 0.1'),
        "undecidable",
    ),
    # Radar has no offset; its numbers may be decibels or amplitude, or their calibration another's.
    Case(
        "sentinel-1-rtc",
        "pixels: decibels",
        numbers(lambda power: 10 * np.log10(np.maximum(power, 1e-6))),
        "contradicts",
        "no logarithm",
    ),
    Case(
        "sentinel-1-rtc",
        "pixels: amplitude",
        numbers(lambda power: np.sqrt(np.maximum(power, 0))),
        "contradicts",
        "amplitude that is taken for power",
    ),
    Case(
        "sentinel-1-grd", "pixels: ten times the amplitude", numbers(lambda v: v * 10), "contradicts", FACTOR
    ),
    Case(
        "sentinel-1-grd",
        "pixels: decibels",
        numbers(lambda v: 20 * np.log10(np.maximum(v, 1))),
        "undecidable",
    ),
    Case(
        "sentinel-1-grd",
        "annotation: a tenth of the calibration",
        side_files("annotation/calibration/calibration-*.xml", r"(<sigmaNought[^>]*>)([^<]+)", _tenth),
        "contradicts",
        FACTOR,
    ),
]


def named(case: Case) -> Any:
    marks = () if case.product == ONE else pytest.mark.long
    return pytest.param(case, id=f"{case.product}, {case.name}", marks=marks)


def victim_of(case: Case, follower: Follower, whole: Whole) -> str:
    """A scene that the gate knows to be right; of products of which it never knows that, any."""
    assert whole.run.gate is not None
    verdicts = whole.run.gate.radiometry
    fitting = [s.id for s in follower.scenes if (whole.scenes[s.id].baseline or "") >= case.baseline]
    return next((i for i in fitting if verdicts[i] == "agrees"), fitting[0])


def test_every_product_is_among_the_cases() -> None:
    assert {case.product for case in CASES} == set(ALL_PRODUCTS)
    undecidable = {case.product for case in CASES if case.verdict == "undecidable"}
    contradicted = {case.product for case in CASES if case.verdict == "contradicts"}
    assert contradicted == set(ALL_PRODUCTS)
    assert set(ALL_PRODUCTS) - undecidable == {"sentinel-1-rtc"}


@pytest.mark.parametrize("case", [named(case) for case in CASES])
def test_what_pixels_and_metadata_say_apart_from_each_other(
    case: Case, follow: Callable[..., Follower], whole_of: Callable[..., Whole]
) -> None:
    whole = whole_of(case.product, SIZE_M)
    follower = follow(case.product, SIZE_M)
    victim = victim_of(case, follower, whole)
    case.change(follower.folder, victim)
    run = follower.refresh()

    assert run.gate is not None and whole.run.gate is not None
    verdicts = {**whole.run.gate.radiometry, victim: case.verdict}
    if case.verdict == "refused":
        assert case.says in run.refused[victim]
        assert victim not in follower.states()
        del verdicts[victim]
    else:
        assert not run.refused
    assert run.gate.radiometry == verdicts
    others = {key: parts for key, parts in whole.samples.items() if key[0] != victim}
    samples = follower.samples()
    assert same({key: parts for key, parts in samples.items() if key[0] != victim}, others)
    if case.verdict in ("contradicts", "refused"):
        assert victim not in follower.cube.scenes(case.product)
        assert not [key for key in samples if key[0] == victim]
    else:
        assert [key for key in samples if key[0] == victim]
    if case.verdict != "refused":
        with follower.ledger() as ledger:
            row = ledger.row(victim, cube=CUBE)
        assert row.state == ("quarantined" if case.verdict == "contradicts" else "cubed")
        assert any(case.says in reason for reason in row.reasons) or case.verdict != "contradicts"
    assert follower.refresh().did_nothing
