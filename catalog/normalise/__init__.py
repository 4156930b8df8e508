"""STAC items to scenes: one spelling, type and unit for every field, whichever archive an item came from."""

from catalog.normalise.findings import RefusedScene
from catalog.normalise.inspection import inspect_item
from catalog.normalise.item import normalise_item
from catalog.normalise.landsat_mtl import read_mtl, with_mtl

__all__ = ["RefusedScene", "inspect_item", "normalise_item", "read_mtl", "with_mtl"]
