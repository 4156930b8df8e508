"""``refresh``: look for scenes, gate them, and cube what is new; a rerun with nothing new reads no asset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow

from catalog.full_disk import told_when_full
from catalog.scenes import Scene
from flows.archives import open_archive
from flows.cluster import Cluster
from flows.memory import give_back
from flows.progress import bars
from flows.session import Session, open_session
from flows.steps import acquire
from flows.steps.failures import may_pass
from flows.steps.gate import Judged, Witnesses, gate


@flow(name="refresh", flow_run_name="refresh-{recipe}", validate_parameters=False)
def refresh(
    recipe: str,
    overrides: list[str] | None = None,
    only: list[str] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
) -> dict[str, Any]:
    """Bring the recipe's cube up to date with its archive.

    Parameters
    ----------
    only:      ids of scenes that the ledger knows; the archive is not searched, and no other scene is taken
    workers:   cube on so many processes of this machine, instead of in the flow's own
    scheduler: cube on the Dask cluster at this address, ``tcp://HOST:PORT``

    Returns ``{"snapshot", "changed", "products": {id: counts}, "lines": [...]}``.
    """
    cluster = Cluster(workers, scheduler)
    session = open_session(recipe, overrides)
    products = session.products.values()
    with (
        told_when_full(session.settings.home),
        bars() as progress,
        open_archive(session.recipe, session.settings, progress=progress) as archive,
    ):
        ledger, name = session.ledger, session.recipe.cube_name
        # An archive that does not answer leaves nothing behind, not even an empty cube.
        searched = [acquire.search(session, archive, product) for product in products if only is None]
        before = acquire.reconcile(session)
        found = {part.product.id: acquire.note(session, part) for part in searched}
        judged: dict[str, Judged] = {}
        witnesses = Witnesses()
        for product in products:
            seen = [row.scene() for row in ledger.rows(state="seen", product=product.id, cube=name)]
            if wanted := _only(seen, only):
                folder = session.folder("refresh")
                judged[product.id] = gate(session, archive, product, wanted, witnesses, folder, progress)
        accepted = any(part.accepted for part in judged.values())
        if ledger.noted(name, "places") != acquire.places_request(session) or (
            accepted and acquire.places_follow_scenes(session)
        ):
            acquire.sample_places(session)
        plan = acquire.plans(session)
        pending = {p: _only(ledger.pending(name, p, plan[p]), only) for p in session.products}
        pending = {product: scenes for product, scenes in pending.items() if scenes}
        written = {}
        if pending:
            written = acquire.cube(session, archive, pending, plan, progress, cluster)
            give_back()
    return _summary(session, before, found, judged, written)


def _only(scenes: Sequence[Scene], only: list[str] | None) -> list[Scene]:
    return [scene for scene in scenes if only is None or scene.id in only]


def _summary(
    session: Session,
    before: str,
    found: dict[str, acquire.Found],
    judged: dict[str, Judged],
    written: dict[str, Any],
) -> dict[str, Any]:
    snapshot = session.cube.snapshot()
    products = {}
    for product in session.products:
        searched, gated, result = found.get(product), judged.get(product, Judged()), written.get(product)
        products[product] = {
            "matched": searched.result.matched if searched else 0,
            "new": searched.new if searched else 0,
            "known": searched.known if searched else 0,
            "not_normalised": [list(refusal) for refusal in searched.result.refusals] if searched else [],
            "notes": list(searched.result.notes) if searched else [],
            "radiometry": gated.radiometry,
            "quarantined": gated.quarantined
            + (sum(not may_pass(e) for e in result.failures.values()) if result else 0),
            "unreadable": gated.unreadable
            + (sum(may_pass(e) for e in result.failures.values()) if result else 0),
            "cubed": len(result.cubed) if result else 0,
            "passed_over": len(result.passed_over) if result else 0,
            "samples_written": result.samples_written if result else 0,
            "assets_read": result.assets_read if result else 0,
            "superseded": len(result.superseded) if result else 0,
        }
    return {
        "recipe": session.recipe.name,
        "cube": session.recipe.cube_name,
        "snapshot": snapshot,
        "changed": snapshot != before,
        "products": products,
        "lines": _lines(products),
    }


def _lines(products: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for product, counts in products.items():
        lines += [f"refresh: {product}: {note}" for note in counts["notes"]]
        if refused := counts["not_normalised"]:
            item, why = refused[0]
            lines.append(f"refresh: {product}: {len(refused)} items are no scenes of it, {item}: {why}")
        if not any(counts[name] for name in ("new", "quarantined", "unreadable", "cubed", "passed_over")):
            continue
        line = (
            f"refresh: {product}: {counts['new']} new scenes, {counts['quarantined']} quarantined, "
            f"{counts['cubed']} cubed, {counts['samples_written']} samples, "
            f"{counts['superseded']} superseded"
        )
        if counts["passed_over"]:
            line += f", {counts['passed_over']} not needed"
        if counts["unreadable"]:
            line += f", {counts['unreadable']} unreadable now (`swath scenes list --failed`)"
        if undecided := counts["radiometry"].get("undecidable"):
            line += f", radiometry of {undecided} undecidable"
        lines.append(line)
    return lines or ["refresh: nothing new; no asset read, nothing committed"]
