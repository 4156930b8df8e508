"""Finds product files: the built-in ones beside this module, and the user's in ``SWATH_HOME/products``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import ValidationError

from catalog.errors import UsageError
from catalog.products.model import Product
from catalog.settings import load_settings


def load_products(*folders: Path) -> dict[str, Product]:
    """Every known product by id; later folders override earlier ones.

    Looks beside this module, then in ``SWATH_HOME/products``, then in ``folders`` (an archive description
    brings its own).
    """
    products: dict[str, Product] = {}
    for folder in (Path(__file__).parent, load_settings().home / "products", *folders):
        for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
            product = read_product(path)
            products[product.id] = product
    return products


def load_product(product_id: str, *folders: Path) -> Product:
    """One product by id.

    Raises
    ------
    UsageError: ``unknown-product``, naming those that exist.
    """
    products = load_products(*folders)
    if product_id not in products:
        raise UsageError(
            "unknown-product",
            f"there is no product {product_id!r}; known: {', '.join(sorted(products))}",
            subject=product_id,
            next_step="correct the recipe, or add a product file to SWATH_HOME/products",
        )
    return products[product_id]


def read_product(path: Path) -> Product:
    """Read and validate one product file; once per process, as long as it does not change."""
    stat = path.stat()
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _read(path: Path, changed: int, size: int) -> Product:
    # libyaml's loader is as safe, and ten times faster on EnMAP's 224 bands.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return Product.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader=loader))
    except (ValidationError, yaml.YAMLError) as error:
        raise UsageError(
            "invalid-product-file",
            str(error).replace("\n", " "),
            subject=path.name,
            next_step="correct the file; the schema is catalog/products/model.py",
        ) from error
