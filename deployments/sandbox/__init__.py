"""The sandbox archive's content: simulated scenes of every product over one invented landscape."""

from __future__ import annotations

from typing import Any

from deployments.sandbox.make import SandboxInfo, make_sandbox
from deployments.sandbox.plan import ALL_PRODUCTS

__all__ = ["ALL_PRODUCTS", "EVERY_PRODUCT", "SandboxInfo", "make_sandbox"]

EVERY_PRODUCT: dict[str, Any] = {"products": ALL_PRODUCTS, "size_m": 1920, "dates": 3}
"""Options of ``make_sandbox`` for the archive ``sandbox-all``."""
