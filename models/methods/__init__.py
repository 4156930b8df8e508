"""Pretraining methods by name; listing them imports neither torch nor any method."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from catalog.errors import UsageError

if TYPE_CHECKING:
    from models.methods.method import MethodFactory


@dataclass(frozen=True)
class MethodCard:
    """What ``swath methods list`` shows of a method."""

    name: str
    title: str
    skeleton: str
    paper: str
    module: str
    backbones: str


METHODS = {
    card.name: card
    for card in (
        MethodCard(
            "moco-v2",
            "Momentum contrast: a view must be told apart from a queue of other places by its other date",
            "two views + momentum teacher",
            "Chen, Fan, Girshick & He 2020, arXiv 2003.04297; over seasons as in SSL4EO-S12 and SSL4EO-L",
            "models.methods.moco_v2",
            "any timm backbone",
        ),
        MethodCard(
            "mae",
            "Masked autoencoder: most tokens are hidden and their pixels predicted from the rest",
            "masked reconstruction",
            "He et al. 2022, arXiv 2111.06377; hyperspectral as in SpectralEarth, arXiv 2408.08447",
            "models.methods.mae",
            "timm Vision Transformers",
        ),
    )
}


def load_method(name: str) -> MethodFactory:
    """The method's factory: its options and how it is built.

    Raises
    ------
    UsageError: ``unknown-method``, naming those that exist.
    """
    if name not in METHODS:
        raise UsageError(
            "unknown-method",
            f"there is no method {name!r}; known: {', '.join(METHODS)}",
            subject=name,
            next_step="correct `method` in the recipe; swath methods list",
        )
    return importlib.import_module(METHODS[name].module).FACTORY  # type: ignore[no-any-return]


def describe_methods() -> list[dict[str, Any]]:
    """Every method as a JSON document, without its options."""
    return [asdict(card) for card in METHODS.values()]


def describe_method(name: str) -> dict[str, Any]:
    """One method with its options: name → type, default and meaning. Imports torch."""
    factory = load_method(name)
    schema = factory.options.model_json_schema()["properties"]
    return asdict(METHODS[name]) | {"options": schema}
