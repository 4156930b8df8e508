"""What one flow run works with: the recipe, its products, the ledger, the cube and the encoder catalog."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import UsageError
from catalog.products import Product
from catalog.recipes import Recipe
from catalog.settings import Settings
from flows.environment import prepare_environment
from flows.recipes import check_recipe

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from catalog.cubes import Cube
    from catalog.encoders import Catalog
    from catalog.labels import LabelSet
    from catalog.ledger import Ledger
    from catalog.runs import Runs


class Session:
    """Opened once per flow run; its parts open when they are first asked for."""

    def __init__(self, recipe: Recipe, products: dict[str, Product], settings: Settings) -> None:
        self.recipe = recipe
        self.products = products
        self.settings = settings
        self.started = datetime.now(UTC)

    @cached_property
    def engine(self) -> Engine:
        from catalog.database import open_database

        return open_database(self.settings)

    @cached_property
    def ledger(self) -> Ledger:
        from catalog.ledger import Ledger

        return Ledger(self.engine)

    @cached_property
    def runs(self) -> Runs:
        from catalog.runs import Runs

        return Runs(self.engine)

    @cached_property
    def catalog(self) -> Catalog:
        from catalog.encoders import Catalog

        return Catalog(self.engine, self.settings)

    @cached_property
    def cube(self) -> Cube:
        """The recipe's cube, made where it is missing."""
        from catalog.cubes import open_cube

        products = list(self.products.values())
        return open_cube(self.recipe.cube_name, self.settings, create=True, products=products)

    def label_set(self, name: str) -> LabelSet:
        """A label set by name (of the recipe's archive) or by path.

        Raises
        ------
        UsageError: ``labels-not-found``.
        """
        from catalog.labels import read_label_set

        folder = self.settings.home / "archives" / self.recipe.archive
        candidates = [folder / "labels" / f"{name}.yaml", Path(name)]
        for path in candidates:
            if path.suffix == ".yaml" and path.is_file():
                return read_label_set(path)
        raise UsageError(
            "labels-not-found",
            f"there is no label set {name!r} of archive {self.recipe.archive}",
            subject=f"{self.recipe.name}: evaluate.label_set",
            next_step="run refresh first (it prepares a local archive), or give the path of a label set file",
        )

    def folder(self, kind: str) -> Path:
        """A folder for what this run writes, named by flow, recipe and start time."""
        stamp = self.started.strftime("%Y%m%dT%H%M%S.%f")[:-3]
        folder = self.settings.runs / f"{kind}-{self.recipe.name}-{stamp}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def open_session(recipe: str, overrides: list[str] | None = None) -> Session:
    """Read the recipe, check its products and prepare the environment, before anything is started."""
    settings = prepare_environment()
    return Session(*check_recipe(recipe, overrides), settings)
