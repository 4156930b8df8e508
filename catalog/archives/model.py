"""The schema of an archive description."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from catalog.errors import UsageError
from catalog.products.model import Product


class Archive(BaseModel):
    """One STAC API as it really behaves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str = ""
    url: str = Field("", description="landing page; empty until a local archive is served")
    collections: dict[str, str] = Field(default_factory=dict, description="product id → collection id")
    closed: bool = Field(
        False, description="has only the products in `collections`; else a product's id names its collection"
    )
    filter: Literal["cql2-json", "cql2-text", "query", "client"] = Field(
        "client", description="how a search is narrowed by properties; `client`: not at all, afterwards"
    )
    method: Literal["GET", "POST"] = "POST"
    sort: bool = Field(False, description="whether `sortby` works together with paging")
    page_size: int = Field(100, gt=0)
    access: Literal["anonymous", "planetary-computer-sas", "requester-pays", "s3-keys", "login"] = "anonymous"
    token_url: str | None = Field(None, description="where read tokens are fetched, for signed access")
    s3_endpoint: str | None = None
    hosts: tuple[str, ...] = Field(
        (), description="hosts and buckets its files may lie on (`*.` for subdomains); any if empty"
    )
    normaliser: Literal["stac", "earth-search", "dlr-eoc"] = Field(
        "stac", description="which known defects of its items are mended"
    )
    product_folder: Path | None = Field(None, description="product files it brings along")
    notes: str = ""

    def collection(self, product: Product) -> str:
        """Collection id of a product in this archive.

        Raises
        ------
        UsageError: ``product-not-in-archive``, naming what it holds.
        """
        if self.name in product.collections:
            return product.collections[self.name]
        if product.id in self.collections:
            return self.collections[product.id]
        if self.closed:
            raise UsageError(
                "product-not-in-archive",
                f"the archive {self.name} has no {product.id}; it has {', '.join(sorted(self.collections))}",
                subject=product.id,
                next_step="choose another archive, or name the collection in the product file",
            )
        return product.id

    def may_hold(self, host: str) -> bool:
        """Whether a file of this archive may lie on ``host`` (or, for s3, in that bucket)."""
        return not self.hosts or any(fnmatch(host.lower(), pattern) for pattern in self.hosts)
