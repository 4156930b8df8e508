"""Recipes that start from others: ``extends`` names what a file changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from catalog.errors import UsageError

EXTENDS = "extends"
_MERGED = ("backbone_options", "optimiser", "options")
"""Parts of a pretraining that are merged key by key."""


def read_document(path: Path, *, within: tuple[Path, ...] = ()) -> Any:
    """A recipe file as a YAML document, laid over the files that it extends.

    ``extends`` is a name of a file beside it, or a list of names of which later ones come on top. A key of
    the upper file stands in place of the lower one's, whole. Only ``pretrain`` is different: an item without
    a ``method`` is laid over the lower file's item at the same place, key by key, with ``options``,
    ``optimiser`` and ``backbone_options`` merged in turn; with one it stands for itself. ``name`` and
    ``title`` are not passed on.

    Raises
    ------
    UsageError: ``recipe-not-found``, ``invalid-recipe``.
    """
    if not path.is_file():
        raise UsageError(
            "recipe-not-found",
            f"there is no recipe file {path}",
            subject=str(within[-1] if within else path),
            next_step="see deployments/recipes for the built-in ones",
        )
    if path.resolve() in within:
        raise _invalid(path, f"it extends itself, through {within[-1].name}", "take one `extends` away")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(
            "invalid-recipe", str(error).replace("\n", " "), subject=path.name, next_step="correct the YAML"
        ) from error
    if not isinstance(document, dict) or EXTENDS not in document:
        return document
    own = {key: value for key, value in document.items() if key != EXTENDS}
    names = document[EXTENDS] if isinstance(document[EXTENDS], list) else [document[EXTENDS]]
    lower: dict[str, Any] = {}
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise _invalid(path, f"extends: {name!r} is no name of a recipe beside it", "correct `extends`")
        beside = read_document(path.with_name(f"{name}.yaml"), within=(*within, path.resolve()))
        if not isinstance(beside, dict):
            raise _invalid(path, f"extends: {name} holds no recipe", "correct `extends`")
        lower = _over(lower, beside)
    lower = {key: value for key, value in lower.items() if key not in ("name", "title")}
    return _over(lower, own)


def _over(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    merged = lower | upper
    below, above = lower.get("pretrain"), upper.get("pretrain")
    if isinstance(below, list) and isinstance(above, list):
        merged["pretrain"] = [
            _item(below[place] if place < len(below) else {}, item) for place, item in enumerate(above)
        ]
    return merged


def _item(lower: Any, upper: Any) -> Any:
    if not isinstance(lower, dict) or not isinstance(upper, dict) or "method" in upper:
        return upper
    merged = lower | upper
    for key in _MERGED:
        if isinstance(lower.get(key), dict) and isinstance(upper.get(key), dict):
            merged[key] = lower[key] | upper[key]
    return merged


def _invalid(path: Path, message: str, next_step: str) -> UsageError:
    return UsageError("invalid-recipe", message, subject=path.name, next_step=next_step)
