"""STAC items that describe encoders with the MLM (machine learning model) extension.

Built and checked with ``stac_model``'s classes and pystac, without the web, to which the extension's JSON
schema refers. What MLM has no word for is under ``encoder:``, and what people search by is flat,
because STAC servers do not look into ``mlm:input``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

WEIGHTS = "model.safetensors"
ARTIFACT_TYPE = "safetensors.torch.save_file"
TASK = "similarity-search"
"""MLM's list of tasks is closed and has no word for embeddings; this one is nearest."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._ -]*")


def build_mlm_item(
    config: Mapping[str, Any],
    *,
    name: str,
    bbox: Sequence[float],
    period: tuple[datetime, datetime],
    total_parameters: int | None = None,
    pretrained_source: str | None = None,
    licence: str = "other",
    description: str = "",
    metrics: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The item of an encoder whose ``config.json`` is ``config``.

    Parameters
    ----------
    bbox:     (west, south, east, north) in degrees of what it was trained on
    period:   first and last sensing time of what it was trained on
    licence:  of the weights, as STAC's ``license``: an SPDX id, or ``other``
    pretrained_source: what the training started from, e.g. another encoder's ``NAME@3``; None is from scratch
    metrics:  flat figures, added as ``encoder:metrics``

    Name, version, checksums and sizes of a registered encoder are filled in by ``stamp_item``.
    """
    import pystac
    from stac_model.base import ModelBand
    from stac_model.input import InputStructure, ModelInput, ValueScalingZScore
    from stac_model.output import ModelOutput, ModelResult
    from stac_model.schema import SCHEMA_URI, MLModelProperties

    size, bands = config["input_size_px"], list(config["bands"])
    scaling = config["normalisation"]
    timm_name = config["timm"]["name"]
    properties = MLModelProperties(
        name=name,
        architecture=timm_name,
        tasks={TASK},
        framework="pytorch",
        framework_version=_torch_version(),
        accelerator=None,
        pretrained=True,
        pretrained_source=pretrained_source or "scratch",
        total_parameters=total_parameters,
        input=[
            ModelInput(
                name=f"{config['product']} in physical units",
                bands=[ModelBand(name=band) for band in bands],
                input=InputStructure(
                    shape=[-1, len(bands), size, size],
                    dim_order=["batch", "bands", "height", "width"],
                    data_type="float32",
                ),
                value_scaling=[
                    ValueScalingZScore(mean=mean, stddev=deviation)
                    for mean, deviation in zip(scaling["mean"], scaling["std"], strict=True)
                ],
            )
        ],
        output=[
            ModelOutput(
                name="embedding",
                tasks={TASK},
                result=ModelResult(
                    shape=[-1, config["feature_dim"]], dim_order=["batch", "embedding"], data_type="float32"
                ),
            )
        ],
    )
    west, south, east, north = bbox
    item = pystac.Item(
        id=name,
        geometry=_polygon(west, south, east, north),
        bbox=[west, south, east, north],
        datetime=None,
        properties={
            "title": name,
            "description": description or f"{timm_name} pretrained with {config['method']}",
            "license": licence,
            "start_datetime": _text(period[0]),
            "end_datetime": _text(period[1]),
            "created": _text(datetime.now(UTC)),
            "gsd": config["gsd_m"],
            **properties.model_dump(mode="json", by_alias=True),
            "encoder:method": config["method"],
            "encoder:product": config["product"],
            "encoder:products": list(config["products"]),
            "encoder:bands": bands,
            "encoder:units": config["units"],
            "encoder:embed_dim": config["feature_dim"],
            "encoder:input_size_px": size,
            "encoder:metrics": dict(metrics or {}),
        },
        stac_extensions=[SCHEMA_URI, *_EXTENSIONS],
    )
    item.add_asset(
        "model",
        pystac.Asset(
            href=f"./{WEIGHTS}",
            title="Weights",
            media_type="application/vnd.safetensors",
            roles=["mlm:model", "mlm:weights", "data"],
            extra_fields={"mlm:artifact_type": ARTIFACT_TYPE, "bands": _bands(config)},
        ),
    )
    for key, title in (("config", "How to build the network"), ("manifest", "What it was made from")):
        item.add_asset(
            key,
            pystac.Asset(
                href=f"./{key}.json", title=title, media_type="application/json", roles=["metadata"]
            ),
        )
    document: dict[str, Any] = item.to_dict(include_self_link=False)
    return document


def stamp_item(
    item: Mapping[str, Any], *, name: str, version: int, files: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The item with a registered encoder's name and version, each asset's checksum (multihash) and size."""
    stamped = copy.deepcopy(dict(item))
    stamped["id"] = f"{name}-v{version}"
    properties = stamped.setdefault("properties", {})
    properties |= {"mlm:name": name, "version": str(version), "encoder:version": version}
    for asset in (stamped.get("assets") or {}).values():
        entry = files.get(str(asset.get("href", "")).removeprefix("./"))
        if entry is not None:
            asset["file:checksum"] = f"1220{entry['sha256']}"
            asset["file:size"] = entry["size"]
    return stamped


def mlm_problems(item: Mapping[str, Any]) -> list[str]:
    """What keeps an item from being a valid MLM item, one line each; empty where nothing does."""
    import pystac
    from pydantic import ValidationError
    from stac_model.schema import MLModelProperties

    problems: list[str] = []
    try:
        read = pystac.Item.from_dict(dict(item))
    except (KeyError, ValueError, TypeError, pystac.STACError, pystac.STACTypeError) as error:
        return [f"it is no STAC item: {error}"]
    if read.geometry is not None and read.bbox is None:
        problems.append("it has a geometry and no bbox")
    try:
        model = MLModelProperties.model_validate(read.properties)
    except ValidationError as error:
        return [
            *problems,
            *(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors()),
        ]
    if not _NAME.fullmatch(model.name):
        problems.append("mlm:name: letters, digits, blanks and _ . - only")
    weights = [key for key, asset in read.assets.items() if "mlm:model" in (asset.roles or ())]
    typed = [key for key, asset in read.assets.items() if "mlm:artifact_type" in asset.extra_fields]
    if len(weights) != 1 or typed != weights:
        problems.append("exactly one asset must have the role mlm:model and an mlm:artifact_type")
    defined = {
        band.get("name")
        for holder in (read.properties, *(asset.extra_fields for asset in read.assets.values()))
        for band in holder.get("bands", ())
    }
    for given in model.input:
        named = [band if isinstance(band, str) else band.name for band in given.bands or ()]
        if named and "bands" not in given.input.dim_order:
            problems.append(f"mlm:input {given.name}: lists bands, but no dimension is called `bands`")
        problems += [
            f"mlm:input {given.name}: band {band} is nowhere defined" for band in named if band not in defined
        ]
        if named and given.value_scaling and len(given.value_scaling) not in (1, len(named)):
            problems.append(f"mlm:input {given.name}: one value_scaling per band is needed")
    return problems


_EXTENSIONS = (
    "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/version/v1.2.0/schema.json",
)


def _bands(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """STAC 1.1 bands; wavelengths in micrometres, as the eo extension wants them."""
    bands = []
    for name, centre, width in zip(config["bands"], config["wavelengths_nm"], config["fwhm_nm"], strict=True):
        band: dict[str, Any] = {"name": name}
        if centre is not None:
            band["eo:center_wavelength"] = round(centre / 1000, 7)
        if width is not None:
            band["eo:full_width_half_max"] = round(width / 1000, 7)
        bands.append(band)
    return bands


def _polygon(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    if west <= east:
        return {"type": "Polygon", "coordinates": [_ring(west, south, east, north)]}
    halves = [[_ring(west, south, 180.0, north)], [_ring(-180.0, south, east, north)]]
    return {"type": "MultiPolygon", "coordinates": halves}


def _ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _torch_version() -> str | None:
    from importlib import metadata

    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None
