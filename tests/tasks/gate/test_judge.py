"""The gate judges tables with Great Expectations, and gives its reasons in plain words."""

from __future__ import annotations

import base64
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.io import MemoryFile

from catalog.errors import SwathError
from catalog.recipes import GateLimits
from catalog.scenes import Scene
from tasks.gate.judge import checks_for, gate_scenes, refuse_if_too_many, suite_of, wavelength_doubt
from tasks.gate.report import MOST_EXHIBITS, gate_page
from tasks.gate.result import GateResult
from tasks.gate.statistics import measure_scenes
from tasks.readers import ReadFailure
from tasks.search.scenes import search_scenes
from tests.tasks.sandbox_archive import PRODUCTS, Sandbox
from tests.tasks.scene_files import built_in, write_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("scene")
    return write_scene(folder, "http://127.0.0.1:1", built_in("sentinel-2-l2a"), "good").scene


def statistics(name: str, **changes: Any) -> dict[str, Any]:
    """A row about which nothing is wrong, but for what is given."""
    return {
        "scene": name,
        "nodata_fraction": 0.1,
        "cloud_fraction": 0.2,
        "saturated_fraction": 0.0,
        "empty_share": 0.0,
        "empty_bands": None,
        "constant_bands": None,
        "duplicate_bands": None,
        "implausible_bands": None,
        "radiometry": "agrees",
        "radiometry_reason": "B04: its dark end reads 0.012, as dark ground does",
        "band_order_gain": -0.2,
        "band_order": "B04 and B08 exchanged",
        "stripe_strength": 0.1,
        "striped_band": "B02",
    } | changes


def judge(scene: Scene, limits: GateLimits | None = None, **changes: Any) -> GateResult:
    product = built_in("sentinel-2-l2a")
    return gate_scenes(product, [scene], [statistics(scene.id, **changes)], limits or GateLimits())


def test_a_scene_about_which_nothing_is_wrong_is_accepted(scene: Scene) -> None:
    result = judge(scene)
    assert result.accepted == ("good",) and not result.quarantined
    checks = checks_for(built_in("sentinel-2-l2a"), GateLimits())
    assert {row.check for row in result.table} == {check.id for check in checks}
    assert all(row.passed for row in result.table)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nodata_fraction": 0.953}, "pixels without data 95.3 % exceeds the limit of 90.0 %"),
        ({"cloud_fraction": 0.99}, "cloud by the QA layer 99.0 % exceeds the limit of 95.0 %"),
        ({"saturated_fraction": 0.31}, "saturated pixels 31.0 % exceeds the limit of 20.0 %"),
        ({"constant_bands": "B02, B03"}, "bands with one value only: B02, B03"),
        ({"duplicate_bands": "B04 = B03"}, "bands that are copies: B04 = B03"),
        ({"implausible_bands": "B11 4.2 to 6"}, "bands beyond what is physical: B11 4.2 to 6"),
        ({"empty_bands": "B05"}, "bands without data: B05"),
        (
            {"radiometry": "contradicts", "radiometry_reason": "B02: too dark"},
            "radiometry by the pixels: contradicts (B02: too dark)",
        ),
        (
            {"band_order_gain": 0.31},
            "another band order fits better by 0.31 exceeds the limit of 0.15 (B04 and B08 exchanged)",
        ),
        ({"stripe_strength": 0.9}, "strength of stripes 0.9 exceeds the limit of 0.6 (B02)"),
    ],
)
def test_a_reason_says_what_was_found_and_what_is_allowed(
    changes: dict[str, Any], reason: str, scene: Scene
) -> None:
    assert judge(scene, **changes).quarantined == {"good": (reason,)}


@pytest.mark.parametrize(
    ("changes", "limits", "reason"),
    [
        (
            {"cloud_cover_percent": 93.0},
            {"max_cloud_percent": 80},
            "cloud cover 93 % exceeds the limit of 80 %",
        ),
        ({"sun_elevation_deg": 3.25}, {}, "sun elevation 3.25° is below the limit of 5°"),
        ({"platform": "sentinel-9z"}, {}, "platform sentinel-9z is none of sentinel-2a"),
        ({"sensed": datetime(2999, 1, 1, tzinfo=UTC)}, {}, "sensed in the future by"),
    ],
)
def test_metadata_is_judged_too(
    changes: dict[str, Any], limits: dict[str, float], reason: str, scene: Scene
) -> None:
    ((found,),) = judge(replace(scene, **changes), GateLimits.model_validate(limits)).quarantined.values()
    assert found.startswith(reason)


def test_what_is_not_stated_is_not_held_against_a_scene(scene: Scene) -> None:
    silent = replace(scene, cloud_cover_percent=None, sun_elevation_deg=None)
    result = judge(silent, GateLimits(max_cloud_percent=10), cloud_fraction=float("nan"))
    assert result.accepted == ("good",)
    values = {row.check: row.value for row in result.table}
    assert values["cloud"] == values["sun"] == values["cloudy"] == "not stated"


