"""The last step of ``data_to_model``: one page that shows what the run made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from flows.artifacts import encoder_artifact, quicklook_artifact
from flows.progress import Progress
from flows.session import Session
from flows.steps import PLAIN


@task(name="report", **PLAIN)
def report(session: Session, judged: dict[str, Any], progress: Progress) -> Path:
    """Write ``report.html`` into a folder of this run."""
    from catalog.runs import code_version
    from tasks.report import ReportParts, class_spectra, location_table, quicklook, write_report

    recipe, cube = session.recipe, session.cube
    snapshot = cube.snapshot()
    what, total = "draw report", len(session.products) + 1
    progress(what, 0, total)
    quicklooks, spectra = {}, {}
    label_names = {task.label_set for task in recipe.evaluate}
    for done, product in enumerate(session.products.values(), start=1):
        picture = quicklook(cube, product, snapshot)
        if picture is not None:
            quicklooks[product.id] = picture
            quicklook_artifact(product.id, picture)
        for name in sorted(label_names):
            found = class_spectra(cube, product, session.label_set(name), snapshot)
            if found is not None and len(found.spectra) > 1:
                spectra[product.id] = found
        progress(what, done, total)
    folder = session.folder("data-to-model")
    rows = session.ledger.rows(cube=recipe.cube_name)
    licences = {
        f"{scene.attribution} ({scene.licence})" if scene.attribution else scene.licence
        for product in cube.products(snapshot)
        for scene in cube.scenes(product, snapshot).values()
    }
    page = write_report(
        folder,
        ReportParts(
            title=recipe.title or recipe.name,
            facts={
                "recipe": recipe.name,
                "cube": recipe.cube_name,
                "snapshot": snapshot,
                "code": code_version(),
                "run": folder.name,
            },
            simulated=any(row.document.get("origin") == "simulated" for row in rows[:1]),
            recipe=recipe,
            locations=location_table(cube, snapshot),
            quicklooks=quicklooks,
            spectra=spectra,
            gate=[row.summary() for row in rows],
            training={
                outcome["name"]: session.settings.runs / outcome["run"] / "metrics.jsonl"
                for outcome in judged["encoders"]
                if outcome.get("run")
            },
            encoders=[_encoder(session, outcome) for outcome in judged["encoders"]],
            evaluations=[result for outcome in judged["encoders"] for result in outcome["evaluations"]],
            next_commands=(
                "swath encoders search",
                *(f"swath encoders show {outcome['name']}" for outcome in judged["encoders"]),
            ),
            sources=sorted(licences),
        ),
    )
    progress(what, total, total)
    for outcome in judged["encoders"]:
        if outcome["reference"] is not None:
            encoder_artifact(outcome["reference"], session.catalog.get(outcome["reference"]).pull(), page)
    return page


def _encoder(session: Session, outcome: dict[str, Any]) -> dict[str, Any]:
    if outcome["reference"] is None:
        item = session.recipe.pretraining(outcome["name"])
        return {
            "name": outcome["name"],
            "method": item.method,
            "product": item.products[0],
            "facts": {},
            "vitality": outcome["vitality"],
            "refused": outcome["refused"],
        }
    encoder = session.catalog.get(outcome["reference"])
    manifest = encoder.manifest
    return {
        "name": encoder.ref,
        "method": manifest["method"],
        "product": encoder.product,
        "facts": {
            "samples": manifest["samples"],
            "bands": len(manifest["bands"]),
            "aliases": ", ".join(encoder.aliases) or "none",
            "snapshot": next(iter(manifest["snapshots"].values()), ""),
        },
        "vitality": manifest.get("vitality"),
        "promotion": outcome.get("promotion"),
    }
