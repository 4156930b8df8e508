"""The gate: judges scenes by two tables, one of their metadata and one of their pixel statistics.

Great Expectations does the judging, by the suites of ``tasks.gate.suites``. It never sees a pixel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import SceneError, SwathError
from catalog.products import Product
from catalog.recipes import GateLimits
from catalog.scenes import Scene
from catalog.wavelengths import MOST_FOREIGN, foreign_bands
from tasks.gate.checks import checks_for
from tasks.gate.report import write_report
from tasks.gate.result import Exhibit, GateResult, GateRow
from tasks.gate.suites import TABLES, checks_of, refused_by, suite_of
from tasks.signing import redact

if TYPE_CHECKING:
    import pandas as pd

WAVELENGTH_TOLERANCE_NM = 30.0
"""Between a stated wavelength and the product's nearest: EnMAP's 2022 grid fills a gap of the later one."""
FEWEST_FOR_A_SHARE = 3
"""Of fewer scenes, a share of refusals says nothing: one cloudy scene in a week's refresh is no alarm."""

__all__ = ["GateResult", "checks_for", "gate_scenes", "refuse_if_too_many", "suite_of"]


def gate_scenes(
    product: Product,
    scenes: Sequence[Scene],
    statistics: Sequence[Mapping[str, Any]],
    limits: GateLimits,
    *,
    failures: Mapping[str, SceneError] | None = None,
    report: Path | None = None,
    now: datetime | None = None,
) -> GateResult:
    """Judge scenes by their metadata and their rows of ``tasks.gate.statistics``.

    Parameters
    ----------
    statistics: one row per scene that could be read
    failures:   scenes that could not, with the error that says why; they are quarantined for it
    report:     where to write the page

    A scene that has neither a row nor a failure is judged by its metadata alone. Too many refusals do not
    raise here, so that the verdicts can be kept first: see ``refuse_if_too_many``.
    """
    failures = failures or {}
    reasons: dict[str, list[str]] = {scene.id: [] for scene in scenes}
    for scene_id, error in failures.items():
        reasons.setdefault(scene_id, []).append(redact(error.message))
    table: list[GateRow] = []
    if scenes:
        frames = (
            metadata_table(product, scenes, now or datetime.now(UTC)),
            statistics_table(statistics),
        )
        for name, frame in zip(TABLES, frames, strict=True):
            checks = checks_of(product, limits, name)
            if not len(frame):
                continue
            refused = refused_by(frame, product, name, checks)
            for check in checks:
                more = frame[check.why] if check.why else [None] * len(frame)
                for scene_id, value, why in zip(frame["scene"], frame[check.column], more, strict=True):
                    passed = (check.id, scene_id) not in refused
                    table.append(
                        GateRow(scene_id, check.id, check.title, check.show(value), check.limit, passed)
                    )
                    if not passed:
                        reasons[scene_id].append(check.reason(value, why))
    result = GateResult(
        product.id,
        tuple(scene_id for scene_id, why in reasons.items() if not why),
        {scene_id: tuple(why) for scene_id, why in reasons.items() if why},
        tuple(table),
        report,
        radiometry={str(row["scene"]): row["radiometry"] for row in statistics},
        exhibits={
            str(row["scene"]): Exhibit(row.get("picture"), row.get("histograms") or {})
            for row in statistics
            if reasons.get(str(row["scene"]))
        },
    )
    if report is not None:
        write_report(result, report)
    return result


def refuse_if_too_many(result: GateResult, limits: GateLimits) -> None:
    """Stop a run whose scenes are mostly bad: then something else is wrong than the scenes.

    Raises
    ------
    SwathError: ``too-many-refused``.
    """
    refused = len(result.quarantined)
    total = refused + len(result.accepted)
    if total < FEWEST_FOR_A_SHARE or result.refused_share <= limits.max_refused_share:
        return
    # Reasons differ in their values; what they are about is told by the check.
    titles = Counter(row.title for row in result.table if not row.passed)
    most = f"; most often for: {titles.most_common(1)[0][0]}" if titles else "; their files cannot be read"
    where = f"see {result.report}" if result.report else "see `swath scenes list --state quarantined`"
    raise SwathError(
        "too-many-refused",
        f"the gate refused {refused} of {total} new scenes, more than {limits.max_refused_share:.0%}{most}",
        subject=result.product,
        next_step=f"{where}; then mend the cause, or change products.{result.product}.gate in the recipe",
    )


def metadata_table(product: Product, scenes: Sequence[Scene], now: datetime) -> pd.DataFrame:
    """One row per scene: what its item says."""
    import pandas as pd

    frame = pd.DataFrame(
        {
            "scene": [scene.id for scene in scenes],
            "minutes_ahead": [max(0.0, (scene.sensed - now).total_seconds() / 60) for scene in scenes],
            "platform": [scene.platform for scene in scenes],
            "cloud": [scene.cloud_cover_percent for scene in scenes],
            "sun": [scene.sun_elevation_deg for scene in scenes],
            "wavelengths": [wavelength_doubt(product, scene) for scene in scenes],
        }
    )
    return frame.astype({"cloud": "float64", "sun": "float64"})


def wavelength_doubt(product: Product, scene: Scene) -> str | None:
    """What is wrong with the wavelengths that an item states, or None.

    Two real EnMAP grids differ by up to 12 nm in the short-wave infrared: a scene may have either.
    """
    stated = scene.radiometry.get("wavelengths_nm")
    if not stated:
        return None
    if len(stated) != len(product.bands):
        return f"{len(stated)} wavelengths for {len(product.bands)} bands"
    # In the order of the product's bands, in which those of two detectors may change sides: no need
    # to ascend.
    foreign = foreign_bands(product, scene)
    if len(foreign) > MOST_FOREIGN:
        return f"{len(foreign)} of its bands are none of {product.id}'s: {', '.join(foreign[:3])} …"
    if len(set(stated)) < len(stated):
        return "two of its bands are stated at one wavelength"
    known = np.array([band.center_nm for band in product.bands if band.center_nm is not None])
    for band, own in zip(product.bands, stated, strict=True):
        off = float(np.abs(known - own).min()) if len(known) else 0.0
        if off > WAVELENGTH_TOLERANCE_NM:
            return f"band {band.name} at {own:g} nm lies {off:.0f} nm from any known one"
    return None


def statistics_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per scene: ``tasks.gate.statistics.scene_statistics``."""
    import pandas as pd

    return pd.DataFrame([dict(row) for row in rows])