def test_a_value_at_its_limit_passes(scene: Scene) -> None:
    limits = GateLimits(max_cloud_percent=10, max_nodata_fraction=0.1, max_cloud_fraction=0.2)
    assert judge(scene, limits).accepted == ("good",)


def test_a_scene_that_could_not_be_read_is_quarantined_for_that(scene: Scene) -> None:
    failure = ReadFailure("asset-not-found", "B05: HTTP 404 (http://h/x.tif?sig=abc)", subject="good")
    result = gate_scenes(built_in("sentinel-2-l2a"), [scene], [], GateLimits(), failures={"good": failure})
    assert result.quarantined == {"good": ("B05: HTTP 404 (http://h/x.tif?sig=…)",)}


def test_a_check_that_cannot_be_made_never_passes(scene: Scene) -> None:
    row = statistics("good")
    row["nodata_fraction"] = "many"
    with pytest.raises(SwathError) as caught:
        gate_scenes(built_in("sentinel-2-l2a"), [scene], [row], GateLimits())
    assert caught.value.code == "gate-broken" and caught.value.subject == "nodata"


def test_nothing_to_judge_imports_nothing() -> None:
    code = (
        "import sys\nfrom catalog.products import load_product\nfrom catalog.recipes import GateLimits\n"
        "from tasks.gate.judge import gate_scenes\n"
        "print(gate_scenes(load_product('sentinel-1-rtc'), [], [], GateLimits()).accepted)\n"
        "print('great_expectations' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["()", "False"]


def test_telemetry_is_off(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "True")
    judge(scene)
    assert os.environ["GX_ANALYTICS_ENABLED"] == "False"
    assert not [name for name in sys.modules if name.split(".")[0] == "posthog"]


def test_gates_asked_for_at_once_do_not_mix_their_answers(scene: Scene) -> None:
    def one(number: int) -> GateResult:
        named = replace(scene, id=f"scene-{number}")
        return judge(named, nodata_fraction=0.95 if number % 2 else 0.1)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(one, range(8)))
    assert [bool(result.quarantined) for result in results] == [bool(n % 2) for n in range(8)]
    assert [{*result.accepted, *result.quarantined} for result in results] == [
        {f"scene-{n}"} for n in range(8)
    ]


def test_too_many_refusals_stop_a_run_and_a_few_do_not(scene: Scene) -> None:
    def result(refused: int, accepted: int) -> GateResult:
        scenes = [replace(scene, id=str(n)) for n in range(refused + accepted)]
        rows = [statistics(s.id, nodata_fraction=0.95 if int(s.id) < refused else 0) for s in scenes]
        return gate_scenes(built_in("sentinel-2-l2a"), scenes, rows, limits)

    limits = GateLimits(max_refused_share=0.5)
    refuse_if_too_many(result(2, 2), limits)
    refuse_if_too_many(result(1, 0), limits)
    with pytest.raises(SwathError) as caught:
        refuse_if_too_many(result(3, 2), limits)
    assert caught.value.code == "too-many-refused"
    assert "3 of 5" in caught.value.message and "pixels without data" in caught.value.message
    assert "products.sentinel-2-l2a.gate" in caught.value.next_step


def test_the_report_shows_every_scene_and_check_and_needs_no_other_host(scene: Scene, tmp_path: Path) -> None:
    product = built_in("sentinel-2-l2a")
    bad = replace(scene, id="<b>bad</b>")
    path = tmp_path / "reports" / "gate.html"
    result = gate_scenes(
        product,
        [scene, bad],
        [statistics("good"), statistics(bad.id, nodata_fraction=0.95)],
        GateLimits(),
        report=path,
    )
    page = path.read_text(encoding="utf-8")
    assert result.report == path and page == gate_page(result)
    assert "good" in page and "&lt;b&gt;bad&lt;/b&gt;" in page and "<b>bad" not in page
    assert "pixels without data 95.0 % exceeds the limit of 90.0 %" in page
    for check in checks_for(product, GateLimits()):
        assert check.title in page
    assert not re.search(r"https?://|<script|<link|url\(", page)


@pytest.mark.parametrize("name", ["sentinel-2-l2a", "sentinel-1-rtc", "landsat-oli-toa", "enmap-l2a"])
def test_what_is_expected_of_a_product_can_be_read(name: str) -> None:
    product = built_in(name)
    document = json.loads(json.dumps(suite_of(product, GateLimits(max_nodata_fraction=0.42))))
    assert [suite["name"] for suite in document["suites"]] == [f"{name}.metadata", f"{name}.pixels"]
    expectations = [one for suite in document["suites"] for one in suite["expectations"]]
    assert {one["meta"]["check"] for one in expectations} == {c.id for c in checks_for(product, GateLimits())}
    (nodata,) = (one for one in expectations if one["meta"]["check"] == "nodata")
    assert nodata["type"] == "expect_column_values_to_be_between"
    assert nodata["kwargs"]["column"] == "nodata_fraction" and nodata["kwargs"]["max_value"] == 0.42
    assert all(one["meta"]["title"] and one["meta"]["limit"] for one in expectations)


