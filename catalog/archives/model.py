"""The schema of an archive description."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from catalog.archives.hosts import is_private, literal_address, private_addresses, spelled
from catalog.errors import SceneError, UsageError
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
    access: Literal["anonymous", "planetary-computer-sas", "requester-pays", "s3-keys", "login", "oidc"] = (
        "anonymous"
    )
    token_url: str | None = Field(None, description="where read tokens are fetched, for signed access")
    token_hosts: dict[str, str] = Field(
        default_factory=dict,
        description="host → `account/container` whose read token opens its files, where the address does not"
        " say so itself as Azure's do",
    )
    requests_per_host: int = Field(32, gt=0, description="in flight to one of its hosts at a time")
    s3_endpoint: str | None = None
    requester_pays: tuple[str, ...] = Field(
        (), description="buckets that are read with the reader's own account and cost, whatever `access` says"
    )
    hosts: tuple[str, ...] = Field(
        (),
        description="hosts and buckets its files may lie on (`*.` for subdomains); any public one if empty",
    )
    private_hosts: tuple[str, ...] = Field(
        (),
        description="those of them that may lie inside a private network; the archive's own host may anyway",
    )
    stored_as_text: tuple[str, ...] = Field(
        (), description="numeric properties that it stores as text: never filtered over there"
    )
    described: bool = Field(True, description="false for an address that nobody described: it is probed")
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

    @field_validator("hosts", "private_hosts")
    @classmethod
    def _hosts_are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if "//" in host or "/" in host or spelled(host.removeprefix("*.")) is None:
                raise ValueError(f"{host!r} is no host; write a name without scheme, port and path")
        return hosts

    def may_hold(self, host: str) -> bool:
        """Whether a file of this archive may lie on ``host``.

        A host inside a private network must be named as it is, without ``*``, or be the archive's own.
        """
        name = spelled(host)
        if name is None:
            return False
        if self._may_be_private(name):
            return True
        if is_private(name):
            return name in self.hosts
        return not self.hosts or self._listed(name)

    def may_hold_bucket(self, bucket: str) -> bool:
        """Whether a file of this archive may lie in an s3 bucket."""
        name = spelled(bucket)
        if name is None or literal_address(name) is not None:
            return False
        return not self.hosts or self._listed(name)

    def may_be_plain(self, host: str) -> bool:
        """Whether a file on ``host`` may be read over http, where anybody on the way can exchange it."""
        return self.url.lower().startswith("http://") or self._may_be_private(spelled(host) or "")

    def may_resolve_to(self, host: str) -> None:
        """Refuse a host whose name leads into a private network; asks the resolver, so call it when reading.

        Raises
        ------
        SceneError: ``private-address``.
        """
        name = spelled(host)
        if name is None or self._may_be_private(name):
            return
        found = private_addresses(name)
        if found:
            raise SceneError(
                "private-address",
                f"{name} resolves to {', '.join(found)}, inside a private network",
                subject=name,
                next_step="if its files really lie there, name the host under `hosts` in the recipe",
            )

    def with_hosts(self, hosts: tuple[str, ...]) -> Archive:
        """The same archive, whose files may also lie on these hosts; a recipe's user vouches for them.

        An archive that names no hosts keeps reading from any public one.

        Raises
        ------
        UsageError: ``invalid-host``.
        """
        if not hosts:
            return self
        named = tuple(host for host in hosts if not host.startswith("*."))
        changes = {
            "hosts": (*self.hosts, *hosts) if self.hosts else (),
            "private_hosts": (*self.private_hosts, *named),
        }
        try:
            return Archive.model_validate(self.model_dump() | changes)
        except ValidationError as error:
            raise UsageError(
                "invalid-host",
                error.errors()[0]["msg"],
                subject="hosts",
                next_step="write names like `files.example.org`, `*.example.org` or `10.0.0.7`",
            ) from error

    @property
    def own_host(self) -> str | None:
        """The host of its address."""
        try:
            return spelled(urlsplit(self.url).hostname or "")
        except ValueError:
            return None

    def _listed(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern.lower()) for pattern in (*self.hosts, *self.private_hosts))

    def _may_be_private(self, name: str) -> bool:
        vouched = {spelled(host) for host in self.private_hosts}
        # In `hosts` a name without dots may be a bucket; an address can only be meant as a host.
        vouched |= {spelled(h) for h in self.hosts if literal_address(h) is not None or h == "localhost"}
        return name == self.own_host or name in vouched
