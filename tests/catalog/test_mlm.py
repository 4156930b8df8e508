"""STAC MLM items: valid without the web, and each way of breaking one is told."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pystac
import pytest
from pystac.extensions.mlm import MLMExtension

from catalog.mlm import build_mlm_item, mlm_problems, stamp_item
from tests.catalog.encoder_folders import CONFIG, SENSED, mlm_item

RADAR = CONFIG | {
    "product": "sentinel-1-rtc",
    "products": ["sentinel-1-rtc"],
    "bands": ["VV", "VH"],
    "wavelengths_nm": [None, None],
    "fwhm_nm": [None, None],
    "units": ["gamma0_db", "gamma0_db"],
    "normalisation": {"mean": [-12.0, -18.0], "std": [4.0, 4.0], "fill": 0.0},
}


def test_an_item_is_valid_and_says_what_the_encoder_takes_and_gives() -> None:
    item = mlm_item()
    assert mlm_problems(item) == []
    properties = json.loads(json.dumps(item))["properties"]
    assert properties["mlm:input"][0]["input"]["shape"] == [-1, 3, 64, 64]
    assert [band["name"] for band in properties["mlm:input"][0]["bands"]] == CONFIG["bands"]
    assert properties["mlm:input"][0]["value_scaling"][1] == {"type": "z-score", "mean": 0.2, "stddev": 0.05}
    assert properties["mlm:output"][0]["result"]["shape"] == [-1, 512]
    assert properties["encoder:embed_dim"] == 512
    assert properties["encoder:bands"] == CONFIG["bands"]
    assert properties["gsd"] == 10.0


def test_pystac_reads_the_item_with_its_mlm_extension() -> None:
    extension = MLMExtension.ext(pystac.Item.from_dict(mlm_item()))
    assert extension.mlm_name == "s2-moco"
    assert extension.input[0].input.dim_order == ["batch", "bands", "height", "width"]
    assert extension.output[0].result.shape == [-1, 512]
    assert extension.pretrained is True


def test_wavelengths_are_in_micrometres_and_radar_has_none() -> None:
    optical = mlm_item()["assets"]["model"]["bands"]
    assert optical[0] == {"name": "B02", "eo:center_wavelength": 0.4924, "eo:full_width_half_max": 0.066}
    radar = build_mlm_item(RADAR, name="s1", bbox=(0, 0, 1, 1), period=(SENSED, SENSED))
    assert mlm_problems(radar) == []
    assert radar["assets"]["model"]["bands"] == [{"name": "VV"}, {"name": "VH"}]


def test_across_the_antimeridian_the_geometry_has_two_parts() -> None:
    item = build_mlm_item(CONFIG, name="x", bbox=(179.0, -1.0, -179.0, 1.0), period=(SENSED, SENSED))
    assert item["geometry"]["type"] == "MultiPolygon"
    longitudes = [x for polygon in item["geometry"]["coordinates"] for x, _ in polygon[0]]
    assert sorted(set(longitudes)) == [-180.0, -179.0, 179.0, 180.0]
    assert mlm_problems(item) == []


def test_what_it_started_from_and_when_is_told() -> None:
    end = datetime(2025, 1, 2, tzinfo=UTC)
    item = build_mlm_item(
        CONFIG,
        name="x",
        bbox=(0, 0, 1, 1),
        period=(SENSED, end),
        pretrained_source="s2-moco@1",
        total_parameters=11,
        metrics={"knn": 0.7},
    )
    properties = item["properties"]
    assert properties["mlm:pretrained_source"] == "s2-moco@1"
    assert properties["mlm:total_parameters"] == 11
    assert properties["encoder:metrics"] == {"knn": 0.7}
    assert (properties["start_datetime"], properties["end_datetime"]) == (
        "2024-05-30T17:49:09Z",
        "2025-01-02T00:00:00Z",
    )


def _no_input(item: dict[str, Any]) -> None:
    del item["properties"]["mlm:input"]


def _bad_task(item: dict[str, Any]) -> None:
    item["properties"]["mlm:tasks"] = ["feature-extraction"]


def _bad_name(item: dict[str, Any]) -> None:
    item["properties"]["mlm:name"] = "owner/name"


def _no_weights(item: dict[str, Any]) -> None:
    del item["assets"]["model"]


def _two_weights(item: dict[str, Any]) -> None:
    item["assets"]["again"] = item["assets"]["model"]


def _unknown_band(item: dict[str, Any]) -> None:
    item["properties"]["mlm:input"][0]["bands"][0]["name"] = "B99"


def _no_band_dimension(item: dict[str, Any]) -> None:
    item["properties"]["mlm:input"][0]["input"]["dim_order"][1] = "channel"


def _too_few_scalings(item: dict[str, Any]) -> None:
    item["properties"]["mlm:input"][0]["value_scaling"].pop()


def _no_type(item: dict[str, Any]) -> None:
    del item["type"]


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (_no_input, "mlm:input"),
        (_bad_task, "mlm:tasks"),
        (_bad_name, "mlm:name"),
        (_no_weights, "mlm:model"),
        (_two_weights, "mlm:model"),
        (_unknown_band, "B99"),
        (_no_band_dimension, "bands"),
        (_too_few_scalings, "value_scaling"),
        (_no_type, "no STAC item"),
    ],
)
def test_each_way_of_breaking_an_item_is_told(break_it: Callable[[dict[str, Any]], None], told: str) -> None:
    item = copy.deepcopy(mlm_item())
    break_it(item)
    problems = mlm_problems(item)
    assert problems
    assert told in " ".join(problems)


def test_a_stamped_item_carries_version_checksum_and_size() -> None:
    item = mlm_item()
    before = copy.deepcopy(item)
    files = {"model.safetensors": {"sha256": "ab" * 32, "size": 7}}
    stamped = stamp_item(item, name="s2-moco", version=3, files=files)
    assert item == before
    assert stamped["id"] == "s2-moco-v3"
    assert stamped["properties"]["version"] == "3"
    assert stamped["assets"]["model"]["file:checksum"] == "1220" + "ab" * 32
    assert stamped["assets"]["model"]["file:size"] == 7
    assert "file:checksum" not in stamped["assets"]["config"]
    assert mlm_problems(stamped) == []
