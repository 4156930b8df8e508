"""Products: one sensor at one processing level; its bands, grids, radiometry and QA as data files."""

from catalog.products.model import Band, Product, QualityLayer, Radiometry
from catalog.products.registry import load_product, load_products

__all__ = ["Band", "Product", "QualityLayer", "Radiometry", "load_product", "load_products"]
