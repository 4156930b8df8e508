"""``refresh``: look for scenes, gate them, and cube what is new; a rerun with nothing new reads no asset."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.archives import open_archive
from flows.memory import give_back
from flows.progress import bars
from flows.session import Session, open_session
from flows.steps import acquire


@flow(name="refresh", flow_run_name="refresh-{recipe}", validate_parameters=False)
def refresh(recipe: str, overrides: list[str] | None = None) -> dict[str, Any]:
    """Bring the recipe's cube up to date with its archive.

    Returns ``{"snapshot", "changed", "products": {id: counts}, "lines": [...]}``.
    """
    session = open_session(recipe, overrides)
    name = session.recipe.archive
    with bars() as progress, open_archive(name, session.settings, progress=progress) as archive:
        # An archive that does not answer leaves nothing behind, not even an empty cube.
        found = {p.id: acquire.search(session, archive, p) for p in session.products.values()}
        acquire.reconcile(session)
        before = session.cube.snapshot()
        noted = {p.id: acquire.note(session, p, found[p.id]) for p in session.products.values()}
        refused = {
            product: acquire.gate(session, archive, part, session.folder("refresh"), progress)
            for product, part in noted.items()
            if part.to_judge
        }
        pending = {p: session.ledger.pending(session.recipe.cube_name, p) for p in session.products}
        pending = {product: scenes for product, scenes in pending.items() if scenes}
        written = {}
        if pending:
            acquire.sample_places(session, [scene for part in found.values() for scene in part.scenes])
            written = acquire.cube(session, archive, pending, progress)
            give_back()
    return _summary(session, before, found, noted, refused, written)


def _summary(
    session: Session,
    before: str,
    found: dict[str, Any],
    noted: dict[str, Any],
    refused: dict[str, int],
    written: dict[str, Any],
) -> dict[str, Any]:
    snapshot = session.cube.snapshot()
    products = {}
    for product in session.products:
        result = written.get(product)
        products[product] = {
            "matched": found[product].matched,
            "new": noted[product].new,
            "known": noted[product].known,
            "not_normalised": [list(refusal) for refusal in found[product].refusals],
            "quarantined": refused.get(product, 0)
            + (len(result.empty) + len(result.failures) if result else 0),
            "cubed": len(result.cubed) if result else 0,
            "samples_written": result.samples_written if result else 0,
            "assets_read": result.assets_read if result else 0,
            "superseded": len(result.superseded) if result else 0,
        }
    if any(counts["new"] or counts["cubed"] for counts in products.values()):
        lines = [
            f"refresh: {product}: {c['new']} new scenes, {c['quarantined']} quarantined, {c['cubed']} cubed, "
            f"{c['samples_written']} samples, {c['superseded']} superseded"
            for product, c in products.items()
        ]
    else:
        lines = ["refresh: nothing new; no asset read, nothing committed"]
    return {
        "recipe": session.recipe.name,
        "cube": session.recipe.cube_name,
        "snapshot": snapshot,
        "changed": snapshot != before,
        "products": products,
        "lines": lines,
    }
