"""A small sandbox archive, made once per test session, and ways to look into it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from deployments.sandbox import SandboxInfo

SIZE_M, DATES = 1920, 4


def items_of(info: SandboxInfo, product: str) -> list[dict[str, Any]]:
    path = info.folder / "items" / f"{info.collections[product]}.ndjson"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def item_of(info: SandboxInfo, product: str, scene: str) -> dict[str, Any]:
    return next(item for item in items_of(info, product) if item["id"] == scene)


def asset_path(info: SandboxInfo, item: dict[str, Any], key: str) -> Path:
    return info.folder / str(item["assets"][key]["href"]).lstrip("/")


def read(info: SandboxInfo, item: dict[str, Any], key: str) -> NDArray[Any]:
    """All bands of one asset, ``(band, y, x)``."""
    with rasterio.open(asset_path(info, item, key)) as file:
        return np.asarray(file.read())


def all_assets(info: SandboxInfo) -> Iterator[tuple[str, dict[str, Any], str, Path]]:
    for product in info.scenes:
        for item in items_of(info, product):
            for key in item["assets"]:
                yield product, item, key, asset_path(info, item, key)
