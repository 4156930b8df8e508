"""Pretraining methods by name; listing them imports neither torch nor any method.

A recipe names one of ``METHODS``, or a method of its own as ``module:FACTORY``; see docs/adding-a-method.md.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.errors import UsageError
from models.methods.cards import CARDS, MethodCard

if TYPE_CHECKING:
    from models.methods.method import MethodFactory

METHODS = {card.name: card for card in CARDS}


def load_method(name: str) -> MethodFactory:
    """The method's factory: its options and how it is built.

    Raises
    ------
    UsageError: ``unknown-method``, naming those that exist.
    """
    require_method(name)
    if name in METHODS:
        return importlib.import_module(METHODS[name].module).FACTORY  # type: ignore[no-any-return]
    from models.methods.method import MethodFactory

    module, _, attribute = name.partition(":")
    factory = getattr(importlib.import_module(module), attribute, None)
    if not isinstance(factory, MethodFactory):
        raise _unknown(name, f"{module} has no MethodFactory {attribute!r}")
    return factory


def require_method(name: str) -> None:
    """Look a method up without importing it.

    Raises
    ------
    UsageError: ``unknown-method``, naming those that exist.
    """
    if name in METHODS:
        return
    if ":" not in name:
        raise _unknown(name, f"there is no method {name!r}; known: {', '.join(METHODS)}")
    if _source(name) is None:
        raise _unknown(name, f"there is no Python module {name.partition(':')[0]!r} to import")


def outside_source(name: str) -> str | None:
    """SHA-256 of the file that a method from outside the package lies in; None for those of ``METHODS``."""
    path = _source(name) if ":" in name else None
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def describe_methods() -> list[dict[str, Any]]:
    """Every method as a JSON document, without its options."""
    return [asdict(card) for card in CARDS]


def describe_method(name: str) -> dict[str, Any]:
    """One method with its options: name → type, default and meaning. Imports torch."""
    factory = load_method(name)
    card = METHODS.get(name) or _card_of(name)
    schema = factory.options.model_json_schema().get("properties", {})
    return asdict(card) | {"options": schema}


def _card_of(name: str) -> MethodCard:
    """What the module of a method from outside says of itself."""
    module = name.partition(":")[0]
    title = (importlib.import_module(module).__doc__ or "").strip().partition("\n")[0]
    return MethodCard(
        name=name,
        title=title,
        skeleton="",
        products=(),
        backbones="",
        recipe=None,
        reference="",
        module=module,
    )


def _source(name: str) -> Path | None:
    """The file of ``module:FACTORY``, found without running it."""
    try:
        found = importlib.util.find_spec(name.partition(":")[0])
    except (ImportError, ValueError):
        return None
    return None if found is None or found.origin is None else Path(found.origin)


def _unknown(name: str, message: str) -> UsageError:
    return UsageError(
        "unknown-method",
        message,
        subject=name,
        next_step="correct `method` in the recipe; swath methods list",
    )
