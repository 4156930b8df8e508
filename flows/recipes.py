"""Finds recipes and checks them before anything is started."""

from __future__ import annotations

from pathlib import Path

from catalog.errors import UsageError
from catalog.products import Product, load_products
from catalog.recipes import Recipe, read_recipe
from flows.archives import LOCAL_ARCHIVES
from models.methods import require_method

RECIPES = Path(__file__).resolve().parent.parent / "deployments" / "recipes"


def find_recipe(recipe: str | Path) -> Path:
    """A recipe file by path, or a built-in one by name (``sandbox``)."""
    path = Path(recipe)
    if path.suffix in {".yaml", ".yml"} or path.exists():
        return path
    built_in = RECIPES / f"{recipe}.yaml"
    if not built_in.is_file():
        known = ", ".join(sorted(item.stem for item in RECIPES.glob("*.yaml")))
        raise UsageError(
            "recipe-not-found",
            f"there is no recipe {str(recipe)!r}; built in: {known}",
            subject=str(recipe),
            next_step="give a path to a .yaml file, or one of these names",
        )
    return built_in


def check_recipe(recipe: str | Path, overrides: list[str] | None = None) -> tuple[Recipe, dict[str, Product]]:
    """Read a recipe and look up its products.

    Raises
    ------
    UsageError: with the recipe's field, for an unknown key, a wrong value, an unknown product or method.
    """
    read = read_recipe(find_recipe(recipe), tuple(overrides or ()))
    known = load_products(LOCAL_ARCHIVES / read.archive / "products")
    unknown = [name for name in read.products if name not in known]
    if unknown:
        raise UsageError(
            "unknown-product",
            f"there is no product {unknown[0]!r}; known: {', '.join(sorted(known))}",
            subject=f"{read.name}: products.{unknown[0]}",
            next_step="correct the recipe, or add a product file to SWATH_HOME/products",
        )
    for item in read.pretrain:
        try:
            require_method(item.method)
        except UsageError as error:
            raise UsageError(
                error.code,
                error.message,
                subject=f"{read.name}: pretrain.{item.encoder}.method",
                next_step=error.next_step,
            ) from None
    return read, {name: known[name] for name in read.products}
