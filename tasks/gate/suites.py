"""Checks as Great Expectations suites, one per product and table; the one place that imports the library.

An ephemeral context that writes nothing, telemetry off before the import, one validation at a time: it is not
thread-safe, and its import takes seconds, so that it is imported only when something is judged.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from catalog.errors import SwathError
from catalog.products import Product
from catalog.recipes import GateLimits
from tasks.gate.checks import Check, Table, checks_for

if TYPE_CHECKING:
    import pandas as pd

TABLES: tuple[Table, ...] = ("metadata", "pixels")

_one_at_a_time = threading.Lock()


def suite_of(product: Product, limits: GateLimits) -> dict[str, Any]:
    """What is expected of a product's scenes, as one JSON document: its Great Expectations suites.

    ``{"product": …, "suites": [{"name": "sentinel-2-l2a.metadata", "expectations": [{"type", "kwargs",
    "meta"}, …]}, …]}``; ``meta`` names the check, says it in words and gives the limit.
    """
    with _one_at_a_time:
        suites = [_suite(name, product.id, checks_of(product, limits, name)) for name in TABLES]
        return {"product": product.id, "suites": [_document(suite) for suite in suites]}


def checks_of(product: Product, limits: GateLimits, table: Table) -> list[Check]:
    """The checks of one table."""
    return [check for check in checks_for(product, limits) if check.table == table]


def refused_by(
    frame: pd.DataFrame, product: Product, table: Table, checks: Sequence[Check]
) -> set[tuple[str, str]]:
    """(check id, scene id) of what the suite refuses in a table of scenes.

    Raises
    ------
    SwathError: ``gate-broken``: a check could not be made.
    """
    columns = ["scene", *dict.fromkeys(check.column for check in checks)]
    with _one_at_a_time:
        suite = _suite(table, product.id, checks)
        gx = _library()
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        batch = (
            context.data_sources.add_pandas("scenes")
            .add_dataframe_asset("scenes")
            .add_batch_definition_whole_dataframe("all")
            .get_batch({"dataframe": frame[columns]})
        )
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


def _library() -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    import great_expectations as gx

    return gx


def _suite(table: Table, product: str, checks: Sequence[Check]) -> Any:
    gx = _library()
    return gx.ExpectationSuite(
        name=f"{product}.{table}", expectations=[_expectation(gx.expectations, check) for check in checks]
    )


def _expectation(known: Any, check: Check) -> Any:
    meta = {"check": check.id, "title": check.title, "limit": check.limit}
    options: dict[str, Any] = {"column": check.column, "meta": meta}
    match check.kind:
        case "most":
            return known.ExpectColumnValuesToBeBetween(max_value=check.bound, **options)
        case "least":
            return known.ExpectColumnValuesToBeBetween(min_value=check.bound, **options)
        case "one-of":
            return known.ExpectColumnValuesToBeInSet(value_set=list(check.bound), **options)
        case _:
            return known.ExpectColumnValuesToBeNull(**options)


def _document(suite: Any) -> dict[str, Any]:
    told = suite.to_json_dict()
    return {
        "name": told["name"],
        "expectations": [
            {"type": one["type"], "kwargs": one["kwargs"], "meta": one["meta"]}
            for one in told["expectations"]
        ],
    }
