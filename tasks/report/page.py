"""Puts the pieces of a run's report on one page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.report.pixels import ClassSpectra

FILE_NAME = "report.html"
MAX_GATE_ROWS = 60
STATES = ("seen", "accepted", "quarantined", "cubed", "superseded")


@dataclass(frozen=True)
class ReportParts:
    """What a report may show; a piece that is left out leaves its section out."""

    title: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Name → value, for the head of the page: run id, recipe, snapshot, code version …"""
    simulated: bool = False
    """The scenes are simulated: the page says so at its top."""
    recipe: Any = None
    """``catalog.recipes.Recipe``; shown in full at the end."""
    locations: Any = None
    """DataFrame, see ``location_table``."""
    quicklooks: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Product → picture, see ``quicklook``."""
    spectra: Mapping[str, ClassSpectra] = field(default_factory=dict)
    """Product → spectra by class, see ``class_spectra``."""
    gate: Sequence[Mapping[str, Any]] = ()
    """One mapping per scene; ``scene``, ``product``, ``state`` and ``reasons`` (a list) are shown."""
    training: Mapping[str, Path] = field(default_factory=dict)
    """Encoder → its ``metrics.jsonl``."""
    encoders: Sequence[Mapping[str, Any]] = ()
    """One mapping per encoder: ``name`` (``NAME@3``), ``method``, ``product``, ``facts``, ``vitality``
    (``Vitality.to_dict()``), ``promotion`` (``{"promote", "why"}``) or ``refused`` (a list of reasons)."""
    evaluations: Sequence[Any] = ()
    """``EvaluationResult`` or its ``to_dict()``."""
    next_commands: Sequence[str] = ()
    """What to type to look at what the run made."""
    sources: Sequence[str] = ()
    """Licences and attributions."""


def write_report(run_folder: Path, parts: ReportParts) -> Path:
    """Write ``report.html`` in the run's folder: one file, no other file or host needed to read it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"number": number, "readable": readable}
    page = environment.get_template("page.html.j2").render(
        parts=parts,
        style=Markup((here / "style.css").read_text(encoding="utf-8")),
        recipe=_recipe_text(parts.recipe),
        gate=gate_summary(parts.gate),
        **_pictures(parts, Markup),
    )
    run_folder.mkdir(parents=True, exist_ok=True)
    target = run_folder / FILE_NAME
    draft = target.with_suffix(".html.part")
    draft.write_text(page, encoding="utf-8")
    draft.replace(target)
    return target


def gate_summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Scenes per product and state, how often each reason was given, and the refused scenes themselves."""
    products: dict[str, dict[str, int]] = {}
    reasons: dict[str, int] = {}
    refused = []
    for row in rows:
        counts = products.setdefault(str(row.get("product", "")), {})
        state = str(row.get("state", ""))
        counts[state] = counts.get(state, 0) + 1
        given = [str(reason) for reason in row.get("reasons") or ()]
        if given:
            refused.append(
                {"scene": row.get("scene", ""), "product": row.get("product", ""), "reasons": given}
            )
        for reason in given:
            kind = reason.split(":")[0].strip()
            reasons[kind] = reasons.get(kind, 0) + 1
    met = {state for counts in products.values() for state in counts}
    present = [state for state in STATES if state in met]
    others = sorted(met - set(STATES))
    return {
        "states": [*present, *others],
        "products": dict(sorted(products.items())),
        "reasons": sorted(reasons.items(), key=lambda item: (-item[1], item[0])),
        "refused": refused[:MAX_GATE_ROWS],
        "refused_count": len(refused),
    }


def number(value: Any, digits: int = 3) -> str:
    """A number as a reader wants it; a dash for what is not there."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        if value and not 1e-3 <= abs(value) < 1e6:
            return f"{value:.2g}"
        return f"{value:.{digits if abs(value) < 100 else 1}f}"
    return str(value)


def readable(name: str) -> str:
    """A field's name in words."""
    return {
        "pca": "PCA",
        "macro_f1": "macro F1",
        "micro_iou": "micro IoU",
        "macro_iou": "macro IoU",
        "changed_f1": "F1 of change",
    }.get(name, name.replace("-", " ").replace("_", " "))


def _pictures(parts: ReportParts, markup: Any) -> dict[str, Any]:
    from tasks.report import figures

    evaluations: list[dict[str, Any]] = [
        dict(part) if isinstance(part, Mapping) else part.to_dict() for part in parts.evaluations
    ]
    logs = {name: read_metrics(path) for name, path in parts.training.items()}
    has_map = parts.locations is not None and len(parts.locations)
    return {
        "map": markup(figures.location_map(parts.locations)) if has_map else None,
        "quicklooks": {name: figures.png_address(image) for name, image in parts.quicklooks.items()},
        "spectra": {
            name: markup(
                figures.spectra_chart(part.spectra, part.bands, part.wavelengths_nm, part.unit, name)
            )
            for name, part in parts.spectra.items()
        },
        "training": {
            name: {"chart": markup(figures.training_chart(log, name)), "last": log[-1]}
            for name, log in logs.items()
            if log
        },
        "evaluations": [
            part | {"chart": markup(figures.score_chart(part)), "metrics": _metrics(part)}
            for part in evaluations
        ],
    }


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of a ``metrics.jsonl``; a last line that a killed run left half-written is passed over."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [row for row in rows if "step" in row]


def _metrics(evaluation: Mapping[str, Any]) -> list[str]:
    """The columns of a score table: the headline metric first."""
    names = list(next(iter(evaluation["scores"]["encoder"].values())))
    twice = {evaluation["metric"], "changed_share"}
    if "macro_accuracy" in names:
        twice.add("balanced_accuracy")  # the same number by its other name
    return [evaluation["metric"], *(name for name in names if name not in twice)]


def _recipe_text(recipe: Any) -> str:
    import yaml

    if recipe is None:
        return ""
    document = recipe.model_dump(mode="json", exclude_defaults=True)
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100))
