"""The gate: judges scenes by two tables, one of their metadata and one of their pixel statistics.

Great Expectations does the judging: an ephemeral context that writes nothing, telemetry off before it is
imported, one validation at a time (it is not thread-safe). It never sees a pixel.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from catalog.errors import SceneError, SwathError
from catalog.products import Product
from catalog.recipes import GateLimits
from catalog.scenes import Scene
from tasks.gate_report import write_report
from tasks.gate_result import GateResult, GateRow
from tasks.signing import redact

if TYPE_CHECKING:
    import pandas as pd

FEWEST_FOR_A_SHARE = 3
"""Of fewer scenes, a share of refusals says nothing: one cloudy scene in a week's refresh is no alarm."""

Kind = Literal["most", "least", "none", "one-of"]

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Check:
    """One thing that is expected of every scene."""

    id: str
    table: Literal["metadata", "pixels"]
    column: str
    title: str
    limit: str
    """In words, for the report."""
    kind: Kind
    bound: Any = None
    """The limit itself: a number, or the allowed values."""
    unit: Literal["", "%", "share", "°", "min"] = ""
    """``share`` columns are fractions, shown in per cent."""

    def show(self, value: Any) -> str:
        """A value as a person reads it."""
        if value is None or value != value:
            return "none" if self.kind == "none" else "not stated"
        if self.unit == "share":
            return f"{100 * value:.1f} %"
        if self.unit:
            return f"{value:.4g}{'' if self.unit == '°' else ' '}{self.unit}"
        return f"{value:g}" if isinstance(value, float) else str(value)

    def reason(self, value: Any) -> str:
        """Why a value is refused, with value and limit."""
        shown = self.show(value)
        match self.kind:
            case "most":
                return f"{self.title} {shown} exceeds the limit of {self.show(self.bound)}"
            case "least":
                return f"{self.title} {shown} is below the limit of {self.show(self.bound)}"
            case "one-of":
                return f"{self.title} {shown} is none of {', '.join(map(str, self.bound))}"
            case _:
                return f"{self.title}: {shown}"


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
    """Judge scenes by their metadata and their rows of ``tasks.statistics``.

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
        for name, frame in (
            ("metadata", metadata_table(scenes, now or datetime.now(UTC))),
            ("pixels", statistics_table(statistics)),
        ):
            checks = [check for check in checks_for(product, limits) if check.table == name]
            if not len(frame):
                continue
            refused = _validate(frame, checks)
            for check in checks:
                for scene_id, value in zip(frame["scene"], frame[check.column], strict=True):
                    passed = (check.id, scene_id) not in refused
                    table.append(
                        GateRow(scene_id, check.id, check.title, check.show(value), check.limit, passed)
                    )
                    if not passed:
                        reasons[scene_id].append(check.reason(value))
    result = GateResult(
        product.id,
        tuple(scene_id for scene_id, why in reasons.items() if not why),
        {scene_id: tuple(why) for scene_id, why in reasons.items() if why},
        tuple(table),
        report,
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


def checks_for(product: Product, limits: GateLimits) -> list[Check]:
    """What is expected of a product's scenes under a recipe's limits."""
    optical = any(band.quantity == "reflectance" for band in product.bands)
    checks = [
        Check("sensed", "metadata", "minutes_ahead", "sensed in the future by", "past", "most", 10, "min")
    ]
    if product.platforms:
        allowed = product.platforms
        checks.append(
            Check("platform", "metadata", "platform", "platform", "of the product", "one-of", allowed)
        )
    if optical:
        cloud, sun = limits.max_cloud_percent, limits.min_sun_elevation_deg
        checks += [
            Check("cloud", "metadata", "cloud", "cloud cover", f"at most {cloud:g} %", "most", cloud, "%"),
            Check("sun", "metadata", "sun", "sun elevation", f"at least {sun:g}°", "least", sun, "°"),
        ]

    def share(name: str, column: str, title: str, limit: float) -> Check:
        return Check(name, "pixels", column, title, f"at most {limit:.0%}", "most", limit, "share")

    def finding(name: str, title: str) -> Check:
        return Check(name, "pixels", name, title, "none", "none")

    checks += [
        share("nodata", "nodata_fraction", "pixels without data", limits.max_nodata_fraction),
        share("cloudy", "cloud_fraction", "cloud by the QA layer", limits.max_cloud_fraction),
        share("saturated", "saturated_fraction", "saturated pixels", limits.max_saturated_fraction),
        finding("constant_bands", "bands with one value only"),
        finding("duplicate_bands", "bands that are copies"),
        finding("implausible_bands", "bands beyond what is physical"),
    ]
    # Hyperspectral products leave out the bands in which the air is opaque.
    spectral = len(product.bands) > 32
    checks.append(
        share("empty", "empty_share", "bands without data", 0.25)
        if spectral
        else finding("empty_bands", "bands without data")
    )
    if product.radiometry.rule == "sentinel-2-offset":
        checks.append(finding("offset_doubt", "offset contradicted by the pixels"))
    return checks


def metadata_table(scenes: Sequence[Scene], now: datetime) -> pd.DataFrame:
    """One row per scene: what its item says."""
    import pandas as pd

    frame = pd.DataFrame(
        {
            "scene": [scene.id for scene in scenes],
            "minutes_ahead": [max(0.0, (scene.sensed - now).total_seconds() / 60) for scene in scenes],
            "platform": [scene.platform for scene in scenes],
            "cloud": [scene.cloud_cover_percent for scene in scenes],
            "sun": [scene.sun_elevation_deg for scene in scenes],
        }
    )
    return frame.astype({"cloud": "float64", "sun": "float64"})


def statistics_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per scene: ``tasks.statistics.scene_statistics``."""
    import pandas as pd

    return pd.DataFrame([dict(row) for row in rows])


def _validate(frame: pd.DataFrame, checks: Sequence[Check]) -> set[tuple[str, str]]:
    """(check id, scene id) of what Great Expectations refuses."""
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    with _one_at_a_time:
        import great_expectations as gx

        known: Any = gx.expectations

        def expectation(check: Check) -> Any:
            options: dict[str, Any] = {"column": check.column, "meta": {"check": check.id}}
            match check.kind:
                case "most":
                    return known.ExpectColumnValuesToBeBetween(max_value=check.bound, **options)
                case "least":
                    return known.ExpectColumnValuesToBeBetween(min_value=check.bound, **options)
                case "one-of":
                    return known.ExpectColumnValuesToBeInSet(value_set=list(check.bound), **options)
                case _:
                    return known.ExpectColumnValuesToBeNull(**options)

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
        batch = (
            context.data_sources.add_pandas("scenes")
            .add_dataframe_asset("scenes")
            .add_batch_definition_whole_dataframe("all")
            .get_batch({"dataframe": frame})
        )
        suite = gx.ExpectationSuite(name="gate", expectations=[expectation(check) for check in checks])
        verdict = batch.validate(
            suite,
            result_format={
                "result_format": "COMPLETE",
                "unexpected_index_column_names": ["scene"],
                "include_unexpected_rows": False,
            },
        )
    refused: set[tuple[str, str]] = set()
    for result in verdict.results:
        config: Any = result.expectation_config
        check = config.meta["check"]
        if "unexpected_index_list" not in result.result and not result.success:
            # It could not be judged: that must never count as passed.
            raise SwathError(
                "gate-broken",
                f"the check {check!r} could not be made",
                subject=check,
                next_step="report it, with the recipe and the product file",
            )
        refused |= {(check, str(row["scene"])) for row in result.result.get("unexpected_index_list") or ()}
    return refused
