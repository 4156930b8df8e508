"""Every real item becomes a scene or is refused with a reason, and the page says how many."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.recordings.counts import USABLE, outcomes, table

pytestmark = pytest.mark.realdata


def test_every_real_item_has_an_outcome(realdata: Path) -> None:
    found = list(outcomes(realdata))
    assert all(why for *_, why in found)
    usable = [row for row in found if row[-1] == USABLE]
    assert len(found) > 700 and len(usable) > 500
    assert {archive for archive, *_ in usable} == {
        "cdse", "dlr-eoc", "earth-search", "planetary-computer", "usgs-landsatlook",
    }  # fmt: skip
    # Nothing that was recorded in a collection we read is refused for a reason that we do not know of.
    assert {collection for _, collection, _, _, why in found if why == USABLE} >= {
        "ENMAP_HSI_L2A", "sentinel-2-l2a", "sentinel-2-c1-l2a", "sentinel-2-l1c", "sentinel-1-grd",
        "sentinel-1-rtc", "landsat-c2-l2", "landsat-c2l2-sr",
    }  # fmt: skip


def test_the_page_holds_the_table_as_it_is(realdata: Path) -> None:
    page = (REPOSITORY / "docs" / "archives.md").read_text(encoding="utf-8")
    assert "\n".join(table(realdata)) in page, "print it with `python -m tests.recordings.counts`"
