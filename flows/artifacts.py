"""What a run leaves in Prefect's interface: gate table, quicklooks, training curves, scores, links."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

if TYPE_CHECKING:
    from tasks.gate.result import GateResult


def gate_artifact(result: GateResult) -> None:
    """One row per quarantined scene, and one that counts the accepted."""
    rows: list[dict[str, Any]] = [
        {"scene": scene, "verdict": "quarantined", "why": "; ".join(reasons)}
        for scene, reasons in result.quarantined.items()
    ]
    rows.append({"scene": f"{len(result.accepted)} scenes", "verdict": "accepted", "why": ""})
    create_table_artifact(rows, key=_key(f"gate-{result.product}"), description=f"Gate of {result.product}")


def quicklook_artifact(product: str, picture: Any) -> None:
    """Samples of a product as a picture inside a Markdown artifact."""
    create_markdown_artifact(
        f"![{product}]({_data_uri(picture)})",
        key=_key(f"quicklook-{product}"),
        description=f"{product} samples",
    )


def curves_artifact(encoder: str, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Loss and collapse measures of a training, step by step."""
    columns = ("step", "loss", "embedding_std", "effective_rank", "samples_per_s", "loader_wait_share")
    kept = metrics[:: max(1, len(metrics) // 50)]
    rows = [{name: _short(line.get(name)) for name in columns} for line in kept]
    create_table_artifact(rows, key=_key(f"training-{encoder}"), description=f"Training of {encoder}")


def scores_artifact(encoder: str, evaluations: Sequence[Mapping[str, Any]]) -> None:
    """Encoder and baselines side by side, with what may be said of them."""
    rows = []
    for evaluation in evaluations:
        for source, probes in evaluation["scores"].items():
            for probe, metrics in probes.items():
                score = metrics.get(evaluation["metric"])
                if score is not None:
                    rows.append(
                        {
                            "task": evaluation["name"],
                            "features": source,
                            "probe": probe,
                            evaluation["metric"]: _short(score["mean"]),
                            "places": evaluation["places"],
                            "published": evaluation["published"],
                        }
                    )
    create_table_artifact(rows, key=_key(f"scores-{encoder}"), description=f"Scores of {encoder}")


def encoder_artifact(reference: str, folder: Path, report: Path | None = None) -> None:
    """Where the encoder lies, and the report."""
    name = reference.split("@")[0]
    create_link_artifact(folder.as_uri(), link_text=reference, key=_key(f"encoder-{name}"))
    if report is not None:
        create_link_artifact(report.as_uri(), link_text="report", key=_key(f"report-{name}"))


def _key(text: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def _data_uri(picture: Any) -> str:
    from matplotlib.image import imsave

    buffer = BytesIO()
    imsave(buffer, picture, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