def test_each_product_is_asked_what_concerns_it() -> None:
    def asked(name: str) -> set[str]:
        return {check.id for check in checks_for(built_in(name), GateLimits())}

    assert {"speckle", "filtered"} <= asked("sentinel-1-rtc") and "band_order" not in asked("sentinel-1-rtc")
    assert {"band_order", "stripes", "sun"} <= asked("landsat-tm-sr") and "speckle" not in asked(
        "landsat-tm-sr"
    )
    assert "wavelengths" in asked("enmap-l2a") and "empty_bands" not in asked("enmap-l2a")


def test_verdicts_on_radiometry_are_told_and_only_a_contradiction_is_refused(scene: Scene) -> None:
    verdicts = ("agrees", "contradicts", "undecidable")
    scenes = [replace(scene, id=verdict) for verdict in verdicts]
    rows = [statistics(verdict, radiometry=verdict) for verdict in verdicts]
    result = gate_scenes(built_in("sentinel-2-l2a"), scenes, rows, GateLimits())
    assert result.radiometry == {verdict: verdict for verdict in verdicts}
    assert set(result.quarantined) == {"contradicts"}
    page = gate_page(result)
    assert "agrees 1, contradicts 1, undecidable 1" in page


def test_the_report_shows_what_was_refused(scene: Scene) -> None:
    histogram = {"low": -0.25, "high": 0.75, "counts": [0] * 30 + [900, 100] + [0] * 32}
    picture = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    shown = {"picture": picture, "histograms": {"B02": histogram}}
    rows = [statistics("good", **shown), statistics("bad", radiometry="contradicts", **shown)]
    result = gate_scenes(built_in("sentinel-2-l2a"), [scene, replace(scene, id="bad")], rows, GateLimits())
    assert set(result.exhibits) == {"bad"}
    page = gate_page(result)
    assert page.count("<svg") == 1 and page.count("<rect") == 2 and "B02, reflectance" in page
    (encoded,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    with MemoryFile(base64.b64decode(encoded)) as file, file.open() as opened:
        assert np.array_equal(opened.read(), picture.transpose(2, 0, 1))
    assert not re.search(r"https?://|<script|<link|url\(", page)


def test_of_thousands_of_refused_scenes_the_first_are_shown(scene: Scene) -> None:
    names = [f"scene-{number:03}" for number in range(MOST_EXHIBITS + 5)]
    result = GateResult("sentinel-2-l2a", (), dict.fromkeys(names, ("cloud",)), ())
    page = gate_page(result)
    assert page.count('class="exhibit"') == MOST_EXHIBITS and "and 5 more" in page
    assert all(name in page for name in names)


@pytest.mark.parametrize(
    ("wavelengths", "doubt"),
    [
        (lambda own: own, None),
        (lambda own: own[:-1], "223 wavelengths for 224 bands"),
        (lambda own: [value / 1000 for value in own], "none of enmap-l2a's"),
        (lambda own: [own[1], *own[1:]], "stated at one wavelength"),
    ],
)
def test_wavelengths_are_held_against_the_product(
    wavelengths: Callable[[list[float]], list[float]], doubt: str | None, scene: Scene
) -> None:
    product = built_in("enmap-l2a")
    own = [band.center_nm or 0.0 for band in product.bands]
    found = wavelength_doubt(product, replace(scene, radiometry={"wavelengths_nm": wavelengths(own)}))
    assert found is None if doubt is None else doubt in (found or "")


@pytest.mark.parametrize("name", PRODUCTS)
def test_of_the_sandbox_exactly_the_bad_scene_is_refused(name: str, sandbox: Sandbox) -> None:
    product = built_in(name)
    found = search_scenes(sandbox.archive, product, sandbox.area, sandbox.period)
    measured = measure_scenes(found.scenes, product, sandbox.archive)
    result = gate_scenes(product, found.scenes, measured.rows, GateLimits(), failures=measured.failures)
    assert set(result.quarantined) == {sandbox.info.refused[name]}
    refuse_if_too_many(result, GateLimits())


def test_a_read_failure_survives_the_way_between_processes() -> None:
    failure = ReadFailure(
        "asset-corrupt", "cut", subject="s", next_step="n", band="B1", href="h", status=206, attempts=3
    )
    copy = pickle.loads(pickle.dumps(failure))  # noqa: S301
    assert copy.__dict__ == failure.__dict__ and str(copy) == str(failure)
