"""The schema of ``archive.yaml``: which files of a folder are which scenes of which product."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from catalog.errors import UsageError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Override(_Strict):
    """What is known of one scene, or of the scenes a pattern fits, and cannot be read from file names."""

    datetime: str | None = Field(None, description="sensing time, ISO 8601, UTC")
    platform: str | None = None
    baseline: str | None = None
    tile: str | None = None
    cloud_cover: float | None = Field(None, ge=0, le=100)
    properties: dict[str, Any] = Field(default_factory=dict)


class SceneRule(_Strict):
    """Files of one product. ``{name}`` in a template stands for a named group of ``files``."""

    product: str
    files: str = Field(description="regular expression over the whole path below the scenes folder, with `/`")
    scene: str = Field(description="template of the scene id; files with the same id are one scene")
    tile: str = Field(description="template of the place key: versions of one observation share it")
    platform: str = Field(description="template, e.g. sentinel-2a")
    datetime: str | None = Field(None, description="template; None where `mtl` or the overrides say it")
    datetime_format: str = "%Y%m%dT%H%M%S"
    baseline: str | None = None
    band: str = Field("{band}", description="template of what `assets` maps to asset keys")
    assets: dict[str, str] = Field(
        default_factory=dict,
        description="file's word → asset key of the product; the word itself unless named",
    )
    mtl: str | None = Field(None, description="template of the path of a Landsat MTL file (txt or json)")
    wavelengths: bool = Field(False, description="carry the file's own band wavelengths in the item")
    convert: str | None = Field(
        None, description="name of a conversion; none serves the files where they lie"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="of the conversion")
    properties: dict[str, Any] = Field(default_factory=dict, description="of every item; texts are templates")
    overrides: dict[str, Override] = Field(
        default_factory=dict, description="glob over scene ids and file paths → what to say of those scenes"
    )

    @field_validator("files")
    @classmethod
    def _is_a_regular_expression(cls, text: str) -> str:
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return text

    @model_validator(mode="after")
    def _options_need_a_conversion(self) -> SceneRule:
        if self.options and not self.convert:
            raise ValueError("`options` are those of a conversion; name one in `convert`")
        return self


class LabelRule(_Strict):
    """Label rasters of one label set."""

    label_set: str = Field(description="label set file beside archive.yaml, without its `paths`")
    files: str = Field(description="regular expression over the path below the scenes folder")
    name: str = Field(description="template of the raster's name in the prepared folder, without suffix")
    like: str | None = Field(None, description="template of a raster with the same pixels and a CRS")
    variable: str | None = Field(None, description="variable of a NetCDF file")


class ArchiveFile(_Strict):
    """One ``archive.yaml``."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    licence: str
    attribution: str
    caveat: str = ""
    products: str | None = Field(None, description="folder of product files, beside archive.yaml")
    scenes: tuple[SceneRule, ...] = Field(min_length=1)
    labels: tuple[LabelRule, ...] = ()


def read_archive_file(path: Path) -> ArchiveFile:
    """Read and validate an ``archive.yaml``.

    Raises
    ------
    UsageError: it is missing, no YAML, or a field is unknown or wrong (named).
    """
    if not path.is_file():
        raise UsageError(
            "archive-file-not-found",
            f"there is no archive file {path}",
            subject=str(path),
            next_step="see deployments/archives for examples",
        )
    try:
        return ArchiveFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise UsageError(
            "invalid-archive-file",
            str(error).replace("\n", " "),
            subject=str(path),
            next_step="correct the YAML",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise UsageError(
            "invalid-archive-file",
            f"{field}: {message}{more}",
            subject=str(path),
            next_step=f"correct {field}; every key is described in deployments/stac_server/archive_file.py",
        ) from error


def fill(template: str, groups: dict[str, str], field: str) -> str:
    """Put named groups into a template; ``field`` names it in the error."""
    try:
        return template.format(**groups)
    except (KeyError, IndexError, ValueError) as error:
        raise UsageError(
            "invalid-archive-file",
            f"{field}: {template!r} asks for {error}, known are {', '.join(sorted(groups)) or 'no names'}",
            subject=field,
            next_step=f"correct {field}, or name the group in `files`",
        ) from error
