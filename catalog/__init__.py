"""What Swath knows: products, scenes, the ledger, cubes, label sets and encoders.

Imports neither torch nor Prefect, so that querying weights is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catalog.encoders import Catalog

__all__ = ["open_catalog"]


def open_catalog(*args: Any, **kwargs: Any) -> Catalog:
    """Open the encoder catalog of this installation; see ``catalog.encoders.open_catalog``."""
    from catalog.encoders import open_catalog as open_it

    return open_it(*args, **kwargs)
