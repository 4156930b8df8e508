"""The whole recipe, and how its file is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from catalog.errors import UsageError
from catalog.recipes.acquisition import Area, LocationRequest, Period, ProductRequest
from catalog.recipes.area import AreaCube, Embedding, ReaderName
from catalog.recipes.extends import read_document
from catalog.recipes.learning import Evaluation, Pretraining, Promotion
from catalog.recipes.strict import Strict


class Recipe(Strict):
    """What a run needs to know."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str = ""
    archive: str = Field(description="name of a built-in archive, or the address of a STAC API")
    hosts: tuple[str, ...] = Field(
        (), description="more hosts that the archive's files may lie on; private ones must be named here"
    )
    cube: str = Field("", description="name of the cube; the recipe's name unless given")
    area: Area
    period: Period
    products: Annotated[dict[str, ProductRequest], Field(min_length=1)]
    locations: LocationRequest
    reader: ReaderName = Field("direct", description="what reads pixels for the cube: see docs/area-cubes.md")
    area_cube: AreaCube | None = Field(None, description="a dense cube over the area; see docs/area-cubes.md")
    embed: Embedding | None = Field(None, description="an encoder to apply to the area cube")
    look_back_days: int | None = Field(
        None, ge=0, description="late-arrival window of a refresh; the whole period is searched if none"
    )
    whole_search_days: float = Field(
        30, gt=0, description="with a window: age of the last whole search past which all is searched again"
    )
    pretrain: tuple[Pretraining, ...] = ()
    evaluate: tuple[Evaluation, ...] = ()
    promotion: Promotion = Promotion()
    verify_checksums: bool = Field(
        False, description="fetch every file whole and compare it with its item's checksum where there is one"
    )
    published: bool = Field(True, description="false for sandbox recipes: scores are never quoted as quality")

    @model_validator(mode="after")
    def _parts_fit(self) -> Recipe:
        names = [item.encoder for item in self.pretrain]
        if len(set(names)) != len(names):
            raise ValueError("two pretrainings share an encoder name")
        for item in self.pretrain:
            for product in item.products:
                if product not in self.products:
                    raise ValueError(f"pretraining {item.encoder} uses product {product}, not in `products`")
        for product in (self.area_cube and self.area_cube.products) or ():
            if product not in self.products:
                raise ValueError(f"the area cube uses product {product}, not in `products`")
        for task in self.evaluate:
            if task.product not in self.products:
                raise ValueError(f"evaluation {task.name} uses product {task.product}, not in `products`")
        return self

    @property
    def cube_name(self) -> str:
        return self.cube or self.name

    def pretraining(self, encoder: str) -> Pretraining:
        return next(item for item in self.pretrain if item.encoder == encoder)


def read_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe file with what it extends; ``overrides`` are ``key.sub=value`` strings, values YAML.

    Raises
    ------
    UsageError: the file is missing, is no YAML, or has an unknown key or a wrong value (named).
    """
    document = read_document(path)
    for override in overrides:
        document = _apply(document, override)
    return parse_recipe(document, subject=path.name)


def parse_recipe(document: Any, *, subject: str = "recipe") -> Recipe:
    """Validate a recipe document."""
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "recipe"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise UsageError(
            "invalid-recipe",
            f"{field}: {message}{more}",
            subject=subject,
            next_step=f"correct {field}; every key is described in docs/recipes.md",
        ) from error


def _apply(document: Any, override: str) -> Any:
    path, separator, text = override.partition("=")
    if not separator:
        raise _bad_override(
            override, "an override is written key.sub=value", "for example --set pretrain.0.steps=50"
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _bad_override(
            override, f"its value is no YAML: {' '.join(str(error).split())}", "quote it"
        ) from error
    *keys, last = path.split(".")
    target = document
    for key in keys:
        if isinstance(target, dict):
            target = target.setdefault(key, {})
        else:
            target = _element(target, key, override)
    if isinstance(target, dict):
        target[last] = value
    else:
        _element(target, last, override)
        target[int(last)] = value
    return document


def _element(target: Any, key: str, override: str) -> Any:
    if not isinstance(target, list) or not key.isdigit() or int(key) >= len(target):
        raise _bad_override(override, f"there is no {key} in that part of the recipe", "name an existing key")
    return target[int(key)]


def _bad_override(override: str, message: str, next_step: str) -> UsageError:
    return UsageError("bad-override", message, subject=override, next_step=next_step)
